/**
 * The policy's file as a JSON Schema (2020-12), for editors and other programs: docs/policy.schema.json, made from the very
 * schema by which the file is read (policy.ts). What only shows when fields meet (families, overlaps, a range that ends before
 * it begins) is checked by `wayout nat apply --dry-run`.
 */
import type * as v from "valibot";
import { ALTERNATIVES, CIDR_TEXT, POLICY } from "./policy.ts";
import { present } from "../present.ts";

type JsonSchema = Readonly<Record<string, unknown>>;

const ABOUT: Readonly<Record<keyof typeof POLICY.entries, string>> = {
  sources: "Whose packets are translated; the most specific network around an address decides.",
  nonMasqueradeCIDRs: "Destinations that see the real source.",
  masqueradeCIDRs: "Exceptions within them that are translated all the same: the longest prefix decides.",
  hostTraffic:
    "Whether what the node itself sends is translated, too, whichever of its addresses it has; not with the backend ebpf.",
  masqLinkLocal: "Whether to translate what goes to 169.254.0.0/16.",
  masqLinkLocalIPv6: "Whether to translate what goes to fe80::/10.",
  snat: "A fixed address, or a range of them, instead of the outgoing interface's.",
  portRange: "Source ports to use outside: one, or a range like 32768-60999.",
  randomFully: "Whether ports are chosen at random. Default: true.",
  outInterfaces: "Translate only what leaves by one of these interfaces.",
  backend: "What makes the rules; none: another program translates.",
  fastPath:
    "auto: where nobody's rules, queues or programs would be left out by it, and while the agent lives, known connections go past them. Only with the backend ebpf.",
  admit: "Other products' filters through which the sources are let, each by its own door.",
  resyncInterval: "How often the file is read again at least, as Go writes durations: 60s, 1m30s.",
  cidrLimit: "How many CIDRs nonMasqueradeCIDRs may hold.",
};

/** What is known of a schema of valibot's, as far as it is used there. */
interface Described {
  readonly type: string;
  readonly entries?: Readonly<Record<string, Described>>;
  readonly wrapped?: Described;
  readonly default?: unknown;
  readonly item?: Described;
  readonly options?: readonly unknown[];
  readonly pipe?: readonly { readonly type: string; readonly requirement?: unknown }[];
}

export function policyJsonSchema(): JsonSchema {
  const { properties, ...rest } = jsonSchemaOf(POLICY);
  const described = Object.entries(properties as Readonly<Record<string, JsonSchema>>).map(
    ([key, schema]) => [key, { description: ABOUT[key as keyof typeof ABOUT], ...schema }],
  );
  return {
    $schema: "https://json-schema.org/draft/2020-12/schema",
    title: "NAT policy of wayout",
    ...rest,
    properties: Object.fromEntries(described) as JsonSchema,
  };
}

function jsonSchemaOf(schema: Described): JsonSchema {
  const alternatives = ALTERNATIVES.get(schema as unknown as v.GenericSchema);
  if (alternatives !== undefined) return { anyOf: alternatives.map((one) => jsonSchemaOf(one as Described)) };
  if (schema === (CIDR_TEXT as unknown) || schema.pipe?.[0] === (CIDR_TEXT as unknown))
    return { type: "string", pattern: "^[0-9a-fA-F:.]+(/[0-9]{1,3})?$" };
  switch (schema.type) {
    case "strict_object": {
      const entries = Object.entries(schema.entries ?? {});
      const required = entries.filter(([, { type }]) => type !== "optional").map(([key]) => key);
      return present({
        type: "object",
        additionalProperties: false,
        required: required.length === 0 ? undefined : required,
        properties: Object.fromEntries(entries.map(([key, field]) => [key, jsonSchemaOf(field)])),
      });
    }
    case "optional":
      return {
        ...jsonSchemaOf(schema.wrapped!),
        ...present({ default: schema.default }),
      };
    case "array":
      return { type: "array", items: jsonSchemaOf(schema.item!) };
    case "picklist":
      return { enum: schema.options };
    case "union":
      return { anyOf: schema.options!.map((one) => jsonSchemaOf(one as Described)) };
    case "number":
      return { type: isInteger(schema) ? "integer" : "number", ...minimumOf(schema) };
    case "string":
    case "boolean":
      return { type: schema.type };
    default:
      throw new Error(`no JSON Schema is known for ${schema.type}`);
  }
}

function isInteger({ pipe = [] }: Described): boolean {
  return pipe.some(({ type }) => type === "integer");
}

function minimumOf({ pipe = [] }: Described): JsonSchema {
  const minimum = pipe.find(({ type }) => type === "min_value")?.requirement;
  return present({ minimum });
}
