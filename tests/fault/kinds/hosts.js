// Two hosts with one table: each has its own network, clock, machine id, spool
// and relay, and four processes.  Needs root, for the networks.
'use strict';

const { spawnSync } = require('node:child_process');
const fs = require('node:fs');
const net = require('node:net');
const tls = require('node:tls');
const L = require('../../system/lib.js');
const { pause } = require('../trial.js');

function run(...command) {
  const result = spawnSync(command[0], command.slice(1), { encoding: 'utf8' });
  return result.status === 0 ? '' : `${command.join(' ')}: ${result.stderr || result.error}`;
}
function must(...command) {
  const mistake = run(...command);
  if (mistake) throw new Error(mistake);
}

// Two networks that reach this one at `address`: 10.213.K.0/30 and 10.213.K.4/30.  The names are the lock on K.
class Networks {
  constructor(t) {
    for (this.k = 1; this.k < 255; this.k++) {
      const mistake = run('ip', 'netns', 'add', this.name(0));
      if (!mistake) break;
      if (!/File exists/.test(mistake)) throw new Error(`${mistake} (two hosts need root)`);
    }
    t.after(async () => { for (const host of [0, 1]) this.remove(host); });
    must('ip', 'netns', 'add', this.name(1));
    this.address = `10.213.${this.k}.1`;
    for (const host of [0, 1]) {
      const cable = this.name(host);
      run('ip', 'link', 'del', cable); // left by a run that was killed: the name is ours now
      must('ip', 'link', 'add', cable, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', cable);
      must('ip', 'addr', 'add', `10.213.${this.k}.${1 + 4 * host}/30`, 'dev', cable);
      must('ip', 'link', 'set', cable, 'up');
      must('ip', '-n', cable, 'addr', 'add', `10.213.${this.k}.${2 + 4 * host}/30`, 'dev', 'eth0');
      for (const each of ['lo', 'eth0']) must('ip', '-n', cable, 'link', 'set', each, 'up');
      must('ip', '-n', cable, 'route', 'add', 'default', 'via', `10.213.${this.k}.${1 + 4 * host}`);
    }
  }
  // The cable first: with the last process there it would only go some time after the namespace's name.
  remove(host) {
    run('ip', 'link', 'del', this.name(host));
    run('ip', 'netns', 'del', this.name(host));
  }
  name(host) { return `lh${this.k}${'ab'[host]}`; }
  // The host's cable is pulled out, or put in again.
  cut(host) { must('ip', '-n', this.name(host), 'link', 'set', 'eth0', 'down'); }
  mend(host) {
    must('ip', '-n', this.name(host), 'link', 'set', 'eth0', 'up');
    must('ip', '-n', this.name(host), 'route', 'replace', 'default', 'via', `10.213.${this.k}.${1 + 4 * host}`);
  }
  // Runs a command there, as another machine: its name and id are its own, its files lie at the same place as the other's.
  wrap(host, files, idFile) {
    return ['ip', 'netns', 'exec', this.name(host), 'unshare', '--uts', '--mount', 'sh', '-c',
      'hostname "$1" && mount --bind "$2" /etc/machine-id && mount --bind "$3" /mnt && shift 3 && exec "$@"', 'sh', this.name(host), idFile, files];
  }
}

// The Table service as hosts elsewhere must reach it, with TLS.
async function tlsFront(t, address, certificate) {
  const sockets = new Set();
  const server = tls.createServer({ key: fs.readFileSync(certificate.key), cert: fs.readFileSync(certificate.cert) }, (socket) => {
    const behind = net.connect(t.table.port, '127.0.0.1');
    for (const [one, other] of [[socket, behind], [behind, socket]]) {
      one.on('error', () => {});
      one.on('close', () => other.destroy());
      one.pipe(other);
    }
  });
  server.on('connection', (socket) => { // before its handshake
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
  });
  server.on('tlsClientError', () => {});
  await new Promise((resolve) => server.listen(0, address, resolve));
  t.bench.stops.push(() => new Promise((resolve) => {
    for (const socket of sockets) socket.destroy();
    server.close(resolve);
  }));
  return server.address().port;
}

const PROCESSES = 4;
const HOUR_MS = 3600 * 1000;

// What breaks in the middle; each gives what ends it.
const OUTAGES = [
  // The table is dead.
  async (t) => {
    await t.table.kill();
    return () => t.table.start();
  },
  // The table hangs.
  async (t) => {
    t.table.freeze();
    return async () => t.table.thaw();
  },
];
// Here a reply of the SMTP server may be lost, or a process die before it has recorded one.
const CUTS = [
  // One host has no network, then the other.
  async (t, networks) => {
    networks.cut(0);
    return async () => {
      networks.mend(0);
      networks.cut(1);
      await t.postBoth(t.leads(4));
      networks.mend(1);
    };
  },
  // The table is dead, and then a host.
  async (t) => {
    await t.table.kill();
    return async () => {
      t.hosts[1].killAll();
      await t.table.start();
    };
  },
];

async function twoHosts(t, outage) {
  const networks = new Networks(t);
  const { address } = networks;
  await t.startServers({ smtpOptions: { host: address, tls: undefined } });
  const { certificate } = t.smtp;
  const port = await tlsFront(t, address, certificate);
  for (const index of [0, 1]) {
    await t.addHost((host) => ({
      processes: PROCESSES,
      env: { LEADHOOK_TEST_HURRY: '150', LEADHOOK_TEST_CLOCK_OFFSET_MS: String((index ? 1 : -1) * HOUR_MS / 2) },
      settings: {
        // Until a process has heard the service it goes by its host's clock: the window must be longer than the clocks
        // are apart.
        repeat_window_s: 2 * HOUR_MS / 1000,
        relay_socket: '/mnt/relay', spool: '/mnt/spool.db', table_tls_ca: certificate.cert,
        table_connection_file: host.bench.write('far-connection', L.connectionString(t.table.port)
          .replace('Protocol=http;', 'Protocol=https;').replace(`http://127.0.0.1:${t.table.port}`, `https://${address}:${port}`)),
      },
      wrap: networks.wrap(index, host.bench.dir, host.bench.write('machine-id', String(index).repeat(32))),
    }));
  }

  // The same leads come to both: a sender that got no answer tries elsewhere.
  t.postBoth = (leads) => Promise.all(leads.flatMap((lead) => t.hosts.map((host) => t.postTo(host, lead))));
  t.smtp.fault({ rcpt: () => pause(50) }); // long enough for the other host to see a mail claimed
  const first = await t.postBoth(t.leads(10));
  const posting = t.postBoth(t.leads(10));
  const mend = await outage(t, networks);
  await Promise.all([posting, t.postBoth(t.leads(10))]);
  await mend();
  await t.recovered();
  const last = await t.postBoth(t.leads(10));
  await t.recovered();
  await t.judge();
  for (const answer of [...first, ...last]) {
    if (answer.code >= 300) t.verdict.problems.push(`answer: ${answer.code} while nothing was broken`);
  }
  for (const host of t.hosts) {
    if (OUTAGES.includes(outage) && /event=mail-fence-failed .*status=changed/.test(host.log())) t.verdict.problems.push(`log: ${host.name} had a mail taken from it`);
  }
}

// Alone: another trial's mounts would be kept busy by these hosts' own views of them.
const kind = (name, outages, more) => ({ name, alone: true, variants: outages.length, share: 0.3, limit: 180000, trial: (t, number) => twoHosts(t, outages[number % outages.length]), ...more });
module.exports = [kind('two-hosts', OUTAGES), kind('two-hosts-cut', CUTS, { mayDuplicateMails: true })];
