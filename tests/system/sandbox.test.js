// The sandbox: what the worker cannot do any more, tried from inside the
// running program (tests/harness/escape.c), and each attempt once more with the
// sandbox off, where it must succeed.  All other tests run under the sandbox and
// fail when it denies a call.
'use strict';

const assert = require('node:assert');
const fs = require('node:fs');
const net = require('node:net');
const path = require('node:path');
const L = require('./lib.js');

const { test } = L;
const isRoot = process.getuid() === 0;

// What is tried, and what comes of it under the sandbox.  As somebody else than root some fail anyway.
const ATTEMPTS = {
  'read-passwd': 'EACCES', 'read-own-memory': 'EACCES', 'list-root': 'EACCES',
  'make-file': 'EACCES', 'write-file': 'EACCES', 'remove-file': 'EACCES',
  fork: 'EPERM', exec: 'EPERM', 'raw-socket': 'EPERM', 'raw-tcp-socket': 'EPERM', 'packet-socket': 'EPERM', 'netlink-socket': 'EAFNOSUPPORT',
  'connect-elsewhere': 'EACCES', 'bind-port': 'EACCES',
  'map-code': 'EPERM', 'make-executable': 'EPERM', 'memory-file': 'EPERM',
  'signal-parent': 'EPERM', 'signal-by-socket': 'EPERM', 'slow-parent': 'EPERM', 'make-setuid-file': 'EPERM', 'change-limit': 'EPERM', 'silence-filter': 'EPERM',
};
const FOR_ROOT = ['raw-socket', 'raw-tcp-socket', 'packet-socket', 'read-own-memory'];
// In the log, by the names of the calls.
const DENIED = ['clone', 'execve', 'socket', 'mmap', 'mprotect', 'memfd_create', 'kill', 'fcntl', 'setpriority', 'openat', 'prlimit64', 'rt_sigaction'];

// A worker with the library, and a folder and a port that are none of its business.
async function setUp(t, settings = {}, environment = {}) {
  const bench = new L.Bench(t);
  bench.expectsDenials = true;
  const elsewhere = net.createServer((socket) => socket.destroy());
  await new Promise((resolve) => elsewhere.listen(0, '127.0.0.1', resolve));
  bench.stops.push(() => new Promise((resolve) => elsewhere.close(resolve)));
  bench.other = new L.Bench(t);
  bench.other.write('victim', 'text\n');
  bench.configure(settings);
  bench.environment = {
    LD_PRELOAD: path.join(L.build, 'harness/escape.so'), LH_ESCAPE: bench.file('wanted'), LH_ESCAPE_REPORT: bench.file('report'),
    LH_ESCAPE_OUTSIDE: bench.other.dir, LH_ESCAPE_PORT: String(elsewhere.address().port), ...environment,
  };
  await bench.startNginx();
  return bench;
}
const start = (bench) => bench.startLeadhook('leadhook', bench.config, bench.environment);

// Has the worker try them as it accepts a connection; gives what came of each.
async function attempt(bench, names) {
  const report = () => (fs.existsSync(bench.file('report')) ? fs.readFileSync(bench.file('report'), 'utf8') : '');
  fs.rmSync(bench.file('report'), { force: true });
  bench.write('wanted.new', names.join(' '));
  fs.renameSync(bench.file('wanted.new'), bench.file('wanted'));
  net.connect(bench.file('fcgi.sock')).on('error', () => {}).end();
  await L.until('the report', () => /^end /m.test(report()) || bench.leadhook.status !== undefined);
  return Object.fromEntries(report().split('\n').filter((line) => line && !line.startsWith('end ')).map((line) => line.split(' ')));
}
const names = Object.keys(ATTEMPTS);

