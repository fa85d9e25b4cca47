import { existsSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { renderReport } from '../../lib/report/html.ts';
import { Chromium } from './chromium.ts';
import { FIXTURES } from './fixtures.ts';

const PROGRAM = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'].find(
  (path) => existsSync(path),
);
const TIMEOUT_MS = 120_000;

/** In the page: pairs of texts of one picture that cover each other, and texts that leave it. */
const LAYOUT_PROBLEMS = `(() => {
  const problems = [];
  for (const svg of document.querySelectorAll('svg')) {
    const frame = svg.getBoundingClientRect();
    if (frame.width === 0) continue;
    const texts = [...svg.querySelectorAll('text')].map((text) => ({
      name: svg.querySelector('title').textContent + ': ' + text.textContent,
      box: text.getBoundingClientRect(),
    }));
    texts.forEach(({ name, box }, i) => {
      if (box.left < frame.left - 1 || box.right > frame.right + 1) problems.push(name + ' is cut off');
      for (const other of texts.slice(i + 1)) {
        const over = Math.min(box.right, other.box.right) - Math.max(box.left, other.box.left);
        const under = Math.min(box.bottom, other.box.bottom) - Math.max(box.top, other.box.top);
        if (over > 1 && under > 3) problems.push(name + ' covers ' + other.name);
      }
    });
  }
  const { scrollWidth, clientWidth } = document.documentElement;
  if (scrollWidth > clientWidth) problems.push('the page is ' + scrollWidth + ' px wide');
  return problems;
})()`;

describe.skipIf(PROGRAM === undefined)('in a browser (skipped where none is installed)', () => {
  let browser: Chromium;
  let dir: string;

  beforeAll(async () => {
    dir = await mkdtemp(join(tmpdir(), 'godwit-report-'));
    browser = await Chromium.start(PROGRAM!);
    for (const domain of ['Page', 'Network', 'Log', 'Runtime', 'Audits'])
      await browser.call(`${domain}.enable`);
  }, TIMEOUT_MS);

  afterAll(async () => {
    await browser?.close();
    await rm(dir, { recursive: true });
  }, TIMEOUT_MS);

  async function show(name: string, html: string, width: number): Promise<void> {
    const file = join(dir, `${name}.html`);
    await writeFile(file, html);
    const size = { width, height: 900, deviceScaleFactor: 1, mobile: false };
    await browser.call('Emulation.setDeviceMetricsOverride', size);
    await browser.open(pathToFileURL(file).href);
  }

  /** What the page asked for besides itself, and what the browser complained about. */
  function noise(): unknown[] {
    return browser.events.filter(({ method, params }) => {
      const url = (params.request as { url?: string } | undefined)?.url ?? '';
      if (method === 'Network.requestWillBeSent') return !url.endsWith('.html');
      return /^(Log\.entryAdded|Runtime\.(exceptionThrown|consoleAPICalled)|Audits\.)/.test(method);
    });
  }

  test.each(Object.keys(FIXTURES))(
    'the report of %s is quiet, and nothing overlaps at any width',
    async (name) => {
      const html = renderReport(FIXTURES[name]!());
      for (const width of [1200, 800, 600, 360]) {
        await show(name, html, width);
        expect(noise()).toEqual([]);
        const problems = await browser.evaluate<string[]>(LAYOUT_PROBLEMS);
        expect(problems, `at ${width} px`).toEqual([]);
      }
    },
    TIMEOUT_MS,
  );

  test(
    'these checks would see a request, a complaint and an overlap',
    async () => {
      const bad = `<!doctype html><img src="missing.png"><script>console.error('x')</script>
        <svg width="90" height="40"><title>t</title><text y="20">abc</text><text y="22">abc</text></svg>`;
      await show('bad', bad, 600);
      expect(noise().length).toBeGreaterThanOrEqual(2);
      expect(await browser.evaluate<string[]>(LAYOUT_PROBLEMS)).toEqual(['t: abc covers t: abc']);
    },
    TIMEOUT_MS,
  );
});
