// Very many leads are spooled during an outage, then copied while new ones and repeats arrive: memory stays flat, and
// each offer's leads come into the table in the order in which they were received.
'use strict';

const assert = require('node:assert');
const fs = require('node:fs');
const http = require('node:http');
const L = require('../../system/lib.js');

const SHORT = 3000;
const LONG = 100000; // with TRIALS=1000 or more
const OFFERS = 8;
const SENDERS = 16;
const LEADS_PER_ADDRESS = 500; // nginx delays more than that from one
const SAMPLE_MS = 50;
const GROWTH_KIB = 64 * 1024;  // of all processes' memory: far below what the leads take
const SPOOLING_MS = 15 * 60000;
const DRAINED_MS = 20 * 60000;

const good = (answer) => answer.code >= 200 && answer.code < 300;

// A lead of one of the offers, in turns.
let made = 0;
function lead(t) {
  const offer = `contoso.app-${made++ % OFFERS}`;
  return t.leads(1, { LeadSource: `AzureMarketplace-INS|${offer}`, OfferTitle: offer })[0];
}

// Posts with keep-alive from an address of the sender's own, and notes when.
let posted = 0;
function post(t, { body, email }) {
  const number = Math.floor(posted++ / LEADS_PER_ADDRESS);
  const answer = { body, email, sent: performance.now() };
  return new Promise((resolve) => {
    const req = http.request({ host: '127.0.0.1', port: t.host.bench.port, localAddress: `127.1.${Math.floor(number / 250)}.${1 + number % 250}`,
      method: 'POST', path: `/leads?key=${encodeURIComponent(L.KEY)}`, agent: false,
      headers: { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(body) } }, (res) => {
      let text = '';
      res.on('data', (chunk) => { text += chunk; });
      res.on('end', () => {
        const json = res.headers['content-type'].includes('json') ? JSON.parse(text) : {};
        Object.assign(answer, { code: res.statusCode, status: json.status, id: json.id, retryAfter: res.headers['retry-after'], text, answered: performance.now() });
        t.answers.push(answer);
        resolve(answer);
      });
    });
    req.on('error', (error) => {
      Object.assign(answer, { error: error.code, answered: performance.now() });
      t.answers.push(answer);
      resolve(answer);
    });
    req.end(body);
  });
}

// Senders that post what next() gives until it gives nothing.
function postAll(t, senders, next) {
  return Promise.all(Array.from({ length: senders }, async () => {
    for (let each = next(); each; each = next()) await post(t, each);
  }));
}

// RssAnon of all leadhooks together, and of the largest, in KiB.
function memory(t) {
  const each = [...t.host.pids().values()].map((pid) => Number((/^RssAnon:\s+(\d+)/m.exec(fs.readFileSync(`/proc/${pid}/status`, 'utf8')) || [])[1] || 0));
  return { all: each.reduce((sum, kib) => sum + kib, 0), largest: Math.max(...each) };
}
function watchMemory(t) {
  const watch = { all: 0, largest: 0 };
  const look = () => {
    const now = memory(t);
    watch.all = Math.max(watch.all, now.all);
    watch.largest = Math.max(watch.largest, now.largest);
  };
  look();
  const timer = setInterval(look, SAMPLE_MS);
  watch.stop = () => { clearInterval(timer); look(); return watch; };
  return watch;
}

// The row keys of leads in the order in which the Table service took them, from its journal (fake_table/journal.h).
function* insertions(file) {
  const bytes = fs.readFileSync(file);
  const seen = new Set();
  for (let at = 0; at + 8 <= bytes.length;) {
    const end = at + 8 + bytes.readUInt32LE(at);
    for (at += 8; at < end;) {
      const [packed, partition, row, table, act] = [bytes.readUInt32LE(at + 8), bytes.readUInt16LE(at + 12), bytes.readUInt16LE(at + 14), bytes[at + 16], bytes[at + 17]];
      const key = at + 24 + table + partition;
      const rowKey = bytes.toString('latin1', key, key + row);
      const partitionKey = bytes.toString('latin1', at + 24 + table, key);
      at = key + row + packed;
      if (String.fromCharCode(act) !== 'R' || !L.isLead({ rowKey }) || seen.has(`${partitionKey} ${rowKey}`)) continue;
      seen.add(`${partitionKey} ${rowKey}`);
      yield { partitionKey, rowKey };
    }
  }
}

