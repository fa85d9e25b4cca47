import { crc32 } from 'node:zlib';

/**
 * A second reader of the stream, written from Xen's documents alone: it has the whole stream, trusts
 * it and shares no code with the parser. `starts` are the bytes where tokens begin.
 */
export function readNaively(stream: Buffer): { lines: string[]; starts: number[]; end: number } {
  const lines: string[] = [];
  const starts = [0, 32, 48];
  const word = (at: number) => stream.readUInt32LE(at);
  const optional = word(44);
  lines.push(`config ${stream.toString('utf8', 52, 48 + optional).split('\0')[0]}`);
  // What is passed is told when something else comes: from here on, not yet told.
  let untold = 0;
  let at = 48 + optional + 16;
  const tell = (line: string | undefined, from: number) => {
    if (from > untold)
      lines.push(`passed ${from - untold} ${crc32(stream.subarray(untold, from))}`);
    untold = from;
    if (line !== undefined) lines.push(line);
  };
  const pages = () => {
    const count = word(at + 8);
    const pfns = Array.from({ length: count }, (_, i) => stream.readBigUInt64LE(at + 16 + 8 * i));
    const number = (w: bigint) => Number(w & 0xf_ffff_ffff_ffffn);
    tell(`pages ${count} ${number(pfns[0]!)} ${number(pfns[count - 1]!)}`, at);
    for (let i = 0; i < count; i++) starts.push(at + 16 + 8 * i);
    at += 16 + 8 * count;
    for (const pfn of pfns) {
      starts.push(at);
      const type = Number(pfn >> 60n);
      const bytes = type >= 13 ? undefined : stream.subarray(at, at + 4096);
      lines.push(`page ${number(pfn)} ${type} ${bytes ? `4096 ${crc32(bytes)}` : 'none'}`);
      at += bytes ? 4096 : 0;
    }
    lines.push('pages end');
    untold = at;
  };
  for (let layer = 'libxl'; ; ) {
    starts.push(at);
    const type = word(at);
    const length = word(at + 4);
    if (layer === 'libxc' && type === 1) {
      pages();
      continue;
    }
    tell(`${layer} ${type} ${length}`, at);
    at += 8 + 8 * Math.ceil(length / 8);
    if (layer === 'libxl' && type === 0) break;
    if (layer === 'libxl' && type === 1) {
      layer = 'libxc';
      tell(`libxc ${word(at + 24) === 1 ? 'pv' : 'hvm'}`, at);
      starts.push(at);
      at += 40;
    } else if (layer === 'libxc' && type === 0) layer = 'libxl';
  }
  tell('end', at);
  const rest = stream.toString('latin1', at);
  if (rest !== '') lines.push(`after ${rest}`);
  return { lines, starts, end: at };
}
