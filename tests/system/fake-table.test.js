// The test's own Table service, as far as trials with faults rely on it: what it
// answered is there after SIGKILL, and what it is told to do wrong it does.
'use strict';

const assert = require('node:assert');
const L = require('./lib.js');

const { test } = L;
const TABLE = 'Things';
const ONCE = { retryOptions: { maxRetries: 0 } };

async function start(t) {
  const bench = new L.Bench(t);
  const table = await L.startFakeTable(bench);
  const client = () => L.tableClient(table.port, TABLE, ONCE);
  await client().createTable();
  return { bench, table, client };
}
const entity = (row, more = {}) => ({ partitionKey: 'p', rowKey: row, ...more });
const keys = async (table) => (await L.rows(table.port, TABLE)).map((row) => row.rowKey);
// How a request ended: nothing, or the error's status, or its code.
const outcome = (promise) => promise.then(() => undefined, (error) => error.statusCode || error.code || error.message);

test('what was answered is there after SIGKILL: rows of every type, ETags, what was deleted, tables', async (t) => {
  const { table, client } = await start(t);
  await client().createEntity(entity('a', { text: 'Grüße', number: 7, when: { type: 'DateTime', value: '2026-01-02T03:04:05.1234567Z' },
    bytes: { type: 'Binary', value: 'AAEC' }, yes: true, big: { type: 'Int64', value: '9007199254740993' } }));
  await client().submitTransaction([['create', entity('b')], ['create', entity('c')], ['upsert', entity('a', { number: 8 }), 'Merge']]);
  await client().deleteEntity('p', 'c');
  await L.tableClient(table.port, 'Gone').createTable();
  await L.tableClient(table.port, 'Gone').deleteTable();
  const before = await L.rows(table.port, TABLE);
  assert.deepStrictEqual(before.map((row) => row.rowKey), ['a', 'b']);
  await table.kill();
  assert.notStrictEqual(await outcome(client().createEntity(entity('d'))), undefined);
  await table.start();
  assert.deepStrictEqual(await L.rows(table.port, TABLE), before);
  assert.strictEqual(await outcome(client().createEntity(entity('a'))), 409);
  assert.strictEqual(await outcome(L.tableClient(table.port, 'Gone').createEntity(entity('a'))), 404);
});

test('a record of the journal that was cut off counts for nothing, and what follows is kept', async (t) => {
  const { bench, table, client } = await start(t);
  const fs = require('node:fs');
  await client().createEntity(entity('a'));
  const size = fs.statSync(bench.file('table.journal')).size;
  await client().submitTransaction([['create', entity('b')], ['create', entity('c')]]);
  await table.kill();
  fs.truncateSync(bench.file('table.journal'), fs.statSync(bench.file('table.journal')).size - 1);
  await table.start();
  assert.deepStrictEqual(await keys(table), ['a']);
  assert.strictEqual(fs.statSync(bench.file('table.journal')).size, size);
  await client().createEntity(entity('d'));
  await table.kill();
  await table.start();
  assert.deepStrictEqual(await keys(table), ['a', 'd']);
});

test('many rows that come and go in any order are found in the order of their keys', async (t) => {
  const { table, client } = await start(t);
  const number = (i) => (i * 7919) % 2003; // each below 2003 once, in no order
  const names = (wanted) => Array.from({ length: 2003 }, (_, i) => number(i)).filter(wanted).map((n) => `same-beginning-${String(n).padStart(4, '0')}`);
  const inTransactions = async (rows, act) => {
    for (let i = 0; i < rows.length; i += 100) await client().submitTransaction(rows.slice(i, i + 100).map((row) => [act, entity(row)]));
  };
  for (const partition of ['o', 'q']) await client().createEntity({ partitionKey: partition, rowKey: 'alone' });
  await inTransactions(names(() => true), 'create');
  assert.deepStrictEqual(await keys(table), ['alone', ...names(() => true).sort(), 'alone']);
  await inTransactions(names((n) => n > 300 && n < 1200), 'delete');
  await inTransactions(names((n) => n % 5 === 0), 'upsert');
  const left = names((n) => n <= 300 || n >= 1200 || n % 5 === 0).sort();
  assert.deepStrictEqual(await keys(table), ['alone', ...left, 'alone']);
  assert.strictEqual(await outcome(client().createEntity(entity(left[500]))), 409);
  await table.kill();
  await table.start();
  assert.deepStrictEqual(await keys(table), ['alone', ...left, 'alone']);
});

test('rules: which requests, how many, and what becomes of them', async (t) => {
  const { table, client } = await start(t);
  const insert = (row) => outcome(client().createEntity(entity(row)));

  await table.fault({ on: 'write', contains: '"x', skip: 1, times: 1, do: 'answer', status: 503, code: 'ServerBusy', retry_after: 9 });
  assert.deepStrictEqual([await insert('x1'), await insert('y1'), await insert('x2'), await insert('x3')], [undefined, undefined, 503, undefined]);
  assert.deepStrictEqual([await table.hits(), await keys(table)], [[1], ['x1', 'x3', 'y1']]);

  await table.fault({ on: 'read', do: 'drop' }, { do: 'answer', status: 500, done: true, pass: 2 });
  assert.match(String(await outcome(L.rows(table.port, TABLE, ONCE))), /ECONNRESET|hang up|REQUEST_SEND_ERROR/);
  assert.deepStrictEqual([await insert('done'), await insert('passes')], [500, undefined]);
  await table.fault();
  assert.deepStrictEqual(await keys(table), ['done', 'passes', 'x1', 'x3', 'y1']);

  await table.fault({ on: 'batch', do: 'inner', index: 1, status: 412, code: 'UpdateConditionNotSatisfied' });
  assert.strictEqual(await outcome(client().submitTransaction([['create', entity('e')], ['create', entity('f')]])), 412);
  await table.fault({ on: 'batch', do: 'cut', bytes: 40, length: true });
  await outcome(client().submitTransaction([['create', entity('cut')]]));
  await table.fault({ on: 'write', do: 'garbage' });
  await outcome(client().createEntity(entity('garbage')));
  await table.fault();
  assert.deepStrictEqual(await keys(table), ['cut', 'done', 'passes', 'x1', 'x3', 'y1']);

  await assert.rejects(table.fault({ do: 'nonsense' }), /400|InvalidInput/);
});

test('rules that hold back: slow has its effect at once, late has it though the client has gone, hang never', async (t) => {
  const { table, client } = await start(t);
  const soon = (row) => outcome(client().createEntity(entity(row), { requestOptions: { timeout: 50 } }));
  await table.fault({ contains: '"hangs"', do: 'hang' }, { contains: '"slow"', do: 'slow', ms: 60000 }, { contains: '"late"', do: 'late', ms: 300 });
  for (const row of ['hangs', 'slow', 'late']) assert.notStrictEqual(await soon(row), undefined);
  assert.deepStrictEqual(await keys(table), ['slow']);
  await L.until('the late one', async () => (await keys(table)).includes('late'));
  assert.deepStrictEqual(await keys(table), ['late', 'slow']);

  const hanging = outcome(client().createEntity(entity('hangs')));
  await L.until('it to hang', async () => (await table.hits())[0] === 2);
  await table.fault();
  assert.notStrictEqual(await hanging, undefined, 'broken off with the rule');
});
