/** Names of ICMP messages (IANA ICMP and ICMPv6 parameters), as far as they say something about a path. */
import type { IpFamily } from "../../address/ip.ts";

/** "echo request", "communication administratively prohibited"; "type 40 code 2" for one without a name here. */
export function icmpName(family: IpFamily, type: number, code: number): string {
  const names = family === 4 ? ICMP : ICMPV6;
  const name = names[type];
  if (name === undefined) return `type ${type} code ${code}`;
  if (typeof name === "string") return name;
  return name.codes[code] ?? `${name.type} code ${code}`;
}

interface TypeWithCodes {
  readonly type: string;
  readonly codes: readonly string[];
}

const ICMP: Readonly<Record<number, string | TypeWithCodes>> = {
  0: "echo reply",
  3: {
    type: "destination unreachable",
    codes: [
      "network unreachable",
      "host unreachable",
      "protocol unreachable",
      "port unreachable",
      "fragmentation needed",
      "source route failed",
      "destination network unknown",
      "destination host unknown",
      "source host isolated",
      "network administratively prohibited",
      "host administratively prohibited",
      "network unreachable for this type of service",
      "host unreachable for this type of service",
      "communication administratively prohibited",
    ],
  },
  4: "source quench",
  5: "redirect",
  8: "echo request",
  11: {
    type: "time exceeded",
    codes: ["time to live exceeded in transit", "fragment reassembly time exceeded"],
  },
  12: "parameter problem",
};

const ICMPV6: Readonly<Record<number, string | TypeWithCodes>> = {
  1: {
    type: "destination unreachable",
    codes: [
      "no route to destination",
      "communication administratively prohibited",
      "beyond scope of source address",
      "address unreachable",
      "port unreachable",
      "source address failed policy",
      "reject route to destination",
    ],
  },
  2: "packet too big",
  3: { type: "time exceeded", codes: ["hop limit exceeded in transit", "fragment reassembly time exceeded"] },
  4: "parameter problem",
  128: "echo request",
  129: "echo reply",
  133: "router solicitation",
  134: "router advertisement",
  135: "neighbour solicitation",
  136: "neighbour advertisement",
  137: "redirect",
};
