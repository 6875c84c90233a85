// Signed requests as the Standard Webhooks have them, signed by that project's own library: who is let in, and that a
// delivery which comes again, from wherever and however late, is the one that is there.
'use strict';

const assert = require('node:assert');
const crypto = require('node:crypto');
const fs = require('node:fs');
const { Webhook } = require('standardwebhooks');
const F = require('../cases/fastcgi.js');
const L = require('./lib.js');

const { test } = L;
const TABLE = 'MarketplaceLeads';
const newSecret = () => `whsec_${crypto.randomBytes(32).toString('base64')}`;
const newId = () => `msg_${crypto.randomBytes(12).toString('hex')}`;

// The three headers, as a sender that has these secrets makes them.
function signed(body, { id = newId(), secrets, at = Date.now(), signature } = {}) {
  const when = new Date(at);
  return { 'webhook-id': id, 'webhook-timestamp': String(Math.floor(at / 1000)),
    'webhook-signature': signature || secrets.map((secret) => new Webhook(secret).sign(id, when, body)).join(' ') };
}

// Past nginx, which has a say in how many refusals it passes on.
function postDirectly(bench, body, headers) {
  const parameters = Object.fromEntries(Object.entries(headers).map(([name, value]) => [`HTTP_${name.toUpperCase().replace(/-/g, '_')}`, value]));
  return F.talk(bench.settings.listen, F.request(F.parameters('', body, { QUERY_STRING: '', ...parameters }), body));
}

async function setUp(t, { secrets = [newSecret()], keys = '', settings = {} } = {}) {
  const bench = new L.Bench(t);
  bench.secrets = secrets;
  bench.configure({ ...bench.mailHere(), mail_per_minute: 6000, repeat_window_s: 0, ...settings });
  bench.keys = (text) => bench.write('keys', text);
  bench.keys(`market ${L.KEY}\n${secrets.map((secret) => `sender ${secret}\n`).join('')}${keys}`);
  bench.send = (body, options = {}) => bench.post(body, { key: null, ...options.request, headers: { ...signed(body, { secrets, ...options }), ...options.headers } });
  await bench.startNginx();
  await bench.startLeadhook();
  return bench;
}

// The rows of leads and of mails with plain values, whichever store it is.
const STORES = {
  sqlite: {
    prepare: async () => ({}),
    rows: async (bench) => bench.entities(),
  },
  table: {
    async prepare(t) {
      const place = new L.Bench(t);
      const table = await L.startFakeTable(place);
      STORES.table.port = table.port;
      return { store: 'table', table_connection_file: place.write('connection', L.connectionString(table.port)), request_deadline_ms: 10000 };
    },
    rows: () => tableRows(STORES.table.port),
  },
};
async function tableRows(port) {
  return (await L.rows(port, TABLE)).map((row) => Object.fromEntries(Object.entries(row).map(([name, value]) => [name, value && value.value !== undefined ? value.value : value])));
}
const leadsOf = async (store, bench) => (await store.rows(bench)).filter(L.isLead);
// When no mail waits any more, all that will be sent has been.
const mailsOf = async (store, ...benches) => {
  await L.until('the mails', async () => !(await store.rows(benches[0])).some(L.isMail));
  return (await Promise.all(benches.map((bench) => bench.mails()))).flat();
};

test('a signed lead is stored and mailed, and nothing of the secret or the signature is told', async (t) => {
  const bench = await setUp(t);
  const body = L.lead();
  const headers = signed(body, { id: 'msg_known', secrets: bench.secrets });
  const answer = await bench.post(body, { key: null, headers });
  assert.strictEqual(answer.code, 200, answer.text);
  assert.strictEqual(answer.json.status, 'stored');
  for (const wrong of [{ ...headers, 'webhook-id': 'msg_other' }, signed(body, { secrets: [newSecret()] })])
    assert.strictEqual((await bench.post(body, { key: null, headers: wrong })).code, 401);
  const [row] = bench.entities().filter(L.isLead);
  assert.strictEqual(row.KeyName, 'sender');
  assert.strictEqual(row.WebhookId, 'msg_known');
  assert.strictEqual(row.Payload, body);
  assert.match(bench.leadhook.output(), /event=stored code=200 .* key=sender /);
  assert.strictEqual((await mailsOf(STORES.sqlite, bench)).length, 1);
  const secrets = [bench.secrets[0].slice(6), Buffer.from(bench.secrets[0].slice(6), 'base64').toString('latin1'), headers['webhook-signature'].slice(3)];
  for (const name of fs.readdirSync(bench.dir).filter((entry) => entry.endsWith('.log'))) {
    const text = fs.readFileSync(bench.file(name), 'latin1');
    for (const secret of secrets) assert.ok(!text.includes(secret), `${name} shows a secret`);
  }
  assert.ok(!answer.text.includes(headers['webhook-signature'].slice(3)));
});

