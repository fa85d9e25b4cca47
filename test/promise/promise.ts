import type { Moved } from './moved.ts';
import { qemuMove, qemuShape, type Random, simulatedMove } from './moves.ts';
import { QemuPromises } from './qemu.ts';
import { SimulatedPromises } from './simulated.ts';

/** Guests of QEMU take a while to boot: each is moved so many times. */
const MOVES_OF_A_GUEST = 25;

export interface Plan {
  /** Moves of simulated guests, and of QEMU's. */
  readonly simulated: number;
  readonly qemu: number;
  readonly random: Random;
}

/** Makes the moves, one after the other; what fails to be made ends it. */
export async function keepPromises(plan: Plan, tell: (moved: Moved) => void): Promise<void> {
  await moveSimulated(plan, tell);
  await moveQemu(plan, tell);
}

async function moveSimulated({ simulated, random }: Plan, tell: (moved: Moved) => void) {
  if (simulated === 0) return;
  const promises = await SimulatedPromises.open();
  try {
    for (let i = 0; i < simulated; i++) tell(await promises.keep(simulatedMove(random)));
  } finally {
    await promises.close();
  }
}

async function moveQemu({ qemu, random }: Plan, tell: (moved: Moved) => void) {
  for (let left = qemu; left > 0; left -= MOVES_OF_A_GUEST) {
    const promises = await QemuPromises.open(qemuShape(random));
    try {
      for (let i = 0; i < Math.min(left, MOVES_OF_A_GUEST); i++)
        tell(await promises.keep(qemuMove(promises.shape, random)));
    } finally {
      await promises.close();
    }
  }
}
