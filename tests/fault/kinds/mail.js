// Mail: what an SMTP server may do at every step, and the death of the relay's
// process at every point of a mail row's life.
'use strict';

const fs = require('node:fs');
const L = require('../../system/lib.js');
const { group, pause } = require('../trial.js');

// A mail may be there twice only where the sender could not know that it had arrived.
function judgeCopies(t, parked = 0) {
  const { problems } = t.verdict;
  if (t.verdict.parked !== parked) problems.push(`${t.verdict.parked} mails are parked`);
  for (const [mail, copies] of group(t.smtp.mails, (each) => `${each.parsed.messageId} ${each.to}`)) {
    if (copies.slice(0, -1).some((copy) => copy.acknowledged)) problems.push(`twice: ${mail} was sent again after a 250, ${copies.length} copies`);
  }
}

const events = (host, event) => (host.log().match(new RegExp(`event=${event}( |$)`, 'gm')) || []).length;

// What became of attempts, as the log has it: `wanted` at least so often; and none is parked, and the queue does not
// rest, unless that is wanted.  (On a busy machine a hurried wait may end early: put off, or ambiguous, is allowed.)
function judgeEvents(t, wanted, times) {
  for (const event of ['mail-deferred', 'mail-ambiguous', 'mail-parked', 'mail-paused']) {
    const count = events(t.host, event);
    if (wanted.includes(event) ? count < times : /parked|paused/.test(event) && count > 0) t.verdict.problems.push(`log: ${count} times ${event}`);
  }
}

// The wait for the reply to a message (ten minutes) becomes 4 s or 2 s, so that a busy machine does not end it.
const CALM = { LEADHOOK_TEST_HURRY: '150' };
const HURRIED = { LEADHOOK_TEST_HURRY: '300' };

// --- the SMTP server's faults --------------------------------------------------------------------------------------

const OUTCOMES = { transient: ['mail-deferred'], permanent: ['mail-parked'], configuration: ['mail-paused'], ambiguous: ['mail-ambiguous'], accepted: [] };
const TIMES = 3; // a fault is met so often, then it is over

const row = (outcome, name, faults, more = {}) => ({ outcome, name, faults, ...more });
const BEFORE = ['greeting', 'ehlo', 'starttls', 'auth', 'mail', 'rcpt', 'data'];
const MATRIX = [
  ...BEFORE.map((step) => row('transient', `the connection ends at ${step}`, { [step]: 'drop' })),
  ...BEFORE.map((step) => row('transient', `a hang at ${step}`, { [step]: 'hang' })),
  ...['greeting', 'ehlo', 'mail', 'rcpt', 'data', 'dot'].map((step) => row('transient', `451 at ${step}`, { [step]: { code: 451 } })),
  row('transient', '421 and the end at rcpt', { rcpt: { code: 421, after: 'drop' } }),
  row('transient', '554 at the greeting', { greeting: { code: 554 } }),
  row('transient', '554 at ehlo', { ehlo: { code: 554 } }),
  row('transient', '552 at rcpt', { rcpt: { code: 552 } }),
  row('transient', '454 at the login', { auth: { code: 454 } }),
  row('transient', 'no SMTP at the greeting', { greeting: { say: 'HTTP/1.1 400 Bad Request\r\n\r\n', after: 'drop' } }),
  ...['mail', 'rcpt', 'data', 'dot'].map((step) => row('permanent', `550 at ${step}`, { [step]: { code: 550 } })),
  row('configuration', '454 at starttls', { starttls: { code: 454 } }),
  row('configuration', '554 at starttls', { starttls: { code: 554 } }),
  row('configuration', '535 at the login', { auth: { code: 535 } }),
  row('configuration', '334 at the login', { auth: { say: '334 eyJzdGF0dXMiOiI0MDAifQ==\r\n' } }),
  row('configuration', '530 at mail', { mail: { code: 530 } }),
  row('configuration', 'no login', {}, { offers: { auth: [] } }),
  row('configuration', 'another login', {}, { offers: { auth: ['CRAM-MD5'] } }),
  row('configuration', 'no STARTTLS', {}, { offers: { starttls: false } }),
  row('configuration', 'small keywords', {}, { offers: { lowerCase: true } }), // libcurl before 8.17 cannot read them
  row('configuration', 'the certificate of a stranger', {}, { stranger: true }),
  // A message of this size is handed out at once.
  row('ambiguous', 'the connection ends in the message', { body: 'drop' }),
  row('ambiguous', 'a hang in the message', { body: 'hang' }),
  row('ambiguous', 'the connection ends at the dot', { dot: 'drop' }),
  row('ambiguous', 'a hang at the dot', { dot: 'hang' }),
  row('ambiguous', 'the reply 451 is cut off', { dot: { say: '45', after: 'drop' } }),
  row('ambiguous', 'kept, and no reply', { accepted: 'drop' }),
  row('ambiguous', 'kept, and a hang', { accepted: 'hang' }),
  row('ambiguous', 'kept, and the reply is cut off in its code', { accepted: { say: '25', after: 'drop' } }),
  row('ambiguous', 'kept, and the reply is cut off in its text', { accepted: { say: '250 2.0.0 que', after: 'drop' } }),
  row('ambiguous', 'kept, and the reply is cut off between its lines', { accepted: { say: '250-2.0.0 queued\r\n250', after: 'hang' } }),
  row('accepted', '251 at the dot', { accepted: { say: '251 2.1.5 will forward\r\n' } }),
  row('accepted', 'a 250 of several lines', { accepted: { say: '250-2.0.0 queued\r\n250-as 42\r\n250 thank you\r\n' } }),
  row('accepted', '250, then 421 as for an idle connection', { accepted: { say: '250 2.0.0 queued\r\n421 4.4.2 idle for too long\r\n', after: 'drop' } }),
  row('accepted', '250, and the connection ends', { accepted: { say: '250 2.0.0 queued\r\n', after: 'drop' } }),
  row('accepted', '250, and a hang at QUIT', { accepted: { say: '250 2.0.0 queued\r\n', after: 'hang' } }),
];