// Requests that are refused, with a word of the detail; none of them leaves anything.
const REFUSED = {
  'no signature at all': [(body) => ({}), /key is missing or wrong/],
  'another secret': [(body) => signed(body, { secrets: [newSecret()] }), /signature is wrong/],
  'a secret that has retired': [(body, { retired }) => signed(body, { secrets: [retired] }), /signature is wrong/],
  'another body': [(body, { secrets }) => signed(`${body} `, { secrets }), /signature is wrong/],
  'another id': [(body, { secrets }) => ({ ...signed(body, { secrets }), 'webhook-id': newId() }), /signature is wrong/],
  'another time': [(body, { secrets }) => ({ ...signed(body, { secrets }), 'webhook-timestamp': String(Math.floor(Date.now() / 1000) - 100) }), /signature is wrong/],
  'an old time': [(body, { secrets }) => signed(body, { secrets, at: Date.now() - 330000 }), /5 minutes old/],
  'a time ahead': [(body, { secrets }) => signed(body, { secrets, at: Date.now() + 330000 }), /5 minutes ahead/],
  'an unknown version': [(body, { secrets }) => {
    const headers = signed(body, { secrets });
    return { ...headers, 'webhook-signature': headers['webhook-signature'].replace('v1,', 'v2,') };
  }, /no signature of version v1/],
  'no id': [(body, { secrets }) => ({ ...signed(body, { secrets }), 'webhook-id': '' }), /webhook-id/],
  'a dot in the id': [(body, { secrets }) => signed(body, { id: 'msg.1', secrets }), /webhook-id/],
  'an id that is too long': [(body, { secrets }) => signed(body, { id: 'x'.repeat(256), secrets }), /webhook-id/],
  'no time': [(body, { secrets }) => ({ ...signed(body, { secrets }), 'webhook-timestamp': '' }), /webhook-timestamp/],
  'a list that is too long': [(body, { secrets }) => {
    const headers = signed(body, { secrets });
    return { ...headers, 'webhook-signature': `${'v2,x '.repeat(410)}${headers['webhook-signature']}` };
  }, /no signature of version v1/],
  'a header of 7 KiB': [(body, { secrets }) => ({ ...signed(body, { secrets }), 'webhook-signature': 'v1,'.padEnd(7000, 'A') }), /no signature of version v1/],
  'a good key of the name and a wrong signature': [(body) => ({ ...signed(body, { secrets: [newSecret()] }), 'X-Lead-Key': 'both-0123456789abcdef' }), /signature is wrong/],
  'a good signature and a wrong key': [(body, { secrets }) => ({ ...signed(body, { secrets }), 'X-Lead-Key': 'wrong-0123456789abcdef' }), /key is missing or wrong/],
  'a good key and the good signature of another name': [(body, { other }) => ({ ...signed(body, { secrets: [other] }), 'X-Lead-Key': 'both-0123456789abcdef' }), /signature is wrong/],
  'the secret itself as a key': [(body, { secrets }) => ({ Authorization: `Bearer ${secrets[0]}` }), /key is missing or wrong/],
  'the hash of a key as a key': [(body) => ({ Authorization: `Bearer sha256:${crypto.createHash('sha256').update('hashed-0123456789abcdef').digest('hex')}` }), /key is missing or wrong/],
};
test('what is refused', async (t) => {
  const secrets = [newSecret()];
  const retired = newSecret();
  const other = newSecret();
  const hash = crypto.createHash('sha256').update('hashed-0123456789abcdef').digest('hex');
  const bench = await setUp(t, { secrets, keys: `sender both-0123456789abcdef\nsender ${retired} created=2026-01-01T00:00:00Z retire=2026-01-02T00:00:00Z\n`
    + `other ${other}\nhashed sha256:${hash} created=2026-01-01T00:00:00Z\n` });
  for (const [name, [make, detail]] of Object.entries(REFUSED)) {
    const body = L.lead();
    const answer = await postDirectly(bench, body, make(body, { secrets, retired, other }));
    assert.strictEqual(answer.code, 401, `${name}: ${answer.body}`);
    assert.match(answer.json.detail, detail, name);
  }
  assert.deepStrictEqual(bench.entities(), []);

  // And what is not: the same ways in, used rightly.
  const body = L.lead();
  for (const headers of [{ Authorization: 'Bearer hashed-0123456789abcdef' }, { 'X-Lead-Key': 'both-0123456789abcdef' },
    { ...signed(body, { secrets }), 'X-Lead-Key': 'both-0123456789abcdef' }, signed(body, { secrets: [other] }),
    // A name without a secret: some senders sign everything, and nothing was agreed with them.
    { ...signed(body, { secrets: [newSecret()] }), 'X-Lead-Key': L.KEY }]) {
    const answer = await bench.post(body, { key: null, headers });
    assert.strictEqual(answer.code, 200, answer.text);
  }
});

