// leadctl status and leadctl spool: what an operator and a monitoring system are told, by both stores and in trouble.
'use strict';

const assert = require('node:assert');
const fs = require('node:fs');
const net = require('node:net');
const L = require('./lib.js');

const { test } = L;
const CODES = ['OK', 'WARNING', 'CRITICAL', 'UNKNOWN'];

// Runs it both ways: the screen, which is the later one, must fit, and nothing of a person may be in either.
async function status(bench) {
  const machine = await bench.leadctl('status', '--json');
  const screen = await bench.leadctl('status');
  const lines = screen.stdout.split('\n').slice(0, -1);
  assert.ok(lines.length <= 24, screen.stdout);
  for (const line of lines) assert.ok([...line].length <= 80, line);
  assert.match(lines[0], new RegExp(`^LEADHOOK ${CODES[screen.status]}: `), screen.stdout + screen.stderr);
  const json = JSON.parse(machine.stdout);
  assert.deepStrictEqual([json.code, json.state], [machine.status, CODES[machine.status]]);
  for (const text of [screen.stdout, machine.stdout]) assert.ok(!/@|Ana|Test\b|16175550100/.test(text), text);
  return { code: screen.status, first: lines[0], text: screen.stdout, json };
}

async function sqlite(t, settings = {}) {
  const bench = new L.Bench(t);
  bench.configure({ ...bench.mailHere(), ...settings });
  await bench.startNginx();
  return bench;
}

async function table(t, settings = {}) {
  const bench = new L.Bench(t);
  bench.configure({ ...await bench.startTableWithSpool(), ...settings });
  await bench.startNginx();
  return bench;
}

async function post(bench, code, body = L.lead()) {
  const answer = await bench.post(body);
  assert.strictEqual(answer.code, code, answer.text);
  return answer.json.id;
}

for (const [name, setUp] of Object.entries({ sqlite, table })) {
  test(`${name}: all is well`, async (t) => {
    const bench = await setUp(t);
    await bench.startLeadhook();
    let s = await L.until('a relay', async () => { const now = await status(bench); return now.json.code === 0 && now; });
    assert.match(s.text, /^leads +none yet; 0 today/m);
    await post(bench, 200);
    await post(bench, 200);
    await post(bench, 200, L.lead({ LeadSource: 'AzureMarketplace-INS|contoso.another', OfferTitle: 'Another' }));
    await L.until('the mails', async () => (await bench.mails()).length === 3);
    s = await L.until('their end', async () => { const now = await status(bench); return now.json.mails.sending.count + now.json.mails.claimed.count === 0 && now; });
    assert.match(s.first, /^LEADHOOK OK: last lead \d+ (s|min) ago, 3 today$/);
    assert.match(s.text, new RegExp(`^relay +process ${bench.leadhook.child.pid} holds the lock$`, 'm'));
    assert.match(s.text, /^ +contoso\.contoso-app {2}2, last/m);
    assert.match(s.text, /^ +contoso\.another {2}1, last/m);
    assert.deepStrictEqual(s.json.leads.by_offer, { 'contoso.contoso-app': { count: 2, more: false }, 'contoso.another': { count: 1, more: false } });
    assert.deepStrictEqual([s.json.store.kind, s.json.store.answers], [name, true]);
    assert.deepStrictEqual([s.json.mails.waiting.count, s.json.quarantine.waiting.count], [0, 0]);
  });

  test(`${name}: what could not be taken waits for a person`, async (t) => {
    const bench = await setUp(t);
    await bench.startLeadhook();
    await post(bench, 400, '{"UserDetails":');
    await post(bench, 422, '{"a":1}');
    const s = await L.until('a relay', async () => { const now = await status(bench); return now.json.relay.holder === 'process' && now; });
    assert.strictEqual(s.first, 'LEADHOOK WARNING: 2 in quarantine');
    assert.match(s.text, /^quarantine +2 items wait, newest \d+ (s|min) ago; 4 KiB of 1 GiB$/m);
    const ids = (await bench.leadctl('quarantine', 'list')).stdout.match(/^[0-9a-f]{32}/gm);
    for (const id of ids) assert.strictEqual((await bench.leadctl('quarantine', 'drop', id)).status, 0);
    assert.strictEqual((await status(bench)).code, 0);
  });

  test(`${name}: nobody sends the mail`, async (t) => {
    const bench = await setUp(t);
    await bench.startLeadhook();
    await post(bench, 200);
    await L.until('the mail', async () => (await bench.mails()).length === 1);
    bench.stops.splice(bench.stops.indexOf(bench.stopLeadhook), 1);
    await bench.leadhook.stop('SIGKILL');
    const s = await status(bench);
    assert.strictEqual(s.first, 'LEADHOOK WARNING: no relay runs');
    assert.strictEqual(s.json.relay.holder, 'nobody');
    await bench.startLeadhook();
    await L.until('a relay', async () => (await status(bench)).code === 0);
  });
}

