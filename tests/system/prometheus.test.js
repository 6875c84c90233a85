// A real Prometheus reads /metrics: every alert of deploy/prometheus fires when what it tells of comes true, every
// expression of deploy/grafana has data, and eight processes behind one socket count together, also when one is killed.
'use strict';

const assert = require('node:assert');
const { execFileSync, spawn, spawnSync } = require('node:child_process');
const fs = require('node:fs');
const path = require('node:path');
const L = require('./lib.js');

const { test } = L;
const RULES = path.join(L.top, 'deploy/prometheus/leadhook.rules.yml');
const SLOWER = L.isInstrumented ? 2 : 1;
const MINUTE_MS = 400 * SLOWER; // of the rules, in this test: half an hour is longer than the relay's ten seconds
const SCRAPE_MS = 200 * SLOWER;
const rules = fs.readFileSync(RULES, 'utf8');
const ALERTS = [...rules.matchAll(/- alert: (\w+)/g)].map((match) => match[1]);

const metricsOf = async (bench) => (await bench.post(undefined, { method: 'GET', path: '/metrics', type: null })).text;

// {name{labels}: value} of what stands in /metrics.
function parse(text) {
  const lines = text.split('\n').filter((line) => line && !line.startsWith('#'));
  return Object.fromEntries(lines.map((line) => [line.slice(0, line.lastIndexOf(' ')), Number(line.slice(line.lastIndexOf(' ') + 1))]));
}
const sumOf = (samples, prefix) => Object.entries(samples).filter(([name]) => name.startsWith(prefix)).reduce((sum, [, value]) => sum + value, 0);

// The rules with minutes that are shorter, and days that are a second.
function hurried() {
  const unit = { m: MINUTE_MS, h: 60 * MINUTE_MS, d: 24 * 60 * MINUTE_MS };
  const hurry = (line) => line.replace(/\b(\d+)([mhd])\b/g, (_, count, name) => `${count * unit[name]}ms`)
    .replace(/\* 60\b/, `* ${MINUTE_MS / 1000}`).replace(/\* 86400\b/, '* 1');
  return rules.split('\n').map((line) => (/^\s+(expr|for):/.test(line) ? hurry(line) : line)).join('\n');
}

class Prometheus {
  constructor(bench, port) { Object.assign(this, { bench, port }); }
  async get(where) {
    const answer = await L.request(this.port, 'GET', `/api/v1/${where}`);
    assert.strictEqual(answer.code, 200, answer.text);
    return answer.json.data;
  }
  query(expression) { return this.get(`query?query=${encodeURIComponent(expression)}`).then((data) => data.result); }
  async firing() {
    const { alerts } = await this.get('alerts');
    return [...new Set(alerts.filter((alert) => alert.state === 'firing').map((alert) => alert.labels.alertname))].sort();
  }
}

// deploy/prometheus/prometheus.yml.example with other targets and times.
async function startPrometheus(bench, targets) {
  const port = await L.freePort();
  const example = fs.readFileSync(path.join(L.top, 'deploy/prometheus/prometheus.yml.example'), 'utf8');
  const config = example.replace('/etc/prometheus/leadhook.rules.yml', bench.write('rules.yml', hurried()))
    .replace('scrape_interval: 15s', `scrape_interval: ${SCRAPE_MS}ms\n    scrape_timeout: ${SCRAPE_MS}ms`)
    .replace("['127.0.0.1:9180']", JSON.stringify(targets));
  assert.notStrictEqual(config, example);
  const file = bench.write('prometheus.yml', `global:\n  evaluation_interval: ${SCRAPE_MS}ms\n${config}`);
  execFileSync('promtool', ['check', 'config', file]);
  const program = new L.Program('prometheus', 'prometheus', [`--config.file=${file}`, `--storage.tsdb.path=${bench.file('prometheus')}`,
    `--web.listen-address=127.0.0.1:${port}`, '--log.level=warn'], { log: bench.file('prometheus.out') });
  bench.stops.push(() => program.stop());
  const prometheus = new Prometheus(bench, port);
  await L.until('Prometheus', async () => {
    if (program.status !== undefined) throw new Error(`prometheus ended with ${program.status}: ${program.output()}`);
    return await L.isListening(port) && (await prometheus.query('up == 1').catch(() => [])).length === targets.length;
  });
  return prometheus;
}

