// An older leadhook ($OLD_BUILD) and this one, one after the other and beside each other on one store, one spool and
// one socket: nothing is lost, nothing is there twice, and each reads what the other has written.
'use strict';

const assert = require('node:assert');
const { execFile } = require('node:child_process');
const fs = require('node:fs');
const path = require('node:path');
const L = require('../system/lib.js');

const { test } = L;
const BUILDS = { old: path.resolve(process.env.OLD_BUILD), new: L.build };
const SENDERS = 6;

const STORES = {
  sqlite: async (bench) => ({ ...bench.mailHere(), alarm_to: 'operator@example.com', mail_per_minute: 6000 }),
  'table with spool': (bench) => bench.startTableWithSpool(),
};

// Both read one configuration, so it has settings only that the old one knows, too.
async function setUp(t, store) {
  const bench = new L.Bench(t);
  bench.configure({ listen: null, listen_mode: null, relay_socket: bench.file('relay'), ...await STORES[store](bench) });
  await bench.startNginx();
  // Holds the socket and nothing else: what serves it comes and goes.
  const orders = bench.file('orders');
  const script = `exec 3<&0; mkfifo ${orders}; exec 4<>${orders}
    while read -r name program <&4; do "$program" --config ${bench.config} <&3 3<&- 4<&- >>${bench.dir}/$name.log 2>&1 & echo "$name $!"; done`;
  const holder = new L.Program('holder', 'spawn-fcgi', ['-s', bench.file('fcgi.sock'), '-M', '0666', '-n', '--', '/bin/sh', '-c', script],
    { log: bench.file('holder.log') });
  const pids = new Map();
  bench.stops.push(async () => {
    for (const name of [...pids.keys()]) await end(name);
    await holder.stop();
  });
  await L.until('the holder', () => fs.existsSync(orders));
  const log = (name) => (fs.existsSync(bench.file(`${name}.log`)) ? fs.readFileSync(bench.file(`${name}.log`), 'utf8') : '');
  const isThere = (pid) => { try { process.kill(pid, 0); return !/^State:\s+Z/m.test(fs.readFileSync(`/proc/${pid}/status`, 'utf8')); } catch { return false; } };

  async function start(name, which) {
    fs.appendFileSync(orders, `${name} ${path.join(BUILDS[which], 'leadhook')}\n`);
    const pid = await L.until(`the start of ${name}`, () => (new RegExp(`^${name} (\\d+)$`, 'm').exec(holder.output()) || [])[1]);
    pids.set(name, Number(pid));
    await L.until(`${name} to be ready`, () => log(name).includes('event=ready'));
  }
  async function end(name, signal = 'SIGTERM') {
    const pid = pids.get(name);
    pids.delete(name);
    if (isThere(pid)) process.kill(pid, signal);
    await L.until(`the end of ${name}`, () => !isThere(pid));
  }
  const ctl = (which, ...args) => new Promise((resolve) => {
    execFile(path.join(BUILDS[which], 'leadctl'), ['--config', bench.config, ...args], { timeout: 30000, maxBuffer: 1 << 26 },
      (error, stdout, stderr) => resolve({ status: error ? error.code : 0, stdout, stderr }));
  });
  return { bench, start, end, ctl, log };
}

const leadRows = async (bench) => (bench.azurite ? (await L.rows(bench.azurite.port, 'MarketplaceLeads')).filter(L.isLead).map((row) =>
  ({ payload: row.Payload.value, deliveries: Number(row.Deliveries.value), notified: Boolean(row.NotifiedTime) }))
  : bench.entities().filter((row) => row.Payload).map((row) => ({ payload: row.Payload, deliveries: row.Deliveries, notified: Boolean(row.NotifiedTime) })));
const toSales = async (bench) => (await bench.mails()).filter((mail) => mail.parsed.to.text === 'sales@example.com');

