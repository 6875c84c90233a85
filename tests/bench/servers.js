// The competitors: each a program of its own behind an nginx of its own, all with the same settings, on a Table service
// (tests/harness/fake_table.c, or Azurite) and an SMTP server of its own.
//
//   const competitor = await start(kind, condition)
//
// condition: { connections, latency: ms of the table, mail: whether leads are mailed, azurite, processes of leadhook,
// under: see runLeadhook }.
// What is absent is 0, false or 1.  The programs in C have as many threads as there are connections.
'use strict';

const fs = require('node:fs');
const net = require('node:net');
const path = require('node:path');
const L = require('../system/lib.js');

const PHP_CHILDREN = 16;
const MAILS_PER_MINUTE = 60000; // the most that leadhook takes
const CLOCK_TICKS = 100; // in a second, on every Linux
const disk = path.join(L.top, 'build/bench/disk'); // what is synced lies here: a temporary folder may be in memory

const harness = (name) => path.join(L.build, 'harness', name);

// A program that says "listening PORT".
async function startServer(bench, name, ...args) {
  const log = bench.file(`${name}.log`);
  const program = new L.Program(name, harness(name), args, { log });
  bench.stops.push(() => program.stop());
  const match = await L.until(name, () => {
    if (program.status !== undefined) throw new Error(`${name} ended with ${program.status}: ${program.output()}`);
    return program.output().match(/^listening (\d+)/m);
  });
  return { program, port: Number(match[1]) };
}

// A Table service with the table.
async function startTable(bench, condition, table) {
  const server = condition.azurite ? await L.startAzurite(bench) : await startServer(bench, 'fake_table', '--latency-ms', String(condition.latency || 0));
  const { port } = server;
  await L.tableClient(port, table).createTable();
  const count = async (prefix) => (await L.request(port, 'GET', `/_count?table=${table}&prefix=${prefix}`)).json.count;
  const waiting = () => count('~mail-');
  const rows = async () => {
    if (!condition.azurite) return await count('') - await waiting();
    let found = 0;
    for await (const page of L.tableClient(port, table).listEntities({ queryOptions: { select: ['RowKey'] } }).byPage({ maxPageSize: 1000 })) found += page.length;
    return found;
  };
  // Azurite gets slower with every row: each turn begins with none.
  const clear = condition.azurite && (async () => {
    await L.tableClient(port, table).deleteTable();
    await L.tableClient(port, table).createTable();
  });
  return { port, rows, waiting, clear };
}

async function startSink(bench) {
  const { port } = await startServer(bench, 'smtp_sink');
  const mails = () => new Promise((resolve, reject) => {
    const socket = net.connect(port, '127.0.0.1', () => socket.write('COUNT\r\nQUIT\r\n'));
    let text = '';
    socket.on('data', (data) => { text += data; });
    socket.on('error', reject);
    socket.on('close', () => resolve(Number(/^250 (\d+)/m.exec(text)[1])));
  });
  return { port, mails };
}

// --- The programs.  Each gives { program, rows, mails, waiting }; what is absent does not exist. ---

async function startEmpty(bench, condition, url = []) {
  const program = new L.Program('empty_responder', harness('empty_responder'), [bench.file('fcgi.sock'), String(condition.connections), ...url],
    { log: bench.file('responder.log') });
  bench.stops.push(() => program.stop());
  return { program };
}

async function startPosting(bench, condition) {
  const table = await startTable(bench, condition, 'PostedLeads');
  const { program } = await startEmpty(bench, condition, [`http://127.0.0.1:${table.port}/${L.ACCOUNT}/PostedLeads`]);
  return { program, rows: table.rows };
}

// The Table service itself: how long it takes to answer what is simplest.
async function startService(bench, condition) {
  const { program, port } = await startServer(bench, 'fake_table', '--latency-ms', String(condition.latency || 0));
  return { program, port, get: '/_stats' };
}

async function mailSettings(bench, condition) {
  if (!condition.mail) return { settings: {} };
  const sink = await startSink(bench);
  return { mails: sink.mails, settings: { mail_url: `smtp://127.0.0.1:${sink.port}`, mail_tls: 'off', mail_from: 'Website leads <leads@example.com>',
    mail_to: 'sales@example.com', mail_per_minute: MAILS_PER_MINUTE } };
}

