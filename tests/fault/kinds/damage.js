// Random bytes are written into the spool, its log and its ledger while several processes use it.  Leads may be
// destroyed by that, which is counted on its own: each of them is reported by its number, no other is, and new ones go
// on being accepted.
'use strict';

const assert = require('node:assert');
const crypto = require('node:crypto');
const fs = require('node:fs');
const L = require('../../system/lib.js');
const { pause } = require('../trial.js');

const TIMES = 3;           // damage is done in a trial
const SENDERS = 4;
const MOST_REFUSED = 0.1;  // of the answers, while the spool is being left
const REPORT_MS = 30000;

const good = (answer) => answer.code >= 200 && answer.code < 300;
const within = (limit) => Math.floor(Math.random() * limit);

// What damage looks like: where, and how much.
const DAMAGE = [
  (size) => ({ at: within(size), bytes: 1 + within(64) }),                            // a few bytes anywhere
  (size) => ({ at: 4096 * within(Math.ceil(size / 4096)), bytes: 4096 }),             // a whole page
  () => ({ at: 0, bytes: 100 }),                                                      // the head
  (size) => ({ at: within(size), bytes: Math.min(size, 64 * 1024) }),                 // a long run
  (size) => ({ at: Math.max(0, size - 4096 - within(4096)), bytes: 1 + within(4096) }), // what came last
];

// The files of the spool that are there: generations, their logs; and the ledger.
function files(folder, which) {
  const patterns = { rows: /^spool\.db(\.\d+)?$/, log: /^spool\.db(\.\d+)?-wal$/, ledger: /^spool\.db\.ledger$/ };
  return fs.readdirSync(folder).filter((name) => which.some((each) => patterns[each].test(name))).map((name) => `${folder}/${name}`);
}

function damage(folder, which) {
  const hit = files(folder, which).filter((file) => fs.statSync(file).size > 0);
  if (!hit.length) return false;
  const file = hit[within(hit.length)];
  const { at, bytes } = DAMAGE[within(DAMAGE.length)](fs.statSync(file).size);
  const fd = fs.openSync(file, 'r+');
  // Not beyond the end: damage makes no file longer.
  const room = Math.max(0, fs.fstatSync(fd).size - at);
  fs.writeSync(fd, crypto.randomBytes(Math.min(bytes, room)), 0, Math.min(bytes, room), at);
  fs.closeSync(fd);
  return `${file.replace(/.*\//, '')} ${at}+${Math.min(bytes, room)}`;
}

// The ids of leads that were reported as lost.
async function reported(t) {
  const rows = await t.host.bench.leadctl('spool');
  return new Set(rows.stdout.match(/\b[0-9a-f]{32}\b/g) || []);
}
function counted(t) {
  return [...t.host.log().matchAll(/event=leads-lost count=(\d+)/g)].reduce((sum, [, count]) => sum + Number(count), 0);
}

module.exports = [
  {
    name: 'damage',
    variants: 4,
    async trial(t, number) {
      const which = [['rows'], ['log'], ['rows', 'log'], ['rows', 'log', 'ledger']][number % 4];
      await t.start({ processes: 3, smtp: false });
      await t.table.kill();
      const load = t.load({ senders: SENDERS, most: 800 });
      const done = [];
      for (let i = 0; i < TIMES; i++) {
        const before = t.answers.length;
        await L.until('some more leads', () => t.answers.length >= before + 20 + within(60) && t.answers.filter(good).length > 0);
        done.push(damage(t.host.bench.dir, which));
        await pause(within(30));
      }
      const before = t.answers.length;
      await L.until('leads after the damage', () => t.answers.length >= before + 20);
      await load.stop();
      t.damaged = done;
      const refused = t.answers.filter((answer) => answer.code === 503).length;
      await L.until('leads after the damage', async () => (await t.post(t.leads(3))).every(good));

      // The table is back: all that was not destroyed gets there, and all that was is reported.
      await t.table.start();
      const ids = new Set(t.answers.filter(good).map((answer) => answer.id));
      const end = Date.now() + REPORT_MS;
      let missing, told;
      do {
        await pause(200);
        const stored = new Set((await t.rows()).filter(L.isLead).flatMap((row) => [row.DeliveryId, row.LastDeliveryId]));
        missing = [...ids].filter((id) => !stored.has(id));
        told = await reported(t);
      } while (Date.now() < end && (missing.some((id) => !told.has(id)) || counted(t) < missing.length || !/event=spool-drained/.test(t.host.log())));

      const verdict = await t.judge();
      const unreported = missing.filter((id) => !told.has(id));
      verdict.problems = verdict.problems.filter((problem) => !problem.startsWith('lost'));
      verdict.lost = unreported.length;
      verdict.note = `damage (${done.join(', ')}) destroyed ${missing.length} of ${ids.size} acknowledged leads, ${counted(t)} were reported, ${refused} posts refused`;
      const problem = (text) => verdict.problems.push(`${text} (${verdict.note})`);
      for (const id of unreported) problem(`lost and not reported: ${id}`);
      for (const id of [...told].filter((each) => !missing.includes(each))) problem(`reported as lost, but ${ids.has(id) ? 'stored' : 'never acknowledged'}: ${id}`);
      if (counted(t) !== missing.length) problem('the number reported in the log is another one');
      const alarms = (await t.rows().catch(() => [])).filter((row) => row.partitionKey === 'alarms').map((row) => row.rowKey).join(' ');
      if (missing.length && !alarms.includes('leads-lost')) problem(`no alarm of lost leads, only: ${alarms}`);
      if (refused > 10 + MOST_REFUSED * t.answers.length) problem(`${refused} of ${t.answers.length} posts were refused`);
      const crashes = t.host.ends().filter(([how, status]) => how === 'signal' || status !== 0);
      assert.deepStrictEqual(crashes, [], 'processes that ended by themselves');
    },
  },
];
