// What is killed with SIGKILL while leads come in: workers at any moment and at
// their k-th call, nginx, the Table service, the SMTP server.
'use strict';

const { pause } = require('../trial.js');

const STORES = ['table', 'sqlite'];
const CALM = 100; // a final reply is waited for six seconds: no mail is in doubt however busy this machine is

// Kills several times while senders are at work, and lets it work on for a moment.
async function during(t, kill, { times = 3, senders = 4, most = 40 } = {}) {
  const load = t.load({ senders, most });
  for (let i = 0; i < times; i++) {
    await pause(5 + t.random(60));
    await kill();
  }
  await pause(30);
  await load.stop();
}

// Calls of which each may be a process's last.  `on`: where they happen.
const CALLS = [
  { call: 'send', on: 'table' },     // to the Table service
  { call: 'write', on: 'table' },    // the log; to nginx; to the spool's ledger
  { call: 'pwrite', on: 'sqlite' },  // the database's log
  { call: 'fdatasync', on: 'sqlite' },
  { call: 'linkat', on: 'maildir' }, // a message is in the Maildir from then on
  { call: 'pwrite', on: 'spool' },
  { call: 'fdatasync', on: 'spool' },
  { call: 'write', on: 'spool' },
];
// How many of each there are in a trial where nothing breaks, as soon as one has counted them.
const counted = new Map();

async function postOn(t, on, fault) {
  const settings = on === 'maildir' ? { mail_from: 'leads@example.com', mail_to: 'sales@example.com', mail_per_minute: 6000 } : {};
  await t.start({ store: on === 'sqlite' || on === 'maildir' ? 'sqlite' : 'table', maildir: on === 'maildir', settings, preload: { fault } });
  if (on === 'spool') await t.table.kill();
  t.host.arm();
  await t.post(t.leads(6));
  if (on !== 'spool') await t.settled(5000); // the mails as well
}

// Each of these calls gets its turn: the k-th of a trial, k from 1 to the end.
async function killAtCall(t, number) {
  const { call, on } = CALLS[number % CALLS.length];
  const name = `${call} ${on}`;
  if (!counted.has(name)) {
    counted.set(name, (async () => {
      const control = t.another();
      await postOn(control, on, `${call}:kill:0`);
      const calls = control.host.counted();
      await control.close();
      if (calls === 0) throw new Error(`nothing calls ${name}`);
      return calls;
    })());
  }
  const most = await counted.get(name);
  // Steps of the golden section: few trials are spread over all calls, many meet every one.
  const step = Math.floor(number / CALLS.length);
  const k = 1 + (step < most ? Math.floor(most * ((step * 0.6180339887) % 1)) : (step - most) % most);
  await postOn(t, on, `${call}:kill:${k}`);
  await t.recovered(); // by then the supervisor has seen it, too
  const kills = t.host.ends().filter(([how, what]) => how === 'signal' && what === 9).length;
  // How many calls there are differs from run to run, as leads meet in transactions: it need not come to the k-th.
  if (kills === 0 && k === 1) throw new Error(`the ${k}th ${name} of about ${most} did not happen`);
}

module.exports = [
  {
    name: 'none', // the control: nothing breaks
    variants: 2,
    async trial(t, number) {
      await t.start({ store: STORES[number % 2], hurry: CALM });
      await t.post(t.leads(20));
    },
  },
  {
    name: 'kill-worker', variants: 6, share: 8, mayDuplicateMails: true,
    async trial(t, number) {
      await t.start({ store: STORES[number % 2], processes: 2 + number % 3 });
      await during(t, () => t.host.kill(t.random(2)));
    },
  },
  {
    name: 'kill-workers', variants: 6, share: 8, mayDuplicateMails: true,
    async trial(t, number) {
      await t.start({ store: STORES[number % 2], processes: 1 + number % 4 });
      await during(t, () => t.host.killAll());
    },
  },
  { name: 'kill-at-call', variants: 4 * CALLS.length, share: 30, mayDuplicateMails: true, trial: killAtCall },
  {
    name: 'kill-nginx', variants: 2, share: 2, mayBreakConnections: true,
    async trial(t, number) {
      await t.start({ store: STORES[number % 2], hurry: CALM });
      await during(t, async () => {
        await t.host.killNginx();
        await t.host.startNginx();
      });
    },
  },
  {
    name: 'kill-table', variants: 6, share: 8,
    async trial(t, number) {
      await t.start({ store: 'table', hurry: CALM });
      await during(t, async () => {
        await t.table.kill();
        await pause([0, 100, 800][number % 3]);
        await t.table.start();
      });
    },
  },
  {
    // Its process is this one; what a client sees of a server's death is the end of all its connections.
    name: 'kill-smtp', variants: 4, share: 4, mayDuplicateMails: true,
    async trial(t, number) {
      await t.start({ store: STORES[number % 2] });
      await during(t, async () => {
        await t.smtp.kill();
        await pause([0, 150][(number >> 1) % 2]);
        await t.smtp.start();
      }, { times: 4 });
    },
  },
];
