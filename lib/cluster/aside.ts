import type { Element } from '../xml.ts';
import { askTool, elements, runTool } from './tool.ts';

/*
 * While a guest's place is open, Pacemaker must not stop or start it: its resource is set aside by
 * `maintenance`. The migration that does so leaves its id beside it, so that whoever finds the place
 * settled hands back what was set aside for it, and never what an administrator has set aside.
 */
const OURS = 'godwit-migration';

/** @throws GodwitError not-seen: it may be set aside or not */
export async function setAside(resource: string, migration: string): Promise<void> {
  await setMeta(resource, OURS, migration);
  await setMeta(resource, 'maintenance', 'true');
}

/**
 * Has Pacemaker forget the moves of a resource by a node where it is not. Pacemaker keeps them for ever (seen
 * with 2.1.5): planning anew, as it does when the resource is set aside, it takes an old arrival there for
 * the one that is to come, and an old departure for one that is still under way; either has it stop the
 * guest and start it anew.
 * @throws GodwitError not-seen
 */
export async function forgetMoves(resource: string, node: string): Promise<void> {
  const history = `//node_state[@uname='${node}']//lrm_resource[@id='${resource}']/lrm_rsc_op`;
  for (const operation of ['migrate_from', 'migrate_to']) {
    const found = `${history}[@operation='${operation}']`;
    await runTool('cibadmin', ['--delete', '--scope', 'status', '--xpath', found]);
  }
}

/** Where Pacemaker knows by itself what comes next, or is told. @throws GodwitError not-seen */
export async function takeBack(resource: string): Promise<void> {
  await deleteMeta(resource, 'maintenance');
  await deleteMeta(resource, OURS);
}

/**
 * Hands the resource of a guest back that its migration has set aside: Pacemaker looks where it is
 * first, as it would otherwise believe what it last knew, and start it where it runs.
 * @returns the resource's name; undefined when none was set aside for that
 * @throws GodwitError not-seen
 */
export async function handBack(guest: string, migration: string): Promise<string | undefined> {
  const found = (await resources()).find(
    (one) => guestOf(one) === guest && metaOf(one, OURS) === migration,
  );
  const resource = found?.attributes.get('id');
  if (resource === undefined) return undefined;
  await runTool('crm_resource', ['--refresh', '-r', resource]);
  await takeBack(resource);
  return resource;
}

/** Those of Godwit's resource agent. */
async function resources(): Promise<readonly Element[]> {
  const all = await askTool('cibadmin', ['--query', '--scope', 'resources']);
  return elements(all, 'primitive').filter(
    ({ attributes }) =>
      attributes.get('class') === 'ocf' &&
      attributes.get('provider') === 'godwit' &&
      attributes.get('type') === 'domain',
  );
}

/** The guest of a resource: its parameter, or else its own name. */
function guestOf(primitive: Element): string | undefined {
  return valueIn(primitive, 'instance_attributes', 'guest') ?? primitive.attributes.get('id');
}

function metaOf(primitive: Element, name: string): string | undefined {
  return valueIn(primitive, 'meta_attributes', name);
}

function valueIn(primitive: Element, set: string, name: string): string | undefined {
  const pairs = primitive.children.filter((one) => one.name === set).flatMap((one) => one.children);
  return pairs.find(({ attributes }) => attributes.get('name') === name)?.attributes.get('value');
}

async function setMeta(resource: string, name: string, value: string): Promise<void> {
  await runTool('crm_resource', ['-r', resource, '--meta', '-p', name, '-v', value]);
}

async function deleteMeta(resource: string, name: string): Promise<void> {
  await runTool('crm_resource', ['-r', resource, '--meta', '-d', name]);
}