test('an id that no signature vouches for says nothing: the bytes do', async (t) => {
  const bench = await setUp(t);
  const body = L.lead();
  const wild = () => signed(body, { secrets: [newSecret()] });
  const withoutSignature = () => ({ ...wild(), 'webhook-signature': '' });
  const statuses = [];
  for (const headers of [wild(), wild(), withoutSignature()]) statuses.push((await bench.post(body, { headers })).json.status);
  assert.deepStrictEqual(statuses, ['stored', 'repeat', 'repeat']);
  const headers = wild();
  assert.strictEqual((await bench.post(L.lead(), { headers })).json.status, 'stored');
  assert.strictEqual((await bench.post(L.lead(), { headers })).json.status, 'stored');
  const rows = await leadsOf(STORES.sqlite, bench);
  assert.deepStrictEqual(rows.map((row) => [row.KeyName, row.WebhookId]), Array(3).fill(['market', undefined]));
});

test('a secret is replaced without losing a lead, and retires at its time without a reload', async (t) => {
  const [old, next] = [newSecret(), newSecret()];
  const retire = Date.now() + 5000;
  const bench = await setUp(t, { secrets: [], keys: `sender ${old} retire=${new Date(retire).toISOString()}\nsender ${next}\n` });
  for (const secrets of [[old, next], [next, old], [next], [newSecret(), next], [old]]) {
    const answer = await bench.send(L.lead(), { secrets });
    assert.ok(answer.code === 200 || (secrets.length === 1 && secrets[0] === old && Date.now() >= retire), answer.text);
  }
  await L.until('the old secret to retire', async () => (await bench.send(L.lead(), { secrets: [old] })).code === 401);
  assert.ok(Date.now() >= retire);
  assert.strictEqual((await bench.send(L.lead(), { secrets: [old, next] })).code, 200);
  assert.ok(bench.entities().filter(L.isLead).every((row) => row.KeyName === 'sender'));
});

test('when everything in the file has retired nobody is let in, and leadctl check says why', async (t) => {
  const past = ' created=2026-01-01T00:00:00Z retire=2026-01-02T00:00:00Z\n';
  const secret = newSecret();
  const bench = await setUp(t, { secrets: [], keys: `sender ${secret}${past}` });
  bench.keys(`market ${L.KEY}${past}sender ${secret}${past}`);
  bench.leadhook.child.kill('SIGHUP');
  await L.until('the reload', () => /event=reloaded .*keys=0/.test(bench.leadhook.output()));
  assert.strictEqual((await bench.post(L.lead())).code, 401);
  assert.strictEqual((await bench.send(L.lead(), { secrets: [secret] })).code, 401);
  const check = await bench.leadctl('check');
  assert.strictEqual(check.status, 1);
  assert.match(check.stdout, /FAIL +keys +0 of those in '.*' are good: all have retired/);
});

test('a request that was overheard, sent again with its list turned around: a repeat', async (t) => {
  const bench = await setUp(t, { secrets: [newSecret(), newSecret()] });
  const body = L.lead();
  const headers = signed(body, { secrets: bench.secrets });
  const list = headers['webhook-signature'].split(' ');
  for (const order of [list, list.slice().reverse(), [list[1]], [list[0], list[0]], [`v1,${'A'.repeat(43)}=`, ...list]]) {
    const answer = await bench.post(body, { key: null, headers: { ...headers, 'webhook-signature': order.join(' ') } });
    assert.strictEqual(answer.code, 200, answer.text);
    assert.strictEqual(answer.json.status, order === list ? 'stored' : 'repeat');
  }
  assert.strictEqual((await leadsOf(STORES.sqlite, bench)).length, 1);
  assert.strictEqual((await mailsOf(STORES.sqlite, bench)).length, 1);
});

