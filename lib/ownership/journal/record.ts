import { crc32 } from 'node:zlib';
import { GodwitError } from '../../errors.ts';
import { decodeJournalRecord, encodeJournalRecord } from '../../wire/codec.ts';
import type { JournalRecord } from '../../wire/messages.ts';

/*
 * A record in the file, little endian: magic "GWJR", length of the body, CRC-32 of the body, the
 * body (protobuf JournalRecord).
 */
const MAGIC = 0x524a5747;
const HEAD_SIZE = 12;
/** Names, an address and a sentence or two. */
const MAX_BODY = 16 * 1024;

/** The bytes of a record. @throws GodwitError bad-message for one that cannot be */
export function encodeRecord(record: JournalRecord): Buffer {
  const body = encodeJournalRecord(record);
  if (body.length > MAX_BODY)
    throw new GodwitError('bad-message', `a journal record of ${body.length} bytes is too long`);
  const head = Buffer.alloc(HEAD_SIZE);
  head.writeUInt32LE(MAGIC, 0);
  head.writeUInt32LE(body.length, 4);
  head.writeUInt32LE(crc32(body), 8);
  return Buffer.concat([head, body]);
}

/**
 * The records at the beginning of a journal, and where they end. What follows is a torn tail: the
 * remains of a write that was never confirmed.
 * @throws GodwitError journal-invalid when there is a good record behind a bad one: then it is
 *   not the tail that was torn, and what the bad one said is not known
 */
export function decodeRecords(bytes: Buffer): {
  readonly records: readonly JournalRecord[];
  readonly end: number;
} {
  const records: JournalRecord[] = [];
  let at = 0;
  for (;;) {
    const found = recordAt(bytes, at);
    if (found === undefined) break;
    records.push(found.record);
    at = found.end;
  }
  for (let later = at + 1; later < bytes.length; later++) {
    later = nextMagic(bytes, later);
    if (later === -1) break;
    if (recordAt(bytes, later) === undefined) continue;
    throw new GodwitError(
      'journal-invalid',
      `the journal is damaged at byte ${at}, in front of good records: restore it, or settle its migrations by hand and move it away`,
    );
  }
  return { records, end: at };
}

function recordAt(
  bytes: Buffer,
  at: number,
): { readonly record: JournalRecord; readonly end: number } | undefined {
  if (bytes.length - at < HEAD_SIZE || bytes.readUInt32LE(at) !== MAGIC) return undefined;
  const length = bytes.readUInt32LE(at + 4);
  const start = at + HEAD_SIZE;
  if (length > MAX_BODY || bytes.length - start < length) return undefined;
  const body = bytes.subarray(start, start + length);
  if (crc32(body) !== bytes.readUInt32LE(at + 8)) return undefined;
  return { record: decodeJournalRecord(body), end: start + length };
}

function nextMagic(bytes: Buffer, from: number): number {
  return bytes.indexOf(Buffer.from('GWJR', 'latin1'), from);
}
