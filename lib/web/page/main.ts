import type { MigrationView } from '../../migration/view.ts';
import type { PastMigration } from '../../report/history.ts';
import { ask } from './api.ts';
import { Evacuation } from './evacuation.ts';
import { Guests } from './guests.ts';
import { List } from './list.ts';
import { Live } from './live.ts';
import { part, write } from './part.ts';
import { showReport } from './report.ts';
import { follow, type Listener } from './stream.ts';
import { rowOf, rowOfPast, turnOf } from './wording.ts';

/** Between looks at the guests, ms. */
const GUESTS_MS = 30_000;
/** What stands for the ID of a migration where the evacuation is shown. */
const EVACUATION = 'evacuation';
/** Of the ledgers, the newest of thirty days. */
const PAST = { most: 100, ms: 30 * 86_400_000 };

/** The page: what it knows of migrations, and which one it shows. */
class Page implements Listener {
  readonly isSender = document.documentElement.dataset.role === 'send';
  readonly live = new Live();
  readonly #title = document.title;
  readonly #list = new List(() => this.#change());
  readonly #guests = new Guests();
  readonly #evacuation = new Evacuation(() => this.#change());
  readonly #views = new Map<string, MigrationView>();
  /** What has been said aloud of each. */
  readonly #turns = new Map<string, string>();
  #past: readonly PastMigration[] = [];
  /** Shown without being asked for, since it ran: it stays when it ends. */
  #unasked: string | undefined;
  #isDue = false;

  all(views: readonly MigrationView[]): void {
    this.#views.clear();
    this.#turns.clear();
    for (const view of views) {
      this.#views.set(view.id, view);
      this.#turns.set(view.id, turnOf(view));
    }
    this.live.recall();
    if (this.isSender) {
      this.#guests.refresh();
      this.#evacuation.look();
      this.#askForPast();
    }
    this.#change();
  }

  view(view: MigrationView): void {
    const before = this.#views.get(view.id);
    this.#views.set(view.id, view);
    this.live.hear(view);
    const turn = turnOf(view);
    if (this.#turns.get(view.id) !== turn) write(part('said'), turn);
    this.#turns.set(view.id, turn);
    if (this.isSender && before?.phase !== view.phase) {
      this.#guests.refresh();
      this.#evacuation.look();
    }
    this.#change();
  }

  gone(id: string): void {
    this.#views.delete(id);
    this.#turns.delete(id);
    this.#change();
  }

  heard(isHeard: boolean): void {
    document.body.classList.toggle('unheard', !isHeard);
    write(part('connection'), isHeard ? 'live' : 'the daemon is not heard; trying again …');
  }

  start(): void {
    addEventListener('hashchange', () => {
      this.#unasked = undefined;
      this.#show();
      scrollTo(0, 0);
      part('main').focus();
    });
    addEventListener('resize', () => this.#change());
    part('skip').addEventListener('click', (event) => {
      event.preventDefault(); // the hash says which migration is shown
      part('main').focus();
    });
    part('to-guests').addEventListener('click', (event) => {
      event.preventDefault();
      part('guests').scrollIntoView();
    });
    if (this.isSender)
      setInterval(() => {
        if (document.hidden) return;
        this.#guests.refresh();
        this.#evacuation.look(); // one that begins is heard of by nothing else
      }, GUESTS_MS);
    follow(this);
  }

  /** At most once a frame, and not while nobody can see it. */
  #change(): void {
    if (this.#isDue) return;
    this.#isDue = true;
    requestAnimationFrame(() => {
      this.#isDue = false;
      this.#show();
    });
  }

  #show(): void {
    const past = this.#past.filter(({ id }) => !this.#views.has(id));
    const asked = /^#\/(\w+)$/.exec(location.hash)?.[1];
    const isEvacuation = this.#evacuation.show(this.#views, asked === EVACUATION);
    const id = isEvacuation ? undefined : (asked ?? this.#running());
    this.#list.show([...[...this.#views.values()].map(rowOf), ...past.map(rowOfPast)], id);
    const view = id === undefined ? undefined : this.#views.get(id);
    const hasReport =
      this.isSender && id !== undefined && (view === undefined || view.phase === 'ended');
    const isLive = view !== undefined && !hasReport;
    // Who was about to press a button must not find himself nowhere.
    if (!isLive && part('live').contains(document.activeElement)) part('main').focus();
    part('live').hidden = !isLive;
    part('report').hidden = !hasReport;
    part('nothing').hidden = isEvacuation || (id !== undefined && (isLive || hasReport));
    write(part('nothing'), id === undefined ? 'Nothing runs.' : `${id} is not known here.`);
    if (isLive) this.live.show(view);
    document.title = isLive ? `${view.guest}: ${rowOf(view).word}, ${this.#title}` : this.#title;
    showReport(hasReport ? id : undefined);
    document.body.dataset.at = asked === undefined ? 'overview' : 'migration';
    document.body.dataset.shows = hasReport ? 'report' : 'live';
  }

  /** The newest that runs, or did so when nothing was asked for; shown where there is room beside the list. */
  #running(): string | undefined {
    this.#unasked ??= [...this.#views.values()].findLast(({ phase }) => phase !== 'ended')?.id;
    return this.#unasked;
  }

  /** Of migrations that the daemon itself does not show any more. */
  async #askForPast(): Promise<void> {
    const since = new Date(Date.now() - PAST.ms).toISOString();
    const path = `v1/history?limit=${PAST.most}&since=${since}`;
    const { history } = await ask<{ history: PastMigration[] }>('GET', path).catch(() => ({
      history: this.#past,
    }));
    this.#past = history;
    this.#change();
  }
}

export const page = new Page();
page.start();
