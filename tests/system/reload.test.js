// SIGHUP: keys, the table's credentials and the mail's password are read anew
// while requests run; what is wrong is refused and changes nothing.
'use strict';

const assert = require('node:assert');
const crypto = require('node:crypto');
const fs = require('node:fs');
const L = require('./lib.js');

const { test } = L;
const NEXT = 'Next-key_0123456789.abcdef~';

const count = (text, pattern) => (text.match(pattern) || []).length;

// Sends SIGHUP and waits until leadhook has said what came of it.
async function reload(bench, event = 'reloaded') {
  const pattern = new RegExp(`event=(reloaded|reload-refused) .*`, 'g');
  const before = count(bench.leadhook.output(), pattern);
  bench.leadhook.child.kill('SIGHUP');
  await L.until('the reload', () => count(bench.leadhook.output(), pattern) > before);
  const line = bench.leadhook.output().match(pattern).at(-1);
  assert.ok(line.startsWith(`event=${event} `), line);
  return line;
}

// Posts all the time until `stop` is called, which gives the answers.
function load(bench, senders, options) {
  const answers = [];
  let running = true;
  const all = Promise.all(Array.from({ length: senders }, async () => {
    while (running) answers.push(await bench.post(L.lead(), options && options()));
  }));
  return { answers, stop: async () => { running = false; await all; return answers; } };
}
const failed = (answers) => answers.filter(({ code }) => code !== 200).map(({ code, text }) => `${code} ${text}`);

test('keys: the new file is in force from the reload on, and no request is lost on the way', async (t) => {
  const bench = new L.Bench(t);
  bench.configure();
  await bench.startNginx();
  await bench.startLeadhook();
  const steady = load(bench, 8);
  await L.until('the load', () => steady.answers.length > 50);
  bench.write('keys', `market ${L.KEY}\nnext ${NEXT}\n`);
  assert.strictEqual((await bench.post(L.lead(), { key: NEXT })).code, 401, 'not before the reload');
  assert.match(await reload(bench), /keys=2/);
  for (let i = 0; i < 20; i++) {
    bench.write('keys', `market ${L.KEY}\n${i % 2 ? `next ${NEXT}\n` : ''}`);
    await reload(bench);
    assert.strictEqual((await bench.post(L.lead(), { key: NEXT })).code, i % 2 ? 200 : 401);
  }
  assert.deepStrictEqual(failed(await steady.stop()), []);
  bench.write('keys', `next ${NEXT}\n`);
  await reload(bench);
  assert.strictEqual((await bench.post(L.lead())).code, 401);
  assert.strictEqual((await bench.post(L.lead(), { key: NEXT })).code, 200);
  assert.strictEqual((await bench.list())[0].KeyName, 'next');
});

// What is refused, each with a word of the reason.
const REFUSED = {
  'a key that is too short': { change: (bench) => bench.write('keys', 'market hush-hush\nmarket hush\n'), says: /keys:2: the key must be 16/ },
  'no key file': { change: (bench) => fs.rmSync(bench.file('keys')), says: /cannot open '.*keys'/ },
  'a key file that others may read': { change: (bench) => fs.chmodSync(bench.file('keys'), 0o644), says: /holds secrets but has mode 0644/ },
  'no configuration': { change: (bench) => fs.rmSync(bench.config), says: /cannot open '.*leadhook.conf'/ },
  'a mistake in the configuration': { change: (bench) => fs.appendFileSync(bench.config, 'threads = many\n'), says: /setting 'threads': must be a number/ },
  'no connection string': { change: (bench) => bench.write('connection', '\n'), says: /must hold one line/ },
  'a connection string without a key': { change: (bench) => bench.write('connection', 'AccountName=hush-hush\n'), says: /neither AccountKey nor/ },
  'another endpoint': { change: (bench, port) => bench.write('connection', L.connectionString(port + 1)), says: /another endpoint/ },
  'a key that the service refuses': {
    change: (bench, port) => bench.write('connection', L.connectionString(port).replace(L.ACCOUNT_KEY, Buffer.from('hush-hush').toString('base64'))), says: /403/ },
  'no password any more': { change: (bench) => bench.configure({ ...bench.settings, mail_user: null, mail_password_file: null }), says: /mail_password is not set any more/ },
  'another user for the password': { change: (bench) => bench.configure({ ...bench.settings, mail_user: 'hush-hush' }), says: /mail_user has changed/ },
};
test('what is refused at a reload changes nothing: keys and secrets stay in force', async (t) => {
  const bench = new L.Bench(t);
  const azurite = await L.startAzurite(bench);
  const smtp = await L.startSmtp(bench);
  const settings = { store: 'table', table_connection_file: bench.file('connection'), ...smtp.settings() };
  const restore = () => {
    bench.configure(settings);
    fs.chmodSync(bench.file('keys'), 0o600);
    bench.write('connection', L.connectionString(azurite.port));
  };
  restore();
  await bench.startNginx();
  await bench.startLeadhook();
  let leads = 0;
  for (const [name, { change, says }] of Object.entries(REFUSED)) {
    change(bench, azurite.port);
    assert.match(await reload(bench, 'reload-refused'), says, name);
    assert.strictEqual((await bench.post(L.lead())).code, 200, name);
    leads++;
    restore();
  }
  assert.match(await reload(bench), /keys=1/);
  assert.strictEqual((await bench.post(L.lead())).code, 200);
  await L.until('the mails', () => smtp.mails.length === leads + 1);
  for (const secret of ['hush', L.KEY, L.ACCOUNT_KEY, 'pass word', Buffer.from('hush-hush').toString('base64')]) assert.ok(!bench.leadhook.output().includes(secret), secret);
});

