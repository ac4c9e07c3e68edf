/**
 * What the short way of the eBPF programs saves: packets of flows that are known, through a node with a bridge as CNI makes
 * it. A client's sendto(2) returns when the node has passed the packet on; an echo in the outside's thread answers.
 */
import { closeSync, writeFileSync } from "node:fs";
import * as libc from "../src/kernel/libc.ts";
import { createNamedNamespace } from "../src/kernel/named-namespace.ts";
import { NetworkNamespace } from "../src/kernel/namespace.ts";
import { EbpfNat } from "../src/nat/backends/ebpf/ebpf.ts";
import { FastPath } from "../src/nat/backends/ebpf/fast-path.ts";
import { lookAtFastPath } from "../src/nat/backends/ebpf/fast-path-look.ts";
import { ebpfCounts } from "../src/nat/backends/ebpf/flows.ts";
import { Lease } from "../src/nat/backends/ebpf/lease.ts";
import { NETLINK_NETFILTER } from "../src/kernel/netlink/transport.ts";
import { TurnThread } from "../src/kernel/netlink/turn-thread.ts";
import { Nftables } from "../src/kernel/nftables/nftables.ts";
import { addTable, destroyTable } from "../src/linux/nftables/commands.ts";
import { NFNLGRP_NFTABLES } from "../src/linux/nftables/messages.ts";
import { socketAddress } from "../src/kernel/inet-socket.ts";
import { AF_INET, SOCK_DGRAM } from "../src/linux/socket.ts";
import { masqueradeIntent } from "../src/nat/intent.ts";
import { ask } from "../test/support/witness.ts";
import type { Benchmark, Measurement, Side } from "./benchmark.ts";

const PACKETS = 20_000;
const QUESTIONS = 2_000;
const ROUNDS = 15;
/** Of 64 bytes with its headers of IP and UDP. */
const PAYLOAD = new Uint8Array(36);
const PORT = 7;
/** What the sending thread worked, and not what others of the machine did meanwhile. */
const CLOCK_THREAD_CPUTIME_ID = 3;

let namespaces = 0;

class Way {
  readonly node: NetworkNamespace;
  readonly #client: NetworkNamespace;
  readonly #outside: NetworkNamespace;
  readonly #sockets: number[] = [];
  #fast: FastPath | undefined;
  #uplinks: number[] = [];

  constructor(readonly name: string) {
    const [client, node, outside] = ["c", "n", "o"].map((role) => {
      const own = `f-${role}-${++namespaces}`;
      createNamedNamespace(own);
      return NetworkNamespace.named(own);
    }) as [NetworkNamespace, NetworkNamespace, NetworkNamespace];
    this.node = node;
    this.#client = client;
    this.#outside = outside;
    const ip = (namespace: NetworkNamespace, lines: string): string =>
      ask(namespace, ["ip", "-batch", "-"], lines);
    ip(
      node,
      `link add br0 type bridge
       link add pod0 type veth peer name eth0 netns ${client.name}
       link add eth0 type veth peer name eth0 netns ${outside.name}
       address add 10.9.0.1/16 dev br0
       address add 203.0.113.5/24 dev eth0
       link set pod0 master br0 up
       link set br0 up
       link set eth0 up
       route add default via 203.0.113.1`,
    );
    ip(client, "address add 10.9.0.2/16 dev eth0\nlink set eth0 up\nroute add default via 10.9.0.1");
    ip(
      outside,
      "address add 203.0.113.1/24 dev eth0\nlink set eth0 up\nlink set lo up\nroute add 10.9.0.0/16 via 203.0.113.5",
    );
    node.run(() => {
      writeFileSync("/proc/sys/net/ipv4/ip_forward", "1");
      for (const what of ["iptables", "ip6tables"])
        writeFileSync(`/proc/sys/net/bridge/bridge-nf-call-${what}`, "0");
    });
  }

  /** As a policy with the backend ebpf makes it. */
  translated(fast: boolean): this {
    using nat = new EbpfNat({ namespace: this.node, flows: 1 << 16 });
    nat.apply(masqueradeIntent("bench", ["10.9.0.0/16"], { translation: { fullyRandom: false } }));
    if (fast) this.#fast = FastPath.open(this.node)!;
    return this;
  }

  tracked(): this {
    ask(
      this.node,
      ["nft", "-f", "-"],
      "table ip t { chain f { type filter hook forward priority 0; ct state established accept; }; }",
    );
    return this;
  }

