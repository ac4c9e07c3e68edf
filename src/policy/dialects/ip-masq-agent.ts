/**
 * The file of ip-masq-agent (kubernetes-sigs/ip-masq-agent), read as that agent reads it:
 *
 *     nonMasqueradeCIDRs: [10.0.0.0/8]     # absent: RFC 1918. Empty, or null: nothing is excluded
 *     masqLinkLocal: false                 # false leaves 169.254.0.0/16 untranslated
 *     masqLinkLocalIPv6: false             # false leaves fe80::/10 untranslated
 *     resyncInterval: 60s                  # as time.ParseDuration reads it
 *     cidrLimit: 64                        # both families together
 *
 * The case of keys does not matter, and unknown ones are passed over; both are told here, as they are seldom meant. Azure's
 * second version (ip-masq-agent-v2) reads every file of a directory and unites them: the lists are added up, the switches
 * are on when any file has them on, and there are no defaults once there is a file.
 *
 * Such a file names no sources: that agent translates whatever leaves the node, what the node itself sends included. Whose
 * packets are meant here is said beside the file.
 */
import { LINK_LOCAL, PRIVATE_USE } from "../../address/special-purpose.ts";
import { familyOf, AddressError } from "../../address/ip.ts";
import { cidrText, parseCidr } from "../../address/cidr.ts";
import { messageOf, WayoutError } from "../../error.ts";
import { normalizeIntent, type NatIntent } from "../../nat/intent.ts";
import { goFields, parseGoDuration } from "../go.ts";
import { POLICY_OWNER } from "../policy.ts";

/** RFC 1918: the agent's defaults know no IPv6. */
const DEFAULT_CIDRS = PRIVATE_USE.filter((cidr) => familyOf(cidr) === 4);
const DEFAULT_RESYNC_MS = 60_000;
const DEFAULT_CIDR_LIMIT = 64;
const KEYS = [
  "nonMasqueradeCIDRs",
  "masqLinkLocal",
  "masqLinkLocalIPv6",
  "resyncInterval",
  "cidrLimit",
] as const;

/** A file as text, or undefined where there is none: then the defaults hold. */
export interface MasqFile {
  readonly name: string;
  readonly text: string | undefined;
}

export interface MasqOptions {
  /** Whose packets are translated. */
  readonly sources: readonly string[];
  /** `ip-masq-agent`: one file, with defaults. `azure-v2`: a union of files, without. */
  readonly dialect: "ip-masq-agent" | "azure-v2";
}

/** A file, or several, understood. */
export interface MasqPolicy {
  readonly intent: NatIntent;
  readonly resyncIntervalMs: number;
  /** Which file each excluded prefix comes from; "defaults" for those that stand in none. */
  readonly origins: ReadonlyMap<string, readonly string[]>;
  /** What is taken as it is, and is probably not meant. */
  readonly warnings: readonly string[];
}

interface Fields {
  readonly name: string;
  /** undefined: the key is not there. */
  readonly cidrs: readonly string[] | undefined;
  readonly linkLocal: boolean;
  readonly linkLocal6: boolean;
  readonly resyncIntervalMs: number;
  readonly warnings: readonly string[];
}

/** @throws WayoutError `bad-policy`; then the policy before stays in force */
export async function readMasqFiles(files: readonly MasqFile[], options: MasqOptions): Promise<MasqPolicy> {
  const read = await Promise.all(files.map(fieldsOf));
  const origins = new Map<string, string[]>();
  const note = (cidr: string, from: string): void =>
    void origins.set(cidr, [...(origins.get(cidr) ?? []), from]);
  for (const { name, cidrs } of read) for (const cidr of cidrs ?? []) note(cidr, name);
  const useDefaults =
    options.dialect === "ip-masq-agent" ? read.every(({ cidrs }) => cidrs === undefined) : files.length === 0;
  if (useDefaults) for (const cidr of DEFAULT_CIDRS) note(cidr, "defaults");
  const isOn = (which: "linkLocal" | "linkLocal6"): boolean => read.some((one) => one[which]);
  if (!isOn("linkLocal")) note(LINK_LOCAL[4], "masqLinkLocal: false");
  if (!isOn("linkLocal6")) note(LINK_LOCAL[6], "masqLinkLocalIPv6: false");
  const translation = { fullyRandom: true };
  return {
    intent: normalizeIntent({
      owner: POLICY_OWNER,
      sources: options.sources.map((cidr) => ({ cidr, translation })),
      untranslated: [...origins.keys()],
    }),
    resyncIntervalMs: Math.min(...read.map((one) => one.resyncIntervalMs), DEFAULT_RESYNC_MS),
    origins,
    warnings: [...read.flatMap(({ warnings }) => warnings), ...emptyList(read, useDefaults, options)],
  };
}

