// An SMTP server that does at every step what a test says, also what no decent server does: break off inside of a
// reply, keep a mail and not say so, hang, write its keywords in small letters.
//
// A fault at a step is one of
//   'drop'   the connection ends instead of an answer
//   'hang'   no answer, until the client or the server goes away
//   {code}   the reply `code` instead of the usual one
//   {say}    these bytes instead of the usual reply ('' for none)
// where an object may also have `after`: 'drop' or 'hang' behind what was said, or a function that is called there
// before a 'drop'; or it is a function of (recipient at 'rcpt', mail at 'dot' and 'accepted', session) that gives one
// of these, or nothing, or a promise.  After a reply of another kind than the usual one the dialogue goes on without
// the step.  'body' is met when the message begins, 'dot' when it is complete and nobody's yet, 'accepted' when it
// counts as taken and only its 250 is missing.
'use strict';

const fs = require('node:fs');
const net = require('node:net');
const tls = require('node:tls');

const STEPS = ['greeting', 'ehlo', 'starttls', 'auth', 'mail', 'rcpt', 'data', 'body', 'dot', 'accepted'];
const LINE_BYTES = 4096; // of a command; RFC 5321 asks for 512, logins may be longer
const BODY_BYTES = 8 * 1024 * 1024;

class Over extends Error {} // the dialogue has ended

// Lines and messages of a socket, one reader.
class Wire {
  constructor(socket) { this.attach(socket); }
  attach(socket) {
    this.socket = socket;
    this.bytes = Buffer.alloc(0);
    this.ended = false;
    this.closed = new Promise((resolve) => socket.on('close', resolve));
    const changed = () => { if (this.wake) this.wake(); };
    socket.on('data', (chunk) => { this.bytes = Buffer.concat([this.bytes, chunk]); changed(); });
    for (const event of ['end', 'close', 'error']) socket.on(event, () => { this.ended = true; changed(); });
  }
  // Takes the bytes up to and with the mark.
  async upTo(mark, limit) {
    for (;;) {
      const at = this.bytes.indexOf(mark);
      if (at >= 0) {
        const taken = this.bytes.subarray(0, at + mark.length);
        this.bytes = this.bytes.subarray(at + mark.length);
        return taken;
      }
      if (this.ended || this.bytes.length > limit) throw new Over();
      await new Promise((resolve) => { this.wake = resolve; });
    }
  }
  async line() { return (await this.upTo('\r\n', LINE_BYTES)).toString('latin1').slice(0, -2); }
  async message() {
    if ((await this.peek(3)).toString('latin1') === '.\r\n') { // an empty message
      this.bytes = this.bytes.subarray(3);
      return Buffer.alloc(0);
    }
    const raw = (await this.upTo('\r\n.\r\n', BODY_BYTES)).subarray(0, -3);
    return Buffer.from(raw.toString('latin1').replace(/^\.\./gm, '.'), 'latin1');
  }
  async peek(count) {
    while (this.bytes.length < count && !this.ended) await new Promise((resolve) => { this.wake = resolve; });
    if (this.bytes.length < count) throw new Over();
    return this.bytes.subarray(0, count);
  }
  // Resolves to whether the bytes were handed to the connection while it stood.
  say(text) {
    if (this.socket.destroyed || this.ended) return Promise.resolve(false);
    const written = new Promise((resolve) => this.socket.write(text, 'latin1', (error) => resolve(!error)));
    return Promise.race([written, this.closed.then(() => false)]);
  }
  async startTls(context) {
    const plain = this.socket;
    plain.removeAllListeners('data');
    const secure = new tls.TLSSocket(plain, { isServer: true, secureContext: context });
    this.attach(secure);
    await new Promise((resolve) => { secure.once('secure', resolve); secure.once('close', resolve); });
    if (secure.destroyed) throw new Over();
  }
}

const reply = (code, text) => `${code} ${text}\r\n`;

