// make torture: every allocation and every system call of leadhook's and leadctl's life is made to fail, each in turn.
//
// A scenario (scenarios.js) is a life of the program: one request as a CGI program, a start with its first requests and
// its stop, a pass of the relay.  A point says what goes wrong in it:
//
//   allocation-other:one:K      the K-th allocation fails that is not OpenSSL's
//   allocation-openssl:one:K    the K-th of OpenSSL's
//   allocation:rest:K           the K-th allocation fails, and all after it
//   CALL:ERRNO:K                the K-th call of that name fails with this error
//
// First a life without faults counts what there is.  What must come out of each point: a right answer or 503 with
// Retry-After, an end with a status of sysexits.h and a message, no crash, no hang; the program that lives on takes the
// next request.  And at the end of the scenario every lead that was answered 2xx is in the store, once, with one mail.
//
// Environment:
//   TORTURE=all      every point, which takes hours; else at most as many of each sort as the scenario says, spread evenly
//   TORTURE=N        N times as many as that
//   SCENARIOS=a,b    only these (a name, or its beginning with a star: cgi-*)
//   POINTS=p,q       only these points
//   TRACE=1          what fails is told in the program's standard error, which is shown
//   JOBS=N           lives at the same time (default: as many as there are processors)
//   KEEP=1           the folders of failed scenarios stay
//
// Prints one line per scenario, and "N passed, M failed" by scenarios.
'use strict';

const os = require('node:os');
const { Lane, scenarios, plans } = require('./scenarios.js');

const JOBS = Number(process.env.JOBS || os.cpus().length);
const TIMES = Number(process.env.TORTURE) || 1;
const SHOWN = 12; // failures of a scenario

function chosen() {
  const patterns = process.env.SCENARIOS ? process.env.SCENARIOS.split(',') : ['*'];
  const matches = (name, pattern) => (pattern.endsWith('*') ? name.startsWith(pattern.slice(0, -1)) : name === pattern);
  for (const pattern of patterns) {
    if (!scenarios.some((each) => matches(each.name, pattern))) throw new Error(`no scenario is called ${pattern}; there are: ${scenarios.map((each) => each.name).join(' ')}`);
  }
  return scenarios.filter((each) => patterns.some((pattern) => matches(each.name, pattern)));
}

function understandPoint(text) {
  const [what, how, k] = text.split(':');
  const isAllocation = what.startsWith('allocation');
  return { text, what, k: Number(k), mode: isAllocation ? how : 'one', error: isAllocation ? 'ENOMEM' : how, calls: !isAllocation };
}

// At most so many of the list, spread evenly; the last one is always among them.
function spread(list, most) {
  if (process.env.TORTURE === 'all' || list.length <= most) return list;
  return Array.from({ length: most }, (_, i) => list[Math.floor((i + 1) * list.length / most) - 1]);
}

// Points of a life in which `seen` was counted.  Of calls those with one error are a list of their own, so that a call
// that is made often does not push out one that is made once.
function pointsOf(scenario, seen) {
  const points = [];
  for (const plan of plans(scenario, seen)) {
    const list = Array.from({ length: plan.count }, (_, i) => `${plan.prefix}:${i + 1}`);
    points.push(...spread(list, TIMES * plan.most));
  }
  return points.map(understandPoint);
}

async function runScenario(scenario) {
  const begin = Date.now();
  const lanes = [];
  const outcomes = new Map();
  const failures = [];
  let tried = 0;
  let met = 0;
  const note = (point, problem) => failures.push({ point, problem });
  try {
    const first = new Lane(scenario, 1);
    lanes.push(first);
    await first.open();
    const seen = await first.survey();
    const points = process.env.POINTS ? process.env.POINTS.split(',').map(understandPoint) : pointsOf(scenario, seen);
    while (lanes.length < Math.min(scenario.alone ? 1 : JOBS, points.length)) {
      const lane = new Lane(scenario, lanes.length + 1);
      lanes.push(lane);
      await lane.open();
      await lane.survey();
    }
    const queue = [...points];
    await Promise.all(lanes.map(async (lane) => {
      for (let point = queue.shift(); point && !lane.broken; point = queue.shift()) {
        const result = await lane.live(point);
        tried++;
        met += result.failed > 0;
        outcomes.set(result.outcome, (outcomes.get(result.outcome) || 0) + 1);
        for (const problem of result.problems) note(point.text, problem);
      }
    }));
    if (queue.length) note('', `${queue.length} points were not tried`);
    if (tried && !met) note('', 'nothing failed: the faults do not reach the program');
    for (const lane of lanes) for (const problem of await lane.judge()) note('', problem);
  } catch (error) {
    note('', error.stack);
  }
  for (const lane of lanes) await lane.close({ keep: failures.length > 0 && Boolean(process.env.KEEP) }).catch((error) => note('', error.stack));
  const summary = [...outcomes].sort((a, b) => b[1] - a[1]).map(([outcome, count]) => `${outcome} ${count}`).join(', ');
  console.log(`${failures.length ? 'FAIL' : 'ok  '} ${scenario.name.padEnd(20)} ${String(tried).padStart(5)} points, ${met} met, ${Math.round((Date.now() - begin) / 1000)} s: ${summary}`);
  for (const { point, problem } of failures.slice(0, SHOWN)) {
    console.log(`  ${point ? `${problem}\n    again: SCENARIOS=${scenario.name} POINTS=${point} TRACE=1 make torture` : problem}`);
  }
  if (failures.length > SHOWN) console.log(`  and ${failures.length - SHOWN} more`);
  if (process.env.KEEP && failures.length) console.log(`  kept: ${lanes.flatMap((lane) => lane.folders()).join(' ')}`);
  return failures.length === 0;
}

async function main() {
  const begin = Date.now();
  let failed = 0;
  const list = chosen();
  for (const scenario of list) failed += !await runScenario(scenario);
  console.log(`${Math.round((Date.now() - begin) / 1000)} s`);
  console.log(`${list.length - failed} passed, ${failed} failed`);
  return failed ? 1 : 0;
}

main().catch((error) => {
  console.error(error.stack);
  console.log('0 passed, 1 failed');
  return 1;
}).then((status) => process.exit(status));
