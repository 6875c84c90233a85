// The Table service when it fails in the middle: whatever gets lost on the way,
// one delivery is one row, and one row is one mail.
'use strict';

const assert = require('node:assert');
const L = require('./lib.js');

const { test } = L;
const TABLE = 'MarketplaceLeads';

// leadhook on Azurite through the proxy, with SMTP; the first lead has made tables and directory.
async function setUp(t, settings = {}) {
  const bench = new L.Bench(t);
  const table = await bench.startTable();
  bench.smtp = await L.startSmtp(bench);
  bench.configure({ ...table, ...bench.smtp.settings(), ...settings });
  await bench.startNginx();
  await bench.startLeadhook();
  assert.strictEqual((await bench.post(L.lead())).code, 200);
  if (bench.settings.mail_url !== 'off') {
    await L.until('the first mail', async () => bench.smtp.mails.length === 1 && (await waiting(bench)).length === 0);
    bench.smtp.mails.length = 0;
  }
  return bench;
}
const all = (bench) => L.rows(bench.azurite.port, TABLE);
const waiting = async (bench) => (await all(bench)).filter(L.isMail);
const leadOf = async (bench, body) => {
  const found = (await all(bench)).filter((row) => L.isLead(row) && row.Payload.value === body);
  assert.ok(found.length <= 1, `${found.length} rows`);
  return found[0];
};

// Mails that wait for their next try are due now.
async function hurryMails(bench) {
  const client = L.tableClient(bench.azurite.port, TABLE);
  for (const row of await waiting(bench)) {
    if (row.State.value !== 'waiting') continue;
    await client.updateEntity({ partitionKey: row.partitionKey, rowKey: row.rowKey, NextTime: { type: 'DateTime', value: '2000-01-01T00:00:00Z' } }, 'Merge');
  }
}

async function stop(bench) {
  bench.stops.splice(bench.stops.indexOf(bench.stopLeadhook), 1);
  assert.strictEqual(await bench.leadhook.stop(), 0);
}
// Sends it now and not at the next try or pass.
async function sendWhatWaits(bench) {
  await stop(bench);
  await hurryMails(bench);
  const result = await bench.leadctl('relay', '--once');
  assert.strictEqual(result.status, 0, result.stderr);
}

// Applies the fault once, to the first transaction whose text matches; gives a function that tells how often.
function failOnce(bench, pattern, fault) {
  let times = 0;
  bench.proxy.fault = (req, number, body) => (req.url.includes('$batch') && pattern.test(body) && times === 0 && ++times ? fault : undefined);
  return () => times;
}

async function assertOneMail(bench, id, number = 1) {
  await L.until('the mail, and no row of it', async () => bench.smtp.mails.length === number && (await waiting(bench)).length === 0);
  assert.strictEqual(bench.smtp.mails.filter((mail) => mail.parsed.messageId === `<lead.${id}.1@example.com>`).length, 1);
}

const garbage = { headers: { 'Content-Type': 'multipart/mixed; boundary=batchresponse_x' }, body: '--batchresponse_x\r\n\r\nnonsense' };
const error = (code) => ({ headers: { 'Content-Type': 'application/json' }, body: `{"odata.error":{"code":"${code}","message":{"value":"x"}}}` });
const FAULTS = {
  'the connection ends before the request arrives': 'drop-before',
  'the answer is lost': 'drop-after',
  'the answer is cut off': { cut: 60 },
  'the answer is empty': { cut: 0 },
  'the answer is garbage, not done': { status: 202, ...garbage },
  'the answer is garbage, but done': { status: 202, after: true, ...garbage },
  'internal error, not done': { status: 500, ...error('InternalError') },
  'internal error, but done': { status: 500, after: true, ...error('InternalError') },
  'time-out, but done': { status: 500, after: true, ...error('OperationTimedOut') },
  'a gateway in between, but done': { status: 502, after: true, headers: { 'Content-Type': 'text/html' }, body: '<html>' },
};

