// With the Table service: Azurite behind, the official SDK as the judge.
'use strict';

const assert = require('node:assert');
const crypto = require('node:crypto');
const test = require('node:test');
const L = require('./lib.js');

// leadhook on Azurite (through a proxy), with mail over SMTP when given.
async function setUp(t, settings = {}) {
  const bench = new L.Bench(t);
  bench.configure({ ...await bench.startTable(), ...settings });
  await bench.startNginx();
  return { bench, azurite: bench.azurite, proxy: bench.proxy };
}
const leadsOf = async (port) => (await L.rows(port, 'MarketplaceLeads')).filter(L.isLead);
const mailsOf = async (port) => (await L.rows(port, 'MarketplaceLeads')).filter(L.isMail);

for (const kind of [{ implicit: true, methods: ['PLAIN'] }, { implicit: false, methods: ['LOGIN'] }]) {
  test(`a lead's whole way: table and ${kind.implicit ? 'SMTPS' : 'STARTTLS'} with ${kind.methods}`, async (t) => {
    const { bench, azurite } = await setUp(t);
    const smtp = await L.startSmtp(bench, kind);
    bench.configure({ ...bench.settings, ...smtp.settings({ mail_to: 'sales@example.com, boss@example.com' }) });
    await bench.startLeadhook();
    const body = L.lead({ Description: 'Grüße,\nsecond line' }, { FirstName: 'Jörg', Email: 'joerg@example.com' });
    const answer = await bench.post(body);
    assert.strictEqual(answer.code, 200, answer.text);
    assert.strictEqual(answer.json.status, 'stored');
    assert.match(answer.json.id, /^[0-9a-f]{32}$/);

    await L.until('both mails', () => smtp.mails.length === 2);
    const row = await L.until('the lead marked as told', async () => (await leadsOf(azurite.port)).find((r) => r.NotifiedTime));
    assert.deepStrictEqual(await mailsOf(azurite.port), []);

    // Every column and its type.
    const text = (value) => ({ type: 'String', value });
    const { etag, timestamp, ReceivedTime, LastReceivedTime, NotifiedTime, CreatedTime, RequestId, ...rest } = row;
    for (const time of [ReceivedTime, LastReceivedTime, NotifiedTime]) {
      assert.strictEqual(time.type, 'DateTime');
      assert.ok(Math.abs(Date.parse(time.value) - Date.now()) < 60000, time.value);
    }
    assert.strictEqual(CreatedTime.type, 'String');
    assert.deepStrictEqual([...new Set(smtp.mails.map((m) => m.parsed.headers.get('x-request-id')))], [RequestId.value]);
    assert.strictEqual(Date.parse(CreatedTime.value), Date.parse(ReceivedTime.value));
    assert.ok(etag && timestamp);
    const content = crypto.createHash('sha256').update(body).digest('hex').slice(0, 32);
    assert.strictEqual(row.rowKey.split('-')[1], content);
    delete rest['odata.metadata'];
    assert.deepStrictEqual({ ...rest, rowKey: undefined }, {
      partitionKey: 'contoso.contoso-app', rowKey: undefined,
      ActionCode: text('INS'), Description: text('Grüße,\nsecond line'), LeadSource: text('AzureMarketplace-INS|contoso.contoso-app'),
      OfferDisplayName: text('Contoso App'),
      CustomerInfo: text('{"FirstName":"Jörg","LastName":"Test","Email":"joerg@example.com","Phone":"16175550100","Country":"US","Company":"Example","Title":"CTO"}'),
      FirstName: text('Jörg'), LastName: text('Test'), Email: text('joerg@example.com'), Phone: text('16175550100'),
      Country: text('US'), Company: text('Example'), Title: text('CTO'),
      Source: text('AzureMarketplace'), Action: text('INS'), PublisherId: text('contoso'), OfferId: text('contoso-app'),
      Deliveries: { type: 'Int32', value: '1' }, DeliveryId: text(answer.json.id), LastDeliveryId: text(answer.json.id),
      IsTest: { type: 'Boolean', value: 'false' }, DoNotContact: { type: 'Boolean', value: 'false' },
      PersonalDataWithheld: { type: 'Boolean', value: 'false' }, KeyName: text('market'), Payload: text(body),
    });
    const offers = (await L.rows(azurite.port, 'MarketplaceLeadsOps')).filter((r) => r.partitionKey === 'offers');
    assert.deepStrictEqual(offers.map((r) => [r.rowKey, r.Title.value, r.LastLeadTime.type]), [['contoso.contoso-app', 'Contoso App', 'DateTime']]);

    // The mails, one per recipient, each with an identity of its own.
    assert.deepStrictEqual(smtp.mails.map((m) => m.to.join()).sort(), ['boss@example.com', 'sales@example.com']);
    assert.deepStrictEqual(smtp.mails.map((m) => m.parsed.messageId).sort(), [1, 2].map((n) => `<lead.${answer.json.id}.${n}@example.com>`));
    for (const mail of smtp.mails) {
      assert.strictEqual(mail.from, 'leads@example.com');
      assert.strictEqual(mail.user, 'leads');
      assert.strictEqual(mail.parsed.subject, 'Get it now: Contoso App, Example');
      assert.strictEqual(mail.parsed.from.text, '"Website leads" <leads@example.com>');
      assert.strictEqual(mail.parsed.replyTo.text, 'joerg@example.com');
      assert.strictEqual(mail.parsed.headers.get('auto-submitted'), 'auto-generated');
      assert.strictEqual(mail.parsed.headers.get('x-lead-id'), answer.json.id);
      assert.strictEqual(mail.parsed.date.getTime(), Math.floor(Date.parse(ReceivedTime.value) / 1000) * 1000);
      for (const part of [mail.parsed.text, mail.parsed.html]) {
        for (const want of ['Jörg Test', 'joerg@example.com', 'Grüße,', 'Contoso App', answer.json.id]) assert.ok(part.includes(want), want);
      }
      assert.match(mail.text, /^[\x20-\x7e\r\n\t]*$/);
      assert.ok(!/[^\r]\n|\r[^\n]/.test(mail.text), 'only CRLF');
      assert.ok(mail.text.split('\r\n').every((line) => line.length <= 78 && !line.startsWith('.')));
    }
    assert.deepStrictEqual(new Set(smtp.logins), new Set(kind.methods));
  });
}

