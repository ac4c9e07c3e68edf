/**
 * The file of ip-masq-agent (kubernetes-sigs/ip-masq-agent), read as that agent reads it:
 *
 *     nonMasqueradeCIDRs: [10.0.0.0/8]     # absent: RFC 1918. Empty, or null: nothing is excluded
 *     masqLinkLocal: false                 # false leaves 169.254.0.0/16 untranslated
 *     masqLinkLocalIPv6: false             # false leaves fe80::/10 untranslated
 *     resyncInterval: 60s                  # as time.ParseDuration reads it
 *     cidrLimit: 64                        # both families together
 *     hostTraffic: false                   # ours: that agent does not know the key and passes it over
 *
 * The case of keys does not matter, and unknown ones are passed over, which is told here, as it is seldom meant. Azure's
 * second version (ip-masq-agent-v2) reads every file of a directory and unites them: the lists are added up, the switches
 * are on when any file has them on, and there are no defaults once there is a file; it knows the first three keys alone, and each
 * file may hold 64 prefixes.
 *
 * Such a file names no sources: that agent translates whatever leaves the node, what the node itself sends included. Whose
 * packets are meant here is said beside the file; what the node itself sends, only with `hostTraffic: true` in it.
 */
import { LINK_LOCAL, PRIVATE_USE } from "../../address/special-purpose.ts";
import { familyOf, AddressError, type IpFamily } from "../../address/ip.ts";
import { cidrText, parseCidr } from "../../address/cidr.ts";
import type { WayoutError } from "../../error.ts";
import { nodeSources, normalizeIntent, type NatIntent } from "../../nat/intent.ts";
import { PolicyDocument } from "../document.ts";
import { goFields, parseGoDuration, type GoField } from "../go.ts";
import { POLICY_OWNER } from "../policy.ts";

/** RFC 1918: the agent's defaults know no IPv6. */
const DEFAULT_CIDRS = PRIVATE_USE.filter((cidr) => familyOf(cidr) === 4);
const DEFAULT_RESYNC_MS = 60_000;
const DEFAULT_CIDR_LIMIT = 64;
const DEFAULTS_TEXT = `${DEFAULT_CIDRS.join(", ")} are left untranslated`;
const COMMON_KEYS = ["nonMasqueradeCIDRs", "masqLinkLocal", "masqLinkLocalIPv6", "hostTraffic"] as const;
/** The second version has its interval from its command line, and one limit for all. */
const KEYS = {
  "ip-masq-agent": [...COMMON_KEYS, "resyncInterval", "cidrLimit"],
  "azure-v2": COMMON_KEYS,
} as const;

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
  readonly hostTraffic: boolean;
  readonly resyncIntervalMs: number;
  readonly warnings: readonly string[];
}

/** @throws WayoutError `bad-policy`; then the policy before stays in force */
export async function readMasqFiles(files: readonly MasqFile[], options: MasqOptions): Promise<MasqPolicy> {
  const read = await Promise.all(files.map((file) => fieldsOf(file, options.dialect)));
  const origins = new Map<string, string[]>();
  const note = (cidr: string, from: string): void =>
    void origins.set(cidr, [...(origins.get(cidr) ?? []), from]);
  for (const { name, cidrs } of read) for (const cidr of cidrs ?? []) note(cidr, name);
  const useDefaults =
    options.dialect === "ip-masq-agent" ? read.every(({ cidrs }) => cidrs === undefined) : files.length === 0;
  if (useDefaults) for (const cidr of DEFAULT_CIDRS) note(cidr, "defaults");
  const isOn = (which: "linkLocal" | "linkLocal6" | "hostTraffic"): boolean => read.some((one) => one[which]);
  if (!isOn("linkLocal")) note(LINK_LOCAL[4], "masqLinkLocal: false");
  if (!isOn("linkLocal6")) note(LINK_LOCAL[6], "masqLinkLocalIPv6: false");
  const translation = { fullyRandom: true };
  const sources = options.sources.map((cidr) => ({ cidr, translation }));
  return {
    intent: normalizeIntent({
      owner: POLICY_OWNER,
      sources: isOn("hostTraffic")
        ? [...sources, ...nodeSources(familiesOf(options.sources), sources, translation)]
        : sources,
      untranslated: [...origins.keys()],
    }),
    resyncIntervalMs: Math.min(...read.map((one) => one.resyncIntervalMs), DEFAULT_RESYNC_MS),
    origins,
    warnings: [
      ...(files.length === 0
        ? [`no file there begins with ip-masq, so the defaults hold: ${DEFAULTS_TEXT}`]
        : []),
      ...read.flatMap(({ warnings }) => warnings),
      ...emptyList(read, useDefaults, options),
    ],
  };
}

