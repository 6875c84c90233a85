// What a stranger, or a sender with a key, can make grow: each has an end.
'use strict';

const assert = require('node:assert');
const { spawn } = require('node:child_process');
const fs = require('node:fs');
const L = require('./lib.js');

const { test } = L;

const lines = (bench, pattern) => bench.leadhook.output().split('\n').filter((line) => pattern.test(line));
// nginx slows an address down after a few wrong keys: so each comes from one of its own.
const stranger = (n) => ({ key: n % 2 ? `${L.KEY}x` : null, from: `127.0.${1 + (n >> 8)}.${n & 255}` });
const sum = (numbers) => numbers.reduce((total, number) => total + number, 0);

test('refusals of strangers are summed up in the log; leads have their lines', async (t) => {
  const STRANGERS = 400;
  const bench = new L.Bench(t);
  bench.configure();
  await bench.startNginx();
  await bench.startLeadhook();
  const begun = Date.now();
  const answers = [];
  while (answers.length < STRANGERS) {
    const first = answers.length;
    answers.push(...await Promise.all(Array.from({ length: 50 }, (_, i) => bench.post(L.lead(), stranger(first + i)))));
  }
  const good = await Promise.all(Array.from({ length: 30 }, (_, i) => bench.post(L.lead({ Email: `a${i}@example.com` }))));
  const large = await Promise.all(Array.from({ length: 30 }, () => bench.post('x'.repeat(140000))));
  assert.deepStrictEqual(answers.filter((answer) => answer.code !== 401), []);
  assert.deepStrictEqual(good.filter((answer) => answer.code !== 200), []);
  assert.deepStrictEqual(large.filter((answer) => answer.code !== 413), []);
  // The count comes by itself, also when nobody asks any more.
  const counted = () => sum(lines(bench, /event=refused-more/).map((line) => Number(/count=(\d+)/.exec(line)[1])));
  const written = () => lines(bench, /event=refused code=401/).length;
  await L.until('the count', () => written() + counted() === STRANGERS);
  const seconds = Math.ceil((Date.now() - begun) / 1000);
  assert.ok(written() <= 10 * (seconds + 1), `${written()} lines in ${seconds} s`);
  assert.ok(counted() > 0);
  for (const { json } of good) assert.strictEqual(lines(bench, new RegExp(`event=stored .*id=${json.id} `)).length, 1);
  assert.strictEqual(lines(bench, /event=refused code=413 .*key=market/).length, 30, 'what came with a key has its lines');
  const metrics = (await bench.post(undefined, { method: 'GET', path: '/metrics' })).text;
  assert.match(metrics, new RegExp(`^leadhook_requests_total\\{code="401"\\} ${STRANGERS}$`, 'm'));
});

test('what was left out of the log last is told at the end', async (t) => {
  const bench = new L.Bench(t);
  bench.configure();
  await bench.startNginx();
  await bench.startLeadhook();
  await Promise.all(Array.from({ length: 100 }, (_, i) => bench.post(L.lead(), stranger(i))));
  await bench.stopLeadhook();
  const counted = sum(lines(bench, /event=refused-more/).map((line) => Number(/count=(\d+)/.exec(line)[1])));
  assert.strictEqual(counted + lines(bench, /event=refused code=401/).length, 100);
});

test("a sqlite store's log that has grown beside a long reader is cut when the reader has ended", async (t) => {
  const LIMIT = 16 * 1024 * 1024;
  const bench = new L.Bench(t);
  bench.configure();
  await bench.startNginx();
  await bench.startLeadhook();
  const log = () => fs.statSync(`${bench.file('leads.db')}-wal`).size;
  let sent = 0;
  const post = async (count) => {
    const answers = await Promise.all(Array.from({ length: count }, () => bench.post(L.lead({ Description: `${sent++} ${'x'.repeat(60000)}` }))));
    assert.deepStrictEqual(answers.filter((answer) => answer.code !== 200), []);
  };
  await post(1);
  const reader = spawn('sqlite3', [bench.file('leads.db')], { stdio: ['pipe', 'pipe', 'inherit'] });
  const ended = new Promise((resolve) => reader.on('exit', resolve));
  bench.stops.push(async () => { reader.kill(); await ended; });
  reader.stdin.write("BEGIN; SELECT 'reading', count(*) FROM entity;\n");
  await new Promise((resolve) => reader.stdout.once('data', resolve));
  while (log() < 1.25 * LIMIT) await post(20); // no lead is refused for a reader's sake
  reader.stdin.end('COMMIT;\n');
  await ended;
  await L.until('the log to be cut', async () => { await post(20); return log() <= LIMIT; });
  assert.strictEqual(bench.sqlite("SELECT count(*) AS count FROM leads WHERE Description LIKE '% x%'")[0].count, sent);
});
