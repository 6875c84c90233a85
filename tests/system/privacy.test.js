// Personal data: how long it is kept, how one person's is handed over and erased, what of it is never kept, and that
// nothing else holds it.  With the real programs; what must be gone is searched for byte by byte.
'use strict';

const assert = require('node:assert');
const { spawn } = require('node:child_process');
const fs = require('node:fs');
const path = require('node:path');
const L = require('./lib.js');

const { test } = L;
const TABLE = 'MarketplaceLeads';
const ADDRESS = 'Marked.Person@example.org';
const MARK = /arked\.person/i;
const DAY = 24 * 60 * 60 * 1000;

const stop = async (bench) => {
  await bench.stopLeadhook();
  bench.stops.splice(bench.stops.indexOf(bench.stopLeadhook), 1);
};
const isKept = (row) => (row.partitionKey === 'quarantine') && /^\d{13}-/.test(row.rowKey);
// The Table service's rows of both tables with plain values.
const tableRows = async (bench) => (await Promise.all([TABLE, `${TABLE}Ops`].map((table) => L.rows(bench.azurite.port, table)))).flat()
  .map((row) => Object.fromEntries(Object.entries(row).map(([name, value]) => [name, value && value.value !== undefined ? value.value : value])));
// All bytes of the files whose names begin so, as text of one byte per character.
const bytesOf = (bench, prefix) => fs.readdirSync(bench.dir).filter((name) => name.startsWith(prefix) && fs.statSync(bench.file(name)).isFile())
  .map((name) => fs.readFileSync(bench.file(name), 'latin1')).join('\n');
const logs = (bench) => fs.readdirSync(bench.dir).filter((name) => name.endsWith('.log') && !name.startsWith('azurite')).map((name) => fs.readFileSync(bench.file(name), 'utf8')).join('\n');
const leadctlWith = (bench, input, ...args) => new Promise((resolve) => {
  const child = spawn(path.join(L.build, 'leadctl'), ['--config', bench.config, ...args]);
  let stdout = '';
  let stderr = '';
  child.stdout.on('data', (data) => { stdout += data; });
  child.stderr.on('data', (data) => { stderr += data; });
  child.on('exit', (status) => resolve({ status, stdout, stderr }));
  child.stdin.end(input);
});

const setUp = async (t, settings) => {
  const bench = new L.Bench(t);
  bench.configure(typeof settings === 'function' ? await settings(bench) : settings);
  await bench.startNginx();
  await bench.startLeadhook();
  return bench;
};
const person = (changes, details) => L.lead(changes, { Email: ADDRESS, ...details });
// A mail that the server refuses for good, its finished message in the row.
const parked = (bench, rows) => L.until('a parked mail', async () => (await rows()).find((row) => L.isMail(row) && row.State === 'parked'));

// --- retention

