// A headless Chromium, driven over a pipe by the DevTools protocol: pages are files, shown without a network and
// without scripts.
'use strict';

const { spawn } = require('node:child_process');
const fs = require('node:fs');
const { pathToFileURL } = require('node:url');

const WAIT_MS = 60000;

class Browser {
  // bench: ends it, and gives it a folder.
  static async start(bench) {
    const browser = new Browser();
    // As root Chromium has no sandbox of its own; its pages are ours.
    browser.child = spawn('chromium-headless-shell', ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--hide-scrollbars', '--remote-debugging-pipe',
      '--font-render-hinting=none', `--user-data-dir=${bench.file('chromium')}`, 'about:blank'],
    { stdio: ['ignore', 'ignore', fs.openSync(bench.file('chromium.log'), 'a'), 'pipe', 'pipe'], env: { ...process.env, HOME: bench.dir } });
    browser.ended = new Promise((resolve) => { browser.child.on('exit', resolve); browser.child.on('error', resolve); });
    bench.stops.push(() => browser.stop());
    browser.calls = new Map();
    browser.events = [];
    browser.number = 0;
    let rest = '';
    browser.child.stdio[4].setEncoding('utf8').on('data', (text) => {
      const parts = (rest + text).split('\0');
      rest = parts.pop();
      parts.forEach((part) => browser.receive(JSON.parse(part)));
    });
    browser.ended.then(() => browser.calls.forEach(({ reject }) => reject(new Error('Chromium has ended'))));
    const { targetInfos } = await browser.call('Target.getTargets');
    const target = targetInfos.find((info) => info.type === 'page');
    ({ sessionId: browser.session } = await browser.call('Target.attachToTarget', { targetId: target.targetId, flatten: true }));
    for (const domain of ['Page', 'Network', 'Log', 'Runtime', 'Security', 'Audits', 'DOM', 'Accessibility']) await browser.call(`${domain}.enable`);
    await browser.call('Emulation.setScriptExecutionDisabled', { value: true });
    return browser;
  }

  receive(message) {
    if (message.id === undefined) {
      this.events.push(message);
      return;
    }
    const { resolve, reject, timer } = this.calls.get(message.id);
    this.calls.delete(message.id);
    clearTimeout(timer);
    if (message.error) reject(new Error(JSON.stringify(message.error)));
    else resolve(message.result);
  }

  call(method, params = {}) {
    const id = ++this.number;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`Chromium does not answer ${method}`)), WAIT_MS);
      this.calls.set(id, { resolve, reject, timer });
      this.child.stdio[3].write(`${JSON.stringify({ id, method, params, sessionId: this.session })}\0`);
    });
  }

  async stop() {
    await Promise.race([this.call('Browser.close').catch(() => {}), this.ended]);
    await this.ended;
  }

  // Shows a file; gives what happened meanwhile: the URLs that were asked for, and messages of the console.
  async show(file, { width = 1280, height = 900, scheme = 'light', media = '' } = {}) {
    this.events = [];
    await this.call('Emulation.setDeviceMetricsOverride', { width, height, deviceScaleFactor: 1, mobile: width < 600 });
    await this.call('Emulation.setEmulatedMedia', { media, features: [{ name: 'prefers-color-scheme', value: scheme }] });
    await this.call('Page.navigate', { url: pathToFileURL(file).href });
    const end = Date.now() + WAIT_MS;
    while (!this.events.some((event) => event.method === 'Page.loadEventFired')) {
      if (Date.now() > end) throw new Error('the page is not loaded');
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    const of = (method) => this.events.filter((event) => event.method === method).map((event) => event.params);
    return { requests: of('Network.requestWillBeSent').map((event) => event.request.url), messages: [...of('Log.entryAdded'), ...of('Runtime.consoleAPICalled'), ...of('Audits.issueAdded')] };
  }

  // The result of a function that runs in the page.
  async run(body, ...args) {
    const { result, exceptionDetails } = await this.call('Runtime.evaluate', { expression: `(${body})(${args.map((arg) => JSON.stringify(arg)).join(', ')})`, returnByValue: true });
    if (exceptionDetails) throw new Error(JSON.stringify(exceptionDetails));
    return result.value;
  }

  // Of the page from its top or from y on, at most so many pixels of it.
  async screenshot(file, { y = 0, height = 12000 } = {}) {
    const { cssContentSize: size } = await this.call('Page.getLayoutMetrics');
    const clip = { x: 0, y, width: size.width, height: Math.min(Math.max(size.height - y, 1), height), scale: 1 };
    const { data } = await this.call('Page.captureScreenshot', { captureBeyondViewport: true, clip });
    fs.writeFileSync(file, Buffer.from(data, 'base64'));
  }

  async pdf(file) {
    const { data } = await this.call('Page.printToPDF', { preferCSSPageSize: true, paperWidth: 8.27, paperHeight: 11.69, printBackground: false });
    fs.writeFileSync(file, Buffer.from(data, 'base64'));
  }
}

module.exports = { Browser };
