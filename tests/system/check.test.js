// leadctl check: each thing that can be wrong, with a server that is wrong in that way; and what is said of it.
'use strict';

const assert = require('node:assert');
const { spawn, spawnSync } = require('node:child_process');
const fs = require('node:fs');
const http = require('node:http');
const https = require('node:https');
const path = require('node:path');
const L = require('./lib.js');
const { check, failures, of, show, assertOnly, authority } = require('./findings.js');

const { test } = L;
// Stands before a Table service with TLS, and tells another time.
async function startFront(bench, target, tls, ahead_ms = 0) {
  const files = { key: fs.readFileSync(tls.key), cert: fs.readFileSync(tls.cert) };
  const server = https.createServer(files, (req, res) => {
    const on = http.request({ host: '127.0.0.1', port: target, method: req.method, path: req.url, headers: req.headers, agent: false }, (answer) => {
      res.writeHead(answer.statusCode, { ...answer.headers, date: new Date(Date.now() + ahead_ms).toUTCString() });
      answer.pipe(res);
    });
    on.on('error', () => req.socket.destroy());
    req.pipe(on);
  });
  server.on('tlsClientError', () => {}); // those who do not trust it
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  bench.stops.push(() => new Promise((resolve) => { server.closeAllConnections(); server.close(resolve); }));
  return server.address().port;
}
const secure = (port) => `DefaultEndpointsProtocol=https;AccountName=${L.ACCOUNT};AccountKey=${L.ACCOUNT_KEY};TableEndpoint=https://localhost:${port}/${L.ACCOUNT}`;
const withTable = (bench, connection, more = {}) => bench.configure({ store: 'table', table_connection_file: bench.write('connection', connection), ...more });

