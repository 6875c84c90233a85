// Starting and stopping: on a socket of its own, on an inherited one, as a CGI
// program; SIGTERM under load; configuration mistakes.
'use strict';

const assert = require('node:assert');
const { spawn } = require('node:child_process');
const fs = require('node:fs');
const net = require('node:net');
const path = require('node:path');
const L = require('./lib.js');
const F = require('../cases/fastcgi.js');

const { test } = L;
const leadhook = path.join(L.build, 'leadhook');

// leadhook on file descriptor 0, under a supervisor's command line.
async function supervised(t, processes, ...command) {
  const bench = new L.Bench(t);
  const socket = bench.file('fcgi.sock');
  bench.configure({ listen: null, listen_mode: null, ...bench.mailHere(), mail_per_minute: 6000 });
  await bench.startNginx();
  const program = new L.Program('supervisor', 'spawn-fcgi', ['-s', socket, '-M', '0666', '-n', '--', ...command, leadhook, '--config', bench.config],
    { log: bench.file('supervisor.log') });
  bench.stops.push(() => program.stop());
  const pids = await L.until('the processes', () => {
    if (program.status !== undefined) throw new Error(`ended with ${program.status}: ${program.output()}`);
    const found = [...program.output().matchAll(/event=ready pid=(\d+)/g)].map((match) => Number(match[1]));
    return found.length >= processes && found;
  });
  return { bench, program, pids };
}

async function assertWholeWay(bench, count) {
  const answers = await Promise.all(Array.from({ length: count }, () => bench.post(L.lead())));
  assert.deepStrictEqual(answers.filter((answer) => answer.code !== 200).map((answer) => answer.text), []);
  assert.strictEqual((await bench.list()).length, count);
  await L.until('the mails', () => bench.maildir().length === count);
}

test('under spawn-fcgi', async (t) => {
  const { bench, program } = await supervised(t, 1);
  await assertWholeWay(bench, 20);
  assert.strictEqual(await program.stop(), 0);
  assert.ok(fs.existsSync(bench.file('fcgi.sock')), 'the socket is not its own to remove');
});

test('under spawn-fcgi and multiwatch: two processes share the socket, the store and one relay', async (t) => {
  const { bench, program, pids } = await supervised(t, 2, '/usr/bin/multiwatch', '-f', '2', '--');
  await assertWholeWay(bench, 40);
  await program.stop();
  for (const pid of pids) await L.until(`the end of ${pid}`, () => !fs.existsSync(`/proc/${pid}`));
  assert.strictEqual((program.output().match(/event=stopping/g) || []).length, 2, program.output());
});

test('one process of two may be killed: the other serves, and takes over the relay', async (t) => {
  const { bench, program, pids } = await supervised(t, 2, '/usr/bin/multiwatch', '-f', '2', '--');
  await assertWholeWay(bench, 4);
  process.kill(pids[0], 'SIGKILL');
  // Dying, its threads may still take a connection that they were waiting for.
  await L.until('its end', () => !fs.existsSync(`/proc/${pids[0]}`));
  const answers = await Promise.all(Array.from({ length: 20 }, () => bench.post(L.lead())));
  assert.deepStrictEqual(answers.filter((answer) => answer.code !== 200).map((answer) => `${answer.code} ${answer.text}`), []);
  await L.until('the mails', () => bench.maildir().length === 24);
  await L.until('a successor', () => (program.output().match(/event=ready/g) || []).length === 3);
});

// One request as a web server starts a CGI program (RFC 3875).
function cgi(bench, environment, body, { keepOpen = false } = {}) {
  return new Promise((resolve) => {
    const child = spawn(leadhook, ['--config', bench.config], { env: { PATH: process.env.PATH, GATEWAY_INTERFACE: 'CGI/1.1', ...environment } });
    let stdout = '';
    let stderr = '';
    child.stdout.on('data', (chunk) => { stdout += chunk; });
    child.stderr.on('data', (chunk) => { stderr += chunk; });
    child.stdin.on('error', () => {}); // it may end before it has read everything
    child.on('close', (status) => resolve({ status, stdout, stderr, code: Number((/^Status: (\d+)/m.exec(stdout) || [])[1]), json: tryJson(stdout) }));
    child.stdin.write(body);
    if (!keepOpen) child.stdin.end();
  });
}
function tryJson(stdout) {
  try { return JSON.parse(stdout.split('\r\n\r\n')[1]); } catch { return undefined; }
}

