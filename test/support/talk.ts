/** Many connections at once, which are not to notice what becomes of the node between their ends. */
import type { Socket } from "bun";
import type { NetworkNamespace } from "../../src/kernel/namespace.ts";
import { afterThisTest } from "./teardown.ts";

const PORT = 7000;
export const CONNECTIONS = 100;

/** Connections over which a few bytes go to and fro until they are told to end. */
export class Talk {
  readonly seen = new Set<string>();
  ends = 0;
  rounds = 0;
  #goesOn = true;
  readonly #sockets: Socket<{ got: number }>[] = [];

  static async between(
    client: NetworkNamespace,
    outside: NetworkNamespace,
    { v4, v6 }: { readonly v4: string; readonly v6: string },
  ): Promise<Talk> {
    const talk = new Talk();
    for (const hostname of [v4, v6]) {
      const server = outside.run(() =>
        Bun.listen({
          hostname,
          port: PORT,
          socket: {
            open: (socket) => void talk.seen.add(socket.remoteAddress),
            data: (socket, bytes) => void socket.write(bytes),
          },
        }),
      );
      afterThisTest(() => server.stop(true));
    }
    for (let count = 0; count < CONNECTIONS; count++) await talk.begin(client, count % 2 === 0 ? v4 : v6);
    return talk;
  }

  async begin(client: NetworkNamespace, hostname: string): Promise<void> {
    const ended = (): void => void (this.#goesOn && this.ends++);
    const socket = await client.run(() =>
      Bun.connect({
        hostname,
        port: PORT,
        data: { got: 0 },
        socket: {
          data: (one) => {
            one.data.got++;
            this.rounds++;
            setTimeout(() => this.#goesOn && one.write("once more"), 5);
          },
          close: ended,
          error: ended,
        },
      }),
    );
    this.#sockets.push(socket);
    socket.write("hello");
  }

  /** How many of them have not said anything since they were asked the last time. */
  async silent(): Promise<number> {
    for (const { data } of this.#sockets) data.got = 0;
    const until = Date.now() + 20_000;
    const quiet = (): number => this.#sockets.filter(({ data }) => data.got === 0).length;
    while (quiet() > 0 && Date.now() < until) await Bun.sleep(50);
    return quiet();
  }

  stop(): void {
    this.#goesOn = false;
    for (const socket of this.#sockets) socket.terminate();
  }
}