// The faults for the first TIMES dialogues that meet them.
function limited(faults) {
  let met = 0;
  const functions = Object.entries(faults).map(([step, fault]) => [step, () => (met++ < TIMES ? fault : undefined)]);
  return { functions: Object.fromEntries(functions), met: () => met };
}

// Parked mails are tried again because a person says so.
async function retry(t) {
  const result = await t.host.bench.leadctl('retry', '--all');
  if (result.status !== 0) throw new Error(`leadctl retry: ${result.stderr}`);
}

async function matrixTrial(t, each) {
  const waits = each.outcome === 'ambiguous' || each.name.includes('hang');
  await t.start({ processes: 2, env: waits ? HURRIED : CALM });
  await L.until('the login at the start', () => events(t.host, 'mail-server-tried') > 0); // it is no attempt
  const { certificate } = t.smtp;
  const offers = { ...t.smtp.offers };
  const { functions, met } = limited(each.faults);
  t.smtp.fault(functions);
  Object.assign(t.smtp.offers, each.offers);
  if (each.stranger) t.smtp.certificate = L.certificate(t.bench);
  await t.post(t.leads(5));
  await L.until(`"${each.name}"`, () => (each.outcome === 'configuration' ? events(t.host, 'mail-paused') : met()) >= TIMES);
  t.smtp.offers = offers;
  t.smtp.certificate = certificate;
  if (each.outcome === 'permanent') {
    await L.until('the parking', () => events(t.host, 'mail-parked') >= TIMES);
    await retry(t);
  }
  await t.recovered();
  await t.judge();
  judgeCopies(t);
  judgeEvents(t, OUTCOMES[each.outcome], TIMES);
  // A configuration error costs one attempt for each pause, however many mails wait.
  if (each.outcome === 'configuration' && t.smtp.connections > 6 + 2 * TIMES) t.verdict.problems.push(`${t.smtp.connections} connections for 5 mails and ${TIMES} errors`);
}

// Mails around 64 KiB, where libcurl's buffer ends.
async function largeTrial(t) {
  const wanted = 65536;
  await t.start({ processes: 2, env: CALM });
  const describe = (length) => [{ Description: 'ä'.repeat(1500) + 'x'.repeat(length) }, { FirstName: 'ö'.repeat(1400), Company: 'ß'.repeat(1400) }];
  const sizes = () => t.smtp.mails.map((mail) => mail.raw.length);
  await t.post(t.leads(1, ...describe(1000)), t.leads(1, ...describe(2000)));
  await L.until('two mails', () => t.smtp.mails.length === 2);
  const [small, large] = sizes().sort((a, b) => a - b);
  const length = 1000 + Math.round(1000 * (wanted - small) / (large - small));
  await t.post([-4, -3, -2, -1, 0, 1, 2, 3, 4].flatMap((more) => t.leads(1, ...describe(length + more))));
  await t.recovered();
  await t.judge();
  judgeCopies(t);
  judgeEvents(t, []);
  if (!sizes().some((size) => size <= wanted && size > wanted - 20) || !sizes().some((size) => size >= wanted && size < wanted + 20)) {
    t.verdict.problems.push(`the sizes are ${sizes()}`);
  }
}

