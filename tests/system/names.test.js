// Names, TLS with the system's authorities and a mail by STARTTLS under the
// sandbox, as they are on a real machine: with a name server, and an /etc that
// can be changed.  So these tests run in namespaces of their own: this file
// starts itself there.
'use strict';

const assert = require('node:assert');
const { spawnSync } = require('node:child_process');
const dgram = require('node:dgram');
const fs = require('node:fs');
const net = require('node:net');
const os = require('node:os');
const path = require('node:path');
const tls = require('node:tls');
const L = require('./lib.js');

const { test } = L;
const MAIL = 'mail.names.example';
const TABLE = 'table.names.example';

// Ours from here on: a copy, so that files may be replaced in it.
function replaceEtc() {
  const etc = fs.mkdtempSync(path.join(os.tmpdir(), 'lh-etc-'));
  spawnSync('cp', ['-a', '/etc/.', etc]); // what others may not read is not needed
  const done = spawnSync('sh', ['-c', `mount --make-rprivate / && mount --bind ${etc} /etc && ip link set lo up`], { encoding: 'utf8' });
  assert.strictEqual(done.status, 0, done.stderr);
  return etc;
}

// Answers that the two names are this machine, and that there are no others.
async function startNameServer(bench) {
  const server = dgram.createSocket('udp4');
  server.asked = [];
  server.on('message', (question, from) => {
    const labels = [];
    let at = 12;
    for (; question[at] !== 0; at += question[at] + 1) labels.push(question.toString('latin1', at + 1, at + 1 + question[at]));
    const end = at + 5; // of the question: a zero, type and class
    const name = labels.join('.').toLowerCase();
    const isKnown = name === MAIL || name === TABLE;
    const isAddress = question.readUInt16BE(at + 1) === 1;
    server.asked.push(name);
    const head = Buffer.from(question.subarray(0, 12));
    head.writeUInt16BE(isKnown ? 0x8180 : 0x8183, 2);
    head.writeUInt16BE(isKnown && isAddress ? 1 : 0, 6);
    head.writeUInt32BE(0, 8);
    const answer = isKnown && isAddress ? Buffer.from([0xC0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4, 127, 0, 0, 1]) : Buffer.alloc(0);
    server.send(Buffer.concat([head, question.subarray(12, end), answer]), from.port, from.address);
  });
  await new Promise((resolve) => server.bind(53, '127.0.0.1', resolve));
  bench.stops.push(() => new Promise((resolve) => server.close(resolve)));
  return server;
}

// TLS before a server that has none.
async function startTls(bench, target, certificate) {
  const sockets = new Set();
  const server = tls.createServer({ key: fs.readFileSync(certificate.key), cert: fs.readFileSync(certificate.cert) }, (socket) => {
    const inner = net.connect(target, '127.0.0.1');
    for (const one of [socket, inner]) {
      sockets.add(one);
      one.on('error', () => {}).on('close', () => { socket.destroy(); inner.destroy(); });
    }
    socket.pipe(inner).pipe(socket);
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  bench.stops.push(() => new Promise((resolve) => {
    server.close(resolve);
    for (const socket of sockets) socket.destroy();
  }));
  return server.address().port;
}

// Puts another file in the place of one of /etc, as DHCP clients and editors do.
function replace(name, text) {
  fs.writeFileSync(`/etc/${name}.new`, text);
  fs.renameSync(`/etc/${name}.new`, `/etc/${name}`);
}

function inside() {
  const etc = replaceEtc();
  process.on('exit', () => fs.rmSync(etc, { recursive: true, force: true }));

  test('a lead and its mail, by names and with the authorities of the system', async (t) => {
    const bench = new L.Bench(t);
    const local = new L.Bench(t); // with nothing to look up
    const names = await startNameServer(bench);
    replace('nsswitch.conf', 'passwd: files\ngroup: files\nhosts: files hesiod dns\n');
    replace('resolv.conf', 'nameserver 127.0.0.1\noptions timeout:1 attempts:2\n');
    const table = await L.startFakeTable(bench);
    const certificates = { [MAIL]: L.certificate(bench, MAIL), [TABLE]: L.certificate(bench, TABLE) };
    replace('ssl/certs/ca-certificates.crt', Object.values(certificates).map(({ cert }) => fs.readFileSync(cert, 'utf8')).join(''));
    const port = await startTls(bench, table.port, certificates[TABLE]);
    bench.smtp = await L.startSmtp(bench, { tls: certificates[MAIL] });
    const connection = `AccountName=${L.ACCOUNT};AccountKey=${L.ACCOUNT_KEY};TableEndpoint=https://${TABLE}:${port}/${L.ACCOUNT};`;
    bench.configure({ store: 'table', table_connection_file: bench.write('connection', connection), spool: bench.file('spool.db'),
      ...bench.smtp.settings({ mail_url: `smtp://${MAIL}:${bench.smtp.port}`, mail_tls_ca: null }) });
    await bench.startNginx();
    local.configure(local.mailHere());
    await local.startNginx();
    await local.startLeadhook();
    const program = await bench.startLeadhook();
    if (!L.isInstrumented) {
      assert.match(program.output(), /event=sandbox calls=filtered landlock=[1-9]/);
      assert.match(fs.readFileSync(`/proc/${program.child.pid}/maps`, 'utf8'), /libnss_hesiod/, 'loaded before it is needed');
    }
    const answer = await bench.post(L.lead());
    assert.deepStrictEqual([answer.code, answer.json.status], [200, 'stored'], answer.text);
    await L.until('the mail', () => bench.smtp.mails.length === 1);
    assert.ok(names.asked.includes(TABLE) && names.asked.includes(MAIL), names.asked.join(' '));
    if (L.isInstrumented) return;

    // What libc reads for a name is another file now, which this process may not open.
    let last = program;
    for (const timeout of [2, 3]) { // the second end comes later than the other process has looked
      replace('resolv.conf', `nameserver 127.0.0.1\noptions timeout:${timeout} attempts:2\n`);
      await L.until('the end', () => last.status !== undefined);
      assert.strictEqual(last.status, 0);
      assert.match(last.output(), /event=sandbox-outdated file=\/etc\/resolv\.conf /);
      bench.stops.splice(bench.stops.indexOf(bench.stopLeadhook), 1);
      last = await bench.startLeadhook();
    }
    assert.strictEqual((await local.post(L.lead())).code, 200, 'who looks up no name goes on');
    const next = await bench.post(L.lead());
    assert.deepStrictEqual([next.code, next.json.status], [200, 'stored'], next.text);
    await L.until('the next mail', () => bench.smtp.mails.length === 2);
  });
}

if (process.env.LH_NAMES_INSIDE) {
  inside();
} else {
  test('names, in namespaces of their own', () => {
    const user = process.getuid() === 0 ? [] : ['--map-root-user'];
    const run = spawnSync('unshare', [...user, '--mount', '--net', process.execPath, __filename],
      { encoding: 'utf8', env: { ...process.env, LH_NAMES_INSIDE: '1', NODE_TEST_CONTEXT: '' } });
    assert.ok(run.status === 0 && /^# pass 1$/m.test(run.stdout), `${run.error || ''}${run.stdout}${run.stderr}`);
  });
}
