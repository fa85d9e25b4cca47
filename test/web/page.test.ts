import { existsSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { GodwitError } from '../../lib/errors.ts';
import type { MigrationView } from '../../lib/migration/view.ts';
import { MAX_SAMPLES } from '../../lib/web/samples.ts';
import { WebServer } from '../../lib/web/server.ts';
import { aView, ended, FakeBackend } from '../api/fake-backend.ts';
import { Hosts } from '../e2e/hosts.ts';
import { Chromium } from '../report/chromium.ts';

/** The page in a browser: of daemons that move a guest, and of one that says it moves fifty. */

const PROGRAM = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'].find(
  (path) => existsSync(path),
);

/** As long as the test lasts, until somebody lets it go. */
const SLOW = ['--bandwidth', '1MB/s', '--no-compression', '--max-suspend-time', '500ms'];

const MANY = 50;

/** Fifty that run and sixty that have ended; a cutover only by force. */
class Busy extends FakeBackend {
  views: MigrationView[] = [
    ...Array.from({ length: 60 }, (_, i) =>
      ended(i % 3 === 0 ? 'cancelled' : 'completed', { id: `e${i}`, guest: `gone${i}` }),
    ),
    ...Array.from({ length: MANY }, (_, i) =>
      aView({ id: `r${i}`, guest: `guest-with-a-name-${i}` }),
    ),
  ];

  override list(): MigrationView[] {
    return this.views;
  }

  override show(id: string): MigrationView {
    return this.views.find((view) => view.id === id)!;
  }

  override cutover(id: string, force: boolean): MigrationView {
    super.cutover(id, force);
    if (force) return this.show(id);
    throw new GodwitError('cutover-refused', 'the forecast is 900 ms, the limit 300 ms');
  }
}

