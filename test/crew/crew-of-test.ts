import { afterAll } from 'vitest';
import { Crew } from '../../lib/crew/crew.ts';

/** Two workers for the tests of a file. */
export function crewOfTest(): Crew {
  const crew = new Crew(2, []);
  afterAll(() => crew.stop());
  return crew;
}
