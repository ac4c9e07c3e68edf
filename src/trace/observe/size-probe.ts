/** Echoes of several sizes that must not be cut (RFC 1191's “don't fragment”): which of them come through? */
import { SystemError } from "../../linux/errno.ts";
import { InetSocket } from "../../kernel/inet-socket.ts";
import { internetChecksum } from "../../kernel/echo.ts";
import * as libc from "../../kernel/libc.ts";
import type { NetworkNamespace } from "../../kernel/namespace.ts";

const POLLIN = 1;
/** IP packets that links of the wild carry: IPv6's least, VPNs and tunnels, PPPoE, Ethernet. */
const USUAL_SIZES = [576, 1280, 1360, 1380, 1400, 1420, 1440, 1460, 1480, 1492, 1500] as const;
const HEADER_BYTES = { 4: 20 + 8, 6: 40 + 8 } as const;

export interface SizeProbeResult {
  /** Bytes of the whole IP packet. */
  readonly passed: number[];
  /** Not answered, twice, while nobody said that they are too large. */
  readonly lost: number[];
}

/**
 * Sends each usual size up to the link's MTU, and what was not answered once more.
 * @param mtu of the pod's own link
 * @param patienceMs after the last answer; twice in all
 * @throws SystemError EPERM without CAP_NET_RAW, ENETUNREACH
 */
export function probeSizes(
  namespace: NetworkNamespace,
  destination: string,
  mtu: number,
  patienceMs: number,
): SizeProbeResult {
  const family = destination.includes(":") ? 6 : 4;
  using socket = InetSocket.open(namespace, "icmp", family);
  socket.forbidFragments();
  socket.connect({ address: destination, port: 0 });
  const sizes = [...new Set([...USUAL_SIZES.filter((size) => size < mtu), mtu])];
  const probe = new Probe(socket, family);
  probe.round(sizes, patienceMs);
  // Without the smallest nothing can be told, and nobody waits again for the others.
  if (!probe.answered.has(sizes[0]!)) return { passed: [...probe.answered], lost: [] };
  probe.round(
    sizes.filter((size) => !probe.answered.has(size)),
    patienceMs,
  );
  const ascending = (a: number, b: number): number => a - b;
  return {
    passed: [...probe.answered].toSorted(ascending),
    lost: sizes.filter((size) => !probe.answered.has(size) && !probe.told.has(size)),
  };
}

class Probe {
  readonly answered = new Set<number>();
  /** The kernel knows that these do not fit: somebody said so. */
  readonly told = new Set<number>();
  readonly #identifier = Math.floor(Math.random() * 0x1_0000);

  constructor(
    readonly socket: InetSocket,
    readonly family: 4 | 6,
  ) {}

  round(sizes: readonly number[], patienceMs: number): void {
    for (const size of sizes) this.#send(size);
    let deadline = performance.now() + patienceMs;
    while (sizes.some((size) => !this.answered.has(size) && !this.told.has(size))) {
      const left = Math.ceil(deadline - performance.now());
      if (left <= 0) return;
      if (libc.poll([{ fd: this.socket.fd, events: POLLIN, revents: 0 }], left) === 0) return;
      if (this.#take()) deadline = performance.now() + patienceMs;
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
    if (bytes.length < start + 8 || bytes[start] !== (this.family === 4 ? 0 : 129)) return false;
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
    packet[0] = this.family === 4 ? 8 : 128;
    view.setUint16(4, this.#identifier);
    view.setUint16(6, size);
    if (this.family === 4) view.setUint16(2, internetChecksum(packet));
    return packet;
  }
}
