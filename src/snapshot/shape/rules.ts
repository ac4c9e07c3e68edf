/** The shape of a ruleset. That of expressions follows from the descriptions by which they are decoded. */
import * as v from "valibot";
import type { DescribedCodec } from "../../linux/netlink/codec.ts";
import type { Descriptions } from "../../linux/nftables/expression-codec.ts";
import { EXPRESSIONS, type Expression, type StatefulExpression } from "../../linux/nftables/expressions.ts";
import {
  CHAIN_FLAGS,
  FAMILIES,
  SET_FLAGS,
  TABLE_FLAGS,
  type BaseChain,
  type Chain,
  type Family,
  type Flowtable,
  type Hook,
  type NftObject,
  type NftSet,
  type Rule,
  type Ruleset,
  type SetElement,
  type Table,
  INET_HOOKS,
} from "../../linux/nftables/ruleset.ts";
import { VERDICTS, type Data, type Named, type Verdict } from "../../linux/nftables/values.ts";
import {
  flag,
  hex,
  integer,
  list,
  name,
  number,
  object,
  oneOf,
  optional,
  record,
  u32,
  word,
  type Shape,
} from "./pieces.ts";

/** Bytes that fit into the registers, and what the kernel lets an expression work on (NFT_DATA_VALUE_MAXLEN, U8_MAX). */
const MOST_BYTES = 255;
const length = integer(0, MOST_BYTES);

/** One of these names, or a number that they lack: `#42`. */
function named<T extends Readonly<Record<string, number>>>(names: T): Shape<Named<T>> {
  return nameAmong(Object.keys(names));
}

