// leadctl report: the numbers are those of an independent count of the same rows, the page is what it should be for a
// real parser of HTML and in a real browser: light, dark, narrow, printed, without scripts and without a network.
'use strict';

const assert = require('node:assert');
const { spawnSync } = require('node:child_process');
const fs = require('node:fs');
const http = require('node:http');
const path = require('node:path');
const parse5 = require('parse5');
const L = require('./lib.js');
const { Browser } = require('./browser.js');
const { PAYLOADS } = require('./payloads.js');
const S = require('./sample-leads.js');

const { test } = L;
const { DAY } = S;
const UNTIL = Date.parse('2026-11-16'); // behind the last day
const PERIOD = { since: UNTIL - 30 * DAY, days: 30 };
const OPTIONS = ['--since', '2026-10-17', '--until', '2026-11-16'];
const WINDOW = 3600000; // repeat_window_s

// --- an independent count ------------------------------------------------------------------------------------

const ACTIONS = { INS: 'Get it now', PLT: 'Contact me request', DNC: 'Asked another partner', Create: 'Created in Azure portal', StartTestDrive: 'Test drive started' };
const trim = (text) => (text || '').replace(/^[ \t\r\n]+|[ \t\r\n]+$/g, '');
const bytes = (text) => Buffer.byteLength(text);
function cut(text, limit) {
  let out = '';
  for (const char of text) {
    if (bytes(out) + bytes(char) > limit) break;
    out += char;
  }
  return out;
}
const INVISIBLE = /[\p{Default_Ignorable_Code_Point}\uFFF0-\uFFFB]/u;
const CONTROL = /[\0-\x1f\x7f-\x9f\u2028\u2029]/;
// As one safe line.
const clean = (text) => [...text].map((char) => (/[\n\r\t]/.test(char) ? ' ' : CONTROL.test(char) || INVISIBLE.test(char) ? '\ufffd' : char)).join('');
const shown = (text) => clean(cut(trim(text), 160));
// Of a bar.
const label = (text = '') => `${clean(cut(text, 80))}${bytes(text) > 80 ? '...' : ''}`;
const byBytes = (a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b));

function countAll(rows, { since, days } = PERIOD) {
  const until = since + days * DAY;
  const time = (row, name) => row.columns[name] && row.columns[name].getTime();
  const received = (row) => time(row, 'ReceivedTime');
  const inside = rows.filter((row) => received(row) >= since && received(row) < until);
  const counted = (row) => !row.columns.IsTest && !row.columns.DoNotContact;
  const leads = inside.filter(counted);
  const who = (row) => (['Email', 'FirstName', 'LastName', 'Company'].some((name) => row.columns[name]) || /\d/.test(row.columns.Phone || '') ? row.rowKey.slice(0, 32) : null);
  const first = new Map();
  for (const row of rows.filter(counted)) if (who(row) && received(row) < until) first.set(who(row), Math.min(first.get(who(row)) ?? Infinity, received(row)));
  const seen = new Set(leads.map(who).filter(Boolean));
  const dayOf = (ms) => Math.floor((ms - since) / DAY);
  const perDay = Array.from({ length: days }, (_, i) => {
    const mine = leads.filter((row) => dayOf(received(row)) === i);
    const begun = [...seen].filter((each) => dayOf(first.get(each)) === i).length;
    const nobody = mine.filter((row) => !who(row)).length;
    return [mine.length, begun, mine.length - begun - nobody, nobody];
  });
  const group = (key) => {
    const counts = new Map();
    for (const row of leads) counts.set(cut(trim(key(row)), 255), (counts.get(cut(trim(key(row)), 255)) || 0) + 1);
    return [...counts].sort((a, b) => b[1] - a[1] || byBytes(a[0], b[0]));
  };
  const again = (row) => time(row, 'LastReceivedTime') - received(row) > WINDOW && time(row, 'NotifiedTime') >= time(row, 'LastReceivedTime');
  const mailed = leads.filter((row) => row.columns.NotifiedTime);
  const waits = mailed.filter((row) => !again(row)).map((row) => time(row, 'NotifiedTime') - received(row)).sort((a, b) => a - b);
  const bounds = [0, 10000, 60000, 300000, 3600000, DAY, Infinity];
  const titles = new Map();
  for (const row of [...leads].sort((a, b) => received(a) - received(b))) if (trim(row.columns.OfferDisplayName)) titles.set(cut(trim(row.partitionKey), 255), trim(row.columns.OfferDisplayName));
  const newest = [...leads].sort((a, b) => byBytes(a.partitionKey, b.partitionKey) || byBytes(a.rowKey, b.rowKey)).sort((a, b) => received(b) - received(a)).slice(0, 50);
  return {
    leads: leads.length, test: inside.filter((row) => row.columns.IsTest).length, doNotContact: inside.filter((row) => row.columns.DoNotContact && !row.columns.IsTest).length,
    newCustomers: [...seen].filter((each) => first.get(each) >= since).length, returning: [...seen].filter((each) => first.get(each) < since).length, perDay,
    offers: group((row) => row.partitionKey), actions: group((row) => row.columns.Action), countries: group((row) => row.columns.Country),
    sources: group((row) => row.columns.Source), campaigns: group((row) => row.columns.Campaign), titles, waits,
    within: bounds.slice(1).map((bound, i) => waits.filter((ms) => (ms > bounds[i] || i === 0) && ms <= bound).length), again: mailed.length - waits.length, waiting: leads.length - mailed.length,
    quantile: (share) => waits[Math.ceil(waits.length * share) - 1], newest, isAgain: again,
  };
}

