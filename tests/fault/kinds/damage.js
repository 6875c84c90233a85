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
const FIRST = 200;          // leads, before the first damage: then the log was copied into the database once
const MOST_REFUSED = 0.1;  // of the answers, while the spool is being left
const REPORT_MS = 15000;
const NOTE_BYTES = 69;     // of the ledger, for one arrival (lib/store/ledger.c)
const OPERATOR = 'operator@example.com';

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
  if (!hit.length) return { text: 'none', notes: 0 };
  const file = hit[within(hit.length)];
  const { at, bytes } = DAMAGE[within(DAMAGE.length)](fs.statSync(file).size);
  const fd = fs.openSync(file, 'r+');
  // Not beyond the end: damage makes no file longer.
  const room = Math.max(0, fs.fstatSync(fd).size - at);
  fs.writeSync(fd, crypto.randomBytes(Math.min(bytes, room)), 0, Math.min(bytes, room), at);
  fs.closeSync(fd);
  const written = Math.min(bytes, room);
  return { text: `${file.replace(/.*\//, '')} ${at}+${written}`, notes: file.endsWith('.ledger') ? Math.ceil(written / NOTE_BYTES) + 1 : 0 };
}

// What was reported of lost leads: to whom looks (their ids), in the log (their number), and by mail.
async function reports(t) {
  const { stdout } = await t.host.bench.leadctl('spool');
  return {
    ids: new Set([...stdout.matchAll(/^([0-9a-f]{32}) .* lead$/gm)].map(([, id]) => id)),
    number: Number((/^lost +(\d+) by damage$/m.exec(stdout) || [])[1] || 0),
    logged: [...t.host.log().matchAll(/event=leads-lost count=(\d+)/g)].reduce((sum, [, count]) => sum + Number(count), 0),
    mailed: t.smtp.mails.some((mail) => mail.to.includes(OPERATOR) && /destroyed \d+ leads/.test(mail.parsed.text)),
  };
}

module.exports = [
  {
    name: 'damage',
    variants: 8,
    async trial(t, number) {
      const which = [['rows'], ['log'], ['rows', 'log'], ['rows', 'log', 'ledger']][number % 4];
      const dies = number % 8 >= 4; // and who had the files open is killed: what only memory knew is gone
      await t.start({ processes: 3, settings: { alarm_to: OPERATOR, mail_per_minute: 1 } }); // alarms have no such limit
      await t.table.kill();
      const load = t.load({ senders: SENDERS, most: 1500 });
      await L.until('leads that the log has passed on to the database', () => t.answers.length >= FIRST);
      const done = [];
      for (let i = 0; i < TIMES; i++) {
        const before = t.answers.length;
        await L.until('some more leads', () => t.answers.length >= before + 20 + within(60) && t.answers.filter(good).length > 0);
        done.push(damage(t.host.bench.dir, which));
        await pause(within(30));
        if (dies) t.host.killAll();
      }
      const before = t.answers.length;
      await L.until('leads after the damage', () => t.answers.length >= before + 20);
      await load.stop();
      const refused = t.answers.filter((answer) => answer.code === 503).length;
      await t.host.ready();
      await L.until('leads after the damage', async () => (await t.post(t.leads(3))).every(good));

      // The table is back: all that was not destroyed gets there, and all that was is reported.
      await t.table.start();
      const ids = new Set(t.answers.filter(good).map((answer) => answer.id));
      const end = Date.now() + REPORT_MS;
      let missing, told, found;
      do {
        await pause(200);
        found = await t.look();
        const stored = new Set((await t.rows()).filter(L.isLead).flatMap((row) => [row.DeliveryId, row.LastDeliveryId]));
        missing = [...ids].filter((id) => !stored.has(id));
        told = await reports(t);
      } while (Date.now() < end && (missing.some((id) => !told.ids.has(id)) || told.logged < missing.length || (missing.length && !told.mailed) || found.spooled));

      assert.strictEqual(await t.host.stopWorkers(), 0, 'the stop');
      const verdict = await t.look();
      t.verdict = verdict;
      // One that was killed while it reported does so again: then the log may count some of them twice, or not at all.
      const unreported = missing.filter((id) => !told.ids.has(id));
      const reported = dies ? Math.max(told.logged, told.number) : Math.min(told.logged, told.number);
      // Other kinds look at mails of leads; an alarm whose row was destroyed is raised again, with another text.
      verdict.problems = verdict.problems.filter((problem) => !/^(lost|waits|unmailed|copies: .*<alarm\.)/.test(problem));
      verdict.unmailed = 0;
      // A lead of which damage hit both the row and the note cannot be told.
      const hidden = Math.min(done.reduce((sum, each) => sum + each.notes, 0), Math.max(0, missing.length - reported));
      verdict.lost = Math.max(0, missing.length - reported - hidden);
      verdict.note = `damage (${done.map((each) => each.text).join(', ')}) destroyed ${missing.length} of ${ids.size} acknowledged leads; the log reports ${told.logged}, leadctl spool ${told.number}${hidden ? `, ${hidden} were hidden with their notes` : ''}; ${refused} posts were refused`;
      const problem = (text) => verdict.problems.push(`${text} (${verdict.note})`);
      if (verdict.lost) problem('lost and not reported');
      if (!dies && unreported.length > hidden) problem(`lost and not listed: ${unreported.length}`);
      // Noted as arrived by a process that was killed before it answered: in doubt it is reported.
      for (const id of [...told.ids].filter((each) => !missing.includes(each) && !(dies && !ids.has(each))).slice(0, 5)) problem(`reported as lost, but ${ids.has(id) ? 'stored' : 'never acknowledged'}: ${id}`);
      if (!dies && told.logged > missing.length) problem('the log reports too many');
      if (missing.length > hidden && !told.mailed) problem('the operator has no mail of it');
      if (refused > 10 + MOST_REFUSED * t.answers.length) problem(`${refused} of ${t.answers.length} posts were refused`);
      const crashes = t.host.ends().filter(([how, status]) => (how === 'signal' ? !dies || status !== 9 : status !== 0));
      assert.deepStrictEqual(crashes, [], 'processes that ended by themselves');
    },
  },
];
