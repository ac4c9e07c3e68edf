/** A pod, its node and an internet, for tests that break the way between them. */
import { join } from "node:path";
import type { NetworkNamespace } from "../../src/kernel/namespace.ts";
import { trace, type TraceRequest } from "../../src/trace/trace.ts";
import type { TraceReport } from "../../src/trace/report.ts";
import { ask } from "../support/witness.ts";
import { awaitNeighbour, freshNamespace } from "../support/world.ts";

export interface World extends AsyncDisposable {
  readonly pod: NetworkNamespace;
  readonly node: NetworkNamespace;
  readonly internet: NetworkNamespace;
  /** Runs iproute2 and its like in one of them. */
  in(where: "pod" | "node" | "internet", ...command: string[]): string;
  /** Loads nft text on the node. */
  nft(text: string): void;
  trace(request?: Partial<TraceRequest>): TraceReport;
}

export interface WorldOptions {
  /** `bridge` as CNI's bridge plugin makes it, `ptp` as its ptp plugin does. */
  readonly wiring?: "bridge" | "ptp";
  /** Wait until IPv6 works, too. */
  readonly ipv6?: boolean;
  /** Masquerade with nft. */
  readonly nat?: boolean;
}

/** pod 10.20.0.2 — br0 10.20.0.1 [node] eth0 203.0.113.2 — 203.0.113.1 [internet] 198.51.100.80 */
export async function makeWorld(options: WorldOptions = {}): Promise<World> {
  const [internet, node, pod] = [freshNamespace("inet"), freshNamespace("node"), freshNamespace("pod")];
  const places = { pod, node, internet };
  const inside = (where: keyof typeof places, ...command: string[]): string => ask(places[where], command);
  const ip = (where: keyof typeof places, line: string): void => {
    inside(where, "ip", ...line.split(" "));
  };
  for (const where of ["pod", "node", "internet"] as const) {
    inside(where, "sysctl", "-qw", "net.ipv6.conf.default.accept_dad=0", "net.ipv6.conf.all.accept_dad=0");
  }
  ip("node", `link add eth0 type veth peer name up0 netns ${internet.name}`);
  ip("node", "addr add 203.0.113.2/24 dev eth0");
  ip("node", "-6 addr add 2001:db8:113::2/64 dev eth0 nodad");
  ip("node", "link set eth0 up");
  ip("internet", "addr add 203.0.113.1/24 dev up0");
  ip("internet", "addr add 198.51.100.80/32 dev lo");
  ip("internet", "-6 addr add 2001:db8:113::1/64 dev up0 nodad");
  ip("internet", "-6 addr add 2001:db8:198::80/128 dev lo nodad");
  ip("internet", "link set up0 up");
  ip("node", "route add default via 203.0.113.1");
  ip("node", "-6 route add default via 2001:db8:113::1");
  ip("node", `link add veth-pod type veth peer name eth0 netns ${pod.name}`);
  if (options.wiring === "ptp") wirePtp(ip);
  else wireBridge(ip);
  inside("node", "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1");
  const nft = (text: string): void => {
    ask(node, ["nft", "-f", "-"], text);
  };
  if (options.nat !== false) nft(MASQUERADE);
  if (options.ipv6 === true) {
    awaitNeighbour(node, "2001:db8:113::1");
    awaitNeighbour(pod, "fd20::1");
  }
  const server = internet.run(() =>
    Bun.spawn([process.execPath, join(import.meta.dir, "outside.ts")], { stdout: "pipe", stderr: "inherit" }),
  );
  const reader = server.stdout.getReader();
  await reader.read();
  return {
    pod,
    node,
    internet,
    in: inside,
    nft,
    trace: (request = {}) =>
      trace({ pod: pod.name!, destination: "198.51.100.80:443", timeoutMs: 400, ...request }).report,
    async [Symbol.asyncDispose]() {
      server.kill(9);
      await server.exited;
    },
  };
}

export const MASQUERADE = `table inet nat {
  chain postrouting {
    type nat hook postrouting priority srcnat
    ip saddr 10.20.0.0/24 oifname "eth0" masquerade
    ip6 saddr fd20::/64 oifname "eth0" masquerade
  }
}
`;

type Ip = (where: "pod" | "node" | "internet", line: string) => void;

function wireBridge(ip: Ip): void {
  ip("node", "link add br0 type bridge");
  ip("node", "addr add 10.20.0.1/24 dev br0");
  ip("node", "-6 addr add fd20::1/64 dev br0 nodad");
  ip("node", "link set br0 up");
  ip("node", "link set veth-pod master br0 up");
  ip("pod", "addr add 10.20.0.2/24 dev eth0");
  ip("pod", "-6 addr add fd20::2/64 dev eth0 nodad");
  ip("pod", "link set eth0 up");
  ip("pod", "route add default via 10.20.0.1");
  ip("pod", "-6 route add default via fd20::1");
}

function wirePtp(ip: Ip): void {
  ip("node", "addr add 10.20.0.1/32 dev veth-pod");
  ip("node", "-6 addr add fd20::1/128 dev veth-pod nodad");
  ip("node", "link set veth-pod up");
  ip("node", "route add 10.20.0.2/32 dev veth-pod");
  ip("node", "-6 route add fd20::2/128 dev veth-pod");
  ip("pod", "addr add 10.20.0.2/24 dev eth0");
  ip("pod", "-6 addr add fd20::2/128 dev eth0 nodad");
  ip("pod", "link set eth0 up");
  ip("pod", "route del 10.20.0.0/24");
  ip("pod", "route add 10.20.0.1 dev eth0");
  ip("pod", "route add default via 10.20.0.1");
  ip("pod", "-6 route add fd20::1 dev eth0");
  ip("pod", "-6 route add default via fd20::1");
}