// Every lead that was answered 2xx is one row that came once, and has one mail; there are no others.
async function assertOnce(bench, bodies) {
  await L.until('all rows', async () => (await leadRows(bench)).length === bodies.length, 60000);
  const notified = async () => (await leadRows(bench)).filter((row) => row.notified).length;
  for (let there = -1; there < bodies.length;) { // they fall far behind the leads
    const before = there;
    there = await L.until('the next mails', async () => { const now = await notified(); return now > before && now; }).catch(async (error) => {
      const left = bench.azurite ? (await L.rows(bench.azurite.port, 'MarketplaceLeads')).filter(L.isMail) : bench.entities().filter((row) => L.isMail(row));
      throw new Error(`${error.message}: ${before} of ${bodies.length}; ${JSON.stringify(left.slice(0, 5))}`);
    });
  }
  const rows = await leadRows(bench);
  assert.deepStrictEqual(rows.map((row) => row.payload).sort(), [...bodies].sort());
  assert.deepStrictEqual(rows.filter((row) => row.deliveries !== 1), []);
  const mails = await toSales(bench);
  const ids = mails.map((mail) => mail.parsed.messageId);
  assert.strictEqual(new Set(ids).size, ids.length, 'a mail was sent twice');
  assert.strictEqual(ids.length, bodies.length);
}

function load(bench) {
  const taken = [], refused = [];
  let running = true;
  const all = Promise.all(Array.from({ length: SENDERS }, async () => {
    while (running) {
      const body = L.lead();
      const answer = await bench.post(body);
      if (answer.code === 200 || answer.code === 202) taken.push(body); else refused.push(`${answer.code} ${answer.text}`);
    }
  }));
  return {
    more: (count) => { const enough = taken.length + count; return L.until('the load', () => taken.length >= enough); },
    stop: async () => { running = false; await all; assert.deepStrictEqual(refused, []); return taken; },
  };
}

async function post(bench, code, ...changes) {
  const body = L.lead(...changes);
  const answer = await bench.post(body);
  assert.strictEqual(answer.code, code, answer.text);
  return { body, id: answer.json.id };
}

for (const [from, to] of [['old', 'new'], ['new', 'old']]) {
  test(`what the ${from} one has left: spooled leads, mails that wait, quarantine; the ${to} one goes on with it`, async (t) => {
    const { bench, start, end, ctl } = await setUp(t, 'table with spool');
    await start('first', from);
    const stored = await post(bench, 200);
    assert.strictEqual((await bench.post('{"a":')).code, 400);
    await L.until('the first mail', async () => (await toSales(bench)).length === 1);
    // Nobody can write a mail any more.
    fs.renameSync(bench.file('Maildir'), bench.file('gone'));
    fs.writeFileSync(bench.file('Maildir'), 'in the way');
    const unsent = await post(bench, 200);
    bench.proxy.fault = () => 'drop-before';
    const spooled = [await post(bench, 202), await post(bench, 202, { OfferTitle: 'Another', LeadSource: 'AzureMarketplace-INS|contoso.another' })];
    const again = await bench.post(stored.body);
    assert.strictEqual(again.code, 202);
    await end('first', 'SIGKILL');
    const waits = await ctl(to, 'spool');
    assert.match(waits.stdout, /^leads +3 waiting/m, waits.stderr);

    fs.rmSync(bench.file('Maildir'));
    fs.renameSync(bench.file('gone'), bench.file('Maildir'));
    bench.proxy.fault = () => undefined;
    await start('second', to);
    const bodies = [stored, unsent, ...spooled].map((one) => one.body);
    await L.until('the drain', async () => /^leads +0 waiting/m.test((await ctl(to, 'spool')).stdout), 60000);
    const rows = await leadRows(bench);
    assert.deepStrictEqual(rows.map((row) => row.payload).sort(), [...bodies].sort());
    assert.strictEqual(rows.find((row) => row.payload === stored.body).deliveries, 2);
    // The mail that could not be written waits for its next try.
    for (const row of (await L.rows(bench.azurite.port, 'MarketplaceLeads')).filter(L.isMail))
      await L.tableClient(bench.azurite.port, 'MarketplaceLeads').updateEntity({ partitionKey: row.partitionKey, rowKey: row.rowKey, NextTime: new Date(0) }, 'Merge').catch(() => {});
    await end('second');
    await start('third', to);
    await L.until('the mails', async () => (await leadRows(bench)).every((row) => row.notified), 60000);
    assert.strictEqual(new Set((await toSales(bench)).map((mail) => mail.parsed.messageId)).size, 4);
    assert.strictEqual((await toSales(bench)).length, 4);
    const listed = (await ctl(to, 'list', '-n', '100', '--json')).stdout.split('\n').filter(Boolean).map((line) => JSON.parse(line));
    assert.strictEqual(listed.length, 4);
    const status = await ctl(to, 'status');
    assert.match(status.stdout, /1 item|1 waits|1 in quarantine/, status.stdout);
    const held = await ctl(to, 'quarantine', 'list');
    assert.match(held.stdout, /syntax|invalid JSON/, held.stdout + held.stderr);
  });
}

