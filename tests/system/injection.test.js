// What customers (and whoever else can make a request, a server's reply or a row) write reaches the mail as text and
// as nothing else: no header, recipient, address, part, element or link that leadhook did not make, and nothing that
// a reader cannot see.
//
// Every mail goes through real SMTP and is judged three times: its bytes by rules written here, by mailparser, and by
// Python's mail parser with every known defect an error, whose HTML parser takes the HTML part apart.  What a mail has
// to say is computed here from the lead's row, not by the composer's code.
'use strict';

const assert = require('node:assert');
const { spawn, spawnSync } = require('node:child_process');
const path = require('node:path');
const L = require('./lib.js');
const { PAYLOADS } = require('./payloads.js');

const { test } = L;

// --- what is sent --------------------------------------------------------------------------------------------

// As the customer's address; in Reply-To only where it is one plain address.
const ADDRESSES = [
  'plain@example.com', 'plain+tag@sub.example.co.uk', "o'hara=x_y-z/1#$&*?^`{|}~@example.com", '"quoted"@example.com', '"a@b"@example.com', '"a\\"b"@example.com',
  'a(comment)@example.com', 'a@example.com(comment)', '(c)a@example.com', 'friends: a@example.com, b@example.com;', 'undisclosed-recipients:;',
  'a@example.com, b@example.net', 'a@example.com; b@example.net', 'a@example.com b@example.net', 'a%example.net@example.com', 'example.net!a@example.com', 'a@b@example.com',
  '@@@@@@@@example.com', 'jörg@example.com', 'a@müller.example', 'a@xn--mller-kva.example', 'a@xn--0049.com.example.net', 'a@XN--0117.example', '@example.net,@example.org:a@example.com', 'Ana <a@example.com>',
  '<a@example.com>', 'a@example.com>', '<a@example.com', '"Ana, B" <a@example.com>', 'a@example.com\r\n', 'a@example.com\r\nBcc: b@example.net', 'a@example.com\u0000', 'a@[127.0.0.1]', 'a@example',
  'a@example.com.', '.a@example.com', 'a..b@example.com', '=?utf-8?q?evil=40example.net=3E?=@example.com', '=?utf-8?q?a=0D=0ABcc=3Ax?=@example.com', 'x=?utf-8?b?YQ==?=y@example.com', 'a@=?utf-8?q?example?=.net',
  '-oQ@example.com', 'a?subject=x&body=y@example.com', 'a@example.com?bcc=b@example.net', 'mailto:a@example.com', 'a\u202e@example.com', 'a\u200b@example.com', '&lt;a@example.com', `${'a'.repeat(64)}@example.com`, `${'a'.repeat(65)}@example.com`,
  `a@${'b'.repeat(64)}.com`, 'a@-example.com', 'a@ex_ample.com', ' a@example.com ',
];

// --- what a mail has to say ----------------------------------------------------------------------------------

const FIELD_BYTES = 3 * 1024, TEXT_BYTES = 10 * 1024;
const INVISIBLE = /[\p{Default_Ignorable_Code_Point}\uFFF9-\uFFFB]/u;
const CONTROL = /[\0-\x1f\x7f-\x9f\u2028\u2029]/;
const bytes = (text) => Buffer.byteLength(text);
const trim = (text) => (text || '').replace(/^[ \t\r\n]+|[ \t\r\n]+$/g, '');
const number = (char) => `<U+${char.codePointAt(0).toString(16).toUpperCase().padStart(4, '0')}>`;
const ENTITY_BYTES = { '&': 5, '<': 4, '>': 4, '"': 6, "'": 5 };

// What comes from outside, as it is shown: cut where that many bytes have been written.
function shown(value, limit, html, indent = '') {
  let out = '', written = 0;
  const list = [...value.replace(/\r\n/g, '\n')];
  while (list.length && written < limit) {
    const char = list.shift();
    const next = /[\n\r\u2028\u2029\u0085]/.test(char) ? '\n' : char === '\t' ? ' ' : CONTROL.test(char) || INVISIBLE.test(char) ? number(char) : char;
    out += next;
    if (next === '\n') written += html ? 5 : 1 + bytes(indent);
    else written += [...next].reduce((sum, c) => sum + ((html && ENTITY_BYTES[c]) || bytes(c)), 0);
  }
  return list.length ? `${out} [...] (cut here; the whole is in the store)` : out;
}
const oneLine = (text) => [...text].map((char) => (/[\n\r\t]/.test(char) ? ' ' : CONTROL.test(char) || INVISIBLE.test(char) ? '\ufffd' : char)).join('');
function cut(text, limit) {
  let out = '';
  for (const char of text) {
    if (bytes(out + char) > limit) break;
    out += char;
  }
  return out;
}
const inHeader = (text) => [...text].map((char) => (char === ' ' || CONTROL.test(char) ? ' ' : INVISIBLE.test(char) ? '' : char)).join('').replace(/ +/g, ' ').replace(/^ | $/g, '');

