// Who tries wrong keys is slowed down by nginx and then refused, and that costs nobody with a good key anything,
// not even at the same address.
'use strict';

const assert = require('node:assert');
const L = require('./lib.js');

const { test } = L;
const WRONG = 'wrong-Key_0123456789';
const DELAYED = 10; // of nginx/leadhook.conf: what waits at most for one address
const SOON_MS = 5000; // in which everything is answered that does not have to wait, also on a busy machine
const WAITED_MS = 2500; // longer than which the last of those that have to wait do: they come one a second

// edit: what a copy of nginx/leadhook.conf has that the file has not.
async function setUp(t, edit, alarms = false) {
  const bench = new L.Bench(t);
  bench.configure(alarms ? { ...bench.mailHere(), alarm_to: 'operator@example.com' } : {});
  await bench.startNginx({ edit });
  await bench.startLeadhook();
  return bench;
}

function assertProblem(answer, code) {
  assert.strictEqual(answer.code, code, answer.text);
  assert.strictEqual(answer.headers['content-type'], 'application/problem+json');
  assert.strictEqual(answer.headers['cache-control'], 'no-store');
  assert.strictEqual(answer.headers['x-accel-redirect'], undefined);
  assert.deepStrictEqual([answer.json.type, answer.json.status], ['about:blank', code]);
  assert.ok(answer.json.title && answer.json.detail);
  assert.match(answer.json.request_id, /^[0-9a-f]{32}$/);
  if (code === 401) assert.strictEqual(answer.headers['www-authenticate'], 'Bearer');
  if (code === 429) assert.strictEqual(answer.headers['retry-after'], '30');
}

// Posts and notes how long the answer took.
async function timed(bench, options) {
  const begun = process.hrtime.bigint();
  const answer = await bench.post(L.lead(), options);
  answer.ms = Number((process.hrtime.bigint() - begun) / 1000000n);
  return answer;
}
const times = (count, make) => Array.from({ length: count }, (_, number) => make(number));

test('a mixed flood from one address: every good key is answered at once, wrong ones wait and are then refused', async (t) => {
  const bench = await setUp(t);
  const good = [];
  const wrong = [];
  let flooding = true;
  const senders = [];
  for (let sender = 0; sender < 40; sender++) {
    senders.push((async () => {
      while (flooding) wrong.push(await timed(bench, { key: sender % 4 ? `${WRONG}${sender}` : null }));
    })());
  }
  await Promise.all(times(8, async () => {
    for (let number = 0; number < 25; number++) good.push(await timed(bench));
  }));
  flooding = false;
  await Promise.all(senders);

  for (const answer of good) {
    assert.strictEqual(answer.code, 200, answer.text);
    assert.ok(answer.ms < SOON_MS, `a good key waited ${answer.ms} ms`);
  }
  for (const answer of wrong) assertProblem(answer, answer.code === 401 ? 401 : 429);
  const denied = wrong.filter((answer) => answer.code === 401);
  const refused = wrong.filter((answer) => answer.code === 429);
  assert.ok(refused.length > 0);
  for (const answer of refused) assert.ok(answer.ms < SOON_MS, `429 after ${answer.ms} ms`);
  const slow = denied.filter((answer) => answer.ms > WAITED_MS);
  assert.ok(slow.length >= 3, `${denied.map((answer) => answer.ms)}: were they slowed down?`);

  // The address that is being refused is not refused with the key, and another one not at all.
  assert.strictEqual((await timed(bench)).code, 200);
  assertProblem(await timed(bench, { key: WRONG, from: '127.0.0.9' }), 401);
  assert.strictEqual((await bench.list()).length, good.length + 1);
});

test('few wrong keys wait: the connections of nginx stay free', async (t) => {
  const bench = await setUp(t);
  let waiting = 0;
  const all = times(100, async () => {
    waiting++;
    const answer = await bench.post(L.lead(), { key: null });
    waiting--;
    return answer;
  });
  await L.until('all but those that wait', () => waiting <= DELAYED, SOON_MS);
  assert.ok(waiting > 0);
  const answers = await Promise.all(all);
  assert.ok(answers.every((answer) => answer.code === 401 || answer.code === 429));
});

