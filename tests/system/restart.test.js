// Restarts under steady load through nginx: without a failed request where the
// socket outlives the processes, with nothing but 503 and Retry-After where it
// does not; and the stop itself.
'use strict';

const assert = require('node:assert');
const { execFile, spawnSync } = require('node:child_process');
const fs = require('node:fs');
const path = require('node:path');
const L = require('./lib.js');
const F = require('../cases/fastcgi.js');

const { test } = L;
const leadhook = path.join(L.build, 'leadhook');
const WAIT_STOP_MS = 20000; // lib/base/limits.h
const SENDERS = 8;

// Posts all the time until `stop` is called; that gives what was sent, with the answers.
function load(bench) {
  const sent = [];
  let running = true;
  const all = Promise.all(Array.from({ length: SENDERS }, async () => {
    while (running) {
      const body = L.lead();
      sent.push({ body, answer: await bench.post(body) });
    }
  }));
  return {
    sent,
    // So many more answers have come.
    more: (count) => { const until = sent.length + count; return L.until('the load', () => sent.length >= until); },
    stop: async () => { running = false; await all; return sent; },
  };
}

// Every 200 is one row that was written once, and there is no other row.
function assertStoredOnce(bench, sent) {
  const rows = bench.entities().filter((row) => row.Payload);
  assert.deepStrictEqual(rows.map((row) => row.Payload).sort(), sent.filter(({ answer }) => answer.code === 200).map(({ body }) => body).sort());
  assert.deepStrictEqual(rows.filter((row) => row.Deliveries !== 1).length, 0);
}
async function assertNothingFailed(bench, steady, restarts) {
  await steady.more(100); // also after the last restart
  const sent = await steady.stop();
  assert.deepStrictEqual(sent.filter(({ answer }) => answer.code !== 200).map(({ answer }) => `${answer.code} ${answer.text}`), []);
  assertStoredOnce(bench, sent);
  assert.ok(restarts >= 4);
  for (let there = 0; there < sent.length;) { // they fall far behind the leads, the more so the slower the disk is
    const before = there;
    there = await L.until('the next mails', () => { const now = bench.maildir().length; return now > before && now; });
  }
  assert.strictEqual(bench.maildir().length, sent.length);
}

// leadhook without a socket of its own.
async function benchFor(t) {
  const bench = new L.Bench(t);
  bench.configure({ listen: null, listen_mode: null, ...bench.mailHere(), mail_per_minute: 6000 });
  await bench.startNginx();
  return bench;
}
const isGone = (pid) => !fs.existsSync(`/proc/${pid}`);
const readies = (text) => [...text.matchAll(/event=ready pid=(\d+)/g)].map((match) => Number(match[1]));

test('a rolling restart behind multiwatch: SIGTERM and SIGUSR1 to one process after the other', async (t) => {
  const bench = await benchFor(t);
  const program = new L.Program('multiwatch', 'spawn-fcgi',
    ['-s', bench.file('fcgi.sock'), '-M', '0666', '-n', '--', '/usr/bin/multiwatch', '-f', '2', '--', leadhook, '--config', bench.config],
    { log: bench.file('multiwatch.log') });
  bench.stops.push(() => program.stop());
  await L.until('the processes', () => readies(program.output()).length === 2);
  const steady = load(bench);
  let restarts = 0;
  for (const signal of ['SIGTERM', 'SIGUSR1']) {
    for (const pid of readies(program.output()).slice(-2)) {
      await steady.more(50);
      const before = readies(program.output()).length;
      process.kill(pid, signal);
      await L.until(`the end of ${pid}`, () => isGone(pid));
      await L.until('its successor', () => readies(program.output()).length > before);
      restarts++;
    }
  }
  await assertNothingFailed(bench, steady, restarts);
  assert.ok(!program.output().includes('stopped-late'));
});

// What the README shows, with this build's program and a socket of the test's own, for the user who runs the test.
function sectionOfReadme(bench) {
  const [, text] = /^ *```ini\n([^]*?)^ *```$/m.exec(fs.readFileSync(path.join(L.top, 'README.md'), 'utf8'));
  assert.match(text, /^ *\[fcgi-program:leadhook\]\n/);
  return text.replace(/^ +/gm, '').replace(/^user=.*\n|^socket_owner=.*\n/gm, '').replace('command=/usr/sbin/leadhook', `command=${leadhook} --config ${bench.config}`)
    .replace('/run/leadhook/leadhook.sock', bench.file('fcgi.sock')).replace('socket_mode=0660', 'socket_mode=0666');
}

