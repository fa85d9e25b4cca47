import { GodwitError } from '../../errors.ts';
import type { GuestDefinition } from './definition.ts';
import type { QmpClient } from './qmp.ts';

/** One register of CPUID as the guest sees it: `7.0.ebx` for leaf 7, subleaf 0; its bits are features. */
type Features = ReadonlyMap<string, number>;

/** As QEMU tells them of an x86 CPU: X86CPUFeatureWordInfo, qapi/machine-target.json of QEMU. */
interface FeatureWord {
  readonly 'cpuid-input-eax': number;
  readonly 'cpuid-input-ecx'?: number;
  readonly 'cpuid-register': string;
  readonly features: number;
}

/** Features in an error before the rest is counted. */
const NAMED = 8;

/**
 * What a QEMU's first processor has, as text for a description: `1.ecx=80a02001+…`, in an order of its own.
 * Empty where QEMU does not tell (processors that are not x86).
 * @throws GodwitError not-seen, guest-died
 */
export async function cpuFeatures(qmp: QmpClient): Promise<string> {
  const [cpu] = await qmp.execute<{ 'qom-path': string }[]>('query-cpus-fast');
  if (cpu === undefined) return '';
  const request = { path: cpu['qom-path'], property: 'feature-words' };
  const words = await qmp.execute<FeatureWord[]>('qom-get', request).catch((error: GodwitError) => {
    if (error.code === 'hypervisor-failed') return []; // no such property
    throw error;
  });
  return words
    .filter(({ features }) => features !== 0)
    .map((word) => `${registerOf(word)}=${word.features.toString(16)}`)
    .sort()
    .join('+');
}

function registerOf(word: FeatureWord): string {
  const subleaf = word['cpuid-input-ecx'];
  const leaf = word['cpuid-input-eax'].toString(16);
  const register = word['cpuid-register'].toLowerCase();
  return subleaf === undefined ? `${leaf}.${register}` : `${leaf}.${subleaf}.${register}`;
}

const WORD = /^([0-9a-f]{1,8}(?:\.\d{1,3})?\.e[a-d]x)=([0-9a-f]{1,8})$/;

/** Reads what `cpuFeatures` made; it may come from a peer. @throws GodwitError bad-message */
export function readCpuFeatures(text: string): Features {
  const words = text === '' ? [] : text.split('+');
  return new Map(
    words.map((word) => {
      const [, register, bits] = WORD.exec(word) ?? [];
      if (register === undefined)
        throw new GodwitError('bad-message', 'guest description: its CPU has no features of CPUID');
      return [register, Number.parseInt(bits!, 16)] as const;
    }),
  );
}

/**
 * A guest goes on to use what it has seen when it booted, and QEMU lets it arrive on a CPU without it:
 * there it does not run on, or only until it needs that.
 * @param needed of the guest, as `cpuFeatures` has it
 * @throws GodwitError definition-invalid naming the features that the CPU there lacks; bad-message
 */
export async function requireCpu(
  needed: string,
  qmp: QmpClient,
  { name, file }: Pick<GuestDefinition, 'name' | 'file'>,
): Promise<void> {
  const given = readCpuFeatures(await cpuFeatures(qmp));
  if (given.size === 0) return; // not told
  const lacking = missing(readCpuFeatures(needed), given);
  if (lacking.length === 0) return;
  const more = lacking.length - NAMED;
  const named = lacking.slice(0, NAMED).join(', ') + (more > 0 ? ` and ${more} more` : '');
  const text = `${file}: its CPU lacks what guest ${name} has on its source and may be using: ${named}; give it the same -cpu`;
  throw new GodwitError('definition-invalid', text);
}

/** Names of the features that are not given. */
export function missing(needed: Features, given: Features): string[] {
  return [...needed].flatMap(([register, bits]) => {
    const told = TOPOLOGY[register] ?? 0;
    const lacking = (bits & ~(given.get(register) ?? 0) & ~told) >>> 0;
    const names = NAMES[register] ?? [];
    return Array.from({ length: 32 }, (_, bit) => bit)
      .filter((bit) => (lacking >>> bit) & 1)
      .map((bit) => (names[bit] ?? '-').replace(/^-$/, `CPUID ${register} bit ${bit}`));
  });
}

/** Whether there are several processors (ht, cmp-legacy): not every QEMU tells it, and all show it to the guest. */
const TOPOLOGY: Readonly<Record<string, number>> = { '1.edx': 1 << 28, '80000001.ecx': 1 << 1 };

/** By bit, from 0; as QEMU's -cpu names them, after Intel's and AMD's manuals (CPUID). Others have numbers. */
const NAMES: Readonly<Record<string, readonly string[]>> = Object.fromEntries(
  Object.entries({
    '1.edx':
      'fpu vme de pse tsc msr pae mce cx8 apic - sep mtrr pge mca cmov pat pse36 pn clflush - ds acpi mmx fxsr sse sse2 ss ht tm ia64 pbe',
    '1.ecx':
      'pni pclmulqdq dtes64 monitor ds-cpl vmx smx est tm2 ssse3 cid - fma cx16 xtpr pdcm - pcid dca sse4.1 sse4.2 x2apic movbe popcnt tsc-deadline aes xsave osxsave avx f16c rdrand hypervisor',
    '7.0.ebx':
      'fsgsbase tsc-adjust sgx bmi1 hle avx2 fdp-excptn-only smep bmi2 erms invpcid rtm - zero-fcs-fds mpx - avx512f avx512dq rdseed adx smap avx512ifma pcommit clflushopt clwb intel-pt avx512pf avx512er avx512cd sha-ni avx512bw avx512vl',
    '7.0.ecx':
      '- avx512vbmi umip pku - waitpkg avx512vbmi2 - gfni vaes vpclmulqdq avx512vnni avx512bitalg - avx512-vpopcntdq - la57 - - - - - rdpid - bus-lock-detect cldemote - movdiri movdir64b - sgxlc pks',
    '7.0.edx':
      '- - avx512-4vnniw avx512-4fmaps fsrm - - - avx512-vp2intersect - md-clear - - - serialize - tsx-ldtrk - - arch-lbr - - amx-bf16 avx512-fp16 amx-tile amx-int8 spec-ctrl stibp flush-l1d arch-capabilities core-capability ssbd',
    'd.1.eax': 'xsaveopt xsavec xgetbv1 xsaves',
    '80000001.edx':
      '- - - - - - - - - - - syscall - - - - - - - - nx - mmxext - - fxsr-opt pdpe1gb rdtscp - lm 3dnowext 3dnow',
    '80000001.ecx':
      'lahf-lm cmp-legacy svm extapic cr8legacy abm sse4a misalignsse 3dnowprefetch osvw ibs xop skinit wdt - lwp fma4 tce - nodeid-msr - tbm topoext perfctr-core perfctr-nb',
  }).map(([register, names]) => [register, names.split(' ')]),
);
