/** What a nat statement makes of a flow: the address and port that the kernel would choose. */
import { cidrContains, cidrOf } from "../../address/cidr.ts";
import { familyOf, ipBits, ipFromNumber, ipNumber } from "../../address/ip.ts";
import type { Address } from "../../linux/route/address.ts";
import type { Binding } from "./flow.ts";
import type { Machine, NatRange } from "./machine.ts";
import type { PortRange } from "../../linux/ip-protocol.ts";
import { chooseIpv6 } from "./source-address.ts";
import type { NodeView } from "./view.ts";
import { present } from "../../present.ts";

/** The translation, or why the kernel would drop the packet instead. */
export type Choice = Binding | { readonly refused: string };

export function chooseBinding(machine: Machine, range: NatRange): Choice {
  const { packet } = machine;
  const current = range.manip === "source" ? packet.source : packet.destination;
  const currentPort = range.manip === "source" ? packet.sourcePort : packet.destinationPort;
  const address = chooseAddress(machine, range, current);
  if (typeof address === "object") return address;
  const severalAddresses = range.first !== range.last && !range.netmap;
  const oneOf = range.unknown ?? (severalAddresses ? `one of ${range.first} to ${range.last}` : undefined);
  const allowed = allowedPorts(range);
  const ports = portRange(allowed, currentPort);
  return present({
    manip: range.manip,
    address,
    port: ports?.first ?? currentPort,
    ports: ports === undefined || ports.first === ports.last ? undefined : ports,
    allowed,
    oneOf,
  });
}

function chooseAddress(machine: Machine, range: NatRange, current: string): string | { refused: string } {
  const { view, packet } = machine;
  if (range.masquerade) {
    const out = packet.oif ?? "";
    const facing = packet.family === 4 ? (machine.nextHop ?? packet.destination) : packet.destination;
    const own = masqueradeAddress(view, packet.family, out, facing);
    return own ?? { refused: `masquerade found no IPv${packet.family} address on ${out}` };
  }
  if (range.redirect) {
    if (packet.iif === undefined) return packet.family === 4 ? "127.0.0.1" : "::1";
    const own = addressesOf(view, packet.family, packet.iif)[0];
    return own?.address ?? { refused: `redirect found no IPv${packet.family} address on ${packet.iif}` };
  }
  if (range.unknown !== undefined || range.first === undefined || range.last === undefined) return current;
  if (range.netmap) return netmapAddress(range.first, range.last, current);
  const number = ipNumber(current);
  if (number >= ipNumber(range.first) && number <= ipNumber(range.last)) return current;
  return range.first;
}

/** nf_nat_netmap: the bits in which first and last agree are replaced. */
function netmapAddress(first: string, last: string, current: string): string {
  const [a, b, c] = [ipNumber(first), ipNumber(last), ipNumber(current)];
  const hostMask = a ^ b;
  const family = familyOf(current);
  return ipFromNumber(family, (a & ~hostMask & ((1n << BigInt(ipBits(family))) - 1n)) | (c & hostMask));
}

function allowedPorts({ firstPort: first, lastPort: last }: NatRange): PortRange | undefined {
  return first === undefined || last === undefined ? undefined : { first, last };
}

/** The ports the kernel chooses from; undefined when the packet keeps its own. */
function portRange(allowed: PortRange | undefined, current: number): PortRange | undefined {
  if (allowed === undefined || current === 0) return undefined;
  return current >= allowed.first && current <= allowed.last ? undefined : allowed;
}

/**
 * The address that MASQUERADE uses. IPv4: inet_select_addr of net/ipv4/devinet.c, the first primary address whose
 * prefix holds the gateway, else the first primary one; the route's own `src` does not count. IPv6: source address
 * selection (RFC 6724).
 * @param nextHop the gateway; for IPv6 the destination
 */
export function masqueradeAddress(
  view: NodeView,
  family: 4 | 6,
  link: string,
  nextHop: string,
): string | undefined {
  if (family === 4) {
    const own = addressesOf(view, family, link);
    const primary = own.filter((one) => !one.flags.includes("secondary") && one.scope === "global");
    const facing = primary.find((one) => cidrContains(cidrOf(one.address, one.prefixLength), nextHop));
    return (facing ?? primary[0] ?? anyPrimary(view))?.address;
  }
  const out = view.link(link);
  const chosen = out === undefined ? undefined : chooseIpv6(view, out, nextHop);
  return chosen?.scope === "global" ? chosen.address : undefined;
}

/** inet_select_addr falls back to the first global address of any interface. */
function anyPrimary(view: NodeView): Address | undefined {
  return view.state.addresses.find(
    (one) => one.family === 4 && one.scope === "global" && !one.flags.includes("secondary"),
  );
}

function addressesOf(view: NodeView, family: 4 | 6, link: string): Address[] {
  const index = view.link(link)?.index;
  return view.state.addresses.filter((one) => one.family === family && one.interface === index);
}
