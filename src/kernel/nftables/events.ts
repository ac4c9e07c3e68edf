/** What nf_tables tells by itself: the path of traced packets through the rules, and new generations. */
import { NetlinkConnection } from "../netlink/connection.ts";
import { decode, type RawMessage } from "../../linux/netlink/message.ts";
import { NETLINK_NETFILTER, openTransport, type NetlinkTransport } from "../netlink/transport.ts";
import type { NetworkNamespace } from "../namespace.ts";
import type { AttributesOf } from "../../linux/netlink/attributes.ts";
import {
  NFNLGRP_NFTABLES,
  NFNLGRP_NFTRACE,
  NFT_MSG,
  type traceAttributes,
} from "../../linux/nftables/messages.ts";
import { definedOnly } from "../../linux/nftables/read.ts";
import { nftFamily, type Family } from "../../linux/nftables/ruleset.ts";
import type { Verdict } from "../../linux/nftables/values.ts";
import { present } from "../../present.ts";

/** One rule, return or policy that a traced packet met. */
export interface TraceEvent {
  readonly kind: "trace";
  /** The same for all events of one packet; another packet may get it later. */
  readonly id: number;
  readonly family: Family;
  readonly table: string;
  readonly chain: string;
  /** `rule`: a rule matched to its end. `return`: the end of a chain, or a return verdict. `policy`: what a base
   * chain does with what its rules let pass. */
  readonly type: string;
  readonly ruleHandle?: number;
  /** What the rule decided; absent for the policy. */
  readonly verdict?: Verdict;
  readonly policy?: "accept" | "drop";
  readonly iif?: number;
  readonly oif?: number;
  readonly mark?: number;
  /** NFPROTO_* of the packet, in families that see several. */
  readonly nfproto?: number;
  /** The packet's headers, hexadecimal; sent with the first event of a packet in each base chain. */
  readonly linkHeader?: string;
  readonly networkHeader?: string;
  readonly transportHeader?: string;
}

/** The ruleset was changed. */
export interface GenerationEvent {
  readonly kind: "generation";
  readonly generation: number;
  /** Who changed it. */
  readonly pid?: number;
  readonly process?: string;
}

export type NftEvent = TraceEvent | GenerationEvent;

/** Listens in one namespace. Close it, or let `using` do so. */
export class NftMonitor implements Disposable {
  readonly #connection: NetlinkConnection;

  constructor(transport: NetlinkTransport, wanted: readonly ("trace" | "generation")[] = ["trace"]) {
    this.#connection = new NetlinkConnection(transport);
    try {
      if (wanted.includes("trace")) this.#connection.join(NFNLGRP_NFTRACE);
      if (wanted.includes("generation")) this.#connection.join(NFNLGRP_NFTABLES);
    } catch (error) {
      this.#connection.close();
      throw error;
    }
  }

  /** @throws SystemError EPERM without privilege over the namespace */
  static open(namespace?: NetworkNamespace, wanted?: readonly ("trace" | "generation")[]): NftMonitor {
    const options = present({
      receiveBufferBytes: 4 * 1024 * 1024,
      namespace,
    });
    return new NftMonitor(openTransport(NETLINK_NETFILTER, options), wanted);
  }

  /**
   * Events of one datagram; empty when none came within `timeoutMs` (0: do not wait) of the last one. Call it until it
   * is empty.
   * @throws SystemError ENOBUFS when events were lost
   */
  events(timeoutMs: number): NftEvent[] {
    for (;;) {
      const messages = this.#connection.events(timeoutMs);
      const events = messages.map((raw) => readEvent(raw)).filter((event) => event !== undefined);
      // A change of the ruleset is told message by message; of those only the last is an event here.
      if (events.length > 0 || messages.length === 0) return events;
    }
  }

  close(): void {
    this.#connection.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** undefined for a message that is no event here. */
function readEvent(raw: RawMessage): NftEvent | undefined {
  if (raw.type === NFT_MSG.trace.type) {
    return traceEvent(raw.wire.bytes[raw.start]!, decode(NFT_MSG.trace, raw).attributes);
  }
  if (raw.type !== NFT_MSG.newGeneration.type) return undefined;
  const { id = 0, pid, name } = decode(NFT_MSG.newGeneration, raw).attributes;
  return { kind: "generation", generation: id, ...definedOnly({ pid, process: name }) };
}

/** undefined for a family that this version does not know. */
function traceEvent(nfproto: number, from: AttributesOf<typeof traceAttributes>): TraceEvent | undefined {
  const family = nftFamily(nfproto);
  if (family === undefined) return undefined;
  const { policy, iifType: _iifType, oifType: _oifType, unknown: _unknown, ...rest } = from;
  return {
    kind: "trace",
    family,
    ...definedOnly({
      ...rest,
      policy: policy === undefined ? undefined : policy === 0 ? "drop" : "accept",
    } as const),
    id: from.id ?? 0,
    table: from.table ?? "",
    chain: from.chain ?? "",
    // Some kernels (6.18) tell the end of a chain as one more rule, without its handle.
    type: from.type === "rule" && from.ruleHandle === undefined ? "return" : (from.type ?? "rule"),
  };
}
