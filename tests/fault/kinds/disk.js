// The disk under the spool (while the table is down), and under the sqlite store, fails: it is full, read-only or broken,
// or one call fails.  A lead is then answered 503, or 2xx where it was made durable after all; what was answered 2xx is
// on the disk.
'use strict';

const assert = require('node:assert');
const { spawnSync } = require('node:child_process');
const fs = require('node:fs');
const path = require('node:path');
const L = require('../../system/lib.js');
const { Volume, sweep } = require('../volume.js');

const KIB = 1024;
const PLACES = ['spool', 'sqlite'];
const BURSTS = 3;
const MOST_CALLS = 200; // no burst makes so many: the loop must have an end

const good = (answer) => answer.code >= 200 && answer.code < 300;
const isRefused = (answer) => answer.code === 503;

// Starts on a disk of its own; for the spool the table is down.
async function begin(t, place, disk, options = {}) {
  sweep();
  const volume = new Volume({ mib: 24, ...disk });
  t.after(async () => volume.remove());
  const settings = place === 'sqlite' ? { store: `sqlite:${volume.file('leads.db')}` } : { spool: volume.file('spool.db') };
  await t.start({ store: place === 'sqlite' ? 'sqlite' : 'table', processes: 2, smtp: false, ...options, settings });
  if (place === 'spool') await t.table.kill();
  assert.deepStrictEqual((await t.post(t.leads(6))).map(good), Array(6).fill(true), 'leads before the fault');
  return volume;
}

// Posts until this happens to one of them, a few leads at a time.
async function postUntil(t, what, condition) {
  await L.until(what, async () => (await t.post(t.leads(4))).some(condition));
}

// No process has ended by itself, whatever the disk does; one that only starts may say that it cannot.
function checkEnds(t, starting) {
  const ends = t.host.ends().filter(([how, number]) => how === 'signal' || (number !== 0 && !starting));
  assert.deepStrictEqual(ends, [], 'processes that ended by themselves');
}

// While the disk under the spool fails, the table alone is enough.
async function tableIsEnough(t) {
  await t.table.start();
  await L.until('leads that the table takes', async () => (await t.post(t.leads(3))).every((answer) => answer.status === 'stored'));
  await t.table.kill();
}

async function ready(t) { return (await L.request(t.host.bench.port, 'GET', '/readyz')).code; }

// After a fault that only another mount lifts.
async function mountAgain(t, volume) {
  assert.strictEqual(await t.host.stopWorkers(), 0, 'the stop while the disk fails');
  volume.unmount();
  volume.replenish();
  volume.mount();
  await t.host.startWorkers();
}

async function restartOne(t) {
  const before = t.host.ends().length;
  t.host.kill(0, 'SIGTERM');
  await L.until('the end of a process', () => t.host.ends().length > before);
  await t.host.ready();
}

// --- the k-th call, k = 1 to the end

class Counter {
  constructor(file) { this.fd = fs.openSync(file, 'r+'); this.bytes = Buffer.alloc(8); }
  // The k-th call from now on is the rule's first.
  begin(k) {
    this.bytes.writeBigInt64LE(BigInt(1 - k));
    fs.writeSync(this.fd, this.bytes, 0, 8, 0);
  }
  reached() {
    fs.readSync(this.fd, this.bytes, 0, 8, 0);
    return this.bytes.readBigInt64LE() >= 1n;
  }
  close() { fs.closeSync(this.fd); }
}

// All that the databases in a folder hold, as text.
function dump(folder) {
  return fs.readdirSync(folder).filter((name) => /\.db(\.\d+)?$/.test(name)).map((name) => {
    const result = spawnSync('sqlite3', [path.join(folder, name), '.dump'], { encoding: 'utf8', maxBuffer: 256 * 1024 * KIB });
    assert.strictEqual(result.status, 0, `${name}: ${result.stderr}`);
    return result.stdout;
  }).join('');
}

// What a machine whose power fails now would find: everything acknowledged.
async function survives(t, volume, what) {
  const pids = t.host.killAll('SIGSTOP');
  await L.until('the processes to stand still', () => pids.every(isStopped));
  const copy = volume.snapshot();
  t.host.killAll('SIGCONT');
  const text = volume.inspect(copy, dump);
  const lost = t.answers.filter(good).filter((answer) => !text.includes(answer.id));
  assert.deepStrictEqual(lost.map((answer) => answer.id), [], `acknowledged, but not on the disk (${what})`);
}
function isStopped(pid) {
  return fs.readdirSync(`/proc/${pid}/task`).every((task) => /^State:\s+T/m.test(fs.readFileSync(`/proc/${pid}/task/${task}/status`, 'utf8')));
}