const thousands = (number) => String(number).replace(/\B(?=(\d{3})+$)/g, ',');
const share = (part, of) => (part > 0 && part * 100 < of ? '<1\u00a0%' : `${Math.floor((200 * part + of) / (2 * of))}\u00a0%`);
const MONTHS = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'];
const two = (number) => String(number).padStart(2, '0');
const day = (ms) => { const d = new Date(ms); return `${two(d.getUTCDate())} ${MONTHS[d.getUTCMonth()]} ${d.getUTCFullYear()}`; };
const weekday = (ms) => `${['Sun', 'Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat'][new Date(ms).getUTCDay()]}, ${day(ms)}`;
const minute = (ms) => `${day(ms)} ${two(new Date(ms).getUTCHours())}:${two(new Date(ms).getUTCMinutes())}`;
function duration(ms) {
  if (ms < 59950) return `${(Math.floor((ms + 50) / 100) / 10).toFixed(1)}\u00a0s`;
  const units = (big, small, unit, of) => `${Math.floor(Math.round(ms / of) / (big / of))}\u00a0${unit[0]} ${Math.round(ms / of) % (big / of)}\u00a0${unit[1]}`;
  if (ms < 3599500) return units(60000, 1000, ['min', 's'], 1000);
  if (ms < DAY - 30000) return units(3600000, 60000, ['h', 'min'], 60000);
  return units(DAY, 3600000, ['d', 'h'], 3600000);
}
// Quantiles are right to a thousandth of their value.
const isQuantile = (text, ms) => [0, 0.00025, 0.0005, 0.00075, 0.001].some((more) => duration(Math.min(Math.floor(ms * (1 + more)), Number.MAX_SAFE_INTEGER)) === text);

// --- the page as a tree --------------------------------------------------------------------------------------

class Page {
  constructor(html) {
    this.errors = [];
    this.document = parse5.parse(html, { onParseError: (error) => this.errors.push(error), sourceCodeLocationInfo: false });
    this.elements = [];
    const walk = (node) => {
      if (node.tagName) this.elements.push(node);
      (node.childNodes || []).forEach(walk);
    };
    walk(this.document);
  }
  all(name, within) { return (within ? Page.inside(within) : this.elements).filter((node) => node.tagName === name); }
  static inside(node) { return (node.childNodes || []).flatMap((child) => (child.tagName ? [child, ...Page.inside(child)] : [])); }
  static attribute(node, name) { const found = (node.attrs || []).find((each) => each.name === name); return found && found.value; }
  byClass(name, within) { return (within ? Page.inside(within) : this.elements).filter((node) => (Page.attribute(node, 'class') || '').split(' ').includes(name)); }
  byId(id) { return this.elements.find((node) => Page.attribute(node, 'id') === id); }
  static text(node) { return node.nodeName === '#text' ? node.value : (node.childNodes || []).map(Page.text).join(''); }
  // Of an element that names the section.
  section(id) { return this.elements.find((node) => node.tagName === 'section' && Page.attribute(node, 'aria-labelledby') === id); }
  tiles() { return Object.fromEntries(this.all('dt').map((dt) => [Page.text(dt), dt.parentNode.childNodes.filter((node) => node.tagName === 'dd').map(Page.text)])); }
  // [label with what is below it, number, share, width of the bar]
  bars(id) {
    const [table] = this.byClass('bars', this.section(id));
    if (!table) return null;
    const [body] = this.all('tbody', table);
    return this.all('tr', body).map((row) => {
      const [bar, number, part] = this.all('td', row);
      const [rect] = this.all('rect', bar);
      return [Page.text(this.all('th', row)[0]), Page.text(number), Page.text(part), rect ? Page.attribute(rect, 'width') : null];
    });
  }
  scaleOf(id) {
    const [foot] = this.all('tfoot', this.byClass('bars', this.section(id))[0]);
    return Number(Page.text(this.all('text', foot)[1]).replace(/,/g, ''));
  }
  rows(table) { return this.all('tr', this.all('tbody', table)[0]).map((row) => row.childNodes.filter((node) => ['th', 'td'].includes(node.tagName))); }
}

async function report(bench, ...args) {
  const file = bench.file('report.html');
  const result = await bench.leadctl('report', '--output', file, ...args);
  assert.deepStrictEqual([result.status, result.stdout, result.stderr], [0, '', '']);
  return { file, page: new Page(fs.readFileSync(file, 'utf8')) };
}

// --- what must be so for every page --------------------------------------------------------------------------

const ELEMENTS = new Set(['html', 'head', 'meta', 'title', 'style', 'body', 'main', 'header', 'h1', 'h2', 'h3', 'p', 'dl', 'div', 'dt', 'dd', 'section', 'ul', 'li', 'svg', 'g', 'desc', 'rect', 'line', 'text',
  'details', 'summary', 'table', 'caption', 'thead', 'tbody', 'tfoot', 'tr', 'th', 'td', 'small', 'bdi', 'b', 'span', 'strong', 'footer']);
const ATTRIBUTES = new Set(['lang', 'charset', 'http-equiv', 'content', 'name', 'id', 'class', 'role', 'aria-labelledby', 'aria-hidden', 'scope', 'colspan', 'focusable', 'width', 'height', 'x', 'y', 'x1', 'x2', 'y1', 'y2', 'text-anchor']);
const BOX = { 'aria-hidden': 'true' };

function judgeStructure(page) {
  const { attribute, text } = Page;
  // Characters such as U+FFFF are shown as nothing by every browser and mean nothing.
  assert.deepStrictEqual(page.errors.filter(({ code }) => code !== 'noncharacter-in-input-stream'), []);
  for (const node of page.elements) {
    assert.ok(ELEMENTS.has(node.tagName), node.tagName);
    for (const { name } of node.attrs) assert.ok(ATTRIBUTES.has(name), `${node.tagName} ${name}`);
  }
  assert.strictEqual(page.document.mode, 'no-quirks');
  assert.strictEqual(attribute(page.all('html')[0], 'lang'), 'en');
  assert.match(attribute(page.all('meta').find((node) => attribute(node, 'http-equiv')), 'content'),
    /^default-src 'none'; style-src 'sha256-[A-Za-z0-9+/]{43}='; base-uri 'none'; form-action 'none'$/);
  assert.match(text(page.all('title')[0]), /^Customer leads, \d\d \w\w\w \d{4}/);
  const ids = page.elements.map((node) => attribute(node, 'id')).filter(Boolean);
  assert.strictEqual(new Set(ids).size, ids.length, 'ids are there once');
  for (const node of page.elements) for (const id of (attribute(node, 'aria-labelledby') || '').split(' ').filter(Boolean)) assert.ok(ids.includes(id), id);
  const levels = page.elements.filter((node) => /^h\d$/.test(node.tagName)).map((node) => Number(node.tagName[1]));
  assert.strictEqual(levels.filter((level) => level === 1).length, 1);
  levels.forEach((level, i) => assert.ok(i === 0 ? level === 1 : level <= levels[i - 1] + 1, `headings ${levels}`));
  for (const table of page.all('table')) {
    assert.ok(text(page.all('caption', table)[0]).length > 5);
    const heads = page.all('th', table);
    assert.ok(heads.length > 0 && heads.every((node) => ['row', 'col'].includes(attribute(node, 'scope'))));
    // As many cells in each row as in the head, columns that span counted.
    const widths = page.all('tr', table).map((row) => row.childNodes.filter((node) => ['th', 'td'].includes(node.tagName)).reduce((sum, node) => sum + Number(attribute(node, 'colspan') || 1), 0));
    assert.strictEqual(new Set(widths).size, 1, `cells ${widths}`);
  }
  for (const svg of page.all('svg')) {
    if (attribute(svg, 'role') === 'img') {
      assert.deepStrictEqual(page.all('title', svg).concat(page.all('desc', svg)).slice(0, 1).length, 1);
      assert.ok(page.all('desc', svg).length === 1 && text(page.all('desc', svg)[0]).length > 20);
    } else {
      let node = svg;
      while (node && attribute(node, 'aria-hidden') !== BOX['aria-hidden']) node = node.parentNode;
      assert.ok(node, 'a drawing that says nothing is not read aloud');
    }
  }
}

