// make bench: speed, memory and start of leadhook against what else could take leads, as ratios within one run, so that
// the machine's own speed cancels out.  Environment:
//
//   ROUNDS=N     turns of each competitor, alternating (default: 3)
//   SECONDS=N    of a turn (default: 4; with mail and on Azurite 2 at most)
//   PARTS=a,b    only these parts: direct mail slow latency azurite sqlite start million instructions
//
// Prints a table for each part and one of the figures with their goals, and writes build/bench.json.  A goal that is
// not reached is no error; a lead that was answered and is not stored, or not mailed, is.
'use strict';

const { spawnSync } = require('node:child_process');
const fs = require('node:fs');
const path = require('node:path');
const L = require('../system/lib.js');
const { start, harness, disk } = require('./servers.js');
const { turn } = require('./load.js');
const { fill } = require('./fill.js');
const { instructionsPerLead } = require('./instructions.js');
const { median, ratio, printTurns, printTable, printFigures } = require('./figures.js');

const ROUNDS = Number(process.env.ROUNDS || 3);
const SECONDS = Number(process.env.SECONDS || 4);
const SHORT_SECONDS = Math.min(SECONDS, 2); // with mail: sending what was stored meanwhile takes much longer; with Azurite
const WARM_SECONDS = 1;
const TABLE_MS = 10;
const STARTS = 15;
const FULL = 1000000;
const EMPTY = 10;

const output = path.join(L.top, 'build/bench');
const values = {}; // of the figures: by name, one for each round
const json = {};

// All the competitors in turns; the first short turn of each warms caches and opens connections.
async function compare(title, kinds, condition, seconds = SECONDS) {
  const competitors = [];
  const turns = Object.fromEntries(kinds.map((kind) => [kind, []]));
  try {
    for (const kind of kinds) competitors.push(await start(kind, condition));
    for (const competitor of competitors) await turn(competitor, condition, WARM_SECONDS);
    for (let round = 0; round < ROUNDS; round++) {
      for (const competitor of competitors) turns[competitor.kind].push(await turn(competitor, condition, seconds));
    }
  } catch (error) {
    for (const competitor of competitors) competitor.bench.showLogs();
    throw error;
  } finally {
    for (const competitor of competitors) await competitor.stop();
  }
  printTurns(title, turns);
  const idle = Object.fromEntries(competitors.map((competitor) => [competitor.kind, competitor.idleKib]));
  return { turns, idle };
}

const kibToMb = (kib) => kib * 1024 / 1e6;

// Of each round the most that is seen in any part with 32 threads.
function noteMemory(turns) {
  const before = values.rssanon_full_mb || [];
  values.rssanon_full_mb = turns.map((each, round) => Math.max(kibToMb(each.kib), before[round] || 0));
}

async function direct() {
  const { turns, idle } = await compare('Table at 0 ms, 32 connections', ['empty', 'posting', 'table', 'sqlite', 'php', 'php-kept', 'node'], { connections: 32 });
  values.table_0ms_vs_empty = ratio(turns, 'table', 'empty');
  values.table_0ms_vs_php = ratio(turns, 'table', 'php');
  values.table_0ms_vs_node = ratio(turns, 'table', 'node');
  noteMemory(turns.table);
  noteMemory(turns.sqlite);
  values.rssanon_idle_mb = [kibToMb(Math.max(idle.table, idle.sqlite))];
}

async function mail() {
  const { turns } = await compare('With mail, table at 0 ms, 32 connections', ['table', 'php', 'php-kept', 'node'], { connections: 32, mail: true }, SHORT_SECONDS);
  values.mail_vs_php = ratio(turns, 'table', 'php');
  values.mail_vs_node = ratio(turns, 'table', 'node');
  noteMemory(turns.table);
  json.mails_per_second = Math.round(median(turns.table.map((each) => each.mailRate)));
}

async function slow() {
  const { turns } = await compare(`Table at ${TABLE_MS} ms, 256 connections`, ['table', 'posting', 'php', 'php-kept'], { connections: 256, latency: TABLE_MS });
  values.table_10ms_vs_php = ratio(turns, 'table', 'php');
}

// Added to what a client of the Table service itself waits with as many connections: timers and the load have their part
// in that too.
async function latency() {
  const { turns } = await compare(`Table at ${TABLE_MS} ms, 64 connections`, ['service', 'table', 'posting'], { connections: 64, latency: TABLE_MS });
  const added = (name) => turns.table.map((each, round) => each[name] - turns.service[round][name]);
  values.added_latency_p50_ms = added('p50');
  values.added_latency_p99_ms = added('p99');
}

