/** Look-ups in ipsets (`-m set --match-set`). */
import { ipsetAddressHolds, ipsetHolds, type IpsetSide } from "../../linux/ipset.ts";
import type { IpsetState } from "../../snapshot/snapshot.ts";
import type { Machine } from "./machine.ts";

/** Whether the packet is in the set. Asks the oracle for what it cannot tell. */
export function ipsetContains(machine: Machine, set: IpsetState, sides: readonly IpsetSide[]): boolean {
  const answer = ipsetHolds(set, sides, {
    family: machine.packet.family,
    fits: (part, text, side) => partFits(machine, part, text, side),
    member: (name) => machine.view.ipset(name),
  });
  return answer ?? machine.ask(`ipset ${set.name} of type ${set.type}`);
}

function partFits(machine: Machine, part: string, text: string, side: IpsetSide): boolean | undefined {
  const fromSource = side === "src";
  const { source, destination, iif, oif, mark } = machine.packet;
  switch (part) {
    case "ip":
    case "net":
      return ipsetAddressHolds(text, fromSource ? source : destination);
    case "port":
      return portIn(machine, text, fromSource);
    case "iface":
      return text === (fromSource ? iif : oif);
    case "mark":
      return Number(text) === mark;
    default:
      return undefined;
  }
}

/** `tcp:80`, `udp:1000-2000`. */
function portIn(machine: Machine, text: string, fromSource: boolean): boolean {
  const { protocol, sourcePort, destinationPort } = machine.packet;
  const colon = text.indexOf(":");
  if (colon >= 0 && text.slice(0, colon) !== protocol) return false;
  const [first, last = first] = text.slice(colon + 1).split("-");
  const port = fromSource ? sourcePort : destinationPort;
  return port >= Number(first) && port <= Number(last);
}
