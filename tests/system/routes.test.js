// Mail routes: who is told of which lead, on both stores, with a real SMTP server, in the sandbox.
'use strict';

const assert = require('node:assert');
const { execFile, spawnSync } = require('node:child_process');
const fs = require('node:fs');
const L = require('./lib.js');

const { test } = L;
const TABLE = 'MarketplaceLeads';
const STARTS_MS = 30000; // a leadhook that should have ended at once

const ROUTES = `# who is told
offer=contoso.* action=DNC -> off
offer="The Other, App" -> other@contoso.example
country=DE,AT,"United States" -> dach@contoso.example, Lead <lead@contoso.example>
campaign=*sale* -> spring@contoso.example
test=yes -> tests@contoso.example
`;

const STORES = {
  sqlite: {
    async prepare() { return {}; },
    async rows(bench) { return bench.entities(); },
  },
  table: {
    prepare(bench) { return bench.startTable(); },
    async rows(bench) {
      return (await L.rows(bench.azurite.port, TABLE)).map((row) =>
        Object.fromEntries(Object.entries(row).map(([name, value]) => [name, value && value.value !== undefined ? value.value : value])));
    },
  },
};

// A new file takes the place of the old one at once, as editors and programs do it.
function replace(bench, text, name = 'routes', mode = 0o644) {
  bench.write(`${name}.new`, text, mode);
  fs.renameSync(bench.file(`${name}.new`), bench.file(name));
}

// Sends SIGHUP and gives what leadhook says of it.
async function reload(bench) {
  const said = () => bench.leadhook.output().match(/event=(reloaded|reload-refused) .*/g) || [];
  const before = said().length;
  bench.leadhook.child.kill('SIGHUP');
  return L.until('the reload', () => said()[before]);
}

// Runs leadhook as a CGI program for one lead.  Not spawnSync: the proxy before the table runs in this process.
function cgi(bench, body) {
  return new Promise((resolve) => {
    const child = execFile(`${L.build}/leadhook`, ['--config', bench.config], { env: {
      REQUEST_METHOD: 'POST', SCRIPT_NAME: '/leads', QUERY_STRING: `key=${L.KEY}`, CONTENT_LENGTH: String(Buffer.byteLength(body)) } },
    (error, stdout, stderr) => resolve({ status: error ? error.code : 0, stdout, stderr }));
    child.stdin.on('error', () => {}); // it may end before it has read all
    child.stdin.end(body);
  });
}

