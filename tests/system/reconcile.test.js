// leadctl reconcile: the lead export of Partner Center against what has really been delivered, with both stores.
'use strict';

const assert = require('node:assert');
const fs = require('node:fs');
const { execFileSync } = require('node:child_process');
const L = require('./lib.js');

const { test } = L;

const HEAD = ['Referral ID', 'Creation Date', 'Customer Name', 'Customer Contact First Name', 'Customer Contact Last Name',
  'Customer Contact Email Address', 'Customer Country', 'Lead Source', 'Call to action', 'Offer ID', 'Offer name'];

let counter = 0;
// A line of the export that is the same lead as the body that is posted, but for the changes.
function line(mail, changes = {}) {
  const all = { 'Referral ID': `r${++counter}`, 'Creation Date': new Date().toISOString(), 'Customer Name': 'Example', 'Customer Contact First Name': 'Ana',
    'Customer Contact Last Name': 'Test', 'Customer Contact Email Address': mail, 'Customer Country': 'US', 'Lead Source': 'Azure Marketplace',
    'Call to action': 'Get it now', 'Offer ID': 'contoso.contoso-app', 'Offer name': 'Contoso App', ...changes };
  return HEAD.map((name) => all[name]);
}
const quoted = (text) => (/[",;\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
const csv = (...lines) => [HEAD, ...lines].map((fields) => `${fields.map(quoted).join(',')}\r\n`).join('');

async function reconcile(bench, text, ...options) {
  // leadctl, started by root, is another user when it opens the file
  const file = bench.write('export.csv', text, 0o644);
  const result = await bench.leadctl('reconcile', file, '--json', ...options);
  assert.ok([0, 1].includes(result.status), `${result.status} ${result.stderr}`);
  const objects = result.stdout.split('\n').filter(Boolean).map((object) => JSON.parse(object));
  const summary = objects.pop();
  assert.strictEqual(summary.kind, 'summary');
  return { status: result.status, summary, objects, output: result.stdout + result.stderr };
}
const short = ({ kind, line: number, why, fields }) => [kind, number, why || fields].filter((x) => x !== undefined).join(' ');

function testBoth(name, body, more = {}) {
  for (const store of ['sqlite', 'table']) {
    test(`${name} (${store})`, async (t) => {
      const bench = new L.Bench(t);
      bench.configure({ ...(store === 'table' ? await bench.startTable() : {}), ...bench.mailHere(), mail_per_minute: 6000, ...more });
      await bench.startLeadhook();
      await bench.startNginx();
      const post = async (customer, lead = {}) => {
        const answer = await bench.post(L.lead(lead, customer));
        assert.strictEqual(answer.code, 200, answer.text);
        return answer.json.id;
      };
      await body(bench, post, store);
    });
  }
}

testBoth('what is missing, extra and different is found, and nobody is named', async (bench, post) => {
  await post({ Email: 'same@example.com' });
  const differs = await post({ Email: 'differs@example.com', LastName: 'Old', Phone: '1' });
  const extra = await post({ Email: 'extra@example.com' });
  await post({ Email: 'MSFT_TEST_638000000000000000@test.com' });
  await post({ Email: 'twice@example.com' });
  await post({ Email: 'elsewhere@example.com' });
  const yesterday = new Date(Date.now() - 2 * 86400e3).toISOString();
  const result = await reconcile(bench, csv(
    line('SAME@example.com '),
    line('differs@example.com', { 'Customer Contact Last Name': 'New', 'Customer Country': 'DE' }),
    line('missing@example.com'),
    line('twice@example.com'), line('twice@example.com'),
    line('elsewhere@example.com', { 'Offer ID': 'contoso.other', 'Offer name': 'Other' }),
    line('same@example.com', { 'Creation Date': yesterday }),
    line('someone@example.com', { 'Creation Date': 'soon' }),
    ['r1', ...line('same@example.com').slice(1)].map((x, i) => (i ? x : 'same-id')),
    ['same-id', ...line('same@example.com').slice(1)],
    line('same@example.com', { 'Customer Contact Email Address': '', 'Customer Name': '', 'Customer Contact First Name': '', 'Customer Contact Last Name': '' }),
    line('someone@example.com', { 'Creation Date': new Date(Date.now() + 2 * 86400e3).toISOString() }), // read as it was not meant
  ), '--within', '24h');
  assert.strictEqual(result.status, 1);
  assert.deepStrictEqual(result.objects.map(short).sort(), [
    'differs 3 name, country', 'duplicate 11', 'extra', 'extra', 'missing 10 taken', 'missing 4 nobody', 'missing 6 taken', 'missing 7 other-offer', 'missing 8 other-time',
    'unreadable 12', 'unreadable 13', 'unreadable 9'].sort());
  assert.strictEqual(result.objects.find((o) => o.kind === 'differs').lead, differs);
  assert.ok(result.objects.filter((o) => o.kind === 'extra').some((o) => o.lead === extra));
  const { agree, differ, missing, extra: extras, unreadable, duplicates, testNotInFile, unsure, lines } = result.summary;
  assert.deepStrictEqual({ agree, differ, missing, extras, unreadable, duplicates, testNotInFile, unsure, lines },
    { agree: 2, differ: 1, missing: 5, extras: 2, unreadable: 3, duplicates: 1, testNotInFile: 1, unsure: 0, lines: 12 });
  assert.doesNotMatch(result.output, /example\.com|Ana|Old|New/i);

  const shown = await bench.leadctl('reconcile', bench.file('export.csv'));
  assert.strictEqual(shown.status, 1, shown.stderr);
  assert.match(shown.stdout, /^ +5 {2}missing here: in the file, not in the table$/m);
  assert.match(shown.stdout, /^ +4 {2}missing +\S+ \S+ {2}contoso.contoso-app +no lead of this person$/m);
  assert.match(shown.stdout, new RegExp(`^${extra.slice(0, 8)} {2}extra `, 'm'));
  assert.doesNotMatch(shown.stdout + shown.stderr, /example\.com|Ana|Old|New/i);
});

testBoth('import: what is missing is added once, marked, and not mailed', async (bench, post, store) => {
  const everything = async () => (store === 'table' ? L.rows(bench.azurite.port, 'MarketplaceLeads') : bench.entities());
  await post({ Email: 'here@example.com' });
  await L.until('its mail', async () => bench.maildir().length === 1 && !(await everything()).some(L.isMail));
  const created = new Date(Date.now() - 3600e3);
  const text = csv(
    line('here@example.com'),
    line('ana@example.com', { 'Creation Date': created.toISOString(), 'Customer Name': 'Größe, "Ltd"', 'Call to action': 'Contact me' }),
    line('bob@example.com', { 'Offer ID': 'contoso.new', 'Offer name': 'New' }),
    line('MSFT_TEST_638000000000000000@test.com', { 'Referral ID': '' }),
  );
  // A lead that came long ago must not look like one that has just come.
  const lastLead = () => store === 'sqlite' && bench.entities().find((row) => row.partitionKey === 'offers' && row.rowKey === 'contoso.contoso-app').LastLeadTime;
  const before = lastLead();
  const first = await reconcile(bench, text, '--import');
  assert.strictEqual(lastLead(), before);
  assert.deepStrictEqual([first.status, first.summary.missing, first.summary.imported], [0, 3, 3]);
  const rows = await bench.list();
  assert.deepStrictEqual(rows.map((row) => [row.Email, row.Offer, row.IsTest, row.Deliveries]).sort(), [
    ['MSFT_TEST_638000000000000000@test.com', 'contoso.contoso-app', true, 1], ['ana@example.com', 'contoso.contoso-app', false, 1],
    ['bob@example.com', 'contoso.new', false, 1], ['here@example.com', 'contoso.contoso-app', false, 1]]);
  const ana = rows.find((row) => row.Email === 'ana@example.com');
  assert.deepStrictEqual([ana.Company, ana.Action, ana.Source, ana.ReceivedTime], ['Größe, "Ltd"', 'PLT', 'AzureMarketplace', created.toISOString()]);

  const again = await reconcile(bench, text, '--import');
  assert.deepStrictEqual([again.status, again.summary.agree, again.summary.missing, again.summary.imported], [0, 4, 0, 0]);
  // Also when nothing else than its mark tells that it is the same lead.
  const moved = await reconcile(bench, text.replace(created.toISOString(), '2020-01-01'), '--import');
  assert.deepStrictEqual([moved.status, moved.summary.agree, moved.summary.imported], [0, 4, 0]);
  assert.strictEqual((await bench.list()).length, 4);

  const exported = await bench.leadctl('person', 'export', 'ana@example.com');
  const [lead] = JSON.parse(exported.stdout).Leads;
  assert.strictEqual(lead.Origin, 'import');
  assert.strictEqual(JSON.parse(lead.Payload).UserDetails.Email, 'ana@example.com');
  // A mail is a row until it is in the Maildir.
  assert.ok(!(await everything()).some(L.isMail));
  assert.strictEqual(bench.maildir().length, 1);
  assert.doesNotMatch(fs.readFileSync(bench.file('leadhook.log'), 'utf8'), /example\.com|Ana/);
});

testBoth('import --mail: mailed as any lead is', async (bench) => {
  const result = await reconcile(bench, csv(line('ana@example.com'), line('bob@example.com', { 'Offer ID': 'contoso.new' })), '--import', '--mail');
  assert.deepStrictEqual([result.status, result.summary.imported], [0, 2]);
  const mails = await L.until('the mails', async () => { const all = await bench.mails(); return all.length === 2 && all; });
  assert.deepStrictEqual(mails.map((mail) => mail.parsed.replyTo.text).sort(), ['ana@example.com', 'bob@example.com']);
});

testBoth('leads of withheld domains are neither compared nor imported', async (bench, post) => {
  await post({ Email: 'ana@school.edu' });
  const result = await reconcile(bench, csv(line('ana@school.edu'), line('bob@school.edu', { 'Creation Date': '2026-01-01' })), '--import');
  assert.deepStrictEqual([result.status, result.summary.withheld, result.summary.missing, result.summary.imported, result.summary.extra], [0, 3, 0, 0, 0]);
  assert.strictEqual((await bench.list()).length, 1);
}, { withhold_domains: '.edu' });

test('a file without e-mail addresses is compared by company, and one from Excel is read', async (t) => {
  const bench = new L.Bench(t);
  bench.configure();
  await bench.startLeadhook();
  await bench.startNginx();
  for (const Company of ['Größe Ltd', 'Fabrikam']) assert.strictEqual((await bench.post(L.lead({}, { Company }))).code, 200);
  const [year, month, day] = new Date().toISOString().slice(0, 10).split('-');
  const text = `sep=;\r\nCreated on;Company;Offer\r\n${day}.${month}.${year};"größe LTD";Contoso App\r\n${day}.${month}.${year};Nobody;Contoso App\r\n`
    .replace('größe', 'Größe');
  const utf16 = Buffer.concat([Buffer.from([0xff, 0xfe]), Buffer.from(text, 'utf16le')]);
  const result = await reconcile(bench, utf16);
  assert.deepStrictEqual(result.objects.map(short).sort(), ['extra', 'missing 4 nobody']);
  assert.deepStrictEqual([result.summary.agree, result.summary.unsure], [1, 1]);
  const named = await reconcile(bench, utf16, '--map', 'Offer=Title', '--map=company=FullName');
  assert.deepStrictEqual([named.summary.agree, named.summary.missing], [0, 2]);
});

test('what cannot be used is refused with what to do', async (t) => {
  const bench = new L.Bench(t);
  bench.configure();
  await bench.startLeadhook();
  const good = 'Created,Email\n2026-11-21,ana@example.com\n';
  const cases = [
    [good, ['--dates', 'ymd'], 64, /--dates is dmy, mdy or iso/],
    [good, ['--within', '2026-01-01'], 64, /--within is an age/],
    [good, ['--mail'], 64, /--mail is for what --import adds/],
    [good, ['--nothing'], 64, /there is no option '--nothing'/],
    [good, ['--map'], 64, /'--map', or it needs a value/],
    [good, ['--import', '--mail'], 78, /mail_url is 'off'/],
    [good, ['--map', 'X=Email'], 65, /the file has no column of the name given for 'Email'/],
    ['Created,Email\n03/04/2026,ana@example.com\n', [], 65, /line 2 .*--dates mdy.*--dates dmy/],
    ['Created,Email\n2026-11-21,"ana@example.com\n', [], 65, /line 2, column 12: this quote is never closed/],
    ['ana@example.com,Ana\n', [], 65, /none of the 2 names in its first line/],
  ];
  for (const [text, options, status, says] of cases) {
    const file = bench.write('export.csv', text, 0o644);
    const result = await bench.leadctl('reconcile', file, ...options);
    assert.strictEqual(result.status, status, `${options} ${result.stderr}`);
    assert.match(result.stderr, says);
    assert.doesNotMatch(result.stderr, /ana@/i);
  }
  assert.strictEqual((await bench.leadctl('reconcile')).status, 64);
  assert.strictEqual((await bench.leadctl('reconcile', bench.file('nothing.csv'))).status, 66);
  // A file that only root may read.
  const input = execFileSync('sh', ['-c', `${L.build}/leadctl --config ${bench.config} reconcile - --json <${bench.write('root.csv', good)} || true`], { encoding: 'utf8' });
  assert.match(input, /"kind":"missing","line":2/);
});

test('while leads wait in the spool nothing is imported', async (t) => {
  const bench = new L.Bench(t);
  bench.configure(await bench.startTableWithSpool());
  await bench.startLeadhook();
  await bench.startNginx();
  bench.proxy.fault = () => ({ status: 503 });
  assert.strictEqual((await bench.post(L.lead({}, { Email: 'ana@example.com' }))).code, 202);
  const file = bench.write('export.csv', csv(line('ana@example.com')), 0o644);
  const refused = await bench.leadctl('reconcile', file, '--import');
  assert.strictEqual(refused.status, 75, refused.stderr);
  assert.match(refused.stderr, /in this host's spool wait 1 that would be taken for missing/);
  bench.proxy.fault = () => undefined;
  await L.until('the drain', () => bench.spoolRows().every((row) => row.partition_key !== 'spool'), 60000);
  const result = await reconcile(bench, csv(line('ana@example.com')), '--import');
  assert.deepStrictEqual([result.status, result.summary.agree, result.summary.imported], [0, 1, 0]);
});
