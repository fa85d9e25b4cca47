import type { MigrationView } from '../../migration/view.ts';

/** What comes in over the event stream. */
export interface Listener {
  /** The stream has begun, or begun again: these are all. */
  all(views: readonly MigrationView[]): void;
  view(view: MigrationView): void;
  gone(id: string): void;
  /** True while the daemon is heard. */
  heard(isHeard: boolean): void;
}

/** A daemon that says nothing for so long is not heard any more: it says `still` every 15 s. */
const SILENCE_MS = 40_000;
/** Between tries to reach it again, ms. */
const RETRY_MS = 1000;

/** Listens for good: a stream that breaks, or ends with its daemon, is begun again. */
export function follow(listener: Listener): void {
  const source = new EventSource('v1/events');
  let silence: ReturnType<typeof setTimeout>;
  const lost = () => {
    source.close();
    clearTimeout(silence);
    listener.heard(false);
    setTimeout(() => follow(listener), RETRY_MS);
  };
  const on = (type: string, take: (data: never) => void) =>
    source.addEventListener(type, ({ data }) => {
      clearTimeout(silence);
      silence = setTimeout(lost, SILENCE_MS);
      take(JSON.parse(data) as never);
    });
  silence = setTimeout(lost, SILENCE_MS);
  source.addEventListener('error', lost);
  on('migrations', ({ migrations }: { migrations: MigrationView[] }) => {
    listener.heard(true);
    listener.all(migrations);
  });
  on('view', (view: MigrationView) => listener.view(view));
  on('gone', ({ id }: { id: string }) => listener.gone(id));
  on('still', () => {});
}