// nginx takes the first of them or joins them; either way only what was signed is believed.
test('headers that come twice', async (t) => {
  const bench = await setUp(t);
  const body = L.lead();
  const good = signed(body, { id: 'msg_twice', secrets: bench.secrets });
  const bad = signed(body, { id: 'msg_bad', secrets: [newSecret()] });
  for (const name of ['webhook-id', 'webhook-signature', 'webhook-timestamp']) {
    for (const values of [[good[name], bad[name]], [bad[name], good[name]], [good[name], good[name]]]) {
      const answer = await bench.post(body, { key: null, headers: { ...good, [name]: values } });
      assert.ok([200, 401].includes(answer.code), `${name}: ${answer.code} ${answer.text}`);
    }
  }
  assert.deepStrictEqual([...new Set((await leadsOf(STORES.sqlite, bench)).map((row) => row.WebhookId))], ['msg_twice']);
});

test('bodies that are too large or empty', async (t) => {
  const bench = await setUp(t, { settings: { body_max_bytes: 1024 } });
  assert.strictEqual((await bench.send('x'.repeat(1025))).code, 413);
  assert.strictEqual((await bench.send('x'.repeat(1025), { secrets: [newSecret()] })).code, 413, 'nothing was read, so nothing is judged');
  assert.strictEqual((await bench.send('x'.repeat(1025), { request: { key: 'wrong-0123456789abcdef' } })).code, 401);
  assert.strictEqual((await bench.send('', {})).code, 400);
  assert.strictEqual((await bench.send('', { secrets: [newSecret()] })).code, 401);
  assert.deepStrictEqual(bench.entities(), []);
});

test('what cannot be read is kept with its id, and resubmitted it is the delivery that the sender repeats', async (t) => {
  const bench = await setUp(t);
  const id = newId();
  const bad = await bench.send('{"UserDetails":', { id });
  assert.strictEqual(bad.code, 400, bad.text);
  const good = L.lead();
  const result = await bench.leadctl('quarantine', 'resubmit', bad.json.id, '--file', bench.write('good.json', good));
  assert.strictEqual(result.status, 0, result.stderr);
  const again = await bench.send(good, { id });
  assert.strictEqual(again.json.status, 'repeat', again.text);
  const rows = await leadsOf(STORES.sqlite, bench);
  assert.deepStrictEqual(rows.map((row) => [row.WebhookId, row.KeyName, row.DeliveryId]), [[id, 'sender', bad.json.id]]);
  assert.strictEqual((await mailsOf(STORES.sqlite, bench)).length, 1);
});