test('the same bytes again are a repeat: counted, not mailed', async (t) => {
  const { bench, azurite } = await setUp(t);
  const smtp = await L.startSmtp(bench);
  bench.configure({ ...bench.settings, ...smtp.settings() });
  await bench.startLeadhook();
  const body = L.lead();
  const first = await bench.post(body);
  const second = await bench.post(body);
  assert.deepStrictEqual([first.json.status, second.json.status], ['stored', 'repeat']);
  await L.until('the mail', () => smtp.mails.length > 0);
  const row = await L.until('the mark', async () => (await leadsOf(azurite.port)).find((r) => r.NotifiedTime));
  assert.strictEqual(row.Deliveries.value, '2');
  assert.strictEqual(row.DeliveryId.value, first.json.id);
  assert.strictEqual(row.LastDeliveryId.value, second.json.id);
  assert.strictEqual(smtp.mails.length, 1);
});

test('outside the repeat window the customer came back: one more mail, which says so', async (t) => {
  const { bench } = await setUp(t, { repeat_window_s: 0 });
  const smtp = await L.startSmtp(bench);
  bench.configure({ ...bench.settings, ...smtp.settings() });
  await bench.startLeadhook();
  const body = L.lead();
  await bench.post(body);
  await L.until('the first mail', () => smtp.mails.length === 1);
  await bench.post(body);
  await L.until('the second mail', () => smtp.mails.length === 2);
  assert.match(smtp.mails[1].parsed.subject, /^\[CAME BACK\] /);
  assert.notStrictEqual(smtp.mails[0].parsed.messageId, smtp.mails[1].parsed.messageId);
});

