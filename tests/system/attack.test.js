// Attacks behind the product's nginx files, and on the FastCGI socket itself, while an honest sender posts one lead after
// the other: each of its leads is taken, and leadhook's memory stays below the bound that README.md derives from the
// limits.  Times are told, not asserted: they are those of a machine that others may be using.
'use strict';

const assert = require('node:assert');
const { spawn } = require('node:child_process');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const L = require('./lib.js');

const { test } = L;
const THREADS = 8;
const BODY_MAX = 131072;
const MIB = 1024 * 1024;
// README.md, "What it takes": first what does not depend on the requests, the program, its caches and connections.
const REST = 24 * MIB;
const BOUND = REST + 2 * THREADS * (MIB + 12 * BODY_MAX);
// An instrumented build's memory says nothing of ours, and its speed not either: then it is the code that is looked at.
const SLOW_CONNECTIONS = L.isInstrumented ? 1000 : 10000;
const SECONDS = L.isInstrumented ? 2 : 5;
// As many as README.md recommends, or as there may be.
const FILES = Math.min(32768, Number(/^Max open files +\d+ +(\d+)/m.exec(fs.readFileSync('/proc/self/limits', 'utf8'))[1]));

function memoryOf(pid) {
  const text = fs.readFileSync(`/proc/${pid}/status`, 'utf8');
  const bytes = (name) => Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(text)[1]) * 1024;
  return { anon: bytes('RssAnon'), all: bytes('VmRSS') };
}
const mib = (bytes) => `${(bytes / MIB).toFixed(1)} MiB`;

const ATTACKS = [
  { kind: 'slow', connections: SLOW_CONNECTIONS, seconds: 16, what: 'slow connections' },
  { kind: 'bodies-stranger', connections: 32, seconds: SECONDS, what: '64 KiB bodies without a key' },
  { kind: 'bodies-key', connections: 32, seconds: SECONDS, what: '64 KiB bodies with a good key' },
  { kind: 'json-key', connections: 32, seconds: SECONDS, what: 'deep, wide and long JSON with a good key' },
  { kind: 'wrong-keys', connections: 32, seconds: SECONDS, what: 'wrong keys' },
  { kind: 'offers-key', connections: 32, seconds: SECONDS, what: 'made-up offers with a good key' },
  { kind: 'fastcgi', connections: 48, seconds: 2 * SECONDS, what: 'FastCGI: endless parameters and bodies, half requests' },
];

// Runs the attack until it has ended; gives what it counted.
async function attackWith(bench, options, whileUnderWay) {
  const child = spawn(process.execPath, [path.join(__dirname, 'attack-client.js'), JSON.stringify({ port: bench.port, socket: bench.file('fcgi.sock'), key: L.KEY, ...options })],
    { stdio: ['ignore', 'pipe', 'inherit'] });
  bench.stops.push(async () => child.kill('SIGKILL'));
  os.setPriority(child.pid, 10);
  let text = '';
  child.stdout.on('data', (data) => { text += data; });
  let isOver = false;
  const ended = new Promise((resolve) => child.on('close', () => { isOver = true; resolve(); }));
  await L.until(`the attack ${options.kind}`, () => /^ready$/m.test(text) || isOver, 60000);
  await whileUnderWay(() => isOver);
  await ended;
  return JSON.parse(text.replace('ready\n', ''));
}