describe.skipIf(PROGRAM === undefined)('the page (skipped where no browser is installed)', () => {
  let browser: Chromium;
  const cleanups: (() => Promise<void> | void)[] = [];

  beforeAll(async () => {
    browser = await Chromium.start(PROGRAM!);
    for (const domain of ['Page', 'Network', 'Log', 'Runtime', 'Audits', 'Accessibility'])
      await browser.call(`${domain}.enable`);
  });
  afterAll(async () => {
    await browser?.close();
    for (const cleanup of cleanups.reverse()) await cleanup();
  });

  async function open(url: string, width = 1600, scheme: 'light' | 'dark' = 'light') {
    const size = { width, height: 900, deviceScaleFactor: 1, mobile: false };
    await browser.call('Emulation.setDeviceMetricsOverride', size);
    const features = [{ name: 'prefers-color-scheme', value: scheme }];
    await browser.call('Emulation.setEmulatedMedia', { features });
    await browser.open('about:blank'); // another hash alone would load nothing
    await browser.open(url);
    await until(`document.body.innerText.includes('live')`);
  }

  const until = (condition: string) =>
    expect.poll(() => browser.evaluate<boolean>(condition), { message: condition }).toBe(true);
  const textOf = (id: string) =>
    browser.evaluate<string>(`document.getElementById('${id}').innerText`);
  const says = (id: string, words: string | RegExp) => expect.poll(() => textOf(id)).toMatch(words);
  const press = (id: string) => browser.evaluate(`document.getElementById('${id}').click()`);

  /** With the keyboard, as whoever has no mouse would. */
  async function enter(id: string): Promise<void> {
    await browser.evaluate(`document.getElementById('${id}').focus()`);
    await key('Enter');
  }

  async function key(name: 'Enter'): Promise<void> {
    const pressed = { key: name, code: name, windowsVirtualKeyCode: 13, text: '\r' };
    for (const type of ['keyDown', 'keyUp'])
      await browser.call('Input.dispatchKeyEvent', { type, ...pressed });
  }

  /** The form for limits, as a person would. */
  async function fill(fields: Readonly<Record<string, string>>): Promise<void> {
    for (const [name, text] of Object.entries(fields))
      await browser.evaluate(`document.querySelector('[name=${name}]').value = '${text}'`);
    await browser.evaluate(`document.querySelector('#set button').click()`);
  }

  /** Requests that leave the daemon, and complaints of the browser, other than of answers that were expected. */
  function noise(url: string): unknown[] {
    return browser.events.filter(({ method, params }) => {
      const asked = (params.request as { url?: string } | undefined)?.url ?? url;
      if (method === 'Network.requestWillBeSent')
        return !asked.startsWith(new URL(url).origin) && asked !== 'data:,';
      // Nobody has clicked: a script goes from hash to hash.
      if (JSON.stringify(params).includes('NavigationEntryMarkedSkippable')) return false;
      return /^(Log\.entryAdded|Runtime\.(exceptionThrown|consoleAPICalled)|Audits\.)/.test(method);
    });
  }

  test('of daemons: limits, hold and cancel by buttons, its report at the end, a daemon that comes again', async () => {
    const page = ['--web', '127.0.0.1:0'];
    const hosts = await Hosts.start({ send: page, recv: page });
    cleanups.push(() => hosts.end());
    const urlOf = (agent: 'send' | 'recv') => /page on (\S+)/.exec(hosts[agent].log)![1]!;
    const url = urlOf('send');
    await hosts.boot();
    await open(url);
    await says('nothing', 'Nothing runs.');
    await says('guest-list', /vm1 simulated, 64 MiB: running/);

    const id = await hosts.begin(...SLOW);
    await says('title', `vm1 to ${hosts.target}`);
    await says('list', /vm1\s+round 1/);
    await until(`document.querySelectorAll('#timeline svg path').length > 0`);
    expect(noise(url)).toEqual([]);

    await browser.evaluate(`document.querySelector('#limits').open = true;
      document.querySelector('[name=maxSuspendMs]').value = '700'`);
    await browser.evaluate(`document.querySelector('#set button').click()`);
    await says('answer', 'a bare number is ambiguous');
    await browser.evaluate(`document.querySelector('[name=maxSuspendMs]').value = '700 ms'`);
    await browser.evaluate(`document.querySelector('#set button').click()`);
    await says('answer', 'The limits are changed.');
    await says('terms', 'suspend at most 700 ms');
    expect((await hosts.view(id)).limits).toMatchObject({ maxSuspendMs: 700 });
    await fill({
      pauseBelowMs: '200ms',
      abortAboveMs: '20s',
      timeoutMs: '2h',
      window: '02:00-02:01',
    });
    await says('terms', /most 2 h.*below 200 ms.*above 20 s.*outside of 02:00-02:01/);
    expect((await hosts.view(id)).limits).toMatchObject({
      ...{ maxSuspendMs: 700, pauseBelowMs: 200, abortAboveMs: 20_000, timeoutMs: 7_200_000 },
      hold: '02:00-02:01',
    });
    await fill({ window: '02:00-02:01', at: '2099-01-01T00:00' });
    await says('answer', 'not both');
    await fill({ window: '', at: '2099-01-01T00:00', abortAboveMs: 'none' });
    await expect
      .poll(async () => (await hosts.view(id)).limits)
      .toMatchObject({ hold: new Date('2099-01-01T00:00').toISOString(), pauseBelowMs: 200 });
    await says('hold', 'End the hold');
    await press('hold');
    await says('hold', /^Hold$/);
    await press('hold');
    await says('hold', 'End the hold');
    expect((await hosts.view(id)).limits).toMatchObject({ hold: 'cutover' });
    await press('hold');
    await says('hold', /^Hold$/);

    await open(urlOf('recv'));
    await says('title', /vm1 from .*127\.0\.0\.1/);
    await says('facts', /Remaining[\s\S]*On the wire/);
    expect(await browser.evaluate(`document.getElementById('hold').offsetParent === null`)).toBe(
      true,
    );

    await open(`${url}#/${id}`, 420);
    await says('title', 'vm1');
    await enter('cancel');
    await says('question-text', 'Cancel the move of vm1? It runs on at its source.');
    await enter('question-yes');
    expect(await hosts.ended(id)).toMatchObject({ outcome: 'cancelled' });
    await says('report', /vm1 stayed where it was: the move was cancelled[\s\S]*What happened/);
    await says('said', /vm1: cancelled/);
    expect(await browser.evaluate(`document.getElementById('live').hidden`)).toBe(true);
    await hosts.mustRunAt('source');

    await browser.evaluate(`window.isTheSame = true; location.hash = '#/'`);
    await hosts.source.send.end('SIGKILL');
    await says('connection', 'the daemon is not heard');
    await hosts.source.startSend(undefined, ['--web', new URL(url).host]);
    await says('connection', /^live$/);
    await says('list', /vm1\s+cancelled/); // of its ledger
    const next = await hosts.begin(...SLOW);
    await says('list', /vm1\s+(round|connecting)/);
    expect(await browser.evaluate('window.isTheSame')).toBe(true);
    await hosts.source.tell(next, 'cancel');
    await hosts.ended(next);
  });

  test('of fifty at once: all are there at any width, in light and dark, with a name for all that can be pressed', async () => {
    const { url } = await busy();
    for (const [width, scheme] of [
      [420, 'light'],
      [1600, 'dark'],
      [1100, 'light'],
    ] as const) {
      await open(url, width, scheme);
      await until(`document.querySelectorAll('#list li').length === ${MANY + 20}`);
      await press('older');
      await until(`document.querySelectorAll('#list li').length === ${MANY + 61}`);
      for (const hash of ['', '#/r7']) {
        await browser.evaluate(`location.hash = '${hash}'`);
        if (hash !== '') await says('title', 'guest-with-a-name-7');
        expect(
          await browser.evaluate(`(() => {
          const { scrollWidth, clientWidth } = document.documentElement;
          return scrollWidth - clientWidth;
        })()`),
          `${width} px ${hash}`,
        ).toBe(0);
        expect(await nameless(), `${width} px ${hash}`).toEqual([]);
      }
      expect(noise(url)).toEqual([]);
    }
    const streams = browser.events.filter(
      ({ method, params }) =>
        method === 'Network.requestWillBeSent' && params.type === 'EventSource',
    );
    expect(streams).toHaveLength(1);
  });

  test('a cutover that is refused is made by force only when somebody says so', async () => {
    const { backend, url } = await busy();
    await open(`${url}#/r3`);
    await says('title', 'guest-with-a-name-3');
    await press('cutover');
    await says('question-text', /the limit 300 ms\. Suspend the guest all the same/);
    await key('Enter'); // No comes first
    await says('answer', 'the forecast is 900 ms');
    await press('cutover');
    await until(`document.getElementById('question').open`); // it still has the words of before
    await press('question-yes');
    await says('answer', 'The cutover is ordered.');
    expect(backend.calls.filter(([what]) => what === 'cutover')).toEqual([
      ['cutover', 'r3'],
      ['cutover', 'r3'],
      ['cutover', 'r3', 'force'],
    ]);
  });

  test('a profile is shown, taken and ended; a limit that the policy does not heed is not offered', async () => {
    const { backend, url } = await busy();
    await open(`${url}#/r3`, 420);
    await says('title', 'guest-with-a-name-3');
    const isOffered = (name: string) =>
      browser.evaluate<boolean>(
        `!document.querySelector('[name=${name}]').closest('label').hidden`,
      );
    expect(await Promise.all(['abortAboveMs', 'maxIters'].map(isOffered))).toEqual([true, false]);
    await browser.evaluate(`location.hash = '#/'`);
    await says('guest-list', 'vm1');
    await browser.evaluate(`document.querySelector('#guest-list details').open = true`);
    await says('guest-list', /Dirtied in\s+Median\s+9 of 10\s+100 ms\s+1\.9 MiB\s+2 MiB/);
    const take = () => browser.evaluate(`document.querySelector('#guest-list button').click()`);
    await take();
    await says('guest-list', '480 pages dirtied within 100 ms');
    expect(backend.calls).toContainEqual(['profile', 'vm1', 10_000]);
    await take();
    await says(
      'guest-list',
      /Dirtied in[\s\S]*Take a profile[\s\S]*the profile of guest vm1 was ended/,
    );
    expect(backend.calls).toContainEqual(['endProfile', 'vm1']);
    expect(await nameless()).toEqual([]);
  });

  test('an evacuation has a page: its guests, its report, its end', async () => {
    const { backend, url } = await busy();
    await open(url, 420);
    await says('evacuation', '1 of 3 guests moved, 1 on its way, 1 waits.');
    backend.views.push(aView({ id: '4f2a000000000001', guest: 'vm2' }));
    await open(`${url}#/evacuation`, 420);
    await says('leaving-title', 'Evacuation of hosta to hostb:7070, hostc:7070');
    await says('leaving-list', /vm1\s+completed\s+suspended 47 ms of 800 ms/);
    await says('leaving-list', /vm2\s+round 2\s+9\.8 MiB left[\s\S]*vm3\s+waits\s+waits: a while/);
    expect(await nameless()).toEqual([]);
    const report = await browser.evaluate<string>(
      `fetch(document.querySelector('#leaving a').href).then((answer) => answer.text())`,
    );
    expect(report).toContain('<title>Evacuation of hosta');
    await enter('leaving-cancel');
    await says('question-text', 'Guests that are not given away stay');
    await enter('question-yes');
    await expect.poll(() => backend.calls).toContainEqual(['cancel evacuation']);
    expect(noise(url)).toEqual([]);
  });

  test('two hours leave no more behind than some minutes', async () => {
    const { url } = await busy();
    await open(`${url}#/r0`);
    await says('title', 'guest-with-a-name-0');
    await says('guest-list', 'vm3');
    await says('older', 'Show 41 older'); // with the one of a ledger
    const heap = async () => {
      await browser.call('HeapProfiler.collectGarbage');
      const { usedSize } = await browser.call('Runtime.getHeapUsage');
      return usedSize as number;
    };
    const feed = (from: number, to: number) =>
      browser.evaluate<{ samples: number; nodes: number; drawn: number }>(`(async () => {
        const { page } = await import('/modules/lib/web/page/main.ts');
        const view = ${JSON.stringify(aView({ id: 'r0', guest: 'guest-with-a-name-0' }))};
        for (let at = ${from}; at < ${to}; at += 500) {
          const left = at / 500 % 60;
          page.view({ ...view, elapsedMs: at, round: 1 + at % 30000, roundSent: left, dirtyRate: at % 7000 });
          if (at % 300000 === 0) await new Promise(requestAnimationFrame);
        }
        for (let i = 0; i < 3; i++) await new Promise(requestAnimationFrame);
        return {
          samples: page.live.samples.length,
          nodes: document.getElementsByTagName('*').length,
          drawn: document.querySelector('#timeline').innerHTML.length,
        };
      })()`);
    const first = await feed(0, 600_000);
    const before = await heap();
    const last = await feed(600_000, 7_200_000);
    const after = await heap();
    expect(first.samples).toBeGreaterThan(MAX_SAMPLES / 2 - 2);
    expect(last.samples).toBeGreaterThan(MAX_SAMPLES / 2 - 2);
    expect(last.samples).toBeLessThanOrEqual(MAX_SAMPLES);
    expect(last.nodes).toBeLessThan(first.nodes + 20);
    expect(last.drawn).toBeLessThan(MAX_SAMPLES * 150);
    expect(after - before).toBeLessThan(2 * 2 ** 20);
    expect(await textOf('facts')).toContain('2 h 00 m');
  });

  async function busy(): Promise<{ backend: Busy; url: string }> {
    const backend = new Busy();
    cleanups.push(() => backend.remove());
    const at = { host: '127.0.0.1', port: 0 };
    const open = { credentials: undefined, insecure: false };
    const server = await WebServer.open({ at, token: undefined }, open, backend);
    cleanups.push(() => server.close());
    return { backend, url: server.address };
  }

  /** What can be used and says nothing of itself, as a screen reader has it. */
  async function nameless(): Promise<string[]> {
    interface Node {
      readonly ignored: boolean;
      readonly role?: { value: string };
      readonly name?: { value: string };
    }
    const { nodes } = (await browser.call('Accessibility.getFullAXTree')) as { nodes: Node[] };
    const used = ['button', 'link', 'textbox', 'combobox', 'progressbar', 'navigation', 'image'];
    expect(nodes.some(({ role }) => role?.value === 'link')).toBe(true);
    return nodes
      .filter(
        ({ ignored, role, name }) => !ignored && used.includes(role?.value ?? '') && !name?.value,
      )
      .map(({ role }) => role!.value);
  }
});