test('a few stray requests are answered 401 at once, by whichever way the key came', async (t) => {
  const bench = await setUp(t);
  const ways = [{ key: null }, { key: WRONG }, { path: '/leads', headers: { 'X-Lead-Key': WRONG } },
    { path: '/leads', headers: { Authorization: `Bearer ${WRONG}` } }];
  for (const way of ways.slice(0, 3)) {
    const answer = await timed(bench, way);
    assertProblem(answer, 401);
    assert.ok(answer.ms < SOON_MS);
  }
  assertProblem(await timed(bench, { ...ways[3], from: '127.0.0.2' }), 401);
});

test('the addresses of one IPv6 network (/64) are one stranger, those of another are not', async (t) => {
  // nginx is told the address by a header here.
  const bench = await setUp(t, (text) => text.replace('location = /leads {', '$& set_real_ip_from 127.0.0.1; real_ip_header X-Test-Address;'));
  const tries = (count, address) => times(count, (number) =>
    timed(bench, { key: WRONG, headers: { 'X-Test-Address': address(number) } }));
  // 4 at once, 7 later, the rest refused: as for one address.
  const same = tries(20, (number) => `2001:db8:a:b:${number}::${number}`);
  const refused = [];
  for (const answer of same) answer.then((each) => each.code === 429 && refused.push(each), () => {});
  await L.until('those that are refused', () => refused.length >= 5);
  for (const answer of await Promise.all(tries(3, (number) => `2001:db8:a:${number}::1`))) assertProblem(answer, 401);
  for (const answer of await Promise.all(tries(3, (number) => `192.0.2.${number + 1}`))) assertProblem(answer, 401);
  await Promise.all(same);
});

test('too many at the same time with one key from one address: 429, and not with another key', async (t) => {
  const bench = await setUp(t, (text) => text.replace('limit_conn leadhook_sender 1000;', 'limit_conn leadhook_sender 4;'));
  bench.leadhook.child.kill('SIGSTOP');
  const first = times(8, () => bench.post(L.lead()));
  const over = [];
  for (const answer of first) answer.then((each) => each.code === 429 && over.push(each), () => {});
  await L.until('what is over the limit', () => over.length === 4);
  const other = bench.post(L.lead(), { key: WRONG });
  const elsewhere = bench.post(L.lead(), { from: '127.0.0.3' });
  bench.leadhook.child.kill('SIGCONT');
  for (const answer of over) assertProblem(answer, 429);
  assert.strictEqual((await Promise.all(first)).filter((answer) => answer.code === 200).length, 4);
  assertProblem(await other, 401);
  assert.strictEqual((await elsewhere).code, 200);
});

test('without the parameter, as in an older copy of the file, leadhook answers 401 itself', async (t) => {
  const bench = await setUp(t, (text) => text.replace(/^ *fastcgi_param DENIED_LOCATION .*$/m, ''));
  for (const answer of await Promise.all(times(50, () => timed(bench, { key: WRONG })))) {
    assertProblem(answer, 401);
    assert.ok(answer.ms < SOON_MS);
  }
});

test('many wrong keys raise one alarm, which names neither keys nor addresses; a few raise none', async (t) => {
  const bench = await setUp(t, undefined, true);
  const alarms = () => bench.entities().filter((row) => row.partitionKey === 'alarms');
  let sender = 0;
  const tries = (count) => Promise.all(times(count, () => bench.post(L.lead(), { key: WRONG, from: `127.0.2.${++sender % 250}` })));
  await tries(20);
  assert.deepStrictEqual(alarms(), []);
  // leadhook counts from when its relay has begun, which may be after the first of them.
  await L.until('the alarm', async () => {
    await tries(40);
    return alarms().length > 0;
  });
  const mail = await L.until('its mail', async () => (await bench.mails())[0]);
  assert.match(mail.parsed.subject, /^\[leadhook\] Many requests come with a wrong key \(.{16} UTC\)$/);
  assert.match(mail.parsed.text, /\d{3,} requests with a wrong key, or none, have come to this host since \d{4}-/);
  for (const secret of [WRONG, L.KEY, '127.0.2.']) assert.ok(!mail.text.includes(secret));
  assert.match((await bench.leadctl('status')).stdout, /alarms +today: wrong-keys/);
  assert.strictEqual(alarms().length, 1);
  assert.strictEqual(bench.maildir().length, 1);
});