// Options: certificate ({key, cert} files), host to listen at, implicit (TLS from the first byte), user and password.
async function startSmtp({ certificate, host = '127.0.0.1', implicit = false, user = 'leads', password = 'pass word' }) {
  const { simpleParser } = require('mailparser');
  const smtp = {
    mails: [], // taken, whatever was said then; `acknowledged` says whether the client was told
    faults: {}, seen: [], logins: [], hanging: 0, connections: 0,
    last: undefined, // the last whole message, also when it was not accepted
    // What EHLO offers.
    offers: { starttls: true, auth: ['PLAIN', 'LOGIN'], lowerCase: false },
    certificate, port: 0,
  };
  const sessions = new Set();
  let server;

  // Does the step's fault or gives its usual answer; whether the step is done.
  async function step(session, name, usual, about = session) {
    const { mail, wire } = session;
    smtp.seen.push(name);
    let fault = smtp.faults[name];
    if (typeof fault === 'function') fault = await fault(about, session);
    if (typeof fault === 'string') fault = { say: '', after: fault };
    fault = fault || {};
    const said = fault.say !== undefined ? fault.say : fault.code ? reply(fault.code, 'refused by the test') : usual;
    if (name === 'accepted') await new Promise(setImmediate); // so that a client that has just left is seen to
    const heard = said === '' || await wire.say(said);
    if (name === 'accepted') mail.acknowledged = heard && !session.socket.destroyed && /^2\d\d [^\n]*\n/m.test(said);
    if (fault.after === 'hang') {
      smtp.hanging++;
      await wire.closed;
    }
    if (typeof fault.after === 'function') await fault.after();
    if (fault.after) {
      wire.socket.destroySoon();
      throw new Over();
    }
    return said[0] === usual[0];
  }

  function keywords(session) {
    const lines = ['SIZE 10485760', '8BITMIME'];
    if (smtp.offers.starttls && !session.secure) lines.push('STARTTLS');
    if (smtp.offers.auth.length && session.secure) lines.push(`AUTH ${smtp.offers.auth.join(' ')}`);
    const all = ['smtp.test', ...(smtp.offers.lowerCase ? lines.map((line) => line.toLowerCase()) : lines)];
    return all.map((line, i) => `250${i + 1 < all.length ? '-' : ' '}${line}\r\n`).join('');
  }

  async function login(session, words) {
    const method = words[1].toUpperCase();
    const decode = (text) => Buffer.from(text, 'base64').toString();
    const ask = async (text) => { await session.wire.say(reply(334, text)); return decode(await session.wire.line()); };
    smtp.logins.push(method);
    let name, secret;
    if (method === 'PLAIN') [, name, secret] = (words[2] ? decode(words[2]) : await ask('')).split('\0');
    else [name, secret] = [words[2] ? decode(words[2]) : await ask('VXNlcm5hbWU6'), await ask('UGFzc3dvcmQ6')];
    if (name !== user || secret !== password) return session.wire.say(reply(535, '5.7.8 no such login'));
    if (await step(session, 'auth', reply(235, '2.7.0 welcome'))) session.user = name;
    return undefined;
  }

  async function receive(session) {
    if (!await step(session, 'data', reply(354, 'go on'))) return;
    await session.wire.peek(3);
    if (!await step(session, 'body', '')) return;
    const raw = await session.wire.message();
    smtp.last = raw;
    session.mail = { raw, text: raw.toString('latin1'), from: session.from, to: session.to, user: session.user,
      acknowledged: false, parsed: await simpleParser(raw) };
    if (await step(session, 'dot', '', session.mail)) {
      smtp.mails.push(session.mail);
      session.accepted = session.mail; // until the client has shown that it knows
      await step(session, 'accepted', reply(250, '2.0.0 queued'), session.mail);
    }
    Object.assign(session, { from: undefined, to: [] });
  }

  async function command(session, line) {
    const { wire } = session;
    const words = line.split(' ');
    const address = (line.match(/<([^>]*)>/) || [])[1];
    switch (words[0].toUpperCase()) {
      case 'EHLO':
        await step(session, 'ehlo', keywords(session));
        break;
      case 'STARTTLS':
        if (session.secure || !smtp.offers.starttls) await wire.say(reply(502, 'no'));
        else if (await step(session, 'starttls', reply(220, 'go on'))) {
          await wire.startTls(secureContext());
          session.secure = true;
        }
        break;
      case 'AUTH':
        if (!session.secure || !smtp.offers.auth.includes((words[1] || '').toUpperCase())) await wire.say(reply(504, 'no'));
        else await login(session, words);
        break;
      case 'MAIL':
        if (await step(session, 'mail', reply(250, 'ok'))) session.from = address;
        break;
      case 'RCPT':
        if (session.from === undefined) await wire.say(reply(503, 'MAIL first'));
        else if (await step(session, 'rcpt', reply(250, 'ok'), address)) session.to.push(address);
        break;
      case 'DATA':
        if (!session.to.length) await wire.say(reply(503, 'RCPT first'));
        else await receive(session);
        break;
      case 'RSET':
        Object.assign(session, { from: undefined, to: [] });
        await wire.say(reply(250, 'ok'));
        break;
      case 'NOOP':
        await wire.say(reply(250, 'ok'));
        break;
      case 'QUIT':
        session.accepted = undefined;
        await wire.say(reply(221, 'bye'));
        wire.socket.destroySoon();
        throw new Over();
      default:
        await wire.say(reply(500, 'what?'));
    }
  }

  const secureContext = () => tls.createSecureContext({ key: fs.readFileSync(smtp.certificate.key), cert: fs.readFileSync(smtp.certificate.cert) });

  async function talk(socket) {
    const session = { socket, wire: new Wire(socket), secure: false, to: [], number: ++smtp.connections };
    sessions.add(session);
    socket.on('close', () => sessions.delete(session));
    if (implicit) {
      await session.wire.startTls(secureContext());
      session.secure = true;
    }
    // A server that refuses at the greeting waits for the client's QUIT.
    await step(session, 'greeting', reply(220, 'smtp.test ESMTP'));
    for (;;) await command(session, await session.wire.line());
  }

  // Node 20.20 cannot reset a connection that is just being ended (EINVAL of uv_tcp_close_reset while its shutdown is
  // under way), leaves it neither open nor closed, and at its own end waits for it, spinning, for ever.  The client of
  // such a connection has been told of its end already.
  function breakOff({ socket, wire }) {
    const isEnding = wire.socket.writableEnded && !wire.socket.writableFinished;
    if (isEnding) socket.destroy();
    else socket.resetAndDestroy();
  }

  // Listens at the same port as before.
  smtp.start = () => new Promise((resolve, reject) => {
    server = net.createServer((socket) => {
      // Connections that are broken off are part of the tests.
      socket.on('error', (error) => { if (error.syscall === 'reset') smtp.notReset = error; });
      talk(socket).catch((error) => { if (!(error instanceof Over)) { smtp.broken = error; socket.destroy(); } });
    });
    server.on('error', reject);
    server.listen(smtp.port, host, () => {
      smtp.port = server.address().port;
      resolve();
    });
  });
  smtp.listens = () => server.listening;
  // Like the death of the process: every connection is reset and nobody listens.  What was accepted stays counted; a
  // reply that the client may not have read is lost.
  smtp.kill = async () => {
    const closed = new Promise((resolve) => server.close(resolve));
    for (const session of sessions) {
      if (session.accepted) session.accepted.acknowledged = false;
      breakOff(session);
    }
    await closed;
    if (smtp.notReset) throw smtp.notReset;
  };
  await smtp.start();
  return smtp;
}

module.exports = { startSmtp, STEPS };
