// The manual pages and bash's completion: what they say of settings, commands and
// options is what the programs take.
'use strict';

const assert = require('node:assert');
const { spawnSync } = require('node:child_process');
const fs = require('node:fs');
const path = require('node:path');
const L = require('./lib.js');

const { test } = L;
const leadctl = path.join(L.build, 'leadctl');
const read = (name) => fs.readFileSync(path.join(L.top, name), 'utf8');

function run(program, args, environment = {}, input = '') {
  const result = spawnSync(program, args, { encoding: 'utf8', cwd: L.top, input, env: { ...process.env, ...environment } });
  assert.strictEqual(result.error, undefined);
  return { status: result.status, text: result.stdout, errors: result.stderr };
}

// As it is read, in lines that are never broken; fails when troff has something to say.
function page(name) {
  const made = run('make', ['--no-print-directory', 'man', `BUILD=${L.build}`, `VARIANT=${process.env.VARIANT || 'release'}`]);
  assert.strictEqual(made.status, 0, made.errors);
  const shown = run('man', ['--warnings', '--encoding=UTF-8', '--no-hyphenation', '-l', path.join(L.build, 'man', name)],
    { MANWIDTH: '5000', MAN_KEEP_FORMATTING: '', MANPAGER: 'cat', LC_ALL: 'C.UTF-8' });
  assert.deepStrictEqual([shown.status, shown.errors], [0, ''], name);
  return shown.text;
}
// The words of one section, with single blanks; a heading is what is not indented.
function section(text, title) {
  const found = new RegExp(`^${title}\n((?: .*\n|\n)*)`, 'm').exec(text);
  assert.ok(found, title);
  return found[1].trim().replace(/\s+/g, ' ');
}
const commands = () => Array.from(run(leadctl, ['help']).text.matchAll(/^ {2}([a-z-]+) {2}/mg), (match) => match[1]);

