/**
 * `npm run picture -- FILE.png`: the page as README shows it, of a real daemon in a real browser. A busy
 * guest is held over a slow link that its limit does not fit, until the link may be used more.
 */
import { writeFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { Hosts } from '../e2e/hosts.ts';
import { Chromium } from '../report/chromium.ts';

const PROGRAM = '/usr/bin/chromium';
/** Of the window, in CSS pixels. */
const SIZE = { width: 1000, height: 1160, deviceScaleFactor: 1, mobile: false };
/** How long the guest is watched before and after the change, ms. */
const WATCHED_MS = 15_000;

const file = process.argv[2] ?? 'docs/page.png';
const hosts = await Hosts.start({ send: ['--web', '127.0.0.1:0'] });
const browser = await Chromium.start(PROGRAM);
try {
  await browser.call('Page.enable');
  await browser.call('Emulation.setDeviceMetricsOverride', SIZE);
  await hosts.boot({ memory: '256MiB', workload: 'hot-set', workingSet: '16MiB', rate: 2000 });
  const limits = ['--max-suspend-time', '300ms', '--bandwidth', '20MB/s'];
  const id = await hosts.begin('--hold', ...limits);
  await browser.open(`${/page on (\S+)/.exec(hosts.send.log)![1]!}#/${id}`);
  await sleep(WATCHED_MS);
  await hosts.run(['set', id, '--bandwidth', '100MB/s']);
  await sleep(WATCHED_MS);
  const { data } = await browser.call('Page.captureScreenshot', { format: 'png' });
  await writeFile(file, Buffer.from(data as string, 'base64'));
  await hosts.run(['cancel', id]);
} finally {
  await browser.close();
  await hosts.end();
}
