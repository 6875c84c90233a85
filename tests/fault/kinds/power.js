// The power fails at a random moment while leads are posted: what had been submitted to the disk is there afterwards,
// what the kernel still kept is not.  A kill loses nothing of what was written, so only this finds a missing fsync.
//
// The control runs the same with fsync switched off and must lose leads; if it does not, the method is broken.
'use strict';

const assert = require('node:assert');
const fs = require('node:fs');
const L = require('../../system/lib.js');
const { Volume, sweep } = require('../volume.js');
const { pause } = require('../trial.js');

const SENDERS = 6;
const MOST_ANSWERS = 120; // before the cut

// All threads of the process stand still: none is inside a system call any more.
function isStopped(pid) {
  return fs.readdirSync(`/proc/${pid}/task`).every((task) => /^State:\s+T/m.test(fs.readFileSync(`/proc/${pid}/task/${task}/status`, 'utf8')));
}
const isGone = (pid) => !fs.existsSync(`/proc/${pid}`);
const acked = (t) => t.answers.filter((answer) => answer.code >= 200 && answer.code < 300).length;

// Posts until some number of leads is acknowledged, cuts the power, and starts again on what the disk held.
// draining: the table is back before the cut, so that rows are also being taken out.
async function cut(t, store, { draining = false, env = {} } = {}) {
  sweep();
  const volume = new Volume({ mib: 48 });
  t.after(async () => volume.remove());
  const place = store === 'sqlite' ? { store: `sqlite:${volume.file('leads.db')}` } : { spool: volume.file('spool.db') };
  // Mail is left out: one that was sent and not yet recorded goes out again, which other kinds count.
  await t.start({ store, processes: 3, smtp: false, settings: place, env });
  if (store === 'table') await t.table.kill();

  const load = t.load({ senders: SENDERS, most: 10000 });
  const enough = 1 + Math.floor(Math.random() * MOST_ANSWERS);
  await L.until(`${enough} acknowledged leads`, () => acked(t) >= enough);
  if (draining) {
    await t.table.start();
    await L.until('the drain to begin', async () => await t.table.count() > 0);
  }
  await pause(Math.random() * 20);
  const pids = t.host.killAll('SIGSTOP');
  await L.until('the processes to stand still', () => pids.every(isStopped));
  const copy = volume.snapshot();
  const { supervisor } = t.host;
  supervisor.child.kill('SIGKILL'); // its children end with it
  await supervisor.ended;
  await L.until('the end of the processes', () => pids.every(isGone));
  await load.stop();
  volume.revert(copy);
  t.host.options.env = {};
  await t.host.startWorkers();
}

module.exports = [
  {
    name: 'power-spool',
    variants: 4,
    async trial(t, number) { await cut(t, 'table', { draining: number % 2 === 1 }); },
  },
  {
    name: 'power-sqlite',
    variants: 3,
    async trial(t) { await cut(t, 'sqlite'); },
  },
  {
    name: 'power-control', // without fsync: counted as passed when leads are lost
    variants: 2,
    share: 0.5,
    async trial(t, number) {
      await cut(t, ['table', 'sqlite'][number % 2], { env: { LD_PRELOAD: 'libeatmydata.so' } });
      const { acked: all, lost } = await t.recovered({ limit: 3000 });
      assert.ok(lost > 0, `without fsync all of ${all} acknowledged leads survived: the trials of power cuts show nothing`);
      await t.host.stopWorkers();
      t.verdict = { acked: 0, lost: 0, problems: [], note: `without fsync ${lost} of ${all} acknowledged leads are lost, as they must be` };
    },
  },
];