// --- numbers -------------------------------------------------------------------------------------------------

function judgeGroup(page, id, counts, total, labelOf, others) {
  const named = counts.filter(([key]) => key);
  const want = named.slice(0, 20).map(([key, leads]) => [labelOf(key), thousands(leads), share(leads, total)]);
  const rest = named.slice(20);
  if (rest.length) want.push([rest.length === 1 ? `1 more ${others[0]}` : `${rest.length} more ${others[1]}`, ...sum(rest, total)]);
  const blank = counts.filter(([key]) => !key);
  if (blank.length) want.push(['not told', ...sum(blank, total)]);
  const got = page.bars(id);
  if (named.length === 0) {
    assert.strictEqual(got, null);
    return;
  }
  assert.deepStrictEqual(got.map((row) => row.slice(0, 3)), want, id);
  const top = page.scaleOf(id);
  assert.ok(top >= named[0][1] && top <= Math.max(2.5 * named[0][1], 1), `${id}: an axis up to ${top} for ${named[0][1]}`);
  got.forEach(([, , , width], i) => assert.strictEqual(width, i < Math.min(named.length, 20) ? `${((100 * named[i][1]) / top).toFixed(3)}%` : null));
}
const sum = (counts, total) => { const all = counts.reduce((so, [, leads]) => so + leads, 0); return [thousands(all), share(all, total)]; };

function judgePlot(page, want, { since, days }) {
  const [plot] = page.byClass('columns');
  const groups = page.all('g', plot);
  const busy = want.perDay.map((numbers, i) => ({ numbers, i })).filter(({ numbers }) => numbers[0]);
  const top = Number(Page.text(page.byClass('tick', plot).filter((node) => Page.attribute(node, 'text-anchor') === 'end').pop()).replace(/,/g, ''));
  assert.ok(top >= Math.max(...want.perDay.map(([all]) => all)));
  assert.strictEqual(groups.length, busy.length);
  groups.forEach((group, k) => {
    const { numbers: [all, begun, further, nobody], i } = busy[k];
    const parts = [[begun, 'first of their customers', 'a'], [further, 'of customers known by then', 'b'], [nobody, 'name nobody', 'c']].filter(([number]) => number);
    assert.strictEqual(Page.text(page.all('title', group)[0]), `${weekday(since + i * DAY)}: ${thousands(all)} lead${all === 1 ? '' : 's'}, ${parts.map(([number, words]) => `${thousands(number)} ${words}`).join(', ')}`);
    let floor = 218;
    page.all('rect', group).forEach((rect, p) => {
      const [number, , color] = parts[p];
      const at = (name) => parseFloat(Page.attribute(rect, name));
      assert.strictEqual(Page.attribute(rect, 'class'), color);
      assert.ok(Math.abs(at('height') - (200 * number) / top) < 0.011 && Math.abs(at('y') + at('height') - floor) < 0.03, `day ${i}: ${number} of ${top}`);
      assert.ok(at('x') >= (100 * i) / days && at('x') + at('width') <= (100 * (i + 1)) / days);
      floor -= (200 * number) / top;
    });
    assert.strictEqual(page.all('rect', group).length, parts.length);
  });
}

const nameOf = (columns) => [columns.FirstName, columns.LastName].map((part) => shown(part)).filter(Boolean).join(' ');
const joined = (...parts) => parts.map((part) => shown(part)).filter(Boolean).join(', ');
function newestRow(row, want, personal) {
  const { columns } = row;
  const wait = columns.NotifiedTime && columns.NotifiedTime - columns.ReceivedTime;
  const cells = [minute(columns.ReceivedTime.getTime()),
    (nameOf(columns) || (columns.PersonalDataWithheld ? 'name withheld' : 'no name')) + joined(columns.Title, columns.Company) + joined(columns.Email, columns.Phone),
    (label(cut(trim(columns.OfferDisplayName), 160)) || label(cut(row.partitionKey, 160))) + (ACTIONS[columns.Action] || shown(columns.Action)),
    shown(columns.Country) + joined(columns.Source, columns.Campaign),
    wait === undefined ? 'not mailed yet' : want.isAgain(row) ? 'came again' : `mailed after ${duration(wait)}`];
  return personal ? cells : [cells[0], ...cells.slice(2), shown(columns.DeliveryId)];
}