for (const [name, fault] of Object.entries(FAULTS)) {
  test(`storing a new lead; ${name}: one row, one mail`, async (t) => {
    const bench = await setUp(t);
    const body = L.lead();
    const times = failOnce(bench, /"Payload"/, fault);
    const answer = await bench.post(body);
    assert.strictEqual(times(), 1);
    assert.deepStrictEqual([answer.code, answer.json.status], [200, 'stored'], answer.text);
    await assertOneMail(bench, answer.json.id);
    const row = await leadOf(bench, body);
    assert.deepStrictEqual([row.Deliveries.value, row.DeliveryId.value, row.LastDeliveryId.value], ['1', answer.json.id, answer.json.id]);
  });
}

for (const name of ['the connection ends before the request arrives', 'the answer is lost', 'internal error, but done']) {
  test(`counting a repeat; ${name}: counted once, one more mail outside the window`, async (t) => {
    const bench = await setUp(t, { repeat_window_s: 0 });
    const body = L.lead();
    const first = await bench.post(body);
    await assertOneMail(bench, first.json.id);
    const times = failOnce(bench, /"LastDeliveryId"/, FAULTS[name]);
    bench.proxy.fault = ((inner) => (req, number, text) => (/"Payload"/.test(text) ? undefined : inner(req, number, text)))(bench.proxy.fault);
    const second = await bench.post(body);
    assert.strictEqual(times(), 1);
    assert.deepStrictEqual([second.code, second.json.status], [200, 'repeat'], second.text);
    await assertOneMail(bench, second.json.id, 2);
    const row = await leadOf(bench, body);
    assert.deepStrictEqual([row.Deliveries.value, row.DeliveryId.value, row.LastDeliveryId.value], ['2', first.json.id, second.json.id]);
  });
}

// The writes of a mail's life: claimed with its message, marked before the final bytes, recorded after them.
const STEPS = { claiming: /"claimed"/, 'marking before the final bytes': /"sending"/, 'recording that it is out': /"NotifiedTime"/ };
for (const [step, pattern] of Object.entries(STEPS)) {
  for (const name of ['the connection ends before the request arrives', 'the answer is lost']) {
    test(`${step}; ${name}: one mail`, async (t) => {
      const bench = await setUp(t);
      const body = L.lead();
      const times = failOnce(bench, pattern, FAULTS[name]);
      const answer = await bench.post(body);
      assert.strictEqual(answer.code, 200);
      await L.until('the fault', () => times() === 1);
      await L.until('the end of its mail, or of an attempt', async () =>
        (await waiting(bench)).every((row) => row.State.value === 'waiting' && row.Error && row.Error.value !== '-'));
      await sendWhatWaits(bench);
      await assertOneMail(bench, answer.json.id);
      assert.ok((await leadOf(bench, body)).NotifiedTime);
    });
  }
}

test('a lead that was erased is not mailed, and not made again', async (t) => {
  const bench = await setUp(t);
  bench.smtp.faults = { rcpt: { code: 451 } };
  const body = L.lead();
  await bench.post(body);
  await L.until('a failed attempt', async () => (await waiting(bench)).some((row) => row.Tries && row.Tries.value === '1'));
  await stop(bench);
  const row = await leadOf(bench, body);
  const client = L.tableClient(bench.azurite.port, TABLE);
  await client.deleteEntity(row.partitionKey, row.rowKey);

  // Its message is in the mail's row already: it may go out, but nothing is written to the lead.
  bench.smtp.faults = {};
  await hurryMails(bench);
  assert.strictEqual((await bench.leadctl('relay', '--once')).status, 0);
  assert.deepStrictEqual(await waiting(bench), []);
  assert.strictEqual(await leadOf(bench, body), undefined);
  assert.ok(!(await all(bench)).some((each) => each.rowKey === row.rowKey));
});

