/** The short way of packets whose flow is known: what takes it, what does not, and that nobody is left out by it. */
import { expect } from "bun:test";
import type { NetworkNamespace } from "../../src/kernel/namespace.ts";
import { ebpfCounts } from "../../src/nat/backends/ebpf/flows.ts";
import { EbpfNat } from "../../src/nat/backends/ebpf/ebpf.ts";
import { FastPath } from "../../src/nat/backends/ebpf/fast-path.ts";
import { lookAtFastPath } from "../../src/nat/backends/ebpf/fast-path-look.ts";
import { writeSysctl } from "../../src/kernel/sysctl.ts";
import { masqueradeIntent } from "../../src/nat/intent.ts";
import { buildNodeWorld, type NodeWorld } from "../support/node-world.ts";
import { afterThisTest } from "../support/teardown.ts";
import { ask, testWith } from "../support/witness.ts";
import { until } from "../support/until.ts";

const test = testWith(["root", "real-root", "ip", "nft"]);
const SERVER = { v4: "198.51.100.80", v6: "2001:db8:198::80" } as const;
const PORT = 8090;

/** A pod at a bridge; whoever asks the outside is told as whom he is seen, once for each line. */
function world() {
  const { node, outside, pods } = buildNodeWorld({
    uplink: {
      name: "wan0",
      outsideName: "internet0",
      addresses: ["203.0.113.5/24", "2001:db8:113::5/64"],
      outsideAddresses: ["203.0.113.1/24", "2001:db8:113::1/64"],
      gateways: ["203.0.113.1", "2001:db8:113::1"],
      knownNeighbours: true,
    },
    servers: [`${SERVER.v4}/32`, `${SERVER.v6}/128`],
    pods: [
      {
        interface: "net1",
        hostInterface: "lan0",
        wiring: { bridge: "br0" },
        addresses: ["10.9.0.2/24", "fd00:9::2/64"],
        gateways: ["10.9.0.1/24", "fd00:9::1/64"],
      },
    ],
    forwards: true,
  }) as NodeWorld & { readonly pods: readonly [NetworkNamespace] };
  // On by itself where the kernel has br_netfilter.
  for (const what of ["iptables", "ip6tables"]) writeSysctl(node, `net.bridge.bridge-nf-call-${what}`, "0");
  for (const hostname of ["0.0.0.0", "::"]) {
    const server = outside.run(() =>
      Bun.listen({
        hostname,
        port: PORT,
        ...(hostname === "::" ? { ipv6Only: true } : {}),
        socket: {
          data: (socket, data) => void socket.write(`${socket.remoteAddress} ${data.toString()}`),
        },
      }),
    );
    afterThisTest(() => server.stop(true));
  }
  const nat = new EbpfNat({ namespace: node });
  afterThisTest(() => {
    nat.remove();
    nat[Symbol.dispose]();
  });
  nat.apply(masqueradeIntent("cni/blue", ["10.9.0.0/24", "fd00:9::/64"], { translation: { fullyRandom: false } }));
  return { node, outside, pod: pods[0], intents: nat.intents() };
}

/** A connection that lasts: each line is answered. */
class Talk {
  #heard = "";
  #socket: Bun.Socket | undefined;
  closed = false;

  static async of(pod: NetworkNamespace, server: string): Promise<Talk> {
    const talk = new Talk();
    const socket = await pod.run(() =>
      Bun.connect({
        hostname: server,
        port: PORT,
        socket: {
          data: (_, data) => void (talk.#heard += data.toString()),
          close: () => void (talk.closed = true),
        },
      }),
    );
    talk.#socket = socket;
    afterThisTest(() => socket.end());
    return talk;
  }

  async say(line: string): Promise<string> {
    this.#heard = "";
    this.#socket!.write(`${line}\n`);
    await until(() => this.#heard.endsWith("\n") || this.closed, "an answer");
    return this.#heard;
  }
}

function counted(node: NetworkNamespace) {
  const counts = ebpfCounts(node)!;
  return { out: counts.get("left by the fast path")!, in: counts.get("arrived by the fast path")! };
}

function opened(node: NetworkNamespace): FastPath {
  const fast = FastPath.open(node)!;
  afterThisTest(() => fast[Symbol.dispose]());
  return fast;
}

test("a flow goes on by the short way, and back to the long one when the lease is over", async () => {
  const { node, pod, intents } = world();
  for (const [server, seen] of [
    [SERVER.v4, "203.0.113.5"],
    [SERVER.v6, "2001:db8:113::5"],
  ] as const) {
    const fast = opened(node);
    const talk = await Talk.of(pod, server);
    expect(await talk.say("one")).toBe(`${seen} one\n`);
    const look = lookAtFastPath(node, intents);
    expect(look.obstacles).toEqual([]);
    expect(look.veths.length).toBeGreaterThan(0);
    fast.attach(look);
    const before = counted(node);
    fast.lease.grant(fast.lease.turn, look.uplinks.map(({ index }) => index));
    expect(await talk.say("two")).toBe(`${seen} two\n`);
    const after = counted(node);
    expect(after.out).toBeGreaterThan(before.out);
    expect(after.in).toBeGreaterThan(before.in);
    // The programs have a coarser clock: a moment later it is over for them, too.
    await until(() => fast.lease.state === "absent", "the lease to run out");
    const over = counted(node);
    expect(await talk.say("three")).toBe(`${seen} three\n`);
    expect(counted(node)).toEqual(over);
    fast[Symbol.dispose]();
  }
});
