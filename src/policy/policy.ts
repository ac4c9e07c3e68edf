/**
 * Room `policy/`: the NAT policy of a node as a file, in the words that users know from ip-masq-agent (whose files are
 * valid here), and what it means as an intent. policy-file.ts parses the text; here are the fields.
 *
 * In: the text of a YAML or JSON file; what other owners want.
 * Out: a NatIntent and a backend; problems with line and column; advice.
 * Touches: nothing but the file that it is given.
 */
import { LINK_LOCAL, PRIVATE_USE } from "../address/special-purpose.ts";
import * as v from "valibot";
import { familyOf, AddressError } from "../address/ip.ts";
import { cidrText, parseCidr } from "../address/cidr.ts";
import type { PortRange } from "../linux/ip-protocol.ts";
import { DEFAULT_BACKEND, NAT_BACKENDS, type NatBackendName } from "../nat/backends/backends.ts";
import {
  DROPPED,
  isPlainInterfaceName,
  nodeSources,
  normalizeIntent,
  type AddressRange,
  type NatIntent,
  type NatSource,
  type Translation,
} from "../nat/intent.ts";

import { ADMISSION_DOORS, type AdmissionDoor } from "../admission/doors.ts";
import { untranslatedOf } from "./destinations.ts";
import { parseGoDuration } from "./go.ts";
import { present } from "../present.ts";

/** Whether the eBPF programs may take their short way; `auto`: while an agent says that nobody is left out by it. */
const FAST_PATHS = ["off", "auto"] as const;
export type FastPathWish = (typeof FAST_PATHS)[number];

/** The owner under which a policy file's rules stand. */
export const POLICY_OWNER = "policy";

/** A prefix as it stands in a file. */
export const CIDR_TEXT = v.pipe(
  v.string("must be a CIDR in quotes or plain, like 10.0.0.0/8"),
  v.rawTransform(({ dataset: { value }, addIssue, NEVER }): string => {
    try {
      return cidrText(parseCidr(value));
    } catch (error) {
      if (!(error instanceof AddressError)) throw error;
      addIssue({ message: error.message });
      return NEVER;
    }
  }),
);

const cidr = CIDR_TEXT;

const addressRange = v.pipe(
  v.string("must be an address or a range, like 203.0.113.5 or 203.0.113.5-203.0.113.9"),
  v.transform((text): AddressRange => {
    const [first = "", last = first] = text.split("-").map((part) => part.trim());
    return { first, last };
  }),
);

const portRange = v.pipe(
  v.union([v.string(), v.number()], "must be a port or a range of ports, like 32768-60999"),
  v.check(
    (value) => /^\s*\d+\s*(-\s*\d+\s*)?$/.test(String(value)),
    "must be a port or a range of ports, like 32768-60999",
  ),
  v.transform((value): PortRange => {
    const [first = 0, last = first] = String(value).split("-").map(Number);
    return { first, last };
  }),
  v.check(({ first, last }) => first >= 1 && last <= 65_535, "ports are 1 to 65535"),
  v.check(({ first, last }) => first <= last, "the range ends before it begins"),
);

const outInterfaces = v.array(
  v.pipe(
    v.string("must be the name of an interface"),
    v.check(isPlainInterfaceName, "is no interface name (1 to 15 bytes, no / or white space)"),
  ),
  "must be a list of interfaces",
);

const boolean = v.boolean("must be true or false");

/** What may be said for all sources, and for one of them again. */
const translation = {
  snat: v.optional(addressRange),
  portRange: v.optional(portRange),
  randomFully: v.optional(boolean),
  outInterfaces: v.optional(outInterfaces),
};

const sourceText = v.pipe(
  cidr,
  v.transform((text) => ({ cidr: text })),
);
const sourceMap = v.strictObject({ cidr, ...translation, drop: v.optional(boolean) }, sourceMessage);

/** A list entry that is no map shall not be told which keys it lacks. */
function sourceMessage({ input, received }: { readonly input: unknown; readonly received: string }): string {
  if (typeof input === "object") return received === "undefined" ? "is missing" : "is not a known key";
  return "must be a CIDR, or a map with the key cidr";
}

const source = v.lazy((input): typeof sourceText | typeof sourceMap =>
  typeof input === "string" ? sourceText : sourceMap,
);

/** Durations as Go writes them; ip-masq-agent's file has one. Milliseconds. */
const duration = v.pipe(
  v.string("must be a duration, like 60s or 1m30s"),
  v.check((text) => (parseGoDuration(text) ?? 0) > 0, "must be a duration, like 60s or 1m30s"),
  v.transform((text) => parseGoDuration(text)!),
);

const door = v.picklist(ADMISSION_DOORS, `must be one of ${ADMISSION_DOORS.join(", ")}`);
/** One door, or a list of them. */
const doors = v.lazy((input) =>
  Array.isArray(input)
    ? v.array(door)
    : v.pipe(
        door,
        v.transform((one): AdmissionDoor[] => [one]),
      ),
);

