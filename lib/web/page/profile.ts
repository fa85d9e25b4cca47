import type { ProfileProgress } from '../../guest/profile.ts';
import { PAGE_SIZE } from '../../memory/guest-layout.ts';
import type { GuestProfile } from '../../precopy/profile.ts';
import { howProfiled, profileFacts } from '../../report/profile-text.ts';
import { formatDuration, formatSize } from '../../units.ts';
import { refusalOf, told } from './api.ts';
import { make, write } from './part.ts';

/**
 * Has a profile taken, and calls back as it goes. The daemon ends it when the page goes away.
 * @throws Error with what the daemon says is wrong, and its code as the name
 */
export async function takeProfile(
  path: string,
  ms: number,
  onProgress: (progress: ProfileProgress) => void,
): Promise<GuestProfile> {
  const response = await fetch(path, { method: 'POST', body: JSON.stringify({ ms }) }).catch(() => {
    throw new Error('the daemon does not answer');
  });
  if (!response.ok) throw await refusalOf(response);
  let unread = '';
  for await (const piece of response.body!.pipeThrough(new TextDecoderStream())) {
    const [...messages] = (unread + piece).split('\n\n');
    unread = messages.pop()!;
    for (const message of messages) {
      const event = /^event: (.*)$/m.exec(message)?.[1];
      const data = JSON.parse(/^data: (.*)$/m.exec(message)?.[1] ?? 'null');
      if (event === 'profile') return data as GuestProfile;
      if (event === 'error') throw told(data.error.code, data.error.message);
      if (event === 'progress') onProgress(data as ProfileProgress);
    }
  }
  throw new Error('the daemon went away while it took a profile');
}

/** A profile in a column that is narrow: how much of memory is dirtied within a time, and what else was seen. */
export function profileShown(profile: GuestProfile): readonly HTMLElement[] {
  const { time, workingSet } = profile;
  const taken = new Date(time).toLocaleString([], { dateStyle: 'short', timeStyle: 'short' });
  const table = document.createElement('table');
  table.append(
    row('th', ['Dirtied in', 'Median', '9 of 10']),
    ...workingSet.map(({ windowMs, pages, high }) =>
      row('td', [
        formatDuration(windowMs),
        formatSize(pages * PAGE_SIZE),
        formatSize(high * PAGE_SIZE),
      ]),
    ),
  );
  const about = make('p', 'quiet');
  write(about, `${howProfiled(profile)}, ${taken}`);
  const facts = document.createElement('dl');
  for (const [name, text] of profileFacts(profile))
    facts.append(make('dt', '', name), make('dd', '', text));
  return [about, table, facts];
}

function row(kind: 'th' | 'td', texts: readonly string[]): HTMLElement {
  const made = document.createElement('tr');
  for (const text of texts) made.append(make(kind, '', text));
  return made;
}
