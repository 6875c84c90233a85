// The example of a server that admits only known senders, as it stands in nginx/ but for names of files and addresses:
// with a certificate of our authority and from a listed address, and not otherwise.
'use strict';

const assert = require('node:assert');
const { spawnSync } = require('node:child_process');
const fs = require('node:fs');
const https = require('node:https');
const path = require('node:path');
const L = require('./lib.js');

const { test } = L;

function openssl(...args) {
  const made = spawnSync('openssl', args, { encoding: 'utf8' });
  assert.strictEqual(made.status, 0, made.stderr);
}

// An authority, which can sign certificates for senders.
function authority(bench, name) {
  const key = bench.file(`${name}.key`);
  const cert = bench.file(`${name}.pem`);
  const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
  openssl('req', '-x509', ...newKey, '-days', '2', '-subj', `/CN=${name}`, '-addext', 'basicConstraints=critical,CA:TRUE', '-keyout', key, '-out', cert);
  const sign = (sender) => {
    const files = { key: bench.file(`${sender}.key`), request: bench.file(`${sender}.csr`), cert: bench.file(`${sender}.pem`) };
    openssl('req', ...newKey, '-subj', `/CN=${sender}`, '-keyout', files.key, '-out', files.request);
    openssl('x509', '-req', '-in', files.request, '-CA', cert, '-CAkey', key, '-CAcreateserial', '-days', '2', '-out', files.cert);
    return { key: fs.readFileSync(files.key), cert: fs.readFileSync(files.cert) };
  };
  return { cert, sign };
}

test('only a certificate of our authority from a listed address gets to leadhook', async (t) => {
  const bench = new L.Bench(t);
  bench.configure();
  const server = L.certificate(bench, 'localhost');
  const ours = authority(bench, 'ours');
  const sender = ours.sign('sender');
  const stranger = authority(bench, 'theirs').sign('stranger');

  const example = fs.readFileSync(path.join(L.top, 'nginx/leadhook-restricted.conf.example'), 'utf8');
  await bench.startNginx();
  const main = fs.readFileSync(bench.file('nginx.conf'), 'utf8');
  await bench.stops.pop()();
  const places = {
    'listen 443 ssl;': `listen 127.0.0.1:${bench.port} ssl;`,
    '/etc/leadhook/tls/server.pem': server.cert,
    '/etc/leadhook/tls/server.key': server.key,
    '/etc/leadhook/tls/senders-ca.pem': ours.cert,
    'allow 203.0.113.0/24;': 'allow 127.0.0.1;',
    '/var/log/nginx/leads.log': bench.file('leads.log'),
    '/var/log/nginx/leads-error.log': bench.file('leads-error.log'),
    '/usr/local/share/leadhook/nginx/leadhook.conf': `${L.top}/nginx/leadhook.conf`,
  };
  let restricted = example;
  for (const [there, here] of Object.entries(places)) {
    assert.ok(restricted.includes(there), there);
    restricted = restricted.replaceAll(there, here);
  }
  const begin = main.indexOf('  server {\n');
  bench.write('nginx.conf', `${main.slice(0, begin)}${restricted}}\n`);
  await bench.runNginx();
  await bench.startLeadhook();

  const send = (way, { method = 'POST', url = `/leads?key=${L.KEY}` } = {}) => new Promise((resolve, reject) => {
    const request = https.request({ host: '127.0.0.1', port: bench.port, servername: 'localhost', ca: fs.readFileSync(server.cert), agent: false,
      method, path: url, localAddress: way.from, key: way.key, cert: way.cert, headers: { 'Content-Type': 'application/json' } }, (answer) => {
      const chunks = [];
      answer.on('data', (chunk) => chunks.push(chunk));
      answer.on('end', () => resolve({ code: answer.statusCode, text: Buffer.concat(chunks).toString() }));
    });
    request.on('error', reject);
    request.end(method === 'POST' ? L.lead() : undefined);
  });
  const seen = () => (bench.leadhook.output().match(/ request=/g) || []).length;

  assert.strictEqual((await send(sender)).code, 200);
  assert.strictEqual((await send(sender, { url: '/leads?key=wrong-wrong-wrong' })).code, 401, 'a key is needed all the same');
  assert.strictEqual(seen(), 2);
  for (const [name, way, code] of [
    ['no certificate', {}, 400], ['another authority', stranger, 400], ['its own authority', { key: fs.readFileSync(server.key), cert: fs.readFileSync(server.cert) }, 400],
    ['another address', { ...sender, from: '127.0.0.9' }, 403], ['neither', { from: '127.0.0.9' }, 400]]) {
    assert.strictEqual((await send(way)).code, code, name);
    assert.strictEqual((await send(way, { method: 'GET', url: '/healthz' })).code, code, name);
  }
  assert.strictEqual(seen(), 2);
  assert.strictEqual((await bench.list()).length, 1);
  assert.strictEqual((await send(sender, { method: 'GET', url: '/metrics' })).code, 200);
  for (const name of ['leads.log', 'leads-error.log', 'error.log', 'access.log', 'nginx.out']) {
    const file = bench.file(name);
    if (fs.existsSync(file)) assert.ok(!fs.readFileSync(file, 'utf8').includes(L.KEY), `${name} holds the key`);
  }
});
