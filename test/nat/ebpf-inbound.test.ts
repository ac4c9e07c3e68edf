/** Who talks to a pod by its own address is answered as the pod, by whichever way he comes, whatever becomes of the programs. */
import { expect } from "bun:test";
import { EchoSocket } from "../../src/kernel/echo.ts";
import { renameFile } from "../../src/kernel/file.ts";
import type { NetworkNamespace } from "../../src/kernel/namespace.ts";
import { writeSysctl } from "../../src/kernel/sysctl.ts";
import { namespaceDirectory } from "../../src/nat/backends/ebpf/bpf-directory.ts";
import { EbpfNat } from "../../src/nat/backends/ebpf/ebpf.ts";
import { ebpfCounts } from "../../src/nat/backends/ebpf/flows.ts";
import { masqueradeIntent } from "../../src/nat/intent.ts";
import { afterThisTest } from "../support/teardown.ts";
import { ask, testWith } from "../support/witness.ts";
import { awaitNeighbour, freshNamespace } from "../support/world.ts";
import { packets, readPacket, TCP, transportBytes, UDP, type Transport } from "./fuzz/packets.ts";
import { stayOnOneProcessor } from "./fuzz/wire.ts";
import { World } from "./fuzz/worlds.ts";
import { CLIENT, UPLINK, world } from "./three-namespaces.ts";
import { ipBytes } from "../../src/address/ip.ts";
import { FLAGS } from "./fuzz/packets.ts";

const test = testWith(["root", "real-root", "ip", "bash"]);
const INTENT = masqueradeIntent("cni/blue", ["10.9.0.0/16", "fd00:9::/64"]);
const PORT = 7100;
const ROOM = { first: 4096, more: 8192 } as const;

interface Three {
  readonly node: NetworkNamespace;
  readonly outside: NetworkNamespace;
}

/** Who comes: from where, and what the pod sees as his addresses. */
interface Way {
  readonly from: (three: Three) => NetworkNamespace;
  readonly seen: readonly [v4: string, v6: string];
}

function lines(namespace: NetworkNamespace, ...text: string[]): void {
  ask(namespace, ["ip", "-batch", "-"], text.join("\n"));
}

/** Somebody at a link of the node's of its own; `lines` for him, with `link` as its name at his end. */
function neighbour(
  node: NetworkNamespace,
  make: (far: NetworkNamespace) => void,
  [link, here]: readonly [string, string],
): NetworkNamespace {
  const far = freshNamespace("far");
  writeSysctl(far, "net.ipv6.conf.all.accept_dad", "0");
  writeSysctl(far, "net.ipv6.conf.default.accept_dad", "0");
  make(far);
  lines(
    node,
    `address add 192.0.2.1/25 dev ${here}`,
    `address add 2001:db8:192::1/64 dev ${here} nodad`,
    `link set ${here} up`,
  );
  lines(
    far,
    `address add 192.0.2.2/25 dev ${link}`,
    `address add 2001:db8:192::2/64 dev ${link} nodad`,
    `link set ${link} up`,
    "route add default via 192.0.2.1",
    "route add default via 2001:db8:192::1",
  );
  awaitNeighbour(far, "2001:db8:192::1");
  return far;
}

const BESIDE = ["192.0.2.2", "2001:db8:192::2"] as const;

