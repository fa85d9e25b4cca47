import { printable } from '../../report/words.ts';

/** An element of `index.html`. */
export function part<T extends HTMLElement = HTMLElement>(id: string): T {
  return document.getElementById(id) as T;
}

/** Changes what has changed only: what is written again is read out again. */
export function write(at: Element, text: string): void {
  const shown = printable(text);
  if (at.textContent !== shown) at.textContent = shown;
}

/** An element with a class and a text. */
export function make(name: string, className: string, text = ''): HTMLElement {
  const made = document.createElement(name);
  made.className = className;
  made.textContent = text;
  return made;
}