test('leadhook.conf(5) has every setting of the table in config.c, in its order, and what the README says of it', () => {
  const names = Array.from(read('handler/config.c').matchAll(/^ *\{AT\((\w+)\)/mg), (match) => match[1]);
  assert.ok(names.length > 30);
  let rest = section(page('leadhook.conf.5'), 'SETTINGS');
  for (const name of names) {
    const [, otherwise, meaning] = new RegExp(`^\\| \`${name}\` \\| (.*) ?\\| (.*) \\|$`, 'm').exec(read('README.md'));
    const entry = `${name}${otherwise.trim() ? ` (default: ${otherwise.trim()})` : ''} ${meaning[0].toUpperCase()}${meaning.slice(1)}. `.replace(/`/g, '');
    assert.strictEqual(`${rest} `.slice(0, entry.length), entry);
    rest = rest.slice(entry.length);
  }
  assert.strictEqual(rest, '');
});

test('leadctl(1) has the whole help of every command, and every option that the sources read', () => {
  const text = section(page('leadctl.1'), 'COMMANDS');
  const source = fs.readFileSync(path.join(L.build, 'man/leadctl.1'), 'utf8');
  assert.deepStrictEqual(Array.from(source.matchAll(/^\.SS leadctl (.*)$/mg), (match) => match[1]), commands());
  const words = new Set(text.split(/[^A-Za-z0-9_-]+/));
  const missing = run(leadctl, ['help', '--all']).text.replace(/^(usage|for example):/mg, '').split(/[^A-Za-z0-9_-]+/)
    .filter((word) => word && !words.has(word) && !words.has(word[0].toUpperCase() + word.slice(1)));
  assert.deepStrictEqual(missing, []);
  const options = fs.readdirSync(path.join(L.top, 'handler/ctl'), { recursive: true }).filter((name) => name.endsWith('.c') && !['main.c', 'commands.c', 'screen.c'].includes(name))
    .flatMap((name) => Array.from(read(`handler/ctl/${name}`).matchAll(/"(--?[a-z][a-z-]*)"/g), (match) => match[1]));
  assert.ok(options.length > 10);
  assert.deepStrictEqual(options.filter((option) => !words.has(option)), []);
});

test('leadhook(8) is a page without a mistake, and names the signals and exit statuses of the program', () => {
  const text = page('leadhook.8');
  const head = /^\/\*[^]*?\*\//.exec(read('handler/main.c'))[0];
  for (const [word] of head.matchAll(/SIG[A-Z0-9]+|\b(6[4-9]|7[0-8])\b/g)) assert.ok(text.includes(word), word);
});

test('leadctl(1) and the head of its program have every exit status that the sources give', () => {
  const numbers = new Map(Array.from(fs.readFileSync('/usr/include/sysexits.h', 'utf8').matchAll(/^#define (EX_[A-Z]+)\s+(\d+)/mg), ([, name, number]) => [name, number]));
  const sources = fs.readdirSync(path.join(L.top, 'handler/ctl'), { recursive: true }).filter((name) => name.endsWith('.c')).map((name) => read(`handler/ctl/${name}`));
  const used = new Set(sources.flatMap((text) => text.match(/\bEX_(?!OK)[A-Z]+/g) || []).map((name) => numbers.get(name)));
  assert.ok(used.size >= 8, [...used].join());
  const [told, head] = [section(page('leadctl.1'), 'EXIT STATUS'), /^\/\*[^]*?\*\//.exec(read('handler/ctl/main.c'))[0]];
  for (const text of [told, head]) assert.deepStrictEqual([...new Set(text.match(/\b(6[4-9]|7[0-8])\b/g))].sort(), [...used].sort());
});

// What is offered behind these words, the last of which has only begun.
function complete(...words) {
  const script = `. /usr/share/bash-completion/bash_completion; . deploy/completion/leadctl
    PATH=${L.build}:$PATH; COMP_WORDS=(leadctl "$@"); COMP_CWORD=$#; COMP_LINE="leadctl $*"; COMP_POINT=\${#COMP_LINE}
    _leadctl leadctl "\${COMP_WORDS[COMP_CWORD]}" "\${COMP_WORDS[COMP_CWORD - 1]}"; printf '%s\\n' "\${COMPREPLY[@]}"`;
  const { status, text, errors } = run('bash', ['-c', script, 'bash', ...words]);
  assert.deepStrictEqual([status, errors], [0, '']);
  return [...new Set(text.split('\n').filter(Boolean))].sort();
}

test('completion offers what leadctl takes', () => {
  assert.deepStrictEqual(complete(''), [...commands(), 'help', '--config', '--help', '--version'].sort());
  assert.deepStrictEqual(complete('sta'), commands().filter((name) => name.startsWith('sta')));
  assert.deepStrictEqual(complete('help', 'sp'), ['spool']);
  assert.deepStrictEqual(complete('--config', 'deploy/leadhook.conf.'), ['deploy/leadhook.conf.example']);
  assert.deepStrictEqual(complete('--config', 'deploy/leadhook.conf.example', 'key', ''), ['--at', '--help', '--signing', 'list', 'new', 'retire']);
  assert.deepStrictEqual(complete('quarantine', ''), ['--file', '--help', 'drop', 'list', 'resubmit', 'show']);
  assert.deepStrictEqual(complete('spool', ''), ['--help', 'acknowledge', 'list']);
  assert.deepStrictEqual(complete('key', 'retire', 'li'), [], 'a name, not a word of the usage');
  assert.deepStrictEqual(complete('key', 'retire', 'market', '--s'), ['--signing']);
  assert.deepStrictEqual(complete('quarantine', 'resubmit', 'x', '--file', 'deploy/inst'), ['deploy/install-packages']);
  for (const name of commands()) {
    const options = Array.from(run(leadctl, ['help', name]).text.matchAll(/^ {2}(--?[a-z][a-z-]*)/mg), (match) => match[1]);
    const offered = complete(name, '-');
    assert.deepStrictEqual(options.filter((option) => !offered.includes(option)), [], name);
  }
});
