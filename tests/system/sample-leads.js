// Leads as rows, made up from a number: customers who come back, offers, countries, tests, mails that were quick or
// slow or are still to be sent.
'use strict';

const crypto = require('node:crypto');
const L = require('./lib.js');

const DAY = 86400000;

// The same numbers for the same seed.
function random(seed) {
  let state = seed >>> 0;
  const next = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
  return { next, below: (n) => Math.floor(next() * n), chance: (p) => next() < p, hex: (n) => Array.from({ length: n }, () => '0123456789abcdef'[Math.floor(next() * 16)]).join('') };
}

const hash = (text) => crypto.createHash('sha256').update(text).digest('hex').slice(0, 32);

// A row: the columns that are not blank; times are Dates.
function row(offer, columns, { contact = hash(columns.Email || crypto.randomUUID()), content = hash(crypto.randomUUID()) } = {}) {
  const all = { Action: 'INS', ActionCode: 'INS', Source: 'AzureMarketplace', Deliveries: 1, LastReceivedTime: columns.ReceivedTime, DeliveryId: content, LastDeliveryId: content,
    IsTest: false, DoNotContact: false, PersonalDataWithheld: false, KeyName: 'market', Payload: '{}', ...columns };
  return { partitionKey: offer, rowKey: `${contact}-${content}`, columns: Object.fromEntries(Object.entries(all).filter(([, value]) => value !== '' && value !== null && value !== undefined)) };
}

const FIRST = ['Ana', 'Jörg', 'Mei', '민준', 'Olu', 'Zoë', 'Ivan', 'Fatima', 'Luca', '유키'];
const LAST = ['Müller', 'Smith', '김', 'García', 'Okafor', 'van den Berg', 'Novák', 'Al-Sayed', 'Rossi', 'Tanaka'];
const COMPANY = ['Northwind Traders', 'Adatum', 'Fabrikam', 'Tailspin Toys', 'Litware', 'Wingtip', 'Proseware GmbH & Co. KG', 'Woodgrove Bank'];
const OFFERS = [['contoso.contoso-app', 'Contoso App'], ['contoso.analytics-suite', 'Contoso Analytics Suite for Enterprises'], ['contoso.backup', 'Contoso Backup'], ['offer-5f0c1b2a', '데이터 분석 도구'], ['contoso.vm-hardened', 'Hardened Linux VM']];
const COUNTRIES = ['US', 'US', 'US', 'DE', 'DE', 'GB', 'KR', 'FR', 'IN', 'BR', 'NL', ''];

// count leads of about so many customers, the last one received before `until`.
function make(seed, count, { until, days = 60, offers = OFFERS, customers = Math.ceil(count * 0.8) } = {}) {
  const r = random(seed);
  const pick = (list) => list[Math.floor(r.next() ** 1.6 * list.length)];
  return Array.from({ length: count }, (_, i) => {
    const [offer, title] = pick(offers);
    const who = r.below(customers);
    const received = until - 1 - Math.floor(r.next() * days * DAY);
    const named = !r.chance(0.05);
    const kind = r.next();
    const wait = r.chance(0.92) ? 200 + r.below(9000) : r.chance(0.6) ? r.below(15 * 60000) : r.below(2 * DAY);
    const mailed = r.chance(0.95) ? new Date(received + wait) : null;
    const again = r.chance(0.04) ? received + r.below(3 * DAY) : received;
    return row(offer, {
      OfferDisplayName: title, ReceivedTime: new Date(received), LastReceivedTime: new Date(again), Deliveries: again === received ? 1 : 2,
      NotifiedTime: mailed && again > received && r.chance(0.5) ? new Date(again + 2000) : mailed,
      Action: pick(['INS', 'INS', 'PLT', 'Create', 'StartTestDrive', 'Request']), Source: pick(['AzureMarketplace', 'AppSource', 'AzurePortal', 'TestDrive']),
      Country: COUNTRIES[r.below(COUNTRIES.length)], Campaign: r.chance(0.3) ? pick(['spring-launch', 'newsletter', 'ignite-2026']) : '',
      IsTest: kind < 0.03, DoNotContact: kind > 0.02 && kind < 0.06,
      ...(named ? { FirstName: FIRST[who % 10], LastName: LAST[(who * 7) % 10], Email: `customer${who}@example.com`, Company: COMPANY[who % 8], Title: who % 3 ? 'CTO' : '', Phone: who % 2 ? `+1 555 01${String(who % 100).padStart(2, '0')}` : '' } : {}),
    }, { contact: named ? hash(`customer${who}`) : r.hex(32), content: hash(`${seed}-${i}`) });
  });
}

// As bytes: sqlite3's shell changes line ends.
const quoted = (text) => `CAST(X'${Buffer.from(text).toString('hex')}' AS TEXT)`;
const offersOf = (rows) => [...new Set(rows.map((each) => each.partitionKey))];
const TIMES = { FirstLeadTime: new Date(0), LastLeadTime: new Date(0) };

function json({ partitionKey, rowKey, columns }) {
  const out = { PartitionKey: partitionKey, RowKey: rowKey };
  for (const [name, value] of Object.entries(columns)) {
    if (value instanceof Date) out[`${name}@odata.type`] = 'Edm.DateTime';
    out[name] = value instanceof Date ? value.toISOString() : value;
  }
  return JSON.stringify(out);
}

// Into the bench's database, which is made by leadctl.
async function storeInSqlite(bench, rows) {
  const made = await bench.leadctl('list');
  if (made.status !== 0) throw new Error(made.stderr);
  const all = [...rows.map((each) => ({ kind: 0, ...each })), ...offersOf(rows).map((offer) => ({ kind: 1, partitionKey: 'offers', rowKey: offer, columns: TIMES }))];
  const { spawnSync } = require('node:child_process');
  const file = bench.settings.store.replace(/^sqlite:/, '');
  const sql = all.map((each, i) => `INSERT INTO entity VALUES (${each.kind}, ${quoted(each.partitionKey)}, ${quoted(each.rowKey)}, ${i + 1}, 0, ${quoted(json(each))});`);
  const result = spawnSync('sqlite3', [file], { input: `BEGIN;\n${sql.join('\n')}\nCOMMIT;\n`, encoding: 'utf8' });
  if (result.status !== 0 || result.stderr) throw new Error(result.stderr);
}

// Into the tables of a Table service at a port.
async function storeInTable(port, rows) {
  const entity = ({ partitionKey, rowKey, columns }) => ({ partitionKey, rowKey, ...columns });
  const leads = L.tableClient(port, 'MarketplaceLeads');
  const ops = L.tableClient(port, 'MarketplaceLeadsOps');
  await leads.createTable();
  await ops.createTable();
  for (const offer of offersOf(rows)) {
    const mine = rows.filter((each) => each.partitionKey === offer);
    for (let i = 0; i < mine.length; i += 100) await leads.submitTransaction(mine.slice(i, i + 100).map((each) => ['create', entity(each)]));
    await ops.createEntity(entity({ partitionKey: 'offers', rowKey: offer, columns: TIMES }));
  }
}

module.exports = { DAY, random, hash, row, make, storeInSqlite, storeInTable };
