// The stores' unit tests once more, on the Table service: one suite for both stores.
'use strict';

const assert = require('node:assert');
const { execFile } = require('node:child_process');
const path = require('node:path');
const L = require('./lib.js');

const { test } = L;

for (const [suite, least] of [['test_store', 14], ['test_quarantine', 13], ['test_privacy', 16], ['test_find', 9], ['test_restore', 8]]) {
  test(`${suite} of the sqlite store passes on Azurite`, async (t) => {
    const bench = new L.Bench(t);
    const azurite = await L.startAzurite(bench);
    const output = await new Promise((resolve) => {
      execFile(path.join(L.build, 'tests/unit', suite), {
        env: { ...process.env, TABLE_CONNECTION: L.connectionString(azurite.port), CMOCKA_MESSAGE_OUTPUT: 'TAP' }, timeout: 120000,
      }, (error, stdout, stderr) => resolve({ status: error ? error.code : 0, text: stdout + stderr }));
    });
    const results = output.text.match(/^(not )?ok \d+ - .*$/gm) || [];
    for (const result of results) {
      await t.test(result.replace(/^(not )?ok \d+ - /, ''), () => assert.ok(result.startsWith('ok'), output.text));
    }
    assert.ok(results.length >= least, output.text);
    assert.strictEqual(output.status, 0, output.text);
  });
}
