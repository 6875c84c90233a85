// The HTTP interface through nginx with the very files people include: every
// answer, what is kept in quarantine, and that no log holds a key.
'use strict';

const assert = require('node:assert');
const fs = require('node:fs');
const net = require('node:net');
const L = require('./lib.js');

const { test } = L;
const BODY_MAX = 4096;

async function setUp(t, settings = {}) {
  const bench = new L.Bench(t);
  bench.configure({ body_max_bytes: BODY_MAX, ...settings });
  await bench.startNginx();
  await bench.startLeadhook();
  return bench;
}

// What every refusal has in common (RFC 9457).
function assertProblem(answer, code, name) {
  assert.strictEqual(answer.code, code, `${name}: ${answer.code} ${answer.text}`);
  assert.strictEqual(answer.headers['content-type'], 'application/problem+json', name);
  assert.strictEqual(answer.json.type, 'about:blank', name);
  assert.strictEqual(answer.json.status, code, name);
  assert.ok(answer.json.title && answer.json.detail, name);
  assert.match(answer.json.request_id, /^[0-9a-f]{32}$/, name);
}

// Sends bytes as they are, ends the connection when told to; gives all that came back.
function raw(port, bytes, { hangUp = false } = {}) {
  return new Promise((resolve, reject) => {
    const chunks = [];
    const socket = net.connect(port, '127.0.0.1', () => socket.write(bytes, () => hangUp && socket.destroy()));
    socket.on('data', (chunk) => chunks.push(chunk));
    socket.on('error', reject);
    socket.on('close', () => resolve(Buffer.concat(chunks).toString()));
  });
}

test('a key is taken from the query, from X-Lead-Key and from Authorization', async (t) => {
  const bench = await setUp(t);
  const ways = [
    { path: `/leads?key=${L.KEY}` }, { path: `/leads?a=b&key=${L.KEY}&c=d` },
    { path: '/leads', headers: { 'X-Lead-Key': L.KEY } },
    { path: '/leads', headers: { Authorization: `Bearer ${L.KEY}` } },
    { path: '/leads', headers: { Authorization: `bearer ${L.KEY}` } },
    { path: `/leads?key=${[...L.KEY].map((c) => `%${c.charCodeAt(0).toString(16)}`).join('')}` },
  ];
  for (const way of ways) {
    const answer = await bench.post(L.lead(), way);
    assert.strictEqual(answer.code, 200, `${JSON.stringify(way)}: ${answer.text}`);
    assert.deepStrictEqual(Object.keys(answer.json).sort(), ['id', 'status']);
    assert.strictEqual(answer.headers['cache-control'], 'no-store');
  }
  assert.strictEqual((await bench.list()).length, ways.length);
});

test('without a good key: the same 401 for everything, and nothing is kept', async (t) => {
  const bench = await setUp(t);
  const ways = [
    { path: '/leads' }, { path: '/leads?key=' }, { path: '/leads?key' }, { path: '/leads?KEY=x' }, { path: '/leads?key=wrong-wrong-wrong' },
    { path: `/leads?key=${L.KEY}x` }, { path: `/leads?key=${L.KEY.slice(0, -1)}` }, { path: `/leads?key=${L.KEY.toLowerCase()}` },
    { path: `/leads?key=wrong&key=${L.KEY}` }, { path: '/leads?key=market' }, { path: `/leads?key=${'x'.repeat(4000)}` },
    { path: '/leads', headers: { 'X-Lead-Key': 'wrong-wrong-wrong' } }, { path: '/leads', headers: { Authorization: `Basic ${L.KEY}` } },
    { path: '/leads', headers: { Authorization: L.KEY } },
  ];
  const details = new Set();
  let sender = 0; // one address would be slowed down: strangers.test.js
  for (const way of ways) {
    for (const body of [L.lead(), 'garbage', '', 'x'.repeat(2 * BODY_MAX)]) {
      const answer = await bench.post(body, { ...way, from: `127.0.1.${++sender}` });
      assertProblem(answer, 401, JSON.stringify(way));
      assert.strictEqual(answer.headers['www-authenticate'], 'Bearer');
      details.add(answer.json.detail);
    }
  }
  assert.strictEqual(details.size, 1);
  assert.deepStrictEqual(bench.entities(), []);
});