async function azurite() {
  const { turns } = await compare('Azurite, 32 connections', ['table', 'node'], { connections: 32, azurite: true }, SHORT_SECONDS);
  values.azurite_vs_node = ratio(turns, 'table', 'node');
}

async function sqlite() {
  const { turns } = await compare('sqlite, 64 connections', ['empty', 'sqlite'], { connections: 64 });
  values.sqlite_vs_empty = ratio(turns, 'sqlite', 'empty');
}

// One start on the store; milliseconds until its first lead is stored.
function startOnce(bench, mode) {
  const started = spawnSync(harness('cold_start'), [mode, `key=${L.KEY}`, path.join(L.build, 'leadhook'), '--config', bench.config],
    { input: L.lead(), encoding: 'utf8' });
  if (started.status !== 0) throw new Error(`no lead was stored at the start: ${started.stderr}`);
  return Number(started.stdout);
}

// The figure is the slower of the two ways to start, on a store that exists.
async function startUp() {
  const bench = new L.Bench({ after() {} });
  const folder = fs.mkdtempSync(path.join(disk, 'start-'));
  try {
    const rows = [['', 'median ms', 'min', 'max']];
    const show = (name, ms) => { rows.push([name, median(ms).toFixed(2), Math.min(...ms).toFixed(2), Math.max(...ms).toFixed(2)]); return ms; };
    const repeat = (what) => Array.from({ length: STARTS }, (_, i) => what(i));
    bench.configure({ listen: null, store: `sqlite:${path.join(folder, 'leads.db')}` });
    startOnce(bench, 'cgi');
    const ways = [show('FastCGI', repeat(() => startOnce(bench, 'fastcgi'))), show('CGI', repeat(() => startOnce(bench, 'cgi')))];
    show('CGI, no store yet', repeat((i) => {
      bench.configure({ listen: null, store: `sqlite:${path.join(folder, `new-${i}.db`)}` });
      return startOnce(bench, 'cgi');
    }));
    console.log('\nFrom exec to the first stored lead, sqlite');
    printTable(rows);
    values.cold_start_ms = ways.sort((a, b) => median(b) - median(a))[0];
  } finally {
    await bench.close();
    fs.rmSync(folder, { recursive: true });
  }
}

// Time per lead on a full sqlite store and on one that began with a few leads, in turns; that one is new in every round,
// because a turn adds tens of thousands.
async function million() {
  const condition = { connections: 32 };
  const begin = async (leads) => {
    const competitor = await start('sqlite', condition);
    await L.request(competitor.port, 'POST', `/leads?key=${encodeURIComponent(L.KEY)}`, L.lead(), { 'Content-Type': 'application/json' });
    fill(competitor.bench, leads - 1);
    await turn(competitor, condition, WARM_SECONDS);
    return competitor;
  };
  const full = await begin(FULL);
  const turns = { [`${EMPTY} leads`]: [], [`${FULL} leads`]: [] };
  try {
    for (let round = 0; round < ROUNDS; round++) {
      const young = await begin(EMPTY);
      try {
        turns[`${EMPTY} leads`].push(await turn(young, condition, SECONDS));
      } finally {
        await young.stop();
      }
      turns[`${FULL} leads`].push(await turn(full, condition, SECONDS));
    }
  } finally {
    await full.stop();
  }
  printTurns('sqlite with few and with many leads stored, 32 connections', turns);
  values.cost_1m_vs_10 = ratio(turns, `${EMPTY} leads`, `${FULL} leads`);
}

async function instructions() {
  const rows = [['', 'instructions per lead']];
  json.instructions_per_lead = {};
  for (const kind of ['table', 'sqlite']) {
    const each = await instructionsPerLead(kind, path.join(output, `callgrind.${kind}`));
    json.instructions_per_lead[kind] = each;
    rows.push([kind, String(each)]);
  }
  console.log('');
  printTable(rows);
}

const PARTS = { direct, mail, slow, latency, azurite, sqlite, start: startUp, million, instructions };

async function main() {
  const chosen = process.env.PARTS ? process.env.PARTS.split(',') : Object.keys(PARTS);
  for (const name of chosen) if (!PARTS[name]) throw new Error(`there is no part '${name}'; there are: ${Object.keys(PARTS).join(' ')}`);
  fs.rmSync(disk, { recursive: true, force: true }); // of a run that was cut off
  fs.mkdirSync(disk, { recursive: true });
  console.log(`${ROUNDS} rounds of ${SECONDS} s; ratios are to the first line, round by round`);
  for (const name of chosen) await PARTS[name]();
  const figures = printFigures(values);
  fs.writeFileSync(path.join(L.top, 'build/bench.json'), `${JSON.stringify({ figures, ...json })}\n`);
}

main().catch((error) => {
  console.error(`bench: ${error.message}`);
  process.exitCode = 1;
});
