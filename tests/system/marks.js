// Texts that can be found again wherever they turn up, and in whatever coding: for the test that nothing leaks.
'use strict';

const crypto = require('node:crypto');

const letters = (count) => Array.from(crypto.randomBytes(count), (byte) => String.fromCharCode(97 + byte % 26)).join('');
// Every mark of a run begins and ends alike: a place without these holds none, not even a part of one.
const [FIRST, LAST] = [letters(11), letters(11)];

// A text of small letters and digits; `kind` says what it stands for.
class Marks {
  constructor() { this.all = []; }
  make(kind, name) {
    const text = `${FIRST}${this.all.length.toString(36).padStart(3, '0')}${LAST}`;
    this.all.push({ kind, name: name ? `${kind}, ${name}` : kind, text });
    return text;
  }
}

const bytesOf = (text, write) => [...Buffer.from(text)].map(write).join('');
const hex = (byte) => byte.toString(16).padStart(2, '0');
// How base64 shows a text that begins at the first, second or third byte of a group, without what its neighbours change.
function base64Forms(text) {
  return [0, 1, 2].map((before) => {
    const whole = Buffer.from('\0'.repeat(before) + text).toString('base64').replace(/=+$/, '');
    const end = Math.floor(((before + text.length) * 8) / 6); // the last digit that is all the text's
    return whole.slice(before ? before + 1 : 0, end);
  });
}

// The codings, as a search finds them: without regard to case where case does not matter.
const FORMS = {
  plain: { any: (text) => [text] },
  percent: { any: (text) => [bytesOf(text, (byte) => `%${hex(byte)}`)] },
  'quoted-printable': { any: (text) => [bytesOf(text, (byte) => `=${hex(byte)}`)] },
  hexadecimal: { any: (text) => [bytesOf(text, hex)] },
  'C escapes': { any: (text) => [bytesOf(text, (byte) => `\\x${hex(byte)}`)] },
  'JSON escapes': { any: (text) => [bytesOf(text, (byte) => `\\u00${hex(byte)}`)] },
  entities: { any: (text) => [bytesOf(text, (byte) => `&#${byte};`), bytesOf(text, (byte) => `&#x${hex(byte)};`)] },
  'UTF-16': { any: (text) => [bytesOf(text, (byte) => `${String.fromCharCode(byte)}\0`).slice(0, -1)] },
  base64: { exact: base64Forms },
  'base64 for URLs': { exact: (text) => base64Forms(text).map((form) => form.replace(/\+/g, '-').replace(/\//g, '_')) },
};

// The bytes as text of one character each, also with what mail does to long lines undone.
function readings(data) {
  const raw = Buffer.isBuffer(data) ? data.toString('latin1') : data;
  const list = [raw, raw.replace(/=\r?\n/g, '')];
  const words = raw.replace(/\?=\s+=\?/g, '?==?').replace(/=\?utf-8\?b\?([A-Za-z0-9+/=]*)\?=/gi, (_, word) => Buffer.from(word, 'base64').toString('latin1'));
  list.push(words, raw.replace(/[\r\n\t ]+/g, ''));
  return [...new Set(list)].map((text) => ({ exact: text, any: text.toLowerCase() }));
}

function findForms(texts, needle) {
  return Object.keys(FORMS).filter((name) => Object.entries(FORMS[name]).some(([how, write]) => write(needle).some((form) => texts.some((text) => text[how].includes(form)))));
}

// The marks in the data: [{mark, forms}]; a part of one that cannot be told has no mark.
function findMarks(data, marks) {
  const texts = readings(data);
  const parts = [FIRST, LAST].flatMap((part) => findForms(texts, part));
  if (!parts.length) return [];
  const found = marks.all.map((mark) => ({ mark, forms: findForms(texts, mark.text) })).filter(({ forms }) => forms.length);
  return found.length ? found : [{ mark: { kind: 'a part', name: 'a part of a mark', text: FIRST }, forms: [...new Set(parts)] }];
}

module.exports = { Marks, FORMS, FIRST, LAST, findMarks, base64Forms };
