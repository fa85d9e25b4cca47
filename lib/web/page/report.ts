import { part } from './part.ts';

/** Whose report stands on the page, or is asked for. */
let shown: string | undefined;

/** The report of a migration that has ended takes its place; undefined: of none. */
export async function showReport(id: string | undefined): Promise<void> {
  if (id === shown) return;
  shown = id;
  const at = part('report');
  at.replaceChildren();
  if (id === undefined) return;
  at.append(text('The report is being made …'));
  const content = await fetched(id);
  if (shown === id) at.replaceChildren(...content);
}

async function fetched(id: string): Promise<Node[]> {
  try {
    const response = await fetch(`report/${id}`);
    if (!response.ok) return [text((await response.json()).error.message)];
    // Its style is that of the page already.
    const [html = ''] = /<body>.*<\/body>/s.exec(await response.text()) ?? [];
    const { body } = new DOMParser().parseFromString(html, 'text/html');
    const link = document.createElement('a');
    link.href = `report/${id}`;
    link.textContent = 'The report by itself, to print or to keep';
    const last = document.createElement('p');
    last.append(link);
    return [...body.children, last];
  } catch {
    shown = undefined; // the next change asks again
    return [text('The daemon does not answer.')];
  }
}

function text(words: string): Node {
  const paragraph = document.createElement('p');
  paragraph.textContent = words;
  return paragraph;
}
