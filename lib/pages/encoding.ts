/** How a page travels; the numbers are the wire's (proto/WIRE.md, Page batch). */
export const ENCODING = { zero: 0, raw: 1, same: 2, delta: 3, copy: 4 } as const;

export type EncodingName = keyof typeof ENCODING;

/** Names in the order of the wire numbers. */
export const ENCODING_NAMES: readonly EncodingName[] = ['zero', 'raw', 'same', 'delta', 'copy'];