test('other settings stay as they were, and the log names those that differ', async (t) => {
  const bench = new L.Bench(t);
  bench.configure();
  await bench.startNginx();
  await bench.startLeadhook();
  bench.configure({ body_max_bytes: 1024, threads: 3 });
  bench.write('keys', `next ${NEXT}\n`);
  await reload(bench);
  assert.deepStrictEqual([...bench.leadhook.output().matchAll(/event=setting-not-reloaded setting=(\w+)/g)].map((match) => match[1]), ['threads', 'body_max_bytes']);
  assert.strictEqual((await bench.post(L.lead({ Description: 'x'.repeat(2000) }), { key: NEXT })).code, 200);
});

// A shared access signature for both tables; different for each `se`.
function sas(se) {
  const toSign = [L.ACCOUNT, 'raud', 't', 'co', '', se, '', 'https,http', '2019-02-02', ''].join('\n');
  const sig = crypto.createHmac('sha256', Buffer.from(L.ACCOUNT_KEY, 'base64')).update(toSign).digest('base64');
  return `sv=2019-02-02&ss=t&srt=co&sp=raud&se=${se}&spr=https,http&sig=${encodeURIComponent(sig)}`;
}

test("the table's credentials: every connection goes over to the new ones, under load, and then the old ones may end", async (t) => {
  const bench = new L.Bench(t);
  const settings = await bench.startTable();
  const { azurite, proxy } = bench;
  for (const table of ['MarketplaceLeads', 'MarketplaceLeadsOps']) await L.tableClient(azurite.port, table).createTable();
  const endpoint = `TableEndpoint=http://127.0.0.1:${proxy.port}/${L.ACCOUNT}`;
  bench.write('connection', `${endpoint};SharedAccessSignature=${sas('2098-01-01T00:00:00Z')}`);
  bench.configure({ ...settings, ...bench.mailHere(), mail_per_minute: 6000, request_deadline_ms: 20000 });
  await bench.startNginx();
  await bench.startLeadhook();
  const steady = load(bench, 8);
  await L.until('the load', () => steady.answers.length > 30);
  bench.write('connection', `${endpoint};SharedAccessSignature=${sas('2099-01-01T00:00:00Z')}`);
  await reload(bench);
  // What was on its way at the reload may still come with the old ones.
  const before = steady.answers.length;
  await L.until('the requests in work', () => steady.answers.length > before + 16);
  let refused = 0;
  proxy.fault = (req) => {
    if (req.url.includes('2099-01-01')) return undefined;
    refused++;
    return { status: 403, headers: { 'Content-Type': 'application/json' }, body: '{"odata.error":{"code":"AuthenticationFailed","message":{"value":"expired"}}}' };
  };
  const after = steady.answers.length;
  await L.until('more load', () => steady.answers.length > after + 60);
  assert.deepStrictEqual(failed(await steady.stop()), []);
  assert.strictEqual(refused, 0);
  const rows = await L.rows(azurite.port, 'MarketplaceLeads');
  assert.strictEqual(rows.filter(L.isLead).length, steady.answers.length);
  await L.until('the mails', () => bench.maildir().length === steady.answers.length);
  assert.ok(!bench.leadhook.output().includes('sig='));
});

test('keys can be reloaded while the Table service refuses everybody', async (t) => {
  const bench = new L.Bench(t);
  bench.configure(await bench.startTable());
  const { proxy } = bench;
  await bench.startNginx();
  await bench.startLeadhook();
  proxy.fault = () => ({ status: 403, headers: { 'Content-Type': 'application/json' }, body: '{"odata.error":{"code":"AuthorizationFailure","message":{"value":"firewall"}}}' });
  bench.write('keys', `next ${NEXT}\n`);
  await reload(bench);
  proxy.fault = () => undefined;
  assert.strictEqual((await bench.post(L.lead(), { key: NEXT })).code, 200);
});

test("the mail's password: a pause for the old one ends with the new one, and nothing is lost", async (t) => {
  const bench = new L.Bench(t);
  const smtp = await L.startSmtp(bench);
  bench.configure(smtp.settings());
  bench.write('mail-password', 'yesterday');
  await bench.startNginx();
  await bench.startLeadhook();
  assert.strictEqual((await bench.post(L.lead())).code, 200);
  await L.until('the pause', () => bench.leadhook.output().includes('event=mail-paused'));
  bench.write('mail-password', 'pass word');
  await reload(bench);
  assert.strictEqual((await bench.post(L.lead())).code, 200); // the hint makes the relay look at once
  await L.until('both mails', () => smtp.mails.length === 2);
  for (const secret of ['yesterday', 'pass word']) assert.ok(!bench.leadhook.output().includes(secret));
});

test('two processes: each one reloads for itself', async (t) => {
  const bench = new L.Bench(t);
  bench.configure();
  await bench.startNginx();
  const first = await bench.startLeadhook();
  bench.configure({ listen: bench.file('second.sock') });
  const second = await bench.startLeadhook('second');
  bench.write('keys', `next ${NEXT}\n`);
  second.child.kill('SIGHUP');
  await L.until('the reload', () => second.output().includes('event=reloaded'));
  assert.strictEqual((await bench.post(L.lead())).code, 200, 'the other has the old keys still');
  first.child.kill('SIGHUP');
  await L.until('the reload', () => first.output().includes('event=reloaded'));
  assert.strictEqual((await bench.post(L.lead())).code, 401);
});
