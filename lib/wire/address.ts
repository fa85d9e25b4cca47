import { GodwitError } from '../errors.ts';

/** `host:port`, an IPv6 address in brackets. */
export function formatAddress(host: string, port: number): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}

/** Takes apart what `formatAddress` made. @throws GodwitError bad-option */
export function parseAddress(text: string): { readonly host: string; readonly port: number } {
  const match = /^(?:\[([^\]]+)\]|([^:]+)):(\d{1,5})$/.exec(text);
  if (!match) throw new GodwitError('bad-option', `"${text}" is not HOST:PORT`);
  return { host: match[1] ?? match[2]!, port: Number(match[3]) };
}
