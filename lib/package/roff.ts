/** Manual pages in roff, as man(7) has it, of Markdown as the project's documents have it. */

/** Words as they are to be read: nothing in them is a request or an escape; options and paths are typed. */
export function plain(words: string): string {
  return words
    .replaceAll('\\', '\\[rs]')
    .replace(/(?<![\w-])(?:--?[A-Za-z]|\/)[\w./-]*/g, (typed) => typed.replaceAll('-', '\\-'))
    .replace(/^(?=[.'])/gm, '\\&')
    .replace(/[^\n\x20-\x7e]/gu, (letter) => {
      const code = letter.codePointAt(0)!.toString(16).toUpperCase().padStart(4, '0');
      return `\\[u${code}]`;
    });
}

/** Words as they are to be typed: no dash or quote becomes a nicer one. */
export function literal(words: string): string {
  return plain(words)
    .replaceAll(/(?<!\\)-/g, '\\-')
    .replaceAll("'", '\\[aq]')
    .replaceAll('`', '\\[ga]')
    .replaceAll('^', '\\[ha]')
    .replaceAll('~', '\\[ti]');
}

export function bold(words: string): string {
  return `\\fB${literal(words)}\\fR`;
}

export function italic(words: string): string {
  return `\\fI${literal(words)}\\fR`;
}

/** The head of a page. @param date as in ISO 8601 */
export function head(name: string, section: number, version: string, date: string): string {
  const title = literal(name.toUpperCase());
  return `'\\" t\n.TH "${title}" "${section}" "${date}" "godwit ${version}" "Godwit"\n.nr HY 0\n.ad l\n`;
}

export function section(title: string, body: string): string {
  return `.SH ${title.toUpperCase()}\n${body.replace(/^\.PP\n/, '')}`;
}

/** Something, and below it and indented what is said of it; both are roff. */
export function item(what: string, said: string): string {
  return `.TP\n${what}\n${said}\n`;
}

/** A document's text: paragraphs, lists, tables, code, and headings as sections. */
export function fromMarkdown(markdown: string): string {
  return markdown
    .split(/\n{2,}|\n(?=- )/)
    .filter((block) => block.trim() !== '')
    .map(block)
    .join('')
    .replaceAll(/(?<=^\.SH .*\n)\.PP\n/gm, '');
}

function block(text: string): string {
  const heading = /^#+ (.*)$/.exec(text.trim());
  if (heading) return `.SH ${plain(heading[1]!.toUpperCase())}\n`;
  if (text.startsWith('    ')) return code(text);
  if (text.startsWith('|')) return table(text);
  if (text.startsWith('- '))
    return `.IP \\(bu 2\n${inline(text.slice(2).replace(/\n +/g, '\n'))}\n`;
  return `.PP\n${inline(text.trim())}\n`;
}

function code(text: string): string {
  return `.PP\n.in +4n\n.EX\n${literal(text.trimEnd().replace(/^ {4}/gm, ''))}\n.EE\n.in\n`;
}

/** For tbl(1); a row of empty heads is left out. */
function table(text: string): string {
  const [heads = [], , ...rows] = text.trim().split('\n').map(cells);
  const hasHeads = heads.some((cell) => cell !== '');
  const shape = heads.map((_, at) => (at === heads.length - 1 ? 'lx' : 'l')).join(' ');
  const format = hasHeads ? `${shape.replaceAll('l', 'lB')}\n${shape}.` : `${shape}.`;
  const lines = [...(hasHeads ? [heads] : []), ...rows].map((row) =>
    row.map((cell) => `T{\n${inline(cell)}\nT}`).join('\t'),
  );
  return `.PP\n.TS\n${format}\n${lines.join('\n')}\n.TE\n`;
}

function cells(line: string): string[] {
  const parts = line.split(/(?<!\\)\|/).slice(1, -1);
  return parts.map((cell) => cell.trim().replaceAll('\\|', '|'));
}

const SPANS = /`([^`]+)`|\*\*([^*]+)\*\*|\*([^*\s][^*]*)\*|\[((?:[^\]`]|`[^`]*`)+)\]\([^)]+\)/;

/** Links lead nowhere in a terminal: their words stay. */
function inline(text: string): string {
  const found = SPANS.exec(text);
  if (found === null) return plain(text);
  const [all, typed, strong, soft, link] = found;
  const span = [
    typed !== undefined && bold(typed),
    strong !== undefined && `\\fB${plain(strong)}\\fR`,
    soft !== undefined && `\\fI${plain(soft)}\\fR`,
    link !== undefined && inline(link),
  ].find((one) => one !== false);
  const rest = text.slice(found.index + all.length);
  return `${plain(text.slice(0, found.index))}${span}${inline(rest)}`;
}