test('purge: counts, then removes what is older, its parked mail and what is in quarantine, from database and log', async (t) => {
  let smtp;
  const bench = await setUp(t, async (b) => { smtp = await L.startSmtp(b); return smtp.settings(); });
  const kept = L.lead({}, { Email: 'kept@example.net' });
  smtp.faults = { rcpt: { code: 550 } };
  assert.strictEqual((await bench.post(person())).code, 200);
  await parked(bench, async () => bench.entities());
  assert.strictEqual((await bench.post(kept)).code, 200);
  assert.strictEqual((await bench.post(`{"Email":"${ADDRESS}"`)).code, 400);
  await L.until('both mails are parked', () => bench.entities().filter((row) => L.isMail(row) && row.State === 'parked').length === 2);
  const time = (ms) => new Date(ms).toISOString();
  const old = Date.now() - 200 * DAY;
  bench.sqlite(`UPDATE entity SET properties = json_set(properties, '$.ReceivedTime', '${time(old)}', '$.LastReceivedTime', '${time(old)}')
    WHERE kind = 0 AND (properties LIKE '%${ADDRESS}%' OR row_key LIKE '~mail-' || (SELECT row_key FROM entity WHERE properties LIKE '%${ADDRESS}%' AND row_key NOT LIKE '~%') || '%')`);
  bench.sqlite(`UPDATE entity SET row_key = '${old}' || substr(row_key, 14), properties = json_set(properties, '$.ReceivedTime', '${time(old)}') WHERE partition_key = 'quarantine' AND row_key < '~'`);

  const before = bench.entities();
  const dry = await bench.leadctl('purge', '--older-than', '180d');
  assert.strictEqual(dry.status, 0, dry.stderr);
  const when = time(old).slice(0, 19).replace('T', ' ');
  assert.match(dry.stdout, new RegExp(`^OFFER.*\n.*contoso\\.contoso-app +1 +1 +${when} +${when}\n.*quarantine.* 1 +0 .*\nlast received before .* UTC: 1 lead, 1 mail, 1 in quarantine\nnothing was removed; .*--yes\n$`));
  assert.deepStrictEqual(bench.entities(), before);

  const done = await bench.leadctl('purge', '--older-than', '180d', '--yes');
  assert.strictEqual(done.status, 0, done.stderr);
  assert.match(done.stdout, /removed, as last received before .*: 1 lead, 1 mail, 1 in quarantine\n$/);
  assert.strictEqual(bench.entities().filter(L.isLead).length, 1);
  assert.doesNotMatch(bytesOf(bench, 'leads.db'), MARK);
  assert.match(bytesOf(bench, 'leads.db'), /kept@example/);
  const again = await bench.leadctl('purge', '--older-than', time(Date.now() - 180 * DAY).slice(0, 10), '--yes');
  assert.match(again.stdout, /: 0 leads, 0 mails, 0 in quarantine\n$/, again.stderr);
  for (const args of [[], ['--older-than'], ['--older-than', '180'], ['--older-than', '0d'], ['--older-than', '2999-01-01'], ['--yes'], ['--older-than', '1d', 'x']]) {
    assert.strictEqual((await bench.leadctl('purge', ...args)).status, 64, args.join(' '));
  }
  assert.strictEqual((await bench.post(kept)).json.status, 'repeat');
});

test('purge on the Table service: throttled, cut off, run again', async (t) => {
  const bench = await setUp(t, (b) => b.startTable());
  for (let i = 0; i < 5; i++) assert.strictEqual((await bench.post(L.lead({ LeadSource: `X-INS|contoso.offer${i}` }))).code, 200);
  const client = L.tableClient(bench.azurite.port, TABLE);
  const old = { type: 'DateTime', value: '2020-01-01T00:00:00.000Z' };
  for (const row of (await tableRows(bench)).filter(L.isLead).slice(0, 4)) {
    await client.updateEntity({ partitionKey: row.partitionKey, rowKey: row.rowKey, LastReceivedTime: old }, 'Merge');
  }
  const leads = async () => (await tableRows(bench)).filter(L.isLead).length;
  let deletes = 0;
  bench.proxy.fault = (req, number, body) => {
    if (!/^DELETE /m.test(body)) return undefined;
    deletes++;
    if (deletes === 1) return { status: 503, headers: { 'Retry-After': '1', 'Content-Type': 'application/json' }, body: '{"odata.error":{"code":"ServerBusy","message":{"value":"x"}}}' };
    return deletes > 3 ? { status: 403, headers: { 'Content-Type': 'application/json' }, body: '{"odata.error":{"code":"AuthorizationPermissionMismatch","message":{"value":"x"}}}' } : undefined;
  };
  const cut = await bench.leadctl('purge', '--older-than', '2021-01-01', '--yes');
  assert.strictEqual(cut.status, 69, cut.stderr);
  assert.strictEqual(await leads(), 3);
  bench.proxy.fault = () => undefined;
  const done = await bench.leadctl('purge', '--older-than', '2021-01-01', '--yes');
  assert.match(done.stdout, /: 2 leads, 0 mails, 0 in quarantine\n$/, done.stderr);
  assert.strictEqual(await leads(), 1);
});