for (const store of Object.keys(STORES)) {
  test(`${store}: a rolling upgrade under load, and back`, async (t) => {
    const { bench, start, end, log } = await setUp(t, store);
    await start('old1', 'old');
    await start('old2', 'old');
    const steady = load(bench);
    await steady.more(60);
    await start('new1', 'new');
    await steady.more(30);
    await end('old1');
    await steady.more(60);
    if (bench.proxy) { // both spool into one file, and one of them drains it
      // Only leads: where a mail that was sent cannot be noted as sent, it may go out again.
      bench.proxy.fault = (req, number, body) => (body.includes('Payload') ? 'drop-before' : undefined);
      await steady.more(40);
      await end('old2');
      await start('old3', 'old');
      await steady.more(20);
      bench.proxy.fault = () => undefined;
    }
    await start('new2', 'new');
    await steady.more(60);
    await end('new1'); // back again: an old one is the relay
    await end('new2');
    if (!bench.proxy) await end('old2');
    if (!bench.proxy) await start('old3', 'old');
    await steady.more(60);
    await start('new3', 'new');
    await end('old3');
    await steady.more(60);
    const bodies = await steady.stop();
    await assertOnce(bench, bodies);
    for (const name of fs.readdirSync(bench.dir).filter((file) => /^(old|new)\d\.log$/.test(file))) {
      const lines = log(name.replace('.log', '')).split('\n').filter((line) => /level=error|call-denied/.test(line) && !/event=(spooling|table-|breaker|mail-|alarm-row-invalid)/.test(line));
      assert.deepStrictEqual(lines, [], name);
    }
  });
}

test('killed in turn, the table away for a while: no lead lost, none twice', async (t) => {
  const { bench, start, end } = await setUp(t, 'table with spool');
  const names = [];
  const next = async (which) => { names.push(`${which}${names.length}`); await start(names[names.length - 1], which); };
  await next('old');
  await next('new');
  const taken = [];
  for (let round = 0; round < 6; round++) {
    bench.proxy.fault = round % 2 ? () => 'drop-before' : () => undefined;
    for (let i = 0; i < 12; i++) {
      const body = L.lead();
      // A process may be killed under it: its sender sends it again, as it should.
      for (;;) {
        const answer = await bench.post(body);
        if (answer.code === 200 || answer.code === 202) break;
        assert.strictEqual(answer.code, 503, answer.text);
      }
      taken.push(body);
    }
    await end(names[round], 'SIGKILL');
    await next(round % 2 ? 'new' : 'old');
  }
  bench.proxy.fault = () => undefined;
  await L.until('all rows', async () => (await leadRows(bench)).length === taken.length, 60000);
  const rows = await leadRows(bench);
  assert.deepStrictEqual(rows.map((row) => row.payload).sort(), [...taken].sort());
});

test('the counters of one version are not believed by the other, and both go on counting', async (t) => {
  const { bench, start, end, ctl } = await setUp(t, 'sqlite');
  const counted = async () => {
    const { text } = await bench.post(undefined, { method: 'GET', path: '/metrics', type: null });
    assert.match(text, /leadhook_requests_total\{code="200"\}/);
    return Number(/^leadhook_requests_total\{code="200"\} (\d+)$/m.exec(text)[1]);
  };
  await start('old1', 'old');
  for (let i = 0; i < 5; i++) await post(bench, 200);
  await L.until('the old counters', async () => (await counted()) >= 5);
  await start('new1', 'new');
  await end('old1');
  const before = await counted();
  assert.ok(before < 5, `${before}: begun anew`);
  for (let i = 0; i < 3; i++) await post(bench, 200);
  await L.until('the new counters', async () => (await counted()) >= before + 3);
  assert.strictEqual((await ctl('new', 'key', 'list')).status, 0);
  // An old one beside it, and a new one started after that: the new ones count together.
  await start('old2', 'old');
  await post(bench, 200);
  await start('new2', 'new');
  await end('old2');
  const sums = new Set();
  for (let i = 0; i < 20; i++) {
    await post(bench, 200);
    sums.add(await counted());
  }
  const numbers = [...sums];
  assert.deepStrictEqual(numbers, [...numbers].sort((a, b) => a - b), 'two files of counters');
});