const WAYS: Readonly<Record<string, Way>> = {
  "the uplink": { from: ({ outside }) => outside, seen: ["203.0.113.1", "2001:db8:113::1"] },
  "a second interface": {
    from: ({ node }) =>
      neighbour(node, (far) => lines(node, `link add second0 type veth peer name far0 netns ${far.name}`), [
        "far0",
        "second0",
      ]),
    seen: BESIDE,
  },
  "a tunnel over the uplink": {
    from: ({ node, outside }) =>
      neighbour(
        node,
        (far) => {
          const end = (name: string, local: string, remote: string): string =>
            `link add ${name} type vxlan id 7 local ${local} remote ${remote} dstport 4789`;
          lines(node, end("vx0", "203.0.113.5", "203.0.113.1"));
          lines(outside, end("vx0", "203.0.113.1", "203.0.113.5"), `link set vx0 netns ${far.name}`);
        },
        ["vx0", "vx0"],
      ),
    seen: BESIDE,
  },
  "a second interface, and the answers leave by the uplink": {
    from: ({ node, outside }) => {
      const far = neighbour(
        node,
        (one) => lines(node, `link add second0 type veth peer name far0 netns ${one.name}`),
        ["far0", "second0"],
      );
      for (const family of ["ipv4.ip_forward", "ipv6.conf.all.forwarding"])
        writeSysctl(outside, `net.${family}`, "1");
      for (const namespace of [node, far, outside])
        for (const which of ["all", "default", ...(namespace === node ? [UPLINK, "second0"] : [])])
          writeSysctl(namespace, `net.ipv4.conf.${which}.rp_filter`, "0");
      lines(outside, `link add back0 type veth peer name back1 netns ${far.name}`);
      lines(
        far,
        "address add 198.51.100.90/32 dev lo",
        "address add 2001:db8:90::90/128 dev lo nodad",
        "link set back1 up",
        "address add 192.0.2.130/30 dev back1",
        "address add 2001:db8:91::2/64 dev back1 nodad",
        "route replace default via 192.0.2.1 src 198.51.100.90",
        "route replace default via 2001:db8:192::1 src 2001:db8:90::90",
      );
      lines(
        outside,
        "link set back0 up",
        "address add 192.0.2.129/30 dev back0",
        "address add 2001:db8:91::1/64 dev back0 nodad",
        "route add 198.51.100.90/32 via 192.0.2.130",
        "route add 2001:db8:90::90/128 via 2001:db8:91::2",
      );
      awaitNeighbour(outside, "2001:db8:91::2");
      return far;
    },
    seen: ["198.51.100.90", "2001:db8:90::90"],
  },
};

/** Repeats what it hears, by TCP and UDP; tells who spoke. */
async function podServer(pod: NetworkNamespace): Promise<Set<string>> {
  const seen = new Set<string>();
  const told = (address: string): void => void seen.add(address.replace(/^::ffff:/, ""));
  const tcp = pod.run(() =>
    Bun.listen({
      hostname: "::",
      port: PORT,
      socket: {
        open: (socket) => told(socket.remoteAddress),
        data: (socket, bytes) => void socket.write(bytes),
      },
    }),
  );
  afterThisTest(() => tcp.stop(true));
  for (const hostname of [CLIENT.v4, CLIENT.v6]) {
    const udp = await pod.run(() =>
      Bun.udpSocket({
        hostname,
        port: PORT,
        socket: {
          data(socket, bytes, port, address) {
            told(address);
            socket.send(bytes, port, address);
          },
        },
      }),
    );
    afterThisTest(() => udp.close());
  }
  return seen;
}

/** One exchange: says something, and tells whether it came back, from the one whom it was said to. */
type Exchange = () => Promise<boolean>;

/** Nothing takes so long; the machine may be busy. */
const PATIENCE_MS = 10_000;

async function heard(what: { promise: Promise<boolean> }): Promise<boolean> {
  const timer = Promise.withResolvers<boolean>();
  const clock = setTimeout(() => timer.resolve(false), PATIENCE_MS);
  const answer = await Promise.race([what.promise, timer.promise]);
  clearTimeout(clock);
  return answer;
}

async function overTcp(from: NetworkNamespace, hostname: string): Promise<Exchange> {
  let answered = Promise.withResolvers<boolean>();
  const socket = await from.run(() =>
    Bun.connect({
      hostname,
      port: PORT,
      socket: { data: () => answered.resolve(true), close: () => answered.resolve(false) },
    }),
  );
  afterThisTest(() => socket.terminate());
  return () => {
    answered = Promise.withResolvers<boolean>();
    socket.write("hello");
    return heard(answered);
  };
}

async function overUdp(from: NetworkNamespace, hostname: string): Promise<Exchange> {
  let answered = Promise.withResolvers<boolean>();
  // Connected: what came from another address would not be heard.
  const socket = await from.run(() =>
    Bun.udpSocket({
      hostname: hostname.includes(":") ? "::" : "0.0.0.0",
      connect: { hostname, port: PORT },
      socket: { data: () => answered.resolve(true) },
    }),
  );
  afterThisTest(() => socket.close());
  return () => {
    answered = Promise.withResolvers<boolean>();
    socket.send("hello");
    return heard(answered);
  };
}

function overIcmp(from: NetworkNamespace, hostname: string): Exchange {
  const socket = new EchoSocket(from, hostname.includes(":") ? 6 : 4);
  afterThisTest(() => socket[Symbol.dispose]());
  return () => {
    socket.send(hostname);
    return Promise.resolve(socket.wait(PATIENCE_MS) && socket.replies().length > 0);
  };
}

