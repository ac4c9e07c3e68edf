/** Extension headers of IPv6, options of TCP and IP, chunks of SCTP: by nft's names. */
import { datatypeNamed, type Datatype } from "../datatypes.ts";
import type { ExpressionKinded } from "../expressions.ts";
import type { PlacedField } from "./registers.ts";

type Part = readonly [name: string, offset: number, length: number, type?: string];
interface Layout {
  readonly name: string;
  readonly parts: readonly Part[];
}

const NEXT: Part = ["nexthdr", 0, 8, "inet_proto"];
const LENGTH: Part = ["hdrlength", 8, 8];

/** Offsets and lengths in bits. Keys are IPPROTO_* of the extension header. */
const IPV6: Readonly<Record<number, Layout>> = {
  0: { name: "hbh", parts: [NEXT, LENGTH] },
  43: {
    name: "rt",
    parts: [NEXT, LENGTH, ["type", 16, 8], ["seg-left", 24, 8]],
  },
  44: {
    name: "frag",
    parts: [
      NEXT,
      ["reserved", 8, 8],
      ["frag-off", 16, 13],
      ["reserved2", 29, 2],
      ["more-fragments", 31, 1],
      ["id", 32, 32],
    ],
  },
  60: { name: "dst", parts: [NEXT, LENGTH] },
  135: {
    name: "mh",
    parts: [NEXT, LENGTH, ["type", 16, 8, "mh_type"], ["reserved", 24, 8], ["checksum", 32, 16]],
  },
};

const KIND: Part = ["kind", 0, 8];
const OPTION_LENGTH: Part = ["length", 8, 8];

/** Keys are TCPOPT_*. */
const TCP: Readonly<Record<number, Layout>> = {
  0: { name: "eol", parts: [KIND] },
  1: { name: "nop", parts: [KIND] },
  2: { name: "maxseg", parts: [KIND, OPTION_LENGTH, ["size", 16, 16]] },
  3: { name: "window", parts: [KIND, OPTION_LENGTH, ["count", 16, 8]] },
  4: { name: "sack-perm", parts: [KIND, OPTION_LENGTH] },
  5: {
    name: "sack",
    parts: [KIND, OPTION_LENGTH, ["left", 16, 32], ["right", 48, 32]],
  },
  8: {
    name: "timestamp",
    parts: [KIND, OPTION_LENGTH, ["tsval", 16, 32], ["tsecr", 48, 32]],
  },
  19: { name: "md5sig", parts: [KIND, OPTION_LENGTH] },
  30: { name: "mptcp", parts: [KIND, OPTION_LENGTH, ["subtype", 16, 4]] },
  34: { name: "fastopen", parts: [KIND, OPTION_LENGTH] },
};

const POINTER: readonly Part[] = [
  ["type", 0, 8],
  ["length", 8, 8],
  ["ptr", 16, 8],
  ["addr", 24, 32, "ipv4_addr"],
];

/** Keys are IPOPT_*. */
const IPV4: Readonly<Record<number, Layout>> = {
  7: { name: "rr", parts: POINTER },
  131: { name: "lsrr", parts: POINTER },
  137: { name: "ssrr", parts: POINTER },
  148: {
    name: "ra",
    parts: [
      ["type", 0, 8],
      ["length", 8, 8],
      ["value", 16, 16],
    ],
  },
};

const CHUNK: readonly Part[] = [
  ["type", 0, 8],
  ["flags", 8, 8],
  ["length", 16, 16],
];
const INIT: readonly Part[] = [
  ...CHUNK,
  ["init-tag", 32, 32],
  ["a-rwnd", 64, 32],
  ["num-outbound-streams", 96, 16],
  ["num-inbound-streams", 112, 16],
  ["initial-tsn", 128, 32],
];

