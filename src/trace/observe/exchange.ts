/** The real exchange that a trace makes, from a socket in the pod's own namespace. Advanced by the collector's loop. */
import { internetChecksum } from "../../linux/packet/checksum.ts";
import type { IpFamily } from "../../address/ip.ts";
import { errnoName, errnoText, SystemError } from "../../linux/errno.ts";
import { InetSocket } from "../../kernel/inet-socket.ts";
import * as libc from "../../kernel/libc.ts";
import type { NetworkNamespace } from "../../kernel/namespace.ts";
import { VERSION } from "../../version.ts";
import type { TraceProtocol } from "./destination.ts";
import { question } from "./dns-message.ts";
import { POLLERR, POLLHUP, POLLIN, POLLOUT } from "../../linux/socket.ts";
import { ECHO_REPLY, ECHO_REQUEST } from "../../linux/icmp.ts";

export interface ExchangePlan {
  readonly protocol: TraceProtocol;
  readonly family: IpFamily;
  readonly destination: string;
  /** Absent for ICMP. */
  readonly port?: number;
  readonly http?: { readonly host: string; readonly path: string };
  /** Bytes of payload of a UDP datagram or an echo request, sent with fragmentation forbidden. */
  readonly sizeBytes?: number;
}

/** How the exchange stands. `code` is an errno's name. */
export type ExchangeState =
  | { readonly kind: "waiting" }
  /** `what`: "connection established", "echo reply", "HTTP/1.1 200 OK". */
  | { readonly kind: "answered"; readonly what: string }
  /** The destination itself said no: the way there and back is open. */
  | { readonly kind: "refused"; readonly what: string }
  | { readonly kind: "failed"; readonly code: string; readonly said: string };

const MOST_HTTP_BYTES = 1024 * 1024;

/** One exchange. Its own end is known before anything is sent. */
export class Exchange implements Disposable {
  readonly #socket: InetSocket;
  #localPort: number | undefined;
  #state: ExchangeState = { kind: "waiting" };
  #connecting = false;
  #received = Buffer.alloc(0);
  /** When the socket had its answer, microseconds since the epoch. */
  deliveredUs: number | undefined;
  /** Whether a TCP connection was made, whatever came of the request over it. */
  connected = false;
  /** Our own address, once connected; the kernel chooses it by the route. */
  localAddress: string | undefined;

  private constructor(
    socket: InetSocket,
    readonly plan: ExchangePlan,
    echoId: number | undefined,
    readonly token: Uint8Array,
  ) {
    this.#socket = socket;
    this.#localPort = echoId;
  }

  /** Our port, or the id of the echo request; undefined until the kernel has found one. */
  get localPort(): number | undefined {
    return this.#localPort;
  }

  /** @throws SystemError EPERM for ICMP without CAP_NET_RAW, EAFNOSUPPORT without IPv6 */
  static open(namespace: NetworkNamespace, plan: ExchangePlan): Exchange {
    const socket = InetSocket.open(namespace, plan.protocol, plan.family);
    try {
      if (plan.sizeBytes !== undefined) socket.forbidFragments();
      const token = crypto.getRandomValues(new Uint8Array(8));
      if (plan.protocol === "icmp")
        return new Exchange(socket, plan, (token[0]! << 8) | token[1]! | 1, token);
      const exchange = new Exchange(socket, plan, undefined, token);
      exchange.#takePort();
      return exchange;
    } catch (error) {
      socket.close();
      throw error;
    }
  }

  get fd(): number {
    return this.#socket.fd;
  }

  /** What to wait for with poll(2). */
  get events(): number {
    return this.#connecting ? POLLOUT : POLLIN;
  }

  get state(): ExchangeState {
    return this.#state;
  }

