// The lives that are tortured, and what must come out of them.
'use strict';

const { spawn, spawnSync } = require('node:child_process');
const fs = require('node:fs');
const path = require('node:path');
const fcgi = require('../cases/fastcgi.js');
const { Trial, Host } = require('../fault/trial.js');
const L = require('../system/lib.js');
const ERRORS = require('./errors.js');
const { liveKey, liveErase, livePurge } = require('./commands.js');
const { Control } = require('./control.js');

const LIFE_MS = 30000;   // longer than every bound of the program, on a busy machine
const SETTLE_MS = 60000;
const CLOSED_PORT = 9; // discard: nobody listens
const CONNECTIONS = 12;  // descriptors of connections to the table that are added when it is slow
const HURRY = '150';     // what is minutes long elsewhere: a claim on a mail ends after seconds, a server has 4 s to reply
const SYSEXITS = [65, 66, 69, 70, 71, 74, 75, 78]; // not 64: no fault makes the usage wrong
const CHANGING = /\d+(\.\d+)?|just now/g; // in the output of a command: times, sizes, pids

const within = (ms, promise) => {
  let timer;
  const limit = new Promise((resolve) => { timer = setTimeout(() => resolve('late'), ms); });
  return Promise.race([promise, limit]).finally(() => clearTimeout(timer));
};

// A program that runs once.  Gives {status, signal, out, err, late}.
function runOnce(file, args, { env, input = '' }) {
  return new Promise((resolve) => {
    const [program, ...first] = [...(process.env.WRAP ? process.env.WRAP.split(' ') : []), file];
    const child = spawn(program, [...first, ...args], { env, stdio: ['pipe', 'pipe', 'pipe'] });
    const out = [];
    const err = [];
    let late = false;
    const limit = setTimeout(() => { late = true; child.kill('SIGKILL'); }, LIFE_MS);
    child.stdout.on('data', (chunk) => out.push(chunk));
    child.stderr.on('data', (chunk) => err.push(chunk));
    child.stdin.on('error', () => {}); // it may end before it has read
    child.stdin.end(input);
    child.on('close', (status, signal) => {
      clearTimeout(limit);
      resolve({ status, signal, late, out: Buffer.concat(out).toString(), err: Buffer.concat(err).toString() });
    });
  });
}

// leadhook as a server.
class Server {
  constructor(lane, control, calls) {
    this.lane = lane;
    fs.rmSync(lane.socket, { force: true });
    this.log = '';
    this.child = spawn(path.join(L.build, 'leadhook'), ['--config', lane.host.bench.config],
      { env: lane.environment(control, calls), stdio: ['ignore', 'ignore', 'pipe'] });
    this.child.stderr.setEncoding('utf8');
    this.child.stderr.on('data', (text) => { this.log += text; if (process.env.TRACE) process.stderr.write(text); if (this.wake) this.wake(); });
    this.ended = new Promise((resolve) => this.child.on('close', (status, signal) => {
      Object.assign(this, { status, signal, over: true });
      if (this.wake) this.wake();
      resolve();
    }));
  }
  count(event) { return this.log.split(`event=${event} `).length - 1; }
  // 'late', or as soon as the log says so or the process has ended.
  waitFor(condition, ms = LIFE_MS) {
    const turn = async () => { while (!this.over && !condition()) await new Promise((resolve) => { this.wake = resolve; }); };
    return within(ms, turn());
  }
  ready() { return this.waitFor(() => this.count('ready')); }
  // Without the logs of databases: a connection opens its own when it first reads, which may be later than the count.
  files() { return this.names().filter((name) => !name.endsWith('-wal')).length; }
  names() { return fs.readdirSync(`/proc/${this.child.pid}/fd`).map((fd) => { try { return fs.readlinkSync(`/proc/${this.child.pid}/fd/${fd}`); } catch { return ''; } }); }
  // 'late' when it had to be killed.
  async stop() {
    if (!this.over) this.child.kill('SIGTERM');
    const result = await within(LIFE_MS, this.ended);
    if (result === 'late') { this.child.kill('SIGKILL'); await this.ended; }
    return result;
  }
}

