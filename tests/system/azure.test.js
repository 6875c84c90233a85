// deploy/azure: the template's structure, and that the script asks for the same.  Neither is run against Azure here.
'use strict';

const assert = require('node:assert');
const { spawnSync } = require('node:child_process');
const fs = require('node:fs');
const path = require('node:path');
const L = require('./lib.js');

const { test } = L;
const folder = path.join(L.top, 'deploy/azure');
const template = JSON.parse(fs.readFileSync(path.join(folder, 'storage.json'), 'utf8'));

// Every text of a value, with where it stands.
function texts(value, at = '') {
  if (typeof value === 'string') return [[at, value]];
  if (value === null || typeof value !== 'object') return [];
  return Object.entries(value).flatMap(([name, inner]) => texts(inner, `${at}/${name}`));
}
const expressions = (value) => texts(value).filter(([, text]) => text.startsWith('['));
const uses = (kind) => new Set(expressions({ v: template.variables, r: template.resources, o: template.outputs, p: template.parameters })
  .flatMap(([, text]) => [...text.matchAll(new RegExp(`${kind}\\('(\\w+)'\\)`, 'g'))].map((match) => match[1])));
const ofType = (type) => template.resources.filter((one) => one.type === type);

test('the template is whole: what it names it has, and what it has it uses', () => {
  assert.match(template.$schema, /^https:\/\/schema\.management\.azure\.com\/schemas\/2019-04-01\/deploymentTemplate\.json#$/);
  assert.match(template.contentVersion, /^\d+\.\d+\.\d+\.\d+$/);
  assert.deepStrictEqual(Object.keys(template), ['$schema', 'contentVersion', 'metadata', 'parameters', 'variables', 'resources', 'outputs']);
  assert.deepStrictEqual([...uses('parameters')].sort(), Object.keys(template.parameters).sort());
  assert.deepStrictEqual([...uses('variables')].sort(), Object.keys(template.variables).sort());
  for (const [name, parameter] of Object.entries(template.parameters)) {
    assert.ok(['string', 'array'].includes(parameter.type), name);
    assert.ok(parameter.metadata.description, name);
    if (parameter.allowedValues) assert.ok(parameter.allowedValues.includes(parameter.defaultValue), name);
  }
  for (const [at, text] of expressions(template)) {
    assert.ok(text.endsWith(']'), at);
    let depth = 0;
    for (const sign of text.replace(/'[^']*'/g, '')) {
      depth += '([{'.includes(sign) - ')]}'.includes(sign);
      assert.ok(depth >= 0, `${at}: ${text}`);
    }
    assert.strictEqual(depth, 0, `${at}: ${text}`);
    for (const [, name] of text.replace(/'[^']*'/g, "''").matchAll(/(\w+)\(/g)) assert.ok(['parameters', 'variables', 'concat', 'if', 'empty', 'length', 'copyIndex', 'resourceId', 'resourceGroup', 'reference'].includes(name), `${at}: ${name}`);
  }
});

test('each resource has a type, a version, and depends on what is in the template', () => {
  const names = new Set(template.resources.map((one) => one.type));
  assert.deepStrictEqual([...names], ['Microsoft.Storage/storageAccounts', 'Microsoft.Storage/storageAccounts/tableServices', 'Microsoft.Storage/storageAccounts/tableServices/tables',
    'Microsoft.Insights/actionGroups', 'Microsoft.Insights/metricAlerts']);
  for (const one of template.resources) {
    assert.match(one.apiVersion, /^20\d\d-\d\d-\d\d$/, one.type);
    assert.ok(one.name && one.properties, one.type);
    // As many names as the type has parts behind the provider.
    assert.ok((one.name.match(/\//g) || []).length <= one.type.split('/').length - 2, one.type);
    for (const dependency of one.dependsOn || []) assert.ok(names.has(dependency.match(/^\[resourceId\('([^']+)', /)[1]), dependency);
    if (one.copy) assert.match(one.copy.count, /^\[length\(variables\('\w+'\)\)\]$/);
  }
  const index = (type) => template.resources.findIndex((one) => one.type === type);
  for (const one of template.resources) {
    for (const dependency of one.dependsOn || []) assert.ok(index(dependency.match(/'([^']+)'/)[1]) < template.resources.indexOf(one), dependency);
  }
});

test('the account is closed to what leadhook does not need, and gives no secret away', () => {
  const [account] = ofType('Microsoft.Storage/storageAccounts');
  const { networkAcls, ...properties } = account.properties;
  assert.deepStrictEqual(properties, { supportsHttpsTrafficOnly: true, minimumTlsVersion: 'TLS1_2', allowBlobPublicAccess: false, allowSharedKeyAccess: true, publicNetworkAccess: 'Enabled' });
  assert.strictEqual(networkAcls.defaultAction, "[if(empty(parameters('allowedAddresses')), 'Allow', 'Deny')]");
  assert.ok(!/listKeys|listAccountSas|connectionString/i.test(JSON.stringify(template)));
  assert.deepStrictEqual(template.variables.tables, ["[parameters('tableName')]", "[concat(parameters('tableName'), 'Ops')]"]);
  // What leadhook itself takes for a name: lib/table/client.h.
  assert.deepStrictEqual([template.parameters.tableName.minLength, template.parameters.tableName.maxLength, template.parameters.tableName.defaultValue], [3, 60, 'MarketplaceLeads']);
});

// az that notes what it is asked for, and answers what the script reads.
function runScript(t, args, environment = {}) {
  const bench = new L.Bench(t);
  fs.mkdirSync(bench.file('bin'));
  bench.write('bin/az', `#!/bin/sh
{ for word; do printf '%s\\t' "$word"; done; printf '%s\\n' "\${AZURE_STORAGE_CONNECTION_STRING:+connected}"; } >>'${bench.file('calls')}'
case "$*" in
*show-connection-string*) echo 'AccountName=x;AccountKey=secret-of-the-account' ;;
'storage account show '*) echo /subscriptions/s/resourceGroups/g/providers/Microsoft.Storage/storageAccounts/x ;;
'monitor action-group show '*) echo /subscriptions/s/resourceGroups/g/providers/microsoft.insights/actionGroups/x-alarms ;;
esac
`);
  fs.chmodSync(bench.file('bin/az'), 0o755);
  const result = spawnSync('sh', [path.join(folder, 'create-storage'), ...args], { encoding: 'utf8', env: { ...process.env, PATH: `${bench.file('bin')}:${process.env.PATH}`, ...environment } });
  const calls = fs.existsSync(bench.file('calls')) ? fs.readFileSync(bench.file('calls'), 'utf8').trimEnd().split('\n').map((line) => line.split('\t')) : [];
  return { ...result, calls: calls.map((words) => ({ words: words.slice(0, -1), connected: words.at(-1) === 'connected' })) };
}
const option = (call, name) => call.words[call.words.indexOf(name) + 1];
const begins = (call, text) => call.words.join(' ').startsWith(text);

test('the script asks az for what the template says', (t) => {
  const { status, stdout, stderr, calls } = runScript(t, ['rg', 'leadsaccount', 'westeurope', 'operator@example.com']);
  assert.strictEqual(status, 0, stderr);
  assert.ok(!calls.some((call) => call.words.join(' ').includes('secret-of-the-account')) && !(stdout + stderr).includes('secret'), 'the key is in no argument and not shown');
  const account = calls.find((call) => begins(call, 'storage account create'));
  assert.deepStrictEqual(['--kind', '--sku', '--https-only', '--min-tls-version', '--allow-blob-public-access', '--allow-shared-key-access', '--default-action'].map((name) => option(account, name)),
    ['StorageV2', template.parameters.redundancy.defaultValue, 'true', 'TLS1_2', 'false', 'true', 'Allow']);
  const tables = calls.filter((call) => begins(call, 'storage table create'));
  assert.deepStrictEqual(tables.map((call) => [option(call, '--name'), call.connected]), [['MarketplaceLeads', true], ['MarketplaceLeadsOps', true]]);
  assert.strictEqual(option(calls.find((call) => begins(call, 'monitor action-group create')), '--short-name'), ofType('Microsoft.Insights/actionGroups')[0].properties.groupShortName);

  // Condition by condition.
  const words = { Average: 'avg', Total: 'total', LessThan: '<', GreaterThan: '>' };
  const alerts = template.variables.alerts.map((one) => ({ name: one.name, severity: String(one.severity), description: one.description,
    condition: `${words[one.timeAggregation]} ${one.metricName} ${words[one.operator]} ${one.threshold}${one.dimensions.map((d) => ` where ${d.name} includes ${d.values.join(' or ')}`).join('')}` }));
  assert.strictEqual(alerts.length, 4);
  const asked = calls.filter((call) => begins(call, 'monitor metrics alert create'));
  assert.deepStrictEqual(asked.map((call) => ({ name: option(call, '--name'), severity: option(call, '--severity'), description: option(call, '--description'), condition: option(call, '--condition') })), alerts);
  const { properties } = ofType('Microsoft.Insights/metricAlerts')[0];
  for (const call of asked) {
    assert.deepStrictEqual([option(call, '--window-size'), option(call, '--evaluation-frequency')], ['15m', '5m']);
    assert.match(option(call, '--scopes'), /\/storageAccounts\/x\/tableServices\/default$/);
    assert.match(option(call, '--action'), /\/actionGroups\/x-alarms$/);
  }
  assert.deepStrictEqual([properties.windowSize, properties.evaluationFrequency], ['PT15M', 'PT5M']);
  assert.ok(!calls.some((call) => begins(call, 'storage account network-rule')), 'no addresses, no firewall');
});

test('the script with addresses, another table, and without what it needs', (t) => {
  const closed = runScript(t, ['rg', 'leadsaccount', 'westeurope', 'operator@example.com', '203.0.113.7', '198.51.100.0/24'], { TABLE_NAME: 'Leads', REDUNDANCY: 'Standard_LRS' });
  assert.strictEqual(closed.status, 0, closed.stderr);
  const rules = closed.calls.filter((call) => begins(call, 'storage account network-rule add'));
  assert.deepStrictEqual(rules.map((call) => option(call, '--ip-address')), ['203.0.113.7', '198.51.100.0/24']);
  const last = closed.calls.at(-1);
  assert.ok(begins(last, 'storage account update') && option(last, '--default-action') === 'Deny', 'closed when all is made');
  assert.deepStrictEqual(closed.calls.filter((call) => begins(call, 'storage table create')).map((call) => option(call, '--name')), ['Leads', 'LeadsOps']);
  const none = runScript(t, ['rg', 'leadsaccount']);
  assert.deepStrictEqual([none.status, none.calls], [64, []]);
  assert.match(none.stderr, /^usage: /);
});
