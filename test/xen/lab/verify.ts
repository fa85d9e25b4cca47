import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { zstdDecompressSync } from 'node:zlib';
import { PARTS, type XenHost } from './host.ts';

/** Fetches a stream that was captured in a dom0, and has Xen's own verify-stream-v2 read it. */
export async function mustVerify(host: XenHost, which: 'sent' | 'received'): Promise<string> {
  const file = `/tmp/${which}`;
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'godwit-xen-stream-'));
  try {
    const stream = path.join(dir, which);
    // The pipe that xl reads never ends by itself.
    await host.run("kill $(pids '^socat -u')");
    const packed = Buffer.from(
      await host.must(`zstd -1 -q -c ${file} | base64 && rm ${file} /tmp/capture`),
      'base64',
    );
    const bytes = zstdDecompressSync(packed);
    fs.writeFileSync(stream, bytes);
    const verify = `${PARTS}/verify/verify-stream-v2`;
    const env = { ...process.env, PYTHONPATH: `${PARTS}/verify` };
    const { status, stdout, stderr } = spawnSync(
      'python3',
      [verify, '-f', 'xl', '-v', '-i', stream],
      {
        env,
        encoding: 'utf8',
      },
    );
    assert.equal(status, 0, `verify-stream-v2 of the stream ${which}:\n${stdout}${stderr}`);
    return `${which} ${(bytes.length / 2 ** 20).toFixed(1)} MiB verified`;
  } finally {
    fs.rmSync(dir, { recursive: true });
  }
}
