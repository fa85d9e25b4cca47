import { GodwitError } from '../../errors.ts';
import { CHUNK_PAGES, PAGE_SIZE, type Region } from '../../memory/guest-layout.ts';
import { XenStreamParser, type XenStreamSink } from '../../stream/xen/parser.ts';
import type { GuestDescription } from '../guest.ts';
import { readConfig, type XenConfig } from './config.ts';

export const HYPERVISOR = 'xen';

/** Bytes before the first page; GuestOffer has room for 256 KiB of base64 (proto/WIRE.md). */
export const LONGEST_PROLOGUE = 150 << 10;

/** The guest's pages, and what each of them is: a byte for each, see `PageTypes`. */
const RAM = 'ram';
const TYPES = 'types';

/** What a destination's xl must be told before the first page. */
export interface XenModel {
  readonly config: XenConfig;
  /** The stream's first bytes, up to its first PAGE_DATA. */
  readonly prologue: Buffer;
}

export function deviceModelOf(prologue: Uint8Array): string {
  return `xen-stream-3,prologue=${Buffer.from(prologue).toString('base64')}`;
}

/** @param pfnEnd one past the guest's highest page */
export function regionsOf(pfnEnd: number): readonly [ram: Region, types: Region] {
  const firstPfn = Math.ceil(pfnEnd / CHUNK_PAGES) * CHUNK_PAGES;
  return [
    { name: RAM, firstPfn: 0, pages: pfnEnd },
    { name: TYPES, firstPfn, pages: Math.ceil(pfnEnd / PAGE_SIZE) },
  ];
}

/** The same of a description that may come from a peer. @throws GodwitError bad-message */
export function checkRegions({ regions }: GuestDescription): readonly [ram: Region, types: Region] {
  const [ram, types, ...others] = regions;
  const expected = regionsOf(ram?.pages ?? 0);
  const fits = (region: Region | undefined, { name, firstPfn, pages }: Region) =>
    region?.name === name && region.firstPfn === firstPfn && region.pages === pages;
  if (others.length === 0 && fits(ram, expected[0]) && fits(types, expected[1])) return expected;
  throw new GodwitError(
    'bad-message',
    'guest description: its regions are not those of a Xen guest',
  );
}

/**
 * The device model of a description that may come from a peer.
 * @throws GodwitError bad-message, xen-stream
 */
export function checkDescription(description: GuestDescription): XenModel {
  const { hypervisor, deviceModel, name } = description;
  const [, base64] = /^xen-stream-3,prologue=([A-Za-z0-9+/=]+)$/.exec(deviceModel) ?? [];
  if (hypervisor !== HYPERVISOR || base64 === undefined)
    throw new GodwitError('bad-message', 'guest description: it is not of a Xen guest');
  checkRegions(description);
  const prologue = Buffer.from(base64, 'base64');
  const config = configIn(prologue);
  if (config.name !== name)
    throw new GodwitError('bad-message', 'the configuration of the domain has another name');
  return { config, prologue };
}

/** Reads all of the prologue: it must be one, and end between two records. */
function configIn(prologue: Buffer): XenConfig {
  let text: string | undefined;
  let passed = 0;
  let began = false;
  const noPages = () => {
    throw new GodwitError('bad-message', 'guest description: pages in the prologue');
  };
  const sink: XenStreamSink = {
    configured: (config) => {
      text = config;
    },
    began: () => {
      began = true;
    },
    record: () => {},
    passed: ({ length }) => {
      passed += length;
    },
    pageData: noPages,
    page: noPages,
    pageDataEnds: noPages,
    ended: noPages,
    after: noPages,
  };
  new XenStreamParser(sink).feed(prologue);
  if (text === undefined || !began || passed !== prologue.length)
    throw new GodwitError('bad-message', 'guest description: a prologue that is cut off');
  return readConfig(text);
}