if (L.isInstrumented) {
  test('a build for a sanitizer has no sandbox, and says so', async (t) => {
    const bench = new L.Bench(t);
    const program = await bench.configure().startLeadhook();
    assert.match(program.output(), /event=sandbox-incomplete .*built without/);
  });
} else {
  test('the running worker reads, runs, opens and changes nothing but what it needs', async (t) => {
    const bench = await setUp(t);
    await start(bench);
    assert.deepStrictEqual(await attempt(bench, names), ATTEMPTS);
    assert.strictEqual(fs.readFileSync(bench.other.file('victim'), 'utf8'), 'text\n');
    await L.until('the log', () => DENIED.every((call) => bench.leadhook.output().includes(`event=call-denied call=${call} `)));
    await attempt(bench, ['memory-file']);
    assert.strictEqual((bench.leadhook.output().match(/call=memfd_create/g) || []).length, 1, 'said once');
    assert.strictEqual((await bench.post(L.lead())).code, 200);
  });

  test('with the sandbox off all that is possible', async (t) => {
    const bench = await setUp(t, { sandbox: 'off' });
    await start(bench);
    assert.match(bench.leadhook.output(), /event=sandbox-off/);
    const tried = isRoot ? names : names.filter((name) => !FOR_ROOT.includes(name));
    assert.deepStrictEqual(await attempt(bench, tried), Object.fromEntries(tried.map((name) => [name, 'done'])));
    assert.deepStrictEqual(await attempt(bench, ['trace']), { trace: 'done' });
    assert.doesNotMatch(bench.leadhook.output(), /event=call-denied/);
  });

  test('a worker that looks into another process ends', async (t) => {
    const bench = await setUp(t);
    await start(bench);
    await attempt(bench, ['trace']);
    assert.strictEqual(await bench.leadhook.ended, 'SIGSYS');
    bench.stops.splice(bench.stops.indexOf(bench.stopLeadhook), 1);
  });

  test('every thread is under the filter, dumps and new rights are off', async (t) => {
    const bench = new L.Bench(t);
    bench.smtp = await L.startSmtp(bench);
    await bench.configure(bench.smtp.settings(await bench.startTableWithSpool())).startNginx();
    bench.configure({ ...bench.settings, ...bench.smtp.settings() });
    const { pid } = (await bench.startLeadhook()).child;
    assert.strictEqual((await bench.post(L.lead())).code, 200);
    await L.until('the mail', () => bench.smtp.mails.length === 1);
    const threads = fs.readdirSync(`/proc/${pid}/task`);
    assert.ok(threads.length > 3, `${threads.length} threads`);
    for (const thread of threads) {
      const status = fs.readFileSync(`/proc/${pid}/task/${thread}/status`, 'utf8');
      assert.match(status, /^NoNewPrivs:\t1$/m);
      assert.match(status, /^Seccomp:\t2$/m);
    }
    const limits = fs.readFileSync(`/proc/${pid}/limits`, 'utf8');
    assert.match(limits, /^Max core file size +0 +0 /m);
    const files = /^Max open files +(\d+) +(\d+) /m.exec(limits);
    assert.ok(files[1] === files[2] && Number(files[2]) <= 4096, files[0]);
    assert.match(bench.leadhook.output(), /event=sandbox calls=filtered landlock=\d+ ports=/);
  });

  test('a store right in a folder of many programs: all of that may be written, and the log says so', async (t) => {
    const bench = new L.Bench(t);
    const store = `/tmp/${path.basename(bench.dir)}.db`;
    bench.stops.push(async () => ['', '-wal', '-shm'].forEach((suffix) => fs.rmSync(store + suffix, { force: true })));
    const wide = (program) => [...program.output().matchAll(/event=sandbox-wide folder=(\S+) /g)].map((match) => match[1]);
    assert.deepStrictEqual(wide(await bench.configure().startLeadhook('own')), []);
    await bench.stopLeadhook();
    bench.stops.splice(bench.stops.indexOf(bench.stopLeadhook), 1);
    assert.deepStrictEqual(wide(await bench.configure({ store: `sqlite:${store}` }).startLeadhook('shared')), ['/tmp']);
  });

  for (const kernel of ['landlock', 'seccomp']) {
    test(`a kernel without ${kernel}: the rest is in force, and the log says what is missing`, async (t) => {
      const bench = await setUp(t, {}, { LH_ESCAPE_KERNEL: kernel });
      await start(bench);
      assert.match(bench.leadhook.output(), /event=sandbox-incomplete status=[a-z-]+ reason="/);
      assert.match(bench.leadhook.output(), kernel === 'landlock' ? /event=sandbox calls=filtered landlock=0 ports=all/ : /event=sandbox calls=all landlock=[1-9]/);
      const results = await attempt(bench, ['read-passwd', 'memory-file']);
      assert.deepStrictEqual(results, kernel === 'landlock' ? { 'read-passwd': 'done', 'memory-file': 'EPERM' } : { 'read-passwd': 'EACCES', 'memory-file': 'done' });
    });

    test(`a kernel without ${kernel} where the sandbox is required: no start`, async (t) => {
      const bench = await setUp(t, { sandbox: 'required' }, { LH_ESCAPE_KERNEL: kernel });
      await assert.rejects(() => start(bench), /leadhook ended with 71: .*event=no-sandbox .*sandbox = required: /);
      assert.ok(!fs.existsSync(bench.file('fcgi.sock')));
      bench.stops.splice(bench.stops.indexOf(bench.stopLeadhook), 1);
    });
  }

  test('reload: files replaced by rename are read; one elsewhere is refused with the reason', async (t) => {
    const bench = await setUp(t);
    // In a folder of their own: that of the store is allowed in any case.
    fs.mkdirSync(bench.other.file('etc'));
    bench.configure({ keys_file: bench.other.file('etc/keys') });
    fs.renameSync(bench.file('keys'), bench.other.file('etc/keys'));
    await start(bench);
    const reload = async (event) => {
      const ends = () => (bench.leadhook.output().match(/event=(reloaded|reload-refused) .*/g) || []);
      const before = ends().length;
      bench.leadhook.child.kill('SIGHUP');
      await L.until('the reload', () => ends().length > before);
      assert.ok(ends().at(-1).startsWith(`event=${event} `), ends().at(-1));
      return ends().at(-1);
    };
    bench.other.write('etc/keys.new', `market ${L.KEY}\nnext Next-${L.KEY}\n`);
    fs.renameSync(bench.other.file('etc/keys.new'), bench.other.file('etc/keys'));
    assert.match(await reload('reloaded'), /keys=2/);
    const keys = bench.other.write('keys', `market ${L.KEY}\n`);
    const text = fs.readFileSync(bench.config, 'utf8');
    bench.write('leadhook.conf', text.replace(/keys_file = .*/, `keys_file = ${keys}`));
    assert.match(await reload('reload-refused'), /may read since its start: restart for that/);
    bench.write('leadhook.conf', text);
    await reload('reloaded');
    assert.strictEqual((await bench.post(L.lead())).code, 200);
    assert.doesNotMatch(bench.leadhook.output(), /event=call-denied/);
  });
}

test('files that lie open to others are told at the start and by leadctl check', async (t) => {
  const bench = new L.Bench(t);
  const open = (text) => [...text.replace(/'[^']*-(wal|shm)' has mode/g, '').matchAll(/'([^']*)' has mode (\d+), /g)].map((match) => [path.basename(match[1]), match[2]]).sort();
  bench.configure({ ...bench.mailHere(), store: `sqlite:${bench.file('own/leads.db')}`, keys_file: bench.file('etc/keys') });
  for (const folder of ['own', 'etc', 'Maildir']) fs.mkdirSync(bench.file(folder), { mode: 0o700 });
  fs.renameSync(bench.file('keys'), bench.file('etc/keys'));
  assert.doesNotMatch((await bench.startLeadhook('closed')).output(), /event=too-open/);
  await bench.stopLeadhook();
  bench.stops.splice(bench.stops.indexOf(bench.stopLeadhook), 1);
  for (const name of fs.readdirSync(bench.dir).concat(fs.readdirSync(bench.file('own')).map((file) => `own/${file}`))) {
    const mode = fs.statSync(bench.file(name)).mode & 0o77;
    if (/^own|leads|relay|Maildir/.test(name)) assert.strictEqual(mode, 0, `${name} was made by us`);
  }
  fs.chmodSync(bench.file('own/leads.db'), 0o644);
  fs.chmodSync(bench.file('own'), 0o777);
  fs.chmodSync(bench.file('Maildir'), 0o701);
  const expected = [['Maildir', '0701'], ['leads.db', '0644'], ['own', '0777']];
  assert.deepStrictEqual(open((await bench.startLeadhook('open')).output()), expected);
  const checked = await bench.leadctl('check', '--nginx', 'off');
  assert.strictEqual(checked.status, 1);
  assert.deepStrictEqual(open(checked.stdout), expected);
  // Also what SQLite keeps beside the database while it is open.
  for (const name of fs.readdirSync(bench.file('own'))) fs.chmodSync(bench.file(`own/${name}`), 0o640);
  for (const [name, mode] of Object.entries({ own: 0o1777, Maildir: 0o700 })) fs.chmodSync(bench.file(name), mode);
  const closed = await bench.leadctl('check', '--nginx', 'off');
  assert.match(closed.stdout, /^ok +files /m);
  assert.strictEqual(closed.status, 0, closed.stdout);
});
