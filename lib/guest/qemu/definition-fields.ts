import path from 'node:path';

/** Makes the error of a definition; `why` begins with the key. */
export type Refuse = (why: string, cause?: unknown) => Error;

/** A value of a JSON document by its key (`hooks.preSuspend.timeout`), read as what it must be. */
export class Field {
  readonly key: string;
  readonly present: boolean;
  readonly #value: unknown;
  readonly #refuse: Refuse;

  constructor(value: unknown, key: string, refuse: Refuse) {
    this.key = key;
    this.present = value !== undefined;
    this.#value = value;
    this.#refuse = refuse;
  }

  /** An error about this value. */
  refusal(why: string, cause?: unknown): Error {
    return this.#refuse(`"${this.key}" ${this.present ? why : 'is missing'}`, cause);
  }

  text(): string {
    if (!isText(this.#value) || this.#value === '') throw this.refusal('must be a string');
    return this.#value;
  }

  absolutePath(): string {
    const text = this.text();
    if (!path.isAbsolute(text))
      throw this.refusal(`must be an absolute path, not ${JSON.stringify(text)}`);
    return text;
  }

  /** A text with a unit, by a parser of units.ts; its error begins with what it calls the option. */
  quantity(parse: (text: string, option: string) => number): number {
    const text = this.text();
    try {
      return parse(text, `"${this.key}"`);
    } catch (cause) {
      throw this.#refuse((cause as Error).message, cause);
    }
  }

  /** A program by its absolute path, and its arguments; nothing of it is seen by a shell. */
  command(): readonly string[] {
    const [program, ...rest] = this.items().map((item) => item.#value);
    if (!isText(program) || !rest.every(isText))
      throw this.refusal('must be an array of strings: a program and its arguments');
    if (!path.isAbsolute(program))
      throw this.refusal(`must begin with the absolute path of a program, not "${program}"`);
    return [program, ...rest];
  }

  items(): readonly Field[] {
    if (!Array.isArray(this.#value)) throw this.refusal('must be an array');
    return this.#value.map((item, at) => new Field(item, `${this.key}[${at}]`, this.#refuse));
  }

  /** The members of an object that may have these and no others. */
  members<Name extends string>(...names: readonly Name[]): Readonly<Record<Name, Field>> {
    const value = this.#value;
    if (typeof value !== 'object' || value === null || Array.isArray(value))
      throw this.refusal('must be an object');
    const unknown = Object.keys(value).find((name) => !names.includes(name as Name));
    if (unknown !== undefined) {
      const key = JSON.stringify(this.#keyOf(unknown.slice(0, 80)));
      throw this.#refuse(`there is no key ${key}; there are ${names.join(', ')}`);
    }
    const fieldOf = (name: Name) =>
      new Field((value as Record<Name, unknown>)[name], this.#keyOf(name), this.#refuse);
    return Object.fromEntries(names.map((name) => [name, fieldOf(name)])) as Record<Name, Field>;
  }

  #keyOf(name: string): string {
    return this.key === '' ? name : `${this.key}.${name}`;
  }
}

/** No program can be given a NUL. */
function isText(value: unknown): value is string {
  return typeof value === 'string' && !value.includes('\0');
}
