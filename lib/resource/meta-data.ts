import { projectVersion } from '../version.ts';
import { escaped } from '../xml.ts';
import { KINDS } from './call.ts';

interface Parameter {
  readonly name: string;
  readonly short: string;
  readonly long: string;
  readonly otherwise: string;
  readonly type?: 'string' | 'select';
}

const PARAMETERS: readonly Parameter[] = [
  {
    name: 'guest',
    short: 'name of the guest',
    long: 'As libvirt, or its definition, calls it.',
    otherwise: 'the name of the resource',
  },
  {
    name: 'kind',
    short: 'what runs it',
    long: `${KINDS.join(', ')}: a domain of libvirt, a definition in guests.d, or a simulated guest.`,
    otherwise: 'libvirt',
  },
  {
    name: 'xml',
    short: 'XML of the domain',
    long: 'A file, the same on each node, of which the domain is started; without it, libvirt has to know the domain on each node.',
    otherwise: '',
  },
  {
    name: 'memory',
    short: 'memory of a simulated guest',
    long: 'As 64MiB.',
    otherwise: '64MiB',
  },
  {
    name: 'hosts',
    short: 'where agent-recv of each node listens',
    long: 'NODE=HOST[:PORT], separated by spaces. A node that is not named is reached by its own name, at port 7070.',
    otherwise: '',
  },
  {
    name: 'max_suspend_time',
    short: 'longest suspension',
    long: 'As 300ms. The guest stays where it is if that cannot be kept.',
    otherwise: '',
  },
  {
    name: 'prefer',
    short: 'workload or completion',
    long: 'What matters more when both cannot be had.',
    otherwise: 'workload',
  },
  {
    name: 'send_config',
    short: "file of agent-send's options",
    long: 'Its sockets and directories are taken from it.',
    otherwise: '/etc/godwit/agent-send.json',
  },
  {
    name: 'recv_config',
    short: "file of agent-recv's options",
    long: 'Its sockets and directories are taken from it.',
    otherwise: '/etc/godwit/agent-recv.json',
  },
];

const ACTIONS = [
  '<action name="start" timeout="90s"/>',
  '<action name="stop" timeout="90s"/>',
  '<action name="monitor" timeout="30s" interval="10s" depth="0"/>',
  '<action name="migrate_to" timeout="600s" on-fail="block"/>',
  '<action name="migrate_from" timeout="60s"/>',
  '<action name="meta-data" timeout="5s"/>',
  '<action name="validate-all" timeout="5s"/>',
];

/** What `meta-data` answers, as OCF's ra-api-1.dtd has it. */
export function metaData(): string {
  const parameters = PARAMETERS.map(
    ({ name, short, long, otherwise }) =>
      `<parameter name="${name}" unique="${name === 'guest' ? 1 : 0}" required="0">
<longdesc lang="en">${escaped(long)}</longdesc>
<shortdesc lang="en">${escaped(short)}</shortdesc>
<content type="string" default="${escaped(otherwise)}"/>
</parameter>`,
  );
  return `<?xml version="1.0"?>
<!DOCTYPE resource-agent SYSTEM "ra-api-1.dtd">
<resource-agent name="domain" version="${projectVersion()}">
<version>1.0</version>
<longdesc lang="en">A guest that the agents of Godwit move between the nodes: a domain of libvirt, a guest of QEMU by its definition, or a simulated one. A move that cannot keep its limits leaves the guest where it is.</longdesc>
<shortdesc lang="en">Guest that Godwit moves</shortdesc>
<parameters>
${parameters.join('\n')}
</parameters>
<actions>
${ACTIONS.join('\n')}
</actions>
</resource-agent>
`;
}
