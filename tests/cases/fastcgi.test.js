// What nginx never sends: the worker refuses or ignores it, stores nothing of
// it, and goes on serving.
'use strict';

const assert = require('node:assert');
const crypto = require('node:crypto');
const L = require('../system/lib.js');
const F = require('./fastcgi.js');

const { test } = L;
const { TYPE } = F;
const THREADS = 4;

async function setUp(t, settings = {}) {
  const bench = new L.Bench(t);
  bench.configure({ threads: THREADS, body_max_bytes: 65536, ...settings });
  await bench.startLeadhook();
  bench.socket = bench.settings.listen;
  bench.send = (pieces, options) => F.talk(bench.socket, pieces, options);
  bench.sendLead = (body = L.lead()) => bench.send(F.request(F.parameters(L.KEY, body), body));
  return bench;
}

// Every thread still serves.
async function assertAnswering(bench) {
  const answers = await Promise.all(Array.from({ length: 2 * THREADS }, () => bench.sendLead()));
  assert.deepStrictEqual(answers.map((answer) => answer.code), Array(2 * THREADS).fill(200));
}

// The same, and the store holds only what these requests brought.
async function assertServing(bench) {
  const before = bench.entities().length;
  await assertAnswering(bench);
  const added = bench.entities().length - before;
  assert.ok(added === 2 * THREADS || added === 2 * THREADS + 1, `${added} rows`); // the first lead also makes its offer's row
}

const lead = L.lead();
const good = F.parameters(L.KEY, lead);
const params = F.pairs(good);
const whole = F.request(good, lead);

test('a whole request is answered, however its bytes are cut and padded', async (t) => {
  const bench = await setUp(t);
  const bytes = (body, options) => F.request(F.parameters(L.KEY, body), body, options);
  const ways = {
    'in one piece': (body) => bytes(body),
    'byte by byte': (body) => [...bytes(body)].map((byte) => Buffer.from([byte])),
    'in records of one byte': (body) => bytes(body, { size: 1 }),
    'in records of seven bytes with padding': (body) => bytes(body, { size: 7, padding: 255 }),
    'with another request id': (body) => bytes(body, { id: 65535 }),
    'with the longest records': (body) => bytes(body.replace('"note"', `"${'x'.repeat(64000)}"`)),
  };
  for (const [name, make] of Object.entries(ways)) {
    const answer = await bench.send(make(L.lead()));
    assert.strictEqual(answer.code, 200, name);
    assert.strictEqual(answer.ended, 0, name);
    assert.strictEqual(answer.json.status, 'stored', name);
  }
  assert.strictEqual((await bench.list()).length, Object.keys(ways).length);
});

test('peers that keep their connection and do not use it again take nobody\'s place', async (t) => {
  const bench = await setUp(t);
  const held = [];
  for (let i = 0; i < 3 * THREADS; i++) {
    const body = L.lead();
    held.push(await F.hold(bench.socket, F.request(F.parameters(L.KEY, body), body, { keep: true })));
  }
  await assertAnswering(bench);
  for (const socket of held) socket.destroy();
  await assertServing(bench);
});

// Cut off: the peer hangs up, or closes its side, in the middle of these bytes.
const CUT = {
  nothing: Buffer.alloc(0),
  'half a record header': whole.subarray(0, 5),
  'the beginning alone': F.begin(),
  'half of the parameters': Buffer.concat([F.begin(), F.record(TYPE.PARAMS, params.subarray(0, 40), { length: params.length })]),
  'parameters cut between records': Buffer.concat([F.begin(), F.record(TYPE.PARAMS, params.subarray(0, 40))]),
  'parameters without their end': Buffer.concat([F.begin(), F.record(TYPE.PARAMS, params)]),
  'no body': Buffer.concat([F.begin(), F.stream(TYPE.PARAMS, params)]),
  'half of the body': Buffer.concat([F.begin(), F.stream(TYPE.PARAMS, params), F.record(TYPE.STDIN, lead.slice(0, 50), { length: lead.length })]),
  'the body cut between records': Buffer.concat([F.begin(), F.stream(TYPE.PARAMS, params), F.record(TYPE.STDIN, lead.slice(0, 50))]),
  'the last byte missing': whole.subarray(0, whole.length - 9),
};
for (const [name, bytes] of Object.entries(CUT)) {
  for (const after of ['hang-up', 'half-close']) {
    test(`cut off (${after}): ${name}`, async (t) => {
      const bench = await setUp(t);
      const answer = await bench.send(bytes, { after });
      assert.strictEqual(answer.code, null, answer.head);
      await assertServing(bench);
      assert.ok(!bench.entities().some((row) => row.Payload === lead), 'nothing of it is stored');
    });
  }
}