test('other methods are refused with Allow', async (t) => {
  const bench = await setUp(t);
  for (const method of ['GET', 'HEAD', 'PUT', 'DELETE', 'PATCH', 'OPTIONS']) {
    const answer = await bench.post(method === 'PUT' ? L.lead() : undefined, { method });
    assert.strictEqual(answer.code, 405, method);
    assert.strictEqual(answer.headers.allow, 'POST', method);
    if (method !== 'HEAD') assertProblem(answer, 405, method);
  }
  for (const path of ['/healthz', '/readyz', '/metrics']) {
    assert.strictEqual((await bench.post(undefined, { method: 'GET', path })).code, 200, path);
    const answer = await bench.post('x', { path });
    assert.strictEqual(answer.code, 405, path);
    assert.strictEqual(answer.headers.allow, 'GET, HEAD', path);
  }
  assert.deepStrictEqual(bench.entities(), []);
});

test('/readyz and /metrics are not for who comes through a proxy on this machine', async (t) => {
  const bench = await setUp(t);
  for (const path of ['/readyz', '/metrics']) {
    for (const headers of [{ 'X-Forwarded-For': '203.0.113.5' }, { Forwarded: 'for=203.0.113.5' }, { 'X-Forwarded-For': '0' }]) {
      const answer = await bench.post(undefined, { method: 'GET', path, headers });
      assert.strictEqual(answer.code, 403, JSON.stringify(headers));
      assert.doesNotMatch(answer.text, /leadhook/);
    }
    assert.strictEqual((await bench.post(undefined, { method: 'GET', path })).code, 200, path);
  }
  assert.strictEqual((await bench.post(L.lead(), { headers: { 'X-Forwarded-For': '203.0.113.5' } })).code, 200);
});

// The documented sample, whose comma after OfferTitle is missing.
const DOCUMENTED = `{
  "UserDetails": { "FirstName": "Some", "LastName": "One", "Email": "someone@contoso.com", "Phone": "16175555555", "Country": "USA",
    "Company": "Contoso", "Title": "Esquire" },
  "LeadSource": "AzureMarketplace",
  "ActionCode": "INS",
  "OfferTitle": "Test Microsoft"
  "Description": "Test run through Power Automate"
}`;
const nested = (depth) => '{"UserDetails":{"Email":"a@example.com"},"x":' + '['.repeat(depth - 1) + ']'.repeat(depth - 1) + '}';
const bytes = (...parts) => Buffer.concat(parts.map((part) => (typeof part === 'string' ? Buffer.from(part) : Buffer.from([part]))));

