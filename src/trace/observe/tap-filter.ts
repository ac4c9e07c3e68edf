/** What the taps keep of all that passes, while more and more is known of the flow. Pure. */
import type { PacketMatch } from "../../linux/packet/filter.ts";
import type { FlowPattern } from "../evidence.ts";
import { present } from "../../present.ts";

/** In the kernel only what may be ours; a translated source is recognised by the destination's side. */
export function tapFilter(flow: FlowPattern): PacketMatch[] {
  const { family, protocol, destination, sourcePort, destinationPort } = flow;
  const neighbours = neighbourFilter(flow);
  if (protocol === "icmp") return [...neighbours, { protocol: family === 4 ? "icmp" : "icmpv6" }];
  const port = present({ port: destinationPort });
  const ours = sourcePort === undefined ? [] : [sourcePort];
  return [...neighbours, ...portsFilter(flow, ours), { protocol, host: destination, ...port }];
}

export function neighbourFilter({ family }: FlowPattern): PacketMatch[] {
  return [family === 4 ? { protocol: "arp" } : { protocol: "icmpv6" }];
}

export function portsFilter({ family, protocol }: FlowPattern, ports: readonly number[]): PacketMatch[] {
  if (protocol === "icmp") return [];
  return [
    { family, icmpErrors: true },
    ...[...new Set(ports)].map((port): PacketMatch => ({ family, protocol, port })),
  ];
}
