/** A pod, its node and an internet, for tests that break the way between them. */
import { join } from "node:path";
import type { NetworkNamespace } from "../../src/kernel/namespace.ts";
import { trace, type TraceRequest } from "../../src/trace/trace.ts";
import type { TraceReport } from "../../src/trace/report.ts";
import { ask } from "../support/witness.ts";
import { buildNodeWorld } from "../support/node-world.ts";
import { awaitNeighbour } from "../support/world.ts";

export interface PodWorld extends AsyncDisposable {
  readonly pod: NetworkNamespace;
  readonly node: NetworkNamespace;
  readonly internet: NetworkNamespace;
  /** Runs iproute2 and its like in one of them. */
  in(where: "pod" | "node" | "internet", ...command: string[]): string;
  /** Loads nft text on the node. */
  nft(text: string): void;
  trace(request?: Partial<TraceRequest>): TraceReport;
}

export interface PodWorldOptions {
  /** `bridge` as CNI's bridge plugin makes it, `ptp` as its ptp plugin does. */
  readonly wiring?: "bridge" | "ptp";
  /** Wait until IPv6 works, too. */
  readonly ipv6?: boolean;
  /** Masquerade with nft. */
  readonly nat?: boolean;
}

/** pod 10.20.0.2 — lan0 10.20.0.1 [node] ens4 203.0.113.2 — 203.0.113.1 [internet] 198.51.100.80 */
export async function makeWorld(options: PodWorldOptions = {}): Promise<PodWorld> {
  const built = buildNodeWorld({
    uplink: {
      name: "ens4",
      outsideName: "up0",
      addresses: ["203.0.113.2/24", "2001:db8:113::2/64"],
      outsideAddresses: ["203.0.113.1/24", "2001:db8:113::1/64"],
      gateways: ["203.0.113.1", "2001:db8:113::1"],
    },
    servers: ["198.51.100.80/32", "2001:db8:198::80/128"],
    pods: [
      {
        interface: "net1",
        hostInterface: "veth-pod",
        wiring: options.wiring === "ptp" ? "ptp" : { bridge: "lan0" },
        addresses: ["10.20.0.2/24", "fd20::2/64"],
        gateways: ["10.20.0.1/24", "fd20::1/64"],
      },
    ],
    forwards: true,
    ...(options.nat === false ? {} : { nft: MASQUERADE }),
  });
  const { node, outside: internet } = built;
  const pod = built.pods[0]!;
  const places = { pod, node, internet };
  const inside = (where: keyof typeof places, ...command: string[]): string => ask(places[where], command);
  const nft = (text: string): void => {
    ask(node, ["nft", "-f", "-"], text);
  };
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
      trace({ pod: pod.name!, destination: "198.51.100.80:443", timeoutMs: 1000, ...request }).report,
    async [Symbol.asyncDispose]() {
      server.kill(9);
      await server.exited;
    },
  };
}

export const MASQUERADE = `table inet nat {
  chain postrouting {
    type nat hook postrouting priority srcnat
    ip saddr 10.20.0.0/24 oifname "ens4" masquerade
    ip6 saddr fd20::/64 oifname "ens4" masquerade
  }
}
`;
