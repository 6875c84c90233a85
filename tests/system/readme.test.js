// README.md: every command in it is run, most of them here, and what it names is there.
//
// Commands stand in blocks marked `sh`, or behind a `$` in blocks marked `console`.  Each has its line in HERE,
// ELSEWHERE or NOWHERE; one that has none fails the test, and so does a line whose command the README has no more.
'use strict';

const assert = require('node:assert');
const { spawn, spawnSync } = require('node:child_process');
const fs = require('node:fs');
const path = require('node:path');
const L = require('./lib.js');

const { test } = L;
const read = (name) => fs.readFileSync(path.join(L.top, name), 'utf8');
const readme = read('README.md');

const BLOCK = /^( *)```(.*)\n([^]*?)^\1```$/gm;
const blocks = Array.from(readme.matchAll(BLOCK), ([, indent, kind, text]) => ({ kind, text: text.replace(new RegExp(`^${indent}`, 'gm'), '') }));
const outside = readme.replace(BLOCK, '');
const spans = Array.from(outside.matchAll(/`([^`]+)`/g), (match) => match[1].replace(/\s+/g, ' '));

// As a shell would see them: lines that go on are joined, and what a # says is left out.
const linesOf = (text) => text.replace(/ *\\\n */g, ' ').split('\n').map((line) => line.replace(/ +# .*$/, '').trim()).filter(Boolean);
const commands = blocks.flatMap(({ kind, text }) => {
  if (kind === 'console') return linesOf(text).filter((line) => line.startsWith('$ ')).map((line) => line.slice(2));
  return kind === 'sh' ? linesOf(text) : [];
});

// --- what is run elsewhere: the file that does it, and the words in it --------------------------------------------

const package_ = (line) => ['tests/package/inside', line];
const ELSEWHERE = {
  'make deb': ['Makefile', '\ntest-package: deb '],
  'sudo apt-get install ./build/leadhook_*.deb': package_("readme 'sudo apt-get install ./build/leadhook_*.deb'"),
  'sudo ln -s ../sites-available/leadhook /etc/nginx/sites-enabled/leadhook': package_("readme 'sudo ln -s ../sites-available/leadhook /etc/nginx/sites-enabled/leadhook'"),
  'spawn-fcgi -n -s /run/leadhook/leadhook.sock -M 0660 -u leadhook -g leadhook -G www-data -- /usr/bin/multiwatch -f 2 -- /usr/sbin/leadhook':
    package_("start='spawn-fcgi -n -s /run/leadhook/leadhook.sock -M 0660 -u leadhook -g leadhook -G www-data -- /usr/bin/multiwatch -f 2 -- /usr/sbin/leadhook'\n    in_readme \"$start\"\n    eval \"$start\""),
  'sudo apt-get remove leadhook': package_("'apt-get remove leadhook'"),
  'sudo apt-get purge leadhook': package_("check_now \"purged\" 'apt-get purge leadhook "),
  'sudo systemctl enable --now leadhook.socket leadhook@1 leadhook@2': ['tests/systemd/inside', "readme 'sudo systemctl enable --now leadhook.socket leadhook@1 leadhook@2'"],
  'sudo systemctl enable --now leadhook-report.timer': ['tests/systemd/inside', "readme 'sudo systemctl enable --now leadhook-report.timer'"],
  "systemctl reload 'leadhook@*'": ['tests/systemd/inside', "readme \"systemctl reload 'leadhook@*'\""],
  "supervisorctl signal HUP 'leadhook:*'": ['tests/system/restart.test.js', "await ctl('signal', 'HUP', 'leadhook:*')"],
  'sh deploy/azure/create-storage GROUP ACCOUNT LOCATION ALARM-ADDRESS': ['tests/system/azure.test.js', "'create-storage'"],
};
// What needs an account of Azure; the README says so.
const NOWHERE = ['az deployment group create --resource-group GROUP --template-file deploy/azure/storage.json --parameters storageAccountName=ACCOUNT alarmAddress=ALARM-ADDRESS'];

// --- what is run here ---------------------------------------------------------------------------------------------

const CSV = `Referral ID,Creation Date,Customer Name,Customer Contact Email Address,Lead Source,Offer ID,Offer name
r1,${new Date().toISOString()},Example,only-there@example.com,Azure Marketplace,contoso.contoso-app,Contoso App
`;
const make = (words) => `make -C ${L.top} --no-print-directory BUILD=${L.build} VARIANT=${process.env.VARIANT || 'release'} ${words}`;
const holds = (name, pattern) => (run) => assert.match(fs.readFileSync(run.bench.file(name), 'utf8'), pattern);
const says = (pattern) => (run) => assert.match(run.stdout, pattern);
// The id that stands in the README is of what the test has.
const id = (line, { id: given }) => line.replace('5f0c2a91', given.slice(0, 8));
const quarantined = async (run) => {
  const answer = await run.bench.post('{');
  assert.strictEqual(answer.code, 400, answer.text);
  run.id = answer.json.id;
};

// Of each, in an order that makes sense: the status that it ends with (else 0); edit: what has to be another here; before and
// after: what is done and seen then; input: what is typed; run: done so instead.
const HERE = {
  'sh deploy/quickstart': { run: quickstart },
  'sh deploy/quickstart stop': { run: () => {} }, // with the one before it
  'sudo sh deploy/install-packages gcc make libc6-dev pkg-config libyajl-dev libcurl4-openssl-dev libssl-dev libsqlite3-dev libseccomp-dev nginx-light ca-certificates openssl':
    { edit: (line) => line.replace('deploy/', `${L.top}/deploy/`) },
  make: { edit: () => make('all') },
  'sudo make install': { edit: (line, { bench }) => make(`install DESTDIR=${bench.file('root')}`), after: ({ bench }) => fs.accessSync(bench.file('root/usr/local/bin/leadctl')) },
  'sudo systemd-sysusers && sudo systemd-tmpfiles --create': {
    edit: (line, { bench }) => line.replace(/systemd-\w+/g, (word) => `${word} --root=${bench.file('root')}`),
    before: ({ bench }) => {
      fs.mkdirSync(bench.file('root/etc'));
      fs.writeFileSync(bench.file('root/etc/group'), 'root:x:0:\nwww-data:x:33:\n');
    },
    after: ({ bench }) => ['etc', 'var/lib', 'run'].forEach((name) => fs.accessSync(bench.file(`root/${name}/leadhook`))),
  },
  'sudo install -o root -g leadhook -m 0640 /dev/stdin /etc/leadhook/table-connection': {
    input: L.connectionString(1), edit: (line) => line.replace(' -o root -g leadhook', ''), after: holds('table-connection', /^Default.*;\n$/),
  },
  'sudo leadctl key new marketplace': { after: (run) => { run.path = run.stdout.trim(); assert.match(run.path, /^\/leads\?key=\S+$/); } },
  'sudo nginx -t': {},
  'sudo nginx -s reload': {},
  "sed -e 's/fastcgi_keep_conn on;/fastcgi_keep_conn off;/' -e 's,fastcgi_param SCRIPT_NAME .*,&\\n    fastcgi_param SCRIPT_FILENAME /usr/sbin/leadhook;,' /usr/share/leadhook/nginx/leadhook.conf >leadhook-cgi.conf":
    { edit: (line) => line.replace('/usr/share/leadhook', L.top), after: holds('leadhook-cgi.conf', /SCRIPT_FILENAME \/usr\/sbin\/leadhook;/) },
  'pkill -HUP -x leadhook': { // of this test's own, before its key is used
    edit: (line) => line.replace('-x', `-P ${process.pid} -x`),
    after: ({ bench }) => L.until('the reload', () => bench.leadhook.output().includes('event=reloaded')),
  },
  'sudo leadctl check': { after: says(/^ok +nginx +.* passes \/leads/m) },
  'sudo leadctl check --send-test-mail': { after: async ({ bench }) => assert.strictEqual((await bench.mails()).length, 2) },
  'sudo leadctl check --send-test-lead --url https://leads.example.com/leads':
    { edit: (line, { bench, path: shown }) => `LEADHOOK_TEST_KEY='${shown}' ${line.replace('https://leads.example.com', `http://127.0.0.1:${bench.port}`)}`, after: says(/answers 200 stored/) },
  'leadctl list --since 7d --no-test': {
    before: async (run) => {
      const answer = await run.bench.post(L.lead({}, { Email: 'ana@example.com' }), { key: run.path.split('=')[1] });
      assert.strictEqual(answer.code, 200, answer.text);
      run.id = answer.json.id;
      await run.bench.post(L.lead());
    },
    after: says(/ana@example\.com/),
  },
  'leadctl list --all --csv --bom --since 2026-05-01 >leads.csv': { after: holds('leads.csv', /^\ufeff[^]*ana@example\.com/) },
  'leadctl show 5f0c2a91': { edit: id, after: says(/ana@example\.com/) },
  'leadctl follow': { run: follow },
  'leadctl stats --offer contoso.contoso-app': { after: says(/contoso\.contoso-app/) },
  'leadctl offers': { after: says(/contoso\.contoso-app/) },
  'leadctl export --output leads.jsonl': { after: holds('leads.jsonl', /ana@example\.com/) },
  'leadctl export --output leads.jsonl --resume': {},
  'leadctl import leads.jsonl': {},
  'leadctl report >leads.html': { after: holds('leads.html', /^<!DOCTYPE html>[^]*ana@example\.com/i) },
  'leadctl report --week --mail': { after: async ({ bench }) => assert.ok((await bench.mails()).some((mail) => mail.parsed.attachments.length === 1)) },
  'leadctl routes --for contoso.contoso-app --action DNC --country DE': { after: says(/^told +nobody$/m) },
  'sudo LEADHOOK_MAIL_ROUTES=/etc/leadhook/routes.new leadctl routes': { before: ({ bench }) => bench.write('routes.new', 'default -> new@example.com\n'), after: says(/new@example\.com/) },
  'leadctl reconcile - <partner.csv': { before: ({ bench }) => bench.write('partner.csv', CSV, 0o644), status: 1, after: says(/missing/) },
  'leadctl reconcile - --import <partner.csv': { after: says(/^imported 1 of 1/m) },
  'leadctl reconcile partner.csv --json': { after: says(/"missing":0/) },
  'leadctl quarantine list': { before: quarantined, after: (run) => says(new RegExp(run.id.slice(0, 8)))(run) },
  'leadctl quarantine show 5f0c2a91 >body.json': { edit: id, after: holds('body.json', /^\{$/) },
  'leadctl quarantine resubmit 5f0c2a91 --file - <body.json': { before: ({ bench }) => bench.write('body.json', L.lead()), edit: id },
  'leadctl quarantine drop 5f0c2a91': { before: quarantined, edit: id },
  'sudo leadctl key list': { after: says(/^marketplace +key .* live /m) },
  'sudo leadctl key new marketplace-2027': {},
  'sudo leadctl key retire marketplace --at 2026-12-31': { edit: (line) => line.replace('2026', new Date().getUTCFullYear() + 1) },
  'leadctl status': { after: says(/^LEADHOOK OK: /) },
  "sqlite3 /var/lib/leadhook/leads.db 'SELECT ReceivedTime, Offer, Email FROM leads'": { after: says(/^20\S+\|contoso\.contoso-app\|ana@example\.com$/m) },
  "sqlite3 /var/lib/leadhook/leads.db \"SELECT row_key, properties FROM entity WHERE partition_key = 'quarantine'\"": {},
  'leadctl purge --older-than 180d': {},
  'leadctl purge --older-than 180d --yes': {},
  'leadctl person export ana@example.com >ana.json': { after: holds('ana.json', /ana@example\.com/) },
  'leadctl person erase ana@example.com': {},
  'leadctl person erase ana@example.com --yes': { after: async ({ bench }) => assert.ok(!(await bench.list()).some((row) => row.Email === 'ana@example.com')) },
};

// With what is built here already, and a port and folder of its own; what it says can be done then is done, too.
async function quickstart({ bench, shell }) {
  if (L.isInstrumented) return; // it builds the ordinary programs
  for (const name of ['Makefile', 'README.md', 'handler', 'lib', 'nginx', 'deploy']) fs.symlinkSync(path.join(L.top, name), bench.file(`quick/${name}`));
  fs.mkdirSync(bench.file('quick/build'));
  fs.symlinkSync(L.build, bench.file('quick/build/release'));
  const environment = { PORT: String(await L.freePort()) };
  const here = { cwd: bench.file('quick'), environment };
  bench.stops.push(async () => { await shell('sh deploy/quickstart stop', here); });
  const begun = await shell('sh deploy/quickstart', here);
  assert.strictEqual(begun.status, 0, begun.stdout + begun.stderr);
  for (const pattern of [/"status":"stored"/, /ana@example\.com .* test$/m, /^Subject: \[TEST\] /m]) assert.match(begun.stdout, pattern);
  const next = linesOf(begun.stdout.split('What to do now')[1]).flatMap((line) => line.match(/(?<=^| )(?:curl|build\/release\/leadctl|ls) .*/) || []);
  assert.deepStrictEqual(next.length, 5, begun.stdout);
  for (const line of next) {
    const done = await shell(line, here);
    assert.strictEqual(done.status, 0, `${line}\n${done.stdout}${done.stderr}`);
  }
  assert.strictEqual((await shell('sh deploy/quickstart stop', here)).status, 0);
  await L.until('its end', async () => !await L.isListening(Number(environment.PORT)));
}

async function follow({ bench, environment }) {
  const child = spawn(path.join(L.build, 'leadctl'), ['follow'], { env: { ...process.env, ...environment }, stdio: ['ignore', 'pipe', 'inherit'] });
  let shown = '';
  child.stdout.on('data', (text) => { shown += text; });
  const ended = new Promise((resolve) => child.on('exit', resolve));
  let number = 0;
  await L.until('a lead', async () => {
    assert.strictEqual((await bench.post(L.lead({}, { Email: `follow${number++}@example.com` }))).code, 200);
    return shown.includes('follow');
  });
  child.kill('SIGINT');
  assert.strictEqual(await ended, 0);
}

// An operator's machine, as far as the README says what is on it: nginx, leadhook with sqlite and a Maildir, sudo.
async function machine(t) {
  const bench = new L.Bench(t);
  for (const name of ['bin', 'quick', 'root']) fs.mkdirSync(bench.file(name));
  const shim = (name, text) => fs.chmodSync(bench.write(`bin/${name}`, `#!/bin/sh\n${text}\n`), 0o755);
  shim('sudo', 'exec env "$@"');
  shim('nginx', `PATH=/usr/sbin:/usr/bin:/bin\nexec nginx -p '${bench.dir}' -c '${bench.file('nginx.conf')}' -e '${bench.file('error.log')}' "$@"`);
  const routes = blocks.find(({ text }) => text.includes('-> off')).text;
  bench.configure({ ...bench.mailHere(), alarm_to: 'operator@example.com', mail_per_minute: 6000, mail_routes: bench.write('routes', routes) });
  await bench.startNginx();
  await bench.startLeadhook();
  const environment = { LEADHOOK_CONFIG: bench.config, PATH: `${bench.file('bin')}:${L.build}:${process.env.PATH}`, PAGER: 'cat' };
  const shell = (line, { input = '', cwd = bench.dir, environment: more = {} } = {}) => new Promise((resolve) => {
    // Typed into a pipe: behind a socket, which node makes, /dev/stdin cannot be opened.
    const child = spawn('sh', ['-c', input ? `printf '%s\\n' "$INPUT" | ${line}` : line], { cwd, env: { ...process.env, ...environment, ...more, INPUT: input }, stdio: ['ignore', 'pipe', 'pipe'] });
    const result = { stdout: '', stderr: '' };
    for (const name of ['stdout', 'stderr']) child[name].setEncoding('utf8').on('data', (text) => { result[name] += text; });
    child.on('close', (status) => resolve({ ...result, status }));
  });
  return { bench, environment, shell };
}