for (const [name, store] of Object.entries(STORES)) {
  const on = (what, body) => test(`${name}: ${what}`, body);
  const setUp = async (t, settings = {}, routes = ROUTES) => {
    const bench = new L.Bench(t);
    const where = await store.prepare(bench);
    bench.smtp = await L.startSmtp(bench);
    replace(bench, routes);
    bench.configure({ ...where, ...bench.smtp.settings(), mail_routes: bench.file('routes'), ...settings });
    await bench.startNginx();
    return bench;
  };
  const row = async (bench, id) => (await store.rows(bench)).find((each) => L.isLead(each) && each.LastDeliveryId === id);
  // To whom the mails of a delivery went, when none is left to send.
  const told = async (bench, id) => {
    await L.until(`the mails of ${id}`, async () => !(await store.rows(bench)).some((each) => L.isMail(each) && each.rowKey.includes(id)));
    return bench.smtp.mails.filter((mail) => mail.parsed.headers.get('x-lead-id') === id).map((mail) => mail.parsed.to.text).sort();
  };
  // Posts a lead; gives to whom its mails went.
  const post = async (bench, body) => {
    const answer = await bench.post(body);
    assert.strictEqual(answer.code, 200, answer.text);
    return { id: answer.json.id, told: await told(bench, answer.json.id) };
  };

  on('each lead goes to those whom the first rule that matches it names', async (t) => {
    const bench = await setUp(t, { repeat_window_s: 0, withhold_domains: '.edu' });
    await bench.startLeadhook();
    const dach = ['dach@contoso.example', 'lead@contoso.example'];
    const campaign = JSON.stringify({ mktcmpid: 'Spring-Sale-7' });
    const back = L.lead({}, { Country: 'AT' });
    const cases = [
      ['no rule', L.lead(), ['sales@example.com']],
      ['offer and action', L.lead({ ActionCode: 'dnc' }, { Country: 'DE' }), []],
      ['one of two conditions', L.lead({ ActionCode: 'DNC', LeadSource: 'AzureMarketplace-DNC|fabrikam.app' }), ['sales@example.com']],
      ['title', L.lead({ OfferTitle: 'the other, APP', LeadSource: 'AzureMarketplace-INS|x.y' }, { Country: 'DE' }), ['other@contoso.example']],
      ['country', L.lead({}, { Country: ' de' }), dach],
      ['country of two words', L.lead({}, { Country: 'united states' }), dach],
      ['campaign', L.lead({ Description: campaign }), ['spring@contoso.example']],
      ['a test', L.lead({ Description: 'MSFT_TEST_1' }), ['tests@contoso.example']],
      ['a test as any other', L.lead({ Description: 'MSFT_TEST_1' }, { Country: 'AT' }), dach],
      ['it comes', back, dach],
      ['it comes back', back, dach],
      ['withheld: the country stays', L.lead({}, { Country: 'DE', Email: 'ana@example.edu' }), dach],
      ['withheld: a campaign with an address in it does not', L.lead({ Description: JSON.stringify({ mktcmpid: 'sale-x@example.edu' }) }, { Email: 'x@example.edu' }),
        ['sales@example.com']],
      ['withheld: nor does a country that is an address', L.lead({}, { Country: 'x@example.edu' }), ['sales@example.com']],
    ];
    for (const [what, body, want] of cases) {
      const { id, told: got } = await post(bench, body);
      assert.deepStrictEqual(got, want, what);
      assert.strictEqual(Boolean((await L.until('the row', () => row(bench, id))).NotifiedTime), want.length > 0, what);
    }
    const subjects = bench.smtp.mails.map((mail) => mail.parsed.subject);
    assert.strictEqual(subjects.filter((subject) => /^\[CAME BACK\]/.test(subject)).length, 2);
    assert.strictEqual(bench.smtp.mails.length, cases.reduce((sum, [, , want]) => sum + want.length, 0), 'nobody else');
  });

  on('a new file is in force from the reload on, and one with a mistake never', async (t) => {
    const bench = await setUp(t);
    await bench.startLeadhook();
    const body = () => L.lead({}, { Country: 'DE' });
    replace(bench, 'country=DE -> new@contoso.example\ndefault -> off\n');
    assert.strictEqual((await post(bench, body())).told.length, 2, 'not before');
    assert.match(await reload(bench), /^event=reloaded .*routes=2/);
    assert.deepStrictEqual((await post(bench, body())).told, ['new@contoso.example']);
    assert.deepStrictEqual((await post(bench, L.lead())).told, []);
    const refused = {
      'a mistake': ['country=DE -> a@b\ncountry -> b@c\n', new RegExp(`${bench.file('routes')}:2: 'country' is no condition`)],
      'what others may change': ['default -> off\n', /others may write to it: it has mode 0666/, 0o666],
    };
    for (const [what, [text, says, mode]] of Object.entries(refused)) {
      replace(bench, text);
      if (mode) fs.chmodSync(bench.file('routes'), mode);
      const said = await reload(bench);
      assert.match(said, /^event=reload-refused/, what);
      assert.match(said, says, what);
      assert.deepStrictEqual((await post(bench, body())).told, ['new@contoso.example'], what);
    }
    fs.rmSync(bench.file('routes'));
    assert.match(await reload(bench), /event=reload-refused .*cannot open '.*routes'/);
    assert.deepStrictEqual((await post(bench, body())).told, ['new@contoso.example'], 'no file');
    // Another name, and none at all.
    replace(bench, 'country=DE -> elsewhere@contoso.example\n', 'others');
    bench.configure({ ...bench.settings, mail_routes: bench.file('others') });
    assert.match(await reload(bench), /^event=reloaded/);
    assert.deepStrictEqual((await post(bench, body())).told, ['elsewhere@contoso.example']);
    bench.configure({ ...bench.settings, mail_routes: null });
    assert.match(await reload(bench), /^event=reloaded .*routes=0/);
    assert.deepStrictEqual((await post(bench, body())).told, ['sales@example.com']);
    assert.ok(!bench.leadhook.output().includes('contoso.example'), 'no address in the log');
  });

  on('plain CGI, and leadctl relay, know the routes', async (t) => {
    const bench = await setUp(t);
    const ids = [];
    for (const body of [L.lead(), L.lead({}, { Country: 'AT' }), L.lead({ ActionCode: 'DNC' })]) {
      const { stdout, stderr } = await cgi(bench, body);
      assert.match(stdout, /^Status: 200 /, stderr);
      ids.push(JSON.parse(stdout.slice(stdout.indexOf('{'))).id);
    }
    const relay = await bench.leadctl('relay', '--once');
    assert.strictEqual(relay.status, 0, relay.stderr);
    const all = [];
    for (const id of ids) all.push(await told(bench, id));
    assert.deepStrictEqual(all, [['sales@example.com'], ['dach@contoso.example', 'lead@contoso.example'], []]);
    replace(bench, 'x\n');
    const broken = [await cgi(bench, L.lead()), await bench.leadctl('relay', '--once'), await bench.leadctl('quarantine', 'resubmit', '12345678')];
    for (const { status, stdout, stderr } of broken) {
      assert.deepStrictEqual([status, stdout], [78, '']);
      assert.match(stderr, new RegExp(`^lead(hook|ctl): ${bench.file('routes')}:1: not of the form`));
    }
    // What makes no mails does not need them.
    for (const command of [['list'], ['status'], ['quarantine', 'list']]) {
      const { status, stderr } = await bench.leadctl(...command);
      assert.ok(status !== 78 && !stderr.includes('routes'), `${command}: ${status} ${stderr}`);
    }
  });

  on('a payload out of quarantine goes the way of the lead that it becomes', async (t) => {
    const bench = await setUp(t);
    await bench.startLeadhook();
    const answer = await bench.post(`${L.lead({}, { Country: 'DE' })} oops`);
    assert.strictEqual(answer.code, 400);
    const { id } = answer.json;
    const resubmit = await bench.leadctl('quarantine', 'resubmit', id, '--file', bench.write('good', L.lead({}, { Country: 'DE' })));
    assert.strictEqual(resubmit.status, 0, resubmit.stderr);
    assert.deepStrictEqual(await told(bench, id), ['dach@contoso.example', 'lead@contoso.example']);
  });

  on('what is imported goes by the routes of now', async (t) => {
    const bench = await setUp(t, {}, 'default -> off\n');
    await bench.startLeadhook();
    const ids = [];
    for (const country of ['DE', 'US']) ids.push((await post(bench, L.lead({}, { Country: country, Email: `${country}@example.com` }))).id);
    const kept = bench.write('kept.jsonl', (await bench.leadctl('export')).stdout);
    for (const country of ['DE', 'US']) assert.strictEqual((await bench.leadctl('person', 'erase', `${country}@example.com`, '--yes')).status, 0);
    replace(bench, ROUTES);
    assert.strictEqual((await bench.leadctl('import', kept, '--mail')).stdout, '2 leads added, 0 there already, 3 mails to be sent\n');
    assert.deepStrictEqual(await told(bench, ids[0]), ['dach@contoso.example', 'lead@contoso.example']);
    assert.deepStrictEqual(await told(bench, ids[1]), ['sales@example.com']);

    const missing = (country) => `${new Date().toISOString()},missing-${country}@example.com,Example,${country},contoso.app\r\n`;
    const file = bench.write('partner.csv', `Created,Email,Company,Country,Offer ID\r\n${missing('AT')}${missing('US')}`, 0o644);
    const result = await bench.leadctl('reconcile', file, '--import', '--mail');
    assert.match(result.stdout, /imported 2 of 2/, result.stderr);
    const rest = () => bench.smtp.mails.slice(3).map((mail) => mail.parsed.to.text).sort();
    await L.until('their mails', () => rest().length >= 3);
    assert.deepStrictEqual(rest(), ['dach@contoso.example', 'lead@contoso.example', 'sales@example.com']);
  });

  on('leadctl routes lists them, and says which one a lead would match', async (t) => {
    const bench = await setUp(t);
    const list = await bench.leadctl('routes');
    assert.strictEqual(list.status, 0, list.stderr);
    assert.strictEqual(list.stdout, ['     2  offer=contoso.* action=DNC -> off', '     3  offer="The Other, App" -> other@contoso.example',
      '     4  country=DE,AT,"United States" -> dach@contoso.example, lead@contoso.example', '     5  campaign=*sale* -> spring@contoso.example',
      '     6  test=yes -> tests@contoso.example', '     -  all others -> sales@example.com (mail_to)', ''].join('\n'));
    const ask = async (...words) => {
      const result = await bench.leadctl('routes', '--for', ...words);
      assert.strictEqual(result.status, 0, result.stderr);
      return { ...result, line: Number((/^rule  .*:(\d+): /m.exec(result.stdout) || [0, 0])[1]), told: /^told  (.*)$/m.exec(result.stdout)[1] };
    };
    const dach = 'dach@contoso.example, lead@contoso.example';
    const cases = [
      [['contoso.app', '--action', 'dnc'], 2, 'nobody'],
      [['contoso.app', '--country', 'at'], 4, dach],
      [['Contoso.App', '--campaign', 'Summer Sale'], 5, 'spring@contoso.example'],
      [['contoso.app', '--test'], 6, 'tests@contoso.example'],
      [['contoso.app', '--test', '--country', 'United States'], 4, dach],
      [['contoso.app'], 0, 'sales@example.com (mail_to)'],
      [['the other, app'], 3, 'other@contoso.example'],
      [['x.y'], 0, 'sales@example.com (mail_to)'],
    ];
    for (const [words, line, who] of cases) {
      const got = await ask(...words);
      assert.deepStrictEqual([got.line, got.told], [line, who], words.join(' '));
      assert.match(got.stderr, /no lead of '.*' has come yet/);
    }
    // When a lead has come both of an offer's names are known.
    await bench.startLeadhook();
    await post(bench, L.lead({ OfferTitle: 'The other, App', LeadSource: 'AzureMarketplace-INS|x.y' }));
    await post(bench, L.lead({ OfferTitle: 'App of Contoso' }));
    for (const [words, line] of [[['x.y'], 3], [['X.Y'], 3], [['THE OTHER, APP'], 3], [['app of contoso', '--action', 'DNC'], 2]]) {
      const got = await ask(...words);
      assert.deepStrictEqual([got.line, got.stderr], [line, ''], words.join(' '));
    }
    for (const words of [['x'], ['--for'], ['--for', ' '], ['--action', 'DNC'], ['--test'], ['--for', 'a', '--country'], ['--for', 'a', 'b']]) {
      const wrong = await bench.leadctl('routes', ...words);
      assert.deepStrictEqual([wrong.status, wrong.stdout], [64, ''], words.join(' '));
      assert.match(wrong.stderr, /^usage: leadctl routes /);
    }
    const help = await bench.leadctl('routes', '--help');
    assert.deepStrictEqual([help.status, help.stderr], [0, '']);
    assert.match(help.stdout, /^usage: leadctl routes \[--for OFFER/m);
  });
}

test('mistakes: each with its line, and no socket is opened', async (t) => {
  const bench = new L.Bench(t);
  bench.configure({ ...bench.mailHere(), mail_routes: bench.file('routes') });
  replace(bench, 'offre=a -> a@b\n\ndefault -> nobody\n');
  const lines = [`${bench.file('routes')}:1: 'offre' is no condition: there are offer, action, country, campaign and test`,
    `${bench.file('routes')}:3: not a mail address: one of the form name@example.com is needed`];
  const started = spawnSync(`${L.build}/leadhook`, ['--config', bench.config], { encoding: 'utf8', timeout: STARTS_MS });
  assert.deepStrictEqual([started.status, started.stderr], [78, lines.map((line) => `leadhook: ${line}\n`).join('')]);
  assert.ok(!fs.existsSync(bench.settings.listen));
  const listed = await bench.leadctl('routes');
  assert.deepStrictEqual([listed.status, listed.stdout, listed.stderr], [78, '', lines.map((line) => `leadctl: ${line}\n`).join('')]);
  const checked = await bench.leadctl('check', '--nginx', 'off');
  assert.strictEqual(checked.status, 1);
  for (const line of lines) assert.ok(checked.stdout.includes(`FAIL  routes         ${line}\n`), checked.stdout);
  // A file can be tried before it is put in the place of the old one.
  replace(bench, 'default -> off\n', 'other');
  const tried = spawnSync(`${L.build}/leadctl`, ['--config', bench.config, 'routes'], { encoding: 'utf8', env: { ...process.env, LEADHOOK_MAIL_ROUTES: bench.file('other') } });
  assert.deepStrictEqual([tried.status, tried.stdout, tried.stderr], [0, '     1  default -> off\n', '']);
  fs.rmSync(bench.file('routes'));
  assert.match((await bench.leadctl('check', '--nginx', 'off')).stdout, /^FAIL +routes +cannot open '.*routes': No such file/m);
});

test('without mail_to there has to be a default', async (t) => {
  const bench = new L.Bench(t);
  bench.configure({ ...bench.mailHere(), mail_to: null, mail_routes: bench.file('routes') });
  replace(bench, 'country=DE -> a@example.com\n');
  const start = () => spawnSync(`${L.build}/leadhook`, ['--config', bench.config], { encoding: 'utf8', timeout: STARTS_MS });
  assert.deepStrictEqual([start().status, start().stderr], [78, `leadhook: ${bench.file('routes')}: who is told of leads that no rule matches? `
    + "mail_to is not set, so the last line must be 'default -> ADDRESSES' or 'default -> off'\n"]);
  replace(bench, 'country=DE -> a@example.com\ndefault -> b@example.com\n');
  await bench.startNginx();
  await bench.startLeadhook();
  const check = (await bench.leadctl('check', '--nginx', 'off')).stdout;
  assert.match(check, /^ok +routes +2 in /m);
  assert.match(check, /^ok +mail +maildir:\S+ can be written; mail_routes name the recipients$/m);
  const { json } = await bench.post(L.lead());
  await L.until('the mail', () => bench.maildir().length === 1);
  assert.strictEqual((await bench.mails())[0].parsed.headers.get('x-lead-id'), json.id);
  // Nor may it go at a reload.
  bench.configure({ ...bench.settings, mail_to: 'c@example.com', mail_routes: null });
  assert.match(await reload(bench), /^event=reload-refused .*mail_routes: who is told/);
  replace(bench, 'default -> off\n');
  bench.configure({ ...bench.settings, mail_url: 'off', mail_to: null, mail_routes: bench.file('routes') });
  const off = await bench.leadctl('routes');
  assert.deepStrictEqual([off.status, off.stdout], [0, '     1  default -> off\n']);
  assert.match(off.stderr, /mail_url is 'off': nobody is told now/);
  // Where no mail is sent nobody needs to be named.
  replace(bench, 'country=DE -> a@example.com\n');
  assert.strictEqual((await bench.leadctl('routes')).status, 0);
});

test('leads out of the spool go by the routes of the time when they are drained', async (t) => {
  const bench = new L.Bench(t);
  replace(bench, 'country=DE -> early@contoso.example\n');
  bench.configure({ ...await bench.startTableWithSpool(), mail_routes: bench.file('routes') });
  await bench.startNginx();
  await bench.startLeadhook();
  assert.strictEqual((await bench.post(L.lead())).code, 200);
  bench.proxy.fault = () => 'drop-before';
  const wanted = {};
  for (const [country, campaign, action, who] of [['DE', '', 'INS', 'late@contoso.example'], ['AT', 'big sale', 'INS', 'spring@contoso.example'], ['AT', '', 'INS', 'sales@example.com'],
    ['DE', '', 'DNC', undefined]]) {
    const answer = await bench.post(L.lead({ ActionCode: action, Description: JSON.stringify({ mktcmpid: campaign }) }, { Country: country }));
    assert.strictEqual(answer.code, 202, answer.text);
    wanted[answer.json.id] = who;
  }
  replace(bench, 'action=DNC offer="contoso app" -> off\ncountry=DE offer=contoso.contoso-app -> late@contoso.example\ncampaign="big sale" -> spring@contoso.example\n');
  assert.match(await reload(bench), /^event=reloaded/);
  bench.proxy.fault = () => undefined;
  await L.until('the drain', () => !bench.spoolRows().some((row) => row.partition_key === 'spool'), 60000);
  const rows = async () => L.rows(bench.azurite.port, TABLE);
  await L.until('the mails', async () => { const all = await rows(); return all.filter(L.isLead).length === 5 && !all.some(L.isMail); }, 60000);
  const got = Object.fromEntries(Object.keys(wanted).map((id) => [id, undefined]));
  for (const mail of await bench.mails()) {
    const id = mail.parsed.headers.get('x-lead-id');
    if (id in got) {
      assert.strictEqual(got[id], undefined, 'one mail');
      got[id] = mail.parsed.to.text;
    }
  }
  assert.deepStrictEqual(got, wanted);
});

test('the example in README.md is what it says', async (t) => {
  const readme = fs.readFileSync(`${L.top}/README.md`, 'utf8');
  const [section] = readme.slice(readme.indexOf('\n## Mail routes\n') + 1).split(/^## /m, 2).slice(1);
  const [file, shown] = [...section.matchAll(/^```\w+\n([^]*?)^```$/gm)].map((block) => block[1]);
  const bench = new L.Bench(t);
  bench.configure({ ...bench.mailHere(), mail_routes: bench.file('routes') });
  replace(bench, file);
  await bench.startNginx();
  await bench.startLeadhook();
  assert.strictEqual((await bench.post(L.lead())).code, 200); // so that the offer's title is known
  const [command, ...output] = shown.trimEnd().split('\n');
  const result = await bench.leadctl(...command.replace('$ leadctl ', '').split(' '));
  assert.strictEqual(result.status, 0, result.stderr);
  assert.strictEqual(result.stdout.trimEnd().replace(bench.file('routes'), '/etc/leadhook/routes'), output.join('\n'));
});