test('the rules are what promtool takes, and fire at their thresholds', () => {
  assert.match(execFileSync('promtool', ['check', 'rules', RULES], { encoding: 'utf8' }), new RegExp(`SUCCESS: ${ALERTS.length} rules found`));
  const result = spawnSync('promtool', ['test', 'rules', path.join(L.top, 'tests/prometheus/rules.test.yml')], { encoding: 'utf8' });
  assert.strictEqual(result.status, 0, result.stdout + result.stderr);
});

// An installation that nobody uses yet: eight days of what it says now.
test('nothing fires where no lead has ever come', async (t) => {
  const bench = new L.Bench(t);
  bench.configure({ ...await bench.startTableWithSpool(), ...bench.mailHere() });
  await bench.startLeadhook();
  await bench.startNginx();
  const samples = await L.until('a first look', async () => {
    const now = parse(await metricsOf(bench));
    return 'leadhook_relay_look_age_seconds' in now && now;
  });
  const series = Object.entries({ up: 1, ...samples }).map(([name, value]) => ({
    series: name.includes('{') ? name.replace('{', '{job="leadhook",instance="a",') : `${name}{job="leadhook",instance="a"}`, values: `${value}x${8 * 24 * 30}` }));
  const quiet = (hours) => ({ expr: 'count(ALERTS)', eval_time: `${hours}h`, exp_samples: [] });
  const file = bench.write('quiet.yml', JSON.stringify({ rule_files: [RULES], evaluation_interval: '10m',
    tests: [{ interval: '2m', input_series: series, promql_expr_test: [1, 25, 7 * 24 + 1, 8 * 24].map(quiet) }] }));
  const result = spawnSync('promtool', ['test', 'rules', file], { encoding: 'utf8' });
  assert.strictEqual(result.status, 0, result.stdout + result.stderr);
});

// --- every alert comes true ------------------------------------------------------------------------------------

async function post(bench, code, body = L.lead(), options = {}) {
  const answer = await bench.post(body, options);
  assert.strictEqual(answer.code, code, answer.text);
}

// A host with the table, a small spool and an SMTP server; and one with sqlite alone.
async function startHosts(t) {
  const table = new L.Bench(t), sqlite = new L.Bench(t);
  table.smtp = await L.startSmtp(table);
  table.configure({ ...await table.startTableWithSpool(), ...table.smtp.settings(), spool_max_bytes: 8 * 1024 * 1024 });
  sqlite.configure({ ...sqlite.mailHere() });
  for (const bench of [table, sqlite]) {
    await bench.startLeadhook();
    await bench.startNginx();
    await post(bench, 200);
  }
  return { table, sqlite };
}

// Alerts are noted as they fire: some end before others have begun.
class Watch {
  constructor(prometheus) {
    this.prometheus = prometheus;
    this.seen = new Set();
  }
  async saw(...names) {
    await L.until(`${names.join(', ')} (so far ${[...this.seen].join(', ')})`, async () => {
      for (const name of await this.prometheus.firing()) this.seen.add(name);
      return names.every((name) => this.seen.has(name));
    });
  }
}

async function makeMailTrouble(table, watch) {
  table.smtp.faults.rcpt = { code: 550 };
  await post(table, 200);
  await watch.saw('LeadhookMailParked');
  table.smtp.faults = { auth: { code: 535 } };
  await post(table, 200);
  await watch.saw('LeadhookMailPaused', 'LeadhookAccessRefused');
}

async function makeStrangers(table, watch) {
  await post(table, 400, '{"UserDetails":');
  await Promise.all(Array.from({ length: 200 }, (_, i) => post(table, 401, '{}', { key: 'Wrong-key_0123456789.abcdef', from: `127.0.1.${i + 1}` })));
  await watch.saw('LeadhookQuarantined', 'LeadhookWrongKeys');
}

async function makeSlow(table, watch) {
  table.proxy.fault = (req) => (req.url.includes('$batch') ? { delay: 1300 } : undefined);
  await Promise.all(Array.from({ length: 4 }, () => post(table, 200)));
  table.proxy.fault = () => undefined;
  await watch.saw('LeadhookSlow');
}

async function makeOutage(table, watch) {
  table.proxy.fault = () => 'drop-before';
  await post(table, 202);
  const large = 'x'.repeat(100000);
  await L.until('a full spool', async () => (await table.post(L.lead({ Description: large }))).code === 503);
  await watch.saw('LeadhookRefusesLeads', 'LeadhookSpooling', 'LeadhookSpoolFilling');
}

