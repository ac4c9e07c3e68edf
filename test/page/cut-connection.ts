/** A line between browser and agent that can be cut and mended. */
import { connect, createServer, type Server, type Socket } from "node:net";

export class CutConnection {
  readonly #sockets = new Set<Socket>();
  #cut = false;

  private constructor(
    private readonly server: Server,
    readonly port: number,
  ) {}

  static async to(port: number): Promise<CutConnection> {
    const { promise, resolve } = Promise.withResolvers<CutConnection>();
    const server = createServer((near) => {
      if (own.#cut) return void near.destroy();
      const far = connect(port, "127.0.0.1");
      for (const [one, other] of [
        [near, far],
        [far, near],
      ] as const) {
        own.#sockets.add(one);
        one.on("error", () => other.destroy());
        one.on("close", () => {
          own.#sockets.delete(one);
          other.destroy();
        });
        one.pipe(other);
      }
    });
    let own: CutConnection;
    server.listen(0, "127.0.0.1", () => {
      own = new CutConnection(server, (server.address() as { port: number }).port);
      resolve(own);
    });
    return promise;
  }

  cut(): void {
    this.#cut = true;
    for (const socket of this.#sockets) socket.destroy();
  }

  mend(): void {
    this.#cut = false;
  }

  close(): void {
    this.cut();
    this.server.close();
  }
}
