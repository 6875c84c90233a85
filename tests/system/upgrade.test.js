// What an older version has written, in older/: rows without the columns that are new.  They are read, mailed and drained.
// make test-upgrade starts such a version beside this one.
'use strict';

const assert = require('node:assert');
const { spawnSync } = require('node:child_process');
const fs = require('node:fs');
const path = require('node:path');
const L = require('./lib.js');

const { test } = L;
const NEW = ['RequestId', 'LastRequestId', 'Origin'];

// Makes the database again from its text.
function restore(bench, name, file) {
  const sql = fs.readFileSync(path.join(__dirname, 'older', name), 'utf8');
  for (const column of NEW) assert.ok(!sql.includes(column), column);
  const made = spawnSync('sqlite3', [bench.file(file)], { input: `PRAGMA journal_mode = WAL;\n${sql}`, encoding: 'utf8' });
  assert.strictEqual(made.status, 0, made.stderr);
  fs.chmodSync(bench.file(file), 0o600);
}

test('a database of an older version: all commands read it, its mail goes out, leads go on', async (t) => {
  const bench = new L.Bench(t);
  bench.configure({ ...bench.mailHere(), mail_per_minute: 6000 });
  restore(bench, 'leads.sql', 'leads.db');
  bench.hurryMails();
  const said = async (...args) => {
    const { status, stdout, stderr } = await bench.leadctl(...args);
    assert.strictEqual(status, 0, `${args}: ${stderr}`);
    return stdout;
  };
  assert.match(await said('show', 'b7278f47'), /ana2@example\.com/);
  assert.strictEqual((await said('list', '-n', '10', '--csv')).trim().split('\n').length, 3);
  assert.match(await said('offers'), /contoso\.another/);
  assert.match(await said('stats'), /\b2\b/);
  assert.match(await said('quarantine', 'list'), /3299dfea[0-9a-f]* .*ends too early/);
  assert.strictEqual((await said('export')).trim().split('\n').length, 2);
  await bench.startNginx();
  await bench.startLeadhook();
  const [mail] = await L.until('the mail that waited', async () => { const mails = await bench.mails(); return mails.length && mails; });
  assert.strictEqual(mail.parsed.messageId, '<lead.b7278f4737049f8b7c1e8a4c5dbcb5e5.1@example.com>');
  assert.strictEqual(mail.parsed.headers.get('x-request-id'), undefined);
  // One that is there comes again, and is counted in its row.
  const row = bench.entities().find((one) => one.Payload && one.Deliveries === 2);
  const answer = await bench.post(row.Payload);
  assert.strictEqual(answer.json.status, 'repeat', answer.text);
  const now = bench.entities().find((one) => one.rowKey === row.rowKey);
  assert.deepStrictEqual([now.Deliveries, now.DeliveryId, now.RequestId], [3, row.DeliveryId, undefined]);
  assert.match(now.LastRequestId, /^[0-9a-f]{32}$/);
  assert.strictEqual((await bench.post(L.lead())).code, 200);
});

test('a spool of an older version is shown, and drained into the table', async (t) => {
  const bench = new L.Bench(t);
  bench.configure(await bench.startTableWithSpool());
  restore(bench, 'spool.sql', 'spool.db');
  const shown = await bench.leadctl('spool', 'list');
  assert.match(shown.stdout, /c32e16b2b4b1b3b1a8c13337561d9a34/, shown.stderr);
  await bench.startNginx();
  await bench.startLeadhook();
  const rows = await L.until('the drain', async () => {
    const all = (await L.rows(bench.azurite.port, 'MarketplaceLeads').catch(() => [])).filter(L.isLead); // leadhook makes it
    return all.length === 2 && bench.spoolRows().every((row) => row.partition_key !== 'spool') && all;
  });
  assert.deepStrictEqual(rows.map((row) => row.DeliveryId.value).sort(), ['1be2701f65fbcbebd98e16801981b83a', 'c32e16b2b4b1b3b1a8c13337561d9a34']);
  await L.until('their mails', async () => (await bench.mails()).filter((mail) => /^<lead\./.test(mail.parsed.messageId)).length === 2);
  assert.doesNotMatch(bench.leadhook.output(), /event=spool-(damaged|row)|leads-lost/);
});
