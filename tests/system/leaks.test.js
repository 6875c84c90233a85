// Secrets and personal data are where they belong and nowhere else.
//
// Every secret and every piece of personal data of a run is a mark (marks.js).  The system is led through what can
// happen to it, and then everything that it has written, said or shows is searched for the marks, in all codings.
'use strict';

const assert = require('node:assert');
const { execFile, spawnSync } = require('node:child_process');
const fs = require('node:fs');
const net = require('node:net');
const path = require('node:path');
const L = require('./lib.js');
const { Marks, FORMS, FIRST, LAST, findMarks, base64Forms } = require('./marks.js');

const { test } = L;

// What may be where.  Whatever is not listed may be nowhere.
const MAY_BE = {
  // Presented keys, good or wrong, as query, header or bearer token; keys of the key file, of now and before.
  'key': [],
  'password': ['SMTP dialogue'],
  'account key': [],
  'SAS': [],
  'signing secret': [],
  // A lead: its fields, and the rest of its body.
  'customer': ['rows', 'spool', 'mail', 'leadctl list', 'leadctl report'],
  'body': ['rows', 'spool'],
  // Payloads that could not be taken.
  'quarantined': ['rows', 'leadctl quarantine show'],
  'content type': ['rows', 'leadctl quarantine list', 'leadctl quarantine show'],
  // What was sent with no good key, or was too large.
  'refused': [],
  // Whom mails go to.
  'recipient': ['rows', 'mail', 'SMTP dialogue'],
};

// --- gathering and searching ---------------------------------------------------------------------------------

class Evidence {
  constructor(marks) { Object.assign(this, { marks, pieces: [] }); }
  add(place, name, data) { this.pieces.push({ place, name, data }); }
  // What is where it may not be, one line each.
  mistakes() {
    const lines = [];
    for (const { place, name, data } of this.pieces) {
      for (const { mark, forms } of findMarks(data, this.marks)) {
        if (!(MAY_BE[mark.kind] || []).includes(place)) lines.push(`${mark.name} (${forms.join(', ')}) in ${place}: ${name}: ${around(data, mark.text)}`);
      }
    }
    return lines;
  }
  has(place, kind) { return this.pieces.some((piece) => piece.place === place && findMarks(piece.data, this.marks).some(({ mark }) => mark.kind === kind)); }
}
function around(data, text) {
  const raw = Buffer.isBuffer(data) ? data.toString('latin1') : data;
  const at = raw.toLowerCase().indexOf(text);
  return at < 0 ? '' : JSON.stringify(raw.slice(Math.max(0, at - 120), at + text.length + 40));
}

function filesBelow(folder) {
  return fs.readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const file = path.join(folder, entry.name);
    return entry.isDirectory() ? [file, ...filesBelow(file)] : [file];
  });
}