// --- one person

test('a person in a sqlite store: exported, counted, erased, and in no file any more', async (t) => {
  let smtp;
  const bench = await setUp(t, async (b) => { smtp = await L.startSmtp(b); return smtp.settings(); });
  smtp.faults = { rcpt: { code: 550 } };
  const body = person({ Description: 'my words' });
  const { id } = (await bench.post(body)).json;
  await parked(bench, async () => bench.entities());
  smtp.faults = {};
  assert.strictEqual((await bench.post(person({ LeadSource: 'X-INS|contoso.other' }, { Email: ADDRESS.toUpperCase() }))).code, 200);
  assert.strictEqual((await bench.post(L.lead({}, { Email: 'un' + ADDRESS }))).code, 200);
  const broken = Buffer.concat([Buffer.from(`{"Email":"${ADDRESS.replace('@', '\\u0040')}", "`), Buffer.from([0xff])]);
  assert.strictEqual((await bench.post(broken)).code, 400);
  assert.strictEqual((await bench.post(`{"Email":"${ADDRESS}"`)).code, 400);
  await L.until('the mails', () => smtp.mails.length === 2);
  await L.until('their record', () => bench.entities().filter(L.isMail).length === 1);

  const shown = await bench.leadctl('person', 'export', ADDRESS);
  assert.strictEqual(shown.status, 0, shown.stderr);
  const all = JSON.parse(shown.stdout);
  assert.deepStrictEqual(Object.keys(all), ['Leads', 'Mails', 'Quarantine', 'SpooledLeads', 'SpooledQuarantine']);
  assert.deepStrictEqual(Object.values(all).map((list) => list.length), [2, 1, 2, 0, 0]);
  const [lead] = all.Leads;
  assert.deepStrictEqual([lead.Offer, lead.DeliveryId, lead.Payload, lead.Description, lead.Deliveries, lead.IsTest],
    ['contoso.contoso-app', id, body, 'my words', 1, false]);
  assert.strictEqual(all.Mails[0].State, 'parked');
  assert.match(all.Mails[0].Message, /my words/);
  assert.strictEqual(all.Quarantine.find((item) => item.Body).Body, `{"Email":"${ADDRESS}"`);
  assert.deepStrictEqual(Buffer.from(all.Quarantine.find((item) => item.BodyBase64).BodyBase64, 'base64'), broken);

  const before = bench.entities();
  const dry = await leadctlWith(bench, `${ADDRESS.toLowerCase()}\n`, 'person', 'erase', '-');
  assert.deepStrictEqual([dry.status, dry.stdout], [0, 'found in the store: leads 2, mails 1, in quarantine 2\nnothing was erased; to erase it: the same with --yes\n'], dry.stderr);
  assert.deepStrictEqual(bench.entities(), before);
  const erased = await bench.leadctl('person', 'erase', ADDRESS, '--yes');
  assert.deepStrictEqual([erased.status, erased.stdout], [0, 'erased in the store: leads 2, mails 1, in quarantine 2\nread again: nothing is left\n'], erased.stderr);
  assert.strictEqual(bytesOf(bench, 'leads.db').replace(/unmarked\.person/gi, '').match(MARK), null);
  assert.strictEqual(bench.entities().filter(L.isLead).length, 1);

  for (const args of [['export', ADDRESS], ['erase', ADDRESS], ['erase', ADDRESS, '--yes']]) {
    const nothing = await bench.leadctl('person', ...args);
    assert.strictEqual(nothing.status, 66, args.join(' '));
    assert.doesNotMatch(nothing.stdout + nothing.stderr, MARK);
  }
  for (const args of [[], ['export'], ['show', ADDRESS], ['erase', 'nobody'], ['export', ADDRESS, '--yes'], ['erase', ADDRESS, ADDRESS]]) {
    assert.strictEqual((await bench.leadctl('person', ...args)).status, 64, args.join(' '));
  }
  assert.doesNotMatch(logs(bench), MARK);
  // Who comes again is a new lead.
  assert.strictEqual((await bench.post(body)).json.status, 'stored');
});

