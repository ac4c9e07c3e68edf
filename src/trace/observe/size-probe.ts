/** Pings of several sizes with DF set (RFC 1191): which of them come through? */
import { ICMP_HEADER_BYTES, IP_HEADER_BYTES } from "../../linux/packet/packet.ts";
import { ipFamily, type IpFamily } from "../../address/ip.ts";
import { SystemError } from "../../linux/errno.ts";
import { InetSocket } from "../../kernel/inet-socket.ts";
import { internetChecksum } from "../../linux/packet/checksum.ts";
import * as libc from "../../kernel/libc.ts";
import type { NetworkNamespace } from "../../kernel/namespace.ts";
import { PacketTap } from "../../kernel/packet-socket.ts";
import { POLLIN } from "../../linux/socket.ts";
import { ECHO_REPLY, ECHO_REQUEST } from "../../linux/icmp.ts";

/** IP packets that links of the wild carry: IPv6's least, VPNs and tunnels, PPPoE, Ethernet. */
const USUAL_SIZES = [576, 1280, 1360, 1380, 1400, 1420, 1440, 1460, 1480, 1492, 1500] as const;
const HEADER_BYTES = {
  4: IP_HEADER_BYTES[4] + ICMP_HEADER_BYTES,
  6: IP_HEADER_BYTES[6] + ICMP_HEADER_BYTES,
} as const;

export interface SizeProbeRequest {
  /** Where it is sent from. */
  readonly pod: NetworkNamespace;
  readonly destination: string;
  /** Of the pod's own link. */
  readonly mtu: number;
  /** After the last answer; twice in all. */
  readonly timeoutMs: number;
  /** Where the packets leave the node; absent when it is not known. */
  readonly uplink?: { readonly node: NetworkNamespace; readonly name: string };
}

export interface SizeProbeResult {
  /** Bytes of the whole IP packet. */
  readonly passed: number[];
  /** Not answered, twice, while nobody said that they are too large. */
  readonly lost: number[];
  /** Of the lost ones: seen leaving by the uplink, and those whose answer was seen coming back to it. */
  readonly left: number[];
  readonly returned: number[];
  /** A router on the way said that these are too large. */
  readonly told: number[];
}

/**
 * Sends each usual size up to the link's MTU, and what was not answered once more.
 * @throws SystemError EPERM without CAP_NET_RAW, ENETUNREACH
 */
export function probeSizes(request: SizeProbeRequest): SizeProbeResult {
  const { pod, destination, mtu, timeoutMs, uplink } = request;
  const family = ipFamily(destination);
  using socket = InetSocket.open(pod, "icmp", family);
  using tap = uplink === undefined ? undefined : uplinkTap(uplink, destination, family);
  socket.forbidFragments();
  socket.connect({ address: destination, port: 0 });
  const sizes = [...new Set([...USUAL_SIZES.filter((size) => size < mtu), mtu])];
  const probe = new Probe(socket, family);
  probe.round(sizes, timeoutMs);
  // Without the smallest nothing can be told, and nobody waits again for the others.
  if (!probe.answered.has(sizes[0]!))
    return { passed: [...probe.answered], lost: [], left: [], returned: [], told: [] };
  probe.round(
    sizes.filter((size) => !probe.answered.has(size)),
    timeoutMs,
  );
  const lost = sizes.filter((size) => !probe.answered.has(size) && !probe.told.has(size));
  const seen = tap?.read(0, MOST_PACKETS) ?? [];
  const wasSeen = (way: "out" | "in") => (size: number) =>
    seen.some(
      ({ packet, direction }) =>
        packet.icmp?.sequence === size &&
        (direction === "out") === (way === "out") &&
        packet.icmp.type === (way === "out" ? ECHO_REQUEST : ECHO_REPLY)[family],
    );
  return {
    passed: [...probe.answered].toSorted((a, b) => a - b),
    lost,
    left: lost.filter(wasSeen("out")),
    returned: lost.filter(wasSeen("in")),
    told: [...probe.told].toSorted((a, b) => a - b),
  };
}

const MOST_PACKETS = 1000;

/** The sequence number is the size: whatever translates the packet keeps it. */
function uplinkTap(
  { node, name }: NonNullable<SizeProbeRequest["uplink"]>,
  destination: string,
  family: IpFamily,
): PacketTap {
  const protocol = family === 4 ? "icmp" : "icmpv6";
  return PacketTap.open(node, { interfaces: [name], filter: [{ protocol, host: destination }] });
}

class Probe {
  readonly answered = new Set<number>();
  /** The kernel knows that these do not fit: a router said so. */
  readonly told = new Set<number>();
  readonly #identifier = Math.floor(Math.random() * 0x1_0000);

  constructor(
    readonly socket: InetSocket,
    readonly family: 4 | 6,
  ) {}

  round(sizes: readonly number[], timeoutMs: number): void {
    for (const size of sizes) this.#send(size);
    let deadline = performance.now() + timeoutMs;
    while (sizes.some((size) => !this.answered.has(size) && !this.told.has(size))) {
      const left = Math.ceil(deadline - performance.now());
      if (left <= 0) return;
      if (libc.poll([{ fd: this.socket.fd, events: POLLIN, revents: 0 }], left) === 0) return;
      if (this.#take()) deadline = performance.now() + timeoutMs;
    }
  }

  #send(size: number): void {
    try {
      this.socket.send(this.#request(size));
    } catch (error) {
      if (!(error instanceof SystemError) || error.code !== "EMSGSIZE") throw error;
      this.told.add(size);
    }
  }

  /** Whether an answer of ours came. */
  #take(): boolean {
    const bytes = this.#receive();
    if (bytes === undefined) return false;
    // A raw IPv4 socket hands over the IP header too; a raw IPv6 socket does not.
    const start = this.family === 4 ? (bytes[0]! & 0x0f) * 4 : 0;
    const view = new DataView(bytes.buffer, bytes.byteOffset);
    if (bytes.length < start + 8 || bytes[start] !== ECHO_REPLY[this.family]) return false;
    if (view.getUint16(start + 4) !== this.#identifier) return false;
    this.answered.add(view.getUint16(start + 6));
    return true;
  }

  /** An error that came back is for no size in particular: sending the next packet of that size tells. */
  #receive(): Uint8Array | undefined {
    try {
      return this.socket.receive();
    } catch (error) {
      if (error instanceof SystemError) return undefined;
      throw error;
    }
  }

  /** The sequence number is the size. */
  #request(size: number): Uint8Array {
    const packet = new Uint8Array(size - HEADER_BYTES[this.family] + 8);
    const view = new DataView(packet.buffer);
    packet[0] = ECHO_REQUEST[this.family];
    view.setUint16(4, this.#identifier);
    view.setUint16(6, size);
    if (this.family === 4) view.setUint16(2, internetChecksum(packet));
    return packet;
  }
}
