// leadctl check and nginx: its configuration in force, and the socket between the two.  The nginx here is a real one,
// which runs; what leadctl finds in $PATH passes it the folder of the test.
'use strict';

const assert = require('node:assert');
const { spawnSync } = require('node:child_process');
const fs = require('node:fs');
const L = require('./lib.js');
const { check, failures, of, show, assertOnly } = require('./findings.js');

const { test } = L;

// A bench whose `nginx` is the one of the test.
function withNginx(t) {
  const bench = new L.Bench(t);
  fs.mkdirSync(bench.file('bin'));
  const script = bench.write('bin/nginx', `#!/bin/sh\nPATH=/usr/local/sbin:/usr/sbin:/usr/bin:/bin\nexec nginx -p '${bench.dir}' -c '${bench.file('nginx.conf')}' -e '${bench.file('error.log')}' "$@"\n`, 0o755);
  fs.chmodSync(script, 0o755);
  const before = process.env.PATH;
  process.env.PATH = `${bench.file('bin')}:${before}`;
  t.after(() => { process.env.PATH = before; });
  bench.configure(bench.mailHere());
  return bench;
}
function dumpOf(bench) {
  const done = spawnSync(bench.file('bin/nginx'), ['-T'], { encoding: 'utf8' });
  assert.strictEqual(done.status, 0, done.stderr);
  return done.stdout;
}
// nginx itself is started past that script.
async function start(bench, options) {
  const own = process.env.PATH;
  process.env.PATH = own.slice(own.indexOf(':') + 1);
  try {
    return await bench.startNginx(options);
  } finally {
    process.env.PATH = own;
  }
}

test('nginx as the README sets it up: in force, with all it should have', async (t) => {
  const bench = withNginx(t);
  await start(bench);
  await bench.startLeadhook();
  const findings = await check(bench);
  assert.deepStrictEqual(of(findings, 'nginx').map((one) => one.result), ['ok', 'ok'], show(findings));
  assert.match(of(findings, 'nginx')[0].text, /^runs; nginx version: nginx\/1\./);
  assert.match(of(findings, 'nginx')[1].text, /passes \/leads to '.*fcgi\.sock', with the limits and logs it should have/);
  assert.deepStrictEqual(of(findings, 'socket').map((one) => one.result), ['ok']);

  await bench.stopLeadhook();
  bench.stops.splice(bench.stops.indexOf(bench.stopLeadhook), 1);
  assert.match(show(of(await check(bench), 'socket')), /"warn".*leadhook does not run/s);
});

