/**
 * A client, a node that routes for it, and the outside. The outside has a route back to the client's networks, so
 * that untranslated traffic is not lost but seen: every answer says which source it came from.
 *
 *   client 10.9.0.2, 10.9.1.2 ── node eth0 203.0.113.5 (.6 … .9 for SNAT) ── outside 203.0.113.1, 198.51.100.80
 *          fd00:9::2               2001:db8:113::5 (::6, ::7)                        2001:db8:113::1, 2001:db8:198::80
 */
import type { NetworkNamespace } from "../../src/kernel/namespace.ts";
import { writeFileSync } from "node:fs";
import { freshNamespace } from "../support/world.ts";
import { afterThisTest } from "../support/teardown.ts";
import { ask, run } from "../support/witness.ts";

export const CLIENT = { v4: "10.9.0.2", other4: "10.9.1.2", v6: "fd00:9::2" } as const;
export const NODE = { v4: "203.0.113.5", v6: "2001:db8:113::5" } as const;
export const OUTSIDE = { v4: "198.51.100.80", near4: "203.0.113.1", v6: "2001:db8:198::80" } as const;
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

export interface World {
  readonly client: NetworkNamespace;
  readonly node: NetworkNamespace;
  readonly outside: NetworkNamespace;
  /** Fetches from the outside and returns which source the server saw. */
  readonly fetch: (
    destination: string,
    options?: { readonly from?: string; readonly fromPort?: number },
  ) => Promise<Seen>;
  /** curl's exit code for a connection: 0, 7 refused, 28 timed out, 52 closed without an answer. */
  readonly connect: (destination: string, port: number) => Promise<number>;
}

function stopAfterwards(server: { stop(force: boolean): unknown }): void {
  afterThisTest(() => server.stop(true));
}

/** In one `ip -batch` a namespace: ten times fewer processes. */
function ip(namespace: NetworkNamespace, lines: string): void {
  ask(namespace, ["ip", "-batch", "-"], lines);
}

export function world(): World {
  const [client, node, outside] = [
    freshNamespace("client"),
    freshNamespace("node"),
    freshNamespace("outside"),
  ];
  for (const namespace of [client, node, outside]) {
    // Duplicate address detection keeps an address tentative for a second, and so every test waiting.
    namespace.run(() => writeFileSync("/proc/sys/net/ipv6/conf/default/accept_dad", "0"));
  }
  ip(
    node,
    `link add pods type veth peer name eth0 netns ${client.name}
     link add eth0 type veth peer name eth0 netns ${outside.name}
     address add 10.9.0.1/24 dev pods
     address add 10.9.1.1/24 dev pods
     address add fd00:9::1/64 dev pods
     ${[5, 6, 7, 8, 9].map((host) => `address add 203.0.113.${host}/24 dev eth0`).join("\n")}
     address add ${NODE.v6}/64 dev eth0
     address add 2001:db8:113::6/64 dev eth0 preferred_lft 0
     address add 2001:db8:113::7/64 dev eth0 preferred_lft 0
     link set pods up
     link set eth0 up
     route add default via 203.0.113.1
     route add default via 2001:db8:113::1`,
  );
  ip(
    client,
    `address add ${CLIENT.v4}/24 dev eth0
     address add ${CLIENT.other4}/24 dev eth0
     address add ${CLIENT.v6}/64 dev eth0
     link set eth0 up
     route add default via 10.9.0.1
     route add default via fd00:9::1`,
  );
  ip(
    outside,
    `address add 203.0.113.1/24 dev eth0
     address add 2001:db8:113::1/64 dev eth0
     address add ${OUTSIDE.v4}/32 dev lo
     address add ${OUTSIDE.v6}/128 dev lo
     link set eth0 up
     route add 10.9.0.0/16 via ${NODE.v4}
     route add fd00:9::/64 via ${NODE.v6}`,
  );
  node.run(() => {
    writeFileSync("/proc/sys/net/ipv4/ip_forward", "1");
    writeFileSync("/proc/sys/net/ipv6/conf/all/forwarding", "1");
    // When the first address of eth0 goes, the next one takes its place.
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
      const { exitCode, stdout, stderr } = await curl(client, [
        ...(options.from === undefined ? [] : ["--interface", options.from]),
        ...(options.fromPort === undefined ? [] : ["--local-port", String(options.fromPort)]),
        url(destination, PORT),
      ]);
      if (exitCode !== 0) throw new Error(`curl ended with ${exitCode}: ${stderr}`);
      const { address, port } = JSON.parse(stdout) as Seen;
      return { address, port };
    },
    async connect(destination, port) {
      return (await curl(client, [url(destination, port)])).exitCode;
    },
  };
}

function url(destination: string, port: number): string {
  return `http://${destination.includes(":") ? `[${destination}]` : destination}:${port}/`;
}

/** The server lives in this process, so waiting for curl must not block it. */
async function curl(namespace: NetworkNamespace, args: readonly string[]) {
  const child = namespace.run(() =>
    Bun.spawn(["curl", "-sS", "-g", "--noproxy", "*", "--max-time", "2", ...args], {
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