// Pairs of spooled leads of one offer of which the one that was posted after the other's answer is in the table first.
function disorder(t, rows) {
  const times = new Map();
  for (const { email } of t.answers) times.set(email, (times.get(email) || 0) + 1);
  // A repeat may have been in the table before the lead itself.
  const byId = new Map(t.answers.filter((answer) => answer.status === 'spooled' && times.get(answer.email) === 1).map((answer) => [answer.id, answer]));
  const ids = new Map(rows.filter(L.isLead).map((row) => [`${row.partitionKey} ${row.rowKey}`, row.DeliveryId]));
  const latest = new Map();
  const wrong = [];
  let looked = 0;
  for (const { partitionKey, rowKey } of insertions(t.bench.file('table.journal'))) {
    const answer = byId.get(ids.get(`${partitionKey} ${rowKey}`));
    if (!answer) continue; // came after the outage
    looked++;
    const before = latest.get(partitionKey);
    if (before && answer.answered < before.sent) wrong.push(`${partitionKey}: ${answer.email} was answered before ${before.email} was posted, but is in the table behind it`);
    if (!before || answer.sent > before.sent) latest.set(partitionKey, answer);
  }
  return { wrong, missing: byId.size - looked };
}

module.exports = [
  {
    name: 'drain',
    alone: true,
    limit: SPOOLING_MS + DRAINED_MS,
    share: 0.01,
    async trial(t) {
      const count = Number(process.env.LEADS) || (Number(process.env.TRIALS) >= 1000 ? LONG : SHORT);
      await t.start({ processes: 3, smtp: false });
      await t.post(t.leads(20));
      await t.table.kill();
      await L.until('the first lead in the spool', async () => (await post(t, lead(t))).status === 'spooled');
      for (let i = 0; i < 100; i++) await post(t, lead(t)); // every process has served before memory is looked at
      const base = memory(t);

      let watch = watchMemory(t);
      let begin = performance.now();
      let left = count;
      await postAll(t, SENDERS, () => (left-- > 0 ? lead(t) : undefined));
      const spooling = { seconds: (performance.now() - begin) / 1000, ...watch.stop() };
      const spooled = t.answers.filter((answer) => answer.status === 'spooled');
      assert.ok(spooled.length >= count, `only ${spooled.length} of ${count} leads were spooled`);

      // While they are copied, every third post is a repeat of one of them.
      watch = watchMemory(t);
      begin = performance.now();
      const drained = () => /event=spool-drained/.test(t.host.log().slice(from));
      const from = t.host.log().length;
      await t.table.start();
      let over = false;
      let turn = 0;
      const arriving = postAll(t, 2, () => (over ? undefined : turn++ % 3 ? lead(t) : spooled[Math.floor(Math.random() * spooled.length)]));
      try {
        await L.until('the end of the drain', drained, DRAINED_MS);
      } finally {
        over = true;
        await arriving;
      }
      const draining = { seconds: (performance.now() - begin) / 1000, ...watch.stop() };

      const verdict = await t.judge();
      const { wrong, missing } = disorder(t, await t.rows());
      const rate = (seconds) => Math.round(count / seconds);
      const mib = (kib) => `${(kib / 1024).toFixed(1)} MiB`;
      verdict.note = `${count} leads spooled at ${rate(spooling.seconds)}/s and copied at ${rate(draining.seconds)}/s while ${t.answers.length - spooled.length} others arrived; `
        + `memory of all processes ${mib(base.all)}, at most ${mib(spooling.all)} and ${mib(draining.all)}, of the largest ${mib(draining.largest)}`;
      for (const each of [spooling, draining]) {
        if (each.all > base.all + GROWTH_KIB) verdict.problems.push(`memory: ${verdict.note}`);
      }
      if (missing) verdict.problems.push(`order: ${missing} insertions of spooled leads are not in the journal`);
      verdict.problems.push(...wrong.slice(0, 5), ...(wrong.length > 5 ? [`and ${wrong.length - 5} more out of order`] : []));
    },
  },
];
