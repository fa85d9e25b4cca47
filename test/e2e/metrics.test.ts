import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { promtool, titled } from '../api/promtool.ts';
import { root } from '../cli/run.ts';
import { Hosts, until } from './hosts.ts';

/** Metrics of daemons that have moved a guest, as Prometheus would get them. */

const ALERTS = path.join(root, 'agent-send/prometheus-alerts.yml');
const DASHBOARD = path.join(root, 'agent-send/grafana-dashboard.json');

const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'godwit-metrics-'));
let hosts: Hosts;
const texts = { send: '', recv: '' };

const urlOf = (agent: 'send' | 'recv') =>
  /metrics on (http:\/\/127\.0\.0\.1:\d+\/metrics)/.exec(hosts[agent].log)![1]!;

beforeAll(async () => {
  const options = (agent: string) => [
    ...['--metrics-listen', '127.0.0.1:0'],
    ...['--metrics-textfile', path.join(dir, `${agent}.prom`)],
  ];
  hosts = await Hosts.start({ send: options('send'), recv: options('recv') });
  await hosts.boot();
  expect(await hosts.migrate('--max-suspend-time', '20s')).toMatchObject({ outcome: 'completed' });
  await fetch(`http://127.0.0.1:${hosts.port}/`).catch(() => {}); // turned away
  const ended = /^godwit_migrations_total\{outcome="completed"\} 1$/m;
  const received = async () => ended.test(await (await fetch(urlOf('recv'))).text());
  await until(received, 'it has ended for the receiver, too');
  for (const agent of ['send', 'recv'] as const) {
    const response = await fetch(urlOf(agent));
    expect(response.headers.get('content-type')).toBe('text/plain; version=0.0.4; charset=utf-8');
    texts[agent] = await response.text();
  }
});
afterAll(async () => {
  await hosts.end();
  fs.rmSync(dir, { recursive: true });
});

test('tell what has happened', () => {
  expect(texts.send).toMatch(/^godwit_migrations_total\{outcome="completed"\} 1$/m);
  expect(texts.send).toMatch(/^godwit_promises_total\{result="kept"\} 1$/m);
  expect(texts.send).toMatch(/^godwit_suspension_seconds_count 1$/m);
  expect(texts.send).toMatch(/^godwit_forecast_error_ratio_count 1$/m);
  expect(texts.send).toMatch(/^godwit_build_info\{version=".*",node="26.*",role="send"\} 1$/m);
  expect(texts.recv).toMatch(/^godwit_migrations_total\{outcome="completed"\} 1$/m);
  expect(texts.recv).toMatch(/^godwit_wire_bytes_total [1-9]\d+$/m);
  expect(texts.recv).toMatch(/^godwit_connections_refused_total\{reason="bad-magic"\} 1$/m);
  for (const text of Object.values(texts)) expect(text).toMatch(/^process_open_fds [1-9]\d*$/m);
});

test('are looked at, and nothing else can be done there', async () => {
  const base = urlOf('send').replace('/metrics', '');
  const status = async (at: string, method = 'GET') =>
    (await fetch(`${base}${at}`, { method })).status;
  expect(await status('/healthz')).toBe(200);
  expect(await status('/migrations')).toBe(404);
  expect(await status('/metrics', 'POST')).toBe(405);
});

test.skipIf(promtool === undefined)(titled('finds nothing wrong with metrics and alerts'), () => {
  for (const text of Object.values(texts))
    expect(promtool!(['check', 'metrics'], text)).toEqual({ status: 0, said: '' });
  const rules = promtool!(['check', 'rules', ALERTS]);
  expect(rules, rules.said).toMatchObject({
    status: 0,
    said: expect.stringContaining('rules found'),
  });
});

/** node_exporter gives nothing at all where two samples are alike. */
test('are files for node_exporter, too, which both agents may have in one directory', () => {
  const files = ['send', 'recv'].map((agent) =>
    fs.readFileSync(path.join(dir, `${agent}.prom`), 'utf8'),
  );
  const samples = files.flatMap((text) => text.match(/^[a-z_]+(?:\{.*?\})?(?= )/gm)!);
  expect(new Set(samples).size).toBe(samples.length);
  expect(samples).toContain('godwit_needs_resolve{agent="agent-send"}');
  expect(samples).toContain('godwit_needs_resolve{agent="agent-recv"}');
  expect(samples.filter((name) => name.startsWith('process_'))).toEqual([]);
  expect(fs.statSync(path.join(dir, 'send.prom')).mode & 0o777).toBe(0o644);
  expect(fs.readdirSync(dir).sort()).toEqual(['recv.prom', 'send.prom']);
  for (const text of promtool === undefined ? [] : files)
    expect(promtool!(['check', 'metrics'], text)).toEqual({ status: 0, said: '' });
});

test('alerts and dashboard ask for nothing that there is not', () => {
  const names = new Set(
    Object.values(texts).flatMap((text) =>
      [...text.matchAll(/^# TYPE (\w+)/gm)].map(([, n]) => n!),
    ),
  );
  for (const file of [ALERTS, DASHBOARD]) {
    const asked = fs.readFileSync(file, 'utf8').matchAll(/\b(?:godwit|process)_\w+/g);
    const missing = [...asked]
      .map(([name]) => name)
      .filter((name) => !names.has(name.replace(/_bucket$/, '')));
    expect(missing, file).toEqual([]);
  }
  const { panels } = JSON.parse(fs.readFileSync(DASHBOARD, 'utf8'));
  expect(new Set(panels.map(({ id }: { id: number }) => id)).size).toBe(panels.length);
});
