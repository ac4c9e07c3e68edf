/**
 * What NAT costs a new connection. A client sends single UDP datagrams to ever new ports through a node that translates
 * them; each is a new connection to the node, and sendto(2) returns when the node has passed it on.
 */
import { closeSync, writeFileSync } from "node:fs";
import { Conntrack } from "../src/kernel/conntrack/conntrack.ts";
import * as libc from "../src/kernel/libc.ts";
import { createNamedNamespace } from "../src/kernel/named-namespace.ts";
import { NetworkNamespace } from "../src/kernel/namespace.ts";
import { Nftables } from "../src/kernel/nftables/nftables.ts";
import { masqueradeIntent, type NatIntent } from "../src/nat/intent.ts";
import { EbpfNat } from "../src/nat/backends/ebpf/ebpf.ts";
import { NftablesNat } from "../src/nat/backends/nftables/nftables.ts";
import { TABLE } from "../src/nat/backends/nftables/names.ts";
import { AF_INET, SOCK_DGRAM } from "../src/linux/socket.ts";
import { ask } from "../test/support/witness.ts";
import type { Benchmark, Measurement, Samples, Side } from "./benchmark.ts";

/** New connections a sample. */
const FLOWS = 4000;
const ROUNDS = 15;
const CLIENT = "10.9.0.2";
const PODS = 5000;

const PAYLOAD = Uint8Array.of(0);

let namespaces = 0;

/** Someone's way out: a client, a node, and an outside that takes every packet and answers none. */
class Route {
  readonly node: NetworkNamespace;
  readonly #socket: number;
  readonly #address = new Uint8Array(16);
  readonly #view = new DataView(this.#address.buffer);
  #port = 1024;
  #host = 0;

  /** @param tracked false: nothing here tracks connections */
  constructor(
    readonly name: string,
    private readonly tracked = true,
  ) {
    const [client, node, outside] = ["c", "n", "o"].map((role) => {
      const own = `${role}-${name.replaceAll(" ", "-")}-${++namespaces}`;
      createNamedNamespace(own);
      return NetworkNamespace.named(own);
    }) as [NetworkNamespace, NetworkNamespace, NetworkNamespace];
    this.node = node;
    const ip = (namespace: NetworkNamespace, lines: string): string =>
      ask(namespace, ["ip", "-batch", "-"], lines);
    ip(
      node,
      `link add pods type veth peer name eth0 netns ${client.name}
       link add eth0 type veth peer name eth0 netns ${outside.name}
       address add 10.9.0.1/16 dev pods
       address add 203.0.113.5/24 dev eth0
       link set pods up
       link set eth0 up
       route add default via 203.0.113.1`,
    );
    ip(client, `address add ${CLIENT}/16 dev eth0\nlink set eth0 up\nroute add default via 10.9.0.1`);
    ip(outside, "address add 203.0.113.1/24 dev eth0\nlink set eth0 up");
    node.run(() => writeFileSync("/proc/sys/net/ipv4/ip_forward", "1"));
    this.#socket = client.run(() => libc.socket(AF_INET, SOCK_DGRAM, 0));
    this.#view.setUint16(0, AF_INET, true);
    client.close();
    outside.close();
  }

  /** As one side of a comparison: a sample is FLOWS new connections. */
  side(): Side {
    return {
      name: this.name,
      run: () => {
        const start = Bun.nanoseconds();
        for (let count = 0; count < FLOWS; count++) {
          this.#next();
          libc.sendto(this.#socket, PAYLOAD, this.#address);
        }
        return (Bun.nanoseconds() - start) / 1e6;
      },
      // A table that fills would slow whoever comes later.
      undo: () => {
        if (!this.tracked) return;
        using conntrack = Conntrack.open(this.node);
        const tracked = conntrack.flush();
        if (tracked < FLOWS / 2) throw new Error(`only ${tracked} of ${FLOWS} connections were tracked`);
      },
    };
  }

  /** A destination nobody was sent to before: 198.51.100.0/24 has room for 16 million. */
  #next(): void {
    if (++this.#port > 65_535) {
      this.#port = 1024;
      this.#host++;
    }
    this.#view.setUint16(2, this.#port, false);
    this.#address.set([198, 51, 100, this.#host], 4);
  }