test("a rolling restart behind supervisor's fcgi-program, and a reload through it", async (t) => {
  const bench = await benchFor(t);
  const control = bench.file('supervisor.sock');
  bench.write('supervisord.conf', `
[unix_http_server]
file=${control}
[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
[supervisord]
nodaemon=true
logfile=${bench.file('supervisord.log')}
pidfile=${bench.file('supervisord.pid')}
childlogdir=${bench.dir}
[supervisorctl]
serverurl=unix://${control}
${sectionOfReadme(bench)}stderr_logfile=${bench.file('%(program_name)s_%(process_num)02d.log')}
stdout_logfile=NONE
`);
  const program = new L.Program('supervisord', 'supervisord', ['-c', bench.file('supervisord.conf')], { log: bench.file('supervisord.out.log') });
  bench.stops.push(() => program.stop());
  const output = () => [0, 1].map((i) => bench.file(`leadhook_0${i}.log`)).filter(fs.existsSync).map((file) => fs.readFileSync(file, 'utf8')).join('');
  const ctl = (...args) => new Promise((resolve, reject) => { // not spawnSync: the load comes from this process
    execFile('supervisorctl', ['-c', bench.file('supervisord.conf'), ...args], (error, stdout, stderr) => (error ? reject(new Error(stdout + stderr)) : resolve()));
  });
  await L.until('the processes', () => readies(output()).length === 2);
  const steady = load(bench);
  let restarts = 0;
  for (const name of ['leadhook:leadhook_00', 'leadhook:leadhook_01']) {
    await steady.more(50);
    const before = readies(output()).length;
    await ctl('restart', name);
    await L.until('its successor', () => readies(output()).length > before);
    restarts++;
  }
  for (const pid of readies(output()).filter((each) => !isGone(each))) { // autorestart
    await steady.more(50);
    const before = readies(output()).length;
    process.kill(pid, 'SIGTERM');
    await L.until('its successor', () => readies(output()).length > before);
    restarts++;
  }
  await ctl('signal', 'HUP', 'leadhook:*');
  await L.until('the reloads', () => (output().match(/event=reloaded/g) || []).length === 2);
  await assertNothingFailed(bench, steady, restarts);
});

// A listening socket as systemd hands one over, on file descriptor 0 of every
// process that is started on a word; it stays open as long as the holder lives.
async function socketHolder(bench) {
  const words = bench.file('words');
  assert.strictEqual(spawnSync('mkfifo', [words]).status, 0);
  bench.write('holder', `exec 3<>${words} 4<&0\nwhile read -r word <&3; do (${leadhook} --config ${bench.config} <&4 3<&- 4<&-; echo "status=$?" >&2) & done\n`);
  const program = new L.Program('holder', 'spawn-fcgi', ['-s', bench.file('fcgi.sock'), '-M', '0666', '-n', '--', '/bin/sh', bench.file('holder')],
    { log: bench.file('holder.log') });
  bench.stops.push(() => program.stop());
  const pids = () => readies(program.output());
  bench.stops.push(async () => {
    for (const pid of pids().filter((each) => !isGone(each))) process.kill(pid, 'SIGTERM');
    await L.until('the ends', () => pids().every(isGone));
  });
  return {
    program,
    start: async () => {
      const before = pids().length;
      fs.writeFileSync(words, 'go\n');
      await L.until('a process', () => pids().length > before);
      return pids().at(-1);
    },
  };
}

test('two generations on an inherited socket, the new one beside the old one', async (t) => {
  const bench = await benchFor(t);
  const holder = await socketHolder(bench);
  let old = [await holder.start(), await holder.start()];
  const steady = load(bench);
  let restarts = 0;
  for (let generation = 0; generation < 3; generation++) {
    await steady.more(30);
    const next = [await holder.start(), await holder.start()];
    await steady.more(30);
    for (const pid of old) process.kill(pid, 'SIGTERM');
    await L.until('the end of the old ones', () => old.every(isGone));
    restarts += old.length;
    old = next;
  }
  await assertNothingFailed(bench, steady, restarts);
  assert.deepStrictEqual(holder.program.output().match(/status=\d+/g), Array(restarts).fill('status=0'));
});

