import http from 'node:http';
import { afterEach, expect, test } from 'vitest';
import { ControlServer } from '../../lib/api/server.ts';
import type { MigrationView } from '../../lib/migration/view.ts';
import { aView, FakeBackend } from './fake-backend.ts';

/** The event stream of all migrations. */

class Several extends FakeBackend {
  views: readonly MigrationView[] = [];

  override list(): MigrationView[] {
    return [...this.views];
  }
}

const cleanups: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

test('tells of all, then of each that changes and of each that goes, until the server closes', async () => {
  const agent = new Several();
  agent.views = ['a', 'b', 'c'].map((id) => aView({ id }));
  cleanups.push(() => agent.remove());
  const server = await ControlServer.open(agent.socket, agent);
  cleanups.push(() => server.close());
  const { promise, resolve, reject } = Promise.withResolvers<http.IncomingMessage>();
  http
    .get({ socketPath: agent.socket, path: '/v1/events', agent: false }, resolve)
    .on('error', reject);
  const response = await promise;
  expect(response.headers['content-type']).toBe('text/event-stream');
  let text = '';
  let hasEnded = false;
  response.setEncoding('utf8').on('data', (piece) => {
    text += piece;
  });
  response.on('end', () => {
    hasEnded = true;
  });
  const events = () =>
    [...text.matchAll(/event: (\w+)\ndata: (.*)\n\n/g)].map(
      ([, event, data]) => [event, JSON.parse(data!)] as const,
    );
  await expect.poll(events).toHaveLength(1);
  const [first, { migrations }] = events()[0]!;
  expect([first, migrations.map(({ id }: MigrationView) => id)]).toEqual([
    'migrations',
    ['a', 'b', 'c'],
  ]);

  agent.views = [aView({ id: 'a' }), aView({ id: 'c', round: 9 }), aView({ id: 'd' })];
  await expect.poll(events).toHaveLength(4);
  expect(events().slice(1)).toMatchObject([
    ['gone', { id: 'b' }],
    ['view', { id: 'c', round: 9 }],
    ['view', { id: 'd' }],
  ]);
  await server.close();
  await expect.poll(() => hasEnded).toBe(true);
});
