/** SNAT, DNAT, MASQUERADE, REDIRECT, NETMAP: all hold a range of addresses and ports. */
import { familyOf } from "../../../address/ip.ts";
import { describe, type Range, type XtDescription } from "../describe.ts";
import { option, type XtFamily, type XtInfo, type XtOption } from "../info.ts";
import { NAT_FLAGS } from "../../netfilter.ts";

export interface NatTarget {
  readonly addresses: { readonly first: string; readonly last: string } | undefined;
  readonly ports: Range | undefined;
  /** DNAT: the port that the first of the ports stands for; the others follow in step. */
  readonly basePort: number | undefined;
  readonly random: boolean;
  readonly fullyRandom: boolean;
  readonly persistent: boolean;
}

/**
 * struct nf_nat_ipv4_multi_range_compat (IPv4 only, 20 bytes): rangesize 0, flags 4, min_ip 8, max_ip 12, min 16, max 18.
 * struct nf_nat_range (40 bytes), nf_nat_range2: flags 0, min_addr 4, max_addr 20, min_proto 36, max_proto 38, base 40.
 */
function read(info: XtInfo, revision: number, family: XtFamily): NatTarget {
  const isOld = info.length < 40;
  const at = isOld
    ? { flags: 4, first: 8, last: 12, ports: 16 }
    : { flags: 0, first: 4, last: 20, ports: 36 };
  const flags = info.u32(at.flags);
  const addressFamily = isOld ? "ip" : family;
  return {
    addresses:
      (flags & NAT_FLAGS["map-ips"]) === 0
        ? undefined
        : { first: info.address(at.first, addressFamily), last: info.address(at.last, addressFamily) },
    ports:
      (flags & NAT_FLAGS["proto-specified"]) === 0
        ? undefined
        : { first: info.be16(at.ports), last: info.be16(at.ports + 2) },
    basePort: revision >= 2 && (flags & 32) !== 0 ? info.be16(40) : undefined,
    random: (flags & NAT_FLAGS.random) !== 0,
    fullyRandom: (flags & NAT_FLAGS["fully-random"]) !== 0,
    persistent: (flags & NAT_FLAGS.persistent) !== 0,
  };
}

function flagOptions({ random, fullyRandom, persistent }: NatTarget): XtOption[] {
  return [
    ...(random ? [option("--random")] : []),
    ...(fullyRandom ? [option("--random-fully")] : []),
    ...(persistent ? [option("--persistent")] : []),
  ];
}

function portsText({ first, last }: Range): string {
  return first === last ? `${first}` : `${first}-${last}`;
}

/** `203.0.113.5-203.0.113.9:1024-65535` */
function rangeText({ addresses, ports, basePort }: NatTarget): string {
  let text = "";
  if (addresses !== undefined) {
    const { first, last } = addresses;
    const inBrackets = familyOf(first) === 6 && ports !== undefined;
    const range = last === first ? "" : `-${last}`;
    text = inBrackets ? `[${first}${range}]` : first + range;
  }
  if (ports !== undefined) text += `:${portsText(ports)}`;
  return basePort === undefined ? text : `${text}/${basePort}`;
}

function nat(name: string, optionName: string): XtDescription<NatTarget> {
  return describe({
    name,
    revisions: [0, 1, 2],
    read: (info, revision, { family }) => read(info, revision, family),
    options: (value) => [option(optionName, rangeText(value)), ...flagOptions(value)],
  });
}

function natToPorts(name: string): XtDescription<NatTarget> {
  return describe({
    name,
    revisions: [0],
    read: (info, revision, { family }) => read(info, revision, family),
    options: (value) => [
      ...(value.ports === undefined ? [] : [option("--to-ports", portsText(value.ports))]),
      ...flagOptions(value),
    ],
  });
}

export const SNAT = nat("SNAT", "--to-source");
export const DNAT = nat("DNAT", "--to-destination");
export const MASQUERADE = natToPorts("MASQUERADE");
export const REDIRECT = natToPorts("REDIRECT");

export const NETMAP = describe({
  name: "NETMAP",
  revisions: [0],
  read(info, revision, { family }) {
    const { addresses } = read(info, revision, family);
    const isOld = info.length < 40;
    const [first, distance, size] = isOld ? [8, 4, 4] : [4, 16, family === "ip" ? 4 : 16];
    let prefixLength = 0;
    for (let at = 0; at < size; at++) {
      const differing = info.u8(first + at) ^ info.u8(first + distance + at);
      prefixLength += differing === 0 ? 8 : Math.clz32(differing) - 24;
      if (differing !== 0) break;
    }
    return { addresses, prefixLength, isWhole: prefixLength === size * 8 };
  },
  options: ({ addresses, prefixLength, isWhole }) => [
    option("--to", isWhole ? (addresses?.first ?? "") : `${addresses?.first ?? ""}/${prefixLength}`),
  ],
});