function judgeNumbers(page, want, { since, days } = PERIOD, { personal = true } = {}) {
  const tiles = page.tiles();
  assert.strictEqual(tiles.Leads[0], thousands(want.leads));
  const tenths = Math.floor((want.leads * 10 + Math.floor(days / 2)) / days);
  const isRare = want.leads > 0 && want.leads / days < 0.5;
  assert.strictEqual(tiles.Leads[1], isRare ? `one in ${Math.round(days / want.leads)} days` : `${thousands(Math.floor(tenths / 10))}.${tenths % 10} a day`);
  assert.strictEqual(tiles['New customers'][0], thousands(want.newCustomers));
  assert.strictEqual(tiles['Returning customers'][0], thousands(want.returning));
  assert.deepStrictEqual(tiles['Left out here'], [thousands(want.test + want.doNotContact), `${thousands(want.test)} test, ${thousands(want.doNotContact)} do not contact`]);
  const last = since + (days - 1) * DAY;
  assert.ok(Page.text(page.all('header')[0]).includes(days === 1 ? `${day(since)}, 1 day;` : `${day(since)} to ${day(last)}, ${days} days;`));
  if (want.leads === 0) {
    assert.match(Page.text(page.all('main')[0]), /No lead was received in these days/);
    assert.strictEqual(page.all('table').length, 0);
    return;
  }
  const numbers = page.rows(page.byClass('days')[0]).map((cells) => cells.map(Page.text));
  assert.deepStrictEqual(numbers, want.perDay.map((row, i) => [weekday(since + i * DAY), ...row.map(thousands)]));
  judgePlot(page, want, { since, days });

  const both = (big, small) => (big ? `${big} ${small}` : small);
  judgeGroup(page, 'offers', want.offers, want.leads, (key) => both(label(cut(want.titles.get(key) || '', 160)), label(key)), ['offer', 'offers']);
  judgeGroup(page, 'actions', want.actions, want.leads, (key) => both(ACTIONS[key], label(key)), ['action', 'actions']);
  judgeGroup(page, 'countries', want.countries, want.leads, (key) => label(key), ['country', 'countries']);
  judgeGroup(page, 'sources', want.sources, want.leads, (key) => label(key), ['source', 'sources']);
  judgeGroup(page, 'campaigns', want.campaigns, want.leads, (key) => label(key), ['campaign', 'campaigns']);

  const speed = page.bars('mail');
  if (want.waits.length === 0) {
    assert.strictEqual(speed, null);
  } else {
    const rest = [['not known: came again later', want.again], ['not mailed yet', want.waiting]].filter(([, number]) => number);
    assert.deepStrictEqual(speed.map(([label, number]) => [label, number]), [...['up to 10 s', 'up to 1 min', 'up to 5 min', 'up to 1 hour', 'up to 1 day', 'longer'].map((label, i) => [label, thousands(want.within[i])]),
      ...rest.map(([label, number]) => [label, thousands(number)])]);
    assert.ok(isQuantile(tiles.Median[0], want.quantile(0.5)), `${tiles.Median[0]}: ${want.quantile(0.5)} ms`);
    assert.ok(isQuantile(tiles['90 %'][0], want.quantile(0.9)), `${tiles['90 %'][0]}: ${want.quantile(0.9)} ms`);
    assert.strictEqual(tiles.Slowest[0], duration(want.waits[want.waits.length - 1]));
  }
  const [table] = page.byClass('newest');
  assert.strictEqual(Page.text(page.all('caption', table)[0]), want.leads > 50 ? `The newest 50 of ${thousands(want.leads)} leads, the last one first` : 'All leads of these days, the last one first');
  assert.deepStrictEqual(page.rows(table).map((cells) => cells.map(Page.text)), want.newest.map((row) => newestRow(row, want, personal)));
}

// A store for each test; body gets the bench with the rows in it.
function testBoth(name, rows, body) {
  test(`${name} (sqlite)`, async (t) => {
    const bench = new L.Bench(t).configure();
    await S.storeInSqlite(bench, rows);
    await body(bench);
  });
  test(`${name} (table)`, async (t) => {
    const bench = new L.Bench(t);
    bench.configure(await bench.startTable());
    await S.storeInTable(bench.azurite.port, rows);
    await body(bench);
  });
}

const MANY = S.make(1, 900, { until: UNTIL });
testBoth('the numbers are those of an independent count', MANY, async (bench) => {
  const want = countAll(MANY);
  assert.ok(want.again && want.waiting && want.test && want.doNotContact && want.returning && want.perDay.every(([all]) => all) && want.leads > 300, 'the sample has everything');
  const { page } = await report(bench, ...OPTIONS);
  judgeStructure(page);
  judgeNumbers(page, want);

  for (const [since, until, days] of [['2026-11-15', '2026-11-16', 1], ['2026-11-14T17:30', '2026-11-15T00:01', 2], ['2026-09-17', '2026-11-16', 60], ['2025-11-16', '2026-11-16', 365]]) {
    const other = await report(bench, '--since', since, '--until', until);
    const period = { since: Date.parse(since.slice(0, 10)), days };
    judgeStructure(other.page);
    judgeNumbers(other.page, countAll(MANY, period), period);
  }
});

const TWO_HUNDRED = Array.from({ length: 200 }, (_, i) => [`contoso.offer-${i}`, i % 3 ? `Offer number ${i}` : '']);
const OFFERS = S.make(2, 700, { until: UNTIL, days: 30, offers: TWO_HUNDRED });
testBoth('two hundred offers: the first twenty, and the others together', OFFERS, async (bench) => {
  const want = countAll(OFFERS);
  assert.ok(want.offers.length > 150);
  const { page } = await report(bench, ...OPTIONS);
  judgeStructure(page);
  judgeNumbers(page, want);
});

const ONE = [S.row('offer-5f0c1b2a', { OfferDisplayName: '데이터 분석 도구', FirstName: '민준', LastName: '김', Email: 'kim@example.com', Company: '주식회사 예시', Country: '대한민국', Campaign: '봄', ReceivedTime: new Date(UNTIL - DAY) })];
testBoth('no lead, and one, in Korean', ONE, async (bench) => {
  const one = await report(bench, ...OPTIONS);
  judgeStructure(one.page);
  judgeNumbers(one.page, countAll(ONE));
  assert.ok(Page.text(one.page.section('offers')).includes('데이터 분석 도구 offer-5f0c1b2a'));
  for (const days of [1, 2, 3]) { // one a day, 0.5 a day, one in 3 days
    const { page } = await report(bench, '--since', new Date(UNTIL - days * DAY).toISOString(), '--until', '2026-11-16');
    judgeNumbers(page, countAll(ONE, { since: UNTIL - days * DAY, days }), { since: UNTIL - days * DAY, days });
  }
  const period = { since: UNTIL, days: 3 };
  const none = await report(bench, '--since', '2026-11-16', '--until', '2026-11-19');
  judgeStructure(none.page);
  judgeNumbers(none.page, countAll(ONE, period), period);
});

