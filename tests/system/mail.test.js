// Mail that does not go out at once: what happens to its row, and that it
// arrives exactly once when the server works again.
'use strict';

const assert = require('node:assert');
const { spawnSync } = require('node:child_process');
const fs = require('node:fs');
const L = require('./lib.js');

const { test } = L;

async function setUp(t, { smtp: options, ...settings } = {}) {
  const bench = new L.Bench(t);
  bench.smtp = await L.startSmtp(bench, options);
  bench.configure(bench.smtp.settings(settings));
  await bench.startNginx();
  await bench.startLeadhook();
  return bench;
}

async function postLead(bench, ...changes) {
  const answer = await bench.post(L.lead(...changes));
  assert.strictEqual(answer.code, 200, answer.text);
  return answer.json.id;
}
const mailRows = (bench) => bench.entities().filter((row) => row.rowKey.startsWith('~mail-'));
// The row of the only mail, once an attempt has left its reason in it.
const failedRow = (bench) => L.until('a failed attempt', () => mailRows(bench).find((row) => row.Error && row.Error !== '-'));
const leadRow = (bench, id) => bench.entities().find((row) => row.DeliveryId === id && row.Payload);

async function stop(bench) {
  bench.stops.splice(bench.stops.indexOf(bench.stopLeadhook), 1);
  assert.strictEqual(await bench.leadhook.stop(), 0);
}

// The mail arrives once, and nothing of it is left to send.
async function assertArrivesOnce(bench, id, smtp = bench.smtp) {
  await L.until('the mark', () => leadRow(bench, id).NotifiedTime);
  assert.deepStrictEqual(mailRows(bench), []);
  assert.deepStrictEqual(smtp.mails.map((mail) => mail.parsed.messageId), [`<lead.${id}.1@example.com>`]);
}

const TRANSIENT = {
  'a greeting of 421': { greeting: { code: 421 } },
  '454 to the login': { auth: { code: 454 } },
  '451 to MAIL': { mail: { code: 451 } },
  '451 to RCPT': { rcpt: { code: 451 } },
  '552 to RCPT, which means 452': { rcpt: { code: 552 } },
  '451 to DATA': { data: { code: 451 } },
  '452 to the message': { dot: { code: 452 } },
  'a connection that ends at the greeting': { greeting: 'drop' },
  'a connection that ends at RCPT': { rcpt: 'drop' },
  'a connection that ends at DATA': { data: 'drop' },
};
for (const [name, faults] of Object.entries(TRANSIENT)) {
  test(`put off, then sent once: ${name}`, async (t) => {
    const bench = await setUp(t);
    bench.smtp.faults = faults;
    const id = await postLead(bench);
    const row = await failedRow(bench);
    assert.deepStrictEqual([row.State, row.Tries, row.Ambiguous], ['waiting', 1, 0], row.Error);
    const wait = Date.parse(row.NextTime) - Date.now();
    assert.ok(wait > 30000 && wait < 80000, `${wait} ms`);
    assert.strictEqual(leadRow(bench, id).NotifiedTime, undefined);
    assert.deepStrictEqual(bench.smtp.mails, []);
    assert.match(bench.leadhook.output(), /event=mail-deferred id=[0-9a-f]{32} request=[0-9a-f]{32} recipient=1 tries=1/);
    assert.ok(!bench.leadhook.output().includes('@'), 'no address in the log');

    bench.smtp.faults = {};
    await stop(bench);
    const early = await bench.leadctl('relay', '--once');
    assert.deepStrictEqual([early.status, bench.smtp.mails.length], [75, 0], 'not before its time');
    bench.hurryMails();
    const late = await bench.leadctl('relay', '--once');
    assert.strictEqual(late.status, 0, late.stderr);
    await assertArrivesOnce(bench, id);
    assert.strictEqual((await bench.leadctl('relay', '--once')).status, 0);
    assert.strictEqual(bench.smtp.mails.length, 1);
  });
}

