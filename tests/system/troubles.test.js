// Troubles that last: one mail over all hosts when they begin, and one when they are over; with both stores.
'use strict';

const assert = require('node:assert');
const { execFile } = require('node:child_process');
const crypto = require('node:crypto');
const { once } = require('node:events');
const fs = require('node:fs');
const net = require('node:net');
const path = require('node:path');
const L = require('./lib.js');

const { test } = L;
const HOUR_MS = 60 * 60 * 1000;
const DAY_MS = 24 * HOUR_MS;
const OFFER = 'contoso.contoso-app';
const minute = (time) => `${new Date(time).toISOString().slice(0, 16).replace('T', ' ')} UTC`;

async function setUp(t, store, settings = {}, mail = {}) {
  const bench = new L.Bench(t);
  bench.smtp = await L.startSmtp(bench, mail);
  bench.configure(bench.smtp.settings({ alarm_to: 'operator@example.com', ...(store === 'table' ? await bench.startTable() : {}), ...settings }));
  return bench;
}

// The configuration of another host with the same store.
function otherHost(bench, settings = {}) {
  const config = bench.write('other.conf', Object.entries({ ...bench.settings, listen: bench.file('other.sock'),
    relay_socket: bench.file('other.relay'), ...settings }).map(([name, value]) => `${name} = ${value}\n`).join(''));
  return { config, leadctl: (...args) => bench.run('leadctl', '--config', config, ...args) };
}

// A lead by a process that ends with it and mails nothing.  Not spawnSync: the servers it talks to run in this process.
async function cgi(bench, environment = {}, body = L.lead()) {
  const child = execFile(path.join(L.build, 'leadhook'), ['--config', bench.config], { env: { ...environment,
    REQUEST_METHOD: 'POST', SCRIPT_NAME: '/leads', QUERY_STRING: `key=${L.KEY}`, CONTENT_LENGTH: String(Buffer.byteLength(body)) } });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (text) => { output += text; });
  child.stdin.end(body);
  await once(child, 'close');
  assert.match(output, /^Status: 20[02] /m);
}

// The offer's last lead came so long ago.
async function age(bench, ms) {
  const time = new Date(Date.now() - ms);
  if (bench.azurite) {
    await L.tableClient(bench.azurite.port, 'MarketplaceLeadsOps').updateEntity({ partitionKey: 'offers', rowKey: OFFER,
      LastLeadTime: { type: 'DateTime', value: time.toISOString() } }, 'Merge');
  } else {
    bench.sqlite(`UPDATE entity SET properties = json_set(properties, '$.LastLeadTime', '${time.toISOString()}') WHERE partition_key = 'offers'`);
  }
  return time;
}

const offerRow = async (bench) => (await bench.leadctl('offers', '--json')).stdout.trim().split('\n').map((line) => JSON.parse(line)).find((row) => row.Offer === OFFER);
const relay = async (host) => { const result = await host.leadctl('relay', '--once'); assert.strictEqual(result.status, 0, result.stderr); };
const alarms = (bench) => bench.smtp.mails.filter((mail) => mail.parsed.to.text === 'operator@example.com').map((mail) => mail.parsed);
const subjects = (bench) => alarms(bench).map((mail) => mail.subject);
const gauge = async (bench, event) => Number(new RegExp(`^leadhook_troubles\\{event="${event}"\\} (\\d+)$`, 'm')
  .exec((await bench.post(undefined, { method: 'GET', path: '/metrics' })).text)[1]);