test('no store yet, and the days that are reported when none are given', async (t) => {
  const bench = new L.Bench(t).configure();
  const today = () => Math.floor(Date.now() / DAY) * DAY;
  let rows, before, page;
  do { // not over midnight
    before = today();
    ({ page } = await report(bench));
  } while (before !== today());
  judgeNumbers(page, countAll([], { since: before - 29 * DAY, days: 30 }), { since: before - 29 * DAY, days: 30 });
  do {
    before = today();
    rows = [-30, -29, -1, 0].map((days) => S.row('contoso.app', { Email: `a${days}@example.com`, ReceivedTime: new Date(before + days * DAY) }));
    await S.storeInSqlite(bench, rows);
    ({ page } = await report(bench));
    if (before !== today()) bench.sqlite('DELETE FROM entity');
  } while (before !== today());
  judgeNumbers(page, countAll(rows, { since: before - 29 * DAY, days: 30 }), { since: before - 29 * DAY, days: 30 });
});

// --- what comes from outside ---------------------------------------------------------------------------------

const TEXTS = ['FirstName', 'LastName', 'Title', 'Company', 'Email', 'Phone', 'Country', 'Campaign', 'Source', 'Action', 'OfferDisplayName', 'DeliveryId'];
const names = Object.keys(PAYLOADS);
function evilRows(make) {
  return names.map((name, i) => S.row(make(i, true), Object.fromEntries([['ReceivedTime', new Date(UNTIL - 1 - i * 1000)], ...TEXTS.map((column) => [column, make(i)])]), { contact: S.hash(`evil${i}`), content: S.hash(`${i}`) }));
}
const skeleton = (page) => page.elements.map((node) => `${node.tagName} ${node.attrs.map(({ name, value }) => (['class', 'role', 'scope'].includes(name) ? `${name}=${value}` : name)).join(' ')}`);

for (const [from, to] of [[0, 45], [names.length - 45, names.length]]) {
  test(`what customers write is text and nothing else: ${names[from]} to ${names[to - 1]}`, async (t) => {
    const bench = new L.Bench(t).configure();
    const evil = evilRows((i) => PAYLOADS[names[i]]).slice(from, to);
    await S.storeInSqlite(bench, evil);
    const { page } = await report(bench, ...OPTIONS);
    judgeStructure(page);
    judgeNumbers(page, countAll(evil));
    // The same leads with harmless words make the same elements: nothing was added and nothing swallowed.
    const plain = new L.Bench(t).configure();
    await S.storeInSqlite(plain, evilRows((i) => `plain ${String(i).padStart(2, '0')}`).slice(from, to));
    assert.deepStrictEqual(skeleton(page), skeleton((await report(plain, ...OPTIONS)).page));
    const named = await report(bench, ...OPTIONS, '--no-personal-data');
    judgeStructure(named.page);
    judgeNumbers(named.page, countAll(evil), PERIOD, { personal: false });
  });
}

testBoth('without personal data: nothing of a person, the same numbers', MANY, async (bench) => {
  const { file, page } = await report(bench, ...OPTIONS, '--no-personal-data');
  judgeStructure(page);
  judgeNumbers(page, countAll(MANY), PERIOD, { personal: false });
  const text = fs.readFileSync(file, 'utf8');
  for (const { columns } of MANY) for (const name of ['LastName', 'Email', 'Phone', 'Company', 'Title']) if (columns[name]) assert.ok(!text.includes(columns[name]), columns[name]);
  assert.match(Page.text(page.all('footer')[0]), /names no customers/);
});

// --- in a browser --------------------------------------------------------------------------------------------