function nameAmong(names: readonly string[]): Shape<string> {
  const known = new Set(names);
  return v.pipe(
    v.string(),
    v.check((value) => known.has(value) || /^#\d{1,10}$/.test(value), "is neither a known name nor a number"),
  );
}

const verdict: Shape<Verdict> = object<Verdict>({
  verdict: named(VERDICTS),
  chain: optional(name),
  chainId: optional(u32),
  argument: optional(u32),
});
const data: Shape<Data> = v.union([v.object({ value: hex }), verdict]);

// ── Expressions ──────────────────────────────────────────────────────────────────────────────────────────────────

const NUMBERS: Readonly<Record<string, Shape<unknown>>> = {
  u8: integer(0, 0xff),
  be16: integer(0, 0xffff),
  be32: u32,
  be64: number,
};

/** What a codec reads. @throws for one that nobody has described here */
function read(field: string, codec: DescribedCodec & { readonly names?: readonly string[] }): Shape<unknown> {
  if (field === "length" || field === "size") return length;
  if (codec.names !== undefined) {
    const one = nameAmong(codec.names);
    return codec.kind.startsWith("bits ") ? list(one, 64) : one;
  }
  switch (codec.kind) {
    case "string":
      return name;
    case "hex":
    case "nft_data value":
      return hex;
    case "nft_data":
      return data;
    case "nft_expr":
      return expressionOf(kindsOf(codec));
    case "list":
      return list(read(field, codec.element!), 256);
    default: {
      const plain = NUMBERS[codec.kind];
      if (plain === undefined) throw new Error(`no shape is known for ${codec.kind}`);
      return plain;
    }
  }
}

/** The expressions that may stand in another one. */
function kindsOf(codec: DescribedCodec): string[] {
  const { expr } = codec.set!.table as { readonly expr: { readonly variants: object } };
  return Object.keys(expr.variants);
}

const unknownFields = optional(
  list(object<{ number: number; bytes: string }>({ number: u32, bytes: hex }), 256),
);

function described(kind: string): v.GenericSchema {
  const { attributes, required } = (EXPRESSIONS as Descriptions)[kind]!;
  const fields = Object.entries(
    attributes.table as Readonly<Record<string, { readonly codec: DescribedCodec }>>,
  );
  return v.object({
    kind: v.literal(kind),
    ...Object.fromEntries(
      fields.map(([field, { codec }]) => {
        const shape = read(field, codec);
        return [field, required.includes(field) ? shape : optional(shape)];
      }),
    ),
    unknown: unknownFields,
  });
}

const other = v.object({ kind: v.literal("other"), name, data: hex });

function expressionOf(kinds: readonly string[]): Shape<unknown> {
  const options = [...kinds.map(described), other] as unknown as v.VariantOptions<"kind">;
  return v.variant("kind", options);
}

const STATEFUL_KINDS = ["counter", "limit", "quota", "connlimit", "last"];
const stateful = expressionOf(STATEFUL_KINDS) as Shape<StatefulExpression>;
const expression = expressionOf(Object.keys(EXPRESSIONS)) as Shape<Expression>;

// ── Tables ───────────────────────────────────────────────────────────────────────────────────────────────────────

const HOOKS: readonly Hook[] = [...INET_HOOKS, "egress"];
const hook = oneOf<Hook>(HOOKS);
const counter = object<{ packets: number; bytes: number }>({ packets: number, bytes: number });

const rule = object<Omit<Rule, "expressionAt" | "mayHold">>({
  handle: number,
  expressions: list(expression, 4096),
  comment: optional(name),
  userdata: optional(hex),
  compat: optional(object<NonNullable<Rule["compat"]>>({ protocol: u32, flags: u32 })),
}) as Shape<Rule>;

const chain = object<Chain>({
  name,
  handle: number,
  base: optional(
    object<BaseChain>({
      type: oneOf(["filter", "nat", "route"]),
      hook,
      priority: number,
      policy: oneOf(["accept", "drop"]),
      devices: optional(list(name)),
    }),
  ),
  flags: list(named(CHAIN_FLAGS), 64),
  use: number,
  comment: optional(name),
  counter: optional(counter),
  rules: list(rule),
});

const element = object<SetElement>({
  key: optional(hex),
  keyEnd: optional(hex),
  data: optional(data),
  object: optional(name),
  timeoutMs: optional(number),
  expiresMs: optional(number),
  expressions: optional(list(stateful, 256)),
  comment: optional(name),
});

const set = object<NftSet>({
  name,
  handle: number,
  flags: list(named(SET_FLAGS), 64),
  keyType: u32,
  keyLength: length,
  fieldLengths: optional(list(length, 64)),
  dataType: optional(u32),
  dataLength: optional(length),
  objectType: optional(word<NonNullable<NftSet["objectType"]>>()),
  policy: optional(oneOf(["performance", "memory"])),
  size: optional(number),
  timeoutMs: optional(number),
  gcIntervalMs: optional(number),
  expressions: optional(list(stateful, 256)),
  comment: optional(name),
  userdata: optional(hex),
  elements: list(element),
});

const head = { name, handle: number, comment: v.exactOptional(name) };
const limits = { l3proto: u32, l4proto: u32 };
const stateObject: Shape<NftObject> = v.variant("type", [
  v.object({ ...head, type: v.literal("counter"), packets: number, bytes: number }),
  v.object({ ...head, type: v.literal("quota"), bytes: number, consumed: number, flags: list(name, 64) }),
  v.object({
    ...head,
    type: v.literal("limit"),
    rate: number,
    unitSeconds: number,
    burst: number,
    per: v.picklist(["packets", "bytes"]),
    over: flag,
  }),
  v.object({ ...head, type: v.literal("connlimit"), count: number, over: flag }),
  v.object({ ...head, type: v.literal("ct helper"), helper: name, ...limits }),
  v.object({ ...head, type: v.literal("ct timeout"), ...limits, timeouts: record(number) }),
  v.object({
    ...head,
    type: v.literal("ct expectation"),
    ...limits,
    dport: number,
    timeoutMs: number,
    size: number,
  }),
  v.object({ ...head, type: v.literal("secmark"), context: name }),
  v.object({ ...head, type: v.literal("synproxy"), mss: number, wscale: number, flags: list(name, 64) }),
  v.object({ ...head, type: v.literal("other"), number, data: hex }),
]);

export const table = object<Table>({
  family: oneOf(Object.keys(FAMILIES) as Family[]),
  name,
  handle: number,
  flags: list(named(TABLE_FLAGS), 64),
  comment: optional(name),
  owner: optional(number),
  chains: list(chain),
  sets: list(set),
  objects: list(stateObject),
  flowtables: list(
    object<Flowtable>({
      name,
      handle: number,
      hook,
      priority: number,
      devices: list(name),
      flags: list(name, 64),
    }),
  ),
});

export const ruleset = object<Ruleset>({ generation: number, tables: list(table) });
