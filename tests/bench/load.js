// Turns of load: wrk posts leads that all differ, then what was stored and mailed is counted, so that speed without
// durability cannot win.
'use strict';

const { execFile } = require('node:child_process');
const os = require('node:os');
const path = require('node:path');
const L = require('../system/lib.js');
const { othersCpuSeconds } = require('./servers.js');

const MEMORY_MS = 100; // between two looks at the memory
const DRAIN_MS = 300000; // for the mails of a turn

let loads = 0;

// One run of wrk with leads, or with GETs of a path: { answers, seconds, p50, p99 } in milliseconds.
function wrk(port, { connections, offers = 1, get }, seconds) {
  const url = get || `/leads?key=${encodeURIComponent(L.KEY)}`;
  const leads = get ? [] : ['--', `load${process.pid}-${++loads}`, String(offers)];
  const args = ['-t', '1', '-c', String(connections), '-d', `${seconds}s`, '--timeout', '10', '-s', path.join(__dirname, 'leads.lua'),
    `http://127.0.0.1:${port}${url}`, ...leads];
  return new Promise((resolve, reject) => {
    execFile('wrk', args, (error, stdout, stderr) => {
      const result = /^RESULT (.*)$/m.exec(stdout);
      if (error || !result) return reject(new Error(`wrk: ${stdout}${stderr}`));
      const [answers, refused, broken, microseconds, p50, p99] = result[1].split(' ').map(Number);
      if (refused || broken) return reject(new Error(`of ${answers} answers ${refused} were not 2xx, and ${broken} requests got none`));
      return resolve({ answers, seconds: microseconds / 1e6, p50, p99 });
    });
  });
}

// A turn of a competitor: { rate, p50, p99, kib, cpu, others, mailRate }.  kib: the most private memory seen meanwhile;
// cpu: microseconds of its processor time per answer; others: percent of the processors that programs took which have
// nothing to do with it; mailRate: mails in a second from the turn's beginning until none waits.
async function turn(competitor, condition, seconds) {
  const count = async (name) => (competitor[name] ? competitor[name]() : 0);
  if (competitor.clear) await competitor.clear();
  const rowsBefore = await count('rows');
  const mailsBefore = await count('mails');
  const began = Date.now();
  const cpuBefore = competitor.cpuSeconds();
  const othersBefore = othersCpuSeconds();
  let kib = 0;
  const look = setInterval(() => { kib = Math.max(kib, competitor.memoryKib()); }, MEMORY_MS);
  let result;
  try {
    result = await wrk(competitor.port, { ...condition, get: competitor.get }, seconds);
  } finally {
    clearInterval(look);
  }
  const cpu = (competitor.cpuSeconds() - cpuBefore) / result.answers * 1e6;
  const others = Math.max(0, (othersCpuSeconds() - othersBefore) / result.seconds / os.cpus().length * 100);
  let mailRate;
  if (competitor.mails) {
    if (competitor.waiting) await L.until('the mails', async () => await competitor.waiting() === 0, DRAIN_MS);
    const mails = await count('mails') - mailsBefore;
    mailRate = mails / (Date.now() - began) * 1000;
    if (mails < result.answers) throw new Error(`${competitor.kind}: ${result.answers} leads were answered 2xx, but ${mails} mails sent`);
  }
  const rows = await count('rows') - rowsBefore;
  if (competitor.rows && rows < result.answers) throw new Error(`${competitor.kind}: ${result.answers} leads were answered 2xx, but ${rows} stored`);
  return { rate: result.answers / result.seconds, p50: result.p50, p99: result.p99, kib, cpu, others, mailRate };
}

module.exports = { turn, wrk };
