/**
 * Marks what `npm test` leaves to `npm run test:long`: further cases of what one case of stands in `npm test`, each of
 * which boots a guest of its own or waits for time limits.
 */
export const LONG = { tags: ['long'] };
