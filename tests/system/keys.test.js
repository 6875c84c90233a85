// Keys as an operator handles them: made, used, listed, replaced and retired with leadctl, while leadhook runs.
'use strict';

const assert = require('node:assert');
const fs = require('node:fs');
const L = require('./lib.js');

const { test } = L;

async function setUp(t) {
  const bench = new L.Bench(t);
  bench.configure();
  await bench.startNginx();
  await bench.startLeadhook();
  bench.reload = async () => {
    const reloads = () => (bench.leadhook.output().match(/event=reload(ed|-refused)/g) || []).length;
    const before = reloads();
    bench.leadhook.child.kill('SIGHUP');
    await L.until('the reload', () => reloads() > before);
  };
  bench.key = async (...args) => {
    const result = await bench.leadctl('key', ...args);
    assert.strictEqual(result.status, 0, result.stderr);
    return result.stdout;
  };
  // Makes a key and takes it from the path that is shown.
  bench.newKey = async (name) => {
    const [, key] = /^\/leads\?key=([0-9a-f]{64})\n$/.exec(await bench.key('new', name));
    return key;
  };
  bench.keyFile = () => fs.readFileSync(bench.file('keys'), 'utf8');
  return bench;
}

const codeOf = async (bench, key) => (await bench.post(L.lead(), { key })).code;
const row = (list, name) => list.split('\n').find((line) => line.startsWith(`${name} `)).split(/ {2,}/);

test('a key is made, used, replaced by another of its name, and retired, and no lead is refused meanwhile', async (t) => {
  const bench = await setUp(t);
  const before = bench.keyFile();
  const first = await bench.newKey('partner');
  assert.match(bench.keyFile(), /^partner sha256:[0-9a-f]{64} created=\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/m);
  assert.ok(bench.keyFile().startsWith(before), 'what stood there stays: comments, order, other keys');
  assert.ok(!bench.keyFile().includes(first), 'only the hash is kept');
  assert.strictEqual(await codeOf(bench, first), 401);
  await bench.reload();
  assert.strictEqual(await codeOf(bench, first), 200);
  assert.strictEqual(await codeOf(bench, L.KEY), 200);

  const second = await bench.newKey('partner');
  const third = await bench.leadctl('key', 'new', 'partner');
  assert.strictEqual(third.status, 65);
  assert.match(third.stderr, /older one is made .*, line 3.*leadctl key retire partner/);
  assert.strictEqual(third.stdout, '');
  await bench.reload();
  for (const key of [first, second]) assert.strictEqual(await codeOf(bench, key), 200);

  // The older one ends later, then now.
  assert.match(await bench.key('retire', 'partner', '--at', '2999-12-30T10:30'), /line 3\) is good until 2999-12-30T10:30:00Z/);
  assert.match(await bench.key('retire', 'partner', '--at', '2999-12-31'), /line 3\) is good until 2999-12-31T00:00:00Z/);
  await bench.reload();
  assert.strictEqual(await codeOf(bench, first), 200);
  assert.match(await bench.key('list'), /partner .* live until 2999-12-31T00:00:00Z/);
  assert.match(await bench.key('retire', 'partner'), /line 3\) is retired\.\n$/);
  assert.strictEqual(bench.keyFile().match(/retire=/g).length, 1);
  assert.strictEqual(await codeOf(bench, first), 200, 'until the reload');
  await bench.reload();
  assert.strictEqual(await codeOf(bench, first), 401);
  assert.strictEqual(await codeOf(bench, second), 200);
  assert.match(await bench.newKey('partner'), /./, 'there is room for another one again');

  // The last ones, and then none.
  await bench.key('retire', 'partner');
  assert.match(await bench.key('retire', 'partner'), /'partner' has no other key: from now on requests with it are refused/);
  const none = await bench.leadctl('key', 'retire', 'partner');
  assert.strictEqual(none.status, 66);
  assert.match(none.stderr, /'partner' has no live key/);
});

test('a date that lies ahead needs no second reload', async (t) => {
  const bench = await setUp(t);
  const key = await bench.newKey('partner');
  const soon = new Date(Date.now() + 3000).toISOString().replace(/\.\d+Z/, 'Z');
  await bench.key('retire', 'partner', '--at', soon);
  await bench.reload();
  await L.until('the end of the key', async () => await codeOf(bench, key) === 401);
  assert.ok(Date.now() >= Date.parse(soon));
  assert.strictEqual(await codeOf(bench, L.KEY), 200);
});

