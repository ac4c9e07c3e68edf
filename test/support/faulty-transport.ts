/** A real netlink socket at which one message goes wrong. */
import { SystemError } from "../../src/linux/errno.ts";
import type { NetworkNamespace } from "../../src/kernel/namespace.ts";
import { NETLINK_ROUTE, openTransport, type NetlinkTransport } from "../../src/kernel/netlink/transport.ts";
import { Rtnetlink } from "../../src/kernel/route/rtnetlink.ts";

/**
 * How it goes wrong: the kernel refuses it (EOPNOTSUPP); it never reaches the kernel; the kernel carries it out and
 * the answer is lost.
 */
export type Fault = "refused" | "unsent" | "answer lost";

/** A message type that no rtnetlink family has; the kernel refuses it by itself, in its place in the datagram. */
const NO_SUCH_TYPE = 0x0fff;

/** Counts the messages of several transports together, and spoils the n-th. */
export class FaultPlan {
  sent = 0;

  constructor(
    /** From 1. A number beyond the last message spoils nothing. */
    readonly nth: number,
    readonly fault: Fault,
  ) {}

  get happened(): boolean {
    return this.sent >= this.nth;
  }

  /** rtnetlink in a namespace, under this plan. */
  open(namespace: NetworkNamespace): Rtnetlink {
    return new Rtnetlink(new FaultyTransport(openTransport(NETLINK_ROUTE, { namespace }), this), namespace);
  }
}

class FaultyTransport implements NetlinkTransport {
  #loseAnswers = false;

  constructor(
    readonly real: NetlinkTransport,
    readonly plan: FaultPlan,
  ) {}

  send(datagram: Uint8Array): void {
    const copy = datagram.slice();
    const view = new DataView(copy.buffer);
    for (let at = 0; at < copy.length; at += (view.getUint32(at, true) + 3) & ~3) {
      if (++this.plan.sent !== this.plan.nth) continue;
      if (this.plan.fault === "unsent") throw new SystemError("send", 105);
      if (this.plan.fault === "refused") view.setUint16(at + 4, NO_SUCH_TYPE, true);
      else this.#loseAnswers = true;
    }
    this.real.send(copy);
  }

  receive(timeoutMs: number): Uint8Array | undefined {
    if (!this.#loseAnswers) return this.real.receive(timeoutMs);
    this.#loseAnswers = false;
    while (this.real.receive(0) !== undefined);
    throw new SystemError("recv", 105);
  }

  join(group: number): void {
    this.real.join(group);
  }

  close(): void {
    this.real.close();
  }
}