for (const store of ['sqlite', 'table']) {
  test(`${store}: an offer without leads is told once over two hosts, and so is its next lead`, async (t) => {
    const bench = await setUp(t, store);
    const other = otherHost(bench);
    await cgi(bench);
    await relay(bench);
    assert.deepStrictEqual(subjects(bench), []);
    const last = await age(bench, 15.5 * DAY_MS);
    for (const host of [bench, other, bench, other]) await relay(host);
    const title = `No lead for ${OFFER} since ${minute(last)}`;
    assert.deepStrictEqual(subjects(bench), [`[leadhook] ${title}`]);
    const [{ text }] = alarms(bench);
    assert.match(text, new RegExp(`^What happened\\n\\n    The last lead for the offer ${OFFER} came ${minute(last)}, 15 days ago`));
    assert.match(text, /\n  Noticed    .{16} UTC\n  Host       \S+\n  Alarm      silence\n/);
    assert.match(text, /Partner Center/);
    assert.ok(!/ana\d|Ana|Test\b/.test(text), text);

    for (const host of [bench, other]) {
      const status = await host.leadctl('status');
      assert.strictEqual(status.status, 1);
      assert.match(status.stdout, /^LEADHOOK WARNING: .*no leads for 1 offer$/m);
      assert.match(status.stdout, new RegExp(`^troubles +${title}$`, 'm'));
    }
    assert.deepStrictEqual(JSON.parse((await bench.leadctl('status', '--json')).stdout).troubles.silence, { [title]: true });

    // Neither a test nor what another one has told us of is a lead that has come.
    await cgi(bench, {}, L.lead({ Description: 'MSFT_TEST' }));
    const partner = `Lead Source,Creation Date,Customer Contact Email Address,Offer ID\nAzureMarketplace-INS,${new Date(Date.now() - HOUR_MS).toISOString()},late@example.com,${OFFER}\n`;
    const imported = await bench.leadctl('reconcile', bench.write('partner.csv', partner), '--import', '--json');
    assert.match(imported.stdout, /"imported":1\b/, imported.stderr);
    for (const host of [bench, other, bench, other]) await relay(host);
    assert.deepStrictEqual(subjects(bench), [`[leadhook] ${title}`]);
    assert.strictEqual((await offerRow(bench)).LastLeadTime, last.toISOString());

    await cgi(bench);
    for (const host of [bench, other, bench, other]) await relay(host);
    assert.deepStrictEqual(subjects(bench), [`[leadhook] ${title}`, `[leadhook] Over: ${title}`]);
    assert.match((await bench.leadctl('status')).stdout, /^troubles +none that last$/m);
  });

  test(`${store}: a key that is about to end is told once by two hosts that run, in the metrics, and when that is over`, async (t) => {
    const bench = await setUp(t, store);
    const end = new Date(Date.now() + 5 * DAY_MS);
    const retires = `market ${L.KEY} retire=${end.toISOString().slice(0, 19)}Z\n`;
    bench.write('keys', retires);
    await bench.startNginx();
    await bench.startLeadhook();
    await L.until('the alarm', () => subjects(bench).length === 1);
    const title = `The key 'market' ends ${minute(end)}`;
    assert.deepStrictEqual(subjects(bench), [`[leadhook] ${title}`]);
    assert.match(alarms(bench)[0].text, /There is no other one of this name/);
    assert.ok(!bench.smtp.mails[0].text.includes(L.KEY));
    assert.strictEqual(await gauge(bench, 'key-retiring'), 1);
    assert.strictEqual(await gauge(bench, 'silence'), 0);
    assert.match((await bench.leadctl('status')).stdout, /^LEADHOOK WARNING: 1 key ends soon\n/);

    const other = otherHost(bench);
    await relay(other);
    bench.write('keys', `market ${L.KEY}\n`);
    bench.stops.splice(bench.stops.indexOf(bench.stopLeadhook), 1);
    await bench.stopLeadhook(); // it looks every five minutes, and when it starts
    await bench.startLeadhook();
    await L.until('its look', async () => (await bench.leadhook.output().match(/event=ready/g)).length === 2 && await gauge(bench, 'key-retiring') === 1);
    await relay(other);
    await L.until('the end', () => subjects(bench).length === 2);
    assert.deepStrictEqual(subjects(bench), [`[leadhook] ${title}`, `[leadhook] Over: ${title}`]);
    assert.strictEqual((await bench.leadctl('status')).status, 0);
  });
}