test('tables that are deleted while leadhook runs are made again', async (t) => {
  const bench = await setUp(t);
  for (const table of [TABLE, `${TABLE}Ops`]) await L.tableClient(bench.azurite.port, table).deleteTable();
  const body = L.lead();
  const answer = await bench.post(body);
  assert.strictEqual(answer.code, 200, answer.text);
  assert.ok(await leadOf(bench, body));
  const bad = await bench.post('{');
  assert.deepStrictEqual([bad.code, (await L.rows(bench.azurite.port, `${TABLE}Ops`)).filter((row) => row.partitionKey === 'quarantine' && !row.rowKey.startsWith('~')).length], [400, 1]);
});

test('a service that stands still: 503 within the deadline, and 200 when it goes on', async (t) => {
  const bench = await setUp(t, { request_deadline_ms: 2000 });
  bench.azurite.child.kill('SIGSTOP');
  t.after(() => bench.azurite.child.kill('SIGCONT'));
  const begin = Date.now();
  const body = L.lead();
  const answer = await bench.post(body);
  assert.deepStrictEqual([answer.code, answer.headers['retry-after']], [503, '30'], answer.text);
  assert.ok(Date.now() - begin < 6000, `${Date.now() - begin} ms`);
  bench.azurite.child.kill('SIGCONT');
  const again = await L.until('the service', async () => { const each = await bench.post(body); return each.code === 200 && each; });
  const row = await leadOf(bench, body);
  assert.ok([row.DeliveryId.value, row.LastDeliveryId.value].includes(again.json.id));
  await sendWhatWaits(bench);
  assert.deepStrictEqual([bench.smtp.mails.length, await waiting(bench)], [1, []]);
});

test('a lead costs one round trip, and a burst of a hundred with fifty repeats a few transactions', async (t) => {
  const bench = await setUp(t, { threads: 100, request_deadline_ms: 20000, mail_url: 'off', mail_user: null, mail_password_file: null });
  const cost = async (bodies) => {
    const { requests, batches } = bench.proxy;
    const answers = await Promise.all(bodies.map((body) => bench.post(body)));
    assert.ok(answers.every((answer) => answer.code === 200), answers.map((answer) => answer.text).join());
    const transactions = bench.proxy.batches - batches;
    return { transactions, reads: bench.proxy.requests - requests - transactions };
  };
  const body = L.lead();
  assert.deepStrictEqual(await cost([body]), { transactions: 1, reads: 0 });
  assert.deepStrictEqual(await cost([body]), { transactions: 2, reads: 1 });
  const old = Array.from({ length: 50 }, () => L.lead());
  // A slow service makes leads meet in the queue however fast this machine is.
  bench.proxy.fault = (req) => (req.url.includes('$batch') ? { delay: 300 } : undefined);
  const first = await cost(old);
  assert.ok(first.transactions <= 25 && first.reads === 0, JSON.stringify(first));
  const mixed = await cost(old.flatMap((each) => [each, L.lead()]));
  assert.ok(mixed.transactions <= 25 && mixed.reads <= 100, JSON.stringify(mixed)); // reads run side by side
});

test('two hosts, each with its own relay, on one table: one mail per lead', async (t) => {
  const bench = await setUp(t);
  const other = new L.Bench(t);
  other.configure({ ...bench.settings, listen: other.file('fcgi.sock'), keys_file: other.file('keys') });
  await other.startNginx();
  await other.startLeadhook();
  const bodies = Array.from({ length: 20 }, () => L.lead());
  const answers = await Promise.all(bodies.flatMap((body) => [bench.post(body), other.post(body)]));
  assert.ok(answers.every((answer) => answer.code === 200), answers.map((answer) => answer.text).join());
  await L.until('all mails', async () => bench.smtp.mails.length >= 20 && (await waiting(bench)).length === 0);
  assert.strictEqual(new Set(bench.smtp.mails.map((mail) => mail.parsed.messageId)).size, 20);
  assert.strictEqual(bench.smtp.mails.length, 20);
  const leads = (await all(bench)).filter((row) => L.isLead(row) && bodies.includes(row.Payload.value));
  assert.deepStrictEqual(leads.map((row) => row.Deliveries.value), Array(20).fill('2'));
});