// condition.under: a command line to run leadhook under, such as a profiler's; what makes calls of its own from within
// could not in the sandbox.
async function runLeadhook(bench, condition, settings) {
  const { mails, settings: forMail } = await mailSettings(bench, condition);
  const processes = condition.processes || 1;
  const own = processes === 1 ? {} : { listen: null, relay_socket: bench.file('relay') };
  bench.configure({ threads: condition.connections, ...(condition.under && { sandbox: 'off' }), ...own, ...forMail, ...settings });
  const shared = processes === 1 ? [] : [harness('supervise'), bench.file('fcgi.sock'), String(processes)];
  const [file, ...args] = [...shared, ...(condition.under || []), path.join(L.build, 'leadhook'), '--config', bench.config];
  const program = new L.Program('leadhook', file, args, { log: bench.file('leadhook.log') });
  bench.stops.push(() => program.stop());
  await L.until('leadhook', () => {
    if (program.status !== undefined) throw new Error(`leadhook ended with ${program.status}: ${program.output()}`);
    return (program.output().match(/event=ready/g) || []).length >= processes;
  });
  return { program, mails };
}

async function startOnTable(bench, condition) {
  const table = await startTable(bench, condition, 'MarketplaceLeads');
  const { program, mails } = await runLeadhook(bench, condition,
    { store: 'table', table_connection: L.connectionString(table.port), spool: path.join(bench.disk, 'spool.db') });
  return { program, rows: table.rows, mails, waiting: table.waiting, clear: table.clear };
}

async function startOnSqlite(bench, condition) {
  const { program, mails } = await runLeadhook(bench, condition, { store: `sqlite:${path.join(bench.disk, 'leads.db')}` });
  const count = (where) => Number(bench.sqlite(`SELECT count(*) AS n FROM entity WHERE kind = 0 AND ${where}`)[0].n);
  return { program, mails, rows: async () => count("row_key NOT LIKE '~mail-%'"), waiting: async () => count("row_key LIKE '~mail-%'") };
}

async function startPhp(bench, condition, insert) {
  const table = await startTable(bench, condition, 'PhpLeads');
  const sink = condition.mail ? await startSink(bench) : {};
  bench.write('fpm.conf', `[global]
error_log = ${bench.file('fpm-error.log')}
daemonize = no
[lead]
${process.getuid() === 0 ? 'user = root' : ''}
listen = ${bench.file('fcgi.sock')}
listen.mode = 0660
listen.backlog = 1024
pm = static
pm.max_children = ${PHP_CHILDREN}
pm.max_requests = 0
catch_workers_output = yes
env[INSERT] = ${insert}
env[LEAD_KEY] = "${L.KEY}"
env[TABLE_PORT] = ${table.port}
env[TABLE_KEY] = "${L.ACCOUNT_KEY}"
env[MAIL_PORT] = ${sink.port || 0}
php_admin_value[opcache.validate_timestamps] = 0
php_admin_value[error_log] = ${bench.file('php.log')}
`);
  const program = new L.Program('php-fpm', 'php-fpm8.2', ['--nodaemonize', '--fpm-config', bench.file('fpm.conf'), ...(process.getuid() === 0 ? ['--allow-to-run-as-root'] : [])],
    { log: bench.file('fpm.log') });
  bench.stops.push(() => program.stop());
  return { program, rows: table.rows, mails: sink.mails };
}

async function startNode(bench, condition) {
  const table = await startTable(bench, condition, 'NodeLeads');
  const sink = condition.mail ? await startSink(bench) : {};
  const env = { ...process.env, NODE_ENV: 'production', LEAD_KEY: L.KEY, TABLE_PORT: String(table.port), TABLE_KEY: L.ACCOUNT_KEY, MAIL_PORT: String(sink.port || '') };
  const program = new L.Program('node', process.execPath, [path.join(__dirname, 'node/server.js'), bench.file('fcgi.sock')], { log: bench.file('node.log'), spawn: { env } });
  bench.stops.push(() => program.stop());
  return { program, rows: table.rows, mails: sink.mails, clear: table.clear };
}

const KINDS = {
  service: startService,
  empty: startEmpty,
  posting: startPosting,
  table: startOnTable,
  sqlite: startOnSqlite,
  php: (bench, condition) => startPhp(bench, condition, 'insert_curl.php'),
  'php-kept': (bench, condition) => startPhp(bench, condition, 'insert_socket.php'),
  node: startNode,
};

// --- nginx ---