test('all processes on an inherited socket at once: requests wait in it and are served by the next ones', async (t) => {
  const bench = await benchFor(t);
  const holder = await socketHolder(bench);
  let pid = await holder.start();
  const steady = load(bench);
  let restarts = 0;
  for (; restarts < 4; restarts++) {
    await steady.more(30);
    process.kill(pid, 'SIGTERM');
    await L.until('its end', () => isGone(pid));
    pid = await holder.start();
  }
  await assertNothingFailed(bench, steady, restarts);
});

test('restarts with a socket of its own: 200 or 503 with Retry-After and nothing else, every 200 stored once', async (t) => {
  const bench = new L.Bench(t);
  bench.configure();
  await bench.startNginx();
  await bench.startLeadhook();
  const steady = load(bench);
  for (let i = 0; i < 4; i++) {
    await steady.more(50);
    await bench.stops.pop()(); // status 0
    await steady.more(20); // while there is none
    await bench.startLeadhook();
    await L.until('a lead', async () => (await bench.post(L.lead({ Description: 'between' }))).code === 200);
  }
  await steady.more(50);
  const sent = await steady.stop();
  assert.deepStrictEqual([...new Set(sent.map(({ answer }) => answer.code))].sort(), [200, 503]);
  assert.ok(sent.every(({ answer }) => answer.code === 200 || answer.headers['retry-after']));
  const between = bench.entities().filter((row) => row.Description === 'between').map((row) => ({ body: row.Payload, answer: { code: 200 } }));
  assert.strictEqual(between.length, 4);
  assertStoredOnce(bench, [...sent, ...between]);
});

test('SIGTERM under load, seen from the socket: whoever could connect is answered, and the end comes in time although peers hang', async (t) => {
  const bench = new L.Bench(t);
  bench.configure({ threads: 12 }); // some for those that hang
  await bench.startLeadhook();
  const hanging = await Promise.all([0, 4, 30].map((bytes) =>
    F.hold(bench.settings.listen, F.request(F.parameters(L.KEY, 'x'), 'x').subarray(0, bytes))));
  const outcomes = { answered: 0, refused: 0, lost: [] };
  let running = true;
  const stored = [];
  const peers = Array.from({ length: SENDERS }, async () => {
    while (running) {
      const body = L.lead();
      try {
        const answer = await F.talk(bench.settings.listen, F.request(F.parameters(L.KEY, body), body));
        if (answer.code === 200) outcomes.answered++;
        else outcomes.lost.push(answer);
        stored.push(body);
      } catch (error) {
        assert.ok(['ECONNREFUSED', 'ENOENT'].includes(error.code), error.message);
        outcomes.refused++;
        await new Promise((resolve) => setImmediate(resolve));
      }
    }
  });
  await L.until('the load', () => outcomes.answered > 200);
  bench.stops.pop();
  const begun = Date.now();
  assert.strictEqual(await bench.leadhook.stop(), 0);
  assert.ok(Date.now() - begun < WAIT_STOP_MS);
  assert.ok(!bench.leadhook.output().includes('stopped-late'), 'nothing was left behind');
  running = false;
  await Promise.all(peers);
  for (const socket of hanging) socket.destroy();
  assert.deepStrictEqual(outcomes.lost, []);
  assert.ok(outcomes.refused > 0);
  assert.deepStrictEqual(bench.entities().flatMap((row) => row.Payload || []).sort(), stored.sort());
});

test('SIGTERM while the Table service hangs: what was accepted is answered, 503, and the end comes in time', async (t) => {
  const bench = new L.Bench(t);
  bench.configure({ ...await bench.startTable(), threads: 4, request_deadline_ms: 2000 });
  const { proxy } = bench;
  await bench.startNginx();
  await bench.startLeadhook();
  assert.strictEqual((await bench.post(L.lead())).code, 200);
  const before = proxy.requests;
  proxy.fault = () => ({ delay: 60000 });
  const answers = Array.from({ length: 8 }, () => bench.post(L.lead()));
  await L.until('a request that hangs', () => proxy.requests > before);
  bench.stops.pop();
  const begun = Date.now();
  assert.strictEqual(await bench.leadhook.stop(), 0);
  assert.ok(Date.now() - begun < WAIT_STOP_MS);
  for (const answer of await Promise.all(answers)) {
    assert.deepStrictEqual([answer.code, answer.json.detail], [503, 'the lead could not be stored now; please send it again'], "leadhook's answer, not nginx's");
    assert.ok(answer.headers['retry-after']);
  }
});
