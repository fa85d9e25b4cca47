import { standing } from '../migration/standing.ts';
import type { MigrationView } from '../migration/view.ts';

/** How a daemon is: not well while a migration waits for a person. */
export interface Health {
  readonly status: 'ok' | 'needs-resolve';
  readonly role: MigrationView['role'];
  /** For each such migration, what is so and what it waits for. */
  readonly needsResolve: readonly { id: string; guest: string; message: string }[];
}

export function healthOf(role: MigrationView['role'], views: readonly MigrationView[]): Health {
  const stuck = views.filter(needsResolve);
  return {
    status: stuck.length === 0 ? 'ok' : 'needs-resolve',
    role,
    needsResolve: stuck.map((view) => ({
      id: view.id,
      guest: view.guest,
      message: troubleOf(view),
    })),
  };
}

/** It is open, and does not come to an end by itself as long as the other host stays away. */
export function needsResolve({ outcome, phase }: MigrationView): boolean {
  return outcome === 'needs-resolve' && phase !== 'ended';
}

/** Where it stands and what it waits for, in one sentence. */
export function troubleOf(view: MigrationView): string {
  const { waitsFor = 'a person to decide' } = view;
  return [standing(view), `waits for ${waitsFor}`].filter((text) => text !== undefined).join('; ');
}
