// A FastCGI client that sends records as they are told, right or wrong
// (FastCGI specification 1.0, sections 3 and 8).
'use strict';

const net = require('node:net');

const TYPE = { BEGIN: 1, ABORT: 2, END: 3, PARAMS: 4, STDIN: 5, STDOUT: 6, GET_VALUES: 9 };
const RESPONDER = 1;
const RECORD_MAX = 65535;

function record(type, content = '', { id = 1, version = 1, padding = 0, length } = {}) {
  const body = Buffer.from(content);
  const header = Buffer.alloc(8);
  header.writeUInt8(version, 0);
  header.writeUInt8(type, 1);
  header.writeUInt16BE(id, 2);
  header.writeUInt16BE(length === undefined ? body.length : length, 4);
  header.writeUInt8(padding, 6);
  return Buffer.concat([header, body, Buffer.alloc(padding)]);
}

const begin = ({ keep = false, id } = {}) => record(TYPE.BEGIN, Buffer.from([0, RESPONDER, keep ? 1 : 0, 0, 0, 0, 0, 0]), { id });

function lengthOf(text) {
  const bytes = Buffer.byteLength(text);
  if (bytes < 128) return Buffer.from([bytes]);
  const long = Buffer.alloc(4);
  long.writeUInt32BE((bytes | 0x80000000) >>> 0);
  return long;
}
const pairs = (values) => Buffer.concat(Object.entries(values).filter(([, value]) => value !== undefined)
  .flatMap(([name, value]) => [lengthOf(name), lengthOf(value), Buffer.from(name), Buffer.from(value)]));

// A stream of records of one type, with the empty one that ends it.
function stream(type, content, options = {}) {
  const bytes = Buffer.from(content);
  const size = options.size || RECORD_MAX;
  const records = [];
  for (let at = 0; at < bytes.length; at += size) records.push(record(type, bytes.subarray(at, at + size), options));
  return Buffer.concat([...records, record(type, '', options)]);
}

// A whole, correct request for POST /leads; `changes` replace or remove parameters.
function parameters(key, body, changes = {}) {
  return { REQUEST_METHOD: 'POST', SCRIPT_NAME: '/leads', QUERY_STRING: `key=${key}`, CONTENT_TYPE: 'application/json',
    CONTENT_LENGTH: String(Buffer.byteLength(body)), REQUEST_ID: '0123456789abcdef0123456789abcdef', ...changes };
}
const request = (values, body, options = {}) => Buffer.concat([begin(options), stream(TYPE.PARAMS, pairs(values), options), stream(TYPE.STDIN, body, options)]);

// What came back: the records, and the answer when there is a whole one.
function understand(bytes) {
  const records = [];
  let at = 0;
  for (; at + 8 <= bytes.length; ) {
    const length = bytes.readUInt16BE(at + 4);
    const padding = bytes[at + 6];
    records.push({ type: bytes[at + 1], id: bytes.readUInt16BE(at + 2), content: bytes.subarray(at + 8, at + 8 + length) });
    at += 8 + length + padding;
  }
  const text = Buffer.concat(records.filter((r) => r.type === TYPE.STDOUT).map((r) => r.content)).toString();
  const end = records.find((r) => r.type === TYPE.END);
  const [head, ...rest] = text.split('\r\n\r\n');
  const status = /^Status: (\d+)/m.exec(head);
  const body = rest.join('\r\n\r\n');
  let json;
  try { json = JSON.parse(body); } catch { json = undefined; }
  return { records, head, body, json, code: status && end ? Number(status[1]) : null, ended: end && end.content[4] };
}

// Connects, sends the pieces one after another, and waits until the other side closes.
// `after` 'hang-up' closes at once, 'half-close' shuts down our side only.
function talk(path, pieces, { after = 'wait' } = {}) {
  return new Promise((resolve, reject) => {
    const chunks = [];
    const socket = net.connect({ path, allowHalfOpen: after === 'half-close' }, async () => {
      for (const piece of [].concat(pieces)) await new Promise((sent) => socket.write(piece, sent));
      if (after === 'hang-up') socket.destroy();
      if (after === 'half-close') socket.end();
    });
    socket.on('data', (chunk) => chunks.push(chunk));
    // The other side may close while we still send: that is an answer too.
    socket.on('error', (error) => (['EPIPE', 'ECONNRESET'].includes(error.code) ? undefined : reject(error)));
    socket.on('close', () => resolve(understand(Buffer.concat(chunks))));
  });
}

// A connection that stays open.
function hold(path, bytes) {
  return new Promise((resolve, reject) => {
    const socket = net.connect(path, () => socket.write(bytes, () => resolve(socket)));
    socket.on('error', reject);
    socket.resume();
  });
}

module.exports = { TYPE, record, begin, pairs, stream, parameters, request, talk, hold };
