import net from 'node:net';

/**
 * Stands between a sender and one port of a receiver, and can cut what it carries: closed at once,
 * or silent, as a network that drops everything.
 */
export class CuttingProxy {
  readonly #target: number;
  readonly #server: net.Server;
  readonly #pairs = new Set<readonly [net.Socket, net.Socket]>();
  #state: 'open' | 'closed' | 'silent' = 'open';
  /** Bytes carried from the sender to the receiver. */
  carried = 0;

  private constructor(target: number) {
    this.#target = target;
    this.#server = net.createServer((near) => this.#carry(near));
  }

  static async listen(target: number, port = 0): Promise<CuttingProxy> {
    const proxy = new CuttingProxy(target);
    await new Promise<void>((resolve, reject) => {
      proxy.#server.once('error', reject);
      proxy.#server.listen(port, '127.0.0.1', resolve);
    });
    return proxy;
  }

  get port(): number {
    return (this.#server.address() as net.AddressInfo).port;
  }

  /** Ends every connection and refuses new ones. */
  cut(): void {
    this.#state = 'closed';
    for (const pair of this.#pairs) for (const socket of pair) socket.destroy();
  }

  /** Carries nothing any more and tells nobody. */
  silence(): void {
    this.#state = 'silent';
    for (const pair of this.#pairs) for (const socket of pair) socket.pause();
  }

  /** New connections are carried again; what was silent is gone. */
  mend(): void {
    this.cut();
    this.#state = 'open';
  }

  close(): void {
    this.cut();
    this.#server.close();
  }

  #carry(near: net.Socket): void {
    if (this.#state === 'closed') return void near.destroy();
    const far = net.connect(this.#target, '127.0.0.1');
    const pair = [near, far] as const;
    this.#pairs.add(pair);
    near.on('data', (bytes) => {
      this.carried += bytes.length;
    });
    near.pipe(far);
    far.pipe(near);
    if (this.#state === 'silent') for (const socket of pair) socket.pause();
    const end = () => {
      for (const socket of pair) socket.destroy();
      this.#pairs.delete(pair);
    };
    for (const socket of pair) socket.on('error', end).on('close', end);
  }
}
