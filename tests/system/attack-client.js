// One attack for attack.test.js, as a process of its own: node attack-client.js '{"kind": ..., "seconds": ...}'.
// Says "ready" when it is under way, and at the end as JSON what came of it.
'use strict';

const crypto = require('node:crypto');
const net = require('node:net');
const F = require('../cases/fastcgi.js');

const options = JSON.parse(process.argv[2]);
const end = Date.now() + options.seconds * 1000;
const isOver = () => Date.now() >= end;
const counts = {};
const count = (what) => { counts[what] = (counts[what] || 0) + 1; };
const ready = () => process.stdout.write('ready\n');
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// From many addresses, as those who attack for real: a limit for one address would hold them up too soon.
const address = () => `127.${crypto.randomInt(1, 255)}.${crypto.randomInt(1, 255)}.${crypto.randomInt(1, 255)}`;

function post(key, body, type = 'application/json') {
  return Buffer.concat([Buffer.from(`POST /leads${key ? `?key=${key}` : ''} HTTP/1.1\r\nHost: x\r\nContent-Type: ${type}\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n`), Buffer.from(body)]);
}

// --- slow: connections that drip, each a byte a second or none ---

async function slow() {
  const open = [];
  const begun = [
    'GET /leads HTTP/1.1\r\nHost: x\r\nX-Slow: ', // its head never ends
    'POST /leads HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n{', // its body never ends
    `POST /leads?key=${options.key} HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n{`,
    '',
  ];
  let from = address();
  for (let i = 0; i < options.connections; i++) {
    if (i % 100 === 0) { from = address(); await pause(5); }
    const socket = net.connect({ port: options.port, host: '127.0.0.1', localAddress: from });
    socket.on('connect', () => { count('connected'); if (begun[i % 4]) socket.write(begun[i % 4]); });
    socket.on('error', () => count('error'));
    socket.on('close', () => count('closed'));
    socket.resume();
    open.push(socket);
  }
  await pause(500);
  ready();
  for (let round = 0; !isOver(); round++) {
    for (const [i, socket] of open.entries()) if (i % 10 === round % 10 && i % 4 !== 3 && socket.writable) socket.write('x');
    await pause(100);
  }
  open.forEach((socket) => socket.destroy());
}

// --- flood: whole requests as fast as they are answered, on some connections ---

const broken = { deep: '['.repeat(131072), deeper: '['.repeat(1000000), objects: '{"a":'.repeat(20000) };
broken.members = `{${'"a":1,'.repeat(20000)}"b":1}`;
broken.manyMembers = `{${'"a":1,'.repeat(100000)}"b":1}`;
broken.customers = `{${'"UserDetails":"{\\"a\\":1}",'.repeat(2000)}"b":1}`;
broken.escapes = `{"UserDetails":{"FirstName":"${'\\u0001'.repeat(20000)}"}`;
broken.addresses = `email=${'@'.repeat(130000)}&x=%`;

function leadOf(i, changes) {
  return JSON.stringify({ UserDetails: { FirstName: 'Eve', Email: `eve${process.pid}.${i}@example.com` }, LeadSource: 'AzureMarketplace-INS|eve.app', OfferTitle: 'Eve', ...changes });
}

const REQUESTS = {
  'bodies-stranger': () => post(null, 'x'.repeat(65536)),
  'bodies-key': (i) => post(options.key, leadOf(i, { Description: 'x'.repeat(65000) })),
  'json-key': (i) => { const bodies = Object.values(broken); return post(options.key, bodies[i % bodies.length]); },
  'wrong-keys': (i) => post(`${options.key.slice(0, -8)}${String(i).padStart(8, '0')}`, leadOf(0)),
  'offers-key': (i) => post(options.key, leadOf(i, { LeadSource: `AzureMarketplace-INS|eve.offer${process.pid}-${i}`, OfferTitle: `Offer ${i}` })),
};

async function flood(request) {
  let number = 0;
  const run = () => new Promise((resolve) => {
    const socket = net.connect({ port: options.port, host: '127.0.0.1', localAddress: address() });
    const next = () => (isOver() ? socket.destroy() : socket.write(request(number++)));
    socket.on('connect', next);
    socket.on('data', (data) => {
      const status = /^HTTP\/1\.1 (\d{3})/.exec(data.toString('latin1', 0, 16));
      if (!status) return; // the rest of an answer
      count(status[1]);
      next();
    });
    socket.on('error', () => count('error'));
    socket.on('close', resolve);
  });
  const repeat = async () => { while (!isOver()) await run(); };
  const all = Array.from({ length: options.connections }, repeat);
  ready();
  await Promise.all(all);
}

// --- fastcgi: on the socket itself, as whoever may open it ---

async function fastcgi() {
  const parameters = F.pairs(F.parameters(options.key, 'x'.repeat(1000)));
  const name = F.pairs({ [`X${'x'.repeat(60000)}`]: '' });
  const half = Buffer.concat([F.begin(), F.record(F.TYPE.PARAMS, parameters.subarray(0, 40))]);
  const toBody = Buffer.concat([F.begin({ keep: true }), F.stream(F.TYPE.PARAMS, parameters)]);
  const kinds = {
    silent: { first: Buffer.alloc(0) },
    half: { first: half },
    dripping: { first: half, more: () => Buffer.from([0]), every: 300 },
    parameters: { first: F.begin(), more: () => F.record(F.TYPE.PARAMS, name) },
    body: { first: toBody, more: () => F.record(F.TYPE.STDIN, Buffer.alloc(65535)) },
    management: { first: Buffer.alloc(0), more: () => F.record(F.TYPE.GET_VALUES, F.pairs({ FCGI_MAX_CONNS: '' }), { id: 0 }) },
  };
  const run = (kind) => new Promise((resolve) => {
    const { first, more, every } = kinds[kind];
    const socket = net.connect(options.socket);
    const send = () => {
      if (socket.destroyed) return;
      if (isOver()) socket.destroy();
      else if (!more) setTimeout(send, 100);
      else if (every) { socket.write(more()); setTimeout(send, every); } else if (socket.write(more())) setImmediate(send); else socket.once('drain', send);
    };
    socket.on('connect', () => { count(kind); socket.write(first); send(); });
    socket.on('error', () => count('error'));
    socket.on('close', () => { count(`${kind}-given-up`); setTimeout(resolve, 10); });
    if (kind !== 'management') socket.resume(); // its answers nobody takes
  });
  const repeat = async (kind) => { while (!isOver()) await run(kind); };
  const names = Object.keys(kinds);
  const all = Array.from({ length: options.connections }, (_, i) => repeat(names[i % names.length]));
  ready();
  await Promise.all(all);
}

const attack = { slow, fastcgi }[options.kind] || (() => flood(REQUESTS[options.kind]));
attack().then(() => process.stdout.write(`${JSON.stringify(counts)}\n`));