// leads: the names of those that are stored, when it is over.
async function underAttack(bench, t, { settings, attacks, leads }) {
  // The longest deadline: how long a disk that others use as well takes to sync is no matter of this test.
  bench.configure({ threads: THREADS, body_max_bytes: BODY_MAX, request_deadline_ms: 20000, ...settings });
  await bench.startNginx({ main: `worker_rlimit_nofile ${FILES};`, connections: 16384, http: 'client_header_timeout 10s; reset_timedout_connection on;' });
  await bench.startLeadhook();
  const { pid } = bench.leadhook.child;
  const stored = [];
  const sendOne = async (times) => {
    const begun = process.hrtime.bigint();
    const answer = await bench.post(L.lead());
    times.push(Number(process.hrtime.bigint() - begun) / 1e6);
    assert.ok(answer.code === 200 || answer.code === 202, `${answer.code} ${answer.text}`);
    stored.push(answer.json.id);
  };
  for (let i = 0; i < 50; i++) await sendOne([]);
  const idle = memoryOf(pid);
  t.diagnostic(`at rest: RssAnon ${mib(idle.anon)}, RSS ${mib(idle.all)}; bound ${mib(BOUND)}`);
  const most = { anon: 0, all: 0 };
  const look = (peak) => {
    const now = memoryOf(pid);
    for (const each of [peak, most]) for (const name of ['anon', 'all']) each[name] = Math.max(each[name], now[name]);
  };

  for (const { what, ...options } of attacks) {
    const times = [];
    const peak = { anon: 0, all: 0 };
    const timer = setInterval(() => look(peak), 50);
    const counts = await attackWith(bench, options, async (isOver) => { do await sendOne(times); while (!isOver()); });
    clearInterval(timer);
    look(peak);
    times.sort((a, b) => a - b);
    const at = (share) => times[Math.min(times.length - 1, Math.floor(times.length * share))].toFixed(1);
    t.diagnostic(`${what}: ${times.length} good leads, p50 ${at(0.5)} ms, p99 ${at(0.99)} ms; RssAnon up to ${mib(peak.anon)}, RSS ${mib(peak.all)}; ${JSON.stringify(counts)}`);
    // An attack that does not arrive is none.
    const arrived = { slow: 'connected', 'bodies-stranger': '401', 'bodies-key': '200', 'json-key': '400', 'wrong-keys': '401', 'offers-key': '200', fastcgi: 'body-given-up' }[options.kind];
    assert.ok(counts[arrived] > (options.kind === 'slow' ? SLOW_CONNECTIONS / 2 : 1), `${options.kind}: ${JSON.stringify(counts)}`);
  }

  if (!L.isInstrumented) {
    assert.ok(most.anon <= BOUND, `RssAnon ${mib(most.anon)}, bound ${mib(BOUND)}`);
    assert.ok(most.all <= BOUND + (idle.all - idle.anon) + 8 * MIB, `RSS ${mib(most.all)}`); // the programs' and the database's pages
    // What the attacks took goes back.
    let now;
    await L.until('the memory to go back', async () => { await sendOne([]); now = memoryOf(pid); return now.anon <= REST; });
    t.diagnostic(`afterwards: RssAnon ${mib(now.anon)}, RSS ${mib(now.all)}`);
  }
  const rows = new Set(await leads());
  assert.deepStrictEqual(stored.filter((id) => !rows.has(id)), [], 'every lead that was answered is there');
}

test('under attack every lead of an honest sender is taken, within the bound on memory', async (t) => {
  const bench = new L.Bench(t);
  const leads = async () => bench.sqlite("SELECT DeliveryId FROM leads WHERE Company = 'Example'").map((row) => row.DeliveryId);
  await underAttack(bench, t, { settings: {}, attacks: ATTACKS, leads });
});

test('the same with the leads in a table, whose batches take memory of their own', async (t) => {
  const bench = new L.Bench(t);
  bench.table = await L.startFakeTable(bench);
  const settings = { store: 'table', table_connection_file: bench.write('connection', L.connectionString(bench.table.port)) };
  const leads = async () => {
    const ids = [];
    const queryOptions = { filter: "PartitionKey eq 'contoso.contoso-app'", select: ['DeliveryId'] };
    for await (const row of L.tableClient(bench.table.port, 'MarketplaceLeads').listEntities({ queryOptions })) ids.push(row.DeliveryId);
    return ids;
  };
  await underAttack(bench, t, { settings, attacks: ATTACKS.filter(({ kind }) => ['bodies-key', 'json-key'].includes(kind)), leads });
});