const PERMANENT = { '550 to MAIL': { mail: { code: 550 } }, '550 to RCPT': { rcpt: { code: 550 } }, '554 to DATA': { data: { code: 554 } }, '554 to the message': { dot: { code: 554 } } };
for (const [name, faults] of Object.entries(PERMANENT)) {
  test(`parked for a person to look at, not sent again: ${name}`, async (t) => {
    const bench = await setUp(t);
    bench.smtp.faults = faults;
    const id = await postLead(bench);
    const row = await failedRow(bench);
    assert.strictEqual(row.State, 'parked', row.Error);
    assert.match(row.Error, new RegExp(name.slice(0, 3)));
    assert.match(bench.leadhook.output(), /level=error event=mail-parked/);
    bench.smtp.faults = {};
    await stop(bench);
    bench.hurryMails();
    assert.strictEqual((await bench.leadctl('relay', '--once')).status, 0);
    assert.deepStrictEqual(bench.smtp.mails, []);
    assert.strictEqual(leadRow(bench, id).NotifiedTime, undefined);
    assert.strictEqual(mailRows(bench).length, 1);
  });
}

// Nothing of the message may leave, nor the password where TLS is not sure.
const CONFIGURATION = {
  'the login is refused': { faults: { auth: { code: 535 } }, reason: /refuses the login.*mail_password/ },
  'no AUTH is offered': { smtp: { methods: [] }, reason: /offers no login/, logins: 0, reaches: ['mail', 'rcpt', 'data'] }, // libcurl goes so far
  'no STARTTLS is offered': { smtp: { hideStarttls: true }, reason: /offers no STARTTLS/, logins: 0 },
  'the certificate is of a stranger (STARTTLS)': { authority: true, reason: /certificate is not trusted/, logins: 0 },
  'the certificate is of a stranger (SMTPS)': { smtp: { implicit: true }, authority: true, reason: /certificate is not trusted/, logins: 0 },
  'the certificate is for another name': { name: 'elsewhere.example', reason: /certificate is not trusted/, logins: 0 },
};
for (const [name, { smtp: options, faults = {}, authority, name: subject, reason, logins, reaches = [] }] of Object.entries(CONFIGURATION)) {
  test(`a configuration error stops the queue and loses nothing: ${name}`, async (t) => {
    const bench = new L.Bench(t);
    const tls = L.certificate(bench, subject);
    bench.smtp = await L.startSmtp(bench, { tls, ...options });
    bench.smtp.faults = faults;
    bench.configure(bench.smtp.settings(authority ? { mail_tls_ca: L.certificate(bench).cert } : {}));
    await bench.startNginx();
    await bench.startLeadhook();
    const id = await postLead(bench);
    const row = await failedRow(bench);
    assert.match(row.Error, reason);
    assert.deepStrictEqual([row.State, row.Tries], ['waiting', 0], 'it costs the mail no try');
    assert.match(bench.leadhook.output(), /level=error event=mail-paused/);
    assert.ok(!bench.leadhook.output().includes('pass word'));
    assert.deepStrictEqual(bench.smtp.seen.filter((step) => ['mail', 'rcpt', 'data', 'dot'].includes(step)), reaches);
    assert.strictEqual(bench.smtp.last, undefined, 'no message');
    if (logins !== undefined) assert.strictEqual(bench.smtp.logins.length, logins);
    const check = await bench.leadctl('check');
    assert.strictEqual(check.status, 1);
    assert.match(check.stdout, new RegExp(`FAIL +mail(-tls)? .*${reason.source}`));

    await stop(bench);
    const working = await L.startSmtp(bench);
    bench.configure(working.settings());
    await bench.startLeadhook('again');
    await assertArrivesOnce(bench, id, working);
  });
}

