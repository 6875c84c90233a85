// make bench-growth: how leadhook's speed changes with connections, processes, the table's latency, the number of
// offers, and the number of leads stored.  Environment:
//
//   SECONDS=N    of a turn (default: 3)
//   PARTS=a,b    only these: connections processes latency offers stored
//
// Writes build/bench/growth.json and an SVG for each part into build/bench/.
'use strict';

const fs = require('node:fs');
const path = require('node:path');
const L = require('../system/lib.js');
const { start, disk } = require('./servers.js');
const { turn } = require('./load.js');
const { fill } = require('./fill.js');
const { printTable } = require('./figures.js');
const { plot } = require('./plot.js');

const SECONDS = Number(process.env.SECONDS || 3);
const WARM_SECONDS = 1;
const FULL = 1000000;
const output = path.join(L.top, 'build/bench');
const results = {};

// A turn of leadhook on the store; prepare(competitor) comes before it.
async function measure(kind, condition, prepare = async () => {}) {
  const competitor = await start(kind, condition);
  try {
    await turn(competitor, condition, WARM_SECONDS);
    await prepare(competitor);
    return await turn(competitor, condition, SECONDS);
  } catch (error) {
    competitor.bench.showLogs();
    throw error;
  } finally {
    await competitor.stop();
  }
}

// lines: { name: turns, one for each x }
function show(name, title, xLabel, x, lines, { value = 'rate', yLabel = 'leads/s' } = {}) {
  const names = Object.keys(lines);
  const rows = [[xLabel, ...names.flatMap((each) => [`${each}: leads/s`, 'p50 ms', 'p99 ms', 'CPU us', 'RssAnon MiB'])]];
  x.forEach((label, i) => rows.push([String(label), ...names.flatMap((each) => {
    const { rate, p50, p99, cpu, kib } = lines[each][i];
    return [rate.toFixed(0), p50.toFixed(2), p99.toFixed(2), cpu.toFixed(0), (kib / 1024).toFixed(1)];
  })]));
  console.log(`\n${title}`);
  printTable(rows);
  fs.writeFileSync(path.join(output, `${name}.svg`),
    plot({ title, xLabel, yLabel, x, lines: names.map((each) => ({ name: each, y: lines[each].map((one) => one[value]) })) }));
  results[name] = { x, lines };
}

// The turns of a line: one after the other for each x.
async function line(xs, one) {
  const turns = [];
  for (const x of xs) turns.push(await one(x));
  return turns;
}

async function connections() {
  const x = [1, 2, 4, 8, 16, 32, 64, 128, 256];
  show('connections', 'Leads per second by connections, table at 0 ms', 'connections', x, {
    table: await line(x, (each) => measure('table', { connections: each })),
    sqlite: await line(x, (each) => measure('sqlite', { connections: each })),
  });
}

// 64 connections under a further condition for each x: on both stores, the table's latency 0 and 20 ms.
async function onStores(x, conditionOf) {
  const of = (kind, latency) => line(x, (each) => measure(kind, { connections: 64, latency, ...conditionOf(each) }));
  return { 'table, 0 ms': await of('table', 0), 'table, 20 ms': await of('table', 20), sqlite: await of('sqlite', 0) };
}

async function processes() {
  const x = [1, 2, 4, 8];
  show('processes', 'Leads per second by processes of leadhook, 64 connections', 'processes', x, await onStores(x, (each) => ({ processes: each })));
}

async function latency() {
  const x = [0, 5, 20, 200];
  const lines = {
    '64 connections': await line(x, (each) => measure('table', { connections: 64, latency: each })),
    '256 connections': await line(x, (each) => measure('table', { connections: 256, latency: each })),
  };
  show('latency', 'Leads per second by the table\'s latency', 'latency of the table, ms', x, lines);
}

async function offers() {
  const x = [1, 10, 100, 1000];
  show('offers', 'Leads per second by offers, 64 connections', 'offers', x, await onStores(x, (each) => ({ offers: each })));
}

// The table is filled by leadhook itself, a minute or two of load.
async function stored() {
  const x = ['few', FULL];
  const load = async (competitor) => {
    while (await competitor.rows() < FULL) await turn(competitor, { connections: 64 }, SECONDS);
  };
  show('stored', 'Processor time of leadhook per lead by leads stored, 32 connections', 'leads stored', x, {
    table: await line(x, (each) => measure('table', { connections: 32 }, each === FULL ? load : undefined)),
    sqlite: await line(x, (each) => measure('sqlite', { connections: 32 }, each === FULL ? (competitor) => fill(competitor.bench, FULL) : undefined)),
  }, { value: 'cpu', yLabel: 'microseconds' });
}

const PARTS = { connections, processes, latency, offers, stored };

async function main() {
  const chosen = process.env.PARTS ? process.env.PARTS.split(',') : Object.keys(PARTS);
  for (const name of chosen) if (!PARTS[name]) throw new Error(`there is no part '${name}'; there are: ${Object.keys(PARTS).join(' ')}`);
  fs.mkdirSync(disk, { recursive: true });
  for (const name of chosen) await PARTS[name]();
  fs.writeFileSync(path.join(output, 'growth.json'), `${JSON.stringify(results)}\n`);
}

main().catch((error) => {
  console.error(`bench-growth: ${error.message}`);
  process.exitCode = 1;
});
