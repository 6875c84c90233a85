// One id from nginx on: in its log, in ours (as JSON), in the row and in the mail, whichever way the lead goes.
'use strict';

const assert = require('node:assert');
const fs = require('node:fs');
const L = require('./lib.js');

const { test } = L;

const STORES = {
  sqlite: async (bench) => bench.mailHere(),
  table: (bench) => bench.startTableWithSpool(),
};

async function setUp(t, store) {
  const bench = new L.Bench(t);
  bench.configure({ ...await STORES[store](bench), mail_per_minute: 6000, log_format: 'json', repeat_window_s: 0 });
  await bench.startLeadhook('leadhook', bench.config);
  await bench.startNginx({ edit: (text) => text.replaceAll('access_log off;', `access_log ${bench.file('leads.log')} leadhook;`) });
  return bench;
}

// With plain values from both stores; a table that is not there yet has none.
const plain = (row) => Object.fromEntries(Object.entries(row).map(([name, value]) => [name, value && value.value !== undefined ? value.value : value]));
async function rowsOf(bench, store, table = 'MarketplaceLeads') {
  return store === 'sqlite' ? bench.entities() : (await L.rows(bench.azurite.port, table).catch(() => [])).map(plain);
}
const jsonLines = (text) => text.split('\n').filter(Boolean).map((line) => JSON.parse(line));
// What leadhook has logged; every line must be an object.
const ownLines = (bench) => jsonLines(bench.leadhook.output());

// Posts; gives nginx's id for it and the answer.
async function post(bench, body) {
  const before = jsonLines(fs.readFileSync(bench.file('leads.log'), 'utf8')).length;
  const answer = await bench.post(body);
  const lines = await L.until("nginx's line", () => {
    const now = jsonLines(fs.readFileSync(bench.file('leads.log'), 'utf8'));
    return now.length > before && now;
  });
  const { request } = lines[before];
  assert.match(request, /^[0-9a-f]{32}$/);
  return { request, answer };
}

async function mailOf(bench, request) {
  const find = async () => (await bench.mails()).find((mail) => mail.parsed.headers.get('x-request-id') === request);
  const mail = await L.until('the mail', find);
  const sent = await L.until('its line', () => ownLines(bench).find((line) => line.event === 'mail-sent' && line.request === request));
  assert.strictEqual(sent.id, mail.parsed.headers.get('x-lead-id'));
  assert.strictEqual(sent.recipient, '1');
  return mail;
}

for (const store of Object.keys(STORES)) {
  test(`${store}: a lead, and the customer who came back`, async (t) => {
    const bench = await setUp(t, store);
    const body = L.lead();
    const first = await post(bench, body);
    assert.strictEqual(first.answer.code, 200);
    const line = ownLines(bench).find((one) => one.request === first.request);
    assert.deepStrictEqual([line.event, line.level, line.code, line.id, line.key, line.bytes],
      ['stored', 'info', 200, first.answer.json.id, 'market', body.length]);
    assert.strictEqual(typeof line.ms, 'number');
    await mailOf(bench, first.request);

    const second = await post(bench, body);
    assert.deepStrictEqual([second.answer.code, second.answer.json.status], [200, 'repeat']);
    assert.notStrictEqual(second.request, first.request);
    await mailOf(bench, second.request);
    const [row] = (await rowsOf(bench, store)).filter(L.isLead);
    assert.deepStrictEqual([row.RequestId, row.LastRequestId], [first.request, second.request]);
    assert.doesNotMatch(bench.leadhook.output(), /@|Ana|16175550100/);
  });

  test(`${store}: what cannot be understood`, async (t) => {
    const bench = await setUp(t, store);
    const { request, answer } = await post(bench, '{"UserDetails":');
    assert.strictEqual(answer.code, 400);
    assert.strictEqual(answer.json.request_id, request);
    const line = ownLines(bench).find((one) => one.request === request);
    assert.deepStrictEqual([line.event, line.level, line.status, line.id], ['quarantined', 'error', 'invalid', answer.json.id]);
    assert.match(line.reason, /JSON/);
    const kept = (await rowsOf(bench, store, 'MarketplaceLeadsOps')).find((row) => row.DeliveryId === answer.json.id);
    assert.strictEqual(kept.RequestId, request);
  });
}

test('through the spool', async (t) => {
  const bench = await setUp(t, 'table');
  bench.proxy.fault = () => 'drop-before';
  const { request, answer } = await post(bench, L.lead());
  assert.strictEqual(answer.code, 202);
  const line = ownLines(bench).find((one) => one.request === request);
  assert.deepStrictEqual([line.event, line.code, line.id], ['spooled', 202, answer.json.id]);
  bench.proxy.fault = () => undefined;
  const row = await L.until('the row', async () => (await rowsOf(bench, 'table')).find(L.isLead));
  assert.deepStrictEqual([row.RequestId, row.DeliveryId], [request, answer.json.id]);
  await mailOf(bench, request);
});
