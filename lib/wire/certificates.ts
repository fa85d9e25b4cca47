import { X509Certificate } from 'node:crypto';
import { GodwitError } from '../errors.ts';
import type { Credentials } from './credentials.ts';

/** When a certificate that an agent shows or believes ends. */
export interface Expiry {
  /** The option that names its file. */
  readonly option: '--tls-cert' | '--tls-ca';
  /** ms since 1970. */
  readonly notAfter: number;
}

const PEM = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g;

/** Of the certificate that is shown, and of the CA that ends first. @throws GodwitError bad-option */
export function expiriesOf(credentials: Credentials): readonly Expiry[] {
  const { shown, authorities } = read(credentials);
  const ends = (certificates: readonly X509Certificate[]) =>
    Math.min(...certificates.map(({ validTo }) => Date.parse(validTo)));
  return [
    { option: '--tls-cert', notAfter: ends(shown) },
    { option: '--tls-ca', notAfter: ends(authorities) },
  ];
}

/**
 * Why no peer would believe this agent, or this agent no peer: what is wrong with certificates that
 * are well-formed. An agent serves with them all the same: what its journal has open must be finished.
 * @param now ms since 1970
 * @throws GodwitError bad-option for what is no certificate
 */
export function troublesOf(credentials: Credentials, now: number): readonly string[] {
  const { shown, authorities } = read(credentials);
  const troubles = [
    ...shown.map((certificate) => untimely('--tls-cert', certificate, now)),
    ...authorities.map((authority) =>
      authority.ca
        ? untimely('--tls-ca', authority, now)
        : `--tls-ca is no CA: "${nameOf(authority)}" may not sign certificates`,
    ),
    isSigned(shown, authorities)
      ? undefined
      : `--tls-cert is of another CA: "${nameOf(shown[0]!)}" is not signed by --tls-ca`,
  ];
  return troubles.filter((trouble) => trouble !== undefined);
}

function untimely(option: string, certificate: X509Certificate, now: number): string | undefined {
  const { validFrom, validTo } = certificate;
  if (now > Date.parse(validTo)) return `${option} has expired: ${validTo}`;
  if (now < Date.parse(validFrom)) return `${option} is not valid before ${validFrom}`;
  return undefined;
}

/** The first one of a file is the agent's own; each that follows has signed the one before it. */
function isSigned(
  shown: readonly X509Certificate[],
  authorities: readonly X509Certificate[],
): boolean {
  return shown.some((certificate) =>
    authorities.some(
      (authority) => certificate.checkIssued(authority) && certificate.verify(authority.publicKey),
    ),
  );
}

function read({ cert, ca }: Credentials) {
  return { shown: certificatesIn('--tls-cert', cert), authorities: certificatesIn('--tls-ca', ca) };
}

function certificatesIn(option: string, pem: string): readonly X509Certificate[] {
  try {
    const found = (pem.match(PEM) ?? []).map((text) => new X509Certificate(text));
    if (found.length > 0) return found;
  } catch (cause) {
    throw noCertificate(option, cause);
  }
  throw noCertificate(option);
}

function noCertificate(option: string, cause?: unknown): GodwitError {
  return new GodwitError('bad-option', `${option} is no certificate (PEM)`, { cause });
}

function nameOf({ subject }: X509Certificate): string {
  return subject?.replaceAll('\n', ', ') ?? 'without a name';
}