// Each attempt is kept and not acknowledged: three copies, then a person has to look.
async function neverAcknowledgedTrial(t) {
  await t.start({ processes: 2, env: HURRIED });
  t.smtp.fault({ accepted: 'drop' });
  const [first] = t.leads(1);
  await t.post(first);
  await L.until('the first copy', () => t.smtp.mails.length === 1);
  // The same person once more: a mail written now would speak of that as well, its copies must not.
  await t.post(t.leads(1, {}, { Email: first.email.toUpperCase() }));
  await L.until('the parking', () => events(t.host, 'mail-parked') === 2);
  await t.recovered();
  await t.judge();
  judgeCopies(t, 2);
  judgeEvents(t, ['mail-ambiguous', 'mail-parked'], 2);
  if (t.smtp.mails.length !== 6) t.verdict.problems.push(`${t.smtp.mails.length} copies of 2 mails`);
}

// One recipient's server defers; the other has its mail at once.
async function twoRecipientsTrial(t) {
  await t.start({ processes: 2, env: CALM, settings: { mail_to: 'sales@example.com, later@example.com' } });
  let deferred = 0;
  t.smtp.fault({ rcpt: (address) => (address.startsWith('later') && deferred++ < TIMES ? { code: 450 } : undefined) });
  await t.post(t.leads(5));
  await L.until('the deferring', () => deferred >= TIMES);
  await t.recovered();
  await t.judge();
  judgeCopies(t);
  judgeEvents(t, ['mail-deferred'], TIMES);
}

const SPECIAL = [largeTrial, neverAcknowledgedTrial, twoRecipientsTrial];

// --- the relay's process dies --------------------------------------------------------------------------------------

// The process that holds the relay lock, once there is one.
async function relayOf(host) {
  const { ino } = fs.statSync(host.file('relay.lock'));
  return L.until('a relay', () => {
    for (const line of fs.readFileSync('/proc/locks', 'utf8').split('\n')) {
      const [, kind, , , pid, file] = line.trim().split(/\s+/);
      if (kind === 'FLOCK' && file.endsWith(`:${ino}`) && [...host.pids().values()].includes(Number(pid))) return Number(pid);
    }
    return undefined;
  });
}

// Where it dies: at a step of the SMTP dialogue, or at a write to the table, which does not happen (`before`) or has
// happened (`behind`) and is not answered.  doubt: the successor cannot know whether the mail has gone out.
const POINTS = [
  { name: 'waiting', table: 'claimed', when: 'before' },
  { name: 'claimed, not answered', table: 'claimed', when: 'behind' },
  ...['greeting', 'ehlo', 'starttls', 'auth', 'mail', 'rcpt', 'data'].map((step) => ({ name: `claimed, at ${step}`, smtp: step })),
  { name: 'before the mark', table: 'sending', when: 'before' },
  { name: 'marked, not answered', table: 'sending', when: 'behind', doubt: true },
  { name: 'all bytes sent', smtp: 'dot', doubt: true },
  { name: 'taken, no reply', smtp: 'accepted', doubt: true },
  { name: 'taken, the reply is not read', smtp: 'accepted', unread: true, doubt: true },
  { name: 'told, not recorded', table: 'gone', when: 'before', doubt: true },
  { name: 'recorded, not answered', table: 'gone', when: 'behind' },
];
const WRITES = {
  claimed: (body) => body.includes('"State":"claimed"'),
  sending: (body) => body.includes('"State":"sending"'),
  gone: (body) => /^DELETE [^\r\n]*~mail-/m.test(body),
};

async function killTrial(t, number) {
  const point = POINTS[number % POINTS.length];
  const round = Math.floor(number / POINTS.length);
  const store = point.smtp && round % 2 ? 'sqlite' : 'table';
  let kills = 1 + round % 2; // then the successor's turn
  await t.start({ store, proxy: store === 'table', processes: 1 + (number + round) % 4, env: HURRIED });

  const kill = async (signal = 'SIGKILL') => process.kill(await relayOf(t.host), signal);
  const mailTold = () => { if (point.doubt && t.smtp.mails.length) t.smtp.mails[t.smtp.mails.length - 1].acknowledged = false; };
  if (point.smtp) {
    t.smtp.fault({ [point.smtp]: async () => {
      if (kills-- <= 0) return undefined;
      if (!point.unread) {
        await kill();
        return 'drop';
      }
      await kill('SIGSTOP');
      return { say: '250 2.0.0 queued\r\n', after: async () => { await kill(); mailTold(); } };
    } });
  } else {
    t.proxy.fault = async (req, requests, body) => {
      if (!WRITES[point.table](body) || kills-- <= 0) return undefined;
      const die = async () => { await kill(); mailTold(); };
      if (point.when === 'behind') return { done: die };
      await die();
      return 'drop-before';
    };
  }
  await t.post(t.leads(6));
  await L.until(`a death at "${point.name}"`, () => kills <= 0);
  await t.recovered();
  await t.judge();
  judgeCopies(t);
  const doubts = (t.host.log().match(/event=mail-ambiguous .*the sender ended before it knew the outcome/g) || []).length;
  if ((doubts > 0) !== Boolean(point.doubt)) t.verdict.problems.push(`log: ${doubts} times mail-ambiguous after a death`);
}

