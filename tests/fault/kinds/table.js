// What the Table service does wrong.  Leads come in before, during and after; those that were refused are sent again.
'use strict';

const { TABLE, pause } = require('../trial.js');
const L = require('../../system/lib.js');

// A final reply is waited for six seconds: no mail is in doubt here, however busy this machine is.
const HURRY = 100;
const LEADS = '"Payload"'; // only in transactions that insert leads
const DEADLINE_MS = 500;   // see Host.start

const start = (t, options) => t.start({ store: 'table', hurry: HURRY, ...options });

// The tables are there, then the fault is, for as long as two rounds of senders take (or for its own number of times).
async function meet(t, rules) {
  const old = t.leads(2);
  await start(t);
  await t.post(old);
  await t.table.fault(...rules);
  const first = await t.post(t.leads(10), old);
  await t.post(first.filter((answer) => answer.code !== 200).slice(0, 4));
  // Leads that share a transaction make fewer requests than the rule lets pass, and a machine that is too busy opens the
  // breaker before: some more, one after the other.
  await L.until('the fault', async () => (await t.table.hits()).at(-1) || (await t.post(t.leads(1)), false));
  await t.table.fault();
  await t.post(first.filter((answer) => answer.code >= 300), t.leads(2));
}

// A kind whose variants are lists of rules.
const kind = (name, variants, options) => ({
  name: `table-${name}`, variants: variants.length, share: variants.length, ...options,
  trial: (t, number) => meet(t, [variants[number % variants.length]].flat()),
});

// Every time, the first time only, and the third.
const times = (...rules) => rules.flatMap((rule) => [rule, { ...rule, times: 1 }, { ...rule, skip: 2, times: 1 }]);
const doneOrNot = (...rules) => rules.flatMap((rule) => [rule, { ...rule, done: true }]);
const writes = (rule) => ({ on: 'write', ...rule });

const INNER = [
  { status: 400, code: 'InvalidInput' }, { status: 400, code: 'PropertyValueTooLarge' }, { status: 404, code: 'TableNotFound' },
  { status: 404, code: 'ResourceNotFound' }, { status: 409, code: 'EntityAlreadyExists' }, { status: 412, code: 'UpdateConditionNotSatisfied' },
  { status: 413, code: 'RequestBodyTooLarge' }, { status: 500, code: 'OperationTimedOut' }, { status: 503, code: 'ServerBusy' },
];

// Each lead is two operations, the second its mail: that this one is there and the lead is not is what a service can
// only say against the truth.
const INNER_AT = [0, 1, 2, 3].flatMap((index) => INNER.filter(({ status }) => status !== 409 || index % 2 === 0).map((error) => ({ index, ...error })));

// Leads meet in one transaction while others keep all connections to the service busy.
async function meetInside(t, error) {
  const CONNECTIONS = 4;
  await start(t, { processes: 1, settings: { threads: 32, request_deadline_ms: 5000 } });
  await t.post(t.leads(1));
  await t.table.fault({ on: 'batch', do: 'slow', ms: 500, contains: LEADS, times: CONNECTIONS },
    { on: 'batch', do: 'inner', ...error, contains: LEADS, times: 1 });
  const busy = [];
  for (let i = 1; i <= CONNECTIONS; i++) {
    busy.push(t.post(t.leads(1)));
    await L.until('a busy connection', async () => (await t.table.hits())[0] === i);
  }
  await Promise.all([t.post(t.leads(6)), ...busy]);
  if (!(await t.table.hits())[1]) throw new Error('the fault was never met');
  await t.post(t.answers.filter((answer) => answer.code >= 300), t.leads(2));
}

module.exports = [
  {
    name: 'table-refused', variants: 2, share: 2,
    async trial(t, number) {
      await start(t);
      if (number % 2) await t.post(t.leads(2)); // else the tables are still to be made
      await t.table.kill();
      const during = await t.post(t.leads(8));
      await t.table.start();
      await t.post(during.filter((answer) => answer.code !== 200).slice(0, 4), t.leads(2));
    },
  },
  {
    name: 'table-freezes', variants: 1,
    async trial(t) {
      await start(t);
      await t.post(t.leads(2));
      t.table.freeze();
      const during = await t.post(t.leads(8));
      t.table.thaw();
      await t.post(during.filter((answer) => answer.code !== 200), t.leads(2));
    },
  },
  {
    name: 'table-missing', variants: 4, share: 2, // both, one of them, or none was ever there
    async trial(t, number) {
      await start(t);
      if (number % 4) await t.post(t.leads(2));
      await t.recovered();
      const gone = [[], [TABLE, `${TABLE}Ops`], [TABLE], [`${TABLE}Ops`]][number % 4];
      for (const table of gone) await L.tableClient(t.table.port, table).deleteTable();
      if (gone.includes(TABLE)) {
        t.answers.length = 0;
        t.smtp.mails.length = 0;
      }
      await t.post(t.leads(8));
    },
  },
  kind('hangs', [...times(...doneOrNot(writes({ do: 'hang' }))), { do: 'hang', on: 'read' }, { do: 'hang', on: 'read', times: 1 }]),
  kind('drops', times(...doneOrNot(writes({ do: 'drop' })), { do: 'drop' })),
  kind('403', [{ do: 'answer', status: 403, code: 'AuthenticationFailed' }, { do: 'answer', status: 403, code: 'AuthorizationFailure', times: 1 },
    writes({ do: 'answer', status: 403, code: 'AuthorizationPermissionMismatch' }), { do: 'answer', status: 403, code: 'AuthorizationFailure', contains: LEADS }]),
  kind('500', times(...doneOrNot(writes({ do: 'answer', status: 500, code: 'InternalError' })), writes({ do: 'answer', status: 500, code: 'OperationTimedOut', done: true }))),
  kind('503', times(...doneOrNot(writes({ do: 'answer', status: 503, code: 'ServerBusy', retry_after: 1 })))),
  kind('throttles', [writes({ do: 'answer', status: 503, code: 'ServerBusy', pass: 3 }), { do: 'answer', status: 503, code: 'ServerBusy', retry_after: 1, pass: 4 },
    { do: 'answer', status: 429, code: 'TooManyRequests', pass: 2 }]),
  kind('garbage', times(...doneOrNot(writes({ do: 'garbage' }), writes({ do: 'garbage', raw: true })))),
  kind('truncates', [0, 1, 60, 200, 400].flatMap((bytes) => [writes({ do: 'cut', bytes, times: 2 }), writes({ do: 'cut', bytes, length: true, times: 2 })])),
  { name: 'table-inner', variants: INNER_AT.length, share: INNER_AT.length, trial: (t, number) => meetInside(t, INNER_AT[number % INNER_AT.length]) },
  kind('inner-on', INNER.map((error) => ({ on: 'batch', do: 'inner', index: 0, ...error, contains: LEADS }))),
  // What is refused for good may be the mailer's own note on a mail; it then parks that mail for a person to look at.
  kind('inner-on-all', INNER.map((error) => ({ on: 'batch', do: 'inner', index: 0, ...error })), { mayPark: true }),
  {
    name: 'table-late', variants: 3, share: 3, // commits after our deadline
    async trial(t, number) {
      const ms = DEADLINE_MS + [50, 300, 1000][number % 3];
      await meet(t, [writes({ do: 'late', ms, times: 3 })]);
      await pause(ms);
    },
  },
  kind('slow', [writes({ do: 'slow', ms: 200 }), { do: 'slow', ms: 200 }, writes({ do: 'slow', ms: 10000 }), { do: 'late', ms: 10000, times: 2 }]),
];