// Whole requests whose length is a lie or no number.
const LENGTHS = [
  { name: 'one more than the body has', length: String(lead.length + 1), code: null },
  { name: 'a thousand more than the body has', length: String(lead.length + 1000), code: null },
  { name: 'missing', length: undefined, code: 400 },
  { name: 'blank', length: '', code: 400 },
  { name: 'negative', length: '-1', code: 400 },
  { name: 'signed', length: `+${lead.length}`, code: 400 },
  { name: 'hexadecimal', length: '0x40', code: 400 },
  { name: 'followed by garbage', length: `${lead.length}x`, code: 400 },
  { name: 'with a blank', length: ` ${lead.length}`, code: 400 },
  { name: 'two numbers', length: `${lead.length}, ${lead.length}`, code: 400 },
  { name: 'more than the limit', length: '65537', code: 413 },
  { name: 'more than 32 bits', length: String(2 ** 32 + lead.length), code: 413 },
  { name: 'more than 64 bits', length: `${2n ** 64n + BigInt(lead.length)}`, code: 413 },
  { name: 'a thousand digits', length: '9'.repeat(1000), code: 413 },
];
for (const { name, length, code } of LENGTHS) {
  test(`CONTENT_LENGTH: ${name}`, async (t) => {
    const bench = await setUp(t);
    const answer = await bench.send(F.request({ ...good, CONTENT_LENGTH: length }, lead));
    assert.strictEqual(answer.code, code, answer.head);
    assert.deepStrictEqual(bench.entities(), []);
    await assertServing(bench);
  });
}

test('what comes behind the announced length is not looked at', async (t) => {
  const bench = await setUp(t);
  const answer = await bench.send(F.request(F.parameters(L.KEY, lead), `${lead}{"UserDetails":{"Email":"smuggled@example.com"}}`));
  assert.strictEqual(answer.code, 200);
  assert.deepStrictEqual(bench.entities().flatMap((row) => row.Payload || []), [lead]);
  await assertServing(bench);
});

// Records that are wrong, out of order or of another kind.  `answers` where an answer of another kind is right.
const liar = (name, value) => {
  const long = (number) => { const b = Buffer.alloc(4); b.writeUInt32BE(number >>> 0); return b; };
  return Buffer.concat([long(name), long(value), Buffer.from('REQUEST_METHODPOST')]);
};
const WRONG = {
  'protocol version 0': F.record(TYPE.BEGIN, Buffer.alloc(8), { version: 0 }),
  'protocol version 2': Buffer.concat([F.record(TYPE.BEGIN, Buffer.from([0, 1, 0, 0, 0, 0, 0, 0]), { version: 2 }), whole]),
  'an HTTP request': Buffer.from(`POST /leads?key=${L.KEY} HTTP/1.0\r\nContent-Length: 2\r\n\r\n{}`),
  noise: Buffer.from(Array.from({ length: 4096 }, (_, i) => (i * 7919 + 13) % 251)),
  'no beginning': Buffer.concat([F.stream(TYPE.PARAMS, params), F.stream(TYPE.STDIN, lead)]),
  'the body before the parameters': Buffer.concat([F.begin(), F.stream(TYPE.STDIN, lead), F.stream(TYPE.PARAMS, params)]),
  'a body within the parameters': Buffer.concat([F.begin(), F.record(TYPE.PARAMS, params.subarray(0, 40)), F.stream(TYPE.STDIN, lead), F.stream(TYPE.PARAMS, params.subarray(40))]),
  'an abort before the parameters': Buffer.concat([F.begin(), F.record(TYPE.ABORT)]),
  'an abort within the parameters': Buffer.concat([F.begin(), F.record(TYPE.PARAMS, params.subarray(0, 40)), F.record(TYPE.ABORT)]),
  'an abort within the body': Buffer.concat([F.begin(), F.stream(TYPE.PARAMS, params), F.record(TYPE.STDIN, lead.slice(0, 50)), F.record(TYPE.ABORT)]),
  'the parameters of another request': Buffer.concat([F.begin(), F.stream(TYPE.PARAMS, params, { id: 2 }), F.stream(TYPE.STDIN, lead)]),
  'names longer than their record': Buffer.concat([F.begin(), F.stream(TYPE.PARAMS, liar(0x80000000 + 1000, 4)), F.stream(TYPE.STDIN, lead)]),
  'lengths that overflow 32 bits together': Buffer.concat([F.begin(), F.stream(TYPE.PARAMS, liar(0xffffffff, 0xffffffff)), F.stream(TYPE.STDIN, lead)]),
  'no method': F.request({ ...good, REQUEST_METHOD: undefined }, lead),
  'no path': F.request({ ...good, SCRIPT_NAME: undefined }, lead),
  'no parameters': F.request({}, lead),
  'a question about values': F.record(TYPE.GET_VALUES, F.pairs({ FCGI_MAX_CONNS: '' }), { id: 0 }),
  'a management record of an unknown type': F.record(200, 'x', { id: 0 }),
};
for (const [name, bytes] of Object.entries(WRONG)) {
  test(`wrong records: ${name}`, async (t) => {
    const bench = await setUp(t);
    const answer = await bench.send(bytes, { after: 'half-close' });
    assert.notStrictEqual(answer.code, 200, answer.head);
    await assertServing(bench);
    assert.ok(!bench.entities().some((row) => row.Payload === lead), 'nothing of it is stored');
  });
}

