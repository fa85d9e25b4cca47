import { GodwitError } from '../../errors.ts';
import { type Finding, lookAt, notKnown } from '../../finding.ts';
import { child, type Element, xmlOf } from '../../xml.ts';
import type { Emulation, LibvirtClient } from './rpc/client.ts';
import { ERROR } from './rpc/procedures.ts';
import { CallRefused } from './rpc/session.ts';

function emulationOf(domain: Element): Emulation {
  const type = child(child(domain, 'os'), 'type');
  const said = (name: string) => type?.attributes.get(name) ?? '';
  return {
    emulator: child(child(domain, 'devices'), 'emulator')?.text,
    arch: said('arch'),
    machine: said('machine'),
    virtType: domain.attributes.get('type') ?? '',
  };
}

/**
 * What this host's libvirt says of a domain's machine and CPU before it comes; Prepare3 asks the same, and
 * is refused for it. Libvirt may start the emulator to look at it.
 * @param domain whose XML was allowed
 */
export async function hardwareFindings(
  client: LibvirtClient,
  domain: Element,
): Promise<readonly Finding[]> {
  const emulation = emulationOf(domain);
  const machine = await lookAt('machine', async () => {
    await client.requireEmulation(emulation);
    return `${emulation.emulator ?? "libvirt's QEMU"} has ${emulation.machine}`;
  });
  return machine.verdict === 'ok' ? [machine, await cpuFinding(client, domain)] : [machine];
}

async function cpuFinding(client: LibvirtClient, domain: Element): Promise<Finding> {
  const cpu = child(domain, 'cpu');
  const model = child(cpu, 'model')?.text;
  if (cpu === undefined || model === undefined)
    return notKnown('cpu', 'the guest has the CPU of its host, whichever that is');
  const finding = await lookAt('cpu', async () => {
    try {
      await client.requireCpu(emulationOf(domain), xmlOf(cpu));
      return `this host has all of ${model} as the guest has it`;
    } catch (error) {
      if (!(error instanceof CallRefused) || error.number !== ERROR.cpuIncompatible) throw error;
      throw new GodwitError('definition-invalid', error.message, { cause: error });
    }
  });
  // It stands there as it was asked for: the guest may do without some of it where it is.
  const isAsked = cpu.attributes.get('check') === 'none' && finding.verdict === 'no';
  return isAsked ? notKnown('cpu', `unless its host lacks the same: ${finding.text}`) : finding;
}