const BAD = [
  { name: 'documented sample without its comma', body: DOCUMENTED, code: 400, inside: '"Description"' },
  { name: 'cut off in a string', body: '{"UserDetails":{"FirstName":"Ana', code: 400, offset: 32, detail: /ends too early/ },
  { name: 'cut off between members', body: '{"OfferTitle":"a",', code: 400, offset: 18, detail: /ends too early/ },
  { name: 'not an object', body: '[1,2]', code: 400, inside: '[', detail: /not a JSON object/ },
  { name: 'text behind the object', body: '{"OfferTitle":"a"} x', code: 400, inside: 'x', detail: /syntax error|behind/ },
  { name: 'UTF-8 overlong', body: bytes('{"OfferTitle":"', 0xc0, 0xaf, '"}'), code: 400, offset: 15 },
  { name: 'UTF-8 truncated', body: bytes('{"OfferTitle":"', 0xe2, 0x82, '"}'), code: 400, offset: 15 },
  { name: 'UTF-8 encoded surrogate', body: bytes('{"OfferTitle":"', 0xed, 0xa0, 0x80, '"}'), code: 400, offset: 15 },
  { name: 'Latin-1', body: bytes('{"OfferTitle":"J', 0xf6, 'rg"}'), code: 400, offset: 16 },
  { name: 'NUL as a byte', body: bytes('{"OfferTitle":"a', 0, 'b"}'), code: 400, offset: 16 },
  { name: 'NUL as an escape', body: '{"OfferTitle":"a\\u0000b"}', code: 400 },
  { name: 'high surrogate alone', body: '{"OfferTitle":"a\\ud83db"}', code: 400 },
  { name: 'low surrogate alone', body: '{"OfferTitle":"a\\ude00b"}', code: 400 },
  { name: 'surrogates the wrong way round', body: '{"OfferTitle":"\\ude00\\ud83d"}', code: 400 },
  { name: 'raw line end in a string', body: '{"OfferTitle":"a\nb"}', code: 400, offset: 16 },
  { name: 'too deep', body: nested(17), code: 400 },
  { name: 'too many members', body: `{"OfferTitle":"a",${Array.from({ length: 2500 }, () => '"":1').join()}}`, code: 400 },
  { name: 'form value that is not UTF-8', body: 'first_name=%ff&email=a@example.com', type: 'application/x-www-form-urlencoded', code: 400 },
  { name: 'form value with NUL', body: 'first_name=a%00b', type: 'application/x-www-form-urlencoded', code: 400 },
  { name: 'plain text', body: 'hello', type: 'text/plain', code: 415 },
  { name: 'XML', body: '<lead/>', type: 'application/xml', code: 415 },
  { name: 'binary', body: bytes(0x89, 'PNG', 0, 1, 2, 0xff), type: 'application/octet-stream', code: 415 },
  { name: 'an empty object', body: '{}', code: 422 },
  { name: 'UserDetails null', body: '{"UserDetails":null}', code: 422 },
  { name: 'every field blank', body: '{"UserDetails":{"Email":"  ","Phone":null},"OfferTitle":""}', code: 422 },
  { name: 'nothing known', body: '{"hello":"world"}', code: 422 },
  { name: 'a form of strangers', body: 'a=b&c=d', type: 'application/x-www-form-urlencoded', code: 422 },
];

for (const { name, body, type = 'application/json', code, offset, inside, detail = /./ } of BAD) {
  test(`with a good key, ${name}: ${code}, and the raw bytes in quarantine`, async (t) => {
    const bench = await setUp(t, { body_max_bytes: 131072 });
    const answer = await bench.post(body, { type });
    assertProblem(answer, code, name);
    assert.match(answer.json.detail, detail);
    assert.strictEqual(typeof answer.json.offset, code === 400 ? 'number' : 'undefined');
    if (offset !== undefined) assert.strictEqual(answer.json.offset, offset, answer.text);
    if (inside) { // the piece of text at which it was noticed
      const distance = answer.json.offset - body.indexOf(inside);
      assert.ok(distance >= 0 && distance <= inside.length, answer.text);
    }
    const [kept, quota, total, ...others] = bench.entities();
    assert.deepStrictEqual(others, []);
    assert.deepStrictEqual([total.rowKey, total.UsedKiB], ['~total', 1 + Math.ceil(4 * Math.ceil(Buffer.from(body).length / 3) / 1024)]);
    assert.match(quota.rowKey, /^~quota-\d{4}-\d\d-\d\d-market$/);
    assert.strictEqual(kept.partitionKey, 'quarantine');
    assert.strictEqual(kept.DeliveryId, answer.json.id);
    assert.strictEqual(Buffer.from(kept.Body, 'base64').compare(Buffer.from(body)), 0);
    assert.deepStrictEqual([kept.ContentType, kept.KeyName], [type, 'market']);
    assert.ok(kept.Reason);
    assert.deepStrictEqual(await bench.list(), []);
  });
}

