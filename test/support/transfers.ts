/** Transfers of a pod that last while something happens to its node, and the servers that they talk to. */
import { join } from "node:path";
import type { NetworkNamespace } from "../../src/kernel/namespace.ts";
import { afterThisTest } from "./teardown.ts";

const ECHO_PORT = 8090;
const WHO_PORT = 8091;

/** One that repeats what it hears, and one that says whom it sees. */
export function serveTransfers(outside: NetworkNamespace): void {
  const made = outside.run(() => [
    Bun.listen({
      hostname: "0.0.0.0",
      port: ECHO_PORT,
      socket: { data: (socket, data) => void socket.write(data) },
    }),
    Bun.listen({
      hostname: "0.0.0.0",
      port: WHO_PORT,
      socket: { open: (socket) => void socket.end(socket.remoteAddress), data: () => {} },
    }),
  ]);
  afterThisTest(() => made.forEach((server) => server.stop(true)));
}

/** Connections of a pod that last, and new ones. */
export class Transfers {
  readonly #lines: ReturnType<typeof linesOf>;

  private constructor(private readonly child: Bun.Subprocess<"pipe", "pipe", "inherit">) {
    this.#lines = linesOf(child.stdout);
  }

  /** @param pod a namespace's name @param server an address that serveTransfers() serves */
  static async of(pod: string, server: string, count: number): Promise<Transfers> {
    const program = [process.execPath, join(import.meta.dir, "transfers-program.ts")];
    const words = [server, ECHO_PORT, WHO_PORT, count].map(String);
    const child = Bun.spawn(["ip", "netns", "exec", pod, ...program, ...words], {
      stdin: "pipe",
      stdout: "pipe",
      stderr: "inherit",
    });
    afterThisTest(() => child.kill("SIGKILL"));
    const transfers = new Transfers(child);
    await transfers.#lines.next();
    return transfers;
  }

  async ask<T>(word: "new" | "state" | "renew"): Promise<T> {
    void this.child.stdin.write(`${word}\n`);
    await this.child.stdin.flush();
    const { value } = await this.#lines.next();
    return JSON.parse(value!) as T;
  }
}

async function* linesOf(stream: ReadableStream<Uint8Array>): AsyncGenerator<string, undefined> {
  let rest = "";
  for await (const bytes of stream) {
    rest += new TextDecoder().decode(bytes);
    const lines = rest.split("\n");
    rest = lines.pop()!;
    yield* lines;
  }
  return undefined;
}
