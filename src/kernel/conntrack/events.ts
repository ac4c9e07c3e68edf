import { ERRNO, SystemError } from "../../linux/errno.ts";
import type { NetworkNamespace } from "../namespace.ts";
import { messageLength, NLM_F_CREATE, NLM_F_EXCL, NLMSG_HDRLEN } from "../../linux/netlink/message.ts";
import { NETLINK_NETFILTER, openTransport, type NetlinkTransport } from "../netlink/transport.ts";
import { align4, Wire } from "../../linux/netlink/wire.ts";
import {
  IPCTNL_MSG_CT_DELETE,
  IPCTNL_MSG_CT_NEW,
  NFNLGRP_CONNTRACK_DESTROY,
  NFNLGRP_CONNTRACK_NEW,
  NFNLGRP_CONNTRACK_UPDATE,
} from "../../linux/conntrack/attributes.ts";
import { EntryScan } from "../../linux/conntrack/scan.ts";
import { present } from "../../present.ts";

/** What happened to an entry. */
export type ConntrackEventKind = "new" | "update" | "destroy";

export const CONNTRACK_EVENT_KINDS = ["new", "update", "destroy"] as const satisfies ConntrackEventKind[];

const GROUPS: Readonly<Record<ConntrackEventKind, number>> = {
  new: NFNLGRP_CONNTRACK_NEW,
  update: NFNLGRP_CONNTRACK_UPDATE,
  destroy: NFNLGRP_CONNTRACK_DESTROY,
};

/** Room for about 100 000 events that wait to be read: two seconds of 50 000 flows. Only what is used is taken. */
const DEFAULT_BUFFER_BYTES = 128 * 1024 * 1024;

export interface ConntrackEventOptions {
  readonly namespace?: NetworkNamespace;
  /** All three when absent. */
  readonly kinds?: readonly ConntrackEventKind[];
  readonly receiveBufferBytes?: number;
}

/** How a reading of events ended. */
export interface EventsRead {
  readonly events: number;
  /** The kernel dropped events since the last reading because its queue was full (ENOBUFS). */
  readonly overrun: boolean;
}

/**
 * Changes of a connection tracking table, as they happen. The kernel fills in less than in a listing: the protocol's
 * state only when it changed, the mark only when it is set, counters only at the end.
 */
export class ConntrackEvents implements Disposable {
  readonly #transport: NetlinkTransport;
  readonly #scan = new EntryScan();

  /** @param transport replaced in tests */
  constructor(transport: NetlinkTransport, kinds: readonly ConntrackEventKind[] = CONNTRACK_EVENT_KINDS) {
    this.#transport = transport;
    for (const kind of kinds) transport.join(GROUPS[kind]);
  }

  /** @throws SystemError */
  static open(options: ConntrackEventOptions = {}): ConntrackEvents {
    const transport = openTransport(
      NETLINK_NETFILTER,
      present({
        receiveBufferBytes: options.receiveBufferBytes ?? DEFAULT_BUFFER_BYTES,
        namespace: options.namespace,
      }),
    );
    try {
      return new ConntrackEvents(transport, options.kinds);
    } catch (error) {
      transport.close();
      throw error;
    }
  }

  /**
   * Hands over the events that are there, at most `limit`, after waiting up to `timeoutMs` for the first. The scan is
   * the same object each time. After an overrun the rest of the old queue comes first; nothing new is queued until
   * it was read.
   */
  read(
    visitor: (kind: ConntrackEventKind, scan: EntryScan) => void,
    timeoutMs: number,
    limit: number = Number.POSITIVE_INFINITY,
  ): EventsRead {
    let events = 0;
    let overrun = false;
    while (events < limit) {
      let datagram: Uint8Array | undefined;
      try {
        datagram = this.#transport.receive(events === 0 && !overrun ? timeoutMs : 0);
      } catch (error) {
        if (!(error instanceof SystemError && error.errno === ERRNO.ENOBUFS)) throw error;
        overrun = true;
        continue;
      }
      if (datagram === undefined) break;
      events += this.#visit(datagram, visitor);
    }
    return { events, overrun };
  }

  /** How many events the kernel has dropped in all for want of room; undefined when it does not tell. */
  dropped(): number | undefined {
    return this.#transport.dropped?.();
  }

  close(): void {
    this.#transport.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #visit(datagram: Uint8Array, visitor: (kind: ConntrackEventKind, scan: EntryScan) => void): number {
    const wire = new Wire(datagram);
    let events = 0;
    for (let at = 0; at < datagram.length;) {
      const length = messageLength(wire, at);
      const kind = kindOf(wire.view.getUint16(at + 4, true), wire.view.getUint16(at + 6, true));
      if (kind !== undefined) {
        this.#scan.point(wire, at + NLMSG_HDRLEN, at + length);
        visitor(kind, this.#scan);
        events++;
      }
      at += align4(length);
    }
    return events;
  }
}

/** New entries carry NLM_F_CREATE and NLM_F_EXCL, changes of old ones the same type without them. */
function kindOf(type: number, flags: number): ConntrackEventKind | undefined {
  if (type === IPCTNL_MSG_CT_DELETE.type) return "destroy";
  if (type !== IPCTNL_MSG_CT_NEW.type) return undefined;
  return (flags & (NLM_F_CREATE | NLM_F_EXCL)) === 0 ? "update" : "new";
}