test('as a CGI program: one request, then the end; the mail waits for leadctl relay', async (t) => {
  const bench = new L.Bench(t);
  bench.configure({ listen: null, listen_mode: null, ...bench.mailHere() });
  const body = L.lead();
  const stored = await cgi(bench, F.parameters(L.KEY, body), body);
  assert.deepStrictEqual([stored.status, stored.code, stored.json.status], [0, 200, 'stored'], stored.stderr);
  const again = await cgi(bench, F.parameters(L.KEY, body), body, { keepOpen: true }); // does not wait for an end of input
  assert.deepStrictEqual([again.code, again.json.status], [200, 'repeat']);
  assert.strictEqual((await cgi(bench, F.parameters('wrong-wrong-wrong', body), body)).code, 401);
  assert.strictEqual((await cgi(bench, { REQUEST_METHOD: 'GET', SCRIPT_NAME: '/healthz' }, '')).code, 200);
  const short = await cgi(bench, F.parameters(L.KEY, body, { CONTENT_LENGTH: String(body.length + 1) }), body);
  assert.deepStrictEqual([short.stdout, short.status !== 0], ['', true], 'a body that was cut off is no request');
  assert.deepStrictEqual((await bench.list()).map((row) => row.Deliveries), [2]);
  assert.strictEqual(bench.maildir().length, 0);
  assert.strictEqual((await bench.leadctl('relay', '--once')).status, 0);
  assert.strictEqual(bench.maildir().length, 1);
});

test('SIGTERM under load: whatever was accepted is answered and stored, and the end comes soon', async (t) => {
  const bench = new L.Bench(t);
  bench.configure();
  await bench.startNginx();
  await bench.startLeadhook();
  const sent = [];
  let running = true;
  const senders = Array.from({ length: 20 }, async () => {
    while (running) {
      const body = L.lead();
      sent.push({ body, answer: await bench.post(body) });
    }
  });
  await L.until('the load', () => sent.length > 200);
  const begin = Date.now();
  bench.stops.pop();
  assert.strictEqual(await bench.leadhook.stop(), 0);
  assert.ok(Date.now() - begin < 5000);
  running = false;
  await Promise.all(senders);
  const rows = bench.entities().flatMap((row) => row.Payload || []);
  // 200 or, when it came too late, 503; and 200 exactly for what is stored.
  assert.deepStrictEqual([...new Set(sent.map(({ answer }) => answer.code))].sort(), [200, 503]);
  assert.deepStrictEqual(sent.filter(({ answer }) => answer.code === 200).map(({ body }) => body).sort(), rows.sort());
  assert.ok(sent.every(({ answer }) => answer.code === 200 || answer.headers['retry-after']));
  assert.ok(!fs.existsSync(bench.settings.listen), 'its socket is gone');
});

test('SIGTERM while peers hang: the end comes all the same, with 0', async (t) => {
  const bench = new L.Bench(t);
  bench.configure({ threads: 2 });
  process.env.TSAN_OPTIONS = 'report_thread_leaks=0'; // what still runs is left behind on purpose
  t.after(() => { delete process.env.TSAN_OPTIONS; });
  await bench.startLeadhook();
  const socket = await F.hold(bench.settings.listen, F.begin());
  assert.strictEqual((await F.talk(bench.settings.listen, F.request({ REQUEST_METHOD: 'GET', SCRIPT_NAME: '/healthz' }, ''))).code, 200);
  bench.stops.pop();
  assert.strictEqual(await bench.leadhook.stop(), 0);
  socket.destroy();
});

test('SIGKILL under load: every answer of 200 was true', async (t) => {
  const bench = new L.Bench(t);
  bench.configure();
  await bench.startNginx();
  await bench.startLeadhook();
  const stored = [];
  let running = true;
  const senders = Array.from({ length: 10 }, async () => {
    while (running) {
      const body = L.lead();
      if ((await bench.post(body)).code === 200) stored.push(body);
    }
  });
  await L.until('the load', () => stored.length > 100);
  bench.stops.pop();
  await bench.leadhook.stop('SIGKILL');
  running = false;
  await Promise.all(senders);
  const rows = new Set(bench.entities().flatMap((row) => row.Payload || []));
  assert.deepStrictEqual(stored.filter((body) => !rows.has(body)), []);
  await bench.startLeadhook('again'); // over the socket that was left
  assert.strictEqual((await bench.post(L.lead())).code, 200);
});

test('a socket that is in use is not taken away', async (t) => {
  const bench = new L.Bench(t);
  bench.configure();
  await bench.startNginx();
  await bench.startLeadhook();
  const second = await bench.run('leadhook', '--config', bench.config);
  assert.strictEqual(second.status, 71, second.stderr);
  assert.match(second.stderr, /another process listens on/);
  assert.strictEqual((await bench.post(L.lead())).code, 200);
});

