/** A conntrack entry as it comes to be while its first packet travels. */
import type { Zone } from "../../linux/netfilter.ts";
import { IPS } from "../../linux/conntrack/status.ts";
import type { PortRange } from "../../linux/ip-protocol.ts";
import type { Decision } from "./decision.ts";
import type { Tuple } from "./packet.ts";
import type { Unforeseen } from "./oracle.ts";

/** Where a binding came from, as the answer names it. */
export interface Binding {
  /** `source` is rewritten at POSTROUTING or INPUT, `destination` at PREROUTING or OUTPUT. */
  readonly manip: "source" | "destination";
  readonly address: string;
  readonly port: number;
  /** The port is one of these, by the kernel's choice; `port` is the first. */
  readonly ports?: PortRange;
  /** The ports that the rule allows, also where the packet keeps its own. */
  readonly allowed?: PortRange;
  /** The address is one of several that the rule allows. */
  readonly oneOf?: string;
}

/** nf_ct_zone_id: zone 0 is everybody's. */
export function zoneIn(zone: Zone | undefined, direction: "original" | "reply"): number {
  if (zone === undefined) return 0;
  return zone.direction === "both" || zone.direction === direction ? zone.id : 0;
}

/** A rule gave the flow timeouts of its own. */
export interface FlowTimeouts {
  readonly by: Decision | undefined;
  /** `ct timeout NAME`, as its tool calls it. */
  readonly what: string;
  /** Seconds by number of the protocol's state. */
  readonly seconds: Readonly<Record<number, number>>;
}

export class Flow {
  status = 0;
  mark = 0;
  /** Why the mark cannot be foreseen, once a rule has set it to something unknown. */
  unknownMark: Unforeseen | undefined;
  zone: Zone | undefined;
  /** How long it is remembered, where a rule says so. */
  timeouts: FlowTimeouts | undefined;
  /** Bindings in the order in which they were made: at most one of each kind. */
  readonly bindings: Binding[] = [];

  constructor(
    /** The tuple of the first packet, before any translation. */
    readonly original: Tuple,
  ) {}

  /** Whether an answer has come by (IPS_SEEN_REPLY). */
  get seenReply(): boolean {
    return (this.status & IPS.SEEN_REPLY) !== 0;
  }

  /** The tuple of the answers: the translated one, turned round. */
  get reply(): Tuple {
    const { source, sourcePort, destination, destinationPort } = this.translated;
    return {
      protocol: this.original.protocol,
      source: destination,
      sourcePort: destinationPort,
      destination: source,
      destinationPort: sourcePort,
    };
  }

  /** The first packet as it leaves after all bindings. */
  get translated(): Tuple {
    let tuple = this.original;
    for (const { manip, address, port } of this.bindings) {
      tuple =
        manip === "source"
          ? { ...tuple, source: address, sourcePort: port }
          : { ...tuple, destination: address, destinationPort: port };
    }
    return tuple;
  }

  /** Whether it leaves with other addresses or ports than it came with: a rule may bind a packet to what it has already. */
  get isTranslated(): boolean {
    return (this.status & (IPS.SRC_NAT | IPS.DST_NAT)) !== 0;
  }

  binding(manip: Binding["manip"]): Binding | undefined {
    return this.bindings.find((binding) => binding.manip === manip);
  }

  /** Whether this kind of translation has been decided: by a rule, or by the absence of one. */
  decided(manip: Binding["manip"]): boolean {
    return (this.status & (manip === "source" ? IPS.SRC_NAT_DONE : IPS.DST_NAT_DONE)) !== 0;
  }

  bind(binding: Binding | undefined, manip: Binding["manip"]): void {
    this.status |= manip === "source" ? IPS.SRC_NAT_DONE : IPS.DST_NAT_DONE;
    if (binding === undefined) return;
    const before = this.translated;
    this.bindings.push(binding);
    const after = this.translated;
    if (before.source !== after.source || before.sourcePort !== after.sourcePort) this.status |= IPS.SRC_NAT;
    if (before.destination !== after.destination || before.destinationPort !== after.destinationPort) {
      this.status |= IPS.DST_NAT;
    }
  }
}
