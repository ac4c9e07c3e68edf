/**
 * Questions to a name server, and whether what comes back answers them (RFC 1035, RFC 5452): an answer counts when its
 * id, its question, its class and the names of its records are those that were asked for, and nothing is left over behind
 * what it says it holds. Pure.
 */
import { decode, encode, RECURSION_DESIRED, type DecodedPacket } from "dns-packet";
import { isIp, ipFamily, type IpFamily } from "../../address/ip.ts";
import { WayoutError } from "../../error.ts";

const TYPES = { 4: "A", 6: "AAAA" } as const;
/** A name that leads to a name that leads to a name: longer chains are a mistake. */
const MOST_ALIASES = 8;

export type DnsAnswer =
  | { readonly kind: "address"; readonly address: string }
  /** The server says no, or nothing that can be used. */
  | { readonly kind: "none"; readonly said: string }
  /** It does not fit into a datagram: to be asked again over TCP. */
  | { readonly kind: "truncated" };

/** A query for one record with recursion desired. @throws WayoutError bad-destination for a name DNS cannot hold */
export function question(id: number, name: string, family: IpFamily): Uint8Array {
  const plain = name.replace(/\.$/, "");
  if (plain.length > 253 || plain.split(".").some((label) => label.length === 0 || label.length > 63)) {
    throw new WayoutError({
      code: "bad-destination",
      kind: "usage",
      doing: `resolving "${name}"`,
      said: "that is no name in DNS",
    });
  }
  return encode({
    type: "query",
    id,
    flags: RECURSION_DESIRED,
    questions: [{ type: TYPES[family], name: plain }],
  });
}

/** undefined when the message is not the answer to this question: another question's, or a forged one. */
export function readAnswer(
  message: Uint8Array,
  asked: { readonly id: number; readonly name: string; readonly family: IpFamily },
): DnsAnswer | undefined {
  if (isCutOff(message)) return isAbout(questionOf(message), asked) ? { kind: "truncated" } : undefined;
  const packet = decoded(message);
  if (!isAbout(packet, asked)) return undefined;
  // The library's types lack what it decodes: the response code in words.
  const { rcode } = packet as unknown as { readonly rcode: string };
  if (rcode !== "NOERROR") return { kind: "none", said: RCODES[rcode] ?? rcode.toLowerCase() };
  return addressIn(packet, asked.name, asked.family);
}

const RCODES: Readonly<Record<string, string>> = {
  FORMERR: "format error",
  SERVFAIL: "server failure",
  NXDOMAIN: "no such name",
  NOTIMP: "not implemented",
  REFUSED: "refused",
};

/** Offsets and a flag of the header (RFC 1035 4.1.1). */
const HEADER_BYTES = 12;
const FIRST_FLAGS = 2;
const TC = 0x02;

function isCutOff(message: Uint8Array): boolean {
  return message.length >= HEADER_BYTES && (message[FIRST_FLAGS]! & TC) !== 0;
}

/** Header and question alone: what follows may have been cut anywhere, in the middle of a record, too. */
function questionOf(message: Uint8Array): DecodedPacket | undefined {
  const head = Buffer.from(message);
  const ANSWERS = 6;
  head.fill(0, ANSWERS, HEADER_BYTES);
  try {
    return decode(head);
  } catch {
    return undefined;
  }
}

/** undefined when it cannot be read, or more or less stands in it than its own lengths say. */
function decoded(message: Uint8Array): DecodedPacket | undefined {
  try {
    const packet = decode(Buffer.from(message));
    return decode.bytes === message.length ? packet : undefined;
  } catch {
    return undefined;
  }
}

function isAbout(
  packet: DecodedPacket | undefined,
  { id, name, family }: { readonly id: number; readonly name: string; readonly family: IpFamily },
): packet is DecodedPacket {
  const [only, ...others] = packet?.questions ?? [];
  return (
    packet?.type === "response" &&
    packet.id === id &&
    only !== undefined &&
    others.length === 0 &&
    sameName(only.name, name) &&
    only.type === TYPES[family] &&
    only.class === "IN"
  );
}

/** Follows aliases from the name that was asked for; records of other names say nothing about it. */
function addressIn(packet: DecodedPacket, name: string, family: IpFamily): DnsAnswer {
  let owner = name;
  for (let aliases = 0; aliases <= MOST_ALIASES; aliases++) {
    let alias: string | undefined;
    for (const record of packet.answers ?? []) {
      if (!sameName(record.name, owner) || !("class" in record) || record.class !== "IN") continue;
      if (record.type === TYPES[family] && isIp(record.data) && ipFamily(record.data) === family) {
        return { kind: "address", address: record.data };
      }
      if (record.type === "CNAME") alias = record.data;
    }
    if (alias === undefined) return { kind: "none", said: `no ${TYPES[family]} record` };
    owner = alias;
  }
  return { kind: "none", said: `more than ${MOST_ALIASES} aliases` };
}

function sameName(a: string, b: string): boolean {
  const plain = (name: string): string => name.replace(/\.$/, "").toLowerCase();
  return plain(a) === plain(b);
}