test('a good set-up of sqlite and Maildir, and of the Table service and SMTP', async (t) => {
  const bench = new L.Bench(t);
  bench.configure(bench.mailHere());
  const small = await bench.leadctl('check', '--nginx', 'off');
  assert.strictEqual(small.status, 0, small.stdout + small.stderr);
  assert.match(small.stdout, /^ok +keys .*\nok +store .*\nok +disk .*\nok +mail .*\nwarn +alarms .*\n +this means: .*\n +to do: .*\nok +files .*\n\n\d+ checks: 0 failed, \d+ to look at\n$/m);

  const azurite = await L.startAzurite(bench);
  const smtp = await L.startSmtp(bench);
  withTable(bench, L.connectionString(azurite.port), { ...smtp.settings(), spool: bench.file('spool.db'), alarm_to: 'operator@example.com' });
  const large = await check(bench, '--nginx', 'off');
  assert.deepStrictEqual(large.map((one) => [one.subject, one.result]), [['versions', 'ok'], ['socket', 'warn'], ['keys', 'ok'], ['table-host', 'ok'],
    ['table-leads', 'ok'], ['table-ops', 'ok'], ['clock', 'ok'], ['spool', 'ok'], ['disk', 'ok'], ['mail-host', 'ok'], ['mail-tls', 'ok'], ['mail', 'ok'],
    ['alarms', 'ok'], ['files', 'ok']], show(large));
  assert.match(of(large, 'versions')[0].text, /^leadhook\/\S+ libcurl\/[\d.]+ OpenSSL\/[\d.]+ SQLite\/3[\d.]+ Linux\//);
  assert.match(of(large, 'mail-tls')[0].text, /^trusted: \[CN = localhost\] until 20\d\d-\d\d-\d\d \(\d+ days left\), signed by \[CN = localhost\]$/);
  assert.deepStrictEqual([smtp.logins.length, smtp.mails.length], [1, 0], 'logs in once and sends nothing');
  for (const table of ['MarketplaceLeads', 'MarketplaceLeadsOps']) assert.deepStrictEqual(await L.rows(azurite.port, table), [], 'leaves nothing behind');
});

test('what is wrong is said for each part', async (t) => {
  const bench = new L.Bench(t);
  const azurite = await L.startAzurite(bench);
  const smtp = await L.startSmtp(bench);
  const closed = await L.freePort();
  const here = L.connectionString(azurite.port);
  const cases = [
    { name: 'nobody at the endpoint', connection: L.connectionString(closed), subject: 'table-host', says: /no connection/, explains: /nobody listens/ },
    { name: 'no such account', connection: secure(1).replace('localhost:1/', 'nosuchaccount.invalid/'), subject: 'table-host', says: /Could not resolve host: nosuchaccount\.invalid/, explains: /resolv\.conf/ },
    { name: 'wrong SMTP password', password: 'wrong', subject: 'mail', says: /refuses the login.*mail_password.*535 5\.7\.8/, explains: /app password/ },
    { name: 'nobody at the SMTP port', change: { mail_url: `smtp://localhost:${closed}` }, subject: 'mail-host', says: /no connection/, explains: /is it running/ },
    { name: 'no such mail host', change: { mail_url: 'smtp://smtp.nosuch.invalid:587' }, subject: 'mail-host', says: /Could not resolve host/, explains: /getent hosts/ },
    { name: 'implicit TLS where there is none', change: { mail_url: `smtps://localhost:${smtp.port}` }, subject: 'mail-tls', says: /wrong version number/, explains: /smtp:\/\// },
    { name: 'no such Maildir', change: { mail_url: 'maildir:/nonexistent/Maildir' }, subject: 'mail', says: /\/nonexistent\/Maildir/, explains: /0700/ },
    { name: 'no such folder for the spool', change: { spool: '/nonexistent/spool.db' }, subject: 'spool', says: /\/nonexistent\/spool\.db/, explains: /chown leadhook|not there/ },
  ];
  for (const { name, connection = here, password = 'pass word', change, subject, says, explains } of cases) {
    withTable(bench, connection, { ...smtp.settings(), ...change });
    bench.write('mail-password', password);
    assertOnly(await check(bench, '--nginx', 'off'), subject, says, explains, name);
  }
  withTable(bench, here, { ...smtp.settings(), mail_tls_ca: bench.file('nosuch.pem') });
  bench.write('mail-password', 'pass word');
  const without = failures(await check(bench, '--nginx', 'off'));
  assert.deepStrictEqual(without.map((one) => one.subject), ['mail-tls', 'files']);
  for (const one of without) assert.match(one.text, /nosuch\.pem/);
  assert.match(without[0].do, /mail_tls_ca: PEM/);
  withTable(bench, here.replace(L.ACCOUNT_KEY, Buffer.from('wrong').toString('base64')), bench.mailHere());
  const wrong = failures(await check(bench, '--nginx', 'off'));
  assert.deepStrictEqual(wrong.map((one) => one.subject), ['table-leads', 'table-ops']);
  assert.match(wrong[0].text, /writing a row in 'MarketplaceLeads': Azure Table \(403 AuthorizationFailure\)/);
  const off = await check(withTable(bench, here, { mail_url: null }), '--nginx', 'off');
  assert.deepStrictEqual(off.filter((one) => one.result !== 'ok').map((one) => [one.subject, one.result]), [['socket', 'warn'], ['spool', 'warn'], ['mail', 'warn'], ['alarms', 'warn']]);
});

// What the Table service says, and what has to be done.
const CODES = [
  [403, 'AuthenticationFailed', /show-connection-string/], [403, 'AuthorizationFailure', /network-rule add/],
  [403, 'AuthorizationPermissionMismatch', /generate-sas .*--permissions rcaud/], [403, 'AuthorizationResourceTypeMismatch', /srt=co/],
  [403, 'AuthorizationServiceMismatch', /ss=t/], [403, 'AuthorizationSourceIPMismatch', /sip=/], [403, 'AuthorizationProtocolMismatch', /spr=/],
  [403, 'KeyBasedAuthenticationNotPermitted', /--allow-shared-key-access true/], [403, 'InsufficientAccountPermissions', /-secondary/],
  [401, 'InvalidAuthenticationInfo', /connection string anew/], [401, 'NoAuthenticationInformation', /allow key access/],
  [403, 'AccountIsDisabled', /subscription/], [404, 'ResourceNotFound', /AccountName and TableEndpoint/], [503, 'ServerBusy', /throttles/],
  [500, 'OperationTimedOut', /later/], [500, 'InternalError', /Microsoft's support/], [409, 'TableBeingDeleted', /wait a minute/],
  [501, 'NotImplemented', /not a Table service/],
];
test('every refusal of the Table service is told by its code, with what to do about it', async (t) => {
  const bench = new L.Bench(t);
  const table = await L.startFakeTable(bench);
  withTable(bench, L.connectionString(table.port), bench.mailHere());
  for (const [status, code, explains] of CODES) {
    await table.fault({ do: 'answer', status, code });
    const found = failures(await check(bench, '--nginx', 'off'));
    assert.deepStrictEqual(found.map((one) => one.subject), ['table-leads', 'table-ops'], code);
    assert.match(found[0].text, new RegExp(`${status} ${code}`), code);
    assert.match(`${found[0].means} ${found[0].do}`, explains, `${code}: ${show(found)}`);
  }
  await table.fault({ on: 'batch', do: 'answer', status: 404, code: 'TableNotFound' });
  assert.match(show(failures(await check(bench, '--nginx', 'off'))), /404 TableNotFound.*az storage table create/s);
  await table.fault({ do: 'garbage' });
  assert.match(show(failures(await check(bench, '--nginx', 'off'))), /not understood/);
});

test('each right to rows is tried, and a row that cannot be deleted is told', async (t) => {
  const bench = new L.Bench(t);
  const table = await L.startFakeTable(bench);
  withTable(bench, L.connectionString(table.port), bench.mailHere());
  assert.deepStrictEqual(failures(await check(bench, '--nginx', 'off')), []);
  const denied = { do: 'answer', status: 403, code: 'AuthorizationPermissionMismatch' };
  for (const [rule, says, leaves] of [[{ on: 'batch', contains: 'CheckedTime' }, /^writing a row in/, false], [{ on: 'read' }, /^reading a row in/, true],
    [{ on: 'batch', contains: 'DELETE' }, /^deleting a row in/, true]]) {
    await table.fault({ ...rule, ...denied });
    const findings = await check(bench, '--nginx', 'off');
    const found = failures(findings);
    assert.deepStrictEqual(found.map((one) => one.subject), ['table-leads', 'table-ops'], show(found));
    for (const one of found) assert.match(one.text, says);
    assert.strictEqual(of(findings, 'table-leads').some((one) => /row '[0-9a-f]{32}' of partition 'leadctl-check' was left behind/.test(one.text)), leaves, show(findings));
  }
  // One table only: a SAS for one of the two.
  await table.fault({ on: 'batch', contains: 'MarketplaceLeadsOps', ...denied });
  assertOnly(await check(bench, '--nginx', 'off'), 'table-ops', /MarketplaceLeadsOps.*AuthorizationPermissionMismatch/, /generate-sas/);
});

test('TLS to the Table service: who signed, for whom, until when', async (t) => {
  const bench = new L.Bench(t);
  const table = await L.startFakeTable(bench);
  const ca = authority(bench);
  const stranger = authority(bench);
  const cases = [
    { name: 'a stranger\'s authority', tls: stranger.sign(), says: /not trusted: .*unable to get local issuer.*\[CN = localhost\] until .* days left\), signed by \[CN = An authority\]/, explains: /table_tls_ca/ },
    { name: 'its own authority', tls: L.certificate(bench), says: /not trusted: .*self-signed/, explains: /firewall that looks into TLS/ },
    { name: 'expired', tls: ca.sign({ days: -1 }), says: /certificate has expired; it shows \[CN = localhost\] ended 20.* \(1 day ago\)/, explains: /last day/ },
    { name: 'another name', tls: ca.sign({ name: 'acct.privatelink.example' }), says: /not trusted: .*subject name/, explains: /privatelink/ },
  ];
  const run = async (tls, ahead_ms) => check(withTable(bench, secure(await startFront(bench, table.port, tls, ahead_ms)), { ...bench.mailHere(), table_tls_ca: ca.cert }), '--nginx', 'off');
  for (const { name, tls, says, explains } of cases) assertOnly(await run(tls), 'table-tls', says, explains, name);
  const soon = await run(ca.sign({ days: 5 }));
  assert.deepStrictEqual(of(soon, 'table-tls').map((one) => one.result), ['warn']);
  assert.match(of(soon, 'table-tls')[0].text, /\(4 days left\)/);
  const good = await run(ca.sign());
  assert.deepStrictEqual(failures(good), []);
  assert.match(of(good, 'table-tls')[0].text, /^trusted: \[CN = localhost\] until 20\d\d-\d\d-\d\d \(36[45] days left\), signed by \[CN = An authority\]$/);
  // No TLS at all behind an https endpoint.
  const plain = await L.startProxy(bench, table.port);
  assertOnly(await check(withTable(bench, secure(plain.port), bench.mailHere()), '--nginx', 'off'), 'table-tls', /wrong version number/, /does not speak TLS/);
});

test('a clock that is off is told from the Date of the answers', async (t) => {
  const bench = new L.Bench(t);
  const table = await L.startFakeTable(bench);
  const ca = authority(bench);
  const tls = ca.sign();
  const run = async (minutes) => check(withTable(bench, secure(await startFront(bench, table.port, tls, minutes * 60000)), { ...bench.mailHere(), table_tls_ca: ca.cert }), '--nginx', 'off');
  assert.deepStrictEqual(of(await run(0), 'clock').map((one) => one.result), ['ok']);
  assert.match(show(of(await run(2), 'clock')), /"warn".*1[12]\d seconds slow/s);
  assert.match(show(of(await run(-7), 'clock')), /"FAIL".*4[12]\d seconds fast.*timedatectl/s);
  // The service refuses what is signed by such a clock, with the code of a wrong key.
  await table.fault({ do: 'answer', status: 403, code: 'AuthenticationFailed' });
  const refused = failures(await run(20));
  assert.deepStrictEqual(refused.map((one) => one.subject), ['table-leads', 'table-ops', 'clock']);
  assert.match(refused[0].text, /403 AuthenticationFailed\): this host's clock is (19|20) minutes slow/);
  assert.match(refused[0].do, /timedatectl/);
});

// What mail servers say, at which step, and what has to be done.
const REPLIES = [
  ['auth', '535 5.7.3 Authentication unsuccessful', /SMTP AUTH is off for the mailbox/],
  ['auth', '535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Mailbox', /Set-CASMailbox/],
  ['auth', '550 5.7.30 Basic authentication is not supported for Client Submission.', /Azure Communication Services/],
  ['auth', '535 5.7.8 Username and Password not accepted', /app password/],
  ['auth', '454 4.7.0 Temporary authentication failure', /in some minutes/],
  ['greeting', '421 4.3.2 Service not available', /no TLS|to that port|telnet/],
  ['mail', '530 5.7.57 Client not authenticated to send mail', /mail_user/, true],
  ['dot', '554 5.2.252 SendAsDenied; leads@example.com not allowed to send as', /Send as/, true],
  ['dot', '550 5.7.30 Basic authentication is not supported for Client Submission.', /basic authentication/, true],
  ['dot', '554 Message rejected: Email address is not verified.', /production access/, true],
  ['mail', '432 4.3.2 Concurrent connections limit exceeded', /same mailbox/, true],
  ['rcpt', '550 5.1.1 no such user', /mail_to/, true],
  ['rcpt', '550 5.7.1 Unable to relay', /mail_from/, true],
  ['dot', '452 4.3.1 Insufficient system storage', /in some minutes/, true],
];
test('every refusal of a mail server is told in its words, with what to do about it', async (t) => {
  const bench = new L.Bench(t);
  const smtp = await L.startSmtp(bench);
  bench.configure(smtp.settings());
  for (const [step, reply, explains, withMail] of REPLIES) {
    smtp.faults = { [step]: { say: `${reply}\r\n` } };
    const found = failures(await check(bench, '--nginx', 'off', ...(withMail ? ['--send-test-mail'] : [])));
    assert.deepStrictEqual(found.map((one) => one.subject), [withMail ? 'test-mail' : step === 'greeting' ? 'mail-tls' : 'mail'], `${reply}: ${show(found)}`);
    if (step !== 'greeting') assert.ok(found[0].text.includes(reply.slice(0, 9)), `${reply}: ${show(found)}`);
    assert.match(`${found[0].means} ${found[0].do}`, explains, `${reply}: ${show(found)}`);
  }
  smtp.faults = {};
  for (const [methods, says, explains] of [[[], /offers no login/, /port 25/], [['CRAM-MD5'], /neither PLAIN nor LOGIN/, /XOAUTH2/]]) {
    smtp.offers.auth = methods;
    assertOnly(await check(bench, '--nginx', 'off'), 'mail', says, explains);
  }
  smtp.offers.starttls = false;
  assertOnly(await check(bench, '--nginx', 'off'), 'mail-tls', /offers no STARTTLS/, /smtps:\/\/host:465/);
});

test('a mail server\'s certificate', async (t) => {
  const bench = new L.Bench(t);
  const ca = authority(bench);
  for (const implicit of [false, true]) {
    const smtp = await L.startSmtp(bench, { tls: ca.sign({ days: -1 }), implicit });
    bench.configure(smtp.settings({ mail_tls_ca: ca.cert }));
    assertOnly(await check(bench, '--nginx', 'off'), 'mail-tls', /certificate has expired; it shows \[CN = localhost\] ended .*\(1 day ago\)/, /last day/);
    smtp.certificate = ca.sign();
    assert.strictEqual(of(await check(bench, '--nginx', 'off'), 'mail-tls')[0].result, 'ok');
    assert.strictEqual(smtp.logins.length, 1, 'no password went to the one that was not trusted');
  }
});

test('a test mail goes to everybody, and only when it is asked for', async (t) => {
  const bench = new L.Bench(t);
  const smtp = await L.startSmtp(bench);
  bench.configure(smtp.settings({ mail_to: 'sales@example.com, partners@example.com', alarm_to: 'operator@example.com' }));
  const findings = await check(bench, '--nginx', 'off', '--send-test-mail');
  assert.deepStrictEqual(of(findings, 'test-mail').map((one) => one.result), ['ok', 'ok', 'ok']);
  assert.deepStrictEqual(smtp.mails.map((mail) => mail.to[0]), ['sales@example.com', 'partners@example.com', 'operator@example.com']);
  for (const mail of smtp.mails) assert.match(mail.parsed.subject, /a test mail: nothing has happened/);
  // Once more on the same day: servers must not take them for duplicates.
  await check(bench, '--nginx', 'off', '--send-test-mail');
  assert.strictEqual(new Set(smtp.mails.map((mail) => mail.parsed.messageId)).size, 6);
  for (const mail of smtp.mails) assert.doesNotMatch(mail.parsed.text, /once a day/);
});

test('disks: nearly full, and too small for the spool', async (t) => {
  const bench = new L.Bench(t);
  const azurite = await L.startAzurite(bench);
  const small = bench.file('small');
  fs.mkdirSync(small);
  // A disk of its own in a mount namespace, which ends with the command.
  const run = (size) => spawnSync('unshare', ['-rm', 'sh', '-c', `mount -t tmpfs -o size=${size},mode=700 none "$1" && shift && exec "$@"`, 'sh', small,
    path.join(L.build, 'leadctl'), '--config', bench.config, 'check', '--json', '--nginx', 'off'], { encoding: 'utf8' });
  const disk = (result) => {
    assert.ok([0, 1].includes(result.status), result.stderr);
    return result.stdout.trimEnd().split('\n').map((line) => JSON.parse(line)).filter((one) => one.subject === 'disk');
  };
  bench.configure({ ...bench.mailHere(), store: `sqlite:${small}/leads.db` });
  assert.match(show(disk(run('12m'))), /"FAIL".*0\.01 GiB are free for .*503/s);
  assert.match(show(disk(run('100m'))), /"warn".*0\.10 GiB are free/s);
  withTable(bench, L.connectionString(azurite.port), { spool: `${small}/spool.db`, spool_max_bytes: 200000000 });
  assert.match(show(disk(run('100m'))), /"warn".*may grow by 0\.19 GiB/s);
  assert.match(show(disk(run('300m'))), /"ok"/);
});

test('a database that another program keeps locked, and one that is none', async (t) => {
  const bench = new L.Bench(t);
  bench.configure(bench.mailHere());
  assert.deepStrictEqual(failures(await check(bench, '--nginx', 'off')), []);
  const sqlite = spawn('sqlite3', [bench.file('leads.db')], { stdio: ['pipe', 'pipe', 'inherit'] });
  const ended = new Promise((resolve) => sqlite.on('exit', resolve));
  bench.stops.push(() => { sqlite.stdin.end(); return ended; });
  const locked = new Promise((resolve) => sqlite.stdout.once('data', resolve));
  sqlite.stdin.write('BEGIN IMMEDIATE; SELECT 1;\n');
  await locked;
  assertOnly(await check(bench, '--nginx', 'off'), 'store', /locked/, /fuser/);
  sqlite.stdin.write('ROLLBACK;\n');
  fs.writeFileSync(bench.file('other.db'), 'x'.repeat(5000), { mode: 0o600 });
  bench.configure({ ...bench.mailHere(), store: `sqlite:${bench.file('other.db')}` });
  assertOnly(await check(bench, '--nginx', 'off'), 'store', /damaged \(or is none of leadhook.s\)/, /right file/);
});

// Root reads the configuration, and leadhook, as whom all else is tried, may not read a file of it.
test('a secret that the user of the store may not read', async (t) => {
  const bench = new L.Bench(t);
  const smtp = await L.startSmtp(bench);
  const folder = bench.file('state');
  fs.mkdirSync(folder, { mode: 0o700 });
  bench.configure(smtp.settings({ store: `sqlite:${folder}/leads.db` }));
  fs.chmodSync(bench.config, 0o644);
  if (process.getuid() === 0) for (const file of [folder, bench.file('keys')]) fs.chownSync(file, 65534, 65534);
  else fs.chmodSync(bench.file('keys'), 0o600);
  const own = failures(await check(bench, '--nginx', 'off'));
  if (process.getuid() === 0) {
    assert.deepStrictEqual(own.map((one) => one.subject), ['files'], show(own));
    assert.match(own[0].text, /mail-password': Permission denied/);
    assert.match(own[0].do, /chgrp leadhook/);
    fs.chownSync(bench.file('mail-password'), 65534, 65534);
  }
  assert.deepStrictEqual(failures(await check(bench, '--nginx', 'off')), []);
});

test('findings that cannot be written are no success', (t) => {
  const bench = new L.Bench(t);
  bench.configure(bench.mailHere());
  const full = fs.openSync('/dev/full', 'w');
  const result = spawnSync(path.join(L.build, 'leadctl'), ['--config', bench.config, 'check', '--nginx', 'off'], { encoding: 'utf8', stdio: ['ignore', full, 'pipe'] });
  fs.closeSync(full);
  assert.strictEqual(result.status, 74);
  assert.match(result.stderr, /cannot write what was found/);
});
