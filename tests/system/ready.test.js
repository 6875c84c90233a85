// /readyz: 503 exactly when a lead could not be accepted durably.
'use strict';

const assert = require('node:assert');
const { spawnSync } = require('node:child_process');
const L = require('./lib.js');

const { test } = L;

const ready = async (bench) => (await bench.post(undefined, { method: 'GET', path: '/readyz', type: null })).code;

test('sqlite: a disk that takes nothing more, and one that does again', async (t) => {
  const bench = new L.Bench(t);
  bench.configure();
  await bench.startNginx();
  await bench.startLeadhook();
  // A limit on the size of its files: writing to the log fails as it does on a full disk.
  const limit = (bytes) => {
    const set = spawnSync('prlimit', ['--pid', String(bench.leadhook.child.pid), `--fsize=${bytes}:unlimited`], { encoding: 'utf8' });
    assert.strictEqual(set.status, 0, set.stderr);
  };
  assert.deepStrictEqual([await ready(bench), (await bench.post(L.lead())).code], [200, 200]);
  limit(1);
  assert.deepStrictEqual([await ready(bench), (await bench.post(L.lead())).code], [503, 503]);
  limit('unlimited');
  assert.deepStrictEqual([await ready(bench), (await bench.post(L.lead())).code], [200, 200]);
  assert.strictEqual((await bench.list()).length, 2);
});

test('table: credentials that may read and not write, a service that is away, one table of two, and all good', async (t) => {
  const bench = new L.Bench(t);
  bench.configure(await bench.startTable());
  const { azurite, proxy } = bench;
  await bench.startNginx();
  await bench.startLeadhook();
  assert.strictEqual(await ready(bench), 200);
  const forbidden = { status: 403, headers: { 'Content-Type': 'application/json' },
    body: '{"odata.error":{"code":"AuthorizationPermissionMismatch","message":{"value":"no"}}}' };
  proxy.fault = (req) => (req.method === 'GET' ? undefined : forbidden); // Azurite itself does not look at rights in a batch
  assert.deepStrictEqual([await ready(bench), (await bench.post(L.lead())).code], [503, 503]);
  proxy.fault = () => 'drop-before';
  assert.strictEqual(await ready(bench), 503);
  for (const table of ['MarketplaceLeads', 'MarketplaceLeadsOps']) {
    let seen = 0;
    proxy.fault = (req, number, body) => (body.includes(`/${table}(`) ? { n: seen++, ...forbidden } : undefined);
    assert.strictEqual(await ready(bench), 503, table);
    assert.strictEqual(seen, 1, table);
  }
  proxy.fault = () => undefined;
  assert.deepStrictEqual([await ready(bench), (await bench.post(L.lead())).code], [200, 200]);
  assert.strictEqual((await L.rows(azurite.port, 'MarketplaceLeads')).filter((row) => row.partitionKey === 'probe').length, 0, 'no row of its own among the leads');
});
