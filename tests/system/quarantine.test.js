// What could not be taken, and mails that were given up: an operator looks at them, corrects them and sends them on.
// Everything on both stores.
'use strict';

const assert = require('node:assert');
const { spawnSync } = require('node:child_process');
const fs = require('node:fs');
const path = require('node:path');
const L = require('./lib.js');

const { test } = L;
const TABLE = 'MarketplaceLeads';
const KEPT = /^\d{13}-[0-9a-f]{32}$/;

// Seconds until the quota begins anew.
const untilMidnight = () => 86400 - Math.floor(Date.now() / 1000) % 86400;
// A test of the quota has to take place in one day.
const sameDay = () => L.until('the next day', () => untilMidnight() > 25);

// The rows of both tables with plain values, whichever store it is; changing and failing, too.
const STORES = {
  sqlite: {
    async prepare() { return {}; },
    async rows(bench) { return bench.entities(); },
    async merge(bench, row, changes) {
      const set = Object.entries(changes).map(([name, value]) => `, '$.${name}', ${typeof value === 'number' ? value : `'${value}'`}`).join('');
      bench.sqlite(`UPDATE entity SET version = random(), properties = json_set(properties${set}) WHERE row_key = '${row.rowKey}' AND partition_key = '${row.partitionKey}'`);
    },
    // Items of quarantine cannot be deleted until the function given back is called.
    async holdItems(bench) {
      bench.sqlite("CREATE TRIGGER hold BEFORE DELETE ON entity WHEN old.partition_key = 'quarantine' BEGIN SELECT RAISE(ABORT, 'held'); END");
      return () => bench.sqlite('DROP TRIGGER hold');
    },
  },
  table: {
    prepare(bench) { return bench.startTable(); },
    async rows(bench) {
      const rows = await Promise.all([TABLE, `${TABLE}Ops`].map((table) => L.rows(bench.azurite.port, table).catch((error) => {
        if (!/TableNotFound/.test(error.message)) throw error;
        return []; // made with the first row
      })));
      return rows.flat().map((row) => Object.fromEntries(Object.entries(row).map(([name, value]) => [name, value && value.value !== undefined ? value.value : value])));
    },
    async merge(bench, row, changes) {
      const table = row.partitionKey === 'offers' ? `${TABLE}Ops` : TABLE;
      const values = Object.fromEntries(Object.entries(changes).map(([name, value]) => [name, typeof value === 'number' ? value : { type: 'DateTime', value }]));
      await L.tableClient(bench.azurite.port, table).updateEntity({ partitionKey: row.partitionKey, rowKey: row.rowKey, ...values }, 'Merge');
    },
    async holdItems(bench) {
      bench.proxy.fault = (req, number, body) => (/^DELETE .*quarantine/m.test(body) ? 'drop-before' : undefined);
      return () => { bench.proxy.fault = () => undefined; };
    },
  },
};