test('no answer after the whole message: told as ambiguous, and the second copy has the same bytes', async (t) => {
  const bench = await setUp(t);
  bench.smtp.faults = { dot: 'drop' };
  const id = await postLead(bench);
  const row = await failedRow(bench);
  assert.deepStrictEqual([row.State, row.Tries, row.Ambiguous], ['waiting', 0, 1]);
  assert.match(bench.leadhook.output(), /level=error event=mail-ambiguous/);
  assert.ok(Date.parse(row.NextTime) - Date.now() > 20 * 60000);
  const lost = bench.smtp.last;
  bench.smtp.faults = {};
  await stop(bench);
  bench.hurryMails();
  assert.strictEqual((await bench.leadctl('relay', '--once')).status, 0);
  await assertArrivesOnce(bench, id);
  assert.ok(bench.smtp.mails[0].raw.equals(lost));
});

test('two recipients, one of them refused: the other has its mail, and the lead is not marked as told', async (t) => {
  const bench = await setUp(t, { mail_to: 'gone@example.com, sales@example.com' });
  bench.smtp.faults = { rcpt: (address) => address.startsWith('gone') && { code: 550 } };
  const id = await postLead(bench);
  await L.until('the mail', () => bench.smtp.mails.length === 1);
  await failedRow(bench);
  await L.until('one row left', () => mailRows(bench).length === 1);
  assert.deepStrictEqual(bench.smtp.mails.map((mail) => [mail.to, mail.parsed.messageId]), [[['sales@example.com'], `<lead.${id}.2@example.com>`]]);
  assert.deepStrictEqual(mailRows(bench).map((row) => [row.Recipient, row.State]), [['gone@example.com', 'parked']]);
  assert.strictEqual(leadRow(bench, id).NotifiedTime, undefined);
});

for (const at of ['greeting', 'auth', 'rcpt', 'data']) {
  test(`a server that hangs at '${at}' delays neither answers nor the stop`, async (t) => {
    const bench = await setUp(t);
    bench.smtp.faults = { [at]: 'hang' };
    const id = await postLead(bench);
    await L.until('the hanging', () => bench.smtp.hanging >= 1);
    const begin = Date.now();
    assert.strictEqual((await bench.post(L.lead())).code, 200);
    assert.ok(Date.now() - begin < 2000);
    await stop(bench);
    assert.ok(Date.now() - begin < 10000, `${Date.now() - begin} ms`);
    assert.ok(!bench.leadhook.output().includes('still-sending'));
    bench.smtp.faults = {};
    await bench.startLeadhook('again');
    await L.until('both mails', () => bench.smtp.mails.length === 2 && mailRows(bench).length === 0);
    assert.strictEqual(bench.smtp.mails.filter((mail) => mail.parsed.messageId === `<lead.${id}.1@example.com>`).length, 1);
  });
}

test('killed before the final bytes: the successor sends the mail once', async (t) => {
  const bench = await setUp(t);
  bench.smtp.faults = { rcpt: 'hang' };
  const id = await postLead(bench);
  await L.until('the hanging', () => bench.smtp.hanging >= 1);
  bench.stops.splice(bench.stops.indexOf(bench.stopLeadhook), 1);
  await bench.leadhook.stop('SIGKILL');
  assert.strictEqual(mailRows(bench)[0].State, 'claimed');
  bench.smtp.faults = {};
  await bench.startLeadhook('again');
  await assertArrivesOnce(bench, id);
});

test('killed after the final bytes: ambiguous, so it waits, and then has the same bytes', async (t) => {
  const bench = await setUp(t);
  bench.smtp.faults = { dot: 'hang' };
  const id = await postLead(bench);
  await L.until('the hanging', () => bench.smtp.hanging >= 1);
  bench.stops.splice(bench.stops.indexOf(bench.stopLeadhook), 1);
  await bench.leadhook.stop('SIGKILL');
  assert.strictEqual(mailRows(bench)[0].State, 'sending');
  const lost = bench.smtp.last;
  bench.smtp.faults = {};
  assert.strictEqual((await bench.leadctl('relay', '--once')).status, 75);
  const [row] = mailRows(bench);
  assert.deepStrictEqual([row.State, row.Ambiguous], ['waiting', 1]);
  bench.hurryMails();
  assert.strictEqual((await bench.leadctl('relay', '--once')).status, 0);
  await assertArrivesOnce(bench, id);
  assert.ok(bench.smtp.mails[0].raw.equals(lost));
});