// An offer whose last lead came long ago, and a key that ends soon; a relay looks for such when it starts.
async function makeTroubles(sqlite, watch) {
  await sqlite.stopLeadhook();
  const day = (days) => new Date(Date.now() + days * 86400e3).toISOString();
  sqlite.sqlite(`UPDATE entity SET properties = json_set(properties, '$.LastLeadTime', '${day(-15)}') WHERE partition_key = 'offers'`);
  sqlite.write('keys', `market ${L.KEY} retire=${day(5).slice(0, 19)}Z\n`);
  await sqlite.startLeadhook();
  await watch.saw('LeadhookOfferSilent', 'LeadhookEndsSoon');
}

// Another program has the relay's lock when leadhook comes back.
async function takeRelay(sqlite) {
  await L.until('a first look', async () => 'leadhook_relay_look_age_seconds' in parse(await metricsOf(sqlite)));
  await sqlite.stopLeadhook();
  const holder = spawn('flock', ['--no-fork', sqlite.file('leads.db.relay.lock'), 'sh', '-c', 'echo held; exec sleep 600'], { stdio: ['ignore', 'pipe', 'inherit'] });
  const ended = new Promise((resolve) => holder.on('exit', resolve));
  sqlite.stops.push(async () => { holder.kill('SIGKILL'); await ended; });
  await new Promise((resolve) => holder.stdout.once('data', resolve));
  await sqlite.startLeadhook();
}

// What the dashboard asks, with its variables as Grafana would put them.
function expressionsOf(dashboard) {
  const put = (text) => text.replaceAll('$__rate_interval', '2m').replaceAll('$instance', '.+');
  const panels = dashboard.panels.filter((panel) => panel.type !== 'row');
  return panels.flatMap((panel) => panel.targets.map((target) => ({ title: panel.title, expression: put(target.expr) })));
}

