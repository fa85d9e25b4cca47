import { spawn } from 'node:child_process';
import net from 'node:net';
import type { Readable, Writable } from 'node:stream';
import zlib from 'node:zlib';

/*
 * A transport of xl that does nothing but carry bytes, for comparison: `pipe.ts plain|zstd HOST …` is run by
 * xl in place of ssh, `pipe.ts plain|zstd` takes one domain at the other host. zstd compresses as a transport
 * must: what xl waits for an answer to is never kept back.
 */
const PORT = 7000;
const [way, host] = process.argv.slice(2);

/** From xl to the wire. */
function away(from: Readable, to: Writable): void {
  if (way === 'plain') {
    from.pipe(to);
    return;
  }
  const compressor = zlib.createZstdCompress({
    params: { [zlib.constants.ZSTD_c_compressionLevel]: 1 },
  });
  compressor.pipe(to);
  from.on('data', (bytes) => {
    from.pause();
    compressor.write(bytes);
    compressor.flush(() => from.resume());
  });
  from.on('end', () => compressor.end());
}

/** From the wire to xl. */
function here(from: Readable, to: Writable): void {
  if (way === 'plain') from.pipe(to);
  else from.pipe(zlib.createZstdDecompress()).pipe(to);
}

if (host === undefined) {
  const server = net.createServer((socket) => {
    server.close();
    const xl = spawn('xl', ['migrate-receive'], { stdio: ['pipe', 'pipe', 'inherit'] });
    here(socket, xl.stdin);
    away(xl.stdout, socket);
  });
  server.listen(PORT);
} else {
  const socket = net.connect(PORT, host);
  away(process.stdin, socket);
  here(socket, process.stdout);
  socket.on('close', () => process.exit());
}