test('a parked mail is a warning until it is sent again', async (t) => {
  const bench = new L.Bench(t);
  const smtp = await L.startSmtp(bench);
  bench.configure(smtp.settings());
  await bench.startNginx();
  await bench.startLeadhook();
  smtp.faults = { rcpt: { code: 550 } };
  await post(bench, 200);
  let s = await L.until('the parked mail', async () => { const now = await status(bench); return now.json.mails.parked.count === 1 && now; });
  assert.strictEqual(s.first, 'LEADHOOK WARNING: 1 mail parked');
  assert.match(s.text, /^mails +0 wait; 0 claimed, 0 sending; 1 parked$/m);
  smtp.faults = {};
  assert.strictEqual((await bench.leadctl('retry')).status, 0);
  s = await L.until('the mail', async () => { const now = await status(bench); return now.json.code === 0 && now; });
  assert.strictEqual(s.json.mails.parked.count, 0);
});

test('mail that waits for its time is none of a warning, mail that is late is', async (t) => {
  const bench = await sqlite(t);
  await bench.startLeadhook();
  await post(bench, 200);
  await L.until('the mail', async () => (await bench.mails()).length === 1);
  bench.stops.splice(bench.stops.indexOf(bench.stopLeadhook), 1);
  assert.strictEqual(await bench.leadhook.stop(), 0);
  const waits = (time) => bench.sqlite(`INSERT OR REPLACE INTO entity SELECT kind, partition_key, '~mail-' || row_key || '-${'0'.repeat(32)}-1', 1, 1,
    json_object('Recipient', 'sales@example.com', 'State', 'waiting', 'ReceivedTime@odata.type', 'Edm.DateTime',
    'ReceivedTime', json_extract(properties, '$.ReceivedTime'), 'NextTime@odata.type', 'Edm.DateTime', 'NextTime', '${time.toISOString()}')
    FROM entity WHERE kind = 0 AND row_key NOT LIKE '~%'`);
  waits(new Date(Date.now() + 3600000));
  let s = await status(bench);
  assert.match(s.text, /^mails +1 waits, next due in 59 min;/m);
  assert.strictEqual(s.first, 'LEADHOOK WARNING: no relay runs');
  waits(new Date(Date.now() - 3600000));
  s = await status(bench);
  assert.match(s.text, /^mails +1 waits, oldest due 60 min ago;|^mails +1 waits, oldest due 1 h ago;/m);
  assert.match(s.first, /^LEADHOOK WARNING: mail is late by 1 h; no relay runs$/);
});

test('counts end at a thousand', async (t) => {
  const bench = await sqlite(t);
  await bench.startLeadhook();
  await post(bench, 200);
  await L.until('the mail', async () => (await bench.mails()).length === 1);
  bench.sqlite(`WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1200)
    INSERT INTO entity SELECT kind, partition_key, printf('%032x-%032x', i, i), 1, 1, properties FROM entity, n WHERE kind = 0 AND row_key NOT LIKE '~%'`);
  bench.sqlite(`WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1200)
    INSERT INTO entity SELECT 1, 'quarantine', printf('%013d-%032x', i, i), 1, 1, '{}' FROM n`);
  const s = await status(bench);
  assert.match(s.text, /^leads +last .* ago; 1000\+ today/m);
  assert.match(s.text, /^quarantine +1000\+ items wait; 0 bytes of 1 GiB$/m);
  assert.match(s.first, /^LEADHOOK WARNING: 1000\+ in quarantine/);
});