test('an empty body is refused and not kept', async (t) => {
  const bench = await setUp(t);
  const answer = await bench.post('');
  assertProblem(answer, 400, 'empty');
  assert.strictEqual(answer.json.id, undefined);
  assert.deepStrictEqual(bench.entities(), []);
});

test('Content-Type is only a hint: JSON is taken under any type or none, a form under its own', async (t) => {
  const bench = await setUp(t);
  for (const type of ['application/json', 'application/json; charset=UTF-8', 'text/json', 'text/plain', 'application/octet-stream',
    'application/x-www-form-urlencoded', '', 'nonsense']) {
    const answer = await bench.post(L.lead(), { type });
    assert.strictEqual(answer.code, 200, `${type}: ${answer.text}`);
  }
  const form = 'company=Example+Ltd&country=US&description=MSFT_TEST_1&email=form%40example.com&encoding=UTF-8&encoding=UTF-8&first_name=J%C3%B6rg' +
    '&last_name=Test&lead_source=MSFT_TEST_1-MSFT_TEST_1%7CMy+Offer&oid=00D&phone=1234567890&title=CTO';
  for (const type of ['application/x-www-form-urlencoded', 'application/x-www-form-urlencoded; charset=utf-8', 'text/plain']) {
    const answer = await bench.post(form.replace('form', `form${type.length}`), { type });
    assert.strictEqual(answer.code, 200, `${type}: ${answer.text}`);
  }
  const forms = (await bench.list()).filter((row) => row.Email.startsWith('form'));
  assert.strictEqual(forms.length, 3);
  for (const row of forms) {
    assert.deepStrictEqual([row.FirstName, row.Company, row.OfferDisplayName, row.IsTest], ['Jörg', 'Example Ltd', 'My Offer', true]);
  }
});

test('a body of exactly the limit is taken, one byte more is refused; above its own limit nginx refuses alike', async (t) => {
  const bench = await setUp(t);
  const ofSize = (size) => {
    const empty = L.lead({ Padding: '' });
    return empty.replace('"Padding":""', `"Padding":"${'x'.repeat(size - empty.length)}"`);
  };
  const fits = ofSize(BODY_MAX);
  assert.strictEqual(Buffer.byteLength(fits), BODY_MAX);
  assert.strictEqual((await bench.post(fits)).code, 200);
  assertProblem(await bench.post(ofSize(BODY_MAX + 1)), 413, 'one more');
  assertProblem(await bench.post('x'.repeat(260 * 1024)), 413, 'above the limit of nginx');
  assert.strictEqual((await bench.list()).length, 1);
});

test('a body in chunks and of 256 KiB is taken', async (t) => {
  const bench = await setUp(t, { body_max_bytes: 262144 });
  const empty = L.lead({ Padding: '' });
  const body = empty.replace('"Padding":""', `"Padding":"${'x'.repeat(262144 - empty.length)}"`);
  assert.strictEqual((await bench.post(body)).code, 200);
  const chunked = L.lead();
  const answer = await raw(bench.port, `POST /leads?key=${L.KEY} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n` +
    `5\r\n${chunked.slice(0, 5)}\r\n${(chunked.length - 5).toString(16)}\r\n${chunked.slice(5)}\r\n0\r\n\r\n`);
  assert.match(answer, /^HTTP\/1\.1 200\b[^]*"status":"stored"/);
  const [large] = bench.entities().filter((row) => row.Payload && row.Payload2);
  assert.strictEqual(Object.keys(large).filter((name) => name.startsWith('Payload')).sort((a, b) => a.slice(7) - b.slice(7))
    .map((name) => large[name]).join(''), body);
});

