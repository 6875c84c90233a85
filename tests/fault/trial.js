// A trial of `make fault`: a known set of leads is posted through nginx while
// something breaks, everything recovers, and what was answered is compared with
// what is stored and with what the SMTP server accepted.
//
//   const t = new Trial('kind', 7);
//   await t.start({ store: 'table', processes: 2 });
//   const posting = t.post(...t.leads(20));
//   ... break something: t.table.kill(), t.host.kill(0), t.smtp.faults = {...}
//   await posting;
//   await t.recovered();
//   await t.judge();
//
// run.js makes the trial, judges it when the kind has not, and closes it.
'use strict';

const { execFile } = require('node:child_process');
const crypto = require('node:crypto');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const L = require('../system/lib.js');

const TABLE = 'MarketplaceLeads';
const HURRY = 600;         // a minute becomes 0.1 s; ten, which a mailer waits for a final reply, become one
const ANSWER_MS = 20000;   // a sender waits no longer
const RECOVERY_MS = 40000;
const harness = (name) => path.join(L.build, 'harness', name);

function isGone(pid) {
  try {
    return /^State:\s+[ZX]/m.test(fs.readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return true;
  }
}

// A host: nginx, and leadhooks on one socket that outlives them, with a spool and a relay of their own.
class Host {
  constructor(trial, name, options) {
    this.trial = trial;
    this.name = name;
    this.bench = new L.Bench(trial);
    this.file = (each) => this.bench.file(each);
    this.options = typeof options === 'function' ? options(this) : options;
  }

  async start() {
    const { trial, options } = this;
    const mail = trial.smtp ? trial.smtp.settings() : options.maildir ? { mail_url: `maildir:${this.file('Maildir')}` } : {};
    const store = trial.table
      ? { store: 'table', table_connection_file: this.bench.write('connection', L.connectionString((trial.proxy || trial.table).port)), spool: this.file('spool.db') }
      : { store: `sqlite:${this.file('leads.db')}` };
    this.bench.configure({ listen: null, listen_mode: null, relay_socket: this.file('relay'), request_deadline_ms: 500, ...store, ...mail, ...options.settings });
    this.nginx = await this.bench.startNginx();
    await this.startWorkers();
    return this;
  }

  // --- leadhooks

  async startWorkers() {
    const { processes = 2, hurry = HURRY, env = {}, preload, wrap = [] } = this.options;
    const environment = { ...process.env, LEADHOOK_TEST_HURRY: String(hurry), ...env };
    if (preload) {
      environment.LD_PRELOAD = harness('preload.so');
      environment.LH_FAULT_ARM = this.file('armed');
      environment.LH_FAULT_COUNT = this.file('counted');
      environment.LH_FAULT = preload.fault;
    }
    fs.rmSync(this.file('fcgi.sock'), { force: true });
    // A supervisor that was killed could not say that its processes have ended.
    this.begun = fs.existsSync(this.file('leadhook.log')) ? this.log().length : 0;
    this.supervisor = new L.Program('supervise', harness('supervise'),
      [this.file('fcgi.sock'), String(processes), ...wrap, path.join(L.build, 'leadhook'), '--config', this.bench.config],
      { log: this.file('leadhook.log'), spawn: { env: environment } });
    const { supervisor } = this;
    this.bench.stops.push(() => supervisor.stop());
    await this.ready();
  }
  log() { return fs.readFileSync(this.file('leadhook.log'), 'utf8'); }
  // The processes that run now, by their index.
  pids() {
    const running = new Map();
    for (const [, what, index, pid] of this.log().slice(this.begun).matchAll(/^(started|ended) (\d+) (\d+)/gm)) {
      if (what === 'started') running.set(Number(index), Number(pid));
      else if (running.get(Number(index)) === Number(pid)) running.delete(Number(index));
    }
    return running;
  }
  // As many as there should be, and all of them at work.
  ready() {
    return L.until(`the processes of ${this.name}`, () => {
      if (this.supervisor.status !== undefined) throw new Error(`the supervisor ended with ${this.supervisor.status}: ${this.supervisor.output()}`);
      const log = this.log();
      const pids = [...this.pids().values()];
      return pids.length === (this.options.processes || 2) && pids.every((pid) => new RegExp(`event=ready pid=${pid} `).test(log));
    });
  }
  // How often a process has ended by this signal (9), or with a status: [['signal', 9], ['exit', 0]...].
  ends() { return [...this.log().matchAll(/^ended \d+ \d+ (exit|signal) (\d+)/gm)].map(([, how, number]) => [how, Number(number)]); }
  // Another is started in its place.  Only processes that the supervisor has not seen end are signalled.
  kill(index, signal = 'SIGKILL') {
    const pid = this.pids().get(index);
    try {
      if (pid) process.kill(pid, signal);
    } catch (error) {
      if (error.code !== 'ESRCH') throw error; // it has just ended by itself
    }
    return pid;
  }
  killAll(signal = 'SIGKILL') { return [...this.pids().keys()].map((index) => this.kill(index, signal)); }
  // From now on the preloaded library counts.
  arm() { fs.writeFileSync(this.file('armed'), ''); }
  // How many of the calls that its first rule is about were made so far.
  counted() { return fs.existsSync(this.file('counted')) ? Number(fs.readFileSync(this.file('counted')).readBigInt64LE(0)) : 0; }
  disarm() { fs.rmSync(this.file('armed'), { force: true }); }
  // SIGTERM to all; 0 when each ended with 0.
  async stopWorkers() { return this.supervisor.stop(); }

  // Rows in its spool that are still to be copied; a generation that was left keeps what it had.
  spooled() {
    const { spool } = this.bench.settings;
    if (!spool || !fs.existsSync(spool)) return 0;
    let current = spool;
    for (let number = 2; fs.existsSync(`${spool}.${number}`); number++) current = `${spool}.${number}`;
    return new Promise((resolve) => {
      execFile('sqlite3', ['-readonly', '-cmd', '.timeout 5000', current, "SELECT count(*) FROM entity WHERE partition_key IN ('spool', 'quarantine') AND row_key NOT LIKE '~%'"],
        (error, stdout) => resolve(error ? 0 : Number(stdout)));
    });
  }

  // --- nginx

  async startNginx() { this.nginx = await this.bench.runNginx(); }
  // The master and its workers, at once.
  async killNginx() {
    const { pid } = this.nginx.child;
    const children = fs.readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ').filter(Boolean).map(Number);
    this.nginx.child.kill('SIGKILL');
    for (const child of children) process.kill(child, 'SIGKILL');
    await this.nginx.ended;
    await L.until('the end of nginx', () => children.every(isGone));
  }
}

class Trial {
  constructor(kind, number) {
    this.kind = kind;
    this.number = number;
    this.afters = [];
    this.answers = []; // {body, email, code, status, id, retryAfter, error}: error instead of the others where no answer came
    this.hosts = [];
  }

  // Bench's and Program's context: what has to be stopped in the end.
  after(stop) { this.afters.push(stop); }
  async close({ keep = false } = {}) {
    const errors = [];
    const { afters } = this;
    this.afters = [];
    for (const bench of [this.bench, ...this.hosts.map((host) => host.bench)]) if (bench) bench.keep = keep;
    for (const stop of afters.reverse()) await stop().catch((error) => errors.push(error));
    if (errors.length) throw errors[0];
  }
  folders() { return [this.bench, ...this.hosts.map((host) => host.bench)].filter(Boolean).map((bench) => bench.dir); }

  // store: 'table' (the fake service) or 'sqlite'.  proxy: whether t.proxy of startProxy stands before the service.
  // processes: leadhooks on the one socket.  smtp: whether mail is sent; maildir: into a folder instead.
  // smtpOptions: see startSmtp.  settings: of leadhook.conf.  env: of leadhook.  wrap: a command that runs it.
  // hurry: how much shorter long waits are.  preload: {fault: 'write:kill:7'}: see tests/harness/preload.c; counts in all processes together from host.arm() on.
  async start({ store, proxy, maildir = false, smtp = !maildir, smtpOptions, ...host } = {}) {
    await this.startServers({ store, proxy, smtp, smtpOptions });
    await this.addHost({ maildir, ...host });
    return this;
  }
  async startServers({ store = 'table', proxy = false, smtp = true, smtpOptions = {} } = {}) {
    this.bench = new L.Bench(this);
    if (store === 'table') this.table = await L.startFakeTable(this.bench);
    if (proxy) this.proxy = await L.startProxy(this.bench, this.table.port);
    if (smtp) {
      this.smtp = await L.startSmtp(this.bench, { tls: sharedCertificate(), ...smtpOptions });
      this.smtp.fault = (faults = {}) => { this.smtp.faults = faults; };
    }
  }
  // One more, on the same table and SMTP server.  The options may be a function of the host.
  async addHost(options = {}) {
    const host = new Host(this, `host ${this.hosts.length + 1}`, options);
    this.hosts.push(host);
    return host.start();
  }
  // Numbers below n, the same ones whenever the trial is repeated.
  random(n) {
    this.drawn = (this.drawn || 0) + 1;
    return crypto.createHash('sha256').update(`${this.kind} ${this.number} ${this.drawn}`).digest().readUInt32LE(0) % n;
  }
  get host() { return this.hosts[0]; }

  // One more trial of the same kind, for its own use; closed with this one or before.
  another() {
    const trial = new Trial(this.kind, this.number);
    this.after(() => trial.close());
    return trial;
  }

  // Distinct leads.
  leads(count, ...changes) {
    return Array.from({ length: count }, () => {
      const body = L.lead(...changes);
      return { body, email: JSON.parse(body).UserDetails.Email };
    });
  }

  // Posts the leads at once; records and gives their answers.
  post(...leads) { return Promise.all(leads.flat().map((lead) => this.postTo(this.host, lead))); }
  async postTo(host, { body, email }) {
    const answer = { body, email };
    try {
      const got = await within(ANSWER_MS, L.request(host.bench.port, 'POST', `/leads?key=${encodeURIComponent(L.KEY)}`, body, { 'Content-Type': 'application/json' }));
      answer.code = got.code;
      answer.status = got.json && got.json.status;
      answer.id = got.json && got.json.id;
      answer.retryAfter = got.headers['retry-after'];
      answer.text = got.text;
    } catch (error) {
      answer.error = error.code || error.message;
    }
    this.answers.push(answer);
    return answer;
  }
  // Senders that post one lead after the other until stop() is called; their answers are recorded like the others.
  load({ senders = 4, most = 400, host = this.host } = {}) {
    let running = true;
    let left = most;
    const all = Array.from({ length: senders }, async () => {
      while (running && left-- > 0) {
        const answer = await this.postTo(host, this.leads(1)[0]);
        if (answer.error) await pause(10); // nobody listens at the moment
      }
    });
    return { stop: async () => { running = false; await Promise.all(all); } };
  }

  // --- the end

  // Every fault is lifted; waits until nothing is on its way any more.  What still is after the limit shows in judge().
  async recovered({ limit = RECOVERY_MS } = {}) {
    await this.lift();
    return this.settled(limit);
  }
  async lift() {
    for (const host of this.hosts) {
      host.disarm();
      if (host.nginx.status !== undefined) await host.startNginx();
      if (host.supervisor.status !== undefined) await host.startWorkers();
    }
    if (this.table) {
      if (this.table.running) this.table.thaw();
      else await this.table.start();
      await this.table.fault();
    }
    if (this.smtp) {
      this.smtp.fault();
      if (!this.smtp.listens()) await this.smtp.start();
    }
    for (const host of this.hosts) await host.ready();
  }
  async settled(limit) {
    // Twice: the process that was killed may have sent a request that takes effect only now.
    const end = Date.now() + limit;
    for (let settled = 0; ;) {
      const found = await this.look();
      settled = found.settled ? settled + 1 : 0;
      if (settled === 2 || Date.now() > end) return found;
      await pause(settled ? 150 : 50);
    }
  }

  // The rows of the store, as plain objects.
  async rows() {
    if (!this.table) return this.host.bench.entities();
    const all = [];
    for (const table of [TABLE, `${TABLE}Ops`]) {
      // The tables are made with the first lead.
      const found = await L.rows(this.table.port, table).catch((error) => { if (error.statusCode === 404) return []; throw error; });
      all.push(...found.map(plain));
    }
    return all;
  }

  // What there is now, held against what was answered.
  async look() {
    const rows = await this.rows();
    const leads = rows.filter(L.isLead);
    const waiting = rows.filter((row) => L.isMail(row) && row.State !== 'parked');
    const parked = rows.filter((row) => L.isMail(row) && row.State === 'parked');
    const quarantined = new Set(rows.filter((row) => row.partitionKey === 'quarantine').map((row) => row.rowKey.split('-')[1]));
    const byEmail = group(leads, (row) => row.Email);
    const problems = [];
    const spooled = (await Promise.all(this.hosts.map((host) => host.spooled()))).reduce((sum, each) => sum + each, 0);
    const result = { acked: 0, lost: 0, duplicate_rows: 0, duplicate_mails: 0, unmailed: 0, parked: parked.length, waiting: waiting.length, spooled, problems };

    for (const [email, answers] of group(this.answers, (answer) => answer.email)) {
      const good = answers.filter((answer) => answer.code >= 200 && answer.code < 300);
      const stored = byEmail.get(email) || [];
      const kept = (answer) => (answer.status === 'quarantined' ? quarantined.has(answer.id)
        : stored.some((row) => [row.DeliveryId, row.LastDeliveryId].includes(answer.id) || (answers.length > 1 && row.Deliveries > 1)));
      result.acked += good.length > 0;
      for (const answer of good.filter((each) => !kept(each)).slice(0, 1)) {
        result.lost++;
        problems.push(`lost: ${email} answered ${answer.code} ${answer.status} ${answer.id}, stored ${stored.map((row) => row.DeliveryId).join(' ') || 'nowhere'}`);
      }
      if (stored.length > 1) {
        result.duplicate_rows += stored.length - 1;
        problems.push(`duplicate rows: ${email} ${stored.map((row) => `${row.partitionKey}/${row.rowKey}`).join(' ')}`);
      }
      // A write of ours that was repeated must not count as a delivery.
      for (const row of stored.filter((each) => each.Deliveries > answers.length)) {
        problems.push(`deliveries: ${email} has ${row.Deliveries} and was posted ${answers.length} times`);
      }
      for (const answer of answers.filter((each) => !this.allowsAnswer(each))) {
        problems.push(`answer: ${email} ${answer.code || ''} ${answer.error || ''} ${answer.text || ''}`);
      }
    }
    for (const answer of this.answers.filter((each) => each.code >= 400 && each.id && !quarantined.has(each.id))) {
      result.lost++;
      problems.push(`lost: not in quarantine: ${answer.code} ${answer.id}`);
    }

    if (this.smtp) {
      this.lookAtMails(this.smtp.mails.flatMap((mail) => mail.to.map((to) => [mail.parsed.messageId, to])), leads, [...waiting, ...parked], result);
      problems.push(...this.lookAtCopies());
    } else if (this.host.options.maildir) {
      this.lookAtMails((await this.host.bench.mails()).map(({ parsed }) => [parsed.messageId, parsed.to.text]), leads, [...waiting, ...parked], result);
    }
    result.settled = !problems.some((each) => /^(lost|unmailed)/.test(each)) && waiting.length === 0 && spooled === 0;
    if (spooled) problems.push(`spooled: ${spooled} rows are left in the spool`);
    if (waiting.length) problems.push(...waiting.map((row) => `waits: ${row.rowKey} ${row.State} tries=${row.Tries} next=${row.NextTime} ${row.Error || ''}`));
    return result;
  }

  // Where a mail may be there twice, it is repeated at most twice, with the same bytes.
  lookAtCopies() {
    const problems = [];
    for (const [mail, copies] of group(this.smtp.mails, (each) => `${each.parsed.messageId} ${each.to}`)) {
      if (copies.length > 3) problems.push(`copies: ${mail} was sent ${copies.length} times`);
      if (!copies.every((copy) => copy.raw.equals(copies[0].raw))) problems.push(`copies: those of ${mail} differ`);
    }
    return problems;
  }

  lookAtMails(pairs, leads, rows, result) {
    const recipients = this.host.bench.settings.mail_to.split(',').length;
    const mails = group(pairs.map((pair) => pair.join(' ')).filter((each) => each.startsWith('<lead.')), (each) => each);
    const ids = new Set(leads.map((row) => row.DeliveryId));
    const sent = new Map();
    for (const [mail, times] of mails) {
      const id = mail.slice('<lead.'.length).split('.')[0];
      sent.set(id, (sent.get(id) || 0) + 1);
      // A mail of a delivery that is no row's is one too many as well.
      const extra = times.length - (ids.has(id) ? 1 : 0);
      if (!extra) continue;
      result.duplicate_mails += extra;
      result.problems.push(`duplicate mail: ${mail} ${times.length} times${ids.has(id) ? '' : ', of no lead that is stored'}`);
    }
    for (const row of leads) {
      const open = rows.filter((each) => each.rowKey.startsWith(`~mail-${row.rowKey}-`)).length;
      if ((sent.get(row.DeliveryId) || 0) + open >= recipients) continue;
      result.unmailed++;
      result.problems.push(`unmailed: ${row.Email} ${row.DeliveryId}`);
    }
  }

  // A sender of a good lead sees nothing but 2xx, and 503 with Retry-After; and no answer where nginx was killed.
  allowsAnswer(answer) {
    if (answer.error) return Boolean(this.mayBreakConnections);
    if (answer.code === 503) return Boolean(answer.retryAfter);
    return answer.code >= 200 && answer.code < 300;
  }

  // Stops leadhook and looks for the last time.  A transaction that was cut off after its last byte can come to light
  // only now, when nobody uses the database any more: what it left to do is done by processes that start again.
  async judge() {
    const stops = [];
    for (let round = 0; round < 2; round++) {
      if (round) await this.recovered();
      for (const host of this.hosts) {
        const status = await host.stopWorkers();
        if (status !== 0) stops.push(`stop: ${host.name} ended with ${status}`);
      }
      this.verdict = await this.look();
      if (this.verdict.settled) break;
    }
    this.verdict.problems.push(...stops);
    return this.verdict;
  }
}

function group(list, key) {
  const groups = new Map();
  for (const each of list) {
    const name = key(each);
    if (!groups.has(name)) groups.set(name, []);
    groups.get(name).push(each);
  }
  return groups;
}
// {type, value} as the SDK gives it, as numbers, booleans and texts.
function plain(row) {
  const convert = ({ type, value }) => (type === 'Int32' || type === 'Double' ? Number(value) : value);
  return Object.fromEntries(Object.entries(row).map(([name, value]) => [name, value && typeof value === 'object' && 'value' in value ? convert(value) : value]));
}
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
function within(ms, promise) {
  let timer;
  const limit = new Promise((resolve, reject) => { timer = setTimeout(() => reject(new Error(`no answer within ${ms} ms`)), ms); });
  return Promise.race([promise, limit]).finally(() => clearTimeout(timer));
}

// One for the run: making it takes longer than some trials.
let shared;
function sharedCertificate() {
  if (!shared) {
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'lh-certificate-'));
    shared = L.certificate({ file: (name) => path.join(folder, name) });
    process.on('exit', () => fs.rmSync(folder, { recursive: true, force: true }));
  }
  return shared;
}

module.exports = { Trial, Host, group, TABLE, HURRY, pause };
