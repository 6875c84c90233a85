// The spool: while the table does not take leads they are kept on this host, and copied when it does.
'use strict';

const assert = require('node:assert');
const fs = require('node:fs');
const L = require('./lib.js');

const { test } = L;
const TABLE = 'MarketplaceLeads';

// leadhook on Azurite through the proxy, with a spool; the proxy does what `down` says to every request.
async function setUp(t, settings = {}) {
  const bench = new L.Bench(t);
  bench.configure({ ...await bench.startTableWithSpool(), ...settings });
  await bench.startNginx();
  await bench.startLeadhook();
  return bench;
}

const spooled = (bench) => {
  const rows = bench.spoolRows();
  return rows.filter((row) => row.partition_key === 'spool');
};
const leads = async (bench) => (await L.rows(bench.azurite.port, TABLE)).filter(L.isLead);
const REFUSALS = {
  'does not answer': { delay: 5000, status: 503 },
  'answers 500': { status: 500, body: '' },
  'throttles': { status: 503, headers: { 'Retry-After': '1', 'Content-Type': 'application/json' }, body: '{"odata.error":{"code":"ServerBusy","message":{"value":"x"}}}' },
  'refuses our credentials': { status: 403, headers: { 'Content-Type': 'application/json' }, body: '{"odata.error":{"code":"AuthenticationFailed","message":{"value":"x"}}}' },
  'is behind something that refuses everything': { status: 405, headers: { 'Content-Type': 'text/html' }, body: '<html>' },
  'is not there': 'drop-before',
};

for (const [name, fault] of Object.entries(REFUSALS)) {
  test(`a table that ${name}: 202, then in the table once, mailed once`, async (t) => {
    const bench = await setUp(t);
    const first = L.lead();
    assert.strictEqual((await bench.post(first)).code, 200);
    bench.proxy.fault = () => fault;
    const bodies = [L.lead(), L.lead(), L.lead({ OfferTitle: 'Another', LeadSource: 'AzureMarketplace-INS|contoso.another' })];
    for (const body of bodies) {
      const answer = await bench.post(body);
      assert.strictEqual(answer.code, 202, answer.text);
      assert.strictEqual(answer.json.status, 'spooled');
    }
    assert.strictEqual(spooled(bench).length, 3);
    assert.strictEqual((await bench.post('', { method: 'GET', path: '/readyz' })).code, 200);
    bench.proxy.fault = () => undefined;
    await L.until('the drain', async () => spooled(bench).length === 0, 60000);
    const rows = await leads(bench);
    assert.strictEqual(rows.length, 4);
    for (const body of [first, ...bodies]) assert.strictEqual(rows.filter((row) => row.Payload.value === body).length, 1);
    await L.until('the mails', async () => (await bench.mails()).filter((mail) => mail.parsed.to.text === 'sales@example.com').length === 4, 60000);
    await L.until('the alarms', async () => (await bench.mails()).filter((mail) => mail.parsed.to.text === 'operator@example.com').length >= 2, 60000);
    assert.strictEqual((await bench.post(L.lead())).code, 200);
  });
}

test('the same lead in the table, in the spool and again: one row, its deliveries counted', async (t) => {
  const bench = await setUp(t);
  const body = L.lead();
  assert.strictEqual((await bench.post(body)).code, 200);
  bench.proxy.fault = () => 'drop-before';
  assert.strictEqual((await bench.post(body)).code, 202);
  assert.strictEqual((await bench.post(body)).code, 202);
  bench.proxy.fault = () => undefined;
  await L.until('the drain', async () => spooled(bench).length === 0);
  const rows = await leads(bench);
  assert.strictEqual(rows.length, 1);
  assert.strictEqual(Number(rows[0].Deliveries.value), 3);
});

test('a write that was done, its answer lost: one row after the drain', async (t) => {
  const bench = await setUp(t);
  assert.strictEqual((await bench.post(L.lead())).code, 200);
  bench.proxy.fault = () => 'drop-after';
  const body = L.lead();
  assert.strictEqual((await bench.post(body)).code, 202);
  bench.proxy.fault = () => undefined;
  await L.until('the drain', async () => spooled(bench).length === 0);
  const rows = (await leads(bench)).filter((row) => row.Payload.value === body);
  assert.strictEqual(rows.length, 1);
  assert.strictEqual(Number(rows[0].Deliveries.value), 1);
});

test('what cannot be understood is kept in the spool too, and copied', async (t) => {
  const bench = await setUp(t);
  bench.proxy.fault = () => 'drop-before';
  const answer = await bench.post('{"UserDetails":');
  assert.strictEqual(answer.code, 400, answer.text);
  assert.match((await bench.leadctl('quarantine', 'list')).stderr, /^leadctl: 1 more in this host's spool/m);
  bench.proxy.fault = () => undefined;
  const items = async () => (await L.rows(bench.azurite.port, `${TABLE}Ops`)).filter((row) => row.partitionKey === 'quarantine' && !row.rowKey.startsWith('~'));
  await L.until('the item', async () => (await items().catch(() => [])).length === 1);
  await L.until('the drain', async () => bench.spoolRows().every((row) => row.partition_key !== 'quarantine' || row.row_key.startsWith('~')));
});

test('an outage found by what cannot be understood is logged and counted like any other', async (t) => {
  const bench = await setUp(t);
  assert.strictEqual((await bench.post(L.lead())).code, 200);
  bench.proxy.fault = () => ({ status: 503, headers: { 'Retry-After': '60' } });
  assert.strictEqual((await bench.post('{"UserDetails":')).code, 400);
  for (let i = 0; i < 3; i++) assert.strictEqual((await bench.post(L.lead())).code, 202);
  const { text } = await bench.post(undefined, { method: 'GET', path: '/metrics' });
  assert.match(text, /^leadhook_breaker_openings_total 1$/m);
  assert.match(text, /^leadhook_commit_seconds_count 1$/m);
  assert.match(text, /^leadhook_commit_failures_total 0$/m); // the table was not asked for these leads
  assert.strictEqual(bench.leadhook.output().match(/event=spooling /g).length, 1);
});

test('a full spool: 503 with Retry-After, not ready, and an alarm when it is over', async (t) => {
  const bench = await setUp(t, { spool_max_bytes: 1048576 });
  bench.proxy.fault = () => 'drop-before';
  const large = () => L.lead({ Description: 'x'.repeat(60000) });
  let answer;
  let accepted = 0;
  for (let i = 0; i < 100; i++) {
    answer = await bench.post(large());
    if (answer.code !== 202) break;
    accepted++;
  }
  assert.strictEqual(answer.code, 503, answer.text);
  assert.ok(answer.headers['retry-after']);
  assert.match(bench.leadhook.output(), /event=not-stored .* reason="spool: the spool is full: \d+ bytes/); // whatever the table said
  assert.ok(accepted > 0);
  const bytes = fs.readdirSync(bench.dir).filter((name) => name.startsWith('spool.db')).reduce((sum, name) => sum + fs.statSync(bench.file(name)).size, 0);
  assert.ok(bytes <= 1048576, `${bytes} bytes`);
  assert.strictEqual((await bench.post('', { method: 'GET', path: '/readyz' })).code, 503);
  bench.proxy.fault = () => undefined;
  await L.until('the drain', async () => spooled(bench).length === 0);
  assert.strictEqual((await leads(bench)).length, accepted);
  assert.strictEqual((await bench.post('', { method: 'GET', path: '/readyz' })).code, 200);
  assert.strictEqual((await bench.post(large())).code, 200);
});
