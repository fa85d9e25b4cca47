/** The machine type that a QEMU command asks for, as it is written there; undefined: it names none. */
export function machineOf(command: readonly string[]): string | undefined {
  const at = command.findLastIndex((argument) => /^--?(machine|M)$/.test(argument));
  const fields = command[at + 1]?.split(',') ?? [];
  if (at < 0) return undefined;
  const typed = fields.find((field) => field.startsWith('type='))?.slice('type='.length);
  return typed ?? fields.find((field) => field !== '' && !field.includes('='));
}
