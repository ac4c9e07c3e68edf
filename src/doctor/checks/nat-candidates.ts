/** Every rule of the node that could translate the pod's source, and how near it comes. */
import type { CheckContext } from "../check.ts";
import { Machine } from "../predict/machine.ts";
import { sourceNatCandidates, type Candidate } from "../predict/near-miss.ts";
import { Oracle } from "../predict/oracle.ts";
import { firstPacket } from "../predict/packet.ts";

/** Rules that translate, judged with the packet as it stands at postrouting. */
export function nearest(context: CheckContext): Candidate[] {
  const { sent, left, outLink, inLink } = context.path;
  if (sent === undefined || left === undefined) return [];
  const packet = {
    ...firstPacket(context.family, {
      ...sent,
      destination: left.destination,
      destinationPort: left.destinationPort,
    }),
    iif: inLink?.name,
    oif: outLink?.name,
  };
  const machine = new Machine(context.node.view, new Oracle(), packet, undefined, "postrouting");
  return sourceNatCandidates(machine, context.node.hooks.tables);
}
