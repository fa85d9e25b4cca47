import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { Xl } from '../../../lib/guest/xen/xl.ts';

const hasPython = () => {
  try {
    execFileSync('python3', ['-c', ''], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
};

/** Xen's bindings as the agent uses them: what is called is written down, DOMAIN says what there is. */
const MODULES = {
  '__init__.py': '',
  'xc.py': `import json, os
class xc:
    def domain_getinfo(self, first, count): return [json.loads(os.environ['DOMAIN'])]
    def domain_resume(self, domid, fast): open(os.environ['CALLS'], 'a').write('domain_resume %d %d\\n' % (domid, fast))
`,
  'xs.py': `import os
class xs:
    def read(self, transaction, path): return 'running' if path == os.environ.get('THERE') else None
    def resume_domain(self, domid): open(os.environ['CALLS'], 'a').write('resume_domain %d\\n' % domid)
`,
};
const SUSPENDED = { domid: 7, shutdown: 1, shutdown_reason: 2, hvm: 0 };

describe.skipIf(!hasPython())('a guest that xl has left suspended, where it cannot resume', () => {
  let dir: string;
  let xl: Xl;
  const calls = () => {
    const file = process.env.CALLS!;
    return fs.existsSync(file) ? fs.readFileSync(file, 'utf8').trim().split('\n') : [];
  };

  beforeAll(() => {
    dir = fs.mkdtempSync('/tmp/godwit-xen-resume-');
    const modules = path.join(dir, 'xen/lowlevel');
    fs.mkdirSync(modules, { recursive: true });
    fs.writeFileSync(path.join(dir, 'xen/__init__.py'), '');
    for (const [name, text] of Object.entries(MODULES))
      fs.writeFileSync(path.join(modules, name), text);
    fs.writeFileSync(path.join(dir, 'xl'), '#!/bin/sh\necho "$XL_SAYS" >&2; exit 1\n', {
      mode: 0o755,
    });
    xl = new Xl(path.join(dir, 'xl'));
  });
  afterAll(() => fs.rmSync(dir, { recursive: true }));
  afterEach(() => {
    fs.rmSync(path.join(dir, 'calls'), { force: true });
    vi.unstubAllEnvs();
  });

  function given(domain: object, there = '', says = 'command not implemented'): void {
    vi.stubEnv('PYTHONPATH', dir);
    vi.stubEnv('CALLS', path.join(dir, 'calls'));
    vi.stubEnv('DOMAIN', JSON.stringify(domain));
    vi.stubEnv('THERE', there);
    vi.stubEnv('XL_SAYS', says);
  }

  it("is resumed by Xen's bindings: the hypervisor is told, then xenstored", async () => {
    given({ ...SUSPENDED, hvm: 1 }); // PVH: it has no device model
    await xl.resume(7);
    expect(calls()).toEqual(['domain_resume 7 1', 'resume_domain 7']);
  });

  it('is left as it is when it is not suspended, or has a device model', async () => {
    const device = '/local/domain/0/device-model/7/state';
    const cases = [
      [{ ...SUSPENDED, shutdown_reason: 3 }, '', /domain 7 is not suspended/],
      [{ ...SUSPENDED, hvm: 1 }, device, /domain 7 has a device model/],
    ] as const;
    for (const [domain, there, words] of cases) {
      given(domain, there);
      await expect(xl.resume(7)).rejects.toThrow(words);
      expect(calls()).toEqual([]);
    }
  });

  it('is left to an xl that has the command, and fails', async () => {
    given(SUSPENDED, '', 'libxl: error: no such domain');
    await expect(xl.resume(7)).rejects.toThrow(/resume 7 failed: libxl: error: no such domain/);
    expect(calls()).toEqual([]);
  });

  it('is said to be suspended where there are no bindings', async () => {
    given(SUSPENDED);
    vi.stubEnv('PYTHONPATH', '');
    await expect(xl.resume(7)).rejects.toThrow(/bindings fail: .*No module named 'xen'/);
  });
});
