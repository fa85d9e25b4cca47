import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import net from 'node:net';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { CHUNK_PAGES, GuestLayout } from '../../lib/memory/guest-layout.ts';
import { StateSpool } from '../../lib/memory/state-spool.ts';
import { ReceivePool } from '../../lib/pages/receive-pool.ts';
import { SendPool } from '../../lib/pages/send-pool.ts';
import { MAX_LANES } from '../../lib/wire/handshake.ts';
import { crewOfTest } from '../crew/crew-of-test.ts';

const crew = crewOfTest();

/** Two threads compile the code of many lanes first: seconds of a core on a busy machine. */
const LONG = { timeout: 300_000 };

const region = { name: 'ram', firstPfn: 0, pages: 4 * CHUNK_PAGES };
const layout = new GuestLayout([region]);
/** The first page of a guest of 16 GiB that has only its last MiB; bytes of its round tags. */
const FAR = 4_194_304 - region.pages;
const TAGS = 2 * 4_194_304;
const security = { credentials: undefined, insecure: false };

let dir: string;
beforeEach(() => {
  dir = fs.mkdtempSync('/dev/shm/godwit-pools-');
});
afterEach(() => fs.rmSync(dir, { recursive: true }));

function ramFile(name: string) {
  const path = `${dir}/${name}`;
  fs.writeFileSync(path, '');
  fs.truncateSync(path, region.pages * 4096);
  return [{ region, path, offset: 0 }];
}

const session = { migration: '0123456789abcdef', secret: randomBytes(16), hashSeed: 1n, layout };

function sendPool(ports: readonly number[], connectTimeoutMs = 60_000) {
  const failures: unknown[] = [];
  const memory = ramFile('source');
  const pool = new SendPool({
    crew,
    ...session,
    host: '127.0.0.1',
    ports,
    connectTimeoutMs,
    security,
    stallTimeoutMs: 60_000,
    reconnectTimeoutMs: 60_000,
    pagesOf: () => ({ memory }),
    state: StateSpool.open(dir, 1).share,
    window: 2,
    compression: 'off',
    bandwidth: undefined,
    onFailure: (error) => failures.push(error),
  });
  return { pool, failures };
}

function receivePool(lanes: number, whole = layout) {
  return new ReceivePool({
    crew,
    ...session,
    layout: whole,
    lanes,
    listenHost: '127.0.0.1',
    peerTimeoutMs: 5000,
    credentials: undefined,
    senderFingerprint: '',
    dataPorts: undefined,
    memory: ramFile('destination'),
    state: StateSpool.open(dir, lanes).share,
    arrivals: undefined,
    tellsLoad: true,
    onFailure: () => {},
  });
}

describe('the pools of a migration', () => {
  test('open as many lanes as are allowed', LONG, async () => {
    const receiver = receivePool(MAX_LANES);
    const { pool: sender, failures } = sendPool(await receiver.listen());
    await sender.open();
    expect(failures).toEqual([]);
    await Promise.all([sender.close(), receiver.close()]);
  });

  test('close in the middle of opening: nobody waits for what no longer comes', LONG, async () => {
    const deaf = net.createServer(() => {}).listen(0, '127.0.0.1');
    await new Promise((resolve) => deaf.once('listening', resolve));
    const { port } = deaf.address() as net.AddressInfo;
    const { pool } = sendPool(Array.from({ length: 8 }, () => port));
    const opening = pool.open();
    opening.catch(() => {});
    await pool.close();
    await expect(opening).rejects.toMatchObject({ code: 'cancelled' });
    deaf.close();
  });

  test('do not wait for a lane that is never opened', LONG, async () => {
    const deaf = net.createServer(() => {}).listen(0, '127.0.0.1');
    await new Promise((resolve) => deaf.once('listening', resolve));
    const { port } = deaf.address() as net.AddressInfo;
    const { pool } = sendPool([port], 500);
    await expect(pool.open()).rejects.toMatchObject({ code: 'peer-silent' });
    await pool.close();
    deaf.close();
  });

  test('leave nothing behind when they have closed', LONG, async () => {
    setFlagsFromString('--expose-gc');
    const collect = runInNewContext('gc') as () => void;
    const held = () => {
      collect();
      return process.memoryUsage().arrayBuffers;
    };
    const before = held();
    const pools = [];
    for (let i = 0; i < 8; i++) {
      const receiver = receivePool(1, new GuestLayout([{ ...region, firstPfn: FAR }]));
      const { pool: sender } = sendPool([0]);
      pools.push(sender, receiver);
      const listening = receiver.listen();
      listening.catch(() => {});
      await Promise.all([sender.close(), receiver.close()]);
      await listening.catch(() => {});
    }
    await expect.poll(() => held() - before).toBeLessThan(TAGS);
    expect(pools.map((pool) => pool.totals().pages)).toEqual(pools.map(() => 0));
  });
});
