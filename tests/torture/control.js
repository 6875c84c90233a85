// The file through which tests/harness/torture.c is told what shall fail, and tells what it saw (struct control there).
'use strict';

const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const L = require('../system/lib.js');

const FIELDS = { calls: 0, from: 1, to: 2, failed: 3, what: 4, error: 5 };
const HEAD_BYTES = 64;
const NAME_BYTES = 24;
const ENTRY_BYTES = 32;
const ENTRIES = 128;
const BYTES = HEAD_BYTES + ENTRIES * ENTRY_BYTES;
const FOREVER = 2n ** 62n;

class Control {
  constructor(file) {
    this.file = file;
    fs.writeFileSync(file, Buffer.alloc(BYTES));
    this.fd = fs.openSync(file, 'r+');
  }
  close() { fs.closeSync(this.fd); }
  put(field, value) {
    const bytes = Buffer.alloc(8);
    bytes.writeBigInt64LE(BigInt(value));
    fs.writeSync(this.fd, bytes, 0, 8, FIELDS[field] * 8);
  }
  get(field) {
    const bytes = Buffer.alloc(8);
    fs.readSync(this.fd, bytes, 0, 8, FIELDS[field] * 8);
    return Number(bytes.readBigInt64LE());
  }
  get failed() { return this.get('failed'); }

  // From now on the point's call fails: {what: name, error: 'EIO', k, mode: 'one', or 'rest' for all from there on}.
  arm({ what, error = 'ENOMEM', k, mode = 'one' }) {
    this.counted = undefined;
    this.put('from', 0);
    this.put('what', k ? this.index(what) : 0);
    this.put('error', os.constants.errno[error]);
    this.put('calls', 0);
    this.put('failed', 0);
    this.put('to', mode === 'rest' ? FOREVER : k);
    this.put('from', k);
  }
  disarm() {
    this.counted = this.counted || this.seen(); // what comes afterwards is not what is tried
    this.put('from', 0);
  }

  entries() {
    const bytes = Buffer.alloc(BYTES);
    fs.readSync(this.fd, bytes, 0, BYTES, 0);
    return Array.from({ length: ENTRIES }, (_, i) => {
      const at = HEAD_BYTES + i * ENTRY_BYTES;
      return { name: bytes.toString('latin1', at, at + NAME_BYTES).replace(/\0.*$/s, ''), seen: Number(bytes.readBigInt64LE(at + NAME_BYTES)) };
    });
  }
  // {name: how often it was called so far}
  seen() { return Object.fromEntries(this.entries().filter(({ name, seen }) => name && seen).map(({ name, seen }) => [name, seen])); }
  forget() {
    const names = this.entries();
    fs.writeSync(this.fd, Buffer.alloc(ENTRIES * ENTRY_BYTES), 0, ENTRIES * ENTRY_BYTES, HEAD_BYTES);
    names.forEach(({ name }, i) => fs.writeSync(this.fd, name, HEAD_BYTES + i * ENTRY_BYTES, 'latin1'));
  }
  // The library writes the names when it starts; they are the same for every program.
  index(name) {
    Control.names = Control.names || this.entries().map((entry) => entry.name);
    const index = Control.names.indexOf(name);
    if (index < 0) throw new Error(`the library does not know the call ${name}`);
    return index;
  }

  // For the program's environment.  Without the sandbox: its filter would forbid the library's own.
  environment({ calls = false, trace = false } = {}) {
    return { LD_PRELOAD: path.join(L.build, 'harness/torture.so'), LH_TORTURE: this.file, LEADHOOK_SANDBOX: 'off',
      ...(calls ? { LH_TORTURE_CALLS: '1' } : {}), ...(trace ? { LH_TORTURE_TRACE: '1' } : {}) };
  }
}

module.exports = { Control };
