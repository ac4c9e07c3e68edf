/**
 * Two worlds that differ in the backend alone. Nobody answers in them by himself: what the ends send and get is told by
 * the test, frame by frame.
 *
 *   pod eth0 ── pods0 ─ br0 [node] up0 192.0.2.1, 2001:db8:113::1 ── out0 [outside]
 */
import { readdirSync } from "node:fs";
import { ipBytes } from "../../../src/address/ip.ts";
import type { NetworkNamespace } from "../../../src/kernel/namespace.ts";
import { setOffload } from "../../../src/kernel/route/offloads.ts";
import { writeSysctl } from "../../../src/kernel/sysctl.ts";
import type { NatBackend } from "../../../src/nat/backend.ts";
import { BpfMap } from "../../../src/kernel/bpf/map.ts";
import { namespaceDirectory } from "../../../src/nat/backends/ebpf/bpf-directory.ts";
import { FLOW, numberKey } from "../../../src/nat/backends/ebpf/layout.ts";
import { Conntrack } from "../../../src/kernel/conntrack/conntrack.ts";
import { EbpfNat } from "../../../src/nat/backends/ebpf/ebpf.ts";
import { NftablesNat } from "../../../src/nat/backends/nftables/nftables.ts";
import { masqueradeIntent, type Translation } from "../../../src/nat/intent.ts";
import { ask, askJson } from "../../support/witness.ts";
import { freshNamespace } from "../../support/world.ts";
import { TunnelEnd, Wire, type Frame, type LinkEnd } from "./wire.ts";

export const NODE = { 4: "192.0.2.1", 6: "2001:db8:113::1" } as const;
/** Links by which a node leaves: a plain one, and a tunnel whose packets come with the sum of all their bytes. */
export const UPLINKS = ["veth", "veth", "vxlan"] as const;
const MARK = { here: ipBytes("10.10.0.1"), there: ipBytes("192.0.2.200") };
/** Nothing takes so long; the machine may be busy. */
const PATIENCE_MS = 20_000;
const AGAIN_MS = 100;
/** Smaller than what pods send, so that the node has to say so, or to make fragments. */
const UPLINK_MTU = 1400;
/** Smaller again, for the way back. */
const POD_MTU = 1320;

export interface WorldOptions {
  /** `tun`: without frames; nothing can be left for it to complete. */
  readonly uplink: (typeof UPLINKS)[number] | "tun";
  readonly translation: Translation;
  /** Rules of others that track connections, beside the programs. */
  readonly tracked?: boolean;
  /** How many flows the programs have room for. */
  readonly flows?: number;
  /** What the node has besides: lines of `ip -batch`, neighbours at the other end of the uplink, rules. */
  readonly besides?: {
    readonly lines: readonly string[];
    readonly neighbours: readonly string[];
    readonly nft?: string;
  };
}

/** What came out at the ends. */
export interface Came {
  readonly pod: readonly Frame[];
  readonly outside: readonly Frame[];
}

export class World implements Disposable {
  readonly node: NetworkNamespace;
  readonly #backend: NatBackend & Disposable;
  readonly #pod: Wire;
  readonly #outside: LinkEnd;
  #marks = 0;

  constructor(
    readonly backend: "nftables" | "ebpf",
    readonly options: WorldOptions,
  ) {
    const [pod, node, outside] = ["pod", "node", "out"].map((name) => freshNamespace(`fuzz-${name}`)) as [
      NetworkNamespace,
      NetworkNamespace,
      NetworkNamespace,
    ];
    this.node = node;
    const tunnel = options.uplink === "tun" ? new TunnelEnd(node, "up0") : undefined;
    build(pod, node, outside, options);
    if (options.besides?.nft !== undefined) ask(node, ["nft", "-f", "-"], options.besides.nft);
    if (options.tracked === true)
      ask(
        node,
        ["nft", "-f", "-"],
        "table inet others { chain f { type filter hook forward priority 0; ct state established accept; }; }",
      );
    this.#backend =
      backend === "ebpf"
        ? new EbpfNat({ namespace: node, flows: options.flows ?? 32_768 })
        : new NftablesNat({ namespace: node });
    const macs = { pod: macOf(pod, "eth0"), bridge: macOf(node, "br0") };
    this.#pod = new Wire(pod, indexOf(pod, "eth0"), { from: macs.pod, to: macs.bridge });
    this.#outside =
      tunnel ??
      new Wire(outside, indexOf(outside, "out0"), {
        from: macOf(outside, "out0"),
        to: macOf(node, "up0"),
      });
    this.apply();
    this.exchange([], []);
  }

  /**
   * Begins without a flow: those of the programs have all expired, the kernel's are deleted one by one. A flush waits for a
   * mutex that all the machine's namespaces share. Nor does the node remember a path's MTU: an error about what only one of
   * the worlds lets out teaches that world alone.
   */
  renew(): void {
    for (const family of ["-4", "-6"]) ask(this.node, ["ip", family, "route", "flush", "cache"]);
    using conntrack = Conntrack.open(this.node);
    conntrack.deleteEntries(conntrack.entries());
    if (this.backend === "ebpf") expireAll(namespaceDirectory(this.node)!);
  }