/** Really happened: a list that is there and empty translates everything, between pods of different nodes as well. */
function emptyList(read: readonly Fields[], useDefaults: boolean, { dialect }: MasqOptions): string[] {
  if (useDefaults || read.some(({ cidrs }) => (cidrs?.length ?? 0) > 0)) return [];
  const names = read.map(({ name }) => name).join(", ");
  const why =
    dialect === "azure-v2" ? "no file excludes a destination" : "nonMasqueradeCIDRs is there and empty";
  return [
    `${names}: ${why}, so EVERYTHING is translated: also what goes to pods on other nodes, which then see the node instead of the pod`,
  ];
}

async function fieldsOf({ name, text }: MasqFile): Promise<Fields> {
  const value = text === undefined ? {} : await mapIn(name, text);
  const { known, unknown } = goFields(value, KEYS);
  const cidrs = known.has("nonMasqueradeCIDRs") ? listOf(name, known.get("nonMasqueradeCIDRs")) : undefined;
  const limit = numberOf(name, "cidrLimit", known.get("cidrLimit")) ?? DEFAULT_CIDR_LIMIT;
  if ((cidrs?.length ?? 0) > limit) {
    throw bad(name, `nonMasqueradeCIDRs holds ${cidrs!.length} CIDRs, and cidrLimit is ${limit}`);
  }
  const { resyncIntervalMs, warning } = intervalOf(name, known.get("resyncInterval"));
  return {
    name,
    cidrs,
    linkLocal: booleanOf(name, "masqLinkLocal", known.get("masqLinkLocal")),
    linkLocal6: booleanOf(name, "masqLinkLocalIPv6", known.get("masqLinkLocalIPv6")),
    resyncIntervalMs,
    warnings: [
      ...unknown.map((key) => `${name}: ${JSON.stringify(key)} is not a known key, and is ignored`),
      ...(warning === undefined ? [] : [`${name}: ${warning}`]),
    ],
  };
}

/** An empty file is a map without keys. */
async function mapIn(name: string, text: string): Promise<Readonly<Record<string, unknown>>> {
  const { parse } = await import("yaml");
  let value: unknown;
  try {
    value = parse(text) ?? {};
  } catch (error) {
    throw bad(name, messageOf(error).split("\n")[0]!);
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw bad(name, "it is no map of keys and values");
  }
  return value as Readonly<Record<string, unknown>>;
}

function listOf(name: string, value: unknown): string[] {
  if (value === null) return [];
  if (!Array.isArray(value)) throw bad(name, "nonMasqueradeCIDRs is no list");
  return value.map((one: unknown, index) => {
    const where = `nonMasqueradeCIDRs[${index}]`;
    if (typeof one !== "string")
      throw bad(name, `${where} is ${one === null ? "empty" : "no text"}; write a CIDR like 10.0.0.0/8`);
    try {
      return cidrText(parseCidr(one));
    } catch (error) {
      if (error instanceof AddressError) throw bad(name, `${where}: ${error.message}`);
      throw error;
    }
  });
}

function booleanOf(name: string, key: string, value: unknown): boolean {
  if (value === undefined || value === null) return false;
  if (typeof value !== "boolean") throw bad(name, `${key} must be true or false`);
  return value;
}

function numberOf(name: string, key: string, value: unknown): number | undefined {
  if (value === undefined || value === null) return undefined;
  if (typeof value !== "number" || !Number.isInteger(value)) throw bad(name, `${key} must be a whole number`);
  return value;
}

/** 0 and negative ones make that agent spin; here they are told, and the usual interval holds. */
function intervalOf(
  name: string,
  value: unknown,
): { readonly resyncIntervalMs: number; readonly warning?: string } {
  if (value === undefined || value === null) return { resyncIntervalMs: DEFAULT_RESYNC_MS };
  const parsed = typeof value === "string" ? parseGoDuration(value) : undefined;
  if (parsed === undefined)
    throw bad(name, `resyncInterval must be a duration in quotes or plain, like 60s or 1h30m`);
  if (parsed > 0) return { resyncIntervalMs: parsed };
  return {
    resyncIntervalMs: DEFAULT_RESYNC_MS,
    warning: `resyncInterval ${parsed} ms is not a usable interval; 60s is used`,
  };
}

function bad(name: string, said: string): WayoutError {
  return new WayoutError({
    code: "bad-policy",
    kind: "usage",
    doing: `reading ${name} as ip-masq-agent does`,
    said,
    todo: "Nothing was changed: the policy before stays in force.",
  });
}