  close(): void {
    closeSync(this.#socket);
    this.node.close();
  }
}

/** Sources that touch nowhere, so that no two of them can share an element. */
function scatteredIntent(count: number): NatIntent {
  const translation = { fullyRandom: false };
  const others = Array.from({ length: count - 1 }, (_, index) => ({
    cidr: `10.${16 + (index >> 7)}.${(index & 127) * 2}.1/32`,
    translation,
  }));
  return {
    owner: "bench",
    sources: [{ cidr: `${CLIENT}/32`, translation }, ...others],
    untranslated: ["10.0.0.0/8", "169.254.0.0/16"],
  };
}

function ours(name: string, intent: NatIntent): Route {
  const route = new Route(name);
  using nat = new NftablesNat({ namespace: route.node });
  nat.apply(intent);
  if (nat.verify(intent).length > 0) throw new Error("our rules are not in force");
  return route;
}

/** Programs at the uplink; no connection is tracked. */
function programs(name: string): Route {
  const route = new Route(name, false);
  using nat = new EbpfNat({ namespace: route.node, flows: 1 << 18 });
  nat.apply(NETWORK);
  if (nat.verify(NETWORK).length > 0) throw new Error("our programs are not in force");
  return route;
}

/** Routing alone, with its connections tracked. */
function tracking(name: string): Route {
  const route = new Route(name);
  ask(
    route.node,
    ["nft", "-f", "-"],
    "table ip t { chain f { type filter hook forward priority 0; ct state established accept; }; }",
  );
  return route;
}

/** The least that nft can be told. */
function plain(name: string): Route {
  const route = new Route(name);
  const rules =
    "table ip plain { chain p { type nat hook postrouting priority srcnat; oifname eth0 masquerade; }; }";
  ask(route.node, ["nft", "-f", "-"], rules);
  return route;
}

/** What the reference bridge plugin's ipMasq leaves after so many pods; the client's chain comes last. */
function chainPerPod(name: string, pods: number): Route {
  const route = new Route(name);
  const addresses = Array.from({ length: pods - 1 }, (_, index) => `10.9.${1 + (index >> 7)}.${index & 127}`);
  const chains = [...addresses, CLIENT].map((address, index) => ({
    chain: `CNI-${index.toString(16).padStart(24, "0")}`,
    address,
  }));
  const text = [
    "*nat",
    ...chains.map(({ chain }) => `:${chain} - [0:0]`),
    ...chains.flatMap(({ chain, address }) => [
      `-A POSTROUTING -s ${address}/32 -m comment --comment "net ${chain}" -j ${chain}`,
      `-A ${chain} -d 10.9.0.0/16 -j ACCEPT`,
      `-A ${chain} ! -d 224.0.0.0/4 -j MASQUERADE`,
    ]),
    "COMMIT",
    "",
  ].join("\n");
  ask(route.node, ["iptables-nft-restore"], text);
  return route;
}

async function compareRoutes(
  context: Parameters<Benchmark["run"]>[0],
  left: Route,
  right: Route,
  facts: Readonly<Record<string, string | number>>,
): Promise<Measurement> {
  try {
    const measured = await context.compare(
      { ours: left.side(), reference: right.side() },
      { rounds: ROUNDS, warmUp: 2 },
    );
    const each = ({ name, values }: Samples): Samples => ({
      name,
      values: values.map((value) => (value * 1000) / FLOWS),
    });
    return { unit: "µs", ours: each(measured.ours), reference: each(measured.reference!), facts };
  } finally {
    left.close();
    right.close();
  }
}

const NETWORK = masqueradeIntent("bench", ["10.9.0.0/16"], { translation: { fullyRandom: false } });
const NEEDS = ["root", "ip", "nft"];
const EBPF_NEEDS = [...NEEDS, "real-root"];

export const benchmarks: readonly Benchmark[] = [
  {
    name: "nat/connection-pods",
    what: `a new connection through our table, ${PODS} sources beside one`,
    target: { ratio: 1.1, of: "1 source" },
    needs: NEEDS,
    run: (context) =>
      compareRoutes(
        context,
        ours(`${PODS} sources`, scatteredIntent(PODS)),
        ours("1 source", scatteredIntent(1)),
        { flows: FLOWS },
      ),
  },
  {
    name: "nat/connection-plain",
    what: "a new connection through our table, beside a single masquerade rule",
    needs: NEEDS,
    run: (context) =>
      compareRoutes(context, ours("wayout", NETWORK), plain("one nft rule"), { flows: FLOWS }),
  },
  {
    name: "nat/connection-ebpf-routing",
    what: "a new connection through our eBPF programs, beside routing alone",
    needs: EBPF_NEEDS,
    run: (context) => compareRoutes(context, programs("eBPF"), new Route("routing", false), { flows: FLOWS }),
  },
  {
    name: "nat/connection-ebpf-tracking",
    what: "a new connection through our eBPF programs, beside routing with connection tracking",
    target: { ratio: 1, of: "routing with conntrack" },
    needs: EBPF_NEEDS,
    run: (context) =>
      compareRoutes(context, programs("eBPF"), tracking("routing with conntrack"), { flows: FLOWS }),
  },
  {
    name: "nat/connection-ebpf-table",
    what: "a new connection through our eBPF programs, beside our table",
    target: { ratio: 1, of: "our table" },
    needs: EBPF_NEEDS,
    run: (context) => compareRoutes(context, programs("eBPF"), ours("our table", NETWORK), { flows: FLOWS }),
  },
  {
    name: "nat/connection-chains",
    what: "a new connection through our table, beside 500 iptables chains, one a pod",
    target: { ratio: 1, of: "500 chains" },
    needs: [...NEEDS, "iptables-nft-restore"],
    run: (context) =>
      compareRoutes(context, ours("wayout", NETWORK), chainPerPod("500 chains", 500), {
        pods: 500,
        flows: FLOWS,
      }),
  },
  {
    name: "nat/verify",
    what: "finding an intent in force, once that was found at this generation; beside reading the whole table",
    target: { ratio: 0.5, of: "reading the table" },
    needs: NEEDS,
    async run(context) {
      const route = ours("verify", NETWORK);
      using nat = new NftablesNat({ namespace: route.node });
      using nftables = Nftables.open(route.node);
      const many = (action: () => void) => (): void => {
        for (let count = 0; count < 50; count++) action();
      };
      const measured = await context.compare(
        {
          ours: { name: "wayout", run: many(() => nat.verify(NETWORK)) },
          reference: { name: "reading the table", run: many(() => nftables.table(TABLE)) },
        },
        { rounds: ROUNDS, warmUp: 2 },
      );
      route.close();
      return measured;
    },
  },
];