  apply(): void {
    this.#backend.apply(
      masqueradeIntent("fuzz/pods", ["10.9.0.0/16", "fd00:9::/32"], {
        translation: this.options.translation,
      }),
    );
  }

  /** Sends from both ends, and returns when all of it has gone as far as it goes. */
  exchange(fromPod: readonly Frame[], fromOutside: readonly Frame[]): Came {
    const port = 1 + (this.#marks++ % 65_000);
    const marks = [mark(MARK.here, MARK.there, port), mark(MARK.there, MARK.here, port)] as const;
    this.#pod.send([...fromPod, marks[0]]);
    this.#outside.send([...fromOutside, marks[1]]);
    const came = { pod: [] as Frame[], outside: [] as Frame[] };
    const waiting = new Set<keyof Came>(["pod", "outside"]);
    const begun = performance.now();
    let asked = begun;
    while (waiting.size > 0) {
      // Links that have just come up forward nothing at first.
      if (performance.now() > asked + AGAIN_MS) {
        asked = performance.now();
        this.#pod.send([marks[0]]);
        this.#outside.send([marks[1]]);
      }
      for (const [end, wire] of [
        ["pod", this.#pod],
        ["outside", this.#outside],
      ] as const) {
        for (const frame of wire.receive()) {
          if (!isMark(frame.bytes)) came[end].push(frame);
          else if (new DataView(frame.bytes.buffer, frame.bytes.byteOffset).getUint16(20) === port)
            waiting.delete(end);
        }
      }
      if (performance.now() > begun + PATIENCE_MS)
        throw new Error(`${[...waiting].join(", ")}: the mark did not come`);
    }
    return came;
  }

  [Symbol.dispose](): void {
    this.#pod[Symbol.dispose]();
    this.#outside[Symbol.dispose]();
    this.#backend.remove();
    this.#backend[Symbol.dispose]();
  }
}

function expireAll(directory: string): void {
  using flows = BpfMap.pinned(`${directory}/flows`, "flows")!;
  using cursor = BpfMap.pinned(`${directory}/cursor_map`, "cursor_map")!;
  using fragments = BpfMap.pinned(`${directory}/fragments`, "fragments")!;
  const used = new DataView(cursor.get(numberKey(0))!.buffer).getUint32(4, true);
  for (let slot = 0; slot < used; slot++) {
    const record = flows.get(numberKey(slot))!;
    new DataView(record.buffer, record.byteOffset).setBigUint64(FLOW.expires, 1n, true);
    flows.set(numberKey(slot), record);
  }
  for (const key of fragments.keys()) fragments.delete(key);
}

/** A datagram that nobody translates: behind it, everything has been forwarded that was sent before. */
function mark(from: Uint8Array, to: Uint8Array, port: number): Frame {
  const bytes = new Uint8Array(28);
  const view = new DataView(bytes.buffer);
  bytes[0] = 0x45;
  view.setUint16(2, 28);
  bytes[8] = 64;
  bytes[9] = 17;
  bytes.set(from, 12);
  bytes.set(to, 16);
  let sum = 0;
  for (let at = 0; at < 20; at += 2) sum += view.getUint16(at);
  view.setUint16(10, ~((sum & 0xffff) + (sum >> 16)) & 0xffff);
  view.setUint16(20, port);
  view.setUint16(22, port);
  view.setUint16(24, 8);
  return { bytes };
}

function isMark(bytes: Uint8Array): boolean {
  const is = (at: number, address: Uint8Array): boolean =>
    address.every((byte, index) => bytes[at + index] === byte);
  return (
    bytes[0] === 0x45 &&
    ((is(12, MARK.here) && is(16, MARK.there)) || (is(12, MARK.there) && is(16, MARK.here)))
  );
}

function macOf(namespace: NetworkNamespace, link: string): string {
  return askJson<{ address: string }[]>(namespace, ["ip", "-j", "link", "show", link])[0]!.address;
}

function indexOf(namespace: NetworkNamespace, link: string): number {
  return askJson<{ ifindex: number }[]>(namespace, ["ip", "-j", "link", "show", link])[0]!.ifindex;
}

/** Nothing is said that nobody asked for: no neighbour discovery, no limits for errors, no time that runs out. */
const SYSCTLS: Readonly<Record<string, string>> = {
  "net.ipv4.ip_forward": "1",
  "net.ipv6.conf.all.forwarding": "1",
  "net.ipv4.conf.all.rp_filter": "0",
  "net.ipv4.conf.default.rp_filter": "0",
  "net.ipv4.conf.all.send_redirects": "0",
  "net.ipv4.conf.default.send_redirects": "0",
  "net.ipv6.conf.default.accept_dad": "0",
  "net.ipv6.conf.default.router_solicitations": "0",
  "net.ipv4.icmp_ratemask": "0",
  "net.ipv6.icmp.ratelimit": "0",
  "net.ipv4.ipfrag_time": "600",
  "net.ipv6.ip6frag_time": "600",
};

/** What connection tracking has strict opinions about, ours has none: see the list in docs/ebpf.md. */
const TRACKING: Readonly<Record<string, string>> = {
  "net.netfilter.nf_conntrack_checksum": "0",
  "net.netfilter.nf_conntrack_tcp_loose": "0",
  "net.netfilter.nf_conntrack_tcp_be_liberal": "1",
  "net.netfilter.nf_conntrack_tcp_ignore_invalid_rst": "1",
  "net.netfilter.nf_conntrack_frag6_timeout": "600",
};

function build(
  pod: NetworkNamespace,
  node: NetworkNamespace,
  outside: NetworkNamespace,
  { uplink, besides }: WorldOptions,
): void {
  for (const [name, value] of Object.entries(SYSCTLS)) writeSysctl(node, name, value);
  for (const namespace of [pod, outside]) writeSysctl(namespace, "net.ipv6.conf.default.disable_ipv6", "1");
  batch(node, [
    "link add br0 type bridge forward_delay 0 mcast_snooping 0",
    "link set br0 address 02:00:00:00:09:01 up",
    `link add pods0 type veth peer name eth0 netns ${nameOf(pod)}`,
    "link set pods0 master br0 up",
  ]);
  batch(pod, ["link set eth0 up"]);
  const podMac = macOf(pod, "eth0");
  const outsideMac = uplinkOf(node, outside, uplink);
  const neighbour = (address: string, link: string, mac: string | undefined): string[] =>
    mac === undefined ? [] : [`neigh replace ${address} lladdr ${mac} dev ${link} nud permanent`];
  batch(node, [
    "link set up0 mtu 1500 up",
    `address add ${NODE[4]}/25 dev up0`,
    `address add ${NODE[6]}/64 dev up0 nodad`,
    "address add 10.9.255.1/24 dev br0",
    "address add fd00:9:ffff::1/64 dev br0 nodad",
    ...["192.0.2.2", "2001:db8:113::2", ...(besides?.neighbours ?? [])].flatMap((address) =>
      neighbour(address, "up0", outsideMac),
    ),
    ...["10.9.255.2", "fd00:9:ffff::2"].flatMap((address) => neighbour(address, "br0", podMac)),
    `route add default via 192.0.2.2 mtu lock ${UPLINK_MTU}`,
    `route add default via 2001:db8:113::2 mtu lock ${UPLINK_MTU}`,
    `route add 10.9.0.0/16 via 10.9.255.2 mtu lock ${POD_MTU}`,
    "route add 10.10.0.0/24 via 10.9.255.2",
    `route add fd00:9::/32 via fd00:9:ffff::2 mtu lock ${POD_MTU}`,
    ...(besides?.lines ?? []),
  ]);
  for (const [name, value] of Object.entries(TRACKING)) writeSysctl(node, name, value);
  // On a busy machine a lane takes longer than the shortest of them.
  const names = node.run(() => readdirSync("/proc/sys/net/netfilter"));
  for (const name of names.filter((one) => /_timeout(_|$)/.test(one) && !one.endsWith("established")))
    writeSysctl(node, `net.netfilter.${name}`, "3600");
}

/** The Ethernet address of the other end, where there is one. */
function uplinkOf(
  node: NetworkNamespace,
  outside: NetworkNamespace,
  uplink: WorldOptions["uplink"],
): string | undefined {
  if (uplink === "tun") return undefined;
  const isPlain = uplink === "veth";
  const [under, over, mtu] = isPlain ? ["up0", "out0", 1500] : ["under0", "over0", 1600];
  batch(node, [
    `link add ${under} mtu ${mtu} type veth peer name ${over} mtu ${mtu} netns ${nameOf(outside)}`,
    `link set ${under} up`,
  ]);
  batch(outside, [`link set ${over} up`]);
  if (!isPlain) {
    batch(node, ["address add 192.0.2.129/30 dev under0", tunnel("up0", "192.0.2.129", "192.0.2.130")]);
    batch(outside, ["address add 192.0.2.130/30 dev over0", tunnel("out0", "192.0.2.130", "192.0.2.129")]);
    // A checksum that was really looked at becomes the sum of what is inside.
    for (const [namespace, link] of [
      [node, "under0"],
      [outside, "over0"],
    ] as const)
      setOffload(namespace, indexOf(namespace, link), "tx-checksum-ip-generic", false);
  }
  batch(outside, ["link set out0 mtu 1500 up"]);
  return macOf(outside, "out0");
}

function tunnel(name: string, local: string, remote: string): string {
  return `link add ${name} type vxlan id 7 local ${local} remote ${remote} dstport 4789 udpcsum`;
}

function nameOf(namespace: NetworkNamespace): string {
  return namespace.name!;
}

function batch(namespace: NetworkNamespace, lines: readonly string[]): void {
  ask(namespace, ["ip", "-batch", "-"], lines.join("\n"));
}
