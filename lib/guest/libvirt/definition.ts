import { readFileSync, rmSync } from 'node:fs';
import path from 'node:path';
import { makeDirectory } from '../../directory.ts';
import { GodwitError } from '../../errors.ts';
import { replaceFile } from '../../replace-file.ts';
import { child, type Element, parseXml, xmlOf } from '../../xml.ts';
import type { CopyPlace } from '../handle.ts';
import type { DefinitionDuty } from '../hypervisor.ts';
import { uuidBytes } from './domain-process.ts';
import { giveImages, removeImages } from './images.ts';
import { LibvirtClient } from './rpc/client.ts';
import { lookAtDomain, unlessNone } from './run-state.ts';

/** A libvirtd that stands still does not keep the handover from what else there is to do, ms. */
const LIMITS = { callMs: 15_000 };

/**
 * What is to become of a domain's definition on this host, which never runs ahead of the guest: it is
 * made when the guest runs here, and goes when the guest is gone and its destination has its own. Images
 * that were made for its disks stay when the guest runs here, and go when it has not come.
 */
export function definitionDuty(place: CopyPlace): DefinitionDuty | undefined {
  const { definition, undefine, images = [] } = place;
  if (definition === undefined && undefine === undefined && images.length === 0) return undefined;
  return {
    async settle(where) {
      if (where === 'here') giveImages(images);
      else removeImages(images);
      if (definition !== undefined && where === 'here') return define(place, definition);
      if (definition !== undefined)
        rmSync(definition, { force: true }); // it has not come
      else if (where === 'gone') return forget(place);
    },
  };
}

/** The file stays until the domain comes again: one that is lost could not be told from one that is done. */
async function define(place: CopyPlace, file: string): Promise<void> {
  await asking(place, async (client, uuid) => {
    await client.define(readFileSync(file, 'utf8'));
    const domain = await client.lookupUuid(uuid);
    if (await client.isPersistent(domain)) return;
    const text = `libvirt does not keep the definition of guest ${place.guest}`;
    throw new GodwitError('hypervisor-failed', text);
  });
}

/** One that runs here again has been started by somebody: it is theirs. */
async function forget(place: CopyPlace): Promise<void> {
  await asking(place, async (client, uuid) => {
    const domain = await unlessNone(client.lookupUuid(uuid));
    if (domain === undefined || (await lookAtDomain(client, domain)) !== undefined) return;
    await client.undefine(domain);
  });
}

async function asking(
  { socket, uuid = '', guest }: CopyPlace,
  ask: (client: LibvirtClient, uuid: Buffer) => Promise<void>,
): Promise<void> {
  const bytes = uuidBytes(uuid);
  if (bytes === undefined)
    throw new GodwitError('journal-invalid', `the journal has no UUID of guest ${guest}`);
  const client = await LibvirtClient.connect(socket, LIMITS);
  try {
    await ask(client, bytes);
  } finally {
    client.close();
  }
}

/**
 * Keeps what is to be the definition of a domain that comes, durable, for as long as it may be needed.
 * @param dir of the agent's own
 * @throws GodwitError hypervisor-failed
 */
export async function keepDefinition(file: string, xml: string): Promise<void> {
  try {
    makeDirectory(path.dirname(file));
    await replaceFile(file, xml);
  } catch (cause) {
    const text = `the definition of the guest cannot be kept in ${file}: ${(cause as Error).message}`;
    throw new GodwitError('hypervisor-failed', text, { cause });
  }
}

/** The XML of a domain, under another name. */
export function renamed(domain: Element, name: string): string {
  const children = domain.children.map((one) =>
    one.name === 'name' ? { ...one, text: name } : one,
  );
  return xmlOf({ ...domain, children });
}

/** As `uuidBytes`, of a domain's XML. */
export function uuidIn(domain: Element): Buffer | undefined {
  return uuidBytes(child(domain, 'uuid')?.text ?? '');
}

/** @throws GodwitError bad-message when it is not the definition of the domain that comes */
export function requireSame(definition: string, uuid: Buffer): Element {
  const parsed = parseXml(definition);
  if (parsed.name === 'domain' && uuidIn(parsed)?.equals(uuid)) return parsed;
  throw new GodwitError('bad-message', 'the definition of the guest is that of another one');
}
