// leadhook as a plain CGI program under fcgiwrap, with nginx's files changed as
// the README says, and `leadctl relay --once` for what nobody does between requests.
'use strict';

const assert = require('node:assert');
const { execFileSync } = require('node:child_process');
const fs = require('node:fs');
const path = require('node:path');
const L = require('./lib.js');

const { test } = L;
const leadhook = path.join(L.build, 'leadhook');

// What the README's command does to nginx's file, with this build's program.
function sedOfReadme() {
  const text = fs.readFileSync(path.join(L.top, 'README.md'), 'utf8').replace(/ *\\\n */g, ' ');
  const found = /^ *sed (-e '.*keep_conn.*') \S+\/leadhook\.conf >\S+$/m.exec(text);
  assert.ok(found, 'the README has the command');
  assert.match(found[1], / \/usr\/sbin\/leadhook;/);
  return found[1].replace('/usr/sbin/leadhook', leadhook);
}

async function start(t, settings = () => ({})) {
  const bench = new L.Bench(t);
  bench.configure({ listen: null, listen_mode: null, ...bench.mailHere(), mail_per_minute: 6000, ...await settings(bench) });
  const sed = sedOfReadme();
  await bench.startNginx({
    edit: (text) => execFileSync('sh', ['-c', `sed ${sed}`], { input: text, encoding: 'utf8' })
      .replace(/^ *fastcgi_param SCRIPT_FILENAME .*$/mg, `$&\n    fastcgi_param LEADHOOK_CONFIG ${bench.config};`),
  });
  const program = new L.Program('fcgiwrap', 'spawn-fcgi', ['-s', bench.file('fcgi.sock'), '-M', '0666', '-n', '--', '/usr/sbin/fcgiwrap', '-c', '4'],
    { log: bench.file('fcgiwrap.log'), group: true });
  bench.stops.push(() => program.stop());
  await L.until('fcgiwrap', () => fs.existsSync(bench.file('fcgi.sock')));
  return { bench, program };
}

test('plain CGI: leads, repeats, wrong keys, quarantine, each request in a process of its own', async (t) => {
  const { bench, program } = await start(t);
  const body = L.lead();
  const first = await bench.post(body);
  assert.deepStrictEqual([first.code, first.json.status], [200, 'stored'], first.text);
  assert.strictEqual((await bench.post(body)).json.status, 'repeat');
  assert.strictEqual((await bench.post('{')).code, 400);
  assert.strictEqual((await bench.post(L.lead(), { key: 'x'.repeat(20) })).code, 401);
  assert.strictEqual((await bench.post(undefined, { method: 'GET', path: '/readyz' })).code, 200);
  assert.strictEqual(program.output().match(/event=stored/g).length, 1);
  assert.doesNotMatch(program.output(), /event=ready/, 'no process stays to serve FastCGI');

  const answers = await Promise.all(Array.from({ length: 20 }, () => bench.post(L.lead())));
  assert.deepStrictEqual(answers.map(({ code }) => code), Array(20).fill(200));
  assert.strictEqual(bench.entities().filter((row) => row.Payload && row.Deliveries).length, 21);
  assert.strictEqual((await bench.leadctl('quarantine', 'list')).stdout.trim().split('\n').length, 2, 'one, below the heading');
});

test('plain CGI: mails go out with leadctl relay --once, each once', async (t) => {
  const { bench } = await start(t);
  assert.strictEqual((await bench.post(L.lead())).code, 200);
  assert.strictEqual((await bench.post(L.lead())).code, 200);
  assert.strictEqual(bench.maildir().length, 0, 'a CGI process does not wait for mail');
  for (let i = 0; i < 2; i++) {
    const relay = await bench.leadctl('relay', '--once');
    assert.strictEqual(relay.status, 0, relay.stderr);
    assert.strictEqual(bench.maildir().length, 2);
  }
});

test('plain CGI: leads are spooled while the table is away, and leadctl relay --once drains them', async (t) => {
  const { bench } = await start(t, (bench) => bench.startTableWithSpool());
  bench.proxy.fault = () => 'drop-before';
  const answers = await Promise.all(Array.from({ length: 3 }, () => bench.post(L.lead())));
  assert.deepStrictEqual(answers.map(({ code, json }) => [code, json.status]), Array(3).fill([202, 'spooled']));
  bench.proxy.fault = () => undefined;
  await L.until('the drain', async () => { // the breaker may still wait for its next try
    await bench.leadctl('relay', '--once');
    return bench.maildir().length >= 3;
  });
  const rows = await L.rows(bench.azurite.port, 'MarketplaceLeads');
  assert.strictEqual(rows.filter(L.isLead).length, 3);
  assert.strictEqual(bench.spoolRows().filter((row) => row.partition_key === 'spool').length, 0);
});