async function checkDashboard(prometheus) {
  const dashboard = JSON.parse(fs.readFileSync(path.join(L.top, 'deploy/grafana/leadhook.json'), 'utf8'));
  const expressions = expressionsOf(dashboard);
  assert.ok(expressions.length > 30);
  for (const { title, expression } of expressions) {
    const result = await prometheus.query(expression);
    assert.ok(result.some(({ value }) => Number.isFinite(Number(value[1]))), `${title}: ${expression} gives ${JSON.stringify(result)}`);
    assert.ok(!/\$/.test(expression), expression);
  }
  const ids = dashboard.panels.map((panel) => panel.id);
  assert.strictEqual(new Set(ids).size, ids.length);
  const annotation = dashboard.annotations.list[0].expr;
  assert.ok((await prometheus.query(annotation)).length > 0);
  // No family of ours is forgotten.
  const shown = expressions.map(({ expression }) => expression).join(' ');
  const families = [...(await metricsOf(prometheus.bench)).matchAll(/^# TYPE (\w+)/gm)].map((match) => match[1]);
  const ofNoUse = ['leadhook_build_info', 'leadhook_spool_drained_total', 'leadhook_spool_lost_total', 'leadhook_breaker_openings_total', 'leadhook_key_requests_unnamed_total'];
  for (const family of families) assert.ok(shown.includes(family) || ofNoUse.includes(family), `no panel shows ${family}`);
}

test('every alert fires when it should, and every panel has data', async (t) => {
  const { table, sqlite } = await startHosts(t);
  const prometheus = await startPrometheus(table, [`127.0.0.1:${table.port}`, `127.0.0.1:${sqlite.port}`]);
  await L.until('an evaluation', async () => (await prometheus.get('rules')).groups[0].rules.every((rule) => rule.health === 'ok'));
  await L.until('silence', async () => (await prometheus.firing()).length === 0);
  const watch = new Watch(prometheus);
  await makeTroubles(sqlite, watch);
  await takeRelay(sqlite);
  await makeMailTrouble(table, watch);
  await makeStrangers(table, watch);
  await makeSlow(table, watch);
  await L.until('a mail that is seen to wait', async () => parse(await metricsOf(table)).leadhook_mails_waiting > 0);
  await makeOutage(table, watch);
  await watch.saw('LeadhookMailLate', 'LeadhookSpoolNotDraining', 'LeadhookRelayStands', 'LeadhookNoLeads');

  const check = spawnSync('promtool', ['check', 'metrics'], { input: await metricsOf(table), encoding: 'utf8' });
  assert.deepStrictEqual([check.status, check.stdout, check.stderr], [0, '', '']);
  await checkDashboard(prometheus);

  table.sqlite("DELETE FROM entity WHERE partition_key = 'spool'", table.file('spool.db'));
  await watch.saw('LeadhookLeadsLost');
  await sqlite.stopLeadhook();
  await watch.saw('LeadhookDown');
  assert.deepStrictEqual([...watch.seen].sort(), ALERTS.slice().sort());

  // Without mail there is no relay, and what it said last is not said for ever.
  sqlite.configure();
  await sqlite.startLeadhook();
  const samples = parse(await metricsOf(sqlite));
  assert.ok(samples['leadhook_requests_total{code="200"}'] > 0 && !('leadhook_relay_look_age_seconds' in samples));
});

// --- eight processes -------------------------------------------------------------------------------------------

const PROCESSES = 8;

async function startEight(t) {
  const bench = new L.Bench(t);
  bench.configure({ ...bench.mailHere(), listen: null, mail_per_minute: 6000 });
  const program = new L.Program('supervise', path.join(L.build, 'harness/supervise'),
    [bench.file('fcgi.sock'), String(PROCESSES), path.join(L.build, 'leadhook'), '--config', bench.config], { log: bench.file('supervise.log') });
  bench.stops.push(() => program.stop());
  bench.readies = () => (program.output().match(/event=ready/g) || []).length;
  await L.until('eight processes', () => bench.readies() === PROCESSES);
  bench.pids = () => [...program.output().matchAll(/^started \d+ (\d+)$/gm)].map((match) => Number(match[1]))
    .filter((pid) => !new RegExp(`^ended \\d+ ${pid} `, 'm').test(program.output()));
  bench.looks = 0;
  await bench.startNginx();
  return bench;
}

// Posts leads over many connections at once; gives how many were answered with which code.
async function burst(bench, count, body = () => L.lead()) {
  const codes = {};
  const one = async () => {
    const { code } = await bench.post(body());
    codes[code] = (codes[code] || 0) + 1;
  };
  for (let left = count; left > 0; left -= 40) await Promise.all(Array.from({ length: Math.min(40, left) }, one));
  return codes;
}

// Looks, and compares all that must be the same as the number of leads.
async function checkSums(bench, leads, repeats) {
  const samples = parse(await metricsOf(bench));
  const all = leads + repeats;
  const got = {
    // /metrics is answered 200 as well, and counted when its text was made.
    requests: samples['leadhook_requests_total{code="200"}'] - bench.looks++,
    taken: sumOf(samples, 'leadhook_leads_taken_total{'), documented: samples['leadhook_leads_taken_total{source="AzureMarketplace",action="INS"}'],
    other: samples['leadhook_leads_taken_total{source="other",action="other"}'],
    outcomes: sumOf(samples, 'leadhook_leads_total{'), repeats: samples['leadhook_leads_total{outcome="repeat"}'],
    times: samples.leadhook_lead_seconds_count, committed: samples.leadhook_batch_leads_sum, key: samples['leadhook_key_requests_total{key="market"}'],
  };
  assert.deepStrictEqual(got, { requests: all, taken: all, documented: all - 10, other: 10, outcomes: all, repeats, times: all, committed: all, key: all });
  return samples;
}

const countLeads = (bench) => bench.sqlite("SELECT count(*) AS n FROM entity WHERE row_key GLOB '[0-9a-f]*-*' AND partition_key LIKE 'contoso.%'")[0].n;

// Leads over 40 connections at once; at each quarter of them one more process is killed.  Gives how many were answered, and how
// many were not because the process that had them is gone: nginx then says 503.
async function killInTheMidst(bench, count) {
  const codes = { 200: 0, 503: 0 }, killed = [];
  const kill = () => {
    const pid = bench.pids().find((one) => !killed.includes(one));
    killed.push(pid);
    process.kill(pid, 'SIGKILL');
  };
  let sent = 0, answered = 0;
  const sender = async () => {
    while (sent++ < count) {
      codes[(await bench.post(L.lead())).code]++;
      if (++answered % (count / 4) === 0 && answered < count) kill();
    }
  };
  await Promise.all(Array.from({ length: 40 }, sender));
  assert.strictEqual(codes[200] + codes[503], count, JSON.stringify(codes));
  assert.ok(codes[503] > 0 && codes[503] <= 40 * killed.length, JSON.stringify(codes));
  await L.until('their ends', () => killed.every((pid) => !bench.pids().includes(pid)));
  return { answered: codes[200], lost: codes[503] };
}

// What stands in /metrics for each lead that was taken.
const takenOf = (samples) => ({
  taken: sumOf(samples, 'leadhook_leads_taken_total{'), outcomes: sumOf(samples, 'leadhook_leads_total{'), key: samples['leadhook_key_requests_total{key="market"}'],
  times: samples.leadhook_lead_seconds_count, committed: samples.leadhook_batch_leads_sum });

// Who was answered is counted, once; who was not may have been stored, counted, or neither: by the rows of the store too.
async function checkMidst(bench) {
  const before = takenOf(parse(await metricsOf(bench))), rowsBefore = countLeads(bench);
  const { answered, lost } = await killInTheMidst(bench, 800);
  const after = takenOf(parse(await metricsOf(bench))), rows = countLeads(bench) - rowsBefore;
  for (const [name, value] of Object.entries({ ...after, rows: rows + rowsBefore })) {
    const grown = value - (name === 'rows' ? rowsBefore : before[name]);
    assert.ok(grown >= answered && grown <= answered + lost, `${name} grew by ${grown}: ${answered} were answered, ${lost} lost`);
  }
  assert.ok(after.taken - before.taken <= rows, 'only what is stored is counted');
  // And goes on exactly from there.
  assert.deepStrictEqual(await burst(bench, 80), { 200: 80 });
  const last = takenOf(parse(await metricsOf(bench)));
  for (const name of Object.keys(last)) assert.strictEqual(last[name], after[name] + 80, name);
  return last;
}

test('eight processes behind one socket, and the sums after a kill -9', async (t) => {
  const bench = await startEight(t);
  assert.deepStrictEqual(await burst(bench, 190), { 200: 190 });
  assert.deepStrictEqual(await burst(bench, 10, () => L.lead({ LeadSource: `Made-Up${Math.random()}|contoso.contoso-app`, ActionCode: 'NEW' })), { 200: 10 });
  const same = L.lead();
  assert.deepStrictEqual(await burst(bench, 20, () => same), { 200: 20 });
  await checkSums(bench, 201, 19);
  // None is in work when its sender dies: nobody could know what became of it.
  await L.until('all mails', async () => (await checkSums(bench, 201, 19))['leadhook_mails_total{outcome="accepted"}'] === 201);

  // The one that is the relay is killed: it has the most to lose.
  const relay = async () => JSON.parse((await bench.leadctl('status', '--json')).stdout).relay.pid;
  const killed = await relay();
  assert.ok(bench.pids().includes(killed));
  process.kill(killed, 'SIGKILL');
  await L.until('its end', () => !bench.pids().includes(killed));
  await checkSums(bench, 201, 19);
  assert.deepStrictEqual(await burst(bench, 80), { 200: 80 });
  await checkSums(bench, 281, 19);
  await L.until('the ninth process', () => bench.readies() === PROCESSES + 1);
  await L.until('another relay', async () => ![undefined, killed].includes(await relay()));

  // What Prometheus makes of it, whichever process it meets.
  const prometheus = await startPrometheus(bench, [`127.0.0.1:${bench.port}`]);
  const value = async (expression) => Number(((await prometheus.query(expression))[0] || { value: [0, 'NaN'] }).value[1]);
  assert.strictEqual(await value('sum(leadhook_leads_taken_total)'), 300);
  assert.strictEqual(await value('leadhook_lead_seconds_count'), 300);
  await L.until('all mails', async () => await value('leadhook_mails_total{outcome="accepted"}') === 281);
  await L.until('nothing that waits', async () => await value('leadhook_mails_waiting') === 0);
  assert.strictEqual(await value('leadhook_mails_oldest_age_seconds'), 0);

  const { taken } = await checkMidst(bench);
  await L.until('the sum in Prometheus', async () => await value('sum(leadhook_leads_taken_total)') === taken);
  assert.ok(await value('leadhook_lead_seconds_count == ignoring(le) leadhook_lead_seconds_bucket{le="+Inf"}') > taken - 1);
  // Nobody has taken anything back, in whichever moment it was looked at.
  const counters = [...(await metricsOf(bench)).matchAll(/^(leadhook_\w+(?:_total|_bucket|_sum|_count))[ {]/gm)].map((match) => match[1]);
  for (const name of new Set(counters)) assert.strictEqual(await value(`max(resets(${name}[10m]))`), 0, name);
  assert.ok(await value('count_over_time(leadhook_lead_seconds_count[10m])') > 10);
  const check = spawnSync('promtool', ['check', 'metrics'], { input: await metricsOf(bench), encoding: 'utf8' });
  assert.deepStrictEqual([check.status, check.stdout, check.stderr], [0, '', '']);
});