// Runs in the page.  What is cut off on purpose, for those who listen only, is left out.
function measure(clips) {
  const wide = document.documentElement.clientWidth;
  const problems = [];
  const channels = (color) => (color.match(/[\d.]+/g) || []).map(Number);
  const luminance = (color) => {
    const [r, g, b] = channels(color).slice(0, 3).map((c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const contrast = (a, b) => { const [x, y] = [luminance(a), luminance(b)].sort((one, other) => other - one); return (x + 0.05) / (y + 0.05); };
  const backOf = (element) => {
    for (let node = element; node; node = node.parentElement) {
      const { backgroundColor } = getComputedStyle(node);
      const parts = channels(backgroundColor);
      if (parts.length === 3 || parts[3] === 1) return backgroundColor;
    }
    return 'rgb(255, 255, 255)';
  };
  const unseen = (element) => element.closest('.unseen, .narrow, thead, title, desc') && getComputedStyle(element.closest('.unseen, .narrow, thead, title, desc')).clipPath !== 'none';
  let texts = 0, shapes = 0, leastText = 99, leastShape = 99;
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const element = node.parentElement;
    const range = document.createRange();
    range.selectNodeContents(node);
    const cell = clips && element.closest('td, th');
    const edge = cell && getComputedStyle(cell).overflowX === 'hidden' ? cell.getBoundingClientRect().right : Infinity;
    const boxes = [...range.getClientRects()].filter((box) => box.width > 0).map(({ left, right }) => ({ left: Math.min(left, edge), right: Math.min(right, edge) }));
    if (!node.data.trim() || boxes.length === 0 || unseen(element) || element.closest('title, desc, style')) continue;
    const style = getComputedStyle(element);
    const ratio = contrast(element.closest('svg') ? style.fill : style.color, backOf(element));
    texts++;
    leastText = Math.min(leastText, ratio);
    if (ratio < 4.5) problems.push(`contrast ${ratio.toFixed(2)}: ${node.data}`);
    if (parseFloat(style.fontSize) < 10.5) problems.push(`size ${style.fontSize}: ${node.data}`);
    for (const box of boxes) if (box.left < -0.5 || box.right > wide + 0.5) problems.push(`out of the page (${box.left.toFixed()} to ${box.right.toFixed()} of ${wide}): ${node.data}`);
  }
  for (const shape of document.querySelectorAll('rect, line.axis')) {
    const box = shape.getBoundingClientRect();
    const style = getComputedStyle(shape);
    if (box.width + box.height === 0 || style.display === 'none') continue;
    const ratio = contrast(shape.tagName === 'line' ? style.stroke : style.fill, backOf(shape));
    shapes++;
    leastShape = Math.min(leastShape, ratio);
    if (ratio < 3) problems.push(`contrast of ${shape.outerHTML}: ${ratio.toFixed(2)}`);
    if (box.left < -0.5 || box.right > wide + 0.5) problems.push(`out of the page: ${shape.outerHTML}`);
  }
  // Numbers and dates of a plot do not lie on each other, nor cells of a table.
  const overlaps = (list, what) => list.forEach((a, i) => list.slice(i + 1).forEach((b) => {
    if (a.left < b.right - 0.5 && b.left < a.right - 0.5 && a.top < b.bottom - 2.5 && b.top < a.bottom - 2.5) problems.push(`${what}: ${a.text} and ${b.text}`);
  }));
  const boxOf = (element) => { const { left, right, top, bottom } = element.getBoundingClientRect(); return { left, right, top, bottom, text: element.textContent.slice(0, 40) }; };
  for (const svg of document.querySelectorAll('svg')) overlaps([...svg.querySelectorAll('text')].filter((each) => getComputedStyle(each).display !== 'none').map(boxOf), 'one on the other');
  for (const row of document.querySelectorAll('tr')) overlaps([...row.cells].filter((each) => !unseen(each)).map(boxOf).filter((box) => box.right > box.left), 'cells');
  for (const cell of document.querySelectorAll('td, th, dd, dt, li, p, caption')) if (!unseen(cell) && !(clips && getComputedStyle(cell).overflowX === 'hidden') && cell.scrollWidth > cell.clientWidth + 1 && cell.clientWidth > 1) problems.push(`wider than its place: ${cell.textContent.slice(0, 60)}`);
  if (document.documentElement.scrollWidth > innerWidth) problems.push(`the page has ${document.documentElement.scrollWidth} of ${innerWidth} pixels`);
  return { problems: problems.slice(0, 20), texts, shapes, leastText, leastShape, styled: getComputedStyle(document.body).marginTop === '0px', back: getComputedStyle(document.body).backgroundColor,
    narrow: getComputedStyle(document.querySelector('.newest') || document.body).display };
}

const LOOKS = { light: {}, dark: { scheme: 'dark' }, narrow: { width: 320, height: 640 }, 'narrow and dark': { width: 360, height: 740, scheme: 'dark' }, tablet: { width: 700 },
  // A4 between its margins; on paper it is light whatever the reader's system is.
  print: { width: 688, media: 'print', scheme: 'dark' } };

// REPORT_PICTURES=FOLDER keeps what was looked at.
const PICTURES = process.env.REPORT_PICTURES;
let pictures = 0;

// clips: whether a text may be longer than its place, as no browser can break it, and end there.
async function judgeLooks(bench, browser, file, { pages, clips = false, looks = Object.keys(LOOKS) }) {
  const picture = ++pictures;
  for (const name of looks) {
    const look = LOOKS[name];
    const { requests, messages } = await browser.show(file, look);
    assert.deepStrictEqual(requests, [`file://${file}`], name);
    assert.deepStrictEqual(messages, [], name);
    const got = await browser.run(measure, clips);
    assert.deepStrictEqual(got.problems, [], name);
    assert.ok(got.texts > 10 && got.styled, name);
    assert.strictEqual(got.back, name.endsWith('dark') ? 'rgb(21, 24, 27)' : 'rgb(255, 255, 255)', name);
    if (pages > 1 && name !== 'print') assert.strictEqual(got.narrow, look.width < 640 ? 'block' : 'table', name);
    if (PICTURES) await browser.screenshot(path.join(PICTURES, `${picture}-${name.replace(/ /g, '-')}.png`));
  }
  await browser.show(file);
  await browser.pdf(bench.file('report.pdf'));
  const pdf = fs.readFileSync(bench.file('report.pdf'), 'latin1');
  if (PICTURES) fs.copyFileSync(bench.file('report.pdf'), path.join(PICTURES, `${picture}.pdf`));
  const printed = (pdf.match(/\/Type\s*\/Page\b/g) || []).length;
  assert.ok(printed >= 1 && printed <= pages, `${printed} pages`);
}

const EVIL = evilRows((i, isKey) => (isKey ? `offer-${i}` : PAYLOADS[names[i]]));
const LONG = evilRows((i) => `${i}${'W'.repeat(140)}`).slice(0, 10);
for (const [name, rows, pages, clips] of [['many leads', MANY, 7], ['two hundred offers', OFFERS, 8], ['one lead', ONE, 3], ['what customers write', EVIL, 40, true], ['words without blanks', LONG, 25]]) {
  test(`in a browser: ${name}, light, dark, narrow and printed`, async (t) => {
    const bench = new L.Bench(t).configure();
    await S.storeInSqlite(bench, rows);
    const browser = await Browser.start(bench);
    await judgeLooks(bench, browser, (await report(bench, ...OPTIONS)).file, { pages, clips });
    const year = await report(bench, '--since', '2025-11-16', '--until', '2026-11-16', '--no-personal-data');
    await judgeLooks(bench, browser, year.file, { pages, clips, looks: ['dark', 'narrow'] });
    const none = await report(bench, '--since', '2026-11-16', '--until', '2026-11-17');
    await judgeLooks(bench, browser, none.file, { pages: 1, looks: ['narrow'] });
  });
}

test('the policy of the page lets in nothing, even where markup got in', async (t) => {
  const bench = new L.Bench(t).configure();
  await S.storeInSqlite(bench, ONE);
  const asked = [];
  const server = http.createServer((req, res) => { asked.push(req.url); res.end(); });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  bench.stops.push(() => new Promise((resolve) => { server.closeAllConnections(); server.close(resolve); }));
  const at = `http://127.0.0.1:${server.address().port}`;
  const { file } = await report(bench, ...OPTIONS);
  const markup = `<img src="${at}/img"><link rel="stylesheet" href="${at}/css"><iframe src="${at}/frame"></iframe><style>h1{display:none}</style><p id="in" style="display:none">in</p><script>document.title='in'</script>`;
  const broken = bench.write('broken.html', fs.readFileSync(file, 'utf8').replace('</main>', `${markup}</main>`));
  const open = bench.write('open.html', fs.readFileSync(broken, 'utf8').replace(/<meta http-equiv=.*\n/, ''));
  const browser = await Browser.start(bench);
  await browser.call('Emulation.setScriptExecutionDisabled', { value: false });
  const look = () => [document.title, getComputedStyle(document.querySelector('h1')).display, getComputedStyle(document.querySelector('#in')).display];
  await browser.show(broken);
  assert.deepStrictEqual(await browser.run(look), ['Customer leads, 17 Oct 2026 to 15 Nov 2026', 'block', 'block']);
  assert.deepStrictEqual(asked, []);
  await browser.show(open); // the markup would have done it
  assert.deepStrictEqual(await browser.run(look), ['in', 'none', 'none']);
  assert.ok(asked.includes('/img') && asked.includes('/css'));
});

// --- the command ---------------------------------------------------------------------------------------------

test('the file: private, whole or not at all', async (t) => {
  const bench = new L.Bench(t).configure();
  await S.storeInSqlite(bench, ONE);
  const { file } = await report(bench, ...OPTIONS);
  assert.strictEqual(fs.statSync(file).mode & 0o777, 0o600);
  fs.chmodSync(file, 0o644);
  fs.writeFileSync(file, 'an older one');
  await report(bench, ...OPTIONS);
  assert.strictEqual(fs.statSync(file).mode & 0o777, 0o600);
  assert.match(fs.readFileSync(file, 'utf8'), /^<!DOCTYPE html>[^]*<\/html>\n$/);

  const out = await bench.leadctl('report', ...OPTIONS);
  assert.strictEqual(out.status, 0);
  assert.strictEqual(out.stdout.replace(/Counted .{17} UTC/, ''), fs.readFileSync(file, 'utf8').replace(/Counted .{17} UTC/, ''));

  fs.mkdirSync(bench.file('folder'));
  fs.symlinkSync(file, bench.file('link'));
  for (const name of ['folder', 'link']) {
    const refused = await bench.leadctl('report', ...OPTIONS, '--output', bench.file(name));
    assert.strictEqual(refused.status, 64);
    assert.match(refused.stderr, /is there and is no file/);
  }
  const nowhere = await bench.leadctl('report', ...OPTIONS, '--output', bench.file('missing/report.html'));
  assert.strictEqual(nowhere.status, 74);
  assert.match(nowhere.stderr, /^leadctl: cannot make a file beside '.*missing\/report.html': No such file or directory\n$/);
  const full = await bench.leadctl('report', ...OPTIONS, '--output', '/dev/full');
  assert.strictEqual(full.status, 64);
  assert.deepStrictEqual(fs.readdirSync(bench.dir).filter((name) => name.startsWith('report')), ['report.html'], 'nothing half done is left');

  const before = fs.readFileSync(file, 'utf8');
  fs.renameSync(bench.file('leads.db'), bench.file('away.db'));
  fs.mkdirSync(bench.file('leads.db'));
  const broken = await bench.leadctl('report', ...OPTIONS, '--output', file);
  assert.notStrictEqual(broken.status, 0);
  assert.strictEqual(fs.readFileSync(file, 'utf8'), before, 'the older one stays');
});

test('a file that cannot be written whole leaves nothing behind', async (t) => {
  const bench = new L.Bench(t).configure();
  await S.storeInSqlite(bench, MANY);
  // In blocks of 512 bytes: enough for what the database needs, not for the page.
  const result = spawnSync('sh', ['-c', 'trap "" XFSZ; ulimit -f 80; exec "$@"', 'sh', path.join(L.build, 'leadctl'), '--config', bench.config, 'report', ...OPTIONS, '--output', bench.file('report.html')], { encoding: 'utf8' });
  assert.deepStrictEqual([result.status, result.stdout], [74, '']);
  assert.match(result.stderr, /^leadctl: cannot write '.*report.html': File too large\n$/);
  assert.deepStrictEqual(fs.readdirSync(bench.dir).filter((name) => name.startsWith('report')), []);
});

test('what is asked for wrongly', async (t) => {
  const bench = new L.Bench(t).configure();
  for (const [args, says] of [[['--output'], /--output needs the name of a file/], [['--output='], /--output needs/], [['--since'], /--since: a time is given as/], [['--since', 'yesterday'], /--since: a time is given as/], [['--since=2025-11-14', '--until', '2026-11-16'], /at most 366 days/],
    [['--since', '2026-11-16', '--until', '2026-11-15'], /there is no day between/], [['--since', '2999-01-01'], /there is no day between/], [['--mail-it'], /no option '--mail-it'/], [['--mail', 'ana'], /--mail: not a mail address/],
    [['--mail=ana@example.com,'], /--mail: not a mail address/], [['--mail='], /--mail: /], [['--mail', 'a@b,A@B'], /--mail: an address stands there twice/], [['--week', '--since', '7d'], /--week says which days/], [['x'], /no option 'x'/]]) {
    const result = await bench.leadctl('report', ...args);
    assert.deepStrictEqual([result.status, result.stdout], [64, ''], args.join(' '));
    assert.match(result.stderr, says);
    assert.match(result.stderr, /\nusage: leadctl report /);
    assert.match(result.stderr, /--help` says/);
  }
});

// --- mailed --------------------------------------------------------------------------------------------------

async function setUpMail(t, settings = {}) {
  const bench = new L.Bench(t);
  bench.smtp = await L.startSmtp(bench);
  bench.configure(bench.smtp.settings({ mail_to: 'sales@example.com, Boss <boss@example.com>', ...settings }));
  await S.storeInSqlite(bench, MANY);
  return bench;
}

test('mailed: to every recipient, the page as a file', async (t) => {
  const bench = await setUpMail(t);
  const { file } = await report(bench, ...OPTIONS, '--mail');
  assert.deepStrictEqual(bench.smtp.mails.map((mail) => mail.to).sort(), [['boss@example.com'], ['sales@example.com']]);
  const want = countAll(MANY);
  const strict = spawnSync('python3', ['-c', `
import sys, json, email, email.policy
for raw in json.load(sys.stdin):
    message = email.message_from_bytes(raw.encode('latin1'), policy=email.policy.strict)
    [page] = message.iter_attachments()
    assert not message.defects and not page.defects and message.get_body().get_content_type() == 'text/plain'
    print(json.dumps([page.get_content_type(), page.get_filename(), page.get_content()]))
`], { input: JSON.stringify(bench.smtp.mails.map((mail) => mail.raw.toString('latin1'))), encoding: 'utf8' });
  assert.strictEqual(strict.status, 0, strict.stderr);
  for (const line of strict.stdout.trim().split('\n')) assert.deepStrictEqual(JSON.parse(line), ['text/html', 'leads-2026-10-17-2026-11-15.html', fs.readFileSync(file, 'utf8')]);
  for (const mail of bench.smtp.mails) {
    const { parsed } = mail;
    const number = mail.to[0].startsWith('sales') ? 1 : 2;
    assert.strictEqual(parsed.subject, 'Customer leads, 17 Oct 2026 to 15 Nov 2026');
    assert.strictEqual(parsed.messageId, `<report.leads-2026-10-17-2026-11-15.${number}@example.com>`);
    assert.strictEqual(parsed.headers.get('auto-submitted'), 'auto-generated');
    assert.match(parsed.text, new RegExp(`^  Leads +${thousands(want.leads)}\\n  New customers +${want.newCustomers}\\n  Returning customers +${want.returning}\\n  Test .* ${want.test}\\n  Not to be .* ${want.doNotContact}\\n`, 'm'));
    assert.match(parsed.text, /personal data/);
    assert.strictEqual(parsed.attachments[0].content.toString(), fs.readFileSync(file, 'utf8'));
    assert.ok(mail.raw.toString('latin1').split('\r\n').every((each) => each.length <= 78 && !/[^\x20-\x7e\t]/.test(each)));
  }
});

test('mailed: nothing personal where notify_detail says so; one recipient refused is not the other', async (t) => {
  const bench = await setUpMail(t, { notify_detail: 'summary' });
  bench.smtp.faults = { rcpt: (address) => (address.startsWith('sales') ? { code: 550 } : undefined) };
  const refused = await bench.leadctl('report', ...OPTIONS, '--mail');
  assert.deepStrictEqual([refused.status, refused.stdout], [69, '']);
  assert.match(refused.stderr, /^leadctl: the report was not mailed to recipient number 1: .*550/);
  assert.ok(!refused.stderr.includes('sales@'));
  const [mail] = bench.smtp.mails;
  assert.deepStrictEqual(mail.to, ['boss@example.com']);
  const page = mail.parsed.attachments[0].content.toString();
  for (const { columns } of MANY) if (columns.Email) assert.ok(!page.includes(columns.Email));
  judgeNumbers(new Page(page), countAll(MANY), PERIOD, { personal: false });

  const code = (of) => { bench.smtp.faults = { rcpt: (address) => of[address.split('@')[0]] && { code: of[address.split('@')[0]] } }; };
  const mailed = async () => {
    const { status, stderr } = await bench.leadctl('report', ...OPTIONS, '--mail');
    return [status, /^leadctl: (\d of 2) recipients have the report/m.exec(stderr)[1]];
  };
  code({ sales: 451, boss: 452 });
  assert.deepStrictEqual(await mailed(), [75, '0 of 2'], 'a later try sends nothing twice');
  code({ sales: 451 });
  assert.deepStrictEqual(await mailed(), [69, '1 of 2'], 'a later try would');
  for (const of of [{ sales: 451, boss: 550 }, { sales: 550, boss: 451 }]) {
    code(of);
    assert.deepStrictEqual(await mailed(), [69, '0 of 2'], 'not all that is wrong passes by');
  }
  const off = new L.Bench(t).configure();
  const none = await off.leadctl('report', '--mail');
  assert.strictEqual(none.status, 78);
  assert.match(none.stderr, /--mail needs mail_url/);
});

test('mailed: to whom', async (t) => {
  const bench = await setUpMail(t, { mail_to: 'old@example.com' });
  const mailed = async (routes, ...args) => {
    if (routes) bench.write('routes', routes);
    bench.smtp.mails.length = 0;
    const result = await bench.leadctl('report', ...args);
    return [result.status, bench.smtp.mails.map((mail) => mail.to.join()).sort().join(' '), result.stderr];
  };
  bench.configure({ ...bench.settings, mail_routes: bench.write('routes', '') });
  assert.deepStrictEqual(await mailed('country=DE -> dach@example.com\n', '--mail'), [0, 'old@example.com', '']);
  const all = 'country=DE -> dach@example.com\ndefault -> sales@example.com, Boss <boss@example.com>\n';
  assert.deepStrictEqual(await mailed(all, '--mail', '--week'), [0, 'boss@example.com sales@example.com', '']);
  assert.deepStrictEqual(await mailed(all, '--mail', 'Ana <ana@example.com>,bob@example.com', '--week'), [0, 'ana@example.com bob@example.com', '']);
  const nobody = 'offer=x -> x@example.com\ndefault -> off\n';
  const [status, to, says] = await mailed(nobody, '--mail');
  assert.deepStrictEqual([status, to], [78, '']);
  assert.match(says, /who shall get the report\? 'default' of mail_routes is off; name them: --mail ADDRESS/);
  assert.deepStrictEqual(await mailed(nobody, '--mail=ana@example.com'), [0, 'ana@example.com', '']);
  const broken = await mailed('nonsense\n', '--mail');
  assert.deepStrictEqual(broken.slice(0, 2), [78, '']);
  assert.match(broken[2], /routes:1: /);
});

test('the last whole week', async (t) => {
  const bench = new L.Bench(t).configure();
  const week = () => {
    const today = Math.floor(Date.now() / DAY) * DAY;
    let monday = today;
    while (new Date(monday).getUTCDay() !== 1) monday -= DAY;
    return `Customer leads, ${day(monday - 7 * DAY)} to ${day(monday - DAY)}`;
  };
  const before = week();
  const { page } = await report(bench, '--week');
  assert.ok([before, week()].includes(Page.text(page.all('title')[0])));
});