const BODIES = {
  'a lead': () => L.lead(),
  'a lead whose data is withheld': () => L.lead({}, { Email: 'dean@university.edu' }),
  'a lead that names nobody': () => JSON.stringify({ OfferTitle: 'Contoso App', LeadSource: 'AzureMarketplace-INS|contoso.contoso-app' }),
};
for (const [where, store] of Object.entries(STORES)) {
  const start = async (t) => setUp(t, { settings: { ...await store.prepare(t), withhold_domains: '.edu' } });

  for (const [what, make] of Object.entries(BODIES)) {
    test(`${where}: ${what} that comes again is the same one, however late`, async (t) => {
      const bench = await start(t);
      const id = newId();
      const body = make();
      const first = await bench.send(body, { id });
      assert.strictEqual(first.json.status, 'stored', first.text);
      for (const at of [Date.now(), Date.now() - 100000]) { // every try has a time of its own
        const again = await bench.send(body, { id, at });
        assert.strictEqual(again.code, 200, again.text);
        assert.strictEqual(again.json.status, 'repeat');
      }
      const [row, ...others] = await leadsOf(store, bench);
      assert.strictEqual(others.length, 0);
      assert.deepStrictEqual([row.WebhookId, Number(row.Deliveries), row.DeliveryId], [id, 3, first.json.id]);
      assert.deepStrictEqual((await bench.list()).map((listed) => [listed.WebhookId, listed.KeyName]), [[id, 'sender']]);
      assert.strictEqual((await mailsOf(store, bench)).length, 1);

      // The same bytes under another id are another delivery; the same id from another name, too.
      const other = newSecret();
      assert.strictEqual((await bench.send(body)).json.status, 'stored');
      bench.keys(`sender ${bench.secrets[0]}\nother ${other}\n`);
      bench.leadhook.child.kill('SIGHUP');
      await L.until('the reload', () => /event=reloaded/.test(bench.leadhook.output()));
      assert.strictEqual((await bench.send(body, { id, secrets: [other] })).json.status, 'stored');
      assert.strictEqual((await leadsOf(store, bench)).length, 3);
      const mails = await mailsOf(store, bench);
      assert.strictEqual(mails.length, 3);
      assert.ok(mails.every((mail) => !/CAME BACK/.test(mail.parsed.subject)));
    });
  }

  test(`${where}: an id that comes thirty times at the same instant`, async (t) => {
    const bench = await start(t);
    for (const make of Object.values(BODIES)) {
      const id = newId();
      const body = make();
      const answers = await Promise.all(Array.from({ length: 30 }, () => bench.send(body, { id })));
      const count = (status) => answers.filter(({ code, json }) => code === 200 && json.status === status).length;
      assert.deepStrictEqual([count('stored'), count('repeat')], [1, 29], JSON.stringify(answers.map(({ text }) => text)));
      assert.strictEqual((await leadsOf(store, bench)).filter((row) => row.WebhookId === id).length, 1);
    }
    assert.strictEqual((await mailsOf(store, bench)).length, Object.keys(BODIES).length);
  });
}

test('two hosts, one of them cut off: into its spool, into the table, and again by the drain: one row, one mail', async (t) => {
  const where = await STORES.table.prepare(t);
  const proxy = await L.startProxy(new L.Bench(t), STORES.table.port);
  const secrets = [newSecret()];
  const host = async (settings) => {
    const bench = await setUp(t, { secrets, settings: { ...where, withhold_domains: '.edu', ...settings } });
    bench.settings.spool = bench.file('spool.db');
    bench.write('leadhook.conf', `${fs.readFileSync(bench.config, 'utf8')}spool = ${bench.settings.spool}\n`);
    await bench.stopLeadhook();
    await bench.startLeadhook();
    return bench;
  };
  const far = await host({ table_connection_file: new L.Bench(t).write('connection', L.connectionString(proxy.port)), request_deadline_ms: 2000 });
  const near = await host({});
  const ids = Object.keys(BODIES).map(() => newId());
  const bodies = Object.values(BODIES).map((make) => make());

  // At the same instant at both.
  ids.unshift(newId());
  bodies.unshift(L.lead());
  const answers = await Promise.all(Array.from({ length: 10 }, (_, i) => (i % 2 ? far : near).send(bodies[0], { id: ids[0] })));
  assert.ok(answers.every(({ code }) => code === 200 || code === 202), JSON.stringify(answers.map(({ text }) => text)));
  assert.ok(answers.filter(({ json }) => json.status === 'stored').length <= 1);

  // Its write may have been done: the first is, and nobody is told.
  proxy.fault = () => 'drop-after';
  const spooled = await far.send(bodies[1], { id: ids[1] });
  assert.strictEqual(spooled.json.status, 'spooled', spooled.text);
  proxy.fault = () => 'drop-before';
  for (let i = 0; i < bodies.length; i++) {
    for (let times = 0; times < 2; times++) {
      const answer = await far.send(bodies[i], { id: ids[i] });
      assert.strictEqual(answer.json.status, 'spooled', answer.text);
    }
    const answer = await near.send(bodies[i], { id: ids[i] });
    assert.strictEqual(answer.code, 200, answer.text);
  }
  proxy.fault = () => undefined;
  await L.until('the drain', () => far.spoolRows().every((row) => row.partition_key !== 'spool'), 60000);
  const rows = (await tableRows(STORES.table.port)).filter(L.isLead);
  assert.deepStrictEqual(rows.map((row) => row.WebhookId).sort(), ids.slice().sort());
  for (let i = 0; i < ids.length; i++) assert.strictEqual((await far.send(bodies[i], { id: ids[i] })).json.status, 'repeat');
  const mails = await mailsOf(STORES.table, far, near);
  assert.deepStrictEqual([mails.length, mails.filter((mail) => /CAME BACK/.test(mail.parsed.subject)).length], [ids.length, 0]);
});
