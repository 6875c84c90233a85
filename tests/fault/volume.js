// A disk of a trial's own: ext4 (or a tmpfs of a given size) that can fill up, fail, and lose its power.
//
// It is mounted in the trial's folder and unmounted at the trial's end, whatever happens; a run that was killed leaves
// mounts under tests' folders behind, which sweep() takes away at the next start.  Needs root.
'use strict';

const assert = require('node:assert');
const { spawnSync } = require('node:child_process');
const crypto = require('node:crypto');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');

const MIB = 1024 * 1024;
const PREFIX = 'lh-volume-';

function run(program, ...args) {
  const result = spawnSync(program, args, { encoding: 'utf8', timeout: 60000 });
  assert.strictEqual(result.status, 0, `${program} ${args.join(' ')}: ${result.error || ''}${result.stderr}`);
  return result.stdout.trim();
}

// What is mounted below a folder, the latest first.
function mountsBelow(folder) {
  return fs.readFileSync('/proc/self/mounts', 'utf8').split('\n').map((line) => line.split(' ')[1])
    .filter((where) => where && where.startsWith(`${folder}/`)).reverse();
}

function removeFolder(folder) {
  for (const where of mountsBelow(folder)) {
    // A process of a failed trial may still be in it: then it goes away with that.
    if (spawnSync('umount', [where]).status !== 0) run('umount', '--lazy', where);
  }
  fs.rmSync(folder, { recursive: true, force: true });
}

// Removes what killed runs have left.  The folder's name says whose it is.
function sweep() {
  for (const name of fs.readdirSync(os.tmpdir()).filter((entry) => entry.startsWith(PREFIX))) {
    const owner = Number(name.slice(PREFIX.length).split('-')[0]);
    if (!fs.existsSync(`/proc/${owner}`)) removeFolder(path.join(os.tmpdir(), name));
  }
}

class Volume {
  // kind: 'ext4', 'tmpfs', or 'thin' (ext4 on a device that promises more than there is).
  constructor({ kind = 'ext4', mib = 32 } = {}) {
    this.kind = kind;
    this.mib = mib;
    this.folder = path.join(os.tmpdir(), `${PREFIX}${process.pid}-${crypto.randomBytes(4).toString('hex')}`);
    fs.mkdirSync(this.folder, { mode: 0o755 });
    this.dir = path.join(this.folder, 'disk');
    this.images = 0;
    fs.mkdirSync(this.dir);
    try {
      if (kind === 'tmpfs') {
        run('mount', '-t', 'tmpfs', '-o', `size=${mib}m,mode=755`, 'tmpfs', this.dir);
        return;
      }
      this.pool = path.join(this.folder, 'pool');
      fs.mkdirSync(this.pool);
      // In memory: the speed of the machine's disk does not matter, and what a pool lacks is a real EIO above.
      run('mount', '-t', 'tmpfs', '-o', `size=${kind === 'thin' ? mib : 16 * mib}m`, 'tmpfs', this.pool);
      this.image = this.newImage();
      fs.closeSync(fs.openSync(this.image, 'w'));
      fs.truncateSync(this.image, (kind === 'thin' ? 4 * mib : mib) * MIB);
      run('mkfs.ext4', '-q', '-F', '-m', '0', '-E', 'lazy_itable_init=1,lazy_journal_init=1,nodiscard', this.image);
      this.mount();
    } catch (error) {
      this.remove();
      throw error;
    }
  }
  newImage() { return path.join(this.pool, `image-${this.images++}`); }
  file(name) { return path.join(this.dir, name); }

  mount(options = 'errors=remount-ro') {
    run('mount', '-o', `loop,nodiscard,${options}`, this.image, this.dir);
    this.device = path.basename(run('findmnt', '--noheadings', '--output', 'SOURCE', this.dir));
  }
  unmount() { run('umount', this.dir); }
  remount(options) { run('mount', '-o', `remount,${options}`, this.dir); }

  // Takes the room but for `keep` bytes, with a file that release() removes.
  fill(keep = 0) {
    const [bavail, bsize] = run('stat', '--file-system', '--format', '%a %S', this.dir).split(' ').map(Number);
    const fd = fs.openSync(this.file('filler'), 'a');
    const chunk = Buffer.alloc(64 * 1024, 0x55);
    try {
      for (let left = bavail * bsize - keep; left > 0;) {
        const size = Math.min(left, chunk.length);
        try {
          left -= fs.writeSync(fd, chunk, 0, size);
        } catch (error) {
          if (error.code !== 'ENOSPC') throw error;
          break;
        }
      }
      fs.fsyncSync(fd); // blocks that are only reserved could be given back
    } catch (error) {
      if (error.code !== 'ENOSPC') throw error;
    } finally {
      fs.closeSync(fd);
    }
  }
  release() { fs.rmSync(this.file('filler'), { force: true }); }

  // The kernel makes it read-only, as after an error on the disk; only unmounting and mounting again lifts it.
  breakReadOnly() { fs.writeFileSync(`/sys/fs/ext4/${this.device}/trigger_fs_error`, '1'); }

  // thin: the pool under the device is used up: what is written to new places from now on fails with EIO, at its fsync.
  exhaust() {
    const file = path.join(this.pool, 'hog');
    spawnSync('dd', ['if=/dev/zero', `of=${file}`, 'bs=4k'], { stdio: 'ignore' });
  }
  replenish() { fs.rmSync(path.join(this.pool, 'hog'), { force: true }); }

  // How much the device has been asked to do; equal and idle before and after a copy: the copy is of one moment.
  activity() {
    const stat = fs.readFileSync(`/sys/block/${this.device}/stat`, 'utf8').trim().split(/\s+/);
    return { writes: `${stat[4]} ${stat[6]} ${stat[15]}`, idle: stat[8] === '0' };
  }

  // A copy of what the disk holds at this moment: what was submitted to it, nothing of what the kernel still keeps.
  // Who writes must have been stopped.
  snapshot() {
    const copy = this.newImage();
    for (let tries = 0; tries < 50; tries++) {
      const before = this.activity();
      run('cp', '--sparse=always', this.image, copy);
      const after = this.activity();
      if (before.idle && after.idle && before.writes === after.writes) return copy;
    }
    throw new Error('the disk was never quiet for the length of a copy');
  }
  // The power comes back: the disk as it was at the snapshot.  Nobody may use the volume any more.
  revert(copy) {
    this.unmount();
    fs.rmSync(this.image);
    this.image = copy;
    this.mount();
  }

  // Looks at such a copy as a machine that starts with this disk would, and throws it away.
  inspect(copy, look) {
    const where = path.join(this.folder, 'copy');
    fs.mkdirSync(where, { recursive: true });
    run('mount', '-o', 'loop', copy, where);
    try {
      return look(where);
    } finally {
      run('umount', where);
      fs.rmSync(copy);
    }
  }

  remove() { removeFolder(this.folder); }
}

module.exports = { Volume, sweep };
