// What leadctl check finds, for its tests; and certificates of every kind.
'use strict';

const assert = require('node:assert');
const { spawnSync } = require('node:child_process');
const crypto = require('node:crypto');
const L = require('./lib.js');

const YEAR = 365;

// The findings of leadctl check --json: [{result, subject, text, means, do}].
async function check(bench, ...args) {
  const result = await bench.leadctl('check', '--json', ...args);
  assert.ok([0, 1].includes(result.status), result.stderr);
  const findings = result.stdout.trimEnd().split('\n').map((line) => JSON.parse(line));
  assert.strictEqual(result.status, findings.some((one) => one.result === 'FAIL') ? 1 : 0, result.stdout);
  for (const secret of [L.KEY, L.ACCOUNT_KEY, 'pass word']) assert.ok(!(result.stdout + result.stderr).includes(secret), secret);
  return findings;
}
const failures = (findings) => findings.filter((one) => one.result === 'FAIL');
const of = (findings, subject) => findings.filter((one) => one.subject === subject);
const show = (findings) => JSON.stringify(findings, null, 1);

// Exactly one failure, of this subject, that says, and explains it so.
function assertOnly(findings, subject, says, explains, what = says) {
  const found = failures(findings);
  assert.deepStrictEqual(found.map((one) => one.subject), [subject], `${what}: ${show(findings)}`);
  assert.match(found[0].text, says, `${what}: ${show(found)}`);
  assert.match(`${found[0].means} ${found[0].do}`, explains, `${what}: ${show(found)}`);
}

function openssl(...args) {
  const done = spawnSync('openssl', args, { encoding: 'utf8' });
  assert.strictEqual(done.status, 0, done.stderr);
}
// An authority, and what it signs: -1 day for a certificate that is over.
function authority(bench) {
  const base = bench.file(crypto.randomBytes(4).toString('hex'));
  openssl('req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '3650', '-subj', '/CN=An authority',
    '-keyout', `${base}.key`, '-out', `${base}.pem`);
  const sign = ({ name = 'localhost', days = YEAR } = {}) => {
    const own = bench.file(crypto.randomBytes(4).toString('hex'));
    openssl('req', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-subj', `/CN=${name}`, '-addext', `subjectAltName=DNS:${name}`,
      '-keyout', `${own}.key`, '-out', `${own}.csr`);
    openssl('x509', '-req', '-in', `${own}.csr`, '-CA', `${base}.pem`, '-CAkey', `${base}.key`, '-CAcreateserial', '-copy_extensions', 'copy',
      '-days', String(days), '-out', `${own}.pem`);
    return { key: `${own}.key`, cert: `${own}.pem` };
  };
  return { cert: `${base}.pem`, sign };
}

module.exports = { check, failures, of, show, assertOnly, authority };
