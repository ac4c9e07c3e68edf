/**
 * One visit to a site, the way curl makes it: ask DNS, connect, say GET, read. Runs as a process of its own inside a
 * pod's namespace, since a resolver and a TCP client use whatever namespace they were started in.
 */
import { familyOf } from "../address/ip.ts";
import { Resolver } from "node:dns/promises";
import { connect } from "node:net";
import type { NetworkNamespace } from "../kernel/namespace.ts";
import { messageOf } from "../error.ts";
import { selfCommand } from "../self.ts";
import { LAB_PROCESSES } from "./processes.ts";
import type { SiteAnswer } from "./internet.ts";

/** What came of a visit. Exactly one of `answer` and `failure` is there. */
export interface Visit {
  /** The address DNS gave, when it answered. */
  readonly address?: string;
  /** Our own port of the connection, when it was made. */
  readonly localPort?: number;
  readonly answer?: SiteAnswer;
  readonly failure?: { readonly step: "dns" | "connect" | "answer"; readonly said: string };
  readonly tookMs: number;
}

export interface VisitOptions {
  /** Host name or address. */
  readonly host: string;
  readonly family: 4 | 6;
  /** The DNS server to ask. */
  readonly resolver: string;
  /** For each of the steps. */
  readonly timeoutMs: number;
}

/** Makes the visit in this process's namespace. Never throws. */
export async function visit(options: VisitOptions): Promise<Visit> {
  const began = performance.now();
  const took = (): number => performance.now() - began;
  let address: string;
  try {
    address = await resolve(options);
  } catch (error) {
    return { failure: { step: "dns", said: messageOf(error) }, tookMs: took() };
  }
  const fetched = await get(address, options.host, options.timeoutMs);
  return { address, ...fetched, tookMs: took() };
}

async function resolve(options: VisitOptions): Promise<string> {
  if (/^[0-9.]+$|:/.test(options.host)) return options.host;
  const resolver = new Resolver({ timeout: options.timeoutMs, tries: 1 });
  resolver.setServers([familyOf(options.resolver) === 6 ? `[${options.resolver}]` : options.resolver]);
  // The resolver itself waits at least a second, whatever it is told.
  let late = false;
  const timer = setTimeout(() => {
    late = true;
    resolver.cancel();
  }, options.timeoutMs);
  try {
    const addresses = await (options.family === 4
      ? resolver.resolve4(options.host)
      : resolver.resolve6(options.host));
    const first = addresses[0];
    if (first === undefined) throw new Error(`${options.host} has no IPv${options.family} address`);
    return first;
  } catch (error) {
    throw late ? new Error(`${options.resolver} gave no answer within ${options.timeoutMs} ms`) : error;
  } finally {
    clearTimeout(timer);
  }
}

function get(address: string, host: string, timeoutMs: number): Promise<Omit<Visit, "tookMs">> {
  return new Promise((done) => {
    const received: Buffer[] = [];
    let localPort: number | undefined;
    const end = (result: Omit<Visit, "tookMs" | "localPort">): void => {
      clearTimeout(timer);
      socket.destroy();
      done(localPort === undefined ? result : { localPort, ...result });
    };
    const fail = (said: string): void => {
      end({ failure: { step: localPort === undefined ? "connect" : "answer", said } });
    };
    const timer = setTimeout(() => fail(`no answer within ${timeoutMs} ms`), timeoutMs);
    const socket = connect({ host: address, port: 80 });
    socket.on("connect", () => {
      localPort = socket.localPort;
      socket.write(`GET / HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`);
    });
    socket.on("data", (chunk: Buffer) => received.push(chunk));
    socket.on("error", (error) => fail(error.message));
    socket.on("close", () => {
      const body = Buffer.concat(received).toString().split("\r\n\r\n")[1];
      try {
        end({ answer: JSON.parse(body ?? "") as SiteAnswer });
      } catch {
        fail("the connection ended without an answer");
      }
    });
  });
}

/** For the start and the end of the process that visits. */
const PROCESS_TIMEOUT_MS = 60_000;

/** Makes the visit from inside a namespace, by a process started there. */
export function visitFrom(namespace: NetworkNamespace, options: VisitOptions): Visit {
  const child = namespace.run(() =>
    Bun.spawnSync([...selfCommand(), LAB_PROCESSES.visit, JSON.stringify(options)], {
      stdin: "ignore",
      stdout: "pipe",
      stderr: "pipe",
      timeout: 4 * options.timeoutMs + PROCESS_TIMEOUT_MS,
    }),
  );
  try {
    return JSON.parse(child.stdout.toString()) as Visit;
  } catch {
    throw new Error(`the visitor ended with ${child.exitCode}: ${child.stderr.toString().trim()}`);
  }
}
