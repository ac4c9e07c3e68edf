/** IPPROTO_* (include/uapi/linux/in.h, in6.h), by the names of /etc/protocols and conntrack(8). */

/** First and last port of TCP, UDP, SCTP or DCCP, both included. */
export interface PortRange {
  readonly first: number;
  readonly last: number;
}

/** Ranges as `net.ipv4.ip_local_reserved_ports` has them: `8080,9148,30000-32767`. */
export function parsePortRanges(text: string): PortRange[] {
  return [...text.matchAll(/(\d+)(?:-(\d+))?/g)].map(([, first, last]) => ({
    first: Number(first),
    last: Number(last ?? first),
  }));
}

/** Protocols whose ports nf_nat chooses from a range. A range for others (ICMP, GRE) would mean something else. */
export const PORT_PROTOCOLS = ["tcp", "udp", "dccp", "sctp"] as const;

export const IP_PROTOCOL = {
  icmp: 1,
  igmp: 2,
  ipip: 4,
  tcp: 6,
  udp: 17,
  dccp: 33,
  ipv6: 41,
  gre: 47,
  esp: 50,
  ah: 51,
  icmpv6: 58,
  eigrp: 88,
  ospf: 89,
  pim: 103,
  vrrp: 112,
  sctp: 132,
  udplite: 136,
  raw: 255,
} as const;

const NAMES: ReadonlyMap<number, string> = new Map(
  Object.entries(IP_PROTOCOL).map(([name, number]) => [number, name]),
);

/** `tcp` for 6; `proto-200` for a number without a name here. */
export function protocolName(number: number): string {
  return NAMES.get(number) ?? `proto-${number}`;
}

/** The inverse of protocolName; a bare number is taken too. undefined when it is neither. */
export function protocolNumber(name: string): number | undefined {
  const lower = name.toLowerCase();
  if (Object.hasOwn(IP_PROTOCOL, lower)) return IP_PROTOCOL[lower as keyof typeof IP_PROTOCOL];
  const digits = /^(?:proto-)?(\d{1,3})$/.exec(lower)?.[1];
  return digits === undefined || Number(digits) > 255 ? undefined : Number(digits);
}

/** The protocol of pings in a family. */
export function icmpProtocol(family: 4 | 6): number {
  return family === 4 ? IP_PROTOCOL.icmp : IP_PROTOCOL.icmpv6;
}