test('an answer that is lost after the write does not make a second row or mail', async (t) => {
  const { bench, azurite, proxy } = await setUp(t);
  const smtp = await L.startSmtp(bench);
  bench.configure({ ...bench.settings, ...smtp.settings() });
  await bench.startLeadhook();
  await bench.post(L.lead({ OfferTitle: 'warm up' })); // so that tables and directory exist
  await L.until('the first mail', () => smtp.mails.length === 1);
  let dropped = 0;
  proxy.fault = (req, number, body) => (body.includes('lost@example.com') && body.includes('DeliveryId') && dropped === 0 && ++dropped ? 'drop-after' : undefined);
  const answer = await bench.post(L.lead({}, { Email: 'lost@example.com' }));
  assert.strictEqual(answer.code, 200, answer.text);
  assert.strictEqual(answer.json.status, 'stored');
  assert.strictEqual(dropped, 1);
  await L.until('the second mail', () => smtp.mails.length === 2);
  await L.until('all mail rows gone', async () => (await mailsOf(azurite.port)).length === 0);
  const mine = (await leadsOf(azurite.port)).filter((r) => r.Email.value === 'lost@example.com');
  assert.deepStrictEqual(mine.map((r) => [r.Deliveries.value, r.DeliveryId.value]), [['1', answer.json.id]]);
  assert.strictEqual(smtp.mails.length, 2);
});

test('fifty repeats among a hundred leads do not cost fifty transactions', async (t) => {
  const { bench, azurite, proxy } = await setUp(t, { threads: 100, request_deadline_ms: 20000 });
  await bench.startLeadhook();
  const old = Array.from({ length: 50 }, () => L.lead());
  const first = await Promise.all(old.map((body) => bench.post(body)));
  assert.ok(first.every((answer) => answer.code === 200));
  const before = proxy.batches;
  proxy.fault = () => ({ delay: 100 }); // so that leads meet in the queue
  const mixed = old.flatMap((body) => [body, L.lead()]);
  const answers = await Promise.all(mixed.map((body) => bench.post(body)));
  answers.forEach((answer, i) => assert.strictEqual(answer.json.status, i % 2 ? 'stored' : 'repeat'));
  assert.ok(proxy.batches - before < 50, `${proxy.batches - before} transactions`);
  const leads = await leadsOf(azurite.port);
  assert.strictEqual(leads.length, 100);
  assert.strictEqual(leads.filter((r) => r.Deliveries.value === '2').length, 50);
});

test('while the table does not answer: 503 with Retry-After, and 200 again afterwards', async (t) => {
  const { bench, azurite, proxy } = await setUp(t, { request_deadline_ms: 2500 });
  await bench.startLeadhook();
  assert.strictEqual((await bench.post(L.lead())).code, 200);
  const faults = {
    refused: 'drop-before',
    hangs: { delay: 6000 },
    'server error': { status: 500, body: '{"odata.error":{"code":"InternalError","message":{"value":"x"}}}' },
    throttling: { status: 503, headers: { 'Retry-After': '77' }, body: '{"odata.error":{"code":"ServerBusy","message":{"value":"x"}}}' },
    forbidden: { status: 403, body: '<?xml version="1.0"?><Error><Code>AuthenticationFailed</Code></Error>' },
    garbage: { status: 202, headers: { 'Content-Type': 'multipart/mixed; boundary=x' }, body: 'garbage' },
    truncated: { cut: 60 },
  };
  for (const [name, fault] of Object.entries(faults)) {
    proxy.fault = () => fault;
    const answer = await bench.post(L.lead());
    assert.strictEqual(answer.code, 503, `${name}: ${answer.text}`);
    assert.strictEqual(answer.headers['retry-after'], name === 'throttling' ? '77' : '30', name);
    assert.strictEqual(answer.headers['content-type'], 'application/problem+json', name);
    if (name === 'forbidden') assert.strictEqual((await bench.post(undefined, { method: 'GET', path: '/readyz', type: null })).code, 503);
  }
  assert.match(bench.leadhook.output(), /AuthenticationFailed.*account key/);
  proxy.fault = () => undefined;
  const answer = await bench.post(L.lead());
  assert.strictEqual(answer.code, 200, answer.text);
  assert.strictEqual((await bench.post(undefined, { method: 'GET', path: '/readyz', type: null })).code, 200);
  assert.ok((await leadsOf(azurite.port)).length >= 2);
});