test('a large mail with dots on its lines comes through SMTP as it was made', async (t) => {
  const bench = await setUp(t);
  const id = await postLead(bench, { Description: '.\r\n..\n.dot ä'.repeat(2000) }, { FirstName: 'ö'.repeat(1400), Company: 'ß'.repeat(1400), Title: '\u0001'.repeat(400) });
  await assertArrivesOnce(bench, id);
  const [mail] = bench.smtp.mails;
  assert.ok(mail.raw.length > 64 * 1024, `${mail.raw.length} bytes`);
  assert.match(mail.text, /^[\x20-\x7e\r\n]*$/);
  assert.ok(!/[^\r]\n|\r[^\n]/.test(mail.text), 'only CRLF');
  assert.ok(mail.text.split('\r\n').every((line) => line.length <= 78));
  const shown = mail.parsed.text.split('Their message')[1];
  assert.match(shown, /\.\n *\.\.\n *\.dot ä\./);
});

test('without login and TLS only for a server on this machine', async (t) => {
  const bench = await setUp(t, { mail_tls: 'off', mail_user: null, mail_password_file: null, mail_tls_ca: null });
  await assertArrivesOnce(bench, await postLead(bench));
  assert.deepStrictEqual([bench.smtp.logins, bench.smtp.mails[0].user], [[], undefined]);
  bench.write('away.conf', fs.readFileSync(bench.config, 'utf8').replace('smtp://localhost', 'smtp://mail.example.com'));
  const away = await bench.run('leadhook', '--config', bench.file('away.conf'));
  assert.strictEqual(away.status, 78);
  assert.match(away.stderr, /^leadhook: .*setting 'mail_url': mail_tls = off is allowed for a server on this machine only$/m);
});

test('the rate limit holds mail back and loses none', async (t) => {
  const bench = await setUp(t, { mail_per_minute: 2 });
  for (let i = 0; i < 4; i++) await postLead(bench);
  await L.until('two mails', () => bench.smtp.mails.length === 2 && mailRows(bench).length === 2);
  await stop(bench);
  assert.strictEqual(bench.smtp.mails.length, 2);
  assert.strictEqual((await bench.leadctl('relay', '--once')).status, 0); // a new process begins a new minute
  assert.strictEqual(bench.smtp.mails.length, 4);
  assert.deepStrictEqual(mailRows(bench), []);
});

test('leadctl relay mails alarms before the leads\' mails, which may be slow', async (t) => {
  const bench = new L.Bench(t);
  bench.smtp = await L.startSmtp(bench);
  bench.configure(bench.smtp.settings({ alarm_to: 'operator@example.com' }));
  // As plain CGI programs, so that nobody mails anything before.
  for (const [body, code] of [[L.lead(), 200], ['{"UserDetails":', 400]]) {
    const cgi = spawnSync(`${L.build}/leadhook`, ['--config', bench.config], { input: body, encoding: 'utf8', env: {
      REQUEST_METHOD: 'POST', SCRIPT_NAME: '/leads', QUERY_STRING: `key=${L.KEY}`, CONTENT_LENGTH: String(body.length) } });
    assert.match(cgi.stdout, new RegExp(`^Status: ${code} `), cgi.stderr);
  }
  assert.strictEqual((await bench.leadctl('relay', '--once')).status, 0);
  assert.deepStrictEqual(bench.smtp.mails.map((mail) => mail.parsed.to.text), ['operator@example.com', 'sales@example.com']);
});

test('while leadhook runs, leadctl relay leaves the mail to it', async (t) => {
  const bench = await setUp(t);
  const result = await bench.leadctl('relay', '--once');
  assert.strictEqual(result.status, 0);
  assert.match(result.stderr, /a running leadhook is/);
});