test('looking makes no files, and a store that is not there is critical', async (t) => {
  const bench = await sqlite(t);
  const before = fs.readdirSync(bench.dir);
  const s = await status(bench);
  assert.strictEqual(s.first, 'LEADHOOK CRITICAL: leads are refused: the database does not answer; +1 more');
  assert.match(s.text, /there is no '.*leads\.db' yet/);
  assert.deepStrictEqual(fs.readdirSync(bench.dir), before);
});

test('a configuration that cannot be used, and a word too many: UNKNOWN', async (t) => {
  const bench = await sqlite(t);
  const wrong = await bench.run('leadctl', '--config', bench.write('wrong.conf', 'threads = many\n'), 'status');
  assert.strictEqual(wrong.status, 3);
  assert.strictEqual(wrong.stdout, 'LEADHOOK UNKNOWN: the configuration cannot be used\n');
  assert.match(wrong.stderr, /threads/);
  const more = await bench.leadctl('status', 'now');
  assert.deepStrictEqual([more.status, more.stdout], [3, 'LEADHOOK UNKNOWN: usage: leadctl status [--json]\n']);
});

// A listener that takes connections and never says a word.
async function silentPort(bench) {
  const sockets = new Set();
  const server = net.createServer((socket) => { sockets.add(socket); socket.on('error', () => {}); });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  bench.stops.push(() => new Promise((resolve) => { for (const socket of sockets) socket.destroy(); server.close(resolve); }));
  return server.address().port;
}

for (const [name, port] of Object.entries({ 'refuses connections': () => L.freePort(), 'never answers': silentPort })) {
  test(`a table that ${name}: refused without a spool, spooled with one`, async (t) => {
    const bench = new L.Bench(t);
    const connection = bench.write('connection', L.connectionString(await port(bench)));
    bench.configure({ store: 'table', table_connection_file: connection });
    let s = await status(bench);
    assert.strictEqual(s.first, 'LEADHOOK CRITICAL: leads are refused: the table does not answer');
    assert.match(s.text, /^spool +off: /m);
    assert.match(s.text, /^mails +not known$/m);
    assert.notStrictEqual(s.json.store.reason, '');

    bench.configure({ store: 'table', table_connection_file: connection, spool: bench.file('spool.db'), request_deadline_ms: 800 });
    s = await status(bench);
    assert.strictEqual(s.first, 'LEADHOOK WARNING: the table does not answer; no relay runs');
    assert.strictEqual((await bench.leadctl('spool')).stdout.match(/there is no spool at .* yet/).length, 1);
    bench.configure({ store: 'table', table_connection_file: connection, spool: bench.file('missing/spool.db') });
    s = await status(bench);
    assert.match(s.first, /^LEADHOOK CRITICAL: leads are refused: neither table nor spool works/);
  });
}

