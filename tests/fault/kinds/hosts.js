// Two hosts with one table: each has its own network, clock, machine id, spool
// and relay, and four processes.  Needs root, for the networks.
'use strict';

const { spawnSync } = require('node:child_process');
const fs = require('node:fs');
const net = require('node:net');
const tls = require('node:tls');
const L = require('../../system/lib.js');

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
    t.after(async () => { for (const host of [0, 1]) run('ip', 'netns', 'del', this.name(host)); }); // their cables with them
    must('ip', 'netns', 'add', this.name(1));
    this.address = `10.213.${this.k}.1`;
    for (const host of [0, 1]) {
      const cable = this.name(host);
      must('ip', 'link', 'add', cable, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', cable);
      must('ip', 'addr', 'add', `10.213.${this.k}.${1 + 4 * host}/30`, 'dev', cable);
      must('ip', 'link', 'set', cable, 'up');
      must('ip', '-n', cable, 'addr', 'add', `10.213.${this.k}.${2 + 4 * host}/30`, 'dev', 'eth0');
      for (const each of ['lo', 'eth0']) must('ip', '-n', cable, 'link', 'set', each, 'up');
      must('ip', '-n', cable, 'route', 'add', 'default', 'via', `10.213.${this.k}.${1 + 4 * host}`);
    }
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
      sockets.add(one);
      one.on('error', () => {});
      one.on('close', () => { sockets.delete(one); other.destroy(); });
      one.pipe(other);
    }
  });
  await new Promise((resolve) => server.listen(0, address, resolve));
  t.bench.stops.push(() => new Promise((resolve) => {
    for (const socket of sockets) socket.destroy();
    server.close(resolve);
  }));
  return server.address().port;
}