test('list shows kind, state and last use, and which keys to replace or retire; so does /metrics', async (t) => {
  const bench = await setUp(t);
  const secret = await bench.key('new', 'signer', '--signing');
  assert.match(secret, /^whsec_[A-Za-z0-9+/]{43}=\n$/);
  assert.ok(bench.keyFile().includes(`signer ${secret.trim()} created=`));
  const key = await bench.newKey('partner');
  await bench.reload();
  const begun = Math.floor(Date.now() / 1000);
  for (let number = 0; number < 3; number++) assert.strictEqual(await codeOf(bench, key), 200);
  assert.strictEqual((await bench.post('garbage', { key, type: 'text/plain' })).code, 415);
  await codeOf(bench, 'wrong-wrong-wrong');

  const list = await bench.key('list');
  assert.deepStrictEqual([row(list, 'partner')[1], row(list, 'partner')[3], row(list, 'partner')[5]], ['key', 'live', '4']);
  const used = Date.parse(row(list, 'partner')[4]) / 1000;
  assert.ok(used >= begun && used <= Date.now() / 1000, list);
  assert.deepStrictEqual([row(list, 'market')[1], ...row(list, 'market').slice(4)], ['PLAIN TEXT', 'never', '0']);
  assert.deepStrictEqual([row(list, 'signer')[1], ...row(list, 'signer').slice(4)], ['signing', 'never', '0']);
  assert.match(list, /'market', line 2: the file shows this key .*leadctl key new market/);
  assert.match(list, /'market', line 2: not used on this host/);
  assert.match(list, /'signer', line 3: not used on this host/);
  assert.doesNotMatch(list, /'partner', line/);
  for (const hidden of [key, L.KEY, secret.trim()]) assert.ok(!list.includes(hidden));

  const { text } = await bench.post(undefined, { method: 'GET', path: '/metrics' });
  assert.match(text, /^leadhook_key_requests_total\{key="partner"\} 4$/m);
  assert.match(text, new RegExp(`^leadhook_key_last_use_timestamp_seconds\\{key="partner"\\} ${used}$`, 'm'));
  assert.doesNotMatch(text, /key="market"/);

  // Without the counters the keys are shown all the same.
  await bench.leadhook.stop();
  fs.rmSync(bench.file(fs.readdirSync(bench.dir).find((name) => /\.relay\.metrics\d+$/.test(name))));
  const blind = await bench.leadctl('key', 'list');
  assert.strictEqual(blind.status, 0);
  assert.match(blind.stderr, /last used is not known/);
  assert.strictEqual(row(blind.stdout, 'partner')[4], '-');
});

test('the file keeps owner, group and mode, and edits at the same time lose nothing', async (t) => {
  const bench = await setUp(t);
  const root = process.getuid() === 0;
  fs.chmodSync(bench.file('keys'), 0o640);
  if (root) fs.chownSync(bench.file('keys'), 0, 4321);
  await Promise.all(Array.from({ length: 8 }, (_, number) => bench.key('new', `name-${number}`)));
  for (let number = 0; number < 8; number++) assert.match(bench.keyFile(), new RegExp(`^name-${number} sha256:`, 'm'));
  const { mode, uid, gid } = fs.statSync(bench.file('keys'));
  assert.strictEqual(mode & 0o7777, 0o640);
  if (root) assert.deepStrictEqual([uid, gid], [0, 4321]);
  assert.deepStrictEqual(fs.readdirSync(bench.dir).filter((name) => name.startsWith('.')), []);
});

test('the first key makes the file; what is no key file is left as it is', async (t) => {
  const bench = new L.Bench(t);
  bench.configure();
  const file = bench.file('keys');
  fs.rmSync(file);
  assert.strictEqual((await bench.leadctl('key', 'new', 'two words')).status, 64);
  assert.ok(!fs.existsSync(file));
  assert.strictEqual((await bench.leadctl('key', 'new', 'first')).status, 0);
  assert.match(fs.readFileSync(file, 'utf8'), /^first sha256:[0-9a-f]{64} created=\S+\n$/);
  for (const [text, why] of [['root:x:0:0:root:/root:/bin/sh\n', /keys:1: /], [`market ${L.KEY}\nmarket ${L.KEY}\n`, /keys:2: /]]) {
    fs.writeFileSync(file, text);
    const result = await bench.leadctl('key', 'new', 'second');
    assert.strictEqual(result.status, 78, result.stderr);
    assert.match(result.stderr, why);
    assert.strictEqual(fs.readFileSync(file, 'utf8'), text);
  }
  // No end of the last line, blanks in others: only the line of the key is changed.
  const odd = `# first\n\n  market\t${L.KEY}   created=2026-01-01T00:00:00Z  \nother ${L.KEY}x # `.replace(' # ', '');
  fs.writeFileSync(file, odd);
  assert.strictEqual((await bench.leadctl('key', 'retire', 'market')).status, 0);
  assert.strictEqual(fs.readFileSync(file, 'utf8').replace(/ retire=\S+/, ''), odd);
  for (const args of [[], ['new'], ['retire'], ['retire', 'x', '--at'], ['retire', 'x', '--at', '2020-01-01'], ['retire', 'x', '--at', 'soon'],
    ['new', 'x', '--at', '2999-01-01'], ['list', 'x'], ['new', 'x', 'y'], ['show']]) {
    assert.strictEqual((await bench.leadctl('key', ...args)).status, 64, args.join(' '));
  }
  for (const at of ['soon', '2020-01-01', '12h', '2999-13-01', '']) {
    const { status, stderr } = await bench.leadctl('key', 'retire', 'x', '--at', at);
    assert.deepStrictEqual([status, stderr.split('\n')[0]], [64, 'leadctl: --at takes a time that is still to come: 2026-12-31 or 2026-12-31T10:30 (UTC)'], at);
  }
});
