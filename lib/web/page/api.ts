/** Asks the daemon. @throws Error with what it says is wrong, and its code as the name */
export async function ask<T>(method: string, path: string, body?: object): Promise<T> {
  const response = await fetch(path, {
    method,
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  }).catch(() => {
    throw new Error('the daemon does not answer');
  });
  if (!response.ok) throw await refusalOf(response);
  return (await response.json().catch(() => ({}))) as T;
}

/** What a daemon says that does not do it. */
export async function refusalOf(response: Response): Promise<Error> {
  const { error = {} } = await response.json().catch(() => ({}));
  return told(error.code, error.message ?? `the daemon answers ${response.status}`);
}

/** An error in the daemon's words. */
export function told(code = '', message = ''): Error {
  return Object.assign(new Error(message), { name: code });
}