/** What may stand where the kind of a value decides, so that each has messages of its own. */
export const ALTERNATIVES: ReadonlyMap<v.GenericSchema, readonly v.GenericSchema[]> = new Map<
  v.GenericSchema,
  readonly v.GenericSchema[]
>([
  [source, [sourceText, sourceMap]],
  [doors, [door, v.array(door)]],
]);

export const POLICY = v.strictObject({
  sources: v.optional(v.array(source, "must be a list of CIDRs"), ["0.0.0.0/0"]),
  nonMasqueradeCIDRs: v.optional(v.array(cidr, "must be a list of CIDRs"), [...PRIVATE_USE]),
  masqueradeCIDRs: v.optional(v.array(cidr, "must be a list of CIDRs"), []),
  hostTraffic: v.optional(boolean, false),
  masqLinkLocal: v.optional(boolean, false),
  masqLinkLocalIPv6: v.optional(boolean, false),
  ...translation,
  backend: v.optional(v.picklist(NAT_BACKENDS, `must be one of ${NAT_BACKENDS.join(", ")}`), DEFAULT_BACKEND),
  fastPath: v.optional(v.picklist(FAST_PATHS, `must be one of ${FAST_PATHS.join(", ")}`), "off"),
  admit: v.optional(doors, []),
  resyncInterval: v.optional(duration, "60s"),
  cidrLimit: v.optional(
    v.pipe(
      v.number("must be a number"),
      v.integer("must be a whole number"),
      v.minValue(0, "must not be negative"),
    ),
    64,
  ),
});

type PolicyFields = v.InferOutput<typeof POLICY>;

/** A policy file, understood. */
export interface NatPolicy {
  readonly backend: NatBackendName;
  readonly intent: NatIntent;
  /** Only an agent does something about it. */
  readonly fastPath: FastPathWish;
  /** Other products' filters through which pods are let, by those products' own doors. */
  readonly admit: readonly AdmissionDoor[];
  /** How often an agent reads the file again and mends the rules. */
  readonly resyncIntervalMs: number;
}

/** @throws WayoutError `bad-nat-intent` for what only shows when fields meet: a family, a range, a doubled source */
export function policyOf(fields: PolicyFields): NatPolicy {
  const sources = fields.sources.map((one): NatSource => {
    // What a source says itself wins over what the file says for all; its own snat replaces the common one.
    const own = { ...commonOf(fields), ...definedFields(one) };
    return present({
      cidr: one.cidr,
      translation:
        "drop" in one && one.drop === true
          ? droppedOf(one)
          : present({
              snat:
                own.snat === undefined || !sameFamily(one.cidr, own.snat, "snat" in one)
                  ? undefined
                  : own.snat,
              ports: own.portRange,
              fullyRandom: own.randomFully ?? true,
            }),
      outInterfaces: own.outInterfaces,
    });
  });
  const kept = [
    ...fields.nonMasqueradeCIDRs,
    ...(fields.masqLinkLocal ? [] : [LINK_LOCAL[4]]),
    ...(fields.masqLinkLocalIPv6 ? [] : [LINK_LOCAL[6]]),
  ];
  const untranslated = untranslatedOf(kept, fields.masqueradeCIDRs);
  return {
    backend: fields.backend,
    intent: normalizeIntent({
      owner: POLICY_OWNER,
      sources: fields.hostTraffic ? [...sources, ...ownSources(fields, sources)] : sources,
      untranslated,
    }),
    fastPath: fields.fastPath,
    admit: [...new Set(fields.admit)],
    resyncIntervalMs: fields.resyncInterval,
  };
}

/** What the node itself sends leaves as the file says for all, in the families of the sources. */
function ownSources(fields: PolicyFields, sources: readonly NatSource[]): NatSource[] {
  const { snat, portRange, randomFully, outInterfaces } = fields;
  const families = [...new Set(sources.map(({ cidr }) => familyOf(cidr)))];
  return families.flatMap((family) =>
    nodeSources([family], sources, {
      ...(snat === undefined || familyOf(snat.first) !== family ? {} : { snat }),
      ...(portRange === undefined ? {} : { ports: portRange }),
      fullyRandom: randomFully ?? true,
    }).map((source) => (outInterfaces === undefined ? source : { ...source, outInterfaces })),
  );
}

/** What is common to all translates; what the source itself says beside it is a contradiction, which the intent names. */
function droppedOf({ snat, portRange }: SourceFields): Translation {
  return {
    ...DROPPED,
    ...present({ snat, ports: portRange }),
  };
}

type SourceFields = v.InferOutput<typeof sourceMap>;

function commonOf({ snat, portRange, randomFully, outInterfaces }: PolicyFields) {
  return { snat, portRange, randomFully, outInterfaces };
}

function definedFields<T extends object>(fields: T): Partial<T> {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as Partial<T>;
}

/** The common snat address of a dual-stack policy is for the sources of its family; the others are masqueraded. */
function sameFamily(cidr: string, snat: AddressRange, isOwn: boolean): boolean {
  return isOwn || familyOf(cidr) === familyOf(snat.first);
}
