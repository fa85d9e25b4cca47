import { crc32 } from 'node:zlib';

/**
 * A second reader of the stream, written from QEMU's documents alone: it has the whole stream,
 * trusts it and shares no code with the parser. `starts` are the bytes where tokens begin.
 */
export function readNaively(stream: Buffer): { lines: string[]; starts: number[]; end: number } {
  const lines: string[] = [];
  const starts: number[] = [];
  const blocks: string[] = [];
  let block = '';
  let at = 8 + 5 + stream.readUInt32BE(9);

  const text = () => {
    const length = stream[at]!;
    at += 1 + length;
    return stream.toString('latin1', at - length, at);
  };
  const word = () => {
    at += 8;
    return Number(stream.readBigUInt64BE(at - 8));
  };
  const list = (total: number) => {
    for (let left = total; left > 0; ) {
      starts.push(at);
      const name = text();
      const length = word();
      blocks.push(name);
      lines.push(`block ${name} ${length}`);
      left -= length;
    }
  };
  const records = () => {
    for (;;) {
      starts.push(at);
      const w = word();
      const offset = w - (w % 4096);
      const flags = w % 4096;
      if (flags === 0x10) break;
      if (flags === 0x04) list(offset);
      else {
        if ((flags & 0x20) === 0) block = text();
        const where = `${blocks.indexOf(block)} ${offset}`;
        const size = flags & 0x08 ? 4096 : 1;
        const bytes = stream.subarray(at, at + size);
        lines.push(size === 1 ? `zero ${where}` : `page ${where} 4096 ${crc32(bytes)}`);
        at += size;
      }
    }
    starts.push(at);
    at += 5;
  };

  for (;;) {
    starts.push(at);
    const type = stream[at]!;
    if (type === 0x08) {
      const number = stream.readUInt16BE(at + 1);
      const length = stream.readUInt16BE(at + 3);
      const payload = stream.toString('hex', at + 5, at + 5 + length);
      if (number !== 11) lines.push(`command ${number} ${payload}`);
      at += 5 + length;
      continue;
    }
    at += 5;
    if (type === 0x01) {
      text();
      at += 8;
    }
    records();
    if (type === 0x03) break;
  }
  const end = at;
  const tail = stream.subarray(end);
  lines.push('ram ended', `tail ${tail.length} ${crc32(tail)}`);
  return { lines, starts, end };
}
