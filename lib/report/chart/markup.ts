import { printable } from '../words.ts';

/** HTML or SVG that is safe as it stands. Everything else is text and gets escaped. */
export class Markup {
  readonly text: string;

  constructor(text: string) {
    this.text = text;
  }
}

export type Child = Markup | string | number | undefined | readonly Child[];

/** Elements that HTML closes by itself. */
const VOID = new Set(['meta', 'br']);

/** An element; attributes that are undefined are left out, numbers get at most two decimals. */
export function el(
  name: string,
  attributes: Readonly<Record<string, string | number | undefined>> = {},
  ...children: Child[]
): Markup {
  const written = Object.entries(attributes)
    .filter(([, value]) => value !== undefined)
    .map(
      ([key, value]) => ` ${key}="${typeof value === 'number' ? fixed(value) : escaped(value!)}"`,
    )
    .join('');
  if (VOID.has(name)) return new Markup(`<${name}${written} />`);
  return new Markup(`<${name}${written}>${join(children).text}</${name}>`);
}

/** Children in a row, without an element around them. */
export function join(children: readonly Child[]): Markup {
  return new Markup(children.map(childText).join(''));
}

/** A number as SVG wants it: two decimals are a fiftieth of a pixel. */
export function fixed(value: number): string {
  return Number(value.toFixed(2)).toString();
}

function childText(child: Child): string {
  if (child === undefined) return '';
  if (child instanceof Markup) return child.text;
  if (Array.isArray(child)) return join(child).text;
  return escaped(String(child));
}

function escaped(text: string): string {
  return printable(text)
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;')
    .replaceAll("'", '&#39;');
}