for (const [name, store] of Object.entries(STORES)) {
  const setUp = async (t, settings = {}) => {
    const bench = new L.Bench(t);
    const where = await store.prepare(bench);
    bench.smtp = await L.startSmtp(bench);
    bench.configure({ ...where, ...bench.smtp.settings(), ...settings });
    await bench.startNginx();
    await bench.startLeadhook();
    return bench;
  };
  const kept = async (bench) => (await store.rows(bench)).filter((row) => row.partitionKey === 'quarantine' && KEPT.test(row.rowKey));
  const leads = async (bench) => (await store.rows(bench)).filter(L.isLead);
  const mails = async (bench) => (await store.rows(bench)).filter(L.isMail);
  const offer = async (bench) => (await store.rows(bench)).find((row) => row.partitionKey === 'offers');
  const on = (what, body) => test(`${name}: ${what}`, body);

  // Posts what cannot be taken; gives its id.
  const spoil = async (bench, body, code = 400) => {
    const answer = await bench.post(body);
    assert.strictEqual(answer.code, code, answer.text);
    return answer.json.id;
  };
  const arrived = (bench, id) => L.until('the mail', async () => bench.smtp.mails.find((mail) => mail.parsed.headers.get('x-lead-id') === id)
    && (await leads(bench)).some((row) => row.NotifiedTime));
  // Waits until the one mail's row has failed in this way and nobody works on it.
  const failed = (bench, state) => L.until(`a mail that is ${state}`, async () => (await mails(bench)).find((row) => row.State === state && row.Error));

  on('a broken payload is listed, shown, corrected, stored and mailed under its own id and time', async (t) => {
    const bench = await setUp(t);
    const good = L.lead();
    const bad = good.replace('","ActionCode"', '" "ActionCode"');
    const first = await spoil(bench, bad);
    const other = await spoil(bench, '{}', 422);
    const [item] = (await kept(bench)).filter((row) => row.DeliveryId === first);

    const list = await bench.leadctl('quarantine', 'list');
    assert.strictEqual(list.status, 0, list.stderr);
    const lines = list.stdout.trim().split('\n');
    assert.strictEqual(lines.length, 3, list.stdout);
    const time = item.ReceivedTime.slice(0, 19).replace('T', ' ');
    assert.match(lines[1], new RegExp(`^${first}  ${time}  market +application/json +${bad.length}  .*JSON`));
    assert.match(lines[2], new RegExp(`^${other} .* 2  `));

    const show = await bench.leadctl('quarantine', 'show', first.slice(0, 8));
    assert.strictEqual(show.stdout, bad);
    assert.strictEqual(show.stderr, `${lines[1]}\n`);

    const asItIs = await bench.leadctl('quarantine', 'resubmit', first);
    assert.strictEqual(asItIs.status, 65);
    assert.match(asItIs.stderr, new RegExp(`${first} stays in quarantine: .*JSON.*, at byte \\d+\n`));
    assert.strictEqual((await kept(bench)).length, 2);
    const empty = await bench.leadctl('quarantine', 'resubmit', other, '--file', bench.write('empty', ''));
    assert.strictEqual(empty.status, 65, empty.stderr);
    const long = await bench.leadctl('quarantine', 'resubmit', other, '--file', bench.write('long', 'x'.repeat(131073)));
    assert.strictEqual(long.status, 65, long.stderr);
    const missing = await bench.leadctl('quarantine', 'resubmit', other, '--file', bench.file('missing'));
    assert.strictEqual(missing.status, 66, missing.stderr);
    assert.deepStrictEqual([(await leads(bench)).length, (await kept(bench)).length, bench.smtp.mails.length], [0, 2, 0]);

    const resubmit = await bench.leadctl('quarantine', 'resubmit', first.toUpperCase(), '--file', bench.write('good.json', good));
    assert.strictEqual(resubmit.status, 0, resubmit.stderr);
    assert.strictEqual(resubmit.stdout, `stored: ${first} in contoso.contoso-app\n`);
    await arrived(bench, first);
    const [row, ...more] = await leads(bench);
    assert.deepStrictEqual(more, []);
    assert.deepStrictEqual([row.DeliveryId, row.ReceivedTime, row.KeyName, row.Payload, Number(row.Deliveries)], [first, item.ReceivedTime, 'market', good, 1]);
    assert.strictEqual(bench.smtp.mails.length, 1);
    assert.deepStrictEqual((await kept(bench)).map((each) => each.DeliveryId), [other]);
    assert.strictEqual((await bench.leadctl('quarantine', 'resubmit', first)).status, 66);
    // The sender corrects it as well, and sends what we have made of it.
    assert.strictEqual((await bench.post(good)).json.status, 'repeat');
  });

  on('a correction that is there already is counted as a repeat', async (t) => {
    const bench = await setUp(t);
    const body = L.lead();
    const id = await spoil(bench, `\u0000${body}`);
    const result = await bench.leadctl('quarantine', 'resubmit', id, '--file', bench.write('body', body));
    assert.strictEqual(result.status, 0, result.stderr);
    const again = await spoil(bench, `\u0000${body}`);
    const repeat = await bench.leadctl('quarantine', 'resubmit', again, '--file', bench.write('body', body));
    assert.match(repeat.stdout, /^counted as a repeat: [0-9a-f]{32} in contoso\.contoso-app\n$/, repeat.stderr);
    const [row] = await leads(bench);
    assert.deepStrictEqual([row.DeliveryId, row.LastDeliveryId, Number(row.Deliveries)], [id, again, 2]);
    assert.deepStrictEqual(await kept(bench), []);
  });

  for (const [what, body] of [['a lead', L.lead()], ['a lead that nothing can be told by', '{"OfferTitle":"Contoso App"}']]) {
    on(`a resubmission that was cut off is run again: one row, one mail; ${what}`, async (t) => {
      const bench = await setUp(t);
      const id = await spoil(bench, `${body}}`);
      const file = bench.write('body', body);
      const release = await store.holdItems(bench);
      const cut = await bench.leadctl('quarantine', 'resubmit', id, '--file', file);
      assert.strictEqual(cut.status, 75, cut.stderr);
      assert.match(cut.stderr, /is stored, but still in quarantine as well \(.*\): run the same command again/);
      assert.deepStrictEqual([(await leads(bench)).length, (await kept(bench)).length], [1, 1]);
      await arrived(bench, id);
      await release();
      const again = await bench.leadctl('quarantine', 'resubmit', id, '--file', file);
      assert.strictEqual(again.status, 0, again.stderr);
      const [row, ...more] = await leads(bench);
      assert.deepStrictEqual([more, await kept(bench), await mails(bench)], [[], [], []]);
      assert.deepStrictEqual([row.DeliveryId, Number(row.Deliveries), bench.smtp.mails.length], [id, 1, 1]);
    });
  }

  on('drop deletes one item and says which; ids that are none', async (t) => {
    const bench = await setUp(t);
    const [first, second] = [await spoil(bench, '{"a":1'), await spoil(bench, '{"b":1')];
    const drop = await bench.leadctl('quarantine', 'drop', first);
    assert.strictEqual(drop.status, 0, drop.stderr);
    assert.match(drop.stdout, new RegExp(`^dropped: ${first} .* market .* 6  .*\n$`));
    assert.deepStrictEqual((await kept(bench)).map((row) => row.DeliveryId), [second]);
    for (const action of ['show', 'resubmit', 'drop']) assert.strictEqual((await bench.leadctl('quarantine', action, first)).status, 66, action);
    for (const id of [second.slice(0, 7), 'x', '', `${second}0`]) assert.strictEqual((await bench.leadctl('quarantine', 'drop', id)).status, 64, id);
    for (const args of [[], ['drop'], ['list', 'x'], ['show', second, 'x'], ['resubmit', second, '--file'], ['drop', second, '--file', 'x']]) {
      const usage = await bench.leadctl('quarantine', ...args);
      assert.deepStrictEqual([usage.status, usage.stdout], [64, ''], args.join(' '));
      assert.match(usage.stderr, /^usage: leadctl quarantine list \| show ID/);
    }
    assert.strictEqual((await bench.leadctl('quarantine', 'drop', second.slice(0, 8))).status, 0);
    assert.strictEqual((await bench.leadctl('quarantine', 'list')).stdout, 'nothing is in quarantine\n');
  });

  on('over the quota: 429 until the next day, and good leads go on', async (t) => {
    const bench = await setUp(t, { quarantine_per_day: 2 });
    const other = 'Other-key_0123456789.abcdef~';
    await bench.stopLeadhook();
    bench.stops.pop();
    fs.appendFileSync(bench.file('keys'), `other ${other}\n`);
    await bench.startLeadhook('again');
    await sameDay();
    const [id] = [await spoil(bench, '{'), await spoil(bench, '{')];
    const answer = await bench.post('{');
    assert.strictEqual(answer.code, 429, answer.text);
    assert.strictEqual(answer.headers['content-type'], 'application/problem+json');
    const wait = Number(answer.headers['retry-after']);
    assert.ok(wait >= 1 && wait <= 86400 && Math.abs(wait - untilMidnight()) < 60, `${wait}, ${untilMidnight()}`);
    assert.deepStrictEqual([answer.json.status, answer.json.title, answer.json.id], [429, 'Too Many Requests', undefined]);
    assert.match(answer.json.detail, /JSON.*; not kept: the key's quarantine is full for today \(2 payloads\)/);
    assert.match(answer.json.request_id, /^[0-9a-f]{32}$/);
    assert.match(bench.leadhook.output(), /level=error event=quarantine-full .*code=429 .*key=market/);
    const metrics = (await bench.post(undefined, { method: 'GET', path: '/metrics' })).text;
    assert.match(metrics, /^leadhook_requests_total\{code="429"\} 1$/m);
    assert.match(metrics, /^leadhook_leads_total\{outcome="quarantined"\} 2$/m);
    assert.strictEqual((await bench.post(L.lead())).code, 200);
    assert.strictEqual((await bench.post('{', { key: other })).code, 400, 'another key has its own quota');
    assert.strictEqual((await kept(bench)).length, 3);
    // A place that was used is used, whatever became of it.
    assert.strictEqual((await bench.leadctl('quarantine', 'drop', id)).status, 0);
    assert.strictEqual((await bench.post('{')).code, 429);
  });

  on('quarantine is full: 429, good leads go on, and dropping makes room', async (t) => {
    const bench = await setUp(t, { quarantine_max_bytes: 1048576, alarm_to: 'operator@example.com' });
    const broken = `{${' '.repeat(130000)}`; // 171 KiB of the 1024
    for (let i = 0; i < 5; i++) await spoil(bench, broken);
    const answer = await bench.post(broken);
    assert.deepStrictEqual([answer.code, answer.headers['retry-after'], answer.json.id], [429, '3600', undefined], answer.text);
    assert.match(answer.json.detail, /JSON.*; not kept: quarantine is full \(1048576 bytes\)/);
    assert.match(bench.leadhook.output(), /event=quarantine-full .*quarantine is full/);
    assert.strictEqual((await bench.post(L.lead())).code, 200);
    const id = await spoil(bench, '{');
    const mail = await L.until('the alarm', () => bench.smtp.mails.map((each) => each.parsed.text).find((text) => /quarantine-full/.test(text)));
    assert.match(mail, /quarantine_max_bytes/);
    const status = JSON.parse((await bench.leadctl('status', '--json')).stdout);
    assert.deepStrictEqual([status.quarantine.bytes, status.quarantine.max_bytes], [(5 * 171 + 2) * 1024, 1048576]);
    const [first] = (await bench.leadctl('quarantine', 'list')).stdout.match(/^[0-9a-f]{32}/gm);
    assert.notStrictEqual(first, id);
    assert.strictEqual((await bench.leadctl('quarantine', 'drop', first)).status, 0);
    await spoil(bench, broken);
    assert.strictEqual((await bench.post(broken)).code, 429);
  });

  on('a parked mail goes out after leadctl retry', async (t) => {
    const bench = await setUp(t);
    bench.smtp.faults = { rcpt: { code: 550 } };
    const { id } = (await bench.post(L.lead())).json;
    const parked = await failed(bench, 'parked');
    bench.smtp.faults = {};
    // Its offer had no lead for long: mailers look there again.
    const last = (await offer(bench)).LastLeadTime;
    await store.merge(bench, await offer(bench), { ActiveTime: '2020-01-01T00:00:00.000Z' });
    const unknown = await bench.leadctl('retry', '0123456789abcdef');
    assert.deepStrictEqual([unknown.status, unknown.stdout], [66, ''], unknown.stderr);
    for (const args of [['--ever'], ['0123456'], [id, id]]) assert.strictEqual((await bench.leadctl('retry', ...args)).status, 64);
    assert.deepStrictEqual([(await mails(bench)).map((row) => row.State), bench.smtp.mails.length], [[parked.State], 0]);
    const retry = await bench.leadctl('retry');
    assert.deepStrictEqual([retry.status, retry.stdout], [0, '1 mail is now due\n'], retry.stderr);
    await arrived(bench, id);
    assert.strictEqual(bench.smtp.mails.length, 1);
    assert.ok(Date.now() - Date.parse((await offer(bench)).ActiveTime) < 60000);
    assert.strictEqual((await offer(bench)).LastLeadTime, last); // no lead has come by it
    assert.strictEqual((await bench.leadctl('retry')).stdout, '0 mails are now due\n');
  });

  on('mails that wait for later: retry leaves them, with an id or --all they are due and begin anew', async (t) => {
    const bench = await setUp(t, { mail_to: 'sales@example.com, boss@example.com' });
    bench.smtp.faults = { rcpt: { code: 451 } };
    const { id } = (await bench.post(L.lead())).json;
    await L.until('both deferred', async () => (await mails(bench)).filter((row) => row.State === 'waiting' && row.Error).length === 2);
    assert.strictEqual((await bench.leadctl('retry')).stdout, '0 mails are now due\n');
    await bench.stopLeadhook();
    bench.stops.splice(bench.stops.indexOf(bench.stopLeadhook), 1);
    await store.merge(bench, (await mails(bench))[0], { Ambiguous: 2 });
    const byId = await bench.leadctl('retry', id.slice(0, 8));
    assert.deepStrictEqual([byId.status, byId.stdout], [0, '2 mails are now due\n'], byId.stderr);
    for (const [i, row] of (await mails(bench)).entries()) {
      // What may have been accepted already is a repeat also for the mail server.
      assert.deepStrictEqual([row.State, Number(row.Tries), Number(row.Ambiguous)], ['waiting', 0, i === 0 ? 1 : 0]);
      assert.match(row.Error, /451/, 'why it failed last is still to be seen');
    }
    assert.strictEqual((await bench.leadctl('retry', id)).stdout, '0 mails are now due\n', 'they are');
    assert.strictEqual((await bench.leadctl('relay', '--once')).status, 75);
    assert.deepStrictEqual((await mails(bench)).map((row) => Number(row.Tries)), [1, 1]);
    assert.strictEqual((await bench.leadctl('retry', '--all')).stdout, '2 mails are now due\n');
    bench.smtp.faults = {};
    const once = await bench.leadctl('relay', '--once');
    assert.strictEqual(once.status, 0, once.stderr);
    assert.deepStrictEqual([bench.smtp.mails.length, await mails(bench)], [2, []]);
  });
}

// The service itself says that it will never take this lead.
const REFUSAL = { status: 413, headers: { 'Content-Type': 'application/json' },
  body: '{"odata.error":{"code":"RequestBodyTooLarge","message":{"lang":"en-US","value":"too large"}}}' };

test('table: a good lead that the service refuses for good is kept, and is stored when the service takes it', async (t) => {
  const bench = new L.Bench(t);
  bench.configure({ ...await STORES.table.prepare(bench), quarantine_per_day: 1 });
  await bench.startNginx();
  await bench.startLeadhook();
  const rows = () => STORES.table.rows(bench);
  await sameDay();
  assert.strictEqual((await bench.post(L.lead())).code, 200);
  bench.proxy.fault = (req, number, body) => (/LeadSource/.test(body) ? REFUSAL : undefined);
  const body = L.lead();
  const answer = await bench.post(body);
  assert.deepStrictEqual([answer.code, answer.json.status], [202, 'quarantined'], answer.text);
  const { id } = answer.json;
  const refused = await bench.post(L.lead());
  assert.strictEqual(refused.code, 429, refused.text);
  assert.ok(Number(refused.headers['retry-after']) > 0);
  const stays = await bench.leadctl('quarantine', 'resubmit', id);
  assert.strictEqual(stays.status, 65, stays.stderr);
  assert.match(stays.stderr, new RegExp(`${id} stays in quarantine: the store refuses this lead`));
  bench.proxy.fault = () => undefined;
  const result = await bench.leadctl('quarantine', 'resubmit', id);
  assert.strictEqual(result.status, 0, result.stderr);
  assert.strictEqual((await rows()).filter((row) => row.DeliveryId === id && row.Payload === body).length, 1);
  assert.deepStrictEqual((await rows()).filter((row) => KEPT.test(row.rowKey)), []);
  // The table is not there: nothing is lost, and nothing is said to be gone.
  const kept = await bench.post('{');
  assert.strictEqual(kept.code, 429, 'what was resubmitted has used up its place');
  bench.proxy.fault = () => 'drop-before';
  for (const args of [['list'], ['show', id], ['resubmit', id], ['drop', id]]) {
    const down = await bench.leadctl('quarantine', ...args);
    assert.ok([69, 75].includes(down.status), `${args}: ${down.status}`);
    assert.strictEqual(down.stdout, '');
  }
});

test('a payload shown on a terminal cannot do anything to it', async (t) => {
  const bench = new L.Bench(t);
  bench.configure();
  await bench.startNginx();
  await bench.startLeadhook();
  const bad = Buffer.concat([Buffer.from('{"a":"\u001b]0;owned\u0007\r\u202e\u00e9\u009b1m\n\t'), Buffer.from([0xff]), Buffer.from('\u007f')]);
  const answer = await bench.post(bad);
  assert.strictEqual(answer.code, 400, answer.text);
  const file = bench.file('typescript.log');
  const shown = spawnSync('script', ['-qec', `${path.join(L.build, 'leadctl')} --config ${bench.config} quarantine show ${answer.json.id}`, file], { encoding: 'latin1' });
  assert.strictEqual(shown.status, 0, shown.stderr);
  const text = Buffer.from(shown.stdout, 'latin1').toString();
  assert.ok(text.includes('{"a":"\\x1B]0;owned\\x07\\x0D\\xE2\\x80\\xAEé\\xC2\\x9B1m\r\n\t\\xFF\\x7F'), JSON.stringify(text));
  assert.match(shown.stdout.replaceAll('\r\n', ''), /^[^\x00-\x08\x0b-\x1f\x7f]*$/);
});