// What an operator may have changed, in the text of nginx/leadhook.conf or around it.
const line = (from, to) => (text) => text.replace(from, to);
const EDITS = {
  'a limit below body_max_bytes': { edit: line(/client_max_body_size 257k/, 'client_max_body_size 64k'), says: /client_max_body_size is 65536 bytes, below leadhook's body_max_bytes of 131072/, explains: /413/ },
  'a small buffer for bodies': { edit: line(/client_body_buffer_size 257k/, 'client_body_buffer_size 16k'), says: /client_body_buffer_size/, explains: /into files/, level: 'warn' },
  'an error_log at its usual level': { edit: line(/\n {4}error_log \/dev\/null emerg;/, '\n    error_log stderr;'), says: /error_log of \/leads is not at level emerg/, explains: /keys/ },
  'an error_log at crit, which prints the line, too': { edit: line(/\n {4}error_log \/dev\/null emerg;/, '\n    error_log stderr crit;'), says: /not at level emerg/, explains: /keys/ },
  'an access_log in the usual format': { edit: line(/access_log off;/, 'access_log /dev/stdout combined;'), says: /access_log of \/leads prints the query/, explains: /access_log off/ },
  'an access_log in a format with the arguments': { http: "log_format mine '$remote_addr ${request_uri}';", edit: line(/access_log off;/, 'access_log /dev/stdout mine;'), says: /access_log of \/leads/, explains: /keys/ },
  'no limit for wrong keys': { edit: line(/ +limit_req zone=leadhook_denied.*\n/, ''), says: /no limit_req for wrong keys/, explains: /tries keys/, level: 'warn' },
  'a location for wrong keys that is not there': { edit: line(/(DENIED_LOCATION +)@leadhook_denied/, '$1@elsewhere'), says: /DENIED_LOCATION '@elsewhere' is not there/, explains: /500/ },
  'a limit on good leads': { edit: line(/limit_conn_status 429;/, 'limit_conn_status 429; limit_req zone=leadhook_denied;'), says: /limit_req holds for \/leads itself/, explains: /good leads/, level: 'warn' },
  'no query': { edit: line(/ +fastcgi_param QUERY_STRING.*\n/, ''), says: /QUERY_STRING is missing/, explains: /4xx/ },
  'leads that are repeated': { edit: line(/fastcgi_next_upstream off;/, 'fastcgi_next_upstream error non_idempotent;'), says: /non_idempotent/, explains: /several processes/ },
  'another socket': { edit: line(/fastcgi_pass leadhook;/, 'fastcgi_pass unix:/run/elsewhere.sock;'), says: /passed to '\/run\/elsewhere\.sock', and leadhook listens at '.*fcgi\.sock'/, explains: /503/ },
  'a TCP port': { edit: line(/fastcgi_pass leadhook;/, 'fastcgi_pass 127.0.0.1:9000;'), says: /passed to '127\.0\.0\.1:9000'/, explains: /unix socket/ },
  'no /leads at all': { edit: line(/location = \/leads /, 'location = /lead '), says: /no server has a location \/leads/, explains: /leadhook\.conf/ },
};
for (const [name, { edit, http = '', says, explains, level = 'FAIL' }] of Object.entries(EDITS)) {
  test(`nginx with ${name}`, async (t) => {
    const bench = withNginx(t);
    await start(bench, { edit, http });
    const findings = await check(bench);
    const found = of(findings, 'nginx').filter((one) => one.result !== 'ok');
    assert.deepStrictEqual(found.map((one) => one.result), [level], show(findings));
    assert.match(found[0].text, says);
    assert.match(`${found[0].means} ${found[0].do}`, explains);
  });
}

test('nginx around the location: idle connections, its logs, TLS, and a mistake', async (t) => {
  const bench = withNginx(t);
  await start(bench);
  const good = fs.readFileSync(bench.file('nginx.conf'), 'utf8');
  const found = async (from, to) => {
    const edited = good.replace(from, to);
    assert.notStrictEqual(edited, good);
    bench.write('nginx.conf', edited);
    const findings = await check(bench);
    return of(findings, 'nginx').filter((one) => one.result !== 'ok').map((one) => `${one.result} ${one.text} ${one.means}`).join('\n');
  };
  assert.match(await found(' keepalive_timeout 500ms;', ''), /^FAIL .*kept idle for 60000 ms .*loses requests[^\n]*$/);
  assert.match(await found('keepalive_timeout 500ms', 'keepalive_timeout 30s'), /^FAIL .*30000 ms/);
  assert.strictEqual(await found('keepalive 16; keepalive_timeout 500ms;', ''), '');
  assert.match(await found(/access_log \S+ leadhook;/, ''), /^warn .*its access_log prints the query .*mistake in its path[^\n]*$/);
  assert.match(await found('listen 127.0.0.1:', 'listen '), /^warn .*can be reached without TLS .*https[^\n]*$/);
  assert.match(await found('server_tokens off;', 'server_tokens of;'), /^FAIL nginx -T: .*\[emerg\] .*nginx\.conf:\d+ .*does not start/);
});

test('nginx that is not there, does not run, may not be asked, or printed elsewhere', async (t) => {
  const bench = withNginx(t);
  const nginx = await start(bench);
  const printed = dumpOf(bench);
  const dump = bench.write('dump', printed);
  await nginx.stop();
  assert.match(show(of(await check(bench), 'nginx')), /"warn".*does not run with the configuration/s);
  // What would be wrong with it is no failure: it is not in force.
  const conf = fs.readFileSync(bench.file('nginx.conf'), 'utf8');
  bench.write('nginx.conf', conf.replace('keepalive_timeout 500ms', 'keepalive_timeout 30s'));
  assert.deepStrictEqual(of(await check(bench), 'nginx').map((one) => one.result), ['warn', 'warn']);
  bench.write('nginx.conf', conf);
  assert.deepStrictEqual(of(await check(bench, '--nginx', dump), 'nginx').map((one) => one.result), ['ok']);
  fs.writeFileSync(dump, printed.replace(/client_max_body_size 257k/, 'client_max_body_size 1k'));
  assertOnly(await check(bench, '--nginx', dump), 'nginx', /client_max_body_size is 1024/, /413/);
  for (const [text, says] of [['', /names no configuration file/], ['server {}', /names no configuration file/], ['# configuration file /x:\nhttp {', /does not end/],
    ['# configuration file /x:\n}', /brace too many/], ["# configuration file /x:\nhttp { x 'y; }", /does not end/], ['# configuration file /x:\ninclude /x;', /more than 32 deep/]]) {
    fs.writeFileSync(dump, text);
    assert.match(failures(await check(bench, '--nginx', dump))[0].text, says);
  }
  assert.match(failures(await check(bench, '--nginx', bench.file('nosuch')))[0].text, /cannot open '.*nosuch'/);
  for (const [script, says] of [['echo "nginx: [emerg] open() \\"/x.pem\\" failed (13: Permission denied)" >&2; exit 1', /"warn".*Permission denied.*sudo leadctl check/s],
    ['kill -9 $$', /"FAIL".*nginx -T/s]]) {
    bench.write('bin/nginx', `#!/bin/sh\n${script}\n`);
    assert.match(show(of(await check(bench), 'nginx')), says, script);
  }
});

test('a socket that nginx may not open', async (t) => {
  const bench = withNginx(t);
  bench.configure({ ...bench.mailHere(), listen_mode: '0600' });
  await start(bench);
  await bench.startLeadhook();
  const file = bench.write('dump', dumpOf(bench).replace(/^worker_processes 1;/m, 'user www-data;\nworker_processes 1;'));
  assertOnly(await check(bench, '--nginx', file), 'socket', /user 'www-data', as whom nginx works, may not connect to '.*' \(mode 0600 in a folder of mode 0755\)/, /listen_group/);
  fs.chmodSync(bench.settings.listen, 0o666);
  assert.deepStrictEqual(failures(await check(bench, '--nginx', file)), []);
  if (process.getuid() === 0) { // a group that may not, where everybody else may
    fs.chownSync(bench.settings.listen, 0, Number(spawnSync('id', ['-g', 'www-data'], { encoding: 'utf8' }).stdout));
    fs.chmodSync(bench.settings.listen, 0o606);
    assertOnly(await check(bench, '--nginx', file), 'socket', /mode 0606/, /listen_group/);
    fs.chmodSync(bench.settings.listen, 0o660);
    assert.deepStrictEqual(failures(await check(bench, '--nginx', file)), []);
  }
  fs.chmodSync(bench.dir, 0o700);
  assertOnly(await check(bench, '--nginx', file), 'socket', /may not connect/, /folder/);
  fs.chmodSync(bench.dir, 0o755);
});
