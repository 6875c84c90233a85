// The figures and their goals, as a table and as JSON.
'use strict';

// In the order in which they are written; a ratio is of leads per second.
const GOALS = [
  { name: 'table_0ms_vs_empty', at_least: 0.80, meaning: 'table at 0 ms, against the empty responder' },
  { name: 'table_0ms_vs_php', at_least: 4, meaning: 'the same against PHP-FPM' },
  { name: 'table_0ms_vs_node', at_least: 6, meaning: 'the same against Node' },
  { name: 'mail_vs_php', at_least: 8, meaning: 'with mail, against PHP-FPM' },
  { name: 'mail_vs_node', at_least: 10, meaning: 'with mail, against Node' },
  { name: 'table_10ms_vs_php', at_least: 12, meaning: 'table at 10 ms, 256 connections, against PHP-FPM' },
  { name: 'added_latency_p50_ms', at_most: 0.5, meaning: 'added to the table\'s 10 ms, 64 connections: median' },
  { name: 'added_latency_p99_ms', at_most: 3, meaning: 'the same: 99th percentile' },
  { name: 'azurite_vs_node', at_least: 4, meaning: 'on Azurite, against Node' },
  { name: 'sqlite_vs_empty', at_least: 0.50, meaning: 'sqlite, 64 connections, against the empty responder' },
  { name: 'rssanon_full_mb', at_most: 8, meaning: 'private memory with 32 threads at full load, MB' },
  { name: 'rssanon_idle_mb', at_most: 3, meaning: 'the same before the first request, MB' },
  { name: 'cold_start_ms', at_most: 15, meaning: 'exec to the first stored lead, sqlite, ms' },
  { name: 'cost_1m_vs_10', at_most: 1.10, meaning: 'time per lead with 1,000,000 leads stored, against a store that began with 10' },
];

function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

const spread = (values) => `${short(Math.min(...values))}..${short(Math.max(...values))}`;
const short = (value) => String(Number(value.toPrecision(3)));

// Rows of cells, the first one the headings; columns but the first are set to the right.
function printTable(rows) {
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => row[column].length)));
  for (const row of rows) console.log(row.map((cell, i) => (i ? cell.padStart(widths[i]) : cell.padEnd(widths[i]))).join('  '));
}

// The turns of all competitors under one condition: by kind, one per round.  Ratios are to the first, round by round.
function printTurns(title, turns) {
  const kinds = Object.keys(turns);
  const values = (kind, name) => turns[kind].map((turn) => turn[name]);
  const hasMail = kinds.some((kind) => turns[kind][0].mailRate !== undefined);
  const rows = [['', 'leads/s', 'ratio', '(spread)', 'p50 ms', 'p99 ms', 'CPU us', 'others %', 'RssAnon MiB', ...(hasMail ? ['mails/s'] : [])]];
  for (const kind of kinds) {
    const ratios = ratio(turns, kind, kinds[0]);
    rows.push([kind, median(values(kind, 'rate')).toFixed(0), median(ratios).toFixed(3), `(${spread(ratios)})`, median(values(kind, 'p50')).toFixed(2),
      median(values(kind, 'p99')).toFixed(2), median(values(kind, 'cpu')).toFixed(0), median(values(kind, 'others')).toFixed(0), (Math.max(...values(kind, 'kib')) / 1024).toFixed(1),
      ...(hasMail ? [median(values(kind, 'mailRate')).toFixed(0)] : [])]);
  }
  console.log(`\n${title}`);
  printTable(rows);
}

// Leads per second of one kind against another's, for each round.
const ratio = (turns, kind, other) => turns[kind].map((turn, round) => turn.rate / turns[other][round].rate);

// values: by name, what was measured in each round.  Gives the figures in the order of GOALS.
function printFigures(values) {
  const rows = [['', 'value', '(spread)', 'goal', '']];
  const figures = [];
  for (const { meaning, ...goal } of GOALS) {
    if (!values[goal.name]) continue;
    const value = Number(median(values[goal.name]).toPrecision(4));
    const good = goal.at_least === undefined ? value <= goal.at_most : value >= goal.at_least;
    rows.push([meaning, short(value), `(${spread(values[goal.name])})`, goal.at_least === undefined ? `<= ${goal.at_most}` : `>= ${goal.at_least}`, good ? '' : 'not reached']);
    const { name, ...limit } = goal;
    figures.push({ name, value, ...limit });
  }
  console.log('\nFigures: medians of the rounds');
  printTable(rows);
  return figures;
}

module.exports = { median, ratio, printTurns, printTable, printFigures };
