// The commands of leadctl that change something: the lives in which they are tortured.
'use strict';

const crypto = require('node:crypto');
const fs = require('node:fs');
const path = require('node:path');
const fcgi = require('../cases/fastcgi.js');
const L = require('../system/lib.js');

const NOTHING_OF_IT = 66; // EX_NOINPUT
const DAY_MS = 24 * 60 * 60 * 1000;

// A lead by way of the CGI program; noted: it must be there in the end.
async function send(lane, point, problems, { env = {}, noted = false } = {}) {
  const lead = lane.leadOf(point);
  const { out } = await lane.clean('leadhook', [], { env: { ...fcgi.parameters(L.KEY, lead.body), ...env }, input: lead.body });
  const match = /^Status: (20[02]) /.exec(out);
  if (!match) throw new Error(`a lead before the command was not taken: ${out}`);
  if (noted) lane.note(lead, { code: Number(match[1]), json: JSON.parse(out.split('\r\n\r\n')[1]), text: out }, point, problems, { must: true });
  return lead.email;
}

// --- keys

const sha256 = (text) => crypto.createHash('sha256').update(text).digest('hex');

// Whatever fails, the file is the old one or the new one, whole, and whoever reads it is the same; a key that is in it
// was shown, or it is said that nobody knows it.
async function liveKey(lane, point, problems) {
  const { bench } = lane.host;
  const [, action] = lane.scenario.command;
  const others = `# whose keys these are\nmarket ${L.KEY}\nother sha256:${sha256('other')} created=2026-01-01T00:00:00Z\n`;
  bench.write('keys', others);
  fs.chmodSync(bench.file('keys'), 0o640);
  const { failed, status, out, err } = await lane.run('leadctl', lane.scenario.command, point, problems);
  const now = fs.readFileSync(bench.file('keys'), 'utf8');
  const isChanged = now !== others;
  const wrong = (what) => problems.push(`${point.text}: status ${status}, ${what}: ${err}\n${now}`);
  if (status === 0 && !isChanged) wrong('but the key file is as it was');
  if ((fs.statSync(bench.file('keys')).mode & 0o7777) !== 0o640) wrong('the key file has another mode');
  if (isChanged && action === 'new') {
    const line = new RegExp('^market sha256:([0-9a-f]{64}) created=[0-9TZ:-]+\n$').exec(now.slice(others.length));
    const shown = /^\/leads\?key=([0-9a-f]{64})$/m.exec(out);
    if (!now.startsWith(others) || !line) wrong('the key file is damaged');
    else if (shown ? sha256(shown[1]) !== line[1] : !/nobody knows it/.test(err)) wrong('nobody is told of the key in the file');
    else if (status === 0 && !shown) wrong('but no key was shown');
  } else if (isChanged && now.replace(/^(market \S+) retire=[0-9TZ:-]+$/m, '$1') !== others) {
    wrong('the key file is damaged');
  }
  // What a failed one has left behind is in nobody's way.
  bench.write('keys', others);
  const next = await lane.clean('leadctl', lane.scenario.command);
  if (next.status !== 0) problems.push(`${point.text}: the next one ends with ${next.status}: ${next.err}`);
  const left = fs.readdirSync(bench.dir).filter((name) => name.startsWith('.keys'));
  if (left.length) problems.push(`${point.text}: ${left.join(' ')} is left`);
  bench.write('keys', `market ${L.KEY}\n`);
  return { failed, status, outcome: `exit ${status}` };
}

// --- erasing

// Files of the stores in which the text stands, and rows that speak of the address or begin with its hash.
async function traces(lane, email, hash) {
  const { dir } = lane.host.bench;
  const files = fs.readdirSync(dir).filter((name) => /^(leads|spool)\.db/.test(name) && fs.readFileSync(path.join(dir, name)).includes(email));
  const rows = (await lane.rows()).filter((row) => JSON.stringify(row).includes(email) || (hash && row.rowKey.includes(hash)));
  return [...files, ...rows.map((row) => row.rowKey)];
}

// Everything of one person is erased; another's lead stays.  Success is said only where nothing is left.
async function liveErase(lane, point, problems) {
  if (!lane.prepared) {
    lane.prepared = true;
    await send(lane, { text: 'another' }, problems, { noted: true, env: lane.whenUp().env });
  }
  const email = await send(lane, point, problems, { env: lane.whenUp().env });
  const row = (await lane.rows()).find((each) => L.isLead(each) && each.Email === email);
  const [hash] = row.rowKey.split('-');
  if (lane.scenario.spool) {
    const spooled = L.lead({ OfferTitle: 'Another App', LeadSource: 'AzureMarketplace-INS|contoso.another' }, { Email: email });
    const { out } = await lane.clean('leadhook', [], { env: fcgi.parameters(L.KEY, spooled), input: spooled });
    if (!out.startsWith('Status: 202 ')) throw new Error(`not spooled: ${out}`);
  }
  const erase = ['person', 'erase', email, '--yes'];
  const { failed, status } = await lane.run('leadctl', erase, point, problems, lane.whenUp());
  const left = await traces(lane, email, hash);
  if ([0, NOTHING_OF_IT].includes(status) && left.length) problems.push(`${point.text}: status ${status}, and left are ${left.join(' ')}`);
  const next = await lane.clean('leadctl', erase, lane.whenUp());
  const after = await traces(lane, email, hash);
  if (![0, NOTHING_OF_IT].includes(next.status) || after.length) problems.push(`${point.text}: the next one ends with ${next.status}: ${next.err} ${after.join(' ')}`);
  return { failed, status, outcome: `exit ${status}` };
}

// --- what is old

// A lead of days ago goes with its mails, one of now stays.
async function livePurge(lane, point, problems) {
  await send(lane, point, problems, { noted: true });
  const email = await send(lane, point, problems, { env: { LEADHOOK_TEST_CLOCK_OFFSET_MS: String(-2 * DAY_MS) } });
  const old = (await lane.rows()).find((row) => L.isLead(row) && row.Email === email);
  const purge = ['purge', '--older-than', '24h', '--yes'];
  const { failed, status } = await lane.run('leadctl', purge, point, problems);
  const left = await traces(lane, email, old.rowKey);
  if (status === 0 && left.length) problems.push(`${point.text}: status 0, and left are ${left.join(' ')}`);
  const next = await lane.clean('leadctl', purge);
  const after = await traces(lane, email, old.rowKey);
  if (next.status !== 0 || after.length) problems.push(`${point.text}: the next one ends with ${next.status}: ${next.err} ${after.join(' ')}`);
  return { failed, status, outcome: `exit ${status}` };
}

module.exports = { liveKey, liveErase, livePurge };
