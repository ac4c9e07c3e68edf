/**
 * A client, a node that routes for it, and the outside. The outside has a route back to the client's networks, so
 * that untranslated traffic is not lost but seen: every answer says which source it came from.
 *
 *   client 10.9.0.2, 10.9.1.2 ── node wan0 203.0.113.5 (.6 … .9 for SNAT) ── outside 203.0.113.1, 198.51.100.80
 *          fd00:9::2               2001:db8:113::5 (::6, ::7)                        2001:db8:113::1, 2001:db8:198::80
 */
import type { NetworkNamespace } from "../../src/kernel/namespace.ts";
import { writeFileSync } from "node:fs";
import { buildNodeWorld, type NodeWorld } from "../support/node-world.ts";
import { afterThisTest } from "../support/teardown.ts";
import { ask, run } from "../support/witness.ts";

export const CLIENT = { v4: "10.9.0.2", other4: "10.9.1.2", v6: "fd00:9::2" } as const;
export const NODE = { v4: "203.0.113.5", v6: "2001:db8:113::5" } as const;
export const OUTSIDE = { v4: "198.51.100.80", near4: "203.0.113.1", v6: "2001:db8:198::80" } as const;
/** The node's way out. */
export const UPLINK = "wan0";
const PORT = 8080;
/** Nobody listens here. */
export const CLOSED_PORT = 8081;
/** Who asks for something here is hung up on. */
export const HANGUP_PORT = 8083;
/** The outside drops what comes here. */
export const SILENT_PORT = 8082;

/** What the server saw of a connection. */
export interface Seen {
  readonly address: string;
  readonly port: number;
}

interface ClientWorld extends Pick<NodeWorld, "node" | "outside"> {
  readonly client: NetworkNamespace;
  /** Fetches from the outside, as the client or `by` another, and returns which source the server saw. */
  readonly fetch: (
    destination: string,
    options?: { readonly from?: string; readonly fromPort?: number; readonly by?: NetworkNamespace },
  ) => Promise<Seen>;
  /** curl's exit code for a connection: 0, 7 refused, 28 timed out, 52 closed without an answer; of silence it is soon sure. */
  readonly connect: (destination: string, port: number, isSilent?: boolean) => Promise<number>;
}

function stopAfterwards(server: { stop(force: boolean): unknown }): void {
  afterThisTest(() => server.stop(true));
}

export function world(): ClientWorld {
  const {
    node,
    outside,
    pods: [client],
  } = buildNodeWorld({
    uplink: {
      name: UPLINK,
      outsideName: "internet0",
      addresses: [
        ...[5, 6, 7, 8, 9].map((host) => `203.0.113.${host}/24`),
        `${NODE.v6}/64`,
        "2001:db8:113::6/64 preferred_lft 0",
        "2001:db8:113::7/64 preferred_lft 0",
      ],
      outsideAddresses: ["203.0.113.1/24", "2001:db8:113::1/64"],
      gateways: ["203.0.113.1", "2001:db8:113::1"],
    },
    servers: [`${OUTSIDE.v4}/32`, `${OUTSIDE.v6}/128`],
    wayBack: ["10.9.0.0/16", "fd00:9::/64"],
    pods: [
      {
        interface: "net1",
        hostInterface: "pods",
        wiring: "routed",
        addresses: [`${CLIENT.v4}/24`, `${CLIENT.other4}/24`, `${CLIENT.v6}/64`],
        gateways: ["10.9.0.1/24", "10.9.1.1/24", "fd00:9::1/64"],
      },
    ],
    forwards: true,
  }) as NodeWorld & { readonly pods: readonly [NetworkNamespace] };
  node.run(() => {
    // When the first address of the uplink goes, the next one takes its place.
    writeFileSync("/proc/sys/net/ipv4/conf/all/promote_secondaries", "1");
  });
  // A route to nowhere drops silently; for one port only, that takes a packet filter.
  ask(
    outside,
    ["nft", "-f", "-"],
    `table inet outside { chain input { type filter hook input priority 0; tcp dport ${SILENT_PORT} drop; }; }`,
  );
  stopAfterwards(
    outside.run(() =>
      Bun.listen({
        hostname: "::",
        port: HANGUP_PORT,
        socket: { data: (socket) => void socket.end() },
      }),
    ),
  );
  for (const hostname of ["0.0.0.0", "::"]) {
    stopAfterwards(
      outside.run(() =>
        Bun.serve({
          hostname,
          port: PORT,
          ipv6Only: hostname === "::",
          fetch: (request, server) => Response.json(server.requestIP(request)),
        }),
      ),
    );
  }
  return {
    client,
    node,
    outside,
    async fetch(destination, options = {}) {
      const { exitCode, stdout, stderr } = await curl(options.by ?? client, [
        ...(options.from === undefined ? [] : ["--interface", options.from]),
        ...(options.fromPort === undefined ? [] : ["--local-port", String(options.fromPort)]),
        url(destination, PORT),
      ]);
      if (exitCode !== 0) throw new Error(`curl ended with ${exitCode}: ${stderr}`);
      const { address, port } = JSON.parse(stdout) as Seen;
      return { address, port };
    },
    async connect(destination, port, isSilent = false) {
      const seconds = isSilent ? 2 : ANSWER_S;
      return (await curl(client, [url(destination, port)], seconds)).exitCode;
    },
  };
}

function url(destination: string, port: number): string {
  return `http://${destination.includes(":") ? `[${destination}]` : destination}:${port}/`;
}

/** An answer comes at once; on a busy machine it may have to wait for its turn. */
const ANSWER_S = 30;

/** The server lives in this process, so waiting for curl must not block it. */
async function curl(namespace: NetworkNamespace, args: readonly string[], seconds = ANSWER_S) {
  const child = namespace.run(() =>
    Bun.spawn(["curl", "-sS", "-g", "--noproxy", "*", "--max-time", String(seconds), ...args], {
      stdout: "pipe",
      stderr: "pipe",
    }),
  );
  const [stdout, stderr, exitCode] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  return { stdout, stderr, exitCode };
}

/** Everything that holds rules in a namespace, with counters and handles: equal only if nothing was written. */
export function rulesWithHandles(namespace: NetworkNamespace): string {
  return ["iptables-legacy-save", "ip6tables-legacy-save"]
    .map((program) => run(namespace, [program, "-c"]).stdout.replace(/^#.*$/gm, ""))
    .concat(ask(namespace, ["nft", "-a", "list", "ruleset"]))
    .join("\n");
}