test('no log holds a key: good or wrong, refused, cut off, or while leadhook is not there', async (t) => {
  const bench = await setUp(t);
  const wrong = 'wrong-Key_0123456789';
  const gone = (answer, name) => {
    assertProblem(answer, 503, name);
    assert.strictEqual(answer.headers['retry-after'], '30', name);
  };
  await bench.post(L.lead());
  await bench.post(L.lead(), { key: wrong });
  await bench.post('garbage', { type: 'text/plain' });
  await bench.post(undefined, { method: 'GET' });
  await bench.post('x'.repeat(300 * 1024));
  await bench.post(L.lead(), { path: '/leads', headers: { 'X-Lead-Key': L.KEY } });
  await bench.post(L.lead(), { path: '/leads', headers: { Authorization: `Bearer ${L.KEY}` } });
  await raw(bench.port, `POST /leads?key=${L.KEY} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"half":`, { hangUp: true });
  await raw(bench.port, `POST /leads?key=${L.KEY} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n`);
  // What nginx refuses by itself, before it knows the location, and a mistake in the path.
  for (const rest of [`Host: x\r\nX-Large: ${'y'.repeat(40000)}\r\n`, 'Host: a b/..\r\n', '', 'Host: x\r\nContent-Length: x\r\n']) {
    assert.match(await raw(bench.port, `POST /leads?key=${L.KEY} HTTP/1.1\r\n${rest}\r\n`), /^HTTP\/1\.1 400/);
  }
  assert.strictEqual((await bench.post(L.lead(), { path: `/lead?key=${L.KEY}` })).code, 404);
  assert.strictEqual(await bench.leadhook.stop(), 0);
  gone(await bench.post(L.lead()), 'stopped, its socket gone');
  gone(await bench.post(L.lead(), { path: '/leads', headers: { 'X-Lead-Key': L.KEY } }), 'the same, key in a header');
  assert.strictEqual((await bench.post(undefined, { method: 'GET', path: '/healthz' })).code, 503);

  // Killed, so that its socket stays behind.
  const killed = await bench.startLeadhook('killed');
  bench.stops.pop();
  assert.strictEqual(await killed.stop('SIGKILL'), 'SIGKILL');
  gone(await bench.post(L.lead()), 'killed, its socket left');
  await bench.startLeadhook('after');
  assert.strictEqual((await bench.post(L.lead())).code, 200);

  const logs = ['access.log', 'leads.log', 'error.log', 'nginx.out', 'leadhook.log', 'killed.log', 'after.log'].filter((name) => fs.existsSync(bench.file(name)));
  assert.strictEqual(logs.length, 7);
  assert.match(fs.readFileSync(bench.file('leads.log'), 'utf8'), /"path":"\/lead","status":404/);
  for (const name of logs) {
    const text = fs.readFileSync(bench.file(name), 'utf8');
    for (const secret of [L.KEY, wrong, 'example.com']) assert.ok(!text.includes(secret), `${name} holds ${secret}: ${text}`);
  }
  assert.match(fs.readFileSync(bench.file('leadhook.log'), 'utf8'), /event=stored code=200 id=[0-9a-f]{32} .*key=market/);
});

test('a sender who leaves without waiting has delivered all the same', async (t) => {
  const bench = await setUp(t);
  const body = L.lead();
  await raw(bench.port, `POST /leads?key=${L.KEY} HTTP/1.1\r\nHost: x\r\nContent-Length: ${body.length}\r\n\r\n${body}`, { hangUp: true });
  await L.until('the lead', async () => (await bench.list()).length === 1);
});

test('a burst of 200 posts from one address is taken', async (t) => {
  const bench = await setUp(t);
  const answers = await Promise.all(Array.from({ length: 200 }, () => bench.post(L.lead())));
  assert.deepStrictEqual(answers.filter((answer) => answer.code !== 200).map((answer) => answer.text), []);
  assert.strictEqual((await bench.list()).length, 200);
  assert.strictEqual(new Set(answers.map((answer) => answer.json.id)).size, 200);
});