test('a person in the table and in the spool: exported and erased from both, in no file of the spool any more', async (t) => {
  let smtp;
  const bench = await setUp(t, async (b) => { smtp = await L.startSmtp(b); return { ...await b.startTableWithSpool(), ...smtp.settings() }; });
  smtp.faults = { rcpt: { code: 550 } };
  assert.strictEqual((await bench.post(person())).code, 200);
  await parked(bench, () => tableRows(bench));
  assert.strictEqual((await bench.post(`Email=${encodeURIComponent(ADDRESS)}&x=%00`, { type: 'application/x-www-form-urlencoded' })).code, 400);
  bench.proxy.fault = () => 'drop-before';
  assert.strictEqual((await bench.post(person({ Description: 'spooled' }))).code, 202);
  assert.strictEqual((await bench.post(L.lead({}, { Email: 'other@example.net' }))).code, 202);
  assert.strictEqual((await bench.post(`{"Email":"${ADDRESS}"`)).code, 400);
  const unreachable = await bench.leadctl('person', 'erase', ADDRESS);
  assert.ok([69, 75].includes(unreachable.status), unreachable.stderr);
  await stop(bench);
  bench.proxy.fault = () => undefined;
  assert.match(bytesOf(bench, 'spool.db'), MARK);

  const all = JSON.parse((await bench.leadctl('person', 'export', ADDRESS)).stdout);
  assert.deepStrictEqual(Object.values(all).map((list) => list.length), [1, 1, 1, 1, 1]);
  assert.strictEqual(all.SpooledLeads[0].Description, 'spooled');
  assert.strictEqual(all.SpooledQuarantine[0].Body, `{"Email":"${ADDRESS}"`);
  const dry = await bench.leadctl('person', 'erase', ADDRESS);
  assert.match(dry.stdout, /^found in the store: leads 1, mails 1, in quarantine 1\nfound in this host's spool: leads 1, in quarantine 1\nnothing was erased/);
  assert.match(dry.stderr, /other hosts are theirs/);
  const erased = await bench.leadctl('person', 'erase', ADDRESS, '--yes');
  assert.deepStrictEqual([erased.status, erased.stdout], [0, 'erased in the store: leads 1, mails 1, in quarantine 1\nerased in this host\'s spool: leads 1, in quarantine 1\nread again: nothing is left\n'], erased.stderr);
  assert.doesNotMatch(bytesOf(bench, 'spool.db'), MARK);
  assert.doesNotMatch(JSON.stringify(await tableRows(bench)), MARK);

  smtp.faults = {};
  await bench.startLeadhook('again');
  await L.until('the drain', async () => (await tableRows(bench)).some((row) => row.Email === 'other@example.net'));
  await L.until('an empty spool', () => bench.spoolRows().every((row) => row.partition_key !== 'spool'));
  // What has left a spool is in none of its files any more.
  await L.until('files without it', () => !bytesOf(bench, 'spool.db').includes('other@example.net'));
  assert.strictEqual((await bench.leadctl('person', 'export', ADDRESS)).status, 66);
  assert.match((await bench.leadctl('spool')).stdout, /lost +0 by damage/);
  assert.doesNotMatch(logs(bench), MARK);
});

test('a lead that the drain has in its hands while the person is erased does not come back', async (t) => {
  const bench = await setUp(t, (b) => b.startTableWithSpool());
  assert.strictEqual((await bench.post(L.lead())).code, 200); // the tables are there
  bench.proxy.fault = () => 'drop-before';
  const id = (await bench.post(person())).json.id;
  let [arrived, release] = [false, undefined];
  const released = new Promise((resolve) => { release = resolve; });
  bench.proxy.fault = async (req, number, body) => {
    if (!body.includes(id) || arrived) return undefined;
    arrived = true;
    await released;
    return undefined;
  };
  await L.until('the drain', () => arrived, 60000);
  let ended = false;
  const erased = bench.leadctl('person', 'erase', ADDRESS, '--yes').then((result) => { ended = true; return result; });
  // Others' requests to the table go on meanwhile, so does the eraser if it does not wait.
  await new Promise((resolve) => setTimeout(resolve, 1000));
  assert.strictEqual(ended, false);
  release();
  const result = await erased;
  assert.strictEqual(result.status, 0, result.stderr);
  assert.match(result.stdout, /^erased in the store: leads 1, /);
  await L.until('an empty spool', () => bench.spoolRows().every((row) => row.partition_key !== 'spool'));
  assert.doesNotMatch(JSON.stringify((await tableRows(bench)).filter(L.isLead)), MARK);
  assert.doesNotMatch(bytesOf(bench, 'spool.db'), MARK);
});

// --- what is not kept

// Every field that a sender can fill names the person.
const everywhere = (email) => ({ UserDetails: { FirstName: 'Marked', LastName: email, Email: email, Phone: email, Country: 'US', Company: email, Title: email, Other: email },
  LeadSource: `AzureMarketplace-INS|${email}`, ActionCode: email, OfferTitle: email, Description: JSON.stringify({ mktcmpid: email, note: 'Marked.Person wrote this' }), ProductId: email, More: [email] });
const form = (values) => Object.entries(values).map((pair) => pair.map(encodeURIComponent).join('=')).join('&');

test('withheld: no trace in store, spool, quarantine, mails and logs, whatever way the lead takes', async (t) => {
  const withheld = { withhold_domains: 'school.edu' };
  const bench = await setUp(t, async (b) => ({ ...await b.startTableWithSpool(), ...withheld }));
  const emails = ['marked.person@school.edu', 'MARKED.PERSON@CS.School.Edu.', '"Marked.Person"@school.edu', 'Marked.Person <marked.person@school.edu>',
    'other@example.com; marked.person@school.edu', 'marked.person\uff20school.edu'];
  const bodies = [...emails.map((email) => [JSON.stringify(everywhere(email)), 'application/json']),
    [form({ email: 'marked.person@school.edu', first_name: 'Marked.Person', company: 'Marked.Person', description: 'Marked.Person', lead_source: 'SPZA-INS|Some Offer' }), 'application/x-www-form-urlencoded']];
  for (const [body, type] of bodies) {
    const answer = await bench.post(body, { type });
    assert.strictEqual(answer.code, 200, answer.text);
  }
  const toSales = async () => (await bench.mails()).filter((mail) => mail.parsed.to.text === 'sales@example.com');
  await L.until('the mails', async () => (await toSales()).length === bodies.length && !(await tableRows(bench)).some(L.isMail));
  // A good lead that the table never takes.
  bench.proxy.fault = (req, number, body) => (/\/MarketplaceLeads\(/.test(body) || body.includes('PersonalDataWithheld')
    ? { status: 202, headers: { 'Content-Type': 'multipart/mixed; boundary=b' }, body: refusal } : undefined);
  const answer = await bench.post(bodies[0][0]);
  assert.deepStrictEqual([answer.code, answer.json.status], [202, 'quarantined'], answer.text);
  // Through the spool.
  bench.proxy.fault = () => 'drop-before';
  for (const [body, type] of bodies) assert.strictEqual((await bench.post(body, { type })).code, 202);
  assert.doesNotMatch(bytesOf(bench, 'spool.db'), MARK);
  assert.doesNotMatch(bytesOf(bench, 'spool.db'), /school/i);
  bench.proxy.fault = () => undefined;
  await L.until('the drain', () => bench.spoolRows().every((row) => row.partition_key !== 'spool'), 60000);

  const rows = await tableRows(bench);
  const leads = rows.filter(L.isLead);
  assert.strictEqual(leads.length, 2 * bodies.length);
  for (const row of leads) assert.deepStrictEqual([row.PersonalDataWithheld, row.Email, row.Payload, row.Description], ['true', undefined, undefined, undefined]);
  const items = rows.filter(isKept);
  assert.strictEqual(items.length, 1);
  assert.strictEqual(JSON.parse(Buffer.from(items[0].Body, 'base64')).PersonalDataWithheld, true);
  const decoded = items.map((item) => Buffer.from(item.Body, 'base64').toString());
  for (const text of [JSON.stringify(rows), ...decoded]) {
    assert.doesNotMatch(text, MARK);
    assert.doesNotMatch(text, /school/i);
  }
  const mails = await L.until('the mails', async () => {
    const all = await toSales();
    return all.length === 2 * bodies.length && all;
  }, 60000);
  for (const mail of await bench.mails()) assertNothingOf(mail, [MARK, /school/i]);
  assert.strictEqual(new Set(mails.map((mail) => mail.parsed.messageId)).size, mails.length);
  const list = await bench.leadctl('list', '--json', '-n', '100');
  for (const text of [logs(bench), list.stdout, bytesOf(bench, 'spool.db')]) {
    assert.doesNotMatch(text, MARK);
    assert.doesNotMatch(text, /school/i);
  }
});

// The answer to a transaction whose first member is at fault for good.
const refusal = ['--b', 'Content-Type: multipart/mixed; boundary=c', '', '--c', 'Content-Type: application/http', 'Content-Transfer-Encoding: binary', '',
  'HTTP/1.1 400 Bad Request', 'Content-Type: application/json', '', '{"odata.error":{"code":"PropertyValueTooLarge","message":{"lang":"en-US","value":"0:The property value exceeds the maximum allowed size."}}}', '--c--', '--b--', ''].join('\r\n');

// Neither in the bytes nor in what a mail program shows: all headers, text and HTML.
function assertNothingOf(mail, marks) {
  const { parsed } = mail;
  const shown = [mail.text, mail.text.replace(/=\r\n/g, ''), parsed.text, parsed.html, ...parsed.headerLines.map(({ line }) => line), parsed.subject, parsed.replyTo && parsed.replyTo.text];
  for (const text of shown.filter(Boolean)) {
    for (const mark of marks) assert.doesNotMatch(text, mark);
  }
}

test('summary: a mail has no personal data in any header or part, nor has that of a customer who came back', async (t) => {
  const bench = await setUp(t, (b) => ({ ...b.mailHere(), notify_detail: 'summary', mail_per_minute: 6000 }));
  const details = { FirstName: 'Qfirst', LastName: 'Qlast', Email: 'qmail@qdomain.example', Phone: '+49555123987', Country: 'Qcountry', Company: 'Qcompany', Title: 'Qtitle' };
  const marks = [/qfirst/i, /qlast/i, /qmail/i, /qdomain/i, /555123987/, /qcountry/i, /qcompany/i, /qtitle/i, /qwords/i, /qcampaign/i];
  const body = L.lead({ Description: 'Qwords' }, details);
  assert.strictEqual((await bench.post(body)).code, 200);
  assert.strictEqual((await bench.post(L.lead({ Description: '{"mktcmpid":"Qcampaign","note":"Qwords"}' }, details))).code, 200); // with a history now
  bench.sqlite("UPDATE entity SET version = random(), properties = json_set(properties, '$.LastReceivedTime', '2020-01-01T00:00:00.000Z') WHERE kind = 0 AND row_key < '~'");
  assert.strictEqual((await bench.post(body)).json.status, 'repeat');
  const mails = await L.until('the mails', async () => {
    const all = await bench.mails();
    return all.length === 3 && all;
  });
  assert.ok(mails.some((mail) => mail.parsed.subject.includes('CAME BACK')));
  for (const mail of mails) {
    assertNothingOf(mail, marks);
    assert.strictEqual(mail.parsed.replyTo, undefined);
    assert.match(mail.parsed.text, /This mail holds no personal data/);
  }
});
