// Instructions per lead, counted by callgrind: unlike time they hardly vary from run to run.
'use strict';

const fs = require('node:fs');
const http = require('node:http');
const L = require('../system/lib.js');
const { start } = require('./servers.js');

const CONNECTIONS = 32;
const FEW = 200;
const MANY = 1200;

// Posts exactly so many leads over the connections, one after the other on each.
async function post(port, count) {
  const agent = new http.Agent({ keepAlive: true, maxSockets: CONNECTIONS });
  const one = () => new Promise((resolve, reject) => {
    const body = L.lead({ LeadSource: 'AzureMarketplace-INS|exampleco.example-offer-0' });
    const req = http.request({ agent, port, host: '127.0.0.1', method: 'POST', path: `/leads?key=${encodeURIComponent(L.KEY)}`,
      headers: { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(body) } }, (res) => {
      res.resume().on('end', () => (res.statusCode === 200 ? resolve() : reject(new Error(`answered ${res.statusCode}`))));
    });
    req.on('error', reject).end(body);
  });
  let left = count;
  const sender = async () => { while (left-- > 0) await one(); };
  await Promise.all(Array.from({ length: CONNECTIONS }, sender));
  agent.destroy();
}

async function count(kind, leads, file) {
  const competitor = await start(kind, { connections: CONNECTIONS,
    under: ['valgrind', '--quiet', '--tool=callgrind', `--callgrind-out-file=${file}`] });
  try {
    await post(competitor.port, leads);
  } finally {
    await competitor.stop();
  }
  return Number(/^(?:summary|totals): (\d+)/m.exec(fs.readFileSync(file, 'utf8'))[1]);
}

// Of leadhook on a store ('table' or 'sqlite'); what callgrind wrote about the larger run stays in the file.
async function instructionsPerLead(kind, file) {
  const few = await count(kind, FEW, file);
  return Math.round((await count(kind, MANY, file) - few) / (MANY - FEW));
}

module.exports = { instructionsPerLead };
