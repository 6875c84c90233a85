// What the system tests start and stop: nginx with the product's own files,
// leadhook, Azurite, an SMTP server, and a proxy that makes faults.
//
// Every server gets a free port and a folder of its own; all waiting is for a
// condition, with a limit; everything started is ended by pid.
'use strict';

const assert = require('node:assert');
const { execFile, spawn, spawnSync } = require('node:child_process');
const crypto = require('node:crypto');
const fs = require('node:fs');
const http = require('node:http');
const net = require('node:net');
const os = require('node:os');
const path = require('node:path');
const nodeTest = require('node:test');

const top = path.resolve(__dirname, '../..');
const build = path.resolve(top, process.env.BUILD || 'build/release');
// Built for a sanitizer or for coverage: without the sandbox, slower, and with memory of their own.
const isInstrumented = ['asan', 'tsan', 'cov'].includes(process.env.VARIANT);
const KEY = 'Test-key_0123456789.abcdef~';
const ACCOUNT = 'devstoreaccount1';
const ACCOUNT_KEY = 'Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==';
const WAIT_MS = 30000;
const TEST_MS = 300000; // with room for the sanitizers

// Calls until the result is truthy.
async function until(what, condition, limit = WAIT_MS) {
  const end = Date.now() + limit;
  for (;;) {
    const result = await condition();
    if (result) return result;
    if (Date.now() > end) throw new Error(`timed out waiting for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

// Not of those that the kernel gives to connections: it would give one away before the server has taken it.
const PORTS = { from: 10000, to: 32000 };

function freePort() {
  return new Promise((resolve, reject) => {
    const server = net.createServer();
    const listen = () => server.listen(crypto.randomInt(PORTS.from, PORTS.to), '127.0.0.1');
    server.on('error', (error) => (error.code === 'EADDRINUSE' ? listen() : reject(error)));
    server.on('listening', () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
    listen();
  });
}

function isListening(port) {
  return new Promise((resolve) => {
    const socket = net.connect(port, '127.0.0.1');
    socket.on('connect', () => { socket.destroy(); resolve(true); });
    socket.on('error', () => resolve(false));
  });
}

// A program with its output kept in a file.  options.group: it leaves its children alone when it ends, so they are
// ended with it.
class Program {
  constructor(name, file, args, options = {}) {
    this.name = name;
    this.log = options.log;
    this.group = options.group;
    const out = fs.openSync(options.log, 'a');
    this.child = spawn(file, args, { stdio: [options.stdin || 'ignore', out, out], detached: Boolean(this.group), ...options.spawn });
    fs.closeSync(out);
    this.ended = new Promise((resolve) => this.child.on('exit', (code, signal) => {
      this.status = code === null ? signal : code;
      resolve(this.status);
    }));
  }
  output() { return fs.readFileSync(this.log, 'utf8'); }
  async stop(signal = 'SIGTERM') {
    if (this.status === undefined) this.child.kill(signal);
    const limit = setTimeout(() => this.child.kill('SIGKILL'), WAIT_MS);
    await this.ended;
    clearTimeout(limit);
    if (this.group) await until(`the end of ${this.name}'s children`, () => !this.killGroup());
    return this.status;
  }
  // Whether there was a process left.
  killGroup() {
    try {
      return process.kill(-this.child.pid, 'SIGKILL');
    } catch (error) {
      if (error.code === 'ESRCH') return false;
      throw error;
    }
  }
}

const benches = new Set(); // those of the running test

// A test that shows what its programs wrote when it fails.
function test(name, body) {
  return nodeTest(name, { timeout: TEST_MS }, async (t) => {
    try {
      await body(t);
    } catch (error) {
      for (const bench of benches) bench.showLogs();
      throw error;
    }
  });
}

// A place for one test: a folder, and what has to be stopped at its end.
class Bench {
  constructor(t) {
    benches.add(this);
    this.dir = fs.mkdtempSync(path.join(os.tmpdir(), 'lh-'));
    fs.chmodSync(this.dir, 0o755); // nginx's workers run as another user when the tests run as root
    this.stops = [];
    t.after(() => this.close());
  }
  file(name) { return path.join(this.dir, name); }
  write(name, text, mode = 0o600) {
    fs.writeFileSync(this.file(name), text, { mode });
    return this.file(name);
  }
  showLogs() {
    for (const name of fs.readdirSync(this.dir).filter((entry) => entry.endsWith('.log'))) {
      const tail = fs.readFileSync(this.file(name), 'utf8').split('\n').slice(-60).join('\n');
      if (tail) process.stderr.write(`--- ${name}\n${tail}\n`);
    }
  }
  // Everything is stopped, whatever happens; the first mistake found on the way is the test's.
  async close() {
    benches.delete(this);
    const errors = [];
    for (const stop of this.stops.reverse()) await stop().catch((error) => errors.push(error));
    if (errors.length) this.showLogs();
    if (!this.keep) fs.rmSync(this.dir, { recursive: true, force: true });
    if (errors.length) throw errors[0];
  }

  // Writes leadhook.conf; settings whose value is null are left out.
  configure(settings = {}) {
    this.write('keys', `# the test's key\nmarket ${KEY}\n`);
    const all = {
      listen: this.file('fcgi.sock'), listen_mode: '0666', keys_file: this.file('keys'),
      store: `sqlite:${this.file('leads.db')}`, ...settings,
    };
    const lines = Object.entries(all).filter(([, value]) => value !== null).map(([name, value]) => `${name} = ${value}\n`);
    this.config = this.write('leadhook.conf', lines.join(''));
    this.settings = all;
    return this;
  }

  // Azurite behind a proxy that makes faults; gives the settings with which leads are stored there.
  async startTable() {
    this.azurite = await startAzurite(this);
    this.proxy = await startProxy(this, this.azurite.port);
    return { store: 'table', table_connection_file: this.write('connection', connectionString(this.proxy.port)) };
  }

  // The settings with which mail goes where maildir() and mails() look.
  mailHere() { return { mail_url: `maildir:${this.file('Maildir')}`, mail_from: 'leads@example.com', mail_to: 'sales@example.com' }; }

  // The settings of the two, with a spool and alarms.
  async startTableWithSpool() {
    return { ...await this.startTable(), spool: this.file('spool.db'), ...this.mailHere(),
      alarm_to: 'operator@example.com', mail_per_minute: 6000, request_deadline_ms: 2500 };
  }

  // environment: variables besides this process's own.
  async startLeadhook(name = 'leadhook', config = this.config, environment = {}) {
    const log = this.file(`${name}.log`);
    const readies = () => (fs.existsSync(log) ? (fs.readFileSync(log, 'utf8').match(/event"?[=:]"?ready/g) || []).length : 0);
    const before = readies();
    const program = new Program(name, path.join(build, 'leadhook'), ['--config', config],
      { log, spawn: { env: { ...process.env, ...environment } } });
    // Not 0 also when a sanitizer has something to say at the end.  No test but that of the sandbox itself makes it deny a call.
    this.stopLeadhook = async () => {
      assert.strictEqual(await program.stop(), 0, 'how leadhook ended');
      if (!this.expectsDenials) assert.doesNotMatch(program.output(), /call-denied/);
    };
    this.stops.push(this.stopLeadhook);
    this.leadhook = program;
    await until('leadhook', () => {
      if (program.status !== undefined) throw new Error(`leadhook ended with ${program.status}: ${program.output()}`);
      return readies() > before;
    });
    return program;
  }

  // edit: gives what nginx shall have in the place of leadhook.conf's text.
  async startNginx({ main = '', connections = 512, http: more = '', edit } = {}) {
    this.port = await freePort();
    let locations = `${top}/nginx/leadhook.conf`;
    if (edit) {
      const text = fs.readFileSync(locations, 'utf8');
      const edited = edit(text);
      assert.notStrictEqual(edited, text);
      locations = this.write('edited.conf', edited, 0o644);
    }
    for (const folder of ['nginx']) fs.mkdirSync(this.file(folder), { mode: 0o755 });
    this.write('nginx.conf', `
worker_processes 1;
pid ${this.file('nginx.pid')};
error_log ${this.file('error.log')};
${main}
events { worker_connections ${connections}; }
http {
  ${more}
  access_log ${this.file('access.log')};
  client_body_temp_path ${this.file('nginx/body')}; fastcgi_temp_path ${this.file('nginx/fcgi')};
  proxy_temp_path ${this.file('nginx/proxy')}; scgi_temp_path ${this.file('nginx/scgi')}; uwsgi_temp_path ${this.file('nginx/uwsgi')};
  upstream leadhook { server unix:${this.file('fcgi.sock')}; keepalive 16; keepalive_timeout 500ms; }
  include ${top}/nginx/leadhook-http.conf;
  server {
    listen 127.0.0.1:${this.port};
    server_tokens off;
    access_log ${this.file('leads.log')} leadhook;
    include ${locations};
    location / { error_log /dev/null emerg; return 404; }
  }
}`);
    return this.runNginx();
  }

  // Once more on the same port, when it has ended.
  async runNginx() {
    const program = new Program('nginx', 'nginx', ['-p', this.dir, '-c', this.file('nginx.conf'), '-e', this.file('error.log'), '-g', 'daemon off;'],
      { log: this.file('nginx.out') });
    this.stops.push(() => program.stop('SIGTERM'));
    await until('nginx', () => {
      if (program.status !== undefined) throw new Error(`nginx: ${program.output()}`);
      return fs.existsSync(this.file('nginx.pid')) && isListening(this.port); // without the file it is another's port
    });
    return program;
  }

  // Posts a body; gives {code, headers, text, json}.
  post(body, { key = KEY, type = 'application/json', headers = {}, method = 'POST', path: where, from } = {}) {
    const url = where || (key === null ? '/leads' : `/leads?key=${encodeURIComponent(key)}`);
    return request(this.port, method, url, body, type ? { 'Content-Type': type, ...headers } : headers, from);
  }

  // Not spawnSync: the servers it talks to may run in this process.
  run(program, ...args) {
    return new Promise((resolve) => {
      execFile(path.join(build, program), args, { timeout: WAIT_MS },
        (error, stdout, stderr) => resolve({ status: error ? error.code : 0, stdout, stderr }));
    });
  }
  leadctl(...args) { return this.run('leadctl', '--config', this.config, ...args); }
  async list() {
    const result = await this.leadctl('list', '-n', '1000', '--json');
    assert.strictEqual(result.status, 0, result.stderr);
    return result.stdout.split('\n').filter(Boolean).map((line) => JSON.parse(line));
  }
  sqlite(sql, file = this.settings.store.replace(/^sqlite:/, '')) {
    const result = spawnSync('sqlite3', ['-json', '-cmd', '.timeout 10000', file, sql], { encoding: 'utf8', maxBuffer: 1 << 30 });
    assert.strictEqual(result.status, 0, result.stderr);
    return result.stdout ? JSON.parse(result.stdout) : [];
  }
  // Mails that wait for their next try are due now.
  hurryMails() {
    this.sqlite("UPDATE entity SET properties = json_set(properties, '$.NextTime', '2000-01-01T00:00:00.000Z') WHERE row_key LIKE '~mail-%'");
  }
  // The rows of the sqlite store, of both tables, without the one that /readyz writes.
  entities() {
    return this.sqlite("SELECT * FROM entity WHERE partition_key <> 'probe' ORDER BY kind, partition_key, row_key").map((row) =>
      ({ ...JSON.parse(row.properties), partitionKey: row.partition_key, rowKey: row.row_key }));
  }
  // All rows of the spool's first generation.
  spoolRows() { return this.sqlite('SELECT * FROM entity ORDER BY kind, partition_key, row_key', this.file('spool.db')); }
  maildir() {
    const folder = this.file('Maildir/new');
    return fs.existsSync(folder) ? fs.readdirSync(folder).map((name) => fs.readFileSync(path.join(folder, name))) : [];
  }
  // What lies in the Maildir: the bytes as text, and as mailparser reads them.
  mails() {
    const { simpleParser } = require('mailparser');
    return Promise.all(this.maildir().map(async (bytes) => ({ text: bytes.toString('latin1'), parsed: await simpleParser(bytes) })));
  }
}

// from: the address that it comes from, if not 127.0.0.1.
function request(port, method, url, body, headers = {}, from) {
  return new Promise((resolve, reject) => {
    const data = body === undefined ? undefined : Buffer.from(body);
    const req = http.request({ host: '127.0.0.1', port, method, path: url, agent: false, localAddress: from,
      headers: { ...headers, ...(data ? { 'Content-Length': data.length } : {}) } }, (res) => {
      const chunks = [];
      res.on('data', (chunk) => chunks.push(chunk));
      res.on('end', () => {
        const text = Buffer.concat(chunks).toString();
        let json;
        try { json = JSON.parse(text); } catch { json = undefined; }
        resolve({ code: res.statusCode, headers: res.headers, text, json });
      });
    });
    req.on('error', reject);
    req.end(data);
  });
}

async function startAzurite(bench, { port } = {}) {
  const main = path.join(top, 'tests/node_modules/azurite/dist/src/table/main.js');
  const log = bench.file(`azurite-${crypto.randomBytes(4).toString('hex')}.log`);
  const program = new Program('azurite', process.execPath,
    [main, '--inMemoryPersistence', '--disableTelemetry', '--silent', '--tablePort', String(port || await freePort())], { log });
  bench.stops.push(() => program.stop('SIGINT'));
  const match = await until('Azurite', () => program.output().match(/successfully started on 127\.0\.0\.1:(\d+)/));
  program.port = Number(match[1]);
  return program;
}

// The test's own Table service (tests/harness/fake_table.c), which commits to its journal before it answers.
class FakeTable {
  constructor(bench) { this.bench = bench; }
  async start() {
    const log = this.bench.file('table.log');
    const listens = () => (fs.existsSync(log) ? (fs.readFileSync(log, 'utf8').match(/^listening \d+/gm) || []).length : 0);
    const before = listens();
    this.program = new Program('fake_table', path.join(build, 'harness/fake_table'),
      ['--port', String(this.port || 0), '--journal', this.bench.file('table.journal')], { log });
    const { program } = this;
    this.bench.stops.push(() => program.stop('SIGTERM'));
    await until('the Table service', () => {
      if (program.status !== undefined) throw new Error(`fake_table ended with ${program.status}: ${program.output()}`);
      return listens() > before;
    });
    this.port = Number(/^listening (\d+)/m.exec(program.output())[1]);
    return this;
  }
  get running() { return this.program && this.program.status === undefined; }
  // Connections are refused from now on.
  kill() { return this.program.stop('SIGKILL'); }
  stop() { return this.program.stop('SIGTERM'); }
  // Stands still without closing anything, as behind a broken network.
  freeze() { this.program.child.kill('SIGSTOP'); }
  thaw() { this.program.child.kill('SIGCONT'); }

  // What it does to requests from now on: rules in the words of fake_table/rules.h, as objects; none lifts all.
  // The first rule that matches counts.
  async fault(...rules) {
    const lines = rules.map((rule) => Object.entries(rule).map(([name, value]) => `${name}=${encodeURIComponent(value === true ? 1 : value)}`).join('&'));
    const answer = await request(this.port, 'POST', '/_fault', lines.join('\n'));
    if (answer.code !== 200) throw new Error(`fault: ${answer.text}`);
  }
  // How often each rule was applied.
  async hits() { return (await request(this.port, 'GET', '/_fault')).json.hits; }
  async count(prefix = '', table = 'MarketplaceLeads') {
    return (await request(this.port, 'GET', `/_count?table=${table}&prefix=${encodeURIComponent(prefix)}`)).json.count;
  }
}
const startFakeTable = (bench) => new FakeTable(bench).start();

function connectionString(port) {
  return `DefaultEndpointsProtocol=http;AccountName=${ACCOUNT};AccountKey=${ACCOUNT_KEY};TableEndpoint=http://127.0.0.1:${port}/${ACCOUNT};`;
}

// The official SDK as an independent reader.
function tableClient(port, table, options = {}) {
  const { TableClient, AzureNamedKeyCredential } = require('@azure/data-tables');
  return new TableClient(`http://127.0.0.1:${port}/${ACCOUNT}`, table,
    new AzureNamedKeyCredential(ACCOUNT, ACCOUNT_KEY), { allowInsecureConnection: true, ...options });
}
async function rows(port, table, options) {
  const result = [];
  for await (const row of tableClient(port, table, options).listEntities({ disableTypeConversion: true })) result.push(row);
  return result;
}
const isLead = (row) => /^[0-9a-f]{32}-[0-9a-f]{32}$/.test(row.rowKey);
const isMail = (row) => row.rowKey.startsWith('~mail-');

// Stands before the Table service, counts requests and does to them what `fault(req, number)` says:
// undefined (pass), {delay}, {status, headers, body}, the same with `after` (the request is forwarded first),
// 'drop-before', 'drop-after', {cut: bytes}, {done}: a function that is called and waited for before the answer goes
// back.  Or a promise of one of these.
async function startProxy(bench, targetPort) {
  const proxy = { requests: 0, batches: 0, fault: () => undefined };
  const server = http.createServer((req, res) => {
    const number = ++proxy.requests;
    if (req.url.includes('$batch')) proxy.batches++;
    const chunks = [];
    req.on('data', (chunk) => chunks.push(chunk));
    req.on('end', async () => {
      const fault = await proxy.fault(req, number, Buffer.concat(chunks).toString());
      if (fault && fault.delay) await new Promise((resolve) => setTimeout(resolve, fault.delay));
      if (fault === 'drop-before') return req.socket.destroy();
      const replace = () => {
        res.writeHead(fault.status, fault.headers || {});
        return res.end(fault.body || '');
      };
      if (fault && fault.status && !fault.after) return replace();
      const forward = http.request({ host: '127.0.0.1', port: targetPort, method: req.method, path: req.url,
        headers: req.headers, agent: false }, (answer) => {
        const parts = [];
        answer.on('data', (part) => parts.push(part));
        answer.on('end', async () => {
          if (fault && fault.done) await fault.done();
          if (fault === 'drop-after') return req.socket.destroy();
          if (fault && fault.after) return replace();
          const body = Buffer.concat(parts);
          const headers = { ...answer.headers };
          delete headers['transfer-encoding'];
          if (fault && fault.cut !== undefined) {
            headers['content-length'] = fault.cut;
            res.writeHead(answer.statusCode, headers);
            return res.end(body.subarray(0, fault.cut));
          }
          headers['content-length'] = body.length;
          res.writeHead(answer.statusCode, headers);
          return res.end(body);
        });
      });
      forward.on('error', () => req.socket.destroy());
      forward.end(Buffer.concat(chunks));
    });
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  proxy.port = server.address().port;
  bench.stops.push(() => new Promise((resolve) => {
    server.closeAllConnections();
    server.close(resolve);
  }));
  return proxy;
}

// A certificate for a host, by name or address, that is its own authority.
function certificate(bench, name = 'localhost', days = 400) {
  const files = crypto.randomBytes(4).toString('hex');
  const key = bench.file(`${files}.key`);
  const cert = bench.file(`${files}.pem`);
  const made = spawnSync('openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', String(days), '-subj', `/CN=${name}`,
    '-addext', `subjectAltName=${net.isIP(name) ? 'IP' : 'DNS'}:${name}`, '-keyout', key, '-out', cert], { encoding: 'utf8' });
  assert.strictEqual(made.status, 0, made.stderr);
  return { key, cert };
}

// The SMTP server of ../fault/smtp.js, with a certificate that is its own authority.  Options: implicit (TLS from the
// first byte), methods of login (none: no AUTH is offered), hideStarttls, tls (a certificate), host.
async function startSmtp(bench, options = {}) {
  const tls = options.tls || certificate(bench, options.host);
  const smtp = await require('../fault/smtp.js').startSmtp({ certificate: tls, implicit: options.implicit, host: options.host });
  bench.stops.push(smtp.kill);
  if (options.methods) smtp.offers.auth = options.methods;
  if (options.hideStarttls) smtp.offers.starttls = false;
  smtp.settings = (extra = {}) => ({
    mail_url: `${options.implicit ? 'smtps' : 'smtp'}://${options.host || 'localhost'}:${smtp.port}`, mail_user: 'leads',
    mail_password_file: bench.write('mail-password', 'pass word\n'), mail_from: 'Website leads <leads@example.com>',
    mail_to: 'sales@example.com', mail_tls_ca: tls.cert, mail_per_minute: 6000, ...extra,
  });
  return smtp;
}

let counter = 0;
// A lead like the documented sample; distinct by its e-mail address.
function lead(changes = {}, details = {}) {
  counter++;
  return JSON.stringify({
    UserDetails: { FirstName: 'Ana', LastName: 'Test', Email: `ana${counter}@example.com`, Phone: '16175550100', Country: 'US',
      Company: 'Example', Title: 'CTO', ...details },
    LeadSource: 'AzureMarketplace-INS|contoso.contoso-app', ActionCode: 'INS', OfferTitle: 'Contoso App', Description: 'note',
    ...changes,
  });
}

module.exports = { test, Bench, Program, KEY, ACCOUNT, ACCOUNT_KEY, build, isInstrumented, top, until, freePort, isListening, request, startAzurite, startFakeTable,
  connectionString, tableClient, rows, isLead, isMail, startProxy, startSmtp, certificate, lead };