  /** Known to everybody on the way: neighbours, the bridge, the programs. */
  #begin(): void {
    ask(this.#client, ["ping", "-c", "2", "-i", "0.01", "203.0.113.1"]);
    if (this.#fast === undefined) return;
    const look = lookAtFastPath(this.node, this.#fast.intents);
    if (look.obstacles.length > 0) throw new Error(`the short way is closed: ${look.obstacles.join("; ")}`);
    this.#fast.attach(look);
    this.#uplinks = look.uplinks.map(({ index }) => index);
  }

  /** Begins a sample; what it returns ends it. @throws Error there, where the packets did not go the short way */
  #sample(packets: number): () => void {
    const fast = this.#fast;
    if (fast === undefined) return () => {};
    fast.lease.grant(fast.lease.turn, this.#uplinks);
    const before = this.#counted();
    return () => {
      if (this.#counted() - before < packets * 0.9) throw new Error("they did not go the short way");
    };
  }

  #counted(): number {
    const counts = ebpfCounts(this.node);
    return Number(counts?.get("left by the fast path") ?? 0n);
  }

  /** A sample is PACKETS datagrams of one flow. */
  datagrams(): Side {
    const address = socketAddress({ address: "203.0.113.1", port: PORT });
    // Somebody takes them: refusals would be half of the work.
    const sink = this.#outside.run(() => libc.socket(AF_INET, SOCK_DGRAM, 0));
    libc.bind(sink, address);
    const socket = this.#client.run(() => libc.socket(AF_INET, SOCK_DGRAM, 0));
    this.#sockets.push(sink, socket);
    this.#begin();
    libc.sendto(socket, PAYLOAD, address);
    return {
      name: this.name,
      run: () => {
        const end = this.#sample(PACKETS);
        const start = libc.clockUs(CLOCK_THREAD_CPUTIME_ID);
        for (let count = 0; count < PACKETS; count++) libc.sendto(socket, PAYLOAD, address);
        const took = (libc.clockUs(CLOCK_THREAD_CPUTIME_ID) - start) / 1e3;
        end();
        return took;
      },
    };
  }

  /** A sample is QUESTIONS of one byte over a connection of TCP, each asked when the one before was answered. */
  async questions(): Promise<Side> {
    const server = this.#outside.run(() =>
      Bun.listen({
        hostname: "203.0.113.1",
        port: PORT,
        socket: { data: (peer, data) => void peer.write(data) },
      }),
    );
    let answered: () => void = () => {};
    let left = 0;
    const byte = Uint8Array.of(1);
    const socket = await this.#client.run(() =>
      Bun.connect({
        hostname: "203.0.113.1",
        port: PORT,
        socket: {
          data: (peer) => {
            if (--left <= 0) answered();
            else peer.write(byte);
          },
        },
      }),
    );
    socket.setNoDelay(true);
    this.#begin();
    server.unref();
    return {
      name: this.name,
      run: async () => {
        const end = this.#sample(QUESTIONS);
        left = QUESTIONS;
        const { promise, resolve } = Promise.withResolvers<void>();
        answered = resolve;
        const start = Bun.nanoseconds();
        socket.write(byte);
        await promise;
        const took = (Bun.nanoseconds() - start) / 1e6;
        end();
        return took;
      },
    };
  }

  close(): void {
    this.#fast?.[Symbol.dispose]();
    for (const socket of this.#sockets) closeSync(socket);
  }
}

async function compared(
  context: Parameters<Benchmark["run"]>[0],
  other: Way,
  what: "datagrams" | "questions",
): Promise<Measurement> {
  const fast = new Way("eBPF, fast path").translated(true);
  try {
    const measured = await context.compare(
      { ours: await fast[what](), reference: await other[what]() },
      { rounds: ROUNDS, warmUp: 2 },
    );
    const each = what === "datagrams" ? PACKETS : QUESTIONS;
    const scaled = (samples: NonNullable<Measurement["reference"]>) => ({
      name: samples.name,
      values: samples.values.map((value) => (value * 1000) / each),
    });
    return { unit: "µs", ours: scaled(measured.ours), reference: scaled(measured.reference!) };
  } finally {
    fast.close();
    other.close();
  }
}

const NEEDS = ["root", "real-root", "ip", "nft", "ping"];

export const benchmarks: readonly Benchmark[] = [
  {
    name: "nat-fast-path/datagram-routing",
    what: "a datagram of 64 bytes by the short way, beside plain routing",
    target: { ratio: 0.87, of: "plain routing" },
    needs: NEEDS,
    run: (context) => compared(context, new Way("plain routing"), "datagrams"),
  },
  {
    name: "nat-fast-path/datagram-tracking",
    what: "a datagram of 64 bytes by the short way, beside routing with connection tracking",
    needs: NEEDS,
    run: (context) => compared(context, new Way("routing with conntrack").tracked(), "datagrams"),
  },
  {
    name: "nat-fast-path/datagram-programs",
    what: "a datagram of 64 bytes by the short way, beside the long one",
    needs: NEEDS,
    run: (context) => compared(context, new Way("eBPF").translated(false), "datagrams"),
  },
  {
    name: "nat-fast-path/withdrawal",
    what: "from a transaction of nf_tables that is done until the short way is closed",
    target: { ratio: 1, of: "50 ms" },
    needs: NEEDS,
    async run(context) {
      const way = new Way("withdrawal").translated(true);
      using lease = Lease.of(way.node)!;
      const thread = new TurnThread(
        way.node,
        lease.turnAddress,
        [{ protocol: NETLINK_NETFILTER, groups: [NFNLGRP_NFTABLES] }],
        [],
        () => {},
      );
      while (!thread.counts) await Bun.sleep(1);
      using nftables = Nftables.open(way.node);
      const table = { family: "inet", table: "other" } as const;
      const measured = await context.compare(
        {
          ours: {
            name: "wayout",
            run: () => {
              const { turn } = lease;
              nftables.transaction([...destroyTable(table), addTable(table)], "loading a table");
              const done = Bun.nanoseconds();
              while (lease.turn === turn);
              return (Bun.nanoseconds() - done) / 1e6;
            },
          },
        },
        { rounds: 50, warmUp: 3 },
      );
      await thread.close();
      way.close();
      return { ...measured, reference: context.budget("50 ms", 50) };
    },
  },
  {
    name: "nat-fast-path/question-routing",
    what: "a question of one byte and its answer by the short way, beside plain routing",
    target: { ratio: 0.9, of: "plain routing" },
    needs: NEEDS,
    run: (context) => compared(context, new Way("plain routing"), "questions"),
  },
  {
    name: "nat-fast-path/question-tracking",
    what: "a question of one byte and its answer by the short way, beside routing with connection tracking",
    target: { ratio: 0.9, of: "routing with conntrack" },
    needs: NEEDS,
    run: (context) => compared(context, new Way("routing with conntrack").tracked(), "questions"),
  },
];
