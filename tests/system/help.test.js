// leadctl's help: it fits a screen, and says of every command what its parser takes, no more and no less.  And the
// version, wherever it is told.
'use strict';

const assert = require('node:assert');
const { spawnSync } = require('node:child_process');
const fs = require('node:fs');
const path = require('node:path');
const L = require('./lib.js');

const { test } = L;
const SCREEN = { lines: 24, columns: 80 };
const sources = path.join(L.top, 'handler/ctl');

const leadctl = (...args) => L.Bench.prototype.run('leadctl', ...args);
const commands = async () => {
  const { stdout } = await leadctl('help');
  return [...stdout.matchAll(/^  ([a-z]+) {2,}\S/gm)].map((match) => match[1]);
};
const longOptions = (text) => [...new Set(text.match(/(?<![\w-])--[a-z][a-z-]*/g) || [])].sort();

// What the sources of a command compare its arguments with: texts that are an option and nothing else.
function parsed(name) {
  const file = [`${name}.c`, `${name}/${name}.c`].map((each) => path.join(sources, each)).find((each) => fs.existsSync(each));
  const text = fs.readFileSync(file, 'utf8');
  const filters = /find_take_option/.test(text) ? fs.readFileSync(path.join(sources, 'find.c'), 'utf8') : '';
  return longOptions((text + filters).match(/"--[a-z-]+"/g)?.join(' ') || '');
}

test('help of every command fits a screen and has usage and an example', async () => {
  const names = await commands();
  assert.ok(names.length >= 10, names.join());
  for (const name of ['', ...names]) {
    const help = await leadctl(...(name ? [name, '--help'] : ['--help']));
    assert.deepStrictEqual([help.status, help.stderr], [0, ''], name);
    const lines = help.stdout.trimEnd().split('\n');
    assert.ok(lines.length <= SCREEN.lines, `${name}: ${lines.length} lines`);
    for (const line of lines) assert.ok(line.length <= SCREEN.columns, `${name}: ${line}`);
    if (!name) continue;
    assert.match(lines[0], new RegExp(`^leadctl ${name}: `));
    assert.match(help.stdout, new RegExp(`^usage: leadctl ${name}\\b`, 'm'));
    assert.match(help.stdout, new RegExp(`^for example: leadctl ${name}\\b`, 'm'));
    for (const same of [['help', name], [name, '-h'], ['--config', '/nonexistent', name, 'x', '--help']]) {
      assert.strictEqual((await leadctl(...same)).stdout, help.stdout, same.join(' '));
    }
  }
});

test('help --all is the help of all commands', async () => {
  const each = [];
  for (const name of await commands()) each.push((await leadctl('help', name)).stdout);
  assert.strictEqual((await leadctl('help', '--all')).stdout, each.join('\n'));
});

test('the options in the help of a command are those that it reads', async () => {
  for (const name of await commands()) {
    const { stdout } = await leadctl('help', name);
    assert.deepStrictEqual(longOptions(stdout), parsed(name), name);
    const explained = [...stdout.matchAll(/^ {2}(\S.*?) {2,}\S/gm)].map((match) => match[1]).join(' ');
    assert.deepStrictEqual(longOptions(explained), parsed(name), `${name}: what each does`);
  }
});

test('a command with an argument that it does not know ends with 64 and says how it goes', async (t) => {
  const bench = new L.Bench(t);
  bench.configure(bench.mailHere());
  for (const name of await commands()) {
    const result = await bench.leadctl(name, '--no-such-option');
    if (name === 'status') { // a plugin's answer: one line on standard output
      assert.deepStrictEqual([result.status, result.stdout], [3, 'LEADHOOK UNKNOWN: usage: leadctl status [--json]\n']);
      continue;
    }
    assert.deepStrictEqual([result.status, result.stdout], [64, ''], name);
    assert.ok(result.stderr.startsWith("leadctl: there is no option '--no-such-option'"), result.stderr);
    assert.match(result.stderr, new RegExp(`^usage: leadctl ${name}\\b[^]*\`leadctl ${name} --help\` says what they mean\n$`, 'm'));
  }
});

test('no command, or none of that name: 64 and the list of all', async () => {
  for (const [args, beginning] of [[[], 'usage: leadctl'], [['lists'], "leadctl: there is no command 'lists'\n"], [['--confg', 'x', 'list'], "leadctl: there is no option '--confg'\n"],
    [['--config'], 'leadctl: --config needs a file, and then comes the command\n'], [['help', 'lists'], "leadctl: there is no command 'lists'\n"]]) {
    const result = await leadctl(...args);
    assert.deepStrictEqual([result.status, result.stdout], [64, '']);
    assert.ok(result.stderr.startsWith(beginning), result.stderr);
    for (const name of await commands()) assert.match(result.stderr, new RegExp(`^  ${name} `, 'm'));
  }
});

test('one version: of the package, the programs, their manuals, leadctl check and /metrics; no configuration is needed to ask', async (t) => {
  const [, version] = /^leadhook \((\S+)\) /.exec(fs.readFileSync(path.join(L.top, 'deploy/debian/changelog'), 'utf8'));
  const bench = new L.Bench(t);
  bench.configure(bench.mailHere());
  for (const program of ['leadhook', 'leadctl']) {
    for (const config of [[], ['--config', '/nonexistent'], ['--config=/nonexistent']]) {
      assert.deepStrictEqual(await bench.run(program, ...config, '--version'), { status: 0, stdout: `${program} ${version}\n`, stderr: '' });
    }
  }
  const { stdout } = await bench.leadctl('check', '--json', '--nginx', 'off');
  const said = JSON.parse(stdout.split('\n')[0]);
  assert.strictEqual(said.subject, 'versions');
  assert.ok(said.text.startsWith(`leadhook/${version} libcurl/`), said.text);

  await bench.startNginx();
  await bench.startLeadhook();
  const { text } = await bench.post(undefined, { method: 'GET', path: '/metrics', type: null });
  assert.deepStrictEqual(text.match(/^leadhook_build_info.*$/mg), [`leadhook_build_info{version="${version}"} 1`]);

  for (const page of fs.readdirSync(path.join(L.top, 'deploy/man')).filter((name) => name.endsWith('.in'))) {
    const made = spawnSync('sh', ['deploy/man/fill', `deploy/man/${page}`, path.join(L.build, 'leadctl'), 'README.md'], { cwd: L.top, encoding: 'utf8' });
    assert.match(made.stdout.split('\n')[0], new RegExp(`^\\.TH \\S+ \\d "" "leadhook ${version.replace(/[.+]/g, '\\$&')}" `), page);
  }
});

test("leadhook's own help, and an argument that it does not know: it does not look at the configuration", async () => {
  for (const word of ['--help', '-h']) {
    const help = await L.Bench.prototype.run('leadhook', '--config', '/nonexistent', word);
    assert.deepStrictEqual([help.status, help.stderr], [0, '']);
    assert.match(help.stdout, /^usage: leadhook \[--config FILE\]\n/);
  }
  for (const words of [['serve'], ['--config'], ['--config', '/nonexistent', '--versions']]) {
    const refused = await L.Bench.prototype.run('leadhook', ...words);
    assert.deepStrictEqual([refused.status, refused.stdout], [64, ''], words.join(' '));
    assert.match(refused.stderr, /^usage: leadhook \[--config FILE\]\n/);
  }
});