/** Keys are SCTP chunk types (RFC 9260). */
const SCTP: Readonly<Record<number, Layout>> = {
  0: {
    name: "data",
    parts: [...CHUNK, ["tsn", 32, 32], ["stream", 64, 16], ["ssn", 80, 16], ["ppid", 96, 32]],
  },
  1: { name: "init", parts: INIT },
  2: { name: "init-ack", parts: INIT },
  3: {
    name: "sack",
    parts: [
      ...CHUNK,
      ["cum-tsn-ack", 32, 32],
      ["a-rwnd", 64, 32],
      ["num-gap-ack-blocks", 96, 16],
      ["num-dup-tsns", 112, 16],
    ],
  },
  4: { name: "heartbeat", parts: CHUNK },
  5: { name: "heartbeat-ack", parts: CHUNK },
  6: { name: "abort", parts: CHUNK },
  7: { name: "shutdown", parts: [...CHUNK, ["cum-tsn-ack", 32, 32]] },
  8: { name: "shutdown-ack", parts: CHUNK },
  9: { name: "error", parts: CHUNK },
  10: { name: "cookie-echo", parts: CHUNK },
  11: { name: "cookie-ack", parts: CHUNK },
  12: { name: "ecne", parts: [...CHUNK, ["lowest-tsn", 32, 32]] },
  13: { name: "cwr", parts: [...CHUNK, ["lowest-tsn", 32, 32]] },
  14: { name: "shutdown-complete", parts: CHUNK },
  128: { name: "asconf-ack", parts: [...CHUNK, ["seqno", 32, 32]] },
  192: { name: "forward-tsn", parts: [...CHUNK, ["new-cum-tsn", 32, 32]] },
  193: { name: "asconf", parts: [...CHUNK, ["seqno", 32, 32]] },
};

interface Extension {
  readonly prefix: string;
  readonly layouts: Readonly<Record<number, Layout>>;
}

const EXTENSIONS: Readonly<Record<string, Extension>> = {
  ipv6: { prefix: "", layouts: IPV6 },
  "tcp option": { prefix: "tcp option ", layouts: TCP },
  "ip option": { prefix: "ip option ", layouts: IPV4 },
  sctp: { prefix: "sctp chunk ", layouts: SCTP },
  dccp: { prefix: "dccp option ", layouts: {} },
};

type Location = Pick<ExpressionKinded<"exthdr">, "type" | "offset" | "length" | "op" | "flags">;

function layoutOf(expression: Location): {
  readonly extension: Extension;
  readonly layout: Layout | undefined;
} {
  const extension = EXTENSIONS[expression.op ?? "ipv6"] ?? EXTENSIONS["ipv6"]!;
  return { extension, layout: extension.layouts[expression.type] };
}

/** The text of an extension, and the type of its field. What has no name is written by its place. */
export function exthdrText(expression: Location): { readonly text: string; readonly type: Datatype } {
  const { extension, layout } = layoutOf(expression);
  const size = expression.length ?? 0;
  const integer: Datatype = { ...datatypeNamed("integer")!, size };
  const name = layout?.name ?? String(expression.type);
  if (expression.flags?.includes("present") === true) {
    const bare = extension.prefix === "" ? `exthdr ${name}` : `${extension.prefix}${name}`;
    return { text: bare, type: { ...datatypeNamed("boolean")!, size: 1 } };
  }
  const offset = (expression.offset ?? 0) * 8;
  const part = layout?.parts.find((one) => one[1] === offset && one[2] === size * 8);
  if (part !== undefined) {
    const type = { ...datatypeNamed(part[3] ?? "integer")!, size };
    return { text: `${extension.prefix}${name} ${part[0]}`, type };
  }
  if (expression.op === "tcp option") {
    return { text: `tcp option @${expression.type},${offset},${size * 8}`, type: integer };
  }
  return { text: `${extension.prefix}${name} @${offset},${size * 8}`, type: integer };
}

/** The field at some bits of an extension, for fields that are no whole bytes. */
export function exthdrField(expression: Location, offset: number, length: number): PlacedField | undefined {
  const { extension, layout } = layoutOf(expression);
  const part = layout?.parts.find((one) => one[1] === offset && one[2] === length);
  if (part === undefined) return undefined;
  const type = { ...datatypeNamed(part[3] ?? "integer")!, size: Math.ceil(length / 8) };
  return { text: `${extension.prefix}${layout!.name} ${part[0]}`, type, length };
}

/** `tcp option sack-perm`, for `reset`. */
export function tcpOptionText(type: number): string {
  return `tcp option ${TCP[type]?.name ?? type}`;
}