// --- two relays at one mail ----------------------------------------------------------------------------------------

// The replies of one dialogue are held until the other is over.
const PATIENT = { LEADHOOK_TEST_HURRY: '100' };

// The first dialogue stands still at rcpt until another relay has sent the mail, and goes on before that one has its
// 250: exactly one of them may send.
async function rivalTrial(t, prepare) {
  await t.start({ processes: 2, env: PATIENT });
  const rival = await prepare(t);
  let first, overtaken, over, isOver;
  const overtaking = new Promise((resolve) => { overtaken = resolve; });
  const end = new Promise((resolve) => { over = () => { isOver = true; resolve(); }; });
  t.smtp.fault({
    rcpt: async (address, session) => {
      if (first) return undefined;
      first = session;
      await rival.begin();
      await overtaking;
      rival.end();
      session.wire.closed.then(() => pause(1000)).then(over); // it may try again now
      return undefined;
    },
    accepted: async (mail, session) => {
      if (session === first || !mail.text.includes(id)) return undefined;
      overtaken();
      await end;
      return undefined;
    },
  });
  const [{ id }] = await t.post(t.leads(1));
  await L.until('the end of the first dialogue', () => isOver);
  await t.recovered();
  await t.judge();
  judgeCopies(t);
}

const RIVALS = [
  // A host that stood still for longer than its claim holds, as a suspended virtual machine does.
  async (t) => {
    const other = await t.addHost({ processes: 1, env: PATIENT });
    let pid;
    return {
      async begin() {
        pid = await relayOf(t.host);
        process.kill(pid, 'SIGSTOP');
        await t.postTo(other, t.leads(1)[0]); // wakes the other's relay
      },
      end() { process.kill(pid, 'SIGCONT'); },
    };
  },
  // Someone has removed the lock of a relay that works.
  async (t) => ({
    async begin() { fs.unlinkSync(t.host.file('relay.lock')); },
    end() {},
  }),
];

// A mail that one host is sending stays its own, whatever another host's clock says and whatever that one has to send
// itself: the claim is enough, and the fence has nothing to find.
async function neighbourTrial(t) {
  const env = { LEADHOOK_TEST_HURRY: '50' };
  await t.start({ processes: 1, env });
  const other = await t.addHost({ processes: 1, env: { ...env, LEADHOOK_TEST_CLOCK_OFFSET_MS: String(30 * 60000) } });
  let over, held;
  const end = new Promise((resolve) => { over = resolve; });
  t.smtp.fault({
    rcpt: async () => {
      if (held) return undefined;
      held = true;
      // By the mail of the second one it has gone through all that waited beside the first.
      for (let i = 0; i < 2; i++) {
        const { id } = await t.postTo(other, t.leads(1)[0]);
        await L.until('a mail of the other host', () => t.smtp.mails.some(({ text }) => text.includes(id)));
      }
      over();
      return undefined;
    },
  });
  await t.post(t.leads(1));
  await end;
  await t.recovered();
  await t.judge();
  judgeCopies(t);
  for (const host of t.hosts) {
    if (events(host, 'mail-fence-failed')) t.verdict.problems.push(`log: ${host.name} had a mail taken from it`);
  }
}
const RIVAL_TRIALS = [...RIVALS.map((prepare) => (t) => rivalTrial(t, prepare)), neighbourTrial];

module.exports = [
  {
    name: 'smtp', variants: MATRIX.length + SPECIAL.length, share: 2, mayDuplicateMails: true, mayPark: true,
    trial: (t, number) => {
      const variant = number % (MATRIX.length + SPECIAL.length);
      return variant < MATRIX.length ? matrixTrial(t, MATRIX[variant]) : SPECIAL[variant - MATRIX.length](t);
    },
  },
  { name: 'relay-kill', variants: POINTS.length, mayDuplicateMails: true, trial: killTrial },
  { name: 'relay-rival', variants: RIVAL_TRIALS.length, share: 0.3, trial: (t, number) => RIVAL_TRIALS[number % RIVAL_TRIALS.length](t) },
];
