import type { SenderBackend } from '../lib/api/backend.ts';
import type { Site } from '../lib/evacuation/site.ts';
import type { Turn } from '../lib/migration/source/basis.ts';
import type { MigrationRequest, MigrationView } from '../lib/migration/view.ts';
import { newestProfile } from '../lib/report/profile-file.ts';

type Asked = Pick<SenderBackend, 'guests' | 'history' | 'list' | 'watch' | 'cancel'> & {
  start(request: MigrationRequest, turn: Turn): Promise<MigrationView>;
};

/** What an evacuation works with: most of it is what anybody may ask of the daemon. */
export function siteOf(
  daemon: Asked,
  stateDir: string,
  inside: Pick<Site, 'inTheWay' | 'steer'>,
): Site {
  return {
    ...inside,
    guests: () => daemon.guests(),
    profile: (guest) => {
      try {
        return newestProfile(stateDir, guest);
      } catch {
        return undefined; // a damaged one tells nothing
      }
    },
    begin: (request, turn) => daemon.start(request, turn),
    open: (guest) => daemon.list().findLast((view) => view.guest === guest && isOpen(view)),
    past: async (guest) => {
      const [past] = await daemon.history({ guest, limit: 1 });
      // Of one that was found in the journal the ledger is written last.
      const known = daemon.list().find(({ id }) => id === past?.id)?.outcome;
      return past && { ...past, outcome: known ?? past.outcome };
    },
    watch: (id, listener) => daemon.watch(id, listener),
    cancel: (id) => void daemon.cancel(id),
  };
}

/** Of one that has an outcome, only what this host owes to somebody may be open. */
function isOpen({ phase, outcome }: MigrationView): boolean {
  return phase !== 'ended' && (outcome === undefined || outcome === 'needs-resolve');
}