test('the socket has the mode that was asked for', async (t) => {
  const bench = new L.Bench(t);
  bench.configure({ listen_mode: '0600' });
  await bench.startLeadhook();
  assert.strictEqual(fs.statSync(bench.settings.listen).mode & 0o777, 0o600);
});

test('as many connections as there may be leave descriptors for the spool', async (t) => {
  const bench = new L.Bench(t);
  const nobody = await L.freePort();
  bench.configure({ threads: 512, store: 'table', spool: bench.file('spool.db'), table_connection_file: bench.write('connection', L.connectionString(nobody)) });
  const program = new L.Program('leadhook', 'prlimit', ['--nofile=1024:', leadhook, '--config', bench.config], { log: bench.file('leadhook.log') });
  bench.stops.push(() => program.stop());
  await L.until('leadhook', () => /event=ready/.test(program.output()));
  const sockets = [];
  for (let i = 0; i < 1024; i++) sockets.push(await F.hold(bench.settings.listen, F.begin()));
  const body = L.lead();
  let answer = '';
  sockets[0].on('data', (chunk) => { answer += chunk; });
  sockets[0].write(F.request(F.parameters(L.KEY, body), body).subarray(F.begin().length));
  await L.until('the answer', () => answer.includes('Status: '));
  assert.match(answer, /Status: 202/);
  for (const socket of sockets) socket.destroy();
});

// Mistakes, each with what its line has to say.
const MISTAKES = {
  'an unknown setting': { set: { colour: 'blue' }, says: /:\d+: setting 'colour': there is no such setting/ },
  'no keys file': { set: { keys_file: null }, says: /setting 'keys_file': is needed/ },
  'a number out of range': { set: { threads: '0' }, says: /:\d+: setting 'threads': must be a number from 1 to/ },
  'a number with a unit': { set: { request_deadline_ms: '3s' }, says: /:\d+: setting 'request_deadline_ms': must be a number/ },
  'a body limit that is too high': { set: { body_max_bytes: '262145' }, says: /:\d+: setting 'body_max_bytes'/ },
  'a store of another kind': { set: { store: 'postgres' }, says: /:\d+: setting 'store': must be 'sqlite:PATH' or 'table'/ },
  'a table without a connection': { set: { store: 'table' }, says: /setting 'table_connection': is needed/ },
  'a connection string without its key': { set: { store: 'table', table_connection: 'AccountName=example;EndpointSuffix=core.windows.net' }, says: /:\d+: setting 'table_connection': .*AccountKey/ },
  'a table name with a dash': { set: { table_name: 'my-leads' }, says: /:\d+: setting 'table_name'/ },
  'mail without recipients': { set: { mail_url: 'maildir:/nonexistent/x', mail_from: 'a@example.com' }, says: /setting 'mail_to': is needed/ },
  'a recipient that is no address': { set: { mail_to: 'sales' }, says: /:\d+: setting 'mail_to': not a mail address/ },
  'a mail URL of another kind': { set: { mail_url: 'http://x', mail_from: 'a@example.com', mail_to: 'b@example.com' }, says: /:\d+: setting 'mail_url'/ },
  'a relative path': { set: { listen: 'fcgi.sock' }, says: /:\d+: setting 'listen': must be an absolute path/ },
  'a mode that is not octal': { set: { listen_mode: '0888' }, says: /:\d+: setting 'listen_mode'/ },
};
for (const [name, { set, says }] of Object.entries(MISTAKES)) {
  test(`a mistake in the configuration is told with its place, and nothing is opened: ${name}`, async (t) => {
    const bench = new L.Bench(t);
    bench.configure(set);
    const result = await bench.run('leadhook', '--config', bench.config);
    assert.strictEqual(result.status, 78, result.stderr);
    assert.match(result.stderr, says);
    assert.strictEqual(result.stderr.trimEnd().split('\n').length, 1, result.stderr);
    assert.ok(result.stderr.startsWith(`leadhook: ${bench.config}`));
    assert.deepStrictEqual(fs.readdirSync(bench.dir).sort(), ['keys', 'leadhook.conf']);
  });
}

