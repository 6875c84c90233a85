// make fault: runs the trials of all kinds and counts what was lost and what
// there was twice.  Environment:
//
//   TRIALS=N      trials in all, shared among the kinds by their weight; each runs at least once in every
//                 variant unless N is given and too small for that
//   KINDS=a,b     only these kinds (a name, or its beginning with a star: table-*)
//   TRIAL=k       only number k of each of them
//   JOBS=N        trials at the same time (default: 6)
//
// Prints one line per kind: kind trials acked lost duplicate_rows duplicate_mails unmailed seconds, then their sum, and
// "N passed, M failed" by kinds.
'use strict';

const { fork } = require('node:child_process');
const fs = require('node:fs');
const path = require('node:path');
const { Trial } = require('./trial.js');

const COUNTED = ['acked', 'lost', 'duplicate_rows', 'duplicate_mails', 'unmailed'];
const TRIAL_MS = 120000;

function allKinds() {
  const folder = path.join(__dirname, 'kinds');
  const kinds = fs.readdirSync(folder).filter((name) => name.endsWith('.js')).sort().flatMap((name) => require(path.join(folder, name)));
  const twice = kinds.map((kind) => kind.name).find((name, index, names) => names.indexOf(name) !== index);
  if (twice) throw new Error(`two kinds are called ${twice}`);
  return kinds;
}

function chosen(kinds, patterns) {
  if (!patterns) return kinds;
  const list = patterns.split(',');
  for (const pattern of list) {
    if (!kinds.some((kind) => matches(kind.name, pattern))) throw new Error(`no kind is called ${pattern}; there are: ${kinds.map((kind) => kind.name).join(' ')}`);
  }
  return kinds.filter((kind) => list.some((pattern) => matches(kind.name, pattern)));
}
const matches = (name, pattern) => (pattern.endsWith('*') ? name.startsWith(pattern.slice(0, -1)) : name === pattern);

// How many trials of each kind.
function plan(kinds, total) {
  const shares = kinds.reduce((sum, kind) => sum + (kind.share || 1), 0);
  return kinds.map((kind) => ({ kind, trials: total ? Math.max(1, Math.round(total * (kind.share || 1) / shares)) : (kind.variants || 1) }));
}

async function runTrial(kind, number) {
  const t = new Trial(kind.name, number);
  Object.assign(t, { mayBreakConnections: kind.mayBreakConnections });
  let error;
  let limit;
  try {
    const whole = (async () => {
      await kind.trial(t, number);
      if (!t.verdict) await t.recovered();
      if (!t.verdict) await t.judge();
    })();
    const late = new Promise((resolve, reject) => { limit = setTimeout(() => reject(new Error(`not over after ${TRIAL_MS} ms`)), kind.limit || TRIAL_MS); });
    await Promise.race([whole, late]);
  } catch (each) {
    error = each;
  }
  clearTimeout(limit);
  const verdict = t.verdict || { problems: [] };
  const problems = verdict.problems.filter((each) => !(kind.mayDuplicateMails && each.startsWith('duplicate mail')));
  if (verdict.parked && !kind.mayPark) problems.push(`parked: ${verdict.parked} mails`);
  if (error) problems.push(`error: ${error.stack}`);
  const folders = t.folders();
  await t.close({ keep: problems.length > 0 }).catch((each) => problems.push(`close: ${each.stack}`));
  if (problems.length) {
    console.log(`FAILED ${kind.name} ${number} (repeat it with TRIAL=${number} KINDS=${kind.name}), kept in ${folders.join(' ')}`);
    for (const problem of problems.slice(0, 20)) console.log(`  ${problem}`);
    if (problems.length > 20) console.log(`  and ${problems.length - 20} more`);
  }
  if (verdict.note) console.log(`${kind.name} ${number}: ${verdict.note}`);
  return { ...verdict, failed: problems.length > 0 };
}

// --- a process that makes trials, one after the other: the SMTP server in it then has nobody to wait for

function serveTrials() {
  const kinds = allKinds();
  process.on('disconnect', () => process.exit(0));
  process.on('message', async ({ name, number }) => {
    process.send(await runTrial(kinds.find((kind) => kind.name === name), number));
  });
}

class TrialProcess {
  constructor() { this.start(); }
  start() {
    this.child = fork(__filename, ['--trials']);
    this.child.on('message', (result) => this.resolve(result));
    this.child.on('exit', (code, signal) => {
      if (!this.resolve) return;
      console.log(`FAILED ${this.name} ${this.number}: its process ended with ${signal || code}`);
      this.start();
      this.resolve({ failed: true });
    });
  }
  run(kind, number) {
    this.name = kind.name;
    this.number = number;
    return new Promise((resolve) => {
      this.resolve = resolve;
      this.child.send({ name: kind.name, number });
    }).finally(() => { this.resolve = undefined; });
  }
  stop() { this.child.disconnect(); }
}

async function main() {
  const kinds = chosen(allKinds(), process.env.KINDS);
  const trials = plan(kinds, Number(process.env.TRIALS || 0)).flatMap(({ kind, trials: count }) =>
    (process.env.TRIAL ? [Number(process.env.TRIAL)] : Array.from({ length: count }, (_, number) => number)).map((number) => ({ kind, number })));
  const sums = new Map(kinds.map((kind) => [kind.name, { trials: 0, failed: 0, seconds: 0, ...Object.fromEntries(COUNTED.map((name) => [name, 0])) }]));
  const queue = trials.filter(({ kind }) => !kind.alone);
  const alone = trials.filter(({ kind }) => kind.alone);
  const begin = Date.now();

  const count = async (maker, { kind, number }) => {
    const start = Date.now();
    const result = await maker.run(kind, number);
    const sum = sums.get(kind.name);
    sum.seconds += (Date.now() - start) / 1000;
    sum.trials++;
    sum.failed += result.failed;
    for (const name of COUNTED) sum[name] += result[name] || 0;
  };
  const makers = Array.from({ length: Math.max(1, Math.min(trials.length, Number(process.env.JOBS || 6))) }, () => new TrialProcess());
  await Promise.all(makers.map(async (maker) => { while (queue.length) await count(maker, queue.shift()); }));
  for (const each of alone) await count(makers[0], each);
  for (const maker of makers) maker.stop();

  const total = { trials: 0, ...Object.fromEntries(COUNTED.map((name) => [name, 0])), seconds: 0 };
  for (const sum of sums.values()) for (const name of Object.keys(total)) total[name] += sum[name];
  const table = [['kind', ...Object.keys(total)], ...[...sums, ['all', total]].map(([name, sum]) => [name, ...Object.keys(total).map((each) => String(Math.round(sum[each])))])];
  const widths = table[0].map((_, column) => Math.max(...table.map((line) => line[column].length)));
  for (const line of table) console.log(line.map((cell, column) => (column ? cell.padStart(widths[column]) : cell.padEnd(widths[column]))).join('  '));
  const failed = [...sums.values()].filter((sum) => sum.failed).length;
  console.log(`${Math.round((Date.now() - begin) / 1000)} s`);
  console.log(`${sums.size - failed} passed, ${failed} failed`);
  return failed ? 1 : 0;
}

if (process.argv[2] === '--trials') {
  serveTrials();
  return;
}
// A connection that a broken trial left open must not keep the run from ending.
main().catch((error) => {
  console.error(error.stack);
  console.log('0 passed, 1 failed');
  return 1;
}).then((status) => process.exit(status));