/** That agent translates IPv4, and IPv6 where it is told to. */
function familiesOf(sources: readonly string[]): IpFamily[] {
  return sources.some((cidr) => familyOf(cidr) === 6) ? [4, 6] : [4];
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

/** What else is asked of a file than what stands in it. */
interface Reader {
  readonly document: PolicyDocument;
  readonly known: ReadonlyMap<string, GoField>;
}

async function fieldsOf({ name, text }: MasqFile, dialect: MasqOptions["dialect"]): Promise<Fields> {
  const document = await PolicyDocument.readAsGo(text ?? "", name, {
    doing: `reading ${name} as ip-masq-agent does`,
    todo: "Nothing was changed: the policy before stays in force.",
  });
  const keys = KEYS[dialect];
  const { known, unknown } = goFields(document.fields(), keys, document.json ? "as-written" : "sorted");
  const reader = { document, known };
  const cidrs = listOf(reader, "nonMasqueradeCIDRs");
  const limit = numberOf(reader, "cidrLimit") ?? DEFAULT_CIDR_LIMIT;
  // That of the list which holds: of the defaults where the file has none.
  const held = cidrs ?? (dialect === "ip-masq-agent" && text !== undefined ? DEFAULT_CIDRS : []);
  if (held.length > limit) {
    const path = [known.get("nonMasqueradeCIDRs") ?? known.get("cidrLimit")!].map(({ key }) => key);
    throw document.refusedAt(path, `holds ${held.length} CIDRs, and cidrLimit is ${limit}`);
  }
  const { resyncIntervalMs, warning } = intervalOf(reader, "resyncInterval");
  return {
    name,
    cidrs,
    linkLocal: booleanOf(reader, "masqLinkLocal"),
    linkLocal6: booleanOf(reader, "masqLinkLocalIPv6"),
    hostTraffic: booleanOf(reader, "hostTraffic"),
    resyncIntervalMs,
    warnings: [
      ...(text === undefined ? [`there is no ${name}, so the defaults hold: ${DEFAULTS_TEXT}`] : []),
      ...unknown.map((key) => `${name}: ${JSON.stringify(key)} is not a known key, and is ignored`),
      ...(warning === undefined ? [] : [`${name}: ${warning}`]),
    ],
  };
}

/** undefined: the key is not there, or, for those readers, says nothing. */
function valueOf({ known }: Reader, name: string): unknown {
  return known.get(name)?.value ?? undefined;
}

function refusedAt({ document, known }: Reader, name: string, problem: string, ...below: number[]) {
  return document.refusedAt([known.get(name)!.key, ...below], problem);
}

/** undefined: the key is not there. A key without a value is an empty list. */
function listOf(reader: Reader, key: string): string[] | undefined {
  const value = reader.known.get(key)?.value;
  if (value === undefined) return undefined;
  if (value === null) return [];
  if (!Array.isArray(value)) throw refusedAt(reader, key, "is no list");
  return value.map((one: unknown, index) => {
    const refuse = (problem: string): WayoutError => refusedAt(reader, key, problem, index);
    if (typeof one !== "string")
      throw refuse(`is ${one === null ? "empty" : "no text"}; write a CIDR like 10.0.0.0/8`);
    if (!one.includes("/")) throw refuse(`${one} has no prefix length; write it like 192.0.2.1/32`);
    try {
      return cidrText(parseCidr(one));
    } catch (error) {
      if (error instanceof AddressError) throw refuse(error.message);
      throw error;
    }
  });
}

function booleanOf(reader: Reader, key: string): boolean {
  const value = valueOf(reader, key);
  if (value === undefined) return false;
  if (typeof value !== "boolean") throw refusedAt(reader, key, "must be true or false");
  return value;
}

function numberOf(reader: Reader, key: string): number | undefined {
  const value = valueOf(reader, key);
  if (value === undefined) return undefined;
  if (typeof value !== "number" || !Number.isInteger(value))
    throw refusedAt(reader, key, "must be a whole number");
  return value;
}

/**
 * 0 and negative ones make that agent spin; here they are told, and the usual interval holds. A key without a value is refused:
 * its type has a reader of its own, which wants a text.
 */
function intervalOf(
  reader: Reader,
  key: string,
): { readonly resyncIntervalMs: number; readonly warning?: string } {
  const value = reader.known.get(key)?.value;
  if (value === undefined) return { resyncIntervalMs: DEFAULT_RESYNC_MS };
  const parsed = typeof value === "string" ? parseGoDuration(value) : undefined;
  if (parsed === undefined)
    throw refusedAt(reader, key, "must be a duration in quotes or plain, like 60s or 1h30m");
  if (parsed > 0) return { resyncIntervalMs: parsed };
  return {
    resyncIntervalMs: DEFAULT_RESYNC_MS,
    warning: `resyncInterval ${parsed} ms is not a usable interval; 60s is used`,
  };
}
