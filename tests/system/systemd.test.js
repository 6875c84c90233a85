// The units of deploy/systemd, as `make install` installs them: systemd takes
// them without a word, and what they leave open is little.
'use strict';

const assert = require('node:assert');
const { spawnSync } = require('node:child_process');
const fs = require('node:fs');
const L = require('./lib.js');

const { test } = L;
const EXPOSED_MAX = 1.5; // of 10; systemd calls 2 to 5 "OK" and what is above "medium"

function run(program, args, environment = {}) {
  const result = spawnSync(program, args, { encoding: 'utf8', cwd: L.top, env: { ...process.env, ...environment } });
  assert.strictEqual(result.error, undefined);
  return { status: result.status, text: result.stdout + result.stderr };
}

// Into a folder of the test's own: the units have to name a program that is there.
function install(t) {
  const bench = new L.Bench(t);
  const made = run('make', ['--no-print-directory', 'install', `PREFIX=${bench.dir}`, `BUILD=${L.build}`, `VARIANT=${process.env.VARIANT || 'release'}`]);
  assert.strictEqual(made.status, 0, made.text);
  return bench;
}

test('systemd takes the units', (t) => {
  const bench = install(t);
  const units = { SYSTEMD_UNIT_PATH: `${bench.file('lib/systemd/system')}:` };
  const verify = (...names) => run('systemd-analyze', ['verify', '--man=no', ...names], units);
  assert.deepStrictEqual(verify('leadhook.socket', 'leadhook@1.service', 'leadhook@2.service', 'leadhook-relay.timer', 'leadhook-relay.service',
    'leadhook-report.timer', 'leadhook-report.service'),
    { status: 0, text: '' });
  // What is wrong would be seen, also in what all services have in common.
  for (const unit of ['leadhook@', 'leadhook-relay', 'leadhook-report']) {
    fs.appendFileSync(bench.file(`lib/systemd/system/${unit}.service.d/10-common.conf`), '\nProtectSytem=strict\n');
    assert.match(verify(`${unit.replace('@', '@1')}.service`).text, /ProtectSytem/);
  }
});

test('what the services leave open', (t) => {
  const units = install(t).file('lib/systemd/system');
  for (const name of ['leadhook@.service', 'leadhook-relay.service', 'leadhook-report.service']) {
    const judge = () => {
      const { text } = run('systemd-analyze', ['security', '--offline=true', '--no-pager', `${units}/${name}`]);
      const found = /Overall exposure level for \S+: (\d+\.\d+)/.exec(text);
      assert.ok(found, text);
      return { score: Number(found[1]), text };
    };
    const judged = judge();
    assert.ok(judged.score < EXPOSED_MAX, judged.text);
    const common = `${units}/${name}.d/10-common.conf`;
    fs.writeFileSync(common, fs.readFileSync(common, 'utf8').replace(/^(CapabilityBoundingSet|SystemCallFilter)=.*\n/gm, ''));
    assert.ok(judge().score > EXPOSED_MAX);
  }
});

test('the user and the folders', (t) => {
  const bench = install(t);
  const root = bench.file('root');
  fs.mkdirSync(`${root}/etc`, { recursive: true });
  fs.writeFileSync(`${root}/etc/group`, 'root:x:0:\nwww-data:x:33:\n');
  const users = run('systemd-sysusers', [`--root=${root}`, bench.file('lib/sysusers.d/leadhook.conf')]);
  assert.strictEqual(users.status, 0, users.text);
  assert.match(fs.readFileSync(`${root}/etc/passwd`, 'utf8'), /^leadhook:.*:\/var\/lib\/leadhook:\/usr\/sbin\/nologin$/m);
  if (process.getuid() !== 0) return; // only root gives folders to others
  const folders = run('systemd-tmpfiles', [`--root=${root}`, '--create', bench.file('lib/tmpfiles.d/leadhook.conf')]);
  assert.strictEqual(folders.status, 0, folders.text);
  const modes = ['etc', 'var/lib', 'run'].map((name) => (fs.statSync(`${root}/${name}/leadhook`).mode & 0o7777).toString(8));
  assert.deepStrictEqual(modes, ['750', '700', '750']);
});