test('leads in the spool: how many, since when and why; all is well when they are in the table', async (t) => {
  const bench = await table(t);
  await bench.startLeadhook();
  await post(bench, 200);
  await L.until('the mail', async () => (await bench.mails()).length === 1);
  bench.proxy.fault = () => ({ status: 503, headers: { 'Retry-After': '1', 'Content-Type': 'application/json' }, body: '{"odata.error":{"code":"ServerBusy","message":{"value":"x"}}}' });
  const ids = [await post(bench, 202), await post(bench, 202, L.lead({ LeadSource: 'AzureMarketplace-INS|contoso.another', OfferTitle: 'Another' }))];
  let s = await status(bench);
  assert.match(s.first, /^LEADHOOK WARNING: 2 leads wait in the spool, oldest \d+ s$/);
  assert.match(s.text, /^breaker +open for \d+ s, next try in \d+ s:$/m);
  assert.match(s.text, /^alarms +today: .*spooling/m);
  assert.deepStrictEqual([s.json.spool.leads, s.json.spool.table_is_down, s.json.spool.takes_leads, s.json.spool.lost], [2, true, true, 0]);

  const state = await bench.leadctl('spool');
  assert.strictEqual(state.status, 0, state.stderr);
  assert.match(state.stdout, /^leads +2 waiting, the oldest received \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC \(\d+ s ago\)$/m);
  assert.match(state.stdout, /^breaker +open since .*\n +\S/m);
  assert.match(state.stdout, /^lost +0 by damage$/m);
  const list = (await bench.leadctl('spool', 'list')).stdout.split('\n').slice(1, -1);
  assert.deepStrictEqual(list.map((line) => line.slice(0, 32)), ids, 'in order of receipt');
  assert.match(list[0], /^[0-9a-f]{32} {2}\d{4}-\d\d-\d\d \d\d:\d\d:\d\d {2}(no|perhaps) +contoso\.contoso-app$/);
  assert.ok(!/@|Ana/.test(list.join('\n')));

  bench.proxy.fault = () => undefined;
  s = await L.until('the drain', async () => { const now = await status(bench); return now.json.spool.leads === 0 && now.json.code === 0 && now; }, 60000);
  assert.match(s.first, /, 3 today$/);
  assert.match((await bench.leadctl('spool', 'list')).stdout, /^no lead waits in the spool$/m);
});

test('leads that damage destroyed are named, and critical', async (t) => {
  const bench = await table(t);
  await bench.startLeadhook();
  bench.proxy.fault = () => 'drop-before';
  const id = await post(bench, 202);
  bench.stops.splice(bench.stops.indexOf(bench.stopLeadhook), 1);
  assert.strictEqual(await bench.leadhook.stop(), 0);
  bench.sqlite("DELETE FROM entity WHERE partition_key = 'spool'", bench.file('spool.db')); // as damage would
  bench.proxy.fault = () => undefined;
  await bench.startLeadhook();
  const s = await L.until('the loss', async () => { const now = await status(bench); return now.json.spool.lost === 1 && now; }, 60000);
  assert.strictEqual(s.code, 2);
  assert.match(s.first, /^LEADHOOK CRITICAL: 1 lead lost by damage/);
  assert.match((await bench.leadctl('spool')).stdout, new RegExp(`^lost +1 by damage\n\n.*\n${id} {2}\\d{4}-.* {2}lead$`, 'm'));
  assert.strictEqual((await bench.leadctl('spool', 'acknowledge')).stdout, '1 taken off the list of what was lost\n');
  const after = await L.until('the table', async () => { const now = await status(bench); return now.json.code === 0 && now; });
  assert.strictEqual(after.json.spool.lost, 0);
});

test('a table that answers at first and then hangs: what is not known is not shown as nothing', async (t) => {
  const bench = await table(t);
  await bench.startLeadhook();
  await post(bench, 200);
  await L.until('the mail', async () => (await bench.mails()).length === 1);
  bench.proxy.fault = (req) => (req.method === 'GET' ? { delay: 15000 } : undefined);
  const s = await status(bench);
  assert.strictEqual(s.first, 'LEADHOOK UNKNOWN: not everything could be read');
  assert.deepStrictEqual([s.json.store.answers, s.json.mails.known, s.json.quarantine.known, s.json.leads.known], [true, false, false, false]);
  assert.match(s.text, /^mails +not known$/m);
});

test('leads destroyed before the drain had seen them are lost as well', async (t) => {
  const bench = await table(t);
  await bench.startLeadhook();
  await post(bench, 200);
  bench.proxy.fault = () => 'drop-before';
  const id = await post(bench, 202);
  bench.sqlite("DELETE FROM entity WHERE partition_key = 'spool'", bench.file('spool.db'));
  bench.proxy.fault = () => undefined;
  await L.until('the loss', async () => (await status(bench)).json.spool.lost === 1);
  assert.ok((await bench.leadctl('spool')).stdout.includes(id));
});
