/** Look-ups in ipsets (`-m set --match-set`). */
import { prefixContains } from "../../address/cidr.ts";
import { ipFamily, ipNumber } from "../../address/ip.ts";
import type { IpsetState } from "../../snapshot/snapshot.ts";
import type { Machine } from "./machine.ts";

/** From which side of the packet each part of the key is taken. */
type Sides = readonly ("src" | "dst")[];

/** Whether the packet is in the set. Asks the oracle for what it cannot tell. */
export function ipsetContains(machine: Machine, set: IpsetState, sides: Sides, depth = 0): boolean {
  const [method, fields = ""] = set.type.split(":");
  const parts = fields.split(",");
  if (method === "list") {
    return set.entries.some((entry) => {
      const member = machine.view.ipset(entry.value);
      return member !== undefined && depth < 4 && ipsetContains(machine, member, sides, depth + 1);
    });
  }
  if (set.family !== machine.packet.family) return false;
  let found = false;
  for (const entry of set.entries) {
    const matched = entryMatches(machine, parts, entry.value, sides);
    if (matched === undefined) return machine.ask(`ipset ${set.name} of type ${set.type}`);
    if (!matched) continue;
    // hash:net with "nomatch": an exception inside a larger prefix.
    if (entry.nomatch) return false;
    found = true;
  }
  return found;
}

function entryMatches(
  machine: Machine,
  parts: readonly string[],
  value: string,
  sides: Sides,
): boolean | undefined {
  const values = value.split(",");
  let all = true;
  for (const [index, part] of parts.entries()) {
    const text = values[index];
    if (text === undefined) return undefined;
    const fromSource = sides[index] === "src";
    const { source, destination } = machine.packet;
    if (part === "ip" || part === "net") all &&= addressIn(text, fromSource ? source : destination);
    else if (part === "port") all &&= portIn(machine, text, fromSource);
    else if (part === "iface") all &&= text === (fromSource ? machine.packet.iif : machine.packet.oif);
    else if (part === "mark") all &&= Number(text) === machine.packet.mark;
    else return undefined;
  }
  return all;
}

function addressIn(text: string, address: string): boolean {
  const [first, last] = text.split("-");
  if (last !== undefined && first !== undefined) {
    if (ipFamily(first) !== ipFamily(address)) return false;
    const number = ipNumber(address);
    return number >= ipNumber(first) && number <= ipNumber(last);
  }
  return prefixContains(text, address);
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