test('leads that stay in the spool are told after an hour, also while the table is away, and that they are through', async (t) => {
  const bench = await setUp(t, 'table', { request_deadline_ms: 500 });
  bench.settings.spool = bench.file('spool.db');
  bench.configure(bench.settings);
  bench.proxy.fault = () => 'drop-before'; // and tells nobody what time it is
  const received = Date.now() - 2 * HOUR_MS;
  // AddressSanitizer, if it is there, would be the first library and refuse to be the second.
  await cgi(bench, { LD_PRELOAD: path.join(L.build, 'harness/clock.so'), LH_CLOCK_OFFSET_S: '-7200', ASAN_OPTIONS: 'verify_asan_link_order=0' });
  for (let i = 0; i < 2; i++) await bench.leadctl('relay', '--once');
  const stuck = subjects(bench).filter((subject) => /waits in the spool/.test(subject));
  assert.strictEqual(stuck.length, 1, subjects(bench).join('\n'));
  const since = /^\[leadhook\] 1 lead waits in the spool of \S+ since (.{16} UTC)$/.exec(stuck[0])[1];
  assert.ok([received, received + 60000].map(minute).includes(since), since);
  assert.match(subjects(bench)[0], /^\[leadhook\] Leads are being spooled: the table does not answer \(.{16} UTC\)$/);
  const status = await bench.leadctl('status');
  assert.match(status.stdout, /^LEADHOOK WARNING: 1 lead waits in the spool, oldest 2 h/);
  assert.match(status.stdout, /^troubles +1 lead waits in the spool of/m);

  bench.proxy.fault = () => undefined;
  await L.until('the end', async () => (await bench.leadctl('relay', '--once')).status === 0 && subjects(bench).some((subject) => /The spool is empty again/.test(subject)));
  await relay(bench);
  assert.match((await bench.leadctl('status')).stdout, /^troubles +none that last$/m);
  assert.strictEqual(subjects(bench).length, 3);
});

test('a table that refuses the account key is told although no lead comes, and that it takes it again', async (t) => {
  const bench = await setUp(t, 'table', { request_deadline_ms: 500 });
  bench.settings.spool = bench.file('spool.db');
  bench.configure(bench.settings);
  const body = '<?xml version="1.0" encoding="utf-8"?><error xmlns="http://schemas.microsoft.com/ado/2007/08/dataservices/metadata"><code>AuthenticationFailed</code><message>Server failed to authenticate the request.</message></error>';
  bench.proxy.fault = () => ({ status: 403, headers: { 'Content-Type': 'application/xml' }, body });
  for (let i = 0; i < 2; i++) await bench.leadctl('relay', '--once');
  assert.strictEqual(subjects(bench).length, 1, subjects(bench).join('\n'));
  assert.match(subjects(bench)[0], /^\[leadhook\] \S+ has no access to the table since .{16} UTC$/);
  assert.match(alarms(bench)[0].text, /AuthenticationFailed/);
  assert.match((await bench.leadctl('status')).stdout, /^LEADHOOK WARNING: no access to the table/);
  bench.proxy.fault = () => undefined;
  await relay(bench);
  await relay(bench);
  assert.strictEqual(subjects(bench).length, 2);
  assert.match(subjects(bench)[1], /^\[leadhook\] Over: \S+ has no access to the table since/);
});