// --- the tests ----------------------------------------------------------------------------------------------------

test('every command is run somewhere, and nothing is said to be that is not in the README', () => {
  const known = [...Object.keys(HERE), ...Object.keys(ELSEWHERE), ...NOWHERE];
  assert.deepStrictEqual(commands.filter((line) => !known.includes(line)), [], 'nobody runs these');
  assert.deepStrictEqual(known.filter((line) => !commands.includes(line)), [], 'these are in the README no more');
  for (const [line, [file, words]] of Object.entries(ELSEWHERE)) assert.ok(read(file).includes(words), `${file} does not run: ${line}`);
  assert.ok(NOWHERE.every((line) => line.startsWith('az ')));
  assert.match(readme, /against Azure itself they were not run/);
});

test('commands stand in blocks for them', () => {
  const isCommand = /^ *(\$ |sudo |sh |make\b|leadctl |systemctl |apt-get |curl |az )/m;
  for (const { kind, text } of blocks) {
    assert.ok(['sh', 'console', 'text', 'nginx', 'ini'].includes(kind), `a block of kind '${kind}'`);
    if (!['sh', 'console'].includes(kind)) assert.doesNotMatch(text, isCommand, text);
  }
  assert.doesNotMatch(outside, /^ {4,}(sudo|sh|make|leadctl|systemctl|curl) .*$/m);
  assert.ok(!outside.includes('```'), 'a block has no end');
});