  /**
   * Where every port is taken by some connection, one may still be free toward this destination: connect(2) finds it,
   * as it would for a program of the pod.
   */
  #takePort(): void {
    try {
      this.#socket.bindAnyPort();
      this.#localPort = this.#socket.local().port;
    } catch (error) {
      if (!(error instanceof SystemError)) throw error;
      if (error.code !== "EADDRINUSE") this.#fail(error.errno);
    }
  }

  /** Sends the first packet. */
  begin(): void {
    const { plan } = this;
    if (this.#state.kind !== "waiting") return;
    this.#attempt(() => {
      const connected = this.#socket.connect({ address: plan.destination, port: plan.port ?? 0 });
      const own = this.#socket.local();
      this.localAddress = own.address;
      this.#localPort ??= own.port;
      if (plan.protocol === "tcp") this.#connecting = !connected;
      else this.#socket.send(plan.protocol === "udp" ? this.#datagram() : this.#echoRequest());
      if (plan.protocol === "tcp" && connected) this.#connected();
    });
  }

  /** Does what can be done without waiting. */
  advance(): void {
    if (this.#state.kind !== "waiting") return;
    if (!this.#socket.ready(this.events | POLLERR | POLLHUP)) return;
    this.#attempt(() => {
      if (this.plan.protocol === "tcp") this.#advanceTcp();
      else this.#advanceDatagram();
    });
  }

  close(): void {
    this.#socket.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #attempt(step: () => void): void {
    try {
      step();
    } catch (error) {
      if (!(error instanceof SystemError)) throw error;
      this.#fail(error.errno);
    }
  }

  #fail(errno: number): void {
    const code = errnoName(errno);
    const said = errnoText(errno);
    if (code === "ECONNREFUSED" || code === "ECONNRESET") this.#end({ kind: "refused", what: said });
    else this.#state = { kind: "failed", code, said };
  }

  #end(state: ExchangeState): void {
    this.deliveredUs ??= libc.clockUs(0);
    this.#state = state;
  }

  #advanceTcp(): void {
    if (this.#connecting) {
      const errno = this.#socket.pendingError();
      if (errno !== 0) {
        this.#fail(errno);
        return;
      }
      this.#connecting = false;
      this.#connected();
      return;
    }
    const bytes = this.#socket.receive();
    if (bytes === undefined) return;
    this.#received = Buffer.concat([this.#received, bytes]);
    if (bytes.length === 0 || this.#received.length > MOST_HTTP_BYTES) {
      const status = /^HTTP\/[^\r\n]*/.exec(this.#received.toString("latin1"))?.[0];
      const length = `${this.#received.length} bytes`;
      if (status === undefined) this.#end({ kind: "answered", what: `${length} that are no HTTP` });
      else this.#end({ kind: "answered", what: `${status}, ${length}` });
    }
  }

  #connected(): void {
    this.connected = true;
    const { http } = this.plan;
    if (http === undefined) {
      this.#end({ kind: "answered", what: "connection established" });
      return;
    }
    this.deliveredUs = libc.clockUs(0);
    const lines = [
      `GET ${http.path} HTTP/1.1`,
      `Host: ${http.host}`,
      `User-Agent: wayout/${VERSION}`,
      "Connection: close",
    ];
    this.#socket.send(Buffer.from(`${lines.join("\r\n")}\r\n\r\n`));
  }

  #advanceDatagram(): void {
    const bytes = this.#socket.receive();
    if (bytes === undefined) return;
    if (this.plan.protocol === "udp") {
      this.#end({ kind: "answered", what: `a datagram of ${bytes.length} bytes` });
    } else if (this.#isOurEcho(bytes)) {
      this.#end({ kind: "answered", what: "echo reply" });
    }
  }

  /** To a nameserver a question it can answer; to any other server some bytes that are only ours. */
  #datagram(): Uint8Array {
    const { port, sizeBytes } = this.plan;
    if (port === 53 && sizeBytes === undefined)
      return question((this.token[0]! << 8) | this.token[1]!, "wayout.test", 4);
    return this.#payload(sizeBytes ?? 32);
  }

  #payload(size: number): Uint8Array {
    const bytes = new Uint8Array(size);
    bytes.set(this.token.subarray(0, size));
    return bytes;
  }

  #echoRequest(): Uint8Array {
    const payload = this.#payload(this.plan.sizeBytes ?? 32);
    const bytes = new Uint8Array(8 + payload.length);
    const view = new DataView(bytes.buffer);
    bytes[0] = ECHO_REQUEST[this.plan.family];
    view.setUint16(4, this.#localPort ?? 0);
    view.setUint16(6, 1);
    bytes.set(payload, 8);
    // The kernel computes the checksum of ICMPv6 itself: it covers the addresses.
    if (this.plan.family === 4) view.setUint16(2, internetChecksum(bytes));
    return bytes;
  }

  #isOurEcho(bytes: Uint8Array): boolean {
    // A raw IPv4 socket is given the IP header too.
    const start = this.plan.family === 4 ? (bytes[0]! & 15) * 4 : 0;
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    if (bytes.length < start + 8) return false;
    return bytes[start] === ECHO_REPLY[this.plan.family] && view.getUint16(start + 4) === this.#localPort;
  }
}