class Lane extends Trial {
  constructor(scenario, number) {
    super(scenario.name, number);
    this.scenario = scenario;
    this.lives = 0;
  }
  async open() {
    const { scenario } = this;
    this.bench = new L.Bench(this);
    if (scenario.table) this.table = await L.startFakeTable(this.bench);
    if (scenario.smtp) { await this.startServers({ store: 'none', smtp: true }); }
    this.makeHost();
    this.control = new Control(this.bench.file('control'));
    this.after(async () => this.control.close());
    this.after(async () => { if (this.server) await this.server.stop(); });
  }
  makeHost() {
    const { scenario } = this;
    const host = new Host(this, `host ${this.hosts.length + 1}`, { maildir: scenario.maildir });
    this.hosts = [host];
    this.socket = host.file('fcgi.sock');
    const mail = scenario.maildir ? host.bench.mailHere() : scenario.smtp ? this.smtp.settings() : {};
    mail.mail_routes = host.bench.write('routes', `# as mail_to says\noffer=nobody.* country=DE -> off\ndefault -> ${mail.mail_to || 'off'}\n`);
    const store = scenario.table
      ? { store: 'table', table_connection_file: host.bench.write('connection', L.connectionString(scenario.down ? CLOSED_PORT : this.table.port)) } : {};
    host.bench.configure({ listen: scenario.serves ? this.socket : null, listen_mode: scenario.serves ? '0666' : null, threads: 2, request_deadline_ms: 1000, mail_per_minute: 60000,
      relay_socket: host.file('relay'), ...(scenario.spool ? { spool: host.file('spool.db') } : {}), ...store, ...mail });
  }
  environment(control, calls) {
    return { ...process.env, LEADHOOK_TEST_HURRY: HURRY, ...(control ? control.environment({ calls, trace: Boolean(process.env.TRACE) }) : {}) };
  }
  allowsAnswer() { return true; } // judged where it came
  // A start that failed has made nothing.
  async rows() {
    try {
      return await super.rows();
    } catch (error) {
      if (/no such table/.test(error.message)) return [];
      throw error;
    }
  }