test('a mail server that refuses the password is told when it takes it again, with when it began', async (t) => {
  const bench = await setUp(t, 'sqlite');
  await bench.startNginx();
  bench.write('mail-password', 'another\n');
  await bench.startLeadhook();
  const status = await L.until('the trouble', async () => { const now = await bench.leadctl('status'); return /refuses/.test(now.stdout) && now; });
  assert.strictEqual(status.status, 1);
  assert.match(status.stdout, /^LEADHOOK WARNING: the mail server refuses us\n/);
  assert.strictEqual(await gauge(bench, 'mail-paused'), 1);
  bench.stops.splice(bench.stops.indexOf(bench.stopLeadhook), 1);
  await bench.stopLeadhook();
  bench.write('mail-password', 'pass word\n');
  bench.sqlite("UPDATE entity SET properties = json_set(properties, '$.NextTime', '2000-01-01T00:00:00.000Z') WHERE partition_key = 'alarms' AND row_key < '~'");
  await bench.startLeadhook();
  await L.until('both mails', () => subjects(bench).length === 2);
  const [begin, end] = subjects(bench).sort((a, b) => a.includes('Over') - b.includes('Over'));
  assert.match(begin, /^\[leadhook\] The mail server refuses the settings of \S+ since .{16} UTC$/);
  assert.strictEqual(end, begin.replace('] ', '] Over: '));
  assert.match(alarms(bench).map((mail) => mail.text).join(''), /535 5\.7\.8/);
  assert.strictEqual((await bench.leadctl('status')).status, 0);
});

test('the certificates of mail server and table, and the SAS, are told before their end', async (t) => {
  const bench = new L.Bench(t);
  const tls = L.certificate(bench, 'localhost', 5);
  bench.smtp = await L.startSmtp(bench, { tls });
  const table = await bench.startTable();
  const front = require('node:tls').createServer({ key: fs.readFileSync(tls.key), cert: fs.readFileSync(tls.cert) }, (socket) => {
    const back = net.connect(bench.proxy.port, '127.0.0.1');
    for (const [from, to] of [[socket, back], [back, socket]]) from.on('error', () => to.destroy()).pipe(to);
  });
  await new Promise((resolve) => front.listen(0, '127.0.0.1', resolve));
  bench.stops.push(() => new Promise((resolve) => front.close(resolve)));
  const end = new Date(Math.floor((Date.now() + 3 * DAY_MS) / 1000) * 1000).toISOString().replace('.000', '');
  const toSign = [L.ACCOUNT, 'raud', 't', 'co', '', end, '', 'https,http', '2019-02-02', ''].join('\n');
  const sig = crypto.createHmac('sha256', Buffer.from(L.ACCOUNT_KEY, 'base64')).update(toSign).digest('base64');
  bench.write('connection', `TableEndpoint=https://localhost:${front.address().port}/${L.ACCOUNT};SharedAccessSignature=`
    + `?sv=2019-02-02&ss=t&srt=co&sp=raud&se=${encodeURIComponent(end)}&spr=https,http&sig=${encodeURIComponent(sig)}`);
  bench.configure(bench.smtp.settings({ alarm_to: 'operator@example.com', table_tls_ca: tls.cert, ...table }));
  await L.tableClient(bench.azurite.port, 'MarketplaceLeads').createTable(); // a SAS may not
  await L.tableClient(bench.azurite.port, 'MarketplaceLeadsOps').createTable();
  await bench.startNginx();
  await bench.startLeadhook();
  await L.until('the alarms', () => subjects(bench).length === 2);
  assert.deepStrictEqual(subjects(bench).sort(), ['[leadhook] 2 TLS certificates end soon', `[leadhook] The SAS for the table ends ${minute(end)}`]);
  const { text } = alarms(bench).find((mail) => /certificates/.test(mail.subject));
  const until = new Date(new crypto.X509Certificate(fs.readFileSync(tls.cert)).validTo);
  for (const server of ['mail server', "table's server"]) assert.ok(text.includes(`- The certificate of the ${server} ends ${minute(until)}`), text);
  assert.strictEqual(await gauge(bench, 'sas-ending'), 1);
  assert.strictEqual(await gauge(bench, 'certificate-ending'), 2);
  assert.match((await bench.leadctl('status')).stdout, /^LEADHOOK WARNING: the SAS ends soon; 2 certificates end soon\n/);
  for (const mail of bench.smtp.mails) assert.ok(!mail.text.includes(encodeURIComponent(sig)) && !mail.text.includes(sig));
});