const ACTIONS = { INS: 'Get it now', PLT: 'Contact me request', DNC: 'Asked another partner', Create: 'Created in Azure portal', StartTestDrive: 'Test drive started' };
const actionWords = (row) => ACTIONS[row.Action] || trim(row.Action) || 'Lead';
const offerName = (row) => trim(row.OfferDisplayName) || row.partitionKey;
const nameOf = (row) => [trim(row.FirstName), trim(row.LastName)].filter(Boolean).join(' ');
const minute = (time) => `${time.slice(0, 10)} ${time.slice(11, 16)} UTC`;

function parametersOf(words) {
  if (words[0] !== '{') return undefined;
  let top;
  try { top = JSON.parse(words); } catch { return undefined; }
  return Object.keys(top).length ? Object.entries(top) : undefined;
}

const PLAIN_ATOM = /^(?!.*=\?)[A-Za-z0-9#$&'*+/=?^_`{|}~-]+(\.[A-Za-z0-9#$&'*+/=?^_`{|}~-]+)*$/;
const PLAIN_LABEL = /^(?!xn--)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/i;
function isPlainAddress(text) {
  const parts = text.split('@');
  return parts.length === 2 && parts[0].length <= 64 && PLAIN_ATOM.test(parts[0]) && parts[1].includes('.') && parts[1].split('.').every((label) => PLAIN_LABEL.test(label));
}
const percent = (text) => encodeURIComponent(text).replace(/[!'()*]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`);

function linksOf(row) {
  const [email, phone] = [trim(row.Email), trim(row.Phone)];
  if (row.DoNotContact) return {};
  return {
    email: isPlainAddress(email) ? `mailto:${percent(email.split('@')[0])}@${email.split('@')[1]}` : undefined,
    phone: /^[-+0-9 .()]{3,40}$/.test(phone) ? `tel:${phone.replace(/(?!^\+)[^0-9]/g, '')}` : undefined,
  };
}

// The mail's blocks in their order.
function blocksOf(row, { detail, earlier = [] }) {
  const blocks = [['headline', `${oneLine(cut(actionWords(row), 40))}: ${oneLine(cut(offerName(row), 120))}`]];
  const links = linksOf(row);
  if (row.IsTest) blocks.push(['notice', 'This is a test lead from Partner Center or from yourselves, not a customer.']);
  if (row.DoNotContact) blocks.push(['notice', 'Do not contact this customer: they asked another partner. This lead is for information only.']);
  if (detail === 'full') {
    blocks.push(['rows', [['Name', nameOf(row)], ['Title', row.Title], ['Company', row.Company], ['E-mail', row.Email, links.email], ['Phone', row.Phone, links.phone], ['Country', row.Country]]]);
    const words = trim(row.Description);
    const parameters = parametersOf(words);
    if (parameters) blocks.push(['section', 'The page they came from'], ['rows', parameters.map(([name, value]) => [oneLine(cut(name, 60)), value])]);
    else if (words) blocks.push(['section', 'Their message'], ['prose', words]);
    if (earlier.length) {
      const said = (other) => { const w = trim(other.Description); return w ? `: ${oneLine(cut(w, 120))}${bytes(w) > 120 ? ' [...]' : ''}` : ''; };
      blocks.push(['section', 'Earlier leads of this person in this offer'],
        ['rows', earlier.map((other) => [other.ReceivedTime.slice(0, 10), oneLine(cut(actionWords(other), 40)) + said(other)])]);
    }
  } else {
    blocks.push(['paragraph', 'A lead has arrived. This mail holds no personal data.']);
  }
  blocks.push(['section', 'About this lead'], ['rows', [['Offer', offerName(row)], ['Offer key', row.partitionKey], ['Action', actionWords(row)], ['Source', row.Source],
    ...(detail === 'full' ? [['Campaign', row.Campaign]] : []), ['Received', minute(row.ReceivedTime)], ['Lead id', row.DeliveryId]]],
  ['paragraph', "Everything stored about it: run 'leadctl show' with the lead id on the server."]);
  return blocks;
}
const PROSE_INDENT = ' '.repeat(4), ROW_INDENT = ' '.repeat(13);
const indented = (text, indent) => text.replace(/\n/g, `\n${indent}`);

function textOf(blocks) {
  const write = ([kind, content]) => {
    if (kind === 'prose') return `${PROSE_INDENT}${indented(shown(content, TEXT_BYTES, false, PROSE_INDENT), PROSE_INDENT)}\n`;
    if (kind !== 'rows') return `${content}\n`;
    return content.filter(([, value]) => trim(value)).map(([label, value]) =>
      `  ${label}${' '.repeat(Math.max(0, 10 - bytes(label)))} ${indented(shown(trim(value), FIELD_BYTES, false, ROW_INDENT), ROW_INDENT)}\n`).join('');
  };
  return blocks.map(write).join('\n');
}

// The HTML part as its parser shall see it, without styles.
function tokensOf(blocks) {
  const tokens = [];
  const text = (value) => value.split('\n').forEach((line, i) => {
    if (i) tokens.push({ begin: 'br', attributes: [] });
    tokens.push({ text: line });
  });
  const element = (name, attributes, inside) => {
    tokens.push({ begin: name, attributes });
    inside();
    tokens.push({ end: name });
  };
  const cell = (attributes, inside) => element('td', attributes, inside);
  const row = ([label, value, link]) => element('tr', [], () => {
    const words = shown(trim(value), FIELD_BYTES, true);
    cell([], () => text(label));
    cell([['dir', 'auto']], () => (link ? element('a', [['href', link]], () => text(words)) : text(words)));
  });
  const write = ([kind, content]) => {
    if (kind === 'headline') element('h1', [], () => text(content));
    else if (kind === 'section') element('h2', [], () => text(content));
    else if (kind === 'notice') element('p', [], () => element('strong', [], () => text(content)));
    else if (kind === 'paragraph') element('p', [], () => text(content));
    else if (kind === 'prose') element('p', [['dir', 'auto']], () => text(shown(content, TEXT_BYTES, true)));
    else element('table', [['role', 'presentation']], () => content.filter(([, value]) => trim(value)).forEach(row));
  };
  const meta = (...attributes) => tokens.push({ begin: 'meta', attributes });
  tokens.push({ declaration: 'DOCTYPE html' });
  element('html', [['lang', 'en']], () => {
    element('head', [], () => {
      meta(['charset', 'utf-8']);
      meta(['name', 'color-scheme'], ['content', 'light dark']);
      meta(['name', 'viewport'], ['content', 'width=device-width']);
      element('title', [], () => text('Lead'));
    });
    element('body', [], () => blocks.forEach(write));
  });
  return tokens.filter((token) => token.text !== '');
}

const STYLE = /^[a-z0-9:;.,#% '/-]+$/i;
// The parser's tokens without styles, and without the line ends between elements.
function withoutLayout(tokens) {
  return tokens.map((token, i) => {
    if (token.attributes) {
      for (const [name, value] of token.attributes) if (name === 'style') assert.match(value, STYLE);
      return { ...token, attributes: token.attributes.filter(([name]) => name !== 'style') };
    }
    if (token.text === undefined) return token;
    return { text: i && tokens[i - 1].begin === 'br' ? token.text.replace(/^\n/, '') : token.text.replace(/^\n$/, '') };
  }).filter((token) => token.text !== '');
}

function subjectOf(row, detail) {
  const who = trim(row.Company) || nameOf(row) || trim(row.Email);
  const last = detail === 'summary' ? `, lead ${row.DeliveryId}` : who ? `, ${cut(who, 120)}` : '';
  return inHeader(`${row.IsTest ? '[TEST] ' : ''}${row.DoNotContact ? '[DO NOT CONTACT] ' : ''}${cut(actionWords(row), 40)}: ${cut(offerName(row), 120)}${last}`);
}

// --- judging -------------------------------------------------------------------------------------------------

function readStrictly(mails) {
  return new Promise((resolve, reject) => {
    const child = spawn('python3', ['-I', path.join(__dirname, 'strict_mail.py')], { stdio: ['pipe', 'pipe', 'inherit'] });
    const chunks = [];
    child.stdout.on('data', (chunk) => chunks.push(chunk));
    child.on('error', reject);
    child.on('close', () => resolve(Buffer.concat(chunks).toString().split('\n').filter(Boolean).map((line) => JSON.parse(line))));
    child.stdin.end(mails.map((mail) => `${mail.raw.toString('base64')}\n`).join(''));
  });
}

const LONG_ALONE = /^(Reply-To: <[!-~]+>| <[!-~]+>)$/; // an address that is longer than a line
function judgeBytes(mail, names) {
  const text = mail.raw.toString('latin1');
  assert.match(text, /^[\x20-\x7e\r\n]*$/, 'printable ASCII');
  assert.ok(!/[^\r]\n|\r[^\n]/.test(text), 'only CRLF');
  const end = text.indexOf('\r\n\r\n');
  for (const line of text.slice(0, end).split('\r\n')) assert.ok(line.length <= 78 || (line.length <= 998 && LONG_ALONE.test(line)), `header line: ${line}`);
  for (const line of text.slice(end).split('\r\n')) {
    assert.ok(line.length <= 76, `body line: ${line}`);
    assert.ok(!/^(\.|From )/.test(line), line);
  }
  const unfolded = text.slice(0, end).replace(/\r\n[ \t]+/g, ' ').split('\r\n');
  assert.deepStrictEqual(unfolded.map((line) => /^([!-9;-~]+): /.exec(line)[1]), names, 'the headers');
}

// What is the same for every mail that we send.
function judgeFrame(mail, strict, { names, from = 'leads@example.com', to, subject, messageId }) {
  assert.deepStrictEqual([mail.from, mail.to], [from, [to]], 'the envelope');
  judgeBytes(mail, names);
  assert.strictEqual(strict.error, undefined);
  assert.deepStrictEqual([strict.defects, strict.headers.flatMap((header) => header.defects)], [[], []]);
  assert.deepStrictEqual(strict.headers.map((header) => header.name), names);
  const header = (name) => strict.headers.find((h) => h.name === name);
  assert.deepStrictEqual(header('From').groups, [[null, [['Website leads', from]]]]);
  assert.deepStrictEqual(header('To').groups, [[null, [['', to]]]]);
  assert.strictEqual(header('Subject').text, subject);
  assert.strictEqual(header('Message-ID').text.trim(), messageId);

  const { parsed } = mail;
  assert.deepStrictEqual(parsed.from.value, [{ address: from, name: 'Website leads' }]);
  assert.deepStrictEqual(parsed.to.value, [{ address: to, name: '' }]);
  assert.deepStrictEqual([parsed.cc, parsed.bcc, parsed.attachments, parsed.inReplyTo], [undefined, undefined, [], undefined]);
  assert.deepStrictEqual([parsed.subject, parsed.messageId], [subject, messageId]);
  assert.deepStrictEqual(parsed.headerLines.map((line) => line.key), names.map((name) => name.toLowerCase()));
  return header;
}

function judgeText(part, mail, want) {
  assert.strictEqual(`${part.text.replace(/\r\n/g, '\n')}\n`, want, 'the text'); // the last line end is the boundary's
  assert.strictEqual(mail.parsed.text.trimEnd(), want.trimEnd(), "mailparser's text");
  assert.ok(!CONTROL.test(want.replace(/\n/g, '')) && !INVISIBLE.test(want), 'nothing invisible');
}

function judgeLead(mail, strict, row, { detail = 'full', earlier } = {}) {
  const mayReply = detail === 'full' && !row.DoNotContact && isPlainAddress(trim(row.Email));
  const names = ['Date', 'From', 'To', ...(mayReply ? ['Reply-To'] : []), 'Message-ID', 'Subject', 'Auto-Submitted', 'X-Auto-Response-Suppress', 'X-Lead-ID', 'X-Request-ID', 'MIME-Version', 'Content-Type'];
  const header = judgeFrame(mail, strict, { names, to: 'sales@example.com', subject: subjectOf(row, detail), messageId: `<lead.${row.DeliveryId}.1@example.com>` });
  assert.strictEqual(header('X-Lead-ID').text, row.DeliveryId);
  assert.strictEqual(header('X-Request-ID').text, row.RequestId);
  assert.strictEqual(mail.parsed.date.toISOString().slice(0, 19), row.ReceivedTime.slice(0, 19));
  if (mayReply) {
    assert.deepStrictEqual(header('Reply-To').groups, [[null, [['', trim(row.Email)]]]]);
    assert.deepStrictEqual(mail.parsed.replyTo.value, [{ address: trim(row.Email), name: '' }]);
    assert.match(mail.raw.toString('latin1'), new RegExp(`\r\nReply-To: <${trim(row.Email).replace(/[^a-z0-9@]/gi, '\\$&')}>\r\n`));
  }

  assert.deepStrictEqual([strict.type, strict.preamble, strict.epilogue || ''], ['multipart/alternative', null, '']);
  assert.deepStrictEqual(strict.parts.map((part) => [part.type, part.charset, part.disposition, part.headers]),
    ['text/plain', 'text/html'].map((type) => [type, 'utf-8', null, ['Content-Type', 'Content-Transfer-Encoding']]));
  const blocks = blocksOf(row, { detail, earlier });
  judgeText(strict.parts[0], mail, textOf(blocks));
  assert.deepStrictEqual(withoutLayout(strict.parts[1].tokens.map((token) => (token.text ? { text: token.text.replace(/\r\n/g, '\n') } : token))), tokensOf(blocks), 'the HTML');
}

// --- the tests -----------------------------------------------------------------------------------------------

const PLAIN = { mail_tls: 'off', mail_user: null, mail_password_file: null, mail_tls_ca: null }; // a thousand mails go faster so
async function setUp(t, settings = {}) {
  const bench = new L.Bench(t);
  bench.smtp = await L.startSmtp(bench);
  bench.configure(bench.smtp.settings({ ...PLAIN, mail_per_minute: 60000, quarantine_per_day: 1000, ...settings }));
  await bench.startNginx();
  await bench.startLeadhook();
  return bench;
}

async function stop(bench) {
  bench.stops.splice(bench.stops.indexOf(bench.stopLeadhook), 1);
  assert.strictEqual(await bench.leadhook.stop(), 0);
}

const DETAILS = ['FirstName', 'LastName', 'Email', 'Phone', 'Country', 'Company', 'Title'];
const MEMBERS = ['LeadSource', 'ActionCode', 'OfferTitle', 'Description', 'ProductId'];
let count = 0;
// A lead whose fields of these names have these values, of an offer and a person of its own.
function leadWith(values) {
  count++;
  const usual = { FirstName: 'Ana', LastName: 'Test', Email: `ana${count}@example.com`, Phone: '+1 617 5550100', Country: 'US', Company: 'Example', Title: 'CTO',
    LeadSource: `AzureMarketplace-INS|contoso.app${count % 40}`, ActionCode: 'INS', OfferTitle: 'Contoso App', Description: 'note', ...values };
  return { UserDetails: Object.fromEntries(DETAILS.map((name) => [name, usual[name]])), ...Object.fromEntries(MEMBERS.map((name) => [name, usual[name]])) };
}
const begin = (value) => [...value].slice(0, 400).join(''); // all parameters together have one limit
const WAYS = {
  ...Object.fromEntries([...DETAILS, ...MEMBERS].map((name) => [name, (value) => ({ [name]: value })])),
  'the offer in LeadSource': (value) => ({ LeadSource: `AzureMarketplace-INS|${value}`, OfferTitle: undefined }),
  'the action in LeadSource': (value) => ({ LeadSource: `AzureMarketplace-${value}|a.b`, ActionCode: undefined }),
  'publisher and offer': (value) => ({ ProductId: `${value}.${value}`, LeadSource: undefined }),
  'the campaign': (value) => ({ Description: JSON.stringify({ mktcmpid: begin(value), [begin(value)]: 'x', a: begin(value) }) }),
};
// All fields at once; what is cut together must not outgrow the body.
const everywhere = (value) => Object.fromEntries([...DETAILS, ...MEMBERS].map((name) => [name, value]));

async function post(bench, bodies, options) {
  const ids = [];
  const queue = [...bodies.entries()];
  const worker = async () => {
    for (let next = queue.shift(); next; next = queue.shift()) {
      const answer = await bench.post(next[1], options);
      assert.strictEqual(answer.code, 200, `${answer.text} ${next[1].slice(0, 200)}`);
      ids[next[0]] = answer.json.id;
    }
  };
  await Promise.all(Array.from({ length: 8 }, worker));
  return ids;
}

// Judges the mail of each of these deliveries; gives the rows.
async function judgeAll(bench, ids, options = {}) {
  await L.until('all mails', () => bench.smtp.mails.length >= ids.length, 90000);
  await stop(bench);
  const rows = new Map(bench.entities().filter((row) => row.DeliveryId && !row.rowKey.startsWith('~')).map((row) => [row.DeliveryId, row]));
  const mails = new Map(bench.smtp.mails.map((mail) => [mail.parsed.messageId, mail]));
  assert.deepStrictEqual([bench.smtp.mails.length, mails.size], [ids.length, ids.length], 'one mail each');
  const list = ids.map((id) => mails.get(`<lead.${id}.1@example.com>`));
  const strict = await readStrictly(list);
  const mistakes = [];
  ids.forEach((id, i) => {
    try {
      judgeLead(list[i], strict[i], rows.get(id), options);
    } catch (error) {
      mistakes.push(`${options.names[i]}: ${error.message}`);
    }
  });
  assert.ok(!mistakes.length, `${mistakes.length} mails: ${mistakes.slice(0, 5).join('\n')}`);
  return rows;
}

test('every field in turn holds what could become more than text', async (t) => {
  const bench = await setUp(t);
  const bodies = [], names = [], sent = [];
  for (const [name, value] of Object.entries(PAYLOADS)) {
    for (const [where, change] of Object.entries(WAYS)) {
      sent.push(leadWith(change(value)));
      bodies.push(JSON.stringify(sent.at(-1)));
      names.push(`${name} in ${where}`);
    }
  }
  const ids = await post(bench, bodies);
  const rows = await judgeAll(bench, ids, { names });
  // What was judged is what was sent.
  ids.forEach((id, i) => {
    for (const name of DETAILS) assert.strictEqual(rows.get(id)[name] || '', trim(sent[i].UserDetails[name]) && sent[i].UserDetails[name], names[i]);
  });
});

test('all fields at once, as JSON and as a form; broken apart over the fields; very long; and as addresses', async (t) => {
  const bench = await setUp(t);
  const bodies = [], names = [], forms = [];
  const add = (name, values) => { bodies.push(JSON.stringify(leadWith(values))); names.push(name); };
  for (const [name, value] of Object.entries(PAYLOADS)) add(`${name} everywhere`, { ...everywhere(value), OfferTitle: `${value}${names.length}` });
  add('one encoded word over several fields', { FirstName: '=?utf-8?Q?a', LastName: 'b?=', Company: '=?utf-8?B?', Title: 'YQ==?=', ActionCode: '=?utf-8?Q?', OfferTitle: 'x=0D=0ABcc=3A?=' });
  add('an element over several fields', { FirstName: '<a href="', LastName: 'https://example.net/', Company: '">', Title: '<!--', Phone: '-->', Description: '</a>' });
  add('surrogates over fields', { FirstName: '\u{1f600}'.repeat(400), Company: `${'x'.repeat(119)}\u{1f600}`, ActionCode: `${'y'.repeat(39)}ö` });
  add('a line of 100,000 bytes', { Description: 'x'.repeat(100000) });
  for (const field of ['FirstName', 'Company', 'OfferTitle', 'ActionCode', 'Email']) add(`100,000 bytes without a blank in ${field}`, { [field]: 'y'.repeat(100000) });
  for (const address of ADDRESSES.filter((text) => !text.includes('\0'))) add(`address ${address}`, { Email: address });
  for (const address of ['plain@example.com', '=?utf-8?q?x?=@example.com']) add(`not to be contacted: ${address}`, { Email: address, ActionCode: 'DNC' });
  for (const phone of ['+1 (617) 555-0100', '12', '1;ext=2', 'tel:1', '+1+2', '1,,2#', '１２３４５', '()-', `1${'2'.repeat(40)}`]) add(`phone ${phone}`, { Phone: phone });
  const FORM = { FirstName: 'first_name', LastName: 'last_name', Email: 'email', Phone: 'phone', Country: 'country', Company: 'company', Title: 'title',
    LeadSource: 'lead_source', ActionCode: 'action_code', OfferTitle: 'offer_title', Description: 'description', ProductId: 'product_id' };
  for (const [name, value] of Object.entries(PAYLOADS)) {
    forms.push(Object.values(FORM).map((field) => `${field}=${encodeURIComponent(field === 'offer_title' ? `${value} ${forms.length}` : value)}`).join('&'));
    names.push(`${name} in a form`);
  }
  const ids = [...await post(bench, bodies), ...await post(bench, forms, { type: 'application/x-www-form-urlencoded' })];
  const rows = await judgeAll(bench, ids, { names });
  const replies = ADDRESSES.filter((address) => [...rows.values()].some((row) => row.Email === address && isPlainAddress(trim(address))));
  assert.deepStrictEqual(replies, ['plain@example.com', 'plain+tag@sub.example.co.uk', "o'hara=x_y-z/1#$&*?^`{|}~@example.com", 'a@example.com\r\n', '-oQ@example.com', 'a?subject=x&body=y@example.com',
    `${'a'.repeat(64)}@example.com`, ' a@example.com '], 'the addresses that can be answered');
});

test('summary: the same, and nothing of the person', async (t) => {
  const bench = await setUp(t, { notify_detail: 'summary' });
  const names = Object.keys(PAYLOADS);
  const bodies = names.map((name, i) => JSON.stringify(leadWith({ OfferTitle: `${PAYLOADS[name]}${i}`, ActionCode: PAYLOADS[name], LeadSource: `${PAYLOADS[name]}-INS|a.b${i}`, FirstName: 'Personal-1',
    LastName: 'Personal-2', Email: `personal-3-${i}@example.com`, Phone: '555 0199 4', Country: 'Personal-5', Company: 'Personal-6', Title: 'Personal-7', Description: 'Personal-8' })));
  await judgeAll(bench, await post(bench, bodies), { names, detail: 'summary' });
  for (const mail of bench.smtp.mails) assert.ok(!/personal-|555 0199/i.test(mail.parsed.text + mail.parsed.html + mail.parsed.subject), mail.parsed.text);
});

test('what a person wrote before is one line of the list of earlier leads', async (t) => {
  const bench = await setUp(t);
  const names = Object.keys(PAYLOADS);
  const leads = names.map((name, i) => ({ Email: `again${i}@example.com`, Description: PAYLOADS[name], ActionCode: PAYLOADS[name], LeadSource: `AzureMarketplace-INS|contoso.app${i}` }));
  const first = await post(bench, leads.map((values) => JSON.stringify(leadWith(values))));
  await L.until('the first mails', () => bench.smtp.mails.length === names.length);
  bench.smtp.mails.length = 0;
  const ids = await post(bench, leads.map(({ Email, LeadSource }) => JSON.stringify(leadWith({ Email, LeadSource }))));
  await L.until('the second mails', () => bench.smtp.mails.length === names.length);
  await stop(bench);
  const rows = new Map(bench.entities().filter((row) => row.Payload).map((row) => [row.DeliveryId, row]));
  const strict = await readStrictly(bench.smtp.mails);
  bench.smtp.mails.forEach((mail, i) => {
    const id = /lead\.([0-9a-f]{32})/.exec(mail.parsed.messageId)[1];
    judgeLead(mail, strict[i], rows.get(id), { earlier: [rows.get(first[ids.indexOf(id)])] });
  });
});

// --- what others write ---------------------------------------------------------------------------------------

const INDENTED = '(?:    .*\\n)+';
function judgeAlarm(mail, strict, event, subject) {
  const time = mail.parsed.date.toISOString();
  const day = time.slice(0, 10);
  const number = /\.(\d+)@/.exec(mail.parsed.messageId)[1];
  judgeFrame(mail, strict, { to: 'operator@example.com', subject: `[leadhook] ${subject} (${day} ${time.slice(11, 16)} UTC)`, messageId: `<alarm.${day}.${event}.${number}@example.com>`,
    names: ['Date', 'From', 'To', 'Message-ID', 'Subject', 'Auto-Submitted', 'X-Auto-Response-Suppress', 'X-Lead-Alarm', 'MIME-Version', 'Content-Type', 'Content-Transfer-Encoding'] });
  assert.deepStrictEqual([strict.type, strict.parts.length, strict.parts[0].charset], ['text/plain', 1, 'utf-8']);
  const text = strict.parts[0].text.replace(/\r\n/g, '\n');
  const frame = new RegExp(`^What happened\\n\\n(${INDENTED})\\n  Since      .{16} UTC\\n  Host       .*\\n  Alarm      ${event}\\n\\nWhat it means\\n\\n${INDENTED}\\nWhat to do\\n\\n${INDENTED}\\nThis alarm is mailed once a day .*\\n$`);
  const parts = frame.exec(text);
  assert.ok(parts, text);
  assert.ok(!CONTROL.test(text.replace(/\n/g, '')) && !INVISIBLE.test(text), text);
  return parts[1].trim();
}

// One request without nginx, by a process that sends no mail.
function cgi(bench, body) {
  const result = spawnSync(path.join(L.build, 'leadhook'), ['--config', bench.config], { input: body, encoding: 'utf8', env: {
    REQUEST_METHOD: 'POST', SCRIPT_NAME: '/leads', QUERY_STRING: `key=${L.KEY}`, CONTENT_LENGTH: String(Buffer.byteLength(body)) } });
  assert.match(result.stdout, /^Status: 20[02] /, result.stderr);
  return JSON.parse(result.stdout.slice(result.stdout.indexOf('{'))).id;
}
async function setUpWithoutServer(t, settings = {}) {
  const bench = new L.Bench(t);
  bench.smtp = await L.startSmtp(bench);
  bench.configure(bench.smtp.settings({ ...PLAIN, mail_per_minute: 60000, alarm_to: 'operator@example.com', ...settings }));
  return bench;
}
const relay = (bench) => bench.leadctl('relay', '--once');

const REFUSALS = {
  'HTML and an encoded word': ['550 5.1.1 <b onload=x>no</b> =?utf-8?Q?=0D=0ABcc:?= <script>\r\n', '550 5.1.1 <...>no<...> =?utf-8?Q?=0D=0ABcc:?= <...>'],
  'controls': ['550 5.1.1 \x1b[31mno\rBcc: x\x00\x0b\x85\x9bm \xe2\x80\xae\r\n', '550 5.1.1 [31mno Bcc: x m'],
  'many lines': ['550-5.1.1 a\r\n550-\r\n550-Bcc: evil@example.net\r\n550 .\r\n', '550-5.1.1 a 550- 550-Bcc: <...> 550 .'],
  'bytes outside of ASCII': [`550 5.1.1 ${'\xff\xc0\x80'.repeat(40)}x\r\n`, '550 5.1.1 x'],
};
for (const [name, [say, want]] of Object.entries(REFUSALS)) {
  test(`the words of a mail server in an alarm: ${name}`, async (t) => {
    const bench = await setUpWithoutServer(t);
    bench.smtp.faults = { rcpt: (address) => (address.startsWith('sales') ? { say } : undefined) };
    const id = cgi(bench, L.lead());
    await relay(bench); // raises it
    await relay(bench); // mails it
    const [mail] = bench.smtp.mails;
    const [strict] = await readStrictly([mail]);
    assert.strictEqual(judgeAlarm(mail, strict, 'mail-parked', 'A notification could not be delivered and was given up'),
      `The mail about lead ${id} to recipient number 1: the SMTP server answered: ${want}`);
  });
}

test('the words of the Table service in an alarm', async (t) => {
  const evil = 'x\r\nBcc: evil@example.net <script>=?utf-8?Q?x?=\u202e';
  const bench = await setUpWithoutServer(t, {});
  bench.proxy = await L.startProxy(bench, 1);
  bench.proxy.fault = () => ({ status: 403, headers: { 'x-ms-request-id': '1-a"<script>=?utf-8?q?x?=', 'content-type': 'application/json' },
    body: JSON.stringify({ 'odata.error': { code: evil, message: { value: evil } } }) });
  bench.configure({ ...bench.settings, store: 'table', spool: bench.file('spool.db'), request_deadline_ms: 1000,
    table_connection_file: bench.write('connection', L.connectionString(bench.proxy.port)) });
  await bench.startNginx();
  await bench.startLeadhook();
  assert.strictEqual((await bench.post(L.lead())).code, 202);
  await stop(bench);
  await relay(bench);
  const mail = bench.smtp.mails.find(({ parsed }) => parsed.headers.get('x-lead-alarm') === 'spooling'); // another one is of the refusal
  const [strict] = await readStrictly([mail]);
  const happened = judgeAlarm(mail, strict, 'spooling', /\] (.*) \(/.exec(mail.parsed.subject)[1]);
  assert.match(happened, /^The table does not take leads: offers directory: Azure Table \(403 no error code\).*; request 1-a\?\?script\?/);
  assert.ok(!/Bcc|evil|<|=\?/.test(happened), happened);
});

// As bytes: JSON that cannot be read as it stands, and forms.
const UNREADABLE = {
  'overlong CR and LF': [Buffer.from('{"UserDetails":{"FirstName":"a\xc0\x8d\xc0\x8aBcc: x"}}', 'latin1')], 'overlong <': [Buffer.from('{"OfferTitle":"\xe0\x80\xbcb>"}', 'latin1')],
  'a surrogate as bytes': [Buffer.from('{"OfferTitle":"\xed\xa0\x80"}', 'latin1')], 'above U+10FFFF': [Buffer.from('{"OfferTitle":"\xf4\x90\x80\x80"}', 'latin1')],
  'a cut character': [Buffer.from('{"OfferTitle":"\xe2\x80"}', 'latin1')], 'a stray byte': [Buffer.from('{"OfferTitle":"\x9b31m"}', 'latin1')],
  'a raw line feed': ['{"OfferTitle":"a\nBcc: x"}'], 'a raw NUL': ['{"OfferTitle":"a\0b"}'], 'U+0000': ['{"OfferTitle":"a\\u0000b"}'],
  'a high surrogate': ['{"OfferTitle":"\\ud800"}'], 'a low surrogate': ['{"OfferTitle":"\\udc00"}'], 'surrogates in the wrong order': ['{"OfferTitle":"\\udc00\\ud800"}'],
  'a form with an overlong CR': ['first_name=%c0%8d%c0%8aBcc:', true], 'a form with a surrogate': ['first_name=%ed%a0%80', true], 'a form with NUL': ['first_name=a%00b', true],
  'a form with a stray byte': [Buffer.from('first_name=\x9b31m', 'latin1'), true],
};
test('what is no text is mailed to nobody; the operator is told without a word of it', async (t) => {
  const bench = await setUp(t, { alarm_to: 'operator@example.com' });
  for (const [name, [body, isForm]] of Object.entries(UNREADABLE)) {
    const answer = await bench.post(body, { type: isForm ? 'application/x-www-form-urlencoded' : 'application/json"\x80<script>; =?utf-8?Q?x?=', headers: { 'X-Request-ID': 'x\x80<b>' } });
    assert.strictEqual(answer.code, 400, `${name}: ${answer.text}`);
  }
  await post(bench, [L.lead()]);
  await L.until('the mail behind them', () => bench.smtp.mails.length);
  await stop(bench);
  await relay(bench);
  assert.deepStrictEqual(bench.smtp.mails.map((each) => each.to[0]).sort(), ['operator@example.com', 'sales@example.com']);
  const mail = bench.smtp.mails.find((each) => each.to[0] === 'operator@example.com');
  const [strict] = await readStrictly([mail]);
  const happened = judgeAlarm(mail, strict, 'quarantined', 'Something is in quarantine: a person has to look at it');
  assert.match(happened, /^A request with the key 'market' could not be taken as a lead \(invalid UTF-8 at byte 30\) and is kept\./);
  const list = await bench.leadctl('quarantine', 'list');
  assert.match(list.stdout, /^[\x20-\x7e\n\ufffd]+$/);
});

test('rows that somebody else wrote', async (t) => {
  const bench = await setUpWithoutServer(t);
  const names = Object.keys(PAYLOADS);
  const ids = names.map((_, i) => cgi(bench, JSON.stringify(leadWith({ LeadSource: `AzureMarketplace-INS|contoso.row${i}` }))));
  const quoted = (text) => `'${text.replace(/'/g, "''")}'`;
  const changed = ['FirstName', 'Company', 'Email', 'Phone', 'OfferDisplayName', 'Action', 'Source', 'Campaign', 'Description'];
  // The boundary is made of the id, which they know.
  bench.sqlite(names.map((name, i) => `UPDATE entity SET properties = json_set(properties, ${changed.map((column) => `'$.${column}', ${quoted(PAYLOADS[name].replace(/0{32}/g, ids[i]))}`).join(', ')})
    WHERE json_extract(properties, '$.DeliveryId') = '${ids[i]}' AND row_key NOT LIKE '~%';`).join('\n'));
  // Their recipients, too: nothing goes to these.
  const recipients = ['sales@example.com\r\nRCPT TO:<evil@example.net>', 'sales@example.com>\nDATA', 'Sales <evil@example.net', 'a@example.com,evil@example.net', '<>', '=?utf-8?q?x?=', 'sales@exämple.com'];
  const others = recipients.map((_, i) => cgi(bench, JSON.stringify(leadWith({ LeadSource: `AzureMarketplace-INS|contoso.to${i}` }))));
  bench.sqlite(recipients.map((recipient, i) => `UPDATE entity SET properties = json_set(properties, '$.Recipient', ${quoted(recipient)}) WHERE row_key LIKE '~mail-%${others[i]}%';`).join('\n'));
  const sent = await relay(bench);
  assert.strictEqual(sent.status, 0, sent.stderr);

  const rows = new Map(bench.entities().filter((row) => row.Payload).map((row) => [row.DeliveryId, row]));
  const mails = bench.smtp.mails.filter((mail) => mail.to[0] !== 'operator@example.com');
  assert.deepStrictEqual(mails.map((mail) => mail.parsed.messageId).sort(), ids.map((id) => `<lead.${id}.1@example.com>`).sort());
  const strict = await readStrictly(mails);
  mails.forEach((mail, i) => judgeLead(mail, strict[i], rows.get(/lead\.([0-9a-f]{32})/.exec(mail.parsed.messageId)[1])));
  assert.strictEqual(bench.entities().filter((row) => row.State === 'parked' && row.Recipient).length, recipients.length);
});