async function exchanges(from: NetworkNamespace): Promise<[what: string, go: Exchange][]> {
  const found: [string, Exchange][] = [];
  for (const address of [CLIENT.v4, CLIENT.v6])
    found.push(
      [`TCP ${address}`, await overTcp(from, address)],
      [`UDP ${address}`, await overUdp(from, address)],
      [`ICMP ${address}`, overIcmp(from, address)],
    );
  return found;
}

for (const [name, way] of Object.entries(WAYS))
  test(`by ${name}: TCP, UDP and ICMP are answered by the pod as itself, also when the programs are replaced`, async () => {
    const { client, node, outside } = world();
    const from = way.from({ node, outside });
    const seen = await podServer(client);
    using nat = new EbpfNat({ namespace: node, flows: ROOM.first });
    afterThisTest(() => {
      using last = new EbpfNat({ namespace: node });
      last.remove();
    });
    nat.apply(INTENT);
    const all = await exchanges(from);
    const answered = async (): Promise<[string, boolean][]> => {
      const answers: [string, boolean][] = [];
      for (const [what, go] of all) answers.push([what, await go()]);
      return answers;
    };
    const wanted = (): [string, boolean][] => all.map(([what]) => [what, true]);
    expect(await answered()).toEqual(wanted());
    // As after an update: the claims name other programs.
    const claims = `${namespaceDirectory(node)!}/claims`;
    renameFile(claims, `${claims}-gone`);
    nat.apply(INTENT);
    expect(await answered()).toEqual(wanted());
    using larger = new EbpfNat({ namespace: node, flows: ROOM.more });
    larger.apply(INTENT);
    expect(await answered()).toEqual(wanted());
    all.push(...(await exchanges(from)));
    expect(await answered()).toEqual(wanted());
    expect([...seen].toSorted()).toEqual([...way.seen].toSorted());
    expect(ebpfCounts(node)!.get("begun")).toBe(0n);
  });

test("by a link without frames: TCP, UDP and ICMP are answered by the pod as itself, also when the programs are replaced", () => {
  using _processor = stayOnOneProcessor();
  using tunnel = new World("ebpf", { uplink: "tun", translation: { fullyRandom: false } });
  const { syn, ack, psh } = FLAGS;
  const segment = (flags: number, seq: number, acknowledged: number, length = 0): Transport => ({
    protocol: TCP,
    flags,
    seq,
    ack: acknowledged,
    length,
  });
  const replace = (): void => {
    const claims = `${namespaceDirectory(tunnel.node)!}/claims`;
    renameFile(claims, `${claims}-gone`);
    tunnel.apply();
  };
  for (const [peer, pod] of [
    [ipBytes("203.0.113.7"), ipBytes("10.9.0.2")],
    [ipBytes("2001:db8::7"), ipBytes("fd00:9::2")],
  ] as const) {
    const protocol = peer.length === 4 ? 1 : 58;
    const [question, answer] = peer.length === 4 ? [8, 0] : [128, 129];
    const talk: readonly (readonly [toPod: Transport, fromPod: Transport])[] = [
      [segment(syn, 1, 0), segment(syn | ack, 9, 2)],
      [segment(ack | psh, 2, 10, 20), segment(ack | psh, 10, 22, 20)],
      [
        { protocol: UDP, length: 20 },
        { protocol: UDP, length: 20 },
      ],
      [
        { protocol, type: question, length: 20 },
        { protocol, type: answer, length: 20 },
      ],
    ];
    for (const [at, [toPod, fromPod]] of [...talk, ...talk.slice(1)].entries()) {
      if (at === 1 || at === talk.length) replace();
      const isNumbered = toPod.protocol === protocol;
      const [mine, his] = [isNumbered ? 77 : 5000, isNumbered ? 77 : 80];
      const going = { source: peer, destination: pod, sourcePort: mine, destinationPort: his };
      const coming = { source: pod, destination: peer, sourcePort: his, destinationPort: mine };
      const frame = (ends: typeof going, what: Transport) =>
        packets(ends, what.protocol, transportBytes(ends, what, {}, at), {}, at + 1);
      const came = (frames: readonly { bytes: Uint8Array }[], of: number): string[] =>
        frames
          .map(({ bytes }) => readPacket(bytes)!)
          .filter(({ protocol: one }) => one === of)
          .map(({ source }) => source);
      expect(came(tunnel.exchange([], frame(going, toPod)).pod, toPod.protocol)).toContain(peer.toHex());
      expect(came(tunnel.exchange(frame(coming, fromPod), []).outside, fromPod.protocol)).toContain(
        pod.toHex(),
      );
    }
  }
  expect(ebpfCounts(tunnel.node)!.get("begun")).toBe(0n);
});
