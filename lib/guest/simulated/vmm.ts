import { appendFileSync, rmSync, symlinkSync } from 'node:fs';
import { asGodwitError } from '../../errors.ts';
import { LONG, machineCommands } from './commands.ts';
import { ControlServer } from './control-server.ts';
import { Machine } from './machine.ts';
import { RamFile } from './ram-file.ts';
import { claimSocket, ramLinkPath } from './socket-claim.ts';
import { parseVmmOptions, VMM_HELP, type VmmOptions } from './vmm-options.ts';

/*
 * The VMM process. It prints `ready` once its socket accepts and is silent from then on, so that it
 * outlives whoever started it. A start that fails is one line on stderr, "code: message", and
 * exit code 1.
 */

async function start({ dir, ramDir, kept, logFile, shape, program }: VmmOptions): Promise<void> {
  const log = (text: string) => {
    if (logFile === undefined) return;
    appendFileSync(logFile, `${new Date().toISOString()} ${shape.name}[${process.pid}] ${text}\n`);
  };
  const { path, claim } = await claimSocket(dir, shape.name);
  let files = [path];
  // 'exit' comes on every way out but SIGKILL; what that leaves, the next claim of the name removes.
  process.on('exit', () => {
    for (const file of files) rmSync(file, { force: true });
    claim.remove(); // last: then the name and its files may be another's
  });
  const ram = new RamFile(ramDir, shape.name, shape.memory, kept);
  const link = ramLinkPath(dir, shape.name);
  files.push(ram.path, link);
  symlinkSync(ram.path, link);

  let server: ControlServer | undefined;
  const end = async (why: string, exitCode: number) => {
    log(why);
    server?.announce('SHUTDOWN', { reason: why });
    await server?.close();
    process.exit(exitCode);
  };
  process.on('SIGTERM', () => void end('terminated', 0));
  process.on('SIGINT', () => void end('interrupted', 0));
  const machine = new Machine(shape, ram, (error) => {
    if (server === undefined) fail(error);
    void end(`a thread failed: ${error.message}`, 1);
  });
  if (program === undefined) await machine.awaitMigration();
  else {
    await machine.boot(program);
    await machine.resume();
  }
  const announce = (event: string, data?: Record<string, unknown>) => {
    log(event);
    server?.announce(event, data);
  };
  const commands = machineCommands(machine, announce, (keepMemory) => {
    if (keepMemory) files = files.filter((file) => file !== ram.path);
    setImmediate(() => void end('told to quit', 0)); // after the answer
  });
  server = new ControlServer(commands, LONG);
  await server.listen(path);
  log(`ready, ${machine.status}, memory in ${ram.path}`);
  process.stdout.write('ready\n');
}

function fail(error: unknown): never {
  const { code, message } = asGodwitError(error);
  process.stderr.write(`${code}: ${message.replaceAll('\n', ' ')}\n`);
  process.exit(1);
}

process.umask(0o077);
// Who started the guest may be gone by the time that something is printed.
for (const stream of [process.stdout, process.stderr]) stream.on('error', () => {});
try {
  const options = parseVmmOptions(process.argv.slice(2));
  if (options === undefined) process.stdout.write(VMM_HELP);
  else await start(options);
} catch (error) {
  fail(error);
}
