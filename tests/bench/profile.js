// make profile: where leadhook's time goes.  For each store, under the load of 32 connections:
//
//   who uses the processors, and the libraries and functions that leadhook's samples fall into (perf)
//   system calls per lead (strace), context switches per lead (/proc)
//   instructions per lead, and the functions most of them are in, themselves and with what they call (callgrind)
//
// Environment:
//
//   SECONDS=N     of each load (default: 5)
//   STORES=a,b    table or sqlite (default: both)
//
// perf's and callgrind's own files stay in build/bench/ for a closer look.
'use strict';

const { spawnSync } = require('node:child_process');
const fs = require('node:fs');
const path = require('node:path');
const L = require('../system/lib.js');
const { start, disk } = require('./servers.js');
const { turn } = require('./load.js');
const { instructionsPerLead } = require('./instructions.js');

const SECONDS = Number(process.env.SECONDS || 5);
const WARM_SECONDS = 1;
const SAMPLES_PER_SECOND = 997;
const LINES = 40;
const output = path.join(L.top, 'build/bench');

// The standard output of a program that has ended well.
function outputOf(program, args) {
  const made = spawnSync(program, args, { encoding: 'utf8', maxBuffer: 1 << 28 });
  if (made.status !== 0) throw new Error(`${program}: ${made.stderr}`);
  return made.stdout;
}

function show(title, lines) {
  console.log(`\n${title}`);
  for (const line of lines.slice(0, LINES)) console.log(line.slice(0, 130));
}

function report(title, data, ...args) {
  const text = outputOf('perf', ['report', '-i', data, '--stdio', '-q', ...args]);
  show(title, text.split('\n').map((line) => line.replace(/(\s+-)*\s*$/, '')).filter(Boolean));
}

// Times that a thread of the process gave the processor up (waiting) or lost it, in all.
function contextSwitches(pid) {
  let sum = 0;
  for (const thread of fs.readdirSync(`/proc/${pid}/task`)) {
    const status = fs.readFileSync(`/proc/${pid}/task/${thread}/status`, 'utf8');
    for (const [, count] of status.matchAll(/^(?:non)?voluntary_ctxt_switches:\s+(\d+)/gm)) sum += Number(count);
  }
  return sum;
}

// A turn with a program that watches meanwhile; gives the turn and its leads.
async function watched(competitor, condition, file, args) {
  const program = new L.Program(file, file, args, { log: competitor.bench.file(`${file}.log`) });
  const result = await turn(competitor, condition, SECONDS);
  program.child.kill('SIGINT');
  await program.ended;
  return { ...result, leads: result.rate * SECONDS, output: program.output() };
}

async function sample(kind) {
  const condition = { connections: 32 };
  const everybody = path.join(output, `perf.${kind}.all`);
  const data = path.join(output, `perf.${kind}`);
  const record = ['record', '-q', '-e', 'cpu-clock', '-F', String(SAMPLES_PER_SECOND), '-o'];
  const competitor = await start(kind, condition);
  try {
    const { pid } = competitor.program.child;
    await turn(competitor, condition, WARM_SECONDS);
    await watched(competitor, condition, 'perf', [...record, everybody, '-a']);
    const before = contextSwitches(pid);
    const { rate, cpu, leads } = await watched(competitor, condition, 'perf', [...record, data, '-p', String(pid)]);
    const switches = (contextSwitches(pid) - before) / leads;
    console.log(`\n=== ${kind}: ${rate.toFixed(0)} leads/s, ${cpu.toFixed(0)} us of processor time and ${switches.toFixed(1)} context switches per lead`);
    report('The machine, by program', everybody, '--sort', 'comm', '--percent-limit', '1');
    report('leadhook, by library', data, '--sort', 'dso', '--percent-limit', '0.5');
    report('leadhook, by function', data, '--sort', 'dso,symbol', '--percent-limit', '0.5');
    const traced = await watched(competitor, condition, 'strace', ['-f', '-c', '-p', String(pid)]);
    const calls = [...traced.output.matchAll(/^ *[\d.]+ +[\d.]+ +\d+ +(\d+) (?: *\d+ )? *(\w+)$/gm)].filter(([, , name]) => name !== 'total')
      .map(([, count, name]) => ({ name, each: Number(count) / traced.leads })).sort((a, b) => b.each - a.each);
    show('System calls per lead', calls.filter(({ each }) => each >= 0.01).map(({ name, each }) => `${each.toFixed(2).padStart(8)}  ${name}`));
  } finally {
    await competitor.stop();
  }
}

// callgrind_annotate's lines about functions, without the folders of this tree.
function functions(...args) {
  return outputOf('callgrind_annotate', args).split('\n').filter((line) => /^ *[\d,]+ \(/.test(line) && !/PROGRAM TOTALS/.test(line))
    .map((line) => line.replaceAll(`${L.top}/`, ''));
}

async function count(kind) {
  const file = path.join(output, `callgrind.${kind}`);
  console.log(`\n${kind}: ${await instructionsPerLead(kind, file)} instructions per lead (callgrind)`);
  show('Instructions by function, start included', functions('--threshold=95', file));
  show('The same with what they call, of leadhook\'s own functions', functions('--threshold=100', '--inclusive=yes', file).filter((line) => /(lib|handler)\/.*\[/.test(line)));
}

async function main() {
  fs.mkdirSync(disk, { recursive: true });
  for (const kind of (process.env.STORES || 'table,sqlite').split(',')) {
    await sample(kind);
    await count(kind);
  }
}

main().catch((error) => {
  console.error(`profile: ${error.message}`);
  process.exitCode = 1;
});