test('the commands do what they should', async (t) => {
  const run = await machine(t);
  for (const [line, command] of Object.entries(HERE)) {
    if (command.before) await command.before(run);
    if (command.run) {
      await command.run(run);
      continue;
    }
    const edited = (command.edit ? command.edit(line, run) : line).replace(/\/(etc|var\/lib)\/leadhook\//, `${run.bench.dir}/`);
    const done = await run.shell(edited, { input: command.input });
    assert.strictEqual(done.status, command.status || 0, `${edited}\n${done.stdout}${done.stderr}`);
    Object.assign(run, done);
    if (command.after) await command.after(run);
  }
});

test('what it says of leadctl elsewhere: there is such a command, and it takes these options', () => {
  const help = (name) => spawnSync(path.join(L.build, 'leadctl'), ['help', ...name], { encoding: 'utf8' });
  const mentions = spans.map((span) => /^(?:sudo )?leadctl ([a-z]+)(.*)$/.exec(span)).filter(Boolean);
  assert.ok(mentions.length > 40);
  for (const [span, name, rest] of mentions) {
    if (name === 'help') continue;
    const { status, stdout } = help([name]);
    assert.strictEqual(status, 0, span);
    for (const [option] of rest.matchAll(/(?<![\w-])--?[a-z][a-z-]*/g)) assert.ok(stdout.includes(option), span);
    const [word] = /(?<=^ )[a-z]+/.exec(rest) || [];
    if (word) assert.match(stdout, new RegExp(`^ *(usage: )?leadctl ${name}\\b.*\\b${word}\\b`, 'm'), span);
  }
});

test('what it names is there: files, targets of make, sections, alarms, metrics', () => {
  const tracked = (name) => fs.existsSync(path.join(L.top, name));
  const named = spans.flatMap((span) => span.split(/[\s=]+/)).filter((word) => /^(deploy|nginx|lib|handler|tests)\/[\w./-]+$/.test(word));
  assert.ok(named.length > 10);
  assert.deepStrictEqual(named.filter((name) => !tracked(name)), []);
  const targets = spans.flatMap((span) => span.match(/^make ([a-z-]+)/)?.[1] || []);
  assert.ok(targets.length > 15);
  for (const target of targets) assert.match(read('Makefile'), new RegExp(`^${target}:`, 'm'));

  const anchorOf = (title) => title.toLowerCase().replace(/[^\w\- ]/g, '').replace(/ /g, '-');
  const anchors = Array.from(outside.matchAll(/^#+ (.*)$/gm), (match) => anchorOf(match[1]));
  assert.strictEqual(new Set(anchors).size, anchors.length);
  for (const [, anchor] of outside.matchAll(/\]\(#([^)]+)\)/g)) assert.ok(anchors.includes(anchor), `no section #${anchor}`);
  const contents = outside.slice(0, outside.indexOf('\n## '));
  for (const [, title] of outside.matchAll(/^## (.*)$/gm)) assert.ok(contents.includes(`(#${anchorOf(title)})`), `${title} is not in the contents`);

  const alarms = Array.from(read('lib/store/alarm_words.c').matchAll(/\[ALARM_\w+\] = "([a-z-]+)"/g), (match) => match[1]).filter((name) => !name.endsWith('-over'));
  assert.ok(alarms.length > 10);
  assert.deepStrictEqual(alarms.filter((name) => !spans.includes(name)), []);

  const metrics = fs.readdirSync(path.join(L.top, 'handler')).filter((name) => name.startsWith('metrics')).map((name) => read(`handler/${name}`)).join('');
  for (const name of new Set(readme.match(/leadhook_[a-z_]+(?=[`{])/g))) assert.ok(metrics.includes(name), name);
  for (const [, name] of metrics.matchAll(/"(leadhook_[a-z]+_[a-z_]+)[" {]/g)) assert.ok(readme.includes(name) || readme.includes(name.replace('leadhook_spool_', '`_')), `${name} is not in the README`);
  const sources = ['handler', 'lib'].flatMap((folder) => fs.readdirSync(path.join(L.top, folder), { recursive: true }).filter((name) => name.endsWith('.c')).map((name) => read(`${folder}/${name}`))).join('');
  for (const [, event] of readme.matchAll(/event=([a-z-]+)/g)) assert.ok(sources.includes(`"${event}"`) || sources.includes(`event=${event}`), `event=${event}`);
});