// What the test itself has written: the settings.
const OURS = /^(keys.*|connection.*|mail-password.*|[a-z-]+\.conf|.*\.(pem|key)|core-.*)$/;
const PLACES = [[/^(access|error|leads)\.log$|^nginx\.out$/, 'nginx logs'], [/^azurite.*\.log$/, 'Azurite'], [/^nginx\//, 'temporary files'], [/^spool\.db(-wal|-shm)?$/, 'spool'],
  [/^leads\.db(-wal|-shm)?$/, 'rows'], [/^Maildir\/new\//, 'mail'], [/\.log$/, "leadhook's log"], [/^datagrams$/, 'datagrams']];

function addFiles(evidence, bench, spool = 'spool') {
  for (const file of filesBelow(bench.dir)) {
    const name = path.relative(bench.dir, file);
    evidence.add('file names', name, name);
    if (OURS.test(name) || !fs.statSync(file).isFile()) continue;
    const [, place] = PLACES.find(([pattern]) => pattern.test(name)) || [null, 'other files'];
    evidence.add(place === 'spool' ? spool : place, name, fs.readFileSync(file));
  }
}

// What everybody on the machine, or at least the same user, can see of a process.
function addProcess(evidence, pid, name) {
  for (const file of ['cmdline', 'environ', 'status', 'maps', 'comm', 'mountinfo', 'cgroup']) evidence.add('process', `${name} ${file}`, fs.readFileSync(`/proc/${pid}/${file}`));
  for (const task of fs.readdirSync(`/proc/${pid}/task`)) evidence.add('process', `${name} thread`, fs.readFileSync(`/proc/${pid}/task/${task}/comm`));
  for (const fd of fs.readdirSync(`/proc/${pid}/fd`)) {
    let target;
    try { target = fs.readlinkSync(`/proc/${pid}/fd/${fd}`); } catch { continue; } // closed meanwhile
    evidence.add('process', `${name} descriptor`, target);
    if (target.endsWith(' (deleted)')) evidence.add('temporary files', target, fs.readFileSync(`/proc/${pid}/fd/${fd}`));
  }
}

const childrenOf = (pid) => fs.readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ').filter(Boolean).map(Number);

// A mail: its Subject and addresses may hold what its body may; no other header may.
function addMail(evidence, raw, name) {
  const text = raw.toString('latin1');
  const head = text.slice(0, text.indexOf('\r\n\r\n')).replace(/\r\n(?=[ \t])/g, '\n');
  evidence.add('mail', name, raw);
  for (const line of head.split('\r\n').filter((header) => !/^(Subject|To|Reply-To):/.test(header))) evidence.add('mail headers', name, line);
}

function addAnswer(evidence, name, answer) {
  evidence.add('answers', name, `${JSON.stringify(answer.headers)}\n${answer.text}`);
  return answer;
}

// --- the search works ----------------------------------------------------------------------------------------

test('the search finds a mark in every coding, broken over lines, at every place of a group, and a part of one', () => {
  const marks = new Marks();
  const mark = marks.make('customer', 'planted');
  marks.make('customer', 'another');
  const find = (data) => findMarks(data, marks).map((found) => [found.mark.text, found.forms]);
  for (const [form, { any, exact }] of Object.entries(FORMS)) {
    for (const written of (any || exact)(mark)) {
      const [[text, forms]] = find(`x ${written} y`);
      assert.ok(text === mark && forms.includes(form), form);
      assert.ok(find(Buffer.concat([Buffer.alloc(5000, 0xff), Buffer.from(written, 'latin1')])).length, form);
    }
  }
  for (let before = 0; before < 3; before++) assert.strictEqual(find(`:${Buffer.from(`${'é'.repeat(before)}a${mark}b`).toString('base64')}:`)[0][0], mark);
  assert.strictEqual(find(mark.toUpperCase())[0][0], mark);
  assert.strictEqual(find(`a=\r\n${mark.slice(0, 8)}=\r\n${mark.slice(8)}`)[0][0], mark);
  const halves = [mark.slice(0, 9), mark.slice(9)].map((half) => `=?UTF-8?B?${Buffer.from(half).toString('base64')}?=`);
  assert.strictEqual(find(`Subject: ${halves.join('\r\n ')}`)[0][0], mark);
  for (const part of [FIRST, LAST]) assert.deepStrictEqual(find(part), [[FIRST, ['plain']]]);
  assert.deepStrictEqual(find(`${FIRST.slice(1)}-${LAST.slice(1)}`), []);
  const evidence = new Evidence(marks);
  evidence.add('rows', 'where it may be', mark);
  assert.deepStrictEqual(evidence.mistakes(), []);
  evidence.add("leadhook's log", 'x.log', `event=x reason="${mark}"`);
  assert.match(evidence.mistakes()[0], /^customer, planted \(plain\) in leadhook's log: x\.log/);
});

// --- the whole system ----------------------------------------------------------------------------------------

const FIELDS = ['FirstName', 'LastName', 'Email', 'Phone', 'Country', 'Company', 'Title'];
// The body of a lead, all of whose values are marks.
function markedLead(marks, name, { kind = 'customer', rest = 'body', changes = {} } = {}) {
  const mark = (field) => marks.make(kind, `${field} of ${name}`);
  const details = Object.fromEntries(FIELDS.map((field) => [field, mark(field)]));
  details.Email = `${details.Email}@example.com`;
  return JSON.stringify({ UserDetails: details, LeadSource: 'AzureMarketplace-INS|contoso.contoso-app', ActionCode: 'INS', OfferTitle: 'Contoso App',
    Description: `words ${mark('Description')}, "quoted" <b>`, Unknown: marks.make(rest, `the rest of ${name}`), ...changes });
}

// A request as bytes; gives all that comes back.
function rawRequest(port, head, body = '', { cut = false } = {}) {
  return new Promise((resolve) => {
    const socket = net.connect(port, '127.0.0.1');
    const chunks = [];
    socket.on('data', (chunk) => chunks.push(chunk));
    socket.on('error', () => {});
    socket.on('close', () => resolve({ headers: {}, text: Buffer.concat(chunks).toString('latin1') }));
    socket.write(head.replace(/\n/g, '\r\n'));
    if (cut) socket.end(body.slice(0, 10));
    else socket.write(body);
  });
}

// Prints every datagram in hexadecimal.
const LISTENER = `
import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(sys.argv[1])
while True:
    print(s.recv(65536).hex())
`;

// leadhook as a web server starts it for one request.
function runWith(input, env, config) {
  return new Promise((resolve) => {
    const child = execFile(path.join(L.build, 'leadhook'), ['--config', config], { env, encoding: 'latin1' }, (error, stdout, stderr) => resolve({ stdout, stderr }));
    child.stdin.on('error', () => {});
    child.stdin.end(input);
  });
}

test('nothing leaks, whatever happens', async (t) => {
  const bench = new L.Bench(t);
  const marks = new Marks();
  const evidence = new Evidence(marks);
  const ask = async (name, ...args) => addAnswer(evidence, name, await bench.post(...args));
  const raw = async (name, ...args) => addAnswer(evidence, name, await rawRequest(bench.port, ...args));
  const said = (place, name, result) => { evidence.add(place, name, `${result.stdout}\n${result.stderr}`); return result; };

  const keys = Object.fromEntries(['query', 'header', 'bearer', 'old', 'broken'].map((name) => [name, marks.make('key', name)]));
  const wrong = Object.fromEntries(['query', 'header', 'bearer', 'two'].map((name) => [name, marks.make('key', `wrong, ${name}`)]));
  const password = marks.make('password', 'of now');
  const recipient = `${marks.make('recipient')}@example.com`;

  const table = await bench.startTable();
  const tls = L.certificate(bench);
  const smtp = await require('../fault/smtp.js').startSmtp({ certificate: tls, password });
  bench.stops.push(smtp.kill);
  const settings = { ...table, spool: bench.file('spool.db'), alarm_to: 'operator@example.com', mail_per_minute: 60000, request_deadline_ms: 1000, repeat_window_s: 1,
    mail_url: `smtp://localhost:${smtp.port}`, mail_user: 'leads', mail_password_file: bench.write('mail-password', `${password}\n`), mail_from: 'leads@example.com', mail_to: recipient, mail_tls_ca: tls.cert };
  const writeKeys = (...names) => bench.write('keys', names.map((name, i) => `key${i} ${keys[name]}\n`).join(''));
  bench.configure(settings);
  writeKeys('query', 'header', 'bearer', 'old');
  await bench.startNginx();
  await bench.startLeadhook();
  const logged = (pattern) => L.until(`${pattern} in the log`, () => pattern.test(bench.leadhook.output()));
  const newFiles = [];
  const watchers = ['nginx/body', 'nginx/fcgi'].map((folder) => fs.watch(bench.file(folder), (_, name) => newFiles.push(name)));
  bench.stops.push(async () => watchers.forEach((watcher) => watcher.close()));

  // Good leads, with the key in each of its places.
  assert.strictEqual((await ask('key in the query', markedLead(marks, 'a good lead'), { key: keys.query })).code, 200);
  assert.strictEqual((await ask('key in a header', markedLead(marks, 'a second'), { key: null, headers: { 'X-Lead-Key': keys.header } })).code, 200);
  assert.strictEqual((await ask('bearer token', markedLead(marks, 'a third'), { key: null, headers: { Authorization: `Bearer ${keys.bearer}` } })).code, 200);
  const large = markedLead(marks, 'a large lead', { changes: { More: 'x'.repeat(100000) } });
  assert.strictEqual((await ask('a large lead', large, { key: keys.query })).code, 200);
  await raw('a chunked lead', `POST /leads?key=${keys.query} HTTP/1.1\nHost: x\nContent-Type: application/json\nTransfer-Encoding: chunked\nConnection: close\n\n`,
    `${large.length.toString(16)}\r\n${large}\r\n0\r\n\r\n`);
  for (const where of [`//leads?key=${keys.query}`, `/leads?x=1&key=${keys.query}`]) assert.strictEqual((await ask(where.split('=')[0], markedLead(marks, where.split('=')[0]), { path: where })).code, 200);
  const form = `first_name=${marks.make('customer', 'a form')}&description=%22${encodeURIComponent(marks.make('customer', "a form's words"))}%22&oid=${marks.make('body', 'a form')}`;
  assert.strictEqual((await ask('a form', form, { key: keys.query, type: 'application/x-www-form-urlencoded' })).code, 200);
  await L.until('their mails', () => smtp.mails.length >= 7);

  // Strangers.
  const refused = (name) => markedLead(marks, name, { kind: 'refused', rest: 'refused' });
  const strangers = [await ask('a wrong key', refused('a wrong key'), { key: wrong.query }), await ask('no key', refused('no key'), { key: null }),
    await ask('a wrong header', refused('a wrong header'), { key: null, headers: { 'X-Lead-Key': wrong.header } }),
    await ask('a wrong bearer token', refused('a wrong token'), { key: null, headers: { Authorization: `Bearer ${wrong.bearer}` } }),
    await ask('a key that begins right', refused('a longer key'), { key: `${keys.query}x` }), await ask('a key cut short', refused('a shorter key'), { key: keys.query.slice(0, -1) }),
    await ask('an empty key', refused('an empty key'), { key: '' }), await ask('no lead at all', 'x', { key: wrong.two, type: null }),
    await ask('another login', refused('a login'), { key: null, headers: { Authorization: `Basic ${Buffer.from(`x:${keys.query}`).toString('base64')}` } }),
    await ask('a repeated key', refused('two keys'), { path: `/leads?key=${wrong.two}&key=${keys.query}` })];
  // All the same, so that nobody learns anything but that.
  const unnamed = (answer) => [answer.code, answer.text.replace(/"request_id":"[0-9a-f]{32}"/, ''), Object.keys(answer.headers), answer.headers.server];
  for (const answer of strangers) assert.deepStrictEqual(unnamed(answer), unnamed(strangers[0]));
  assert.strictEqual(strangers[0].code, 401);
  await ask('GET', undefined, { key: keys.query, method: 'GET' });
  await ask('PUT', refused('PUT'), { key: keys.query, method: 'PUT' });

  // Mistyped.
  const query = `key=${keys.query}`;
  for (const where of [`/lead?${query}`, `/leads/?${query}`, `/Leads?${query}`, `/leads%3F${query}`, `/leads&${query}`, `/leads;${query}`, `/leads/${query}`, `/leads=${query}`, `/?${query}`,
    `/leads#${query}`, `/%?${query}`, `/../leads?${query}`, `/leads?KEY=${keys.query}`, `/leads?k%65y=${keys.query}`, `/healthz?${query}`, `/readyz?${query}`, `/metrics?${query}`,
    `/favicon.ico?${query}`]) {
    await ask(`path ${where}`, refused(`path ${where.split('=')[0]}`), { path: where });
    await ask(`GET ${where}`, undefined, { path: where, method: 'GET', type: null });
  }
  const host = 'Host: x\nConnection: close\n';
  await raw('no such version', `GET /leads?${query} HTTP/9.9\n${host}\n`);
  await raw('no HTTP', `\x16\x03\x01${keys.query}\n\n`);
  await raw('a bad header', `POST /leads?${query} HTTP/1.1\n${host}Bad Header: x\n ${keys.query}\n\n`);
  await raw('a line too long', `POST /leads?${query}&x=${'x'.repeat(40000)} HTTP/1.1\n${host}\n`);
  await raw('a header too long', `POST /leads?${query} HTTP/1.1\n${host}X-Lead-Key: ${keys.header}${'x'.repeat(40000)}\n\n`);
  await raw('a bad length', `POST /leads?${query} HTTP/1.1\n${host}Content-Length: x\n\n`);
  await raw('lengths that differ', `POST /leads?${query} HTTP/1.1\n${host}Content-Length: 5\nTransfer-Encoding: chunked\n\n`, '0\r\n\r\n');
  await raw('a bad chunk', `POST /leads?${query} HTTP/1.1\n${host}Transfer-Encoding: chunked\n\n`, `zz\r\n${refused('a bad chunk')}`);
  await raw('a body cut off', `POST /leads?${query} HTTP/1.1\n${host}Content-Length: 500\n\n`, refused('a cut body'), { cut: true });
  for (const [what, where] of [['too large', '/leads'], ['too large, wrong path', '/lead'], ['too large, monitoring', '/healthz']]) {
    await ask(what, refused(what) + ' '.repeat(2 << 20), { path: `${where}?${query}` }).catch(() => {}); // cut off while it is sent
    await raw(`${what}, announced`, `POST ${where}?${query} HTTP/1.1\n${host}Content-Length: 9999999\n\n`, refused(what), { cut: true });
  }
  await ask('too large for leadhook', refused('too large for leadhook') + ' '.repeat(140000), { key: keys.query });

  // What cannot be taken.
  const broken = (name) => markedLead(marks, name, { kind: 'quarantined', rest: 'quarantined' });
  const ids = [];
  for (const [name, body, options, code] of [['cut JSON', broken('cut JSON').slice(0, -1), {}, 400], ['no UTF-8', Buffer.from(`${broken('no UTF-8').slice(0, -1)}\xff}`, 'latin1'), {}, 400],
    ['an escape', `{"${marks.make('quarantined', 'a name')}\\ud800":1}`, {}, 400], ['no type', `just ${marks.make('quarantined', 'a text')}`, { type: `text/plain; x="${marks.make('content type')}"` }, 415],
    ['no lead', `{"${marks.make('quarantined', 'a member')}":"${marks.make('quarantined', 'a value')}"}`, {}, 422]]) {
    const answer = await ask(name, body, { key: keys.query, ...options });
    assert.strictEqual(answer.code, code, answer.text);
    ids.push(answer.json.id);
  }

  // A mail server that repeats all it was told: at every step, for good and for now.
  const addresses = (code) => ({ say: `${code}-5.7.1 ${recipient}, <${recipient}>:\r\n${code} ${recipient.replace('@', '%40')}\r\n` });
  const login = (code) => ({ say: `${code} login leads ${password} ${Buffer.from(password).toString('base64')} AUTH PLAIN ${Buffer.from(`\0leads\0${password}`).toString('base64')}\r\n` });
  for (const [at, code, parrot] of [['rcpt', 550, addresses], ['rcpt', 550, login], ['mail', 451, addresses], ['mail', 451, login], ['data', 554, addresses], ['dot', 552, addresses], ['dot', 450, login], ['auth', 535, login]]) {
    smtp.faults = { [at]: parrot(code) };
    const before = bench.leadhook.output().length;
    assert.strictEqual((await ask(`mail refused at ${at}`, markedLead(marks, `a mail refused at ${at} with ${code}`), { key: keys.query })).code, 200);
    await L.until(`the refusal at ${at}`, () => /event=mail-(parked|deferred|paused|ambiguous)/.test(bench.leadhook.output().slice(before)));
  }
  said('leadctl', 'check', await bench.leadctl('check'));
  said('leadctl', 'status', await bench.leadctl('status'));
  smtp.faults = {};

  // Reloads that are refused: every mistake holds a secret.
  const good = fs.readFileSync(bench.config, 'utf8');
  const goodKeys = fs.readFileSync(bench.file('keys'), 'utf8');
  const secret = (kind, name) => marks.make(kind, `a mistake: ${name}`);
  const without = (name) => good.replace(new RegExp(`^${name} = .*\n`, 'm'), '');
  const connection = (key) => `DefaultEndpointsProtocol=https;AccountName=x;AccountKey=${key};`;
  const MISTAKES = {
    'no such setting': `${good}mail_pasword = ${secret('password', 'a name')}\n`, 'no equals sign': `${good}mail_password ${secret('password', 'no equals sign')}\n`,
    'on a line of its own': `${good}${secret('password', 'a line')}\n`, 'before an equals sign': `${good}${secret('password', 'before')} = x\n`,
    'twice': `${good}mail_password = ${secret('password', 'twice')}\n`, 'instead of a path': `${without('mail_password_file')}mail_password_file = ${secret('password', 'for a path')}\n`,
    'instead of an absolute path': `${without('mail_password_file')}mail_password_file = /${secret('password', 'for an absolute path')}\n`,
    'a connection for a path': `${without('table_connection_file')}table_connection_file = ${connection(secret('account key', 'for a path'))}\n`,
    'a broken connection': `${without('table_connection_file')}table_connection = ${connection(secret('account key', 'no base64!'))}x\n`,
    'a connection with a word too many': `${without('table_connection_file')}table_connection = ${connection(secret('account key', 'a word'))}${secret('account key', 'a name')}=1;Sig ${secret('SAS', 'a word')}\n`,
    'a broken SAS': `${without('table_connection_file')}table_connection = TableEndpoint=https://x.example/?sig=${secret('SAS', 'in the endpoint')};SharedAccessSignature=?sv=1&sig=${secret('SAS', 'in the string')}\n`,
    'in the URL of the mail server': `${without('mail_url')}mail_url = smtp://leads:${secret('password', 'in the URL')}@localhost:${smtp.port}\n`,
    'in the URL with a mistake': `${without('mail_url')}mail_url = smpt://leads:${secret('password', 'in a wrong URL')}@localhost:1\n`,
    'a key for the path of the keys': `${without('keys_file')}keys_file = ${secret('key', 'for a path')}\n`, 'a key for a number': `${good}threads = ${secret('key', 'for a number')}\n`,
    'in the store': `${without('store')}store = ${secret('account key', 'for a store')}\n`, 'in the sender': `${without('mail_from')}mail_from = ${secret('password', 'for a sender')}\n`,
  };
  const KEY_MISTAKES = { 'alone': `${secret('key', 'alone')}\n`, 'with a blank': `key ${secret('key', 'before a blank')} ${secret('key', 'behind a blank')}\n`, 'with a sign': `key ${secret('key', 'with a sign')}!\n`,
    'in the name': `${secret('key', 'as a name')}! ${secret('key', 'with a bad name')}\n`, 'twice': `a ${keys.broken}\nb ${keys.broken}\n`, 'too long': `a ${secret('key', 'too long')}${'x'.repeat(200)}\n`,
    'as a setting': `key=${secret('key', 'as a setting')}\n` };
  const reload = async (name) => {
    const before = (bench.leadhook.output().match(/event=reload(ed|-refused)/g) || []).length;
    bench.leadhook.child.kill('SIGHUP');
    await L.until(`the reload: ${name}`, () => (bench.leadhook.output().match(/event=reload(ed|-refused)/g) || []).length > before);
  };
  for (const [name, text] of Object.entries(MISTAKES)) {
    bench.write('leadhook.conf', text);
    await reload(name);
    said('leadctl', `check: ${name}`, await bench.leadctl('check'));
    const started = said("leadhook's log", `start: ${name}`, await bench.run('leadhook', '--config', bench.config));
    assert.strictEqual(started.status, 78, `${name}: ${started.stderr}`);
  }
  bench.write('leadhook.conf', good);
  for (const [name, text] of Object.entries(KEY_MISTAKES)) {
    bench.write('keys', text);
    await reload(name);
    said('leadctl', `check: keys ${name}`, await bench.leadctl('check'));
    const started = said("leadhook's log", `start: keys ${name}`, await bench.run('leadhook', '--config', bench.config));
    assert.strictEqual(started.status, 78, `${name}: ${started.stderr}`);
  }
  // Credentials that the Table service refuses, and a key that goes.
  const strange = Buffer.from(marks.make('account key', 'refused')).toString('base64');
  bench.write('keys', goodKeys);
  for (const text of [L.connectionString(bench.proxy.port).replace(L.ACCOUNT_KEY, strange),
    `TableEndpoint=http://127.0.0.1:${bench.proxy.port}/${L.ACCOUNT};SharedAccessSignature=sv=2019-02-02&ss=t&srt=co&sp=raud&se=2030-01-01T00:00:00Z&sig=${marks.make('SAS', 'refused')}%3D`]) {
    bench.write('connection', text);
    await reload('credentials');
    said('leadctl', 'check: credentials', await bench.leadctl('check'));
    said('leadctl', 'status: credentials', await bench.leadctl('status'));
  }
  bench.write('connection', L.connectionString(bench.proxy.port));
  writeKeys('query', 'header', 'bearer');
  await reload('a key less');
  assert.strictEqual((await ask('a key of before', refused('a key of before'), { key: keys.old })).code, 401);

  // While the table is away.
  bench.proxy.fault = () => 'drop-before';
  for (const name of ['one', 'two']) assert.strictEqual((await ask(`spooled ${name}`, markedLead(marks, `a spooled lead, ${name}`), { key: keys.query })).code, 202);
  said('leadctl', 'spool', await bench.leadctl('spool'));
  said('leadctl', 'spool list', await bench.leadctl('spool', 'list'));
  said('leadctl', 'status, spooling', await bench.leadctl('status'));
  said('leadctl', 'list without a table', await bench.leadctl('list'));
  addFiles(evidence, bench);
  assert.ok(evidence.has('spool', 'customer'), 'the leads were in the spool');
  bench.proxy.fault = () => undefined;
  await logged(/event=spool-drained/);
  addFiles(evidence, bench, 'spool, emptied');

  // What the operator asks.
  for (const words of [['status'], ['status', '--json'], ['check'], ['spool', 'list'], ['retry'], ['retry', '00000000'], ['quarantine', 'show', '00000000'], ['nonsense'], ['relay', '--once']])
    said('leadctl', words.join(' '), await bench.leadctl(...words));
  said('leadctl quarantine list', 'list', await bench.leadctl('quarantine', 'list'));
  for (const words of [['list'], ['list', '--json', '-n', '100']]) said('leadctl list', words.join(' '), await bench.leadctl(...words));
  said('leadctl report', 'report', await bench.leadctl('report'));
  // Without personal data it still says from which countries leads came.
  const anonymous = await bench.leadctl('report', '--no-personal-data');
  said('leadctl', 'report --no-personal-data', { ...anonymous, stdout: anonymous.stdout.replace(/<section aria-labelledby="countries">[^]*?<\/section>/, '').replace(/<td role="cell" class="where">[^]*?<\/td>/g, '') });
  const shown = await bench.leadctl('quarantine', 'show', ids[0].slice(0, 8));
  evidence.add('leadctl quarantine show', 'standard output', shown.stdout);
  evidence.add('leadctl', 'quarantine show, standard error', shown.stderr);
  said('leadctl', 'quarantine resubmit', await bench.leadctl('quarantine', 'resubmit', ids[1]));
  said('leadctl', 'quarantine drop', await bench.leadctl('quarantine', 'drop', ids[2]));
  for (const where of ['/healthz', '/readyz', '/metrics']) await ask(where, undefined, { path: where, method: 'GET', type: null });

  // What can be seen from beside.
  addProcess(evidence, bench.leadhook.child.pid, 'leadhook');
  const master = Number(fs.readFileSync(bench.file('nginx.pid'), 'utf8'));
  for (const pid of [master, ...childrenOf(master)]) addProcess(evidence, pid, 'nginx');

  // As a CGI program.
  const cgi = async (name, environment, body) => {
    const result = await runWith(body, { REQUEST_METHOD: 'POST', SCRIPT_NAME: '/leads', CONTENT_LENGTH: String(Buffer.byteLength(body)), ...environment }, bench.config);
    evidence.add('answers', `CGI, ${name}`, result.stdout);
    evidence.add("leadhook's log", `CGI, ${name}`, result.stderr);
    return result.stdout;
  };
  assert.match(await cgi('good', { QUERY_STRING: query }, markedLead(marks, 'a lead by CGI')), /^Status: 200/);
  assert.match(await cgi('wrong key', { HTTP_X_LEAD_KEY: wrong.two }, refused('a stranger by CGI')), /^Status: 401/);
  assert.match(await cgi('broken', { HTTP_AUTHORIZATION: `Bearer ${keys.bearer}` }, `{"x":"${marks.make('quarantined', 'by CGI')}`), /^Status: 400/);
  assert.doesNotMatch(await cgi('cut off', { QUERY_STRING: query, CONTENT_LENGTH: '500' }, refused('cut off by CGI')), /^Status: 2/);

  // With a store on this machine, and a listener in the place of the relay.
  bench.write('cgi.conf', fs.readFileSync(bench.config, 'utf8').replace(/^(store|table_connection_file|spool|listen) = .*\n/gm, '') + `store = sqlite:${bench.file('leads.db')}\nrelay_socket = ${bench.file('relay.sock')}\n`);
  const relay = new L.Program('relay', 'python3', ['-I', '-u', '-c', LISTENER, bench.file('relay.sock')], { log: bench.file('datagrams') });
  bench.stops.push(() => relay.stop());
  await L.until('the listener', () => fs.existsSync(bench.file('relay.sock')));
  const onDisk = async (body) => (await runWith(body, { REQUEST_METHOD: 'POST', SCRIPT_NAME: '/leads', QUERY_STRING: query, CONTENT_LENGTH: String(Buffer.byteLength(body)) }, bench.file('cgi.conf'))).stdout;
  assert.match(await onDisk(markedLead(marks, 'a lead on disk')), /^Status: 200/);
  const [, kept] = /"id":"([0-9a-f]{32})"/.exec(await onDisk(`${markedLead(marks, 'rubbish on disk', { kind: 'quarantined', rest: 'quarantined' })}}`));
  await L.until('a datagram', () => relay.output().includes(Buffer.from('contoso').toString('hex')));
  const database = () => new Set(['leads.db', 'leads.db-wal'].filter((name) => fs.existsSync(bench.file(name))).flatMap((name) => findMarks(fs.readFileSync(bench.file(name)), marks).map(({ mark }) => mark.kind)));
  assert.ok(database().has('quarantined'));
  said('leadctl', 'drop on disk', await bench.run('leadctl', '--config', bench.file('cgi.conf'), 'quarantine', 'drop', kept));
  assert.deepStrictEqual([...database()].sort(), ['body', 'customer', 'recipient'], 'what was dropped is overwritten');

  for (const name of ['MarketplaceLeads', 'MarketplaceLeadsOps']) evidence.add('rows', name, JSON.stringify(await L.rows(bench.azurite.port, name)));
  bench.stops.splice(bench.stops.indexOf(bench.stopLeadhook), 1);
  assert.strictEqual(await bench.leadhook.stop(), 0);
  addFiles(evidence, bench, 'spool, emptied');
  for (const [i, mail] of smtp.mails.entries()) addMail(evidence, mail.raw, `mail ${i}`);

  for (const { name, data } of evidence.pieces.filter(({ place }) => place === 'answers')) assert.doesNotMatch(data, /(nginx|openresty|leadhook|sqlite|curl|openssl)[ \/]v?\d/i, `a version in the answer: ${name}`);
  const mistakes = evidence.mistakes();
  assert.ok(!mistakes.length, `${mistakes.length}\n${mistakes.slice(0, 20).join('\n')}`);
  assert.deepStrictEqual(newFiles, [], 'no body was in a file of nginx');
  for (const [place, kind] of [['rows', 'customer'], ['rows', 'body'], ['rows', 'quarantined'], ['mail', 'customer'], ['leadctl list', 'customer'], ['leadctl report', 'customer'], ['leadctl quarantine show', 'quarantined']])
    assert.ok(evidence.has(place, kind), `${kind} was searched for in ${place}`);
});

const IS_SANITIZED = /[at]san/.test(L.build);

// --- memory --------------------------------------------------------------------------------------------------

// All that a process has written to its memory, in pieces.
function memoryOf(pid) {
  const memory = fs.openSync(`/proc/${pid}/mem`, 'r');
  const regions = [];
  for (const line of fs.readFileSync(`/proc/${pid}/maps`, 'utf8').split('\n')) {
    const [, from, to] = /^([0-9a-f]+)-([0-9a-f]+) rw/.exec(line) || [];
    if (!from) continue;
    for (let at = parseInt(from, 16); at < parseInt(to, 16); at += 1 << 20) {
      const data = Buffer.alloc(Math.min(1 << 20, parseInt(to, 16) - at));
      try { regions.push(data.subarray(0, fs.readSync(memory, data, 0, data.length, at))); } catch { /* not there any more */ }
    }
  }
  fs.closeSync(memory);
  return regions;
}

// How often each mark is in the memory, as it is or in base64.
function countInMemory(pid, marks) {
  const counts = {};
  for (const data of memoryOf(pid)) {
    for (const mark of marks.all) {
      for (const form of [mark.text, ...base64Forms(mark.text)]) {
        for (let at = data.indexOf(form); at >= 0; at = data.indexOf(form, at + 1)) counts[mark.name] = (counts[mark.name] || 0) + 1;
      }
    }
  }
  return counts;
}

test('memory holds no key, presented or not, and no password of before', async (t) => {
  if (process.getuid() !== 0 || IS_SANITIZED) return; // nobody else may look, see below; sanitizers keep what was freed
  const bench = new L.Bench(t);
  const marks = new Marks();
  const [keys, wrong] = ['', 'wrong, '].map((kind) => Object.fromEntries(['query', 'encoded', 'header', 'bearer', 'idle'].map((name) => [name, marks.make('key', `${kind}${name}`)])));
  const [password, next] = [marks.make('password', 'of before'), marks.make('password', 'of now')];
  const tls = L.certificate(bench);
  const smtp = await require('../fault/smtp.js').startSmtp({ certificate: tls, password });
  bench.stops.push(smtp.kill);
  bench.configure({ mail_per_minute: 60000, mail_url: `smtp://localhost:${smtp.port}`, mail_user: 'leads', mail_password_file: bench.write('mail-password', `${password}\n`),
    mail_from: 'leads@example.com', mail_to: 'sales@example.com', mail_tls_ca: tls.cert });
  bench.write('keys', Object.values(keys).map((key, i) => `key${i} ${key}\n`).join(''));
  await bench.startNginx();
  await bench.startLeadhook();
  const { pid } = bench.leadhook.child;
  const present = async (set, code, body = L.lead()) => {
    for (const options of [{ path: `/leads?key=%${Buffer.from(set.encoded[0]).toString('hex')}${set.encoded.slice(1)}` }, { key: set.query }, { key: null, headers: { 'X-Lead-Key': set.header } },
      { key: null, headers: { Authorization: `Bearer ${set.bearer}` } }]) assert.strictEqual((await bench.post(body, options)).code, code);
  };
  await present(keys, 200);
  await present(wrong, 401);
  await present(keys, 400, '{');
  await present(keys, 413, 'x'.repeat(200000));
  await L.until('the mails', () => smtp.mails.length === 1 && bench.entities().every((row) => !row.rowKey.startsWith('~mail-')));
  // The password in use shows that the search finds something.  An answer may be read before its request is wiped.
  let held;
  await L.until('memory without keys', () => {
    held = Object.keys(countInMemory(pid, marks));
    return held.length === 1;
  }).catch((error) => { throw new Error(`${error.message}, but ${held}`); });
  assert.deepStrictEqual(held, ['password, of before']);

  bench.write('mail-password', `${next}\n`);
  bench.leadhook.child.kill('SIGHUP');
  await L.until('the reload', () => /event=reloaded/.test(bench.leadhook.output()));
  await bench.post(L.lead(), { key: keys.query });
  await L.until('the login with the new password', () => /event=mail-paused/.test(bench.leadhook.output())); // the server knows the old one only
  await L.until('memory without the password of before', () => {
    held = Object.keys(countInMemory(pid, marks));
    return held.length === 1;
  }).catch((error) => { throw new Error(`${error.message}, but ${held}`); });
  assert.deepStrictEqual(held, ['password, of now']);
});

// --- files and processes -------------------------------------------------------------------------------------

const OTHER = 65533; // a user of nothing
const NOBODY = 65534;
// Runs a program as a user; whether it succeeded.
const mayRead = (uid, program, ...args) => spawnSync(program, args, { uid, gid: uid, stdio: 'ignore' }).status === 0;

// leadhook as an ordinary user, with a umask and a limit for cores that allow all, below a shell that tells of its end.
async function startOpenly(bench, folder) {
  const program = new L.Program('sh', 'sh', ['-c', `umask 0; ulimit -c unlimited; cd ${folder}; ${path.join(L.build, 'leadhook')} --config ${bench.config}; echo ended with $?`],
    { log: bench.file('leadhook.log'), spawn: { uid: NOBODY, gid: NOBODY } });
  bench.stops.push(async () => {
    for (const pid of program.status === undefined ? childrenOf(program.child.pid) : []) process.kill(pid, 'SIGTERM');
    await program.ended;
  });
  await L.until('leadhook', () => /event=ready/.test(program.output()) || program.status !== undefined);
  [program.pid] = childrenOf(program.child.pid);
  return program;
}

// The next instruction of the program itself is none, wherever a thread goes on: a single byte that x86-64 does not know.
function spoil(pid) {
  const [, from, to] = /^([0-9a-f]+)-([0-9a-f]+) r-xp .*\/leadhook$/m.exec(fs.readFileSync(`/proc/${pid}/maps`, 'utf8'));
  const memory = fs.openSync(`/proc/${pid}/mem`, 'r+');
  fs.writeSync(memory, Buffer.alloc(parseInt(to, 16) - parseInt(from, 16), 0x06), 0, undefined, parseInt(from, 16));
  fs.closeSync(memory);
}

for (const [name, settings] of Object.entries({ 'a sqlite store': (own) => ({ store: `sqlite:${own}/leads.db` }), 'a table with a spool': (own, connection) => ({ store: 'table', spool: `${own}/spool.db`, table_connection_file: connection }) })) {
  test(`what is made is its user's alone, whatever the umask, and nobody looks into the process or leaves its core: ${name}`, async (t) => {
    if (process.getuid() !== 0) return; // it takes other users
    const bench = new L.Bench(t);
    const own = bench.file('own');
    fs.mkdirSync(own);
    fs.chmodSync(own, 0o777);
    const connection = bench.write('connection', L.connectionString(await L.freePort()));
    bench.configure({ ...settings(own, connection), ...bench.mailHere(), mail_url: `maildir:${own}/Maildir`, listen: bench.file('own/fcgi.sock'), alarm_to: 'operator@example.com', request_deadline_ms: 500 });
    for (const file of [bench.config, bench.file('keys'), connection]) fs.chownSync(file, NOBODY, NOBODY);
    const program = await startOpenly(bench, own);
    fs.symlinkSync(`${own}/fcgi.sock`, bench.file('fcgi.sock'));
    await bench.startNginx();
    for (const body of [L.lead(), '{']) assert.ok((await bench.post(body)).json.id);
    await L.until('the relay', () => fs.existsSync(`${own}/${settings(own).spool ? 'spool' : 'leads'}.db.relay`) && (settings(own).spool || fs.existsSync(`${own}/Maildir/new`)));

    const kinds = { '.sock': 0o666 /* as the tests' listen_mode says */ };
    for (const file of filesBelow(own)) {
      const info = fs.statSync(file);
      assert.strictEqual((info.mode & 0o7777).toString(8), (kinds[path.extname(file)] || (info.isFile() ? 0o600 : 0o700)).toString(8), file);
    }

    const { pid } = program;
    const parts = ['mem', 'environ', 'maps', 'auxv', 'stack', 'io'];
    assert.ok(mayRead(NOBODY, 'cat', `/proc/${program.child.pid}/environ`), 'its shell can be looked into');
    for (const uid of [NOBODY, OTHER]) {
      for (const part of parts) assert.ok(!mayRead(uid, 'cat', `/proc/${pid}/${part}`), `${part} as ${uid}`);
      for (const folder of ['fd', 'fdinfo', 'map_files']) assert.ok(!mayRead(uid, 'ls', `/proc/${pid}/${folder}`), `${folder} as ${uid}`);
    }

    // Signals from outside are blocked, so the program is made to fail by itself.
    const control = spawnSync('sh', ['-c', 'ulimit -c unlimited; cd "$1"; sh -c "kill -SEGV \\$\\$"; ls', 'sh', fs.mkdtempSync(bench.file('core-'))], { encoding: 'utf8' });
    if (!/core dumped/.test(control.stderr)) t.diagnostic('this machine makes no cores: nothing is learnt from there being none');
    if (IS_SANITIZED) return; // they handle such an end themselves
    spoil(pid);
    await bench.post(L.lead()); // 503
    await program.ended;
    assert.match(program.output(), /Illegal instruction\s+ended with 132/, 'it has failed, without a core');
    assert.doesNotMatch(program.output(), /core dumped/);
    assert.deepStrictEqual(filesBelow(own).filter((file) => /core/.test(path.basename(file))), []);
  });
}

test('files with secrets that others may read, or the group may write, are refused', async (t) => {
  const bench = new L.Bench(t);
  const connection = bench.write('connection', L.connectionString(await L.freePort()));
  const password = bench.write('mail-password', 'secret\n');
  const settings = { store: 'table', spool: bench.file('spool.db'), table_connection_file: connection, mail_url: 'smtp://localhost:1', mail_user: 'x', mail_password_file: password, mail_from: 'a@example.com', mail_to: 'b@example.com' };
  bench.configure(settings);
  const programs = () => Promise.all([bench.run('leadhook', '--config', bench.config), bench.leadctl('list'), bench.leadctl('check')]);
  const files = [bench.file('keys'), connection, password];
  const refuses = async (file) => {
    for (const mode of [0o644, 0o604, 0o620, 0o601, 0o777]) {
      fs.chmodSync(file, mode);
      const [started, ...asked] = await programs();
      assert.strictEqual(started.status, 78, `${file} ${mode.toString(8)}: ${started.stderr}`);
      const isUnsafe = file === bench.config && (mode & 0o022) !== 0; // it is not even read then
      const said = isUnsafe ? 'is not safe, others may write to it: it has mode' : 'holds secrets but has mode';
      const cure = isUnsafe ? '; run chmod go-w on it' : ': run chmod 0640 (or 0600) on it';
      assert.ok(started.stderr.includes(`'${file}' ${said} 0${mode.toString(8)}${cure}`), started.stderr);
      const readers = file.endsWith('keys') ? asked.slice(1) : asked; // 'list' needs no key
      for (const result of readers) assert.ok([1, 78].includes(result.status) && (result.stdout + result.stderr).includes(said), result.stdout + result.stderr);
    }
    fs.chmodSync(file, 0o640);
    assert.notStrictEqual((await bench.leadctl('list')).status, 78);
  };
  for (const file of files) await refuses(file);
  // The configuration itself, when it holds a secret.
  bench.configure({ ...settings, mail_password_file: null, mail_password: 'secret' });
  await refuses(bench.config);
});