  // The point of a mail that is there twice.
  tellPoints(problems) {
    problems.forEach((problem, i) => {
      const match = /<lead\.([0-9a-f]{32})\./.exec(problem);
      const answer = match && this.answers.find((each) => each.id === match[1]);
      if (answer) problems[i] += ` (${answer.email})`;
    });
  }
  // Where nothing has memory any more nothing can be written down either: a mail that the server has taken just then
  // goes out once more.  That the copies are the same is looked at elsewhere.
  isInevitable(problem) {
    return this.scenario.smtp && /^duplicate mail: .* 2 times \(allocation-rest-/.test(problem);
  }
  // What the relay needs to reach a table that was away: another port, and nobody remembers.
  whenUp() {
    if (!this.scenario.down) return {};
    for (const file of this.generations()) spawnSync('sqlite3', ['-cmd', '.timeout 10000', file, "DELETE FROM entity WHERE partition_key = 'breaker'"]);
    return { env: { LEADHOOK_TABLE_CONNECTION_FILE: this.host.bench.write('live', L.connectionString(this.table.port)) } };
  }
  generations() {
    const folder = this.host.bench.dir;
    return fs.readdirSync(folder).filter((name) => /^spool\.db(\.\d+)?$/.test(name)).map((name) => path.join(folder, name));
  }

  // --- a life

  async survey() {
    const begin = this.scenario.kept ? await this.startKept() : {};
    const plain = { text: 'nothing', what: 'allocation', k: 0, error: 'ENOMEM', mode: 'one', calls: !process.env.WRAP };
    // The first life finds things not made yet; what it meets is in the second one's way no more.
    for (let round = 0; round < (this.scenario.fresh ? 1 : 2); round++) {
      this.control.forget();
      const result = await this.live(plain);
      if (result.problems.length) throw new Error(`without any fault: ${result.problems.join('; ')}`);
      this.usual = result;
    }
    return { ...begin, ...this.control.counted };
  }
  async live(point) {
    this.lives++;
    if (this.scenario.fresh && this.lives > 1) await this.renew();
    const problems = [];
    const result = await this.scenario.live(this, point, problems);
    if (this.scenario.fresh) problems.push(...await this.judgeNow());
    return { problems, ...result };
  }
  // Another folder with nothing in it.
  async renew() {
    const { host } = this;
    this.hosts = [];
    await host.bench.close();
    this.makeHost();
    this.answers = [];
  }
  // Runs the program; what is always wrong is noted.
  async run(program, args, point, problems, { env = {}, input } = {}) {
    this.control.arm(point);
    const result = await runOnce(path.join(L.build, program), ['--config', this.host.bench.config, ...args],
      { env: { ...this.environment(this.control, point.calls), ...env }, input });
    result.failed = this.control.failed;
    this.control.disarm();
    if (process.env.TRACE) process.stderr.write(`${point.text}: status ${result.status} ${result.signal || ''}\n${result.out}${result.err}`);
    this.judgeEnd(result, program === 'leadctl' ? result.err + result.out : result.err, point, problems);
    return result;
  }
  judgeEnd({ status, signal, late }, message, point, problems, allowed = []) {
    const said = message.trim().split('\n').slice(-3).join(' | ');
    if (late) problems.push(`${point.text}: hangs: ${said}`);
    else if (signal) problems.push(`${point.text}: ended by ${signal}: ${said}`);
    else if (status !== 0 && ![...SYSEXITS, ...this.scenario.statuses || [], ...allowed].includes(status)) problems.push(`${point.text}: status ${status}: ${said}`);
    else if (status !== 0 && !message.trim() && point.what !== 'write') problems.push(`${point.text}: status ${status} without a message`);
  }
  // Without any fault.
  clean(program, args, options = {}) {
    return runOnce(path.join(L.build, program), ['--config', this.host.bench.config, ...args], { ...options, env: { ...this.environment(), ...options.env } });
  }

  // A lead of this point's own: its address says which.
  leadOf(point) {
    const email = `${point.text.replaceAll(':', '-')}.${this.number}.${this.lives}.${this.answers.length}@example.com`;
    return { email, body: this.scenario.body || L.lead({}, { Email: email }) };
  }
  // What the request's answer may be: the usual one, or 503.
  note(lead, { code, json, retryAfter, text }, point, problems, { must = false } = {}) {
    const answer = { ...lead, code, status: json && json.status, id: json && json.id, retryAfter, text };
    this.answers.push(answer);
    if (this.scenario.codes.includes(code)) return;
    if (code === 503 && retryAfter && !must) return;
    problems.push(`${point.text}: ${must ? 'the next request is answered' : 'answer'} ${code}: ${text}`);
  }

  // --- a server

  async startKept() {
    this.server = new Server(this, this.control, true);
    await this.server.ready();
    if (this.server.over) throw new Error(`leadhook ended with ${this.server.status}: ${this.server.log}`);
    return {};
  }
  async ask(lead, point, problems, { must = false, key = L.KEY } = {}) {
    const got = await within(LIFE_MS, fcgi.talk(this.socket, fcgi.request(fcgi.parameters(key, lead.body), lead.body)).catch((error) => ({ code: null, head: '', body: error.code })));
    if (got === 'late') { problems.push(`${point.text}: no answer, and the connection stays`); return 'late'; }
    const match = /^Retry-After: (\d+)/m.exec(got.head || '');
    if (got.code === null) {
      if (must) problems.push(`${point.text}: the next request gets no answer: ${got.body}`);
      this.answers.push({ ...lead, error: 'closed' });
      return 'closed'; // nginx makes 503 of it
    }
    this.note(lead, { code: got.code, json: got.json, retryAfter: match && match[1], text: got.body }, point, problems, { must });
    return String(got.code);
  }

  // --- the end

  async judge() {
    if (this.server) {
      const { server } = this;
      this.server = undefined;
      const problems = [];
      if (this.files !== undefined) {
        const quiet = await L.until('descriptors', () => server.over || server.files() <= this.files + (this.scenario.spare || 0), 5000).catch(() => false);
        if (!quiet && !server.over) problems.push(`descriptors: ${this.files} at the beginning, ${server.files()} at the end: ${server.names().join(' ')}`);
      }
      const late = await server.stop();
      if (late || server.signal || server.status !== 0) problems.push(`the end: ${late || ''} ${server.signal || ''} ${server.status}: ${server.log.slice(-300)}`);
      return [...problems, ...await this.judgeNow()];
    }
    return this.scenario.fresh ? [] : this.judgeNow();
  }
  // What waits is sent or copied, then everything that was answered is held against what there is.
  async judgeNow() {
    const end = Date.now() + SETTLE_MS;
    const { scenario } = this;
    for (;;) {
      if (scenario.relays) await this.clean('leadctl', ['relay', '--once'], this.whenUp());
      const found = await this.look();
      this.tellPoints(found.problems);
      found.problems = found.problems.filter((problem) => !this.isInevitable(problem));
      if (found.parked) found.problems.push(`parked: ${found.parked} mails`);
      if (found.settled || !scenario.relays || Date.now() > end) return found.problems;
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
  }
}

// --- kinds of lives --------------------------------------------------------------------------------------------------

const cgiEnvironment = (lead) => fcgi.parameters(L.KEY, lead.body);

async function liveCgi(lane, point, problems) {
  const lead = lane.leadOf(point);
  const { failed, status, out } = await lane.run('leadhook', [], point, problems, { env: cgiEnvironment(lead), input: lead.body });
  const [head, ...rest] = out.split('\r\n\r\n');
  const body = rest.join('\r\n\r\n');
  const length = /^Content-Length: (\d+)/m.exec(head);
  if (!length || Buffer.byteLength(body) !== Number(length[1])) {
    lane.answers.push({ ...lead, error: 'none' });
    if (status === 0) problems.push(`${point.text}: status 0 without an answer`);
    return { failed, outcome: `exit ${status}` };
  }
  const retry = /^Retry-After: (\d+)/m.exec(head);
  let json;
  try { json = JSON.parse(body); } catch { if (/json/.test(head)) problems.push(`${point.text}: no JSON: ${head} ${body}`); }
  const code = Number((/^Status: (\d+)/.exec(head) || [])[1]);
  lane.note(lead, { code, json, retryAfter: retry && retry[1], text: body }, point, problems);
  return { failed, outcome: String(code) };
}

// Start, two requests, stop.  The first request may meet the fault; when it or the start did, the second is answered as usual.
async function liveServer(lane, point, problems) {
  lane.control.arm(point);
  const server = new Server(lane, lane.control, point.calls);
  let outcome = 'stopped';
  if (await server.ready() === 'late') problems.push(`${point.text}: neither ready nor over`);
  if (!server.over) {
    outcome = await lane.ask(lane.leadOf(point), point, problems);
    const met = lane.control.failed > 0;
    if (met) lane.control.disarm();
    const before = problems.length;
    if (!server.over) await lane.ask(lane.leadOf(point), point, problems, { must: met });
    if (problems.length > before) problems.push(`${point.text}: what it had logged:\n${server.log.slice(-2000)}`);
    if (server.over) problems.push(`${point.text}: ended by itself: ${server.signal || server.status}`);
  } else {
    outcome = `exit ${server.status}`;
  }
  const late = await server.stop() === 'late';
  const failed = lane.control.failed;
  lane.control.disarm();
  lane.judgeEnd({ status: server.status, signal: late ? null : server.signal, late }, server.log, point, problems);
  return { failed, outcome };
}

// One request to a server that has served before and goes on.
async function liveKept(lane, point, problems) {
  if (!lane.server) await lane.startKept();
  const { server } = lane;
  if (lane.lives === 4) lane.files = server.files(); // what is made once is made
  lane.control.arm(point);
  const act = lane.scenario.act || ((l) => l.ask(l.leadOf(point), point, problems));
  const outcome = await act(lane, point, problems);
  const failed = lane.control.failed;
  lane.control.disarm();
  if (!server.over) await lane.ask(lane.leadOf(point), point, problems, { must: true });
  if (server.over) {
    await server.ended;
    problems.push(`${point.text}: the server ended: ${server.signal || server.status}: ${server.log.slice(-300)}`);
    lane.server = undefined;
  }
  return { failed, outcome };
}

// SIGHUP with a new key: afterwards either the new key is good and the old one is not, or the log says why not and it is
// the other way round.
async function actReload(lane, point, problems) {
  const { server } = lane;
  const old = lane.key || L.KEY;
  const fresh = old === L.KEY ? `${L.KEY}.other` : L.KEY;
  const before = [server.count('reloaded'), server.count('reload-refused')];
  lane.host.bench.write('keys', `market ${fresh}\n`);
  server.child.kill('SIGHUP');
  const late = await server.waitFor(() => server.count('reloaded') > before[0] || server.count('reload-refused') > before[1]) === 'late';
  lane.control.disarm();
  if (late) problems.push(`${point.text}: SIGHUP, and the log says nothing`);
  if (server.over) return 'over';
  const isDone = server.count('reloaded') > before[0];
  lane.key = isDone ? fresh : old;
  for (const [key, code] of [[fresh, isDone ? 200 : 401], [old, isDone ? 401 : 200]]) {
    const lead = lane.leadOf(point);
    const got = await fcgi.talk(lane.socket, fcgi.request(fcgi.parameters(key, lead.body), lead.body)).catch(() => ({}));
    if (got.code !== code) problems.push(`${point.text}: after ${isDone ? 'reloaded' : 'reload-refused'} a key gets ${got.code} instead of ${code}`);
    lane.answers.push({ ...lead, code: got.code, status: got.json && got.json.status, id: got.code === 200 ? got.json.id : undefined });
  }
  lane.host.bench.write('keys', `market ${L.KEY}\n`); // for the request that follows
  if (lane.key !== L.KEY) {
    const reloads = server.count('reloaded');
    server.child.kill('SIGHUP');
    await server.waitFor(() => server.count('reloaded') > reloads);
    lane.key = L.KEY;
  }
  return isDone ? 'reloaded' : 'refused';
}

// A lead that was stored, or spooled, before; then a pass of the relay.
async function liveRelay(lane, point, problems) {
  const lead = lane.leadOf(point);
  const { out } = await lane.clean('leadhook', [], { env: cgiEnvironment(lead), input: lead.body });
  if (!out) throw new Error('the lead before it was not taken');
  const json = JSON.parse(out.split('\r\n\r\n')[1]);
  lane.note(lead, { code: Number(/^Status: (\d+)/.exec(out)[1]), json, text: out }, point, problems, { must: true });
  const { failed, status } = await lane.run('leadctl', ['relay', '--once'], point, problems, lane.whenUp());
  return { failed, outcome: `exit ${status}` };
}

// A command of leadctl.  With the usual status it says the usual things, or that something is missing.
async function liveCommand(lane, point, problems) {
  if (!lane.prepared) {
    lane.prepared = true;
    for (let i = 0; i < 3; i++) {
      const lead = lane.leadOf({ text: 'prepared' });
      await lane.clean('leadhook', [], { env: cgiEnvironment(lead), input: lead.body });
    }
  }
  const { failed, status, out, err } = await lane.run('leadctl', lane.scenario.command, point, problems);
  const said = (text) => text.replace(CHANGING, '#');
  const isRead = !/^writev?:EPIPE:/.test(point.text); // who has stopped reading is told nothing more, which is no failure
  if (isRead && lane.usual && status === lane.usual.status && said(out) !== said(lane.usual.out) && !/not everything could be read|last used is not known/.test(out + err))
    problems.push(`${point.text}: status ${status}, but it says\n${out}instead of\n${lane.usual.out}`);
  return { failed, status, out, outcome: `exit ${status}` };
}

// --- the scenarios ---------------------------------------------------------------------------------------------------

// most: points in make torture, for allocations of others and of OpenSSL, for allocations from the k-th on, and for
// each call and error.
const scenarios = [
  { name: 'cgi-new', live: liveCgi, codes: [200], fresh: true, most: [100, 15, 40, 2] },
  { name: 'cgi-sqlite', live: liveCgi, codes: [200], maildir: true, relays: true, most: [150, 20, 50, 2] },
  { name: 'cgi-table', live: liveCgi, codes: [200], table: true, maildir: true, relays: true, most: [200, 20, 60, 2] },
  { name: 'cgi-spool', live: liveCgi, codes: [202], table: true, down: true, spool: true, relays: true, most: [150, 20, 50, 2] },
  { name: 'cgi-quarantine', live: liveCgi, codes: [400], body: '{"UserDetails":', most: [100, 10, 40, 1] },
  { name: 'server-sqlite', live: liveServer, serves: true, codes: [200], maildir: true, relays: true, most: [60, 5, 20, 1] },
  { name: 'server-table', live: liveServer, serves: true, codes: [200, 202], table: true, spool: true, maildir: true, relays: true, most: [60, 5, 20, 1] },
  { name: 'request-sqlite', live: liveKept, kept: true, serves: true, codes: [200], maildir: true, relays: true, most: [150, 20, 40, 8] },
  { name: 'request-table', live: liveKept, kept: true, serves: true, codes: [200], table: true, spare: CONNECTIONS, most: [200, 30, 50, 10] },
  { name: 'request-quarantine', live: liveKept, kept: true, serves: true, codes: [400], body: '{"UserDetails":', most: [200, 30, 50, 10] },
  { name: 'reload', live: liveKept, act: actReload, kept: true, serves: true, codes: [200], table: true, spare: CONNECTIONS, skips: ['write'], most: [150, 20, 40, 3] }, // what it did is read from the log
  { name: 'relay-maildir', live: liveRelay, codes: [200], maildir: true, relays: true, most: [100, 10, 30, 1] },
  { name: 'relay-smtp', live: liveRelay, codes: [200], smtp: true, relays: true, most: [70, 20, 15, 1] },
  { name: 'relay-drain', live: liveRelay, codes: [202], table: true, down: true, spool: true, maildir: true, relays: true, most: [120, 10, 30, 1] },
  { name: 'ctl-status', live: liveCommand, command: ['status'], maildir: true, relays: true, statuses: [1, 2, 3], most: [60, 5, 20, 1] },
  { name: 'ctl-list', live: liveCommand, command: ['list'], maildir: true, relays: true, most: [60, 5, 20, 1] },
  { name: 'ctl-routes', live: liveCommand, command: ['routes', '--for', 'contoso.contoso-app', '--country', 'DE'], maildir: true, relays: true, most: [60, 5, 20, 1] },
  { name: 'ctl-export', live: liveCommand, command: ['export'], maildir: true, relays: true, most: [60, 5, 20, 1] },
  { name: 'ctl-stats', live: liveCommand, command: ['stats'], maildir: true, relays: true, most: [60, 5, 20, 1] },
  { name: 'ctl-check', live: liveCommand, command: ['check', '--nginx', 'off'], maildir: true, relays: true, statuses: [1], most: [60, 5, 20, 1] },
  { name: 'ctl-report', live: liveCommand, command: ['report'], maildir: true, relays: true, most: [60, 5, 20, 1] },
  { name: 'ctl-key-new', live: liveKey, command: ['key', 'new', 'market'], most: [60, 5, 20, 2] },
  { name: 'ctl-key-list', live: liveCommand, command: ['key', 'list'], most: [60, 5, 20, 1] },
  { name: 'ctl-key-retire', live: liveKey, command: ['key', 'retire', 'market'], most: [60, 5, 20, 2] },
  { name: 'ctl-erase', live: liveErase, codes: [200], maildir: true, relays: true, most: [40, 5, 15, 1] },
  { name: 'ctl-erase-spool', live: liveErase, codes: [200], table: true, down: true, spool: true, relays: true, most: [30, 5, 12, 1] },
  { name: 'ctl-purge', live: livePurge, codes: [200], maildir: true, relays: true, most: [40, 5, 15, 1] },
];

// What there is to try of a life in which `seen` was counted: {prefix, count, most}.
function plans(scenario, seen) {
  const [other, openssl, rest, calls] = scenario.most;
  const list = [
    { prefix: 'allocation-other:one', count: seen['allocation-other'] || 0, most: other },
    { prefix: 'allocation-openssl:one', count: seen['allocation-openssl'] || 0, most: openssl },
    { prefix: 'allocation:rest', count: seen.allocation || 0, most: rest },
  ];
  for (const [name, count] of Object.entries(seen)) {
    if (scenario.skips && scenario.skips.includes(name)) continue;
    for (const error of ERRORS[name] || []) list.push({ prefix: `${name}:${error}`, count, most: calls });
  }
  return list;
}

module.exports = { Lane, scenarios, plans };
