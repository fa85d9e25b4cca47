import type { Fence } from '../ownership/fenced.ts';
import { askTool, elements } from './tool.ts';

/** What takes a host's power; `on` and `monitor` are in the history as well. */
const ACTIONS = ['off', 'reboot'];
/** As `2026-11-25 00:54:57Z`; versions before 2.1.5 leave the zone out, which is then nobody's guess. */
const TIME = /^(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d)(?:\.\d+)?Z$/;

/**
 * The confirmed fences of a host that Pacemaker remembers. Its alerts are not asked: they come for what
 * failed as well, in no order, or not at all. Without --verbose the history has only its oldest entry.
 * @throws GodwitError not-seen when the cluster does not say, bad-message
 */
export async function fencesOf(node: string): Promise<readonly Fence[]> {
  const args = ['--history', node, '--verbose', '--output-as=xml'];
  const answer = await askTool('stonith_admin', args);
  return elements(answer, 'fence_event').flatMap(({ attributes }) => {
    const [, date, time] = TIME.exec(attributes.get('completed') ?? '') ?? [];
    const isPowerOff = ACTIONS.includes(attributes.get('action') ?? '');
    const isConfirmed = attributes.get('status') === 'success';
    if (attributes.get('target') !== node || !isConfirmed || !isPowerOff || !date) return [];
    const by = attributes.get('delegate') ?? attributes.get('origin') ?? 'nobody who is named';
    return [{ node, atMs: Date.parse(`${date}T${time}Z`), by }];
  });
}