const CALLS = [
  { calls: 'fsync|fdatasync', action: 'EIO' },
  { calls: 'pwrite64|write', action: 'EIO' },
  { calls: 'pwrite64|write', action: 'ENOSPC' },
  { calls: 'fsync|fdatasync', action: 'EIO', on: true },
  { calls: 'pwrite64|write', action: 'ENOSPC', on: true },
  { calls: 'open|openat|fsync|fdatasync', action: 'EIO', start: true },
  { calls: 'pwrite64|write|ftruncate|fallocate', action: 'ENOSPC', start: true },
  // A read that fails counts as damage: each leaves a generation behind, and its salvage reads more.
  { calls: 'pread64|read', action: 'EIO', start: true, most: 8 },
];

module.exports = [
  {
    name: 'disk-full',
    variants: 4,
    async trial(t, number) {
      const place = PLACES[number % 2];
      const volume = await begin(t, place, number % 4 < 2 ? { kind: 'ext4' } : { kind: 'tmpfs', mib: 8 });
      volume.fill(Math.floor(Math.random() * 400 * KIB));
      await postUntil(t, 'a full disk', isRefused);
      volume.fill();
      if (place === 'spool') await tableIsEnough(t);
      volume.release();
      await postUntil(t, 'leads after the disk has room again', good);
      await L.until('readiness', async () => await ready(t) === 200);
      checkEnds(t);
    },
  },
  {
    name: 'disk-readonly', // as the kernel makes it after an error
    variants: 2,
    async trial(t, number) {
      const place = PLACES[number % 2];
      const volume = await begin(t, place);
      const load = t.load({ senders: 4 });
      volume.breakReadOnly();
      await load.stop();
      await postUntil(t, 'a read-only disk', isRefused);
      await L.until('that it is not ready', async () => await ready(t) === 503);
      if (place === 'spool') await tableIsEnough(t);
      checkEnds(t);
      await mountAgain(t, volume);
      await postUntil(t, 'leads after the repair', good);
    },
  },
  {
    name: 'disk-thin', // the device fails where the kernel writes back: the first fsync says so, a second one would not
    variants: 2,
    async trial(t, number) {
      const place = PLACES[number % 2];
      const volume = await begin(t, place, { kind: 'thin' });
      const load = t.load({ senders: 4, most: 2000 });
      volume.exhaust();
      await L.until('a broken disk', () => t.answers.some(isRefused));
      await load.stop();
      if (place === 'spool') await tableIsEnough(t);
      checkEnds(t);
      await mountAgain(t, volume);
      await postUntil(t, 'leads after the repair', good);
    },
  },
  {
    name: 'disk-call', // each trial goes through all k of one call, also of a process that starts
    variants: 2 * CALLS.length,
    share: 2,
    async trial(t, number) {
      const place = PLACES[number % 2];
      const { calls, action, on, start, most = MOST_CALLS } = CALLS[Math.floor(number / 2) % CALLS.length];
      const volume = await begin(t, place, { mib: 64 }, { preload: { fault: `${calls}:${action}:1${on ? '+' : ''}:/disk/` } });
      const counter = new Counter(t.host.file('counted'));
      t.after(async () => counter.close());
      // Which process takes a lead is chance, and with it how many calls there are: a k is given up after some bursts.
      const meet = async (k) => {
        let met = false;
        for (let burst = 0; burst < BURSTS && !met; burst++) {
          counter.begin(k);
          t.host.arm();
          if (start) await restartOne(t);
          await t.post(t.leads(start ? 6 : 2));
          t.host.disarm();
          met = counter.reached();
        }
        return met;
      };
      let k = 1;
      for (; k <= most && await meet(k); k++) {
        await survives(t, volume, `${calls} ${action}, ${on ? 'from ' : ''}k=${k}`);
        await postUntil(t, 'leads after the fault', good);
      }
      assert.ok(k <= MOST_CALLS, 'the loop has no end');
      assert.ok(k > 1, 'the call was never made');
      checkEnds(t, start);
    },
  },
];
