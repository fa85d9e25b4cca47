import { execFile } from 'node:child_process';
import { GodwitError } from '../errors.ts';
import { formatDuration } from '../units.ts';
import { type Element, parseXml } from '../xml.ts';

/** Pacemaker's tools answer in a tenth of a second; one whose cluster elects a new controller waits for that. */
const LIMIT_MS = 20_000;
/** A history of years is 100 KiB. */
const MAX_BYTES = 8 << 20;
/** Where they are, whatever the service manager's PATH is. */
const PATH = '/usr/sbin:/usr/bin:/sbin:/bin';

/**
 * Runs one of Pacemaker's tools and returns what it has printed.
 * @throws GodwitError not-seen: it cannot be started, takes too long, or does not exit with 0
 */
export function runTool(
  name: string,
  args: readonly string[],
  limitMs = LIMIT_MS,
): Promise<string> {
  const env = { ...process.env, PATH: `${process.env.PATH ?? ''}:${PATH}` };
  const options = { env, timeout: limitMs, killSignal: 'SIGKILL', maxBuffer: MAX_BYTES } as const;
  return new Promise((resolve, reject) => {
    execFile(name, args, options, (error, stdout, stderr) => {
      if (error === null) return resolve(stdout);
      const words = (stderr || stdout).trim().split('\n').at(-1) ?? '';
      const why = error.killed
        ? `does not answer within ${formatDuration(limitMs)}`
        : `fails: ${words.slice(0, 200) || error.message.split('\n')[0]}`;
      reject(new GodwitError('not-seen', `${name} ${why}`, { cause: error }));
    });
  });
}

/** As `runTool`, of one that prints XML. @throws GodwitError not-seen, bad-message */
export async function askTool(name: string, args: readonly string[]): Promise<Element> {
  return parseXml(await runTool(name, args));
}

/** Every element of that name, however deep. */
export function elements(root: Element, name: string): readonly Element[] {
  const inside = root.children.flatMap((one) => elements(one, name));
  return root.name === name ? [root, ...inside] : inside;
}