// leadhook's own file but for the limit that all of the load from one address would meet.
const forFastcgi = (extra = '') => fs.readFileSync(path.join(L.top, 'nginx/leadhook.conf'), 'utf8')
  .replace(/^ *limit_conn .*$/m, extra);
const PROXY = `location = /leads {
    access_log off;
    client_max_body_size 257k;
    client_body_buffer_size 257k;
    proxy_pass http://leadhook;
    proxy_http_version 1.1;
    proxy_set_header Connection "";
}`;

function locationsFor(kind) {
  if (kind === 'node') return PROXY;
  if (!kind.startsWith('php')) return forFastcgi();
  // Not kept: a child of PHP-FPM serves nobody else while its connection is, and there are fewer children than requests.
  return forFastcgi(`fastcgi_param SCRIPT_FILENAME ${path.join(__dirname, 'php/lead.php')};`).replace(/^ *fastcgi_keep_conn .*$/m, '');
}

async function startNginx(bench, kind, { connections }) {
  bench.port = await L.freePort();
  bench.write('locations.conf', locationsFor(kind));
  bench.write('nginx.conf', `
${process.getuid() === 0 ? 'user root;' : ''}
worker_processes 1;
pid ${bench.file('nginx.pid')};
error_log ${bench.file('nginx-error.log')};
events { worker_connections 2048; }
http {
  access_log off;
  client_body_temp_path ${bench.file('body')}; fastcgi_temp_path ${bench.file('fastcgi')};
  proxy_temp_path ${bench.file('proxy')}; scgi_temp_path ${bench.file('scgi')}; uwsgi_temp_path ${bench.file('uwsgi')};
  keepalive_requests 10000000;
  upstream leadhook { server unix:${bench.file('fcgi.sock')}; keepalive ${connections}; keepalive_timeout 500ms; keepalive_requests 10000000; }
  include ${L.top}/nginx/leadhook-http.conf;
  server {
    listen 127.0.0.1:${bench.port} backlog=1024;
    include ${bench.file('locations.conf')};
  }
}`);
  await bench.runNginx();
}

// The sum of what() over a process and its children.
function sumOver(pid, what) {
  const children = fs.readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ').filter(Boolean);
  return children.reduce((sum, child) => sum + sumOver(child, what), what(pid));
}

// Kilobytes of private memory.
const rssAnonKib = (pid) => Number(/^RssAnon:\s+(\d+)/m.exec(fs.readFileSync(`/proc/${pid}/status`, 'utf8'))[1]);
// Seconds of processor time of a process and of its children that have ended (proc(5); the name before may hold spaces).
function cpuSeconds(pid) {
  const fields = fs.readFileSync(`/proc/${pid}/stat`, 'utf8').replace(/^.*\) /, '').split(' ');
  return fields.slice(11, 15).reduce((sum, ticks) => sum + Number(ticks), 0) / CLOCK_TICKS;
}

// The same of all programs that this one has not started.
function othersCpuSeconds() {
  const fields = /^cpu +(.*)$/m.exec(fs.readFileSync('/proc/stat', 'utf8'))[1].split(' ');
  return fields.slice(0, 3).reduce((sum, ticks) => sum + Number(ticks), 0) / CLOCK_TICKS - sumOver(process.pid, cpuSeconds);
}

// Gives { kind, rows, mails, waiting, clear, bench, port, memoryKib, idleKib, cpuSeconds, stop }.
async function start(kind, condition) {
  const bench = new L.Bench({ after() {} });
  bench.disk = path.join(disk, path.basename(bench.dir));
  fs.mkdirSync(bench.disk, { recursive: true });
  const stop = async () => {
    await bench.close();
    fs.rmSync(bench.disk, { recursive: true, force: true });
  };
  try {
    const competitor = await KINDS[kind](bench, condition);
    const { program } = competitor;
    if (!competitor.get) {
      await L.until(`the socket of ${kind}`, () => {
        if (program.status !== undefined) throw new Error(`${kind} ended with ${program.status}: ${program.output()}`);
        return fs.existsSync(bench.file('fcgi.sock'));
      });
      await startNginx(bench, kind, condition);
    }
    const { pid } = program.child;
    return { kind, port: bench.port, ...competitor, bench, memoryKib: () => sumOver(pid, rssAnonKib), idleKib: sumOver(pid, rssAnonKib),
      cpuSeconds: () => sumOver(pid, cpuSeconds), stop };
  } catch (error) {
    bench.showLogs();
    await stop();
    throw error;
  }
}

module.exports = { start, othersCpuSeconds, harness, disk };
