import { GodwitError } from './errors.ts';

/** A domain has a few KiB; libvirt itself takes no more than 4 MiB. */
const MAX_XML_CHARACTERS = 1 << 20;
/** Elements within elements; a domain has a dozen. */
const MAX_DEPTH = 64;

/** An element: text is what stands in it beside its children, without white space at its ends. */
export interface Element {
  readonly name: string;
  readonly attributes: ReadonlyMap<string, string>;
  readonly children: readonly Element[];
  readonly text: string;
}

const NAME = '[A-Za-z_][A-Za-z0-9_.:-]*';
const TOKEN = new RegExp(
  [
    '<\\?xml\\s[^?<>]*\\?>', // only the declaration
    '<!--(?:[^-]|-(?!-))*-->',
    `</(?<close>${NAME})\\s*>`,
    `<(?<open>${NAME})(?<attributes>(?:\\s+${NAME}\\s*=\\s*(?:"[^"<]*"|'[^'<]*'))*)\\s*(?<empty>/?)>`,
    '(?<text>[^<]+)',
  ].join('|'),
  'y',
);
const ATTRIBUTE = new RegExp(`(${NAME})\\s*=\\s*(?:"([^"]*)"|'([^']*)')`, 'g');
const ENTITIES: Readonly<Record<string, string>> = {
  lt: '<',
  gt: '>',
  amp: '&',
  quot: '"',
  apos: "'",
};

interface Open {
  readonly name: string;
  readonly attributes: ReadonlyMap<string, string>;
  readonly children: Element[];
  text: string;
}

/**
 * Reads the XML that libvirt writes: elements, attributes and text. What could make another reader see
 * something else (document types, sections of raw text, other entities) is refused.
 * @throws GodwitError bad-message
 */
export function parseXml(xml: string): Element {
  if (xml.length > MAX_XML_CHARACTERS) throw refusal(`it has ${xml.length} characters`);
  const open: Open[] = [{ name: '', attributes: new Map(), children: [], text: '' }];
  let at = 0;
  while (at < xml.length) {
    TOKEN.lastIndex = at;
    const token = TOKEN.exec(xml);
    if (token === null) throw refusal(`what stands at character ${at} is not understood`);
    at = TOKEN.lastIndex;
    take(open, token.groups!);
  }
  const [document, ...unclosed] = open;
  if (unclosed.length > 0) throw refusal(`<${unclosed.at(-1)!.name}> has no end`);
  const [root, ...more] = document!.children;
  if (root === undefined || more.length > 0 || document!.text.trim() !== '')
    throw refusal('it is not one element');
  return root;
}

function take(open: Open[], groups: Record<string, string | undefined>): void {
  const inner = open.at(-1)!;
  if (groups.text !== undefined) inner.text += decoded(groups.text);
  else if (groups.close !== undefined) {
    if (open.length === 1 || inner.name !== groups.close)
      throw refusal(`</${groups.close}> ends nothing`);
    close(open);
  } else if (groups.open !== undefined) {
    if (open.length > MAX_DEPTH) throw refusal('its elements are too deep');
    const attributes = attributesOf(groups.attributes ?? '');
    open.push({ name: groups.open, attributes, children: [], text: '' });
    if (groups.empty !== '') close(open);
  }
}

function close(open: Open[]): void {
  const { text, ...element } = open.pop()!;
  open.at(-1)!.children.push({ ...element, text: text.trim() });
}

function attributesOf(text: string): ReadonlyMap<string, string> {
  const attributes = new Map<string, string>();
  for (const [, name, quoted, single] of text.matchAll(ATTRIBUTE)) {
    if (attributes.has(name!)) throw refusal(`attribute ${name} stands there twice`);
    attributes.set(name!, decoded(quoted ?? single!));
  }
  return attributes;
}

function decoded(text: string): string {
  return text.replace(/&([^;]*;?)/g, (whole, inner: string) => {
    const name = inner.replace(/;$/, '');
    const [, hex, decimal] = /^#(?:x([0-9a-fA-F]{1,6})|([0-9]{1,7}))$/.exec(name) ?? [];
    const code = hex ? Number.parseInt(hex, 16) : Number(decimal);
    const known = inner.endsWith(';') && Object.hasOwn(ENTITIES, name) ? ENTITIES[name] : undefined;
    if (known !== undefined) return known;
    if (inner.endsWith(';') && code > 0 && code <= 0x10ffff) return String.fromCodePoint(code);
    throw refusal(`"${whole.slice(0, 20)}" is no text`);
  });
}

/** The first child of that name. */
export function child(element: Element | undefined, name: string): Element | undefined {
  return element?.children.find((one) => one.name === name);
}

/** An element as XML again. */
export function xmlOf({ name, attributes, children, text }: Element): string {
  const given = [...attributes].map(([key, value]) => ` ${key}='${escaped(value)}'`).join('');
  const inner = escaped(text) + children.map(xmlOf).join('');
  return inner === '' ? `<${name}${given}/>` : `<${name}${given}>${inner}</${name}>`;
}

/** As it may stand in text and in attributes. */
export function escaped(text: string): string {
  const by: Record<string, string> = {
    '<': '&lt;',
    '>': '&gt;',
    '&': '&amp;',
    '"': '&quot;',
    "'": '&apos;',
  };
  return text.replace(/[<>&"']/g, (character) => by[character]!);
}

function refusal(why: string): GodwitError {
  return new GodwitError('bad-message', `the XML is refused: ${why}`);
}