test('parameters that are too long are as good as absent: the answer is 401', async (t) => {
  const bench = await setUp(t);
  for (const changes of [{ QUERY_STRING: `x=${'y'.repeat(9000)}&key=${L.KEY}` }, { QUERY_STRING: '', HTTP_X_LEAD_KEY: L.KEY.repeat(1000) },
    { QUERY_STRING: '', HTTP_AUTHORIZATION: `Bearer ${'z'.repeat(60000)}` }]) {
    const answer = await bench.send(F.request({ ...good, ...changes }, lead));
    assert.strictEqual(answer.code, 401, answer.head);
  }
  await assertServing(bench);
});

test('headers of a signature that no web server would pass on', async (t) => {
  const bench = await setUp(t);
  const secret = Buffer.alloc(32, 7);
  bench.write('keys', `market ${L.KEY}\nsender whsec_${secret.toString('base64')}\n`);
  bench.leadhook.child.kill('SIGHUP');
  await L.until('the reload', () => /event=reloaded/.test(bench.leadhook.output()));
  const now = String(Math.floor(Date.now() / 1000));
  const send = (changes = {}, id = 'msg_1', time = now) => bench.send(F.request({ ...good, QUERY_STRING: '', HTTP_WEBHOOK_ID: id, HTTP_WEBHOOK_TIMESTAMP: time,
    HTTP_WEBHOOK_SIGNATURE: `v1,${crypto.createHmac('sha256', secret).update(`${id}.${time}.${lead}`).digest('base64')}`, ...changes }, lead));
  assert.strictEqual((await send()).code, 200);
  const right = `v1,${crypto.createHmac('sha256', secret).update(`msg_1.${now}.${lead}`).digest('base64')}`;
  const wrong = {
    'CR and LF in the id': [{}, 'msg_1\r\nevent=stored'],
    'NUL in the id': [{}, 'msg\0_1'],
    'an id in UTF-8': [{}, 'msg_\u00e9'],
    'an id of 60 KB': [{}, 'x'.repeat(60000)],
    'NUL behind the time': [{}, 'msg_1', `${now}\0`],
    'a sign before the time': [{}, 'msg_1', `+${now}`],
    'a time of 60 KB': [{}, 'msg_1', now.padStart(60000, '0')],
    'a list of 60 KB': [{ HTTP_WEBHOOK_SIGNATURE: right.padEnd(60000) }],
    'NUL in the list': [{ HTTP_WEBHOOK_SIGNATURE: `${right}\0` }],
    'a list in lines': [{ HTTP_WEBHOOK_SIGNATURE: `v1,x\n${right}` }],
  };
  for (const [name, [changes, id, time]] of Object.entries(wrong)) {
    const answer = await send(changes, id, time);
    assert.strictEqual(answer.code, 401, `${name}: ${answer.head}`);
  }
  assert.ok(bench.leadhook.output().trimEnd().split('\n').every((line) => line.startsWith('t=')));
  assert.strictEqual(bench.entities().filter(L.isLead).length, 1);
  await assertServing(bench);
});

test('what a peer says about itself cannot break a header or the log', async (t) => {
  const bench = await setUp(t);
  const answer = await bench.send(F.request({ ...good, REQUEST_ID: 'x\r\nSet-Cookie: a=b', CONTENT_TYPE: 'a\r\nb\u001b[31m', REQUEST_METHOD: 'POST' }, lead));
  assert.strictEqual(answer.code, 200);
  assert.ok(!answer.head.includes('Set-Cookie') && !bench.leadhook.output().includes('Set-Cookie') && !bench.leadhook.output().includes('\u001b'));
  const refused = await bench.send(F.request({ ...good, SCRIPT_NAME: '/x\r\ny', REQUEST_METHOD: 'GET\r\nz' }, ''));
  assert.ok([400, 404, 405, null].includes(refused.code), `${refused.code}`);
  assert.ok(bench.leadhook.output().trimEnd().split('\n').every((line) => line.startsWith('t=')));
});

test('requests that hang in their parameters or body keep a thread each, and no other', async (t) => {
  const bench = await setUp(t);
  const hanging = [];
  for (let i = 0; i < THREADS - 1; i++) {
    hanging.push(await F.hold(bench.socket, i % 2 ? CUT['half of the parameters'] : CUT['half of the body']));
  }
  await assertServing(bench);

  // With all threads taken a request waits, and is served as soon as one is free.
  hanging.push(await F.hold(bench.socket, CUT['parameters without their end']));
  const waiting = bench.sendLead();
  hanging[0].destroy();
  assert.strictEqual((await waiting).code, 200);
  hanging.forEach((socket) => socket.destroy());
  await assertServing(bench);
});

test('three hundred connections at once are all answered', async (t) => {
  const bench = await setUp(t);
  const answers = await Promise.all(Array.from({ length: 300 }, () => bench.sendLead()));
  assert.deepStrictEqual(answers.filter((answer) => answer.code !== 200), []);
  assert.strictEqual((await bench.list()).length, 300);
});

test('a peer that does not read its answer does not keep a thread', async (t) => {
  const bench = await setUp(t);
  for (let i = 0; i < 3 * THREADS; i++) await bench.send(F.request(F.parameters(L.KEY, lead), lead), { after: 'hang-up' });
  await assertAnswering(bench);
});
