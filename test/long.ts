/**
 * Marks what `npm test` leaves to `npm run test:long`: further cases of what `npm test` has one case of. Each boots a guest
 * of its own or waits for time limits. The command takes only files that name this: any other would be loaded, make its
 * directories, and run nothing that removes them.
 */
export const LONG = { tags: ['long'] };
