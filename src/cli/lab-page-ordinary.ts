/**
 * `lab up --page` of an ordinary user: his lab lies in a network of its own, in which no browser is. So the agent, beside the
 * lab's keeper, answers on a socket file that only he may open, and what is asked on the machine's loopback is handed over.
 */
import { endText } from "../address/ip.ts";
import { mkdtempSync, readFileSync, rmSync, writeFileSync, renameSync } from "node:fs";
import { connect, createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseListen } from "../agent/service.ts";
import { codeOf, messageOf, WayoutError } from "../error.ts";
import { ensureKeeper, startBesideKeeper } from "../lab/keeper.ts";
import { Interruption } from "./interruption.ts";
import { present } from "../present.ts";

/** What was built, and an address that lets one browser in. */
export interface RaisedPage {
  readonly change: string;
  readonly url: string;
}

const SOCKET = "page.sock";
const RAISED = "raised.json";
const CHECK_EVERY_MS = 50;

/**
 * Until it is ended.
 * @param raised is told when the page can be opened
 * @returns the exit code of the one beside the keeper
 * @throws WayoutError `port-in-use`, `bad-listen`, `no-user-namespace`
 */
export async function showBesideKeeper(
  { wayOut, listen }: { readonly wayOut: boolean; readonly listen: string },
  raised: (page: RaisedPage) => void,
): Promise<number> {
  using stop = new Interruption();
  const directory = mkdtempSync(join(tmpdir(), "wayout-lab-page-"));
  let forwarder: Forwarder | undefined;
  try {
    forwarder = await Forwarder.open(parseListen(listen), join(directory, SOCKET));
    const words = ["lab", "up", "--page-in", directory, "--page-url", forwarder.url];
    const child = startBesideKeeper(ensureKeeper(), wayOut ? words : [...words, "--no-way-out"]);
    let told = false;
    for (;;) {
      const exitCode = child.ended();
      if (exitCode !== undefined) return exitCode;
      if (stop.signal.aborted) child.end();
      if (!told) {
        const page = raisedIn(directory);
        if (page !== undefined) raised(page);
        told = page !== undefined;
      }
      await Bun.sleep(CHECK_EVERY_MS);
    }
  } finally {
    forwarder?.close();
    rmSync(directory, { recursive: true, force: true });
  }
}

/** Where the one beside the keeper answers. */
export function socketIn(directory: string): string {
  return join(directory, SOCKET);
}

/** For the one beside the keeper: the page can be opened. */
export function tellRaised(directory: string, page: RaisedPage): void {
  const path = join(directory, RAISED);
  writeFileSync(`${path}.new`, JSON.stringify(page), { mode: 0o600 });
  renameSync(`${path}.new`, path);
}

function raisedIn(directory: string): RaisedPage | undefined {
  try {
    return JSON.parse(readFileSync(join(directory, RAISED), "utf8")) as RaisedPage;
  } catch {
    return undefined;
  }
}

/** Hands over what is asked on loopback, byte for byte. */
class Forwarder {
  readonly #sockets = new Set<Socket>();

  private constructor(
    private readonly server: Server,
    readonly url: string,
  ) {}

  static async open(
    listen: { readonly hostname: string; readonly port: number },
    to: string,
  ): Promise<Forwarder> {
    const server = createServer();
    await new Promise<void>((resolve, reject) => {
      server.once("error", (error) => reject(notOpened(listen, error)));
      server.listen(listen.port, listen.hostname, resolve);
    });
    const { address, port } = server.address() as { address: string; port: number };
    const own = new Forwarder(server, `http://${endText(address, port)}`);
    server.on("connection", (near) => own.#join(near, connect(to)));
    return own;
  }

  close(): void {
    this.server.close();
    for (const socket of this.#sockets) socket.destroy();
  }

  #join(near: Socket, far: Socket): void {
    for (const [one, other] of [
      [near, far],
      [far, near],
    ] as const) {
      this.#sockets.add(one);
      one.on("error", () => other.destroy());
      one.on("close", () => {
        this.#sockets.delete(one);
        other.destroy();
      });
      one.pipe(other);
    }
  }
}

function notOpened({ hostname, port }: { readonly hostname: string; readonly port: number }, error: Error) {
  const inUse = codeOf(error) === "EADDRINUSE";
  return new WayoutError(
    present({
      code: inUse ? "port-in-use" : "no-socket",
      kind: "machine",
      doing: `opening the page's port ${hostname}:${port}`,
      said: messageOf(error),
      todo: inUse ? "Choose another one: --listen 127.0.0.1:PORT." : undefined,
      cause: error,
    }),
  );
}
