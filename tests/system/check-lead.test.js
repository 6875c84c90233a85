// leadctl check --send-test-lead: the whole way, and each place where it may end.
'use strict';

const assert = require('node:assert');
const { spawn } = require('node:child_process');
const fs = require('node:fs');
const http = require('node:http');
const path = require('node:path');
const L = require('./lib.js');
const { check, failures, of, show, assertOnly, authority } = require('./findings.js');

const { test } = L;

const urlOf = (bench) => `http://127.0.0.1:${bench.port}/leads`;
const send = (bench, ...args) => check(bench, '--nginx', 'off', '--send-test-lead', '--key-file', bench.file('key'), '--url', urlOf(bench), ...args);
async function setUp(t, settings) {
  const bench = new L.Bench(t);
  bench.configure(settings ? await settings(bench) : bench.mailHere());
  bench.write('key', `${L.KEY}\n`);
  await bench.startNginx();
  await bench.startLeadhook();
  return bench;
}

test('with sqlite and a Maildir: row and mail are waited for, and it is a test to everybody', async (t) => {
  const bench = await setUp(t);
  const findings = await send(bench);
  assert.deepStrictEqual(failures(findings), []);
  for (const subject of ['url-host', 'test-lead', 'test-lead-row', 'test-lead-mail']) assert.deepStrictEqual(of(findings, subject).map((one) => one.result), ['ok'], show(findings));
  const [row] = await bench.list();
  assert.deepStrictEqual([row.Offer, row.IsTest, row.Email, row.Action], ['leadctl.check', true, 'test@leadctl-check.invalid', 'INS']);
  assert.match(of(findings, 'test-lead')[0].text, new RegExp(`answers 200 stored in \\d+ ms; id ${row.DeliveryId}$`));
  const mails = await bench.mails();
  assert.strictEqual(mails.length, 1);
  assert.match(mails[0].parsed.subject, /^\[TEST\] /);
  // Each is one of its own; all of them go as the finding says.
  assert.deepStrictEqual(failures(await send(bench)), []);
  assert.strictEqual((await bench.list()).length, 2);
  // Nobody waits for leads of that offer, or takes it for one that has come.
  const [offer] = (await bench.leadctl('offers', '--json')).stdout.trim().split('\n').map((line) => JSON.parse(line));
  assert.deepStrictEqual([offer.Offer, offer.LastLeadTime], ['leadctl.check', undefined]);
  assert.strictEqual((await bench.post(L.lead())).code, 200);
  const metrics = await L.until('the offer with a lead', async () => {
    const { text } = await bench.post(undefined, { method: 'GET', path: '/metrics', type: null });
    return /offer_last_lead_timestamp_seconds{offer="contoso/.test(text) && text;
  });
  assert.doesNotMatch(metrics, /offer="leadctl\.check"/);
  const erase = of(findings, 'test-lead-row')[0].text.match(/leadctl (person erase \S+ --yes)/)[1].split(' ');
  assert.strictEqual((await bench.leadctl(...erase)).status, 0);
  assert.deepStrictEqual((await bench.list()).map((lead) => lead.Offer), ['contoso.contoso-app']);
});

test('with the Table service, SMTP and TLS, at the URL that nginx\'s configuration says', async (t) => {
  const bench = new L.Bench(t);
  const ca = authority(bench);
  const tls = ca.sign({ name: 'leads.localhost' });
  const azurite = await L.startAzurite(bench);
  const smtp = await L.startSmtp(bench);
  bench.configure({ store: 'table', table_connection_file: bench.write('connection', L.connectionString(azurite.port)), ...smtp.settings() });
  bench.write('key', `/leads?key=${L.KEY}\n`); // as leadctl key new shows it
  await bench.startNginx();
  const conf = fs.readFileSync(bench.file('nginx.conf'), 'utf8').replace(/listen (127\.0\.0\.1:\d+);/, `listen $1 ssl; server_name leads.localhost; ssl_certificate ${tls.cert}; ssl_certificate_key ${tls.key};`);
  bench.write('nginx.conf', conf);
  const pid = Number(fs.readFileSync(bench.file('nginx.pid'), 'utf8'));
  process.kill(pid, 'SIGHUP');
  await bench.startLeadhook();
  // What `nginx -T` prints, without asking it: the files one behind the other.
  const files = [bench.file('nginx.conf'), ...['leadhook-http.conf', 'leadhook.conf'].map((name) => path.join(L.top, 'nginx', name))];
  bench.write('dump', files.map((file) => `# configuration file ${file}:\n${fs.readFileSync(file, 'utf8')}\n`).join(''));
  const run = (...args) => check(bench, '--nginx', bench.file('dump'), '--send-test-lead', '--key-file', bench.file('key'), ...args);
  const untrusted = await L.until('nginx with TLS', async () => { const found = failures(await run()); return found.length === 1 && /not trusted/.test(found[0].text) && found; });
  assert.match(untrusted[0].do, /--tls-ca/);
  const findings = await run('--tls-ca', ca.cert);
  assert.deepStrictEqual(failures(findings), [], show(findings));
  assert.match(of(findings, 'url-tls')[0].text, /^trusted: \[CN = leads\.localhost\]/);
  assert.match(of(findings, 'test-lead')[0].text, new RegExp(`^https://leads\\.localhost:${bench.port}/leads answers 200`));
  assert.strictEqual(smtp.mails.length, 1);
  assert.strictEqual((await L.rows(azurite.port, 'MarketplaceLeads')).filter(L.isLead).length, 1);
});

test('an answer that is not 200 is told with what it means', async (t) => {
  const bench = await setUp(t);
  const other = await new Promise((resolve) => {
    const server = http.createServer((req, res) => { req.resume(); const [code, text] = server.says; res.writeHead(code, code === 302 ? { Location: 'https://x.invalid/' } : {}); res.end(text); });
    server.listen(0, '127.0.0.1', () => resolve(server));
  });
  bench.stops.push(() => new Promise((resolve) => { other.closeAllConnections(); other.close(resolve); }));
  bench.write('key', 'Another-key_0123456789\n');
  assertOnly(await send(bench), 'test-lead', /answers 401: /, /key list/);
  bench.write('key', `${L.KEY}\n`);
  assertOnly(await send(bench, '--url', urlOf(bench).replace('leads', 'lead')), 'test-lead', /answers 404/, /server_name/);
  for (const [code, text, explains] of [[403, '', /allow, deny/], [405, '', /POST/], [413, '', /client_max_body_size/], [302, '', /redirection/], [502, '', /upstream/],
    [200, '<html>', /not leadhook/], [200, '{"status":"stored"}', /not leadhook/], [503, '{"detail":"later \\u001b[31m"}', /leadctl status/]]) {
    other.says = [code, text];
    assertOnly(await send(bench, '--url', `http://127.0.0.1:${other.address().port}/leads`), 'test-lead', new RegExp(`answers ${code}`), explains, `${code} ${text}`);
  }
  assert.ok(!show(await send(bench, '--url', `http://127.0.0.1:${other.address().port}/leads`)).includes('\\u001b'), 'no escape sequence of others reaches a terminal');
  assertOnly(await send(bench, '--url', `http://127.0.0.1:${await L.freePort()}/leads`), 'url-host', /no connection/, /is it running/);
  await bench.stopLeadhook();
  bench.stops.splice(bench.stops.indexOf(bench.stopLeadhook), 1);
  assertOnly(await send(bench), 'test-lead', /answers 503: leadhook does not answer now/, /systemctl status/);
});

test('a mail that does not go is told with the server\'s words', async (t) => {
  let smtp;
  const bench = await setUp(t, async (b) => { smtp = await L.startSmtp(b); return smtp.settings(); });
  smtp.faults = { rcpt: { say: '550 5.1.1 no such user here\r\n' } };
  const refused = await send(bench, '--wait', '3');
  assertOnly(refused, 'test-lead-mail', /^recipient 1: .*550 5\.1\.1/, /mail_to/);
  assert.strictEqual(of(refused, 'test-lead-row')[0].result, 'ok');
});

test('a mail whose turn has not come', async (t) => {
  const bench = await setUp(t, async (b) => (await L.startSmtp(b)).settings({ mail_per_minute: 1 }));
  assert.deepStrictEqual(failures(await send(bench)), []);
  assertOnly(await send(bench, '--wait', '1'), 'test-lead-mail', /still waits/, /leadctl status/);
});

test('a lead that goes into the spool, into another store, or to nobody', async (t) => {
  const bench = await setUp(t, (b) => b.startTableWithSpool());
  bench.proxy.fault = () => ({ status: 503, body: '{"odata.error":{"code":"ServerBusy"}}', headers: { 'Content-Type': 'application/json' } });
  const spooled = await send(bench, '--wait', '1');
  assert.match(show(of(spooled, 'test-lead')), /"warn".*answers 202 spooled.*on that host's disk/s);
  assert.deepStrictEqual(failures(of(spooled, 'test-lead-row')).length, 1);

  bench.configure({ ...bench.mailHere(), listen: bench.settings.listen, store: `sqlite:${bench.file('elsewhere.db')}` });
  bench.proxy.fault = () => undefined;
  assertOnly(await send(bench, '--wait', '1'), 'test-lead-row', /not in this store/, /stores leads elsewhere/);
});

test('stored, and nobody to tell', async (t) => {
  const bench = await setUp(t, (b) => ({ ...b.mailHere(), mail_to: null, mail_url: 'off', mail_from: null }));
  const findings = await send(bench);
  assert.deepStrictEqual(failures(findings), []);
  assert.deepStrictEqual(of(findings, 'test-lead-mail').map((one) => one.result), ['warn']);
  // leadhook knows of no recipient, and this configuration does.
  bench.configure(bench.mailHere());
  assertOnly(await send(bench, '--wait', '1'), 'test-lead-mail', /no mail was written/, /restart it/);
});

test('it goes by the mail routes', async (t) => {
  const routes = (bench, text) => bench.write('routes', text, 0o644);
  const bench = await setUp(t, (b) => ({ ...b.mailHere(), mail_routes: routes(b, 'test=yes -> off\n') }));
  const findings = await send(bench);
  assert.deepStrictEqual(of(findings, 'test-lead-mail').map((one) => [one.result, one.text]), [['warn', 'there is nobody to mail to']]);
  routes(bench, 'offer=leadctl.check -> tests@example.com\ndefault -> off\n');
  bench.configure({ ...bench.mailHere(), mail_to: null, mail_routes: bench.file('routes') });
  bench.leadhook.child.kill('SIGHUP');
  await L.until('the reload', () => /event=reloaded/.test(bench.leadhook.output()));
  assert.deepStrictEqual(of(await send(bench), 'test-lead-mail').map((one) => one.result), ['ok']);
  assert.strictEqual((await bench.mails())[0].parsed.to.text, 'tests@example.com');
});

test('where the key may come from, and where it may go', async (t) => {
  const bench = await setUp(t);
  const plain = ['check', '--nginx', 'off', '--send-test-lead', '--url', urlOf(bench)];
  // From standard input, and from the environment.
  const run = (options, input) => new Promise((resolve) => {
    const child = spawn(path.join(L.build, 'leadctl'), ['--config', bench.config, ...plain, ...options.args], { env: { ...process.env, ...options.env } });
    let out = '';
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (text) => { out += text; });
    child.on('exit', (status) => resolve({ status, out }));
    child.stdin.on('error', () => {});
    child.stdin.end(input);
  });
  assert.strictEqual((await run({ args: ['--key-file', '-'] }, `\n  /leads?key=${L.KEY}\n`)).status, 0);
  assert.strictEqual((await run({ args: [], env: { LEADHOOK_TEST_KEY: L.KEY } }, '')).status, 0);
  assert.strictEqual((await bench.list()).length, 2);
  for (const [options, input, says] of [[{ args: [] }, '', /needs a key: --key-file FILE, or \$LEADHOOK_TEST_KEY/], [{ args: ['--key-file', '-'] }, 'short\n', /given as key is none/],
    [{ args: ['--key-file', '-'] }, `${L.KEY} ${L.KEY}\n`, /given as key is none/], [{ args: ['--key-file', '-', '--nginx', '-'] }, `${L.KEY}\n`, /usage/]]) {
    const refused = await run(options, input);
    assert.strictEqual(refused.status, 64, refused.out);
    assert.match(refused.out, says);
    assert.ok(!refused.out.includes(L.KEY));
  }
  fs.chmodSync(bench.file('key'), 0o644);
  const open = await bench.leadctl(...plain, '--key-file', bench.file('key'));
  assert.strictEqual(open.status, 64);
  assert.match(open.stderr, /holds secrets but has mode 0644/);
  fs.chmodSync(bench.file('key'), 0o600);
  // In the clear only on this machine, and never as part of an argument.
  for (const [url, says] of [['http://leads.example.com/leads', /over https:\/\/ only/], ['http://127.0.0.1.example.com/leads', /over https/], ['ftp://127.0.0.1/leads', /begin with https/],
    [`${urlOf(bench)}?key=x`, /end with its path/], ['http://127.0.0.1@leads.example.com/', /end with its path/], ['https://', /url|host|URL/i]]) {
    const found = failures(await send(bench, '--url', url));
    assert.strictEqual(found.length, 1, `${url}: ${show(found)}`);
    assert.match(found[0].text, says, url);
  }
  assertOnly(await check(bench, '--nginx', 'off', '--send-test-lead', '--key-file', bench.file('key')), 'test-lead', /give --url/, /./);
  assert.strictEqual((await bench.list()).length, 2, 'nothing was sent');
});

test('wrong arguments', async (t) => {
  const bench = new L.Bench(t);
  bench.configure();
  for (const args of [['x'], ['--nosuch'], ['--url', 'https://x.invalid/leads'], ['--wait', '5'], ['--wait', 'x', '--send-test-lead'], ['--wait', '3601', '--send-test-lead'], ['--nginx']]) {
    const result = await bench.leadctl('check', ...args);
    assert.strictEqual(result.status, 64, args.join(' '));
    assert.match(result.stderr, /usage: leadctl check/);
  }
});