test('all mistakes are told at once, and the environment goes over the file', async (t) => {
  const bench = new L.Bench(t);
  bench.configure({ threads: 'many', colour: 'blue', mail_to: 'x' });
  const all = await bench.run('leadhook', '--config', bench.config);
  assert.strictEqual(all.status, 78);
  assert.strictEqual(all.stderr.trimEnd().split('\n').length, 3, all.stderr);

  bench.configure({ store: 'sqlite:/nonexistent/leads.db' });
  t.after(() => { for (const name of ['STORE', 'CONFIG', 'THREADS']) delete process.env[`LEADHOOK_${name}`]; });
  process.env.LEADHOOK_CONFIG = bench.config;
  assert.strictEqual((await bench.run('leadctl', 'list')).status, 69);
  process.env.LEADHOOK_STORE = `sqlite:${bench.file('leads.db')}`;
  const list = await bench.run('leadctl', 'list');
  assert.strictEqual(list.status, 0, list.stderr);
  process.env.LEADHOOK_THREADS = 'few';
  const bad = await bench.run('leadhook');
  assert.strictEqual(bad.status, 78);
  assert.match(bad.stderr, /^leadhook: environment LEADHOOK_THREADS: setting 'threads': must be a number/);
});

// Files of secrets that others may read or that are no good.
const SECRETS = {
  'readable by others': { mode: 0o644, says: /others|0?644|permission|mode/ },
  'writable by the group': { mode: 0o660, says: /group|0?660|permission|mode/ },
  missing: { mode: null, says: /keys/ },
  'a key too short': { text: 'market short\n', says: /keys:1: the key must be 16 to/ },
  'three live keys of one name': { text: ['a', 'b', 'c'].map((c) => `market ${c.repeat(16)}\n`).join(''), says: /keys:3: this name has two live keys/ },
  empty: { text: '# nothing\n', says: /holds no key/ },
};
for (const [name, { mode = 0o600, text, says }] of Object.entries(SECRETS)) {
  test(`a key file that is refused by leadhook and explained by leadctl check: ${name}`, async (t) => {
    const bench = new L.Bench(t);
    bench.configure();
    if (text) fs.writeFileSync(bench.file('keys'), text);
    if (mode === null) fs.rmSync(bench.file('keys'));
    else fs.chmodSync(bench.file('keys'), mode);
    const result = await bench.run('leadhook', '--config', bench.config);
    assert.strictEqual(result.status, 78, result.stderr);
    assert.match(result.stderr, says);
    for (const secret of [L.KEY, 'short', 'aaaaaaaa']) assert.ok(!result.stderr.includes(secret));
    assert.ok(!fs.existsSync(bench.settings.listen));
    const check = await bench.leadctl('check');
    assert.strictEqual(check.status, 1, check.stdout + check.stderr);
    assert.match(check.stdout, /FAIL +keys /);
    assert.match(check.stdout, says);
  });
}

test('two live keys of one name, and keys of several names', async (t) => {
  const bench = new L.Bench(t);
  bench.configure();
  const old = 'old-key-0123456789';
  const other = 'other-key-0123456789';
  fs.writeFileSync(bench.file('keys'), `market ${L.KEY}\nmarket ${old}\npartner ${other}\n`);
  await bench.startNginx();
  await bench.startLeadhook();
  for (const key of [L.KEY, old, other]) assert.strictEqual((await bench.post(L.lead(), { key })).code, 200);
  assert.deepStrictEqual((await bench.list()).map((row) => row.KeyName), ['partner', 'market', 'market']);
});

test('leadctl without a command, with a wrong one, and with help', async (t) => {
  const bench = new L.Bench(t);
  bench.configure();
  assert.strictEqual((await bench.run('leadctl')).status, 64);
  assert.strictEqual((await bench.leadctl('dance')).status, 64);
  assert.strictEqual((await bench.leadctl('check', 'x')).status, 64);
  const help = await bench.run('leadctl', '--help');
  assert.strictEqual(help.status, 0);
  for (const command of ['check', 'list', 'relay']) assert.match(help.stdout, new RegExp(`^ +${command}`, 'm'));
});

test('file descriptor 0 that is a TCP socket or no socket is refused', async (t) => {
  const bench = new L.Bench(t);
  bench.configure({ listen: null, listen_mode: null });
  const none = await bench.run('leadhook', '--config', bench.config);
  assert.strictEqual(none.status, 78);
  assert.match(none.stderr, /file descriptor 0 is no listening socket/);
  const server = net.createServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => server.on('listening', resolve));
  const program = new L.Program('leadhook', leadhook, ['--config', bench.config], { log: bench.file('tcp.log'), stdin: server._handle.fd });
  bench.stops.push(() => program.stop());
  assert.strictEqual(await program.ended, 78);
  assert.match(program.output(), /no unix socket/);
  await new Promise((resolve) => server.close(resolve));
});
