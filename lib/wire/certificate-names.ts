import { isIP, SocketAddress } from 'node:net';
import type { PeerCertificate } from 'node:tls';
import { GodwitError } from '../errors.ts';

/** A name that a certificate is for. What else may stand in one (URI, e-mail, …) names no host. */
export interface CertificateName {
  readonly type: 'host' | 'address';
  readonly value: string;
}

/** Whom a receiver admits: names of certificates, or `sha256:` and a fingerprint. */
export class AllowList {
  readonly #names = new Set<string>();
  readonly #fingerprints = new Set<string>();

  /** An empty list admits nobody. @throws GodwitError bad-option */
  constructor(entries: readonly string[]) {
    for (const entry of entries) {
      const fingerprint = /^sha256:([0-9a-f:]+)$/i.exec(entry)?.[1]?.replaceAll(':', '');
      if (fingerprint === undefined) this.#names.add(keyOf(nameOf(entry)));
      else if (fingerprint.length === 64) this.#fingerprints.add(fingerprint.toLowerCase());
      else throw new GodwitError('bad-option', `"${entry}" is not a SHA-256 fingerprint`);
    }
  }

  /** It admits nobody. */
  get isEmpty(): boolean {
    return this.#names.size + this.#fingerprints.size === 0;
  }

  admits(certificate: PeerCertificate): boolean {
    if (this.#fingerprints.has(fingerprintOf(certificate))) return true;
    return namesOf(certificate).some((name) => this.#names.has(keyOf(name)));
  }
}

/** SHA-256 of a certificate, lower case without colons; empty without one. */
export function fingerprintOf({ fingerprint256 }: PeerCertificate): string {
  return (fingerprint256 ?? '').replaceAll(':', '').toLowerCase();
}

/**
 * The hosts and addresses that a certificate is for: its subject alternative names, or the one common
 * name of a certificate that has none of these.
 */
export function namesOf({ subject, subjectaltname = '' }: PeerCertificate): CertificateName[] {
  const names = alternativeNames(subjectaltname);
  const common: unknown = subject?.CN; // of more than one, an array
  if (names.length > 0 || typeof common !== 'string') return names;
  return [{ type: 'host', value: common }];
}

/**
 * Who shows it, to be compared with another time: alike for all certificates that are for the same hosts
 * and addresses, as a renewed one is. One without a name stands for itself alone; empty without one.
 */
export function identityOf(certificate: PeerCertificate): string {
  const names = namesOf(certificate).map(keyOf).sort();
  return names.length > 0 ? JSON.stringify(names) : fingerprintOf(certificate);
}

const TYPES: Readonly<Record<string, CertificateName['type']>> = {
  DNS: 'host',
  'IP Address': 'address',
};

/**
 * Node's text has `TYPE:VALUE, TYPE:VALUE …`; a value in which another could be seen (commas, quotes,
 * control characters) is a JSON string. Text that is not of that form has no names.
 */
function alternativeNames(text: string): CertificateName[] {
  const entry = /([A-Za-z ]+):("(?:[^"\\]|\\.)*"|[^,"]*)(?:, |$)/y;
  const names: CertificateName[] = [];
  while (entry.lastIndex < text.length) {
    const found = entry.exec(text);
    if (found === null) return [];
    const type = TYPES[found[1]!];
    // A host or an address has nothing in it that has to be quoted.
    if (type !== undefined && !found[2]!.startsWith('"')) names.push({ type, value: found[2]! });
  }
  return names;
}

/** What a person has written: an address is compared with addresses only. */
function nameOf(entry: string): CertificateName {
  return { type: isIP(entry) ? 'address' : 'host', value: entry };
}

/** Equal for names that mean the same: letter case does not count, nor how an address is written. */
function keyOf({ type, value }: CertificateName): string {
  if (type === 'host') return `host ${value.toLowerCase()}`;
  const family = isIP(value) === 6 ? 'ipv6' : 'ipv4';
  return `address ${isIP(value) ? new SocketAddress({ address: value, family }).address : value}`;
}