test('what came with a good key and cannot be taken lies in quarantine with its raw bytes', async (t) => {
  const { bench, azurite } = await setUp(t);
  await bench.startLeadhook();
  const bad = Buffer.concat([Buffer.from('{"UserDetails":{"FirstName":"'), Buffer.from([0xc0, 0xaf, 0xff, 0]), Buffer.alloc(70000, 'x'), Buffer.from('"}}')]);
  const answer = await bench.post(bad, { type: 'application/json; charset=utf-8' });
  assert.strictEqual(answer.code, 400, answer.text);
  assert.strictEqual(answer.json.offset, 29);
  const kept = (await L.rows(azurite.port, 'MarketplaceLeadsOps')).filter((r) => r.partitionKey === 'quarantine' && !r.rowKey.startsWith('~'));
  assert.strictEqual(kept.length, 1);
  assert.strictEqual(kept[0].rowKey.split('-')[1], answer.json.id);
  assert.strictEqual(kept[0].Body.type, 'Binary');
  const bytes = Buffer.concat([kept[0].Body.value, kept[0].Body2.value].map((v) => Buffer.from(v, 'base64')));
  assert.ok(bytes.equals(bad));
  assert.strictEqual(kept[0].ContentType.value, 'application/json; charset=utf-8');
  assert.strictEqual(kept[0].KeyName.value, 'market');
  assert.match(kept[0].Reason.value, /UTF-8/);
});

test('two processes on one table: one row and one mail per lead', async (t) => {
  const { bench, azurite } = await setUp(t);
  const smtp = await L.startSmtp(bench);
  bench.configure({ ...bench.settings, ...smtp.settings() });
  const relay = bench.file('shared.relay');
  bench.configure({ ...bench.settings, relay_socket: relay });
  const first = bench.config;
  await bench.startLeadhook('one', first);
  const second = bench.write('two.conf', require('node:fs').readFileSync(first, 'utf8').replace('fcgi.sock', 'two.sock'));
  await bench.startLeadhook('two', second);
  const nginx = new L.Bench(t);
  require('node:fs').symlinkSync(bench.file('two.sock'), nginx.file('fcgi.sock'));
  await nginx.startNginx();
  const bodies = Array.from({ length: 20 }, () => L.lead());
  const answers = await Promise.all(bodies.flatMap((body) => [bench.post(body), nginx.post(body)]));
  assert.ok(answers.every((answer) => answer.code === 200), answers.map((a) => a.text).join());
  assert.strictEqual(answers.filter((answer) => answer.json.status === 'stored').length, 20);
  await L.until('all mails', async () => smtp.mails.length >= 20 && (await mailsOf(azurite.port)).length === 0);
  assert.strictEqual(smtp.mails.length, 20);
  const leads = await leadsOf(azurite.port);
  assert.strictEqual(leads.length, 20);
  assert.ok(leads.every((row) => row.Deliveries.value === '2'));
});

test('a SAS works, and wrong credentials are explained by leadctl check', async (t) => {
  const { bench, azurite, proxy } = await setUp(t);
  const fields = { sp: 'raud', ss: 't', srt: 'co', st: '', se: '2099-01-01T00:00:00Z', sip: '', spr: 'https,http', sv: '2019-02-02' };
  const toSign = [L.ACCOUNT, fields.sp, fields.ss, fields.srt, fields.st, fields.se, fields.sip, fields.spr, fields.sv, ''].join('\n');
  const sig = crypto.createHmac('sha256', Buffer.from(L.ACCOUNT_KEY, 'base64')).update(toSign).digest('base64');
  const sas = `?sv=2019-02-02&ss=t&srt=co&sp=raud&se=2099-01-01T00:00:00Z&spr=https,http&sig=${encodeURIComponent(sig)}`;
  await L.tableClient(azurite.port, 'MarketplaceLeads').createTable();
  await L.tableClient(azurite.port, 'MarketplaceLeadsOps').createTable();
  const endpoint = `TableEndpoint=http://127.0.0.1:${proxy.port}/${L.ACCOUNT}`;
  bench.write('connection', `${endpoint};SharedAccessSignature=${sas}`);
  await bench.startLeadhook();
  assert.strictEqual((await bench.post(L.lead())).code, 200);
  assert.strictEqual((await leadsOf(azurite.port)).length, 1);
  const good = await bench.leadctl('check', '--nginx', 'off');
  assert.strictEqual(good.status, 0, good.stdout + good.stderr);
  bench.write('connection', `${endpoint};AccountName=${L.ACCOUNT};AccountKey=${Buffer.from('wrong').toString('base64')}`);
  const bad = await bench.leadctl('check', '--nginx', 'off');
  assert.strictEqual(bad.status, 1);
  assert.match(bad.stdout, /FAIL +table-leads .*AuthorizationFailure/);
  assert.ok(!bad.stdout.includes(Buffer.from('wrong').toString('base64')));
});
