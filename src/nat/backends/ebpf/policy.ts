/**
 * Intents as the entries of the programs' maps. Pure.
 *
 * A source and a destination are each one look-up of the longest prefix. The sets of a policy all begin with its base, of
 * which there are two: a new policy is written beside the old one, and becomes valid with one number. Of an address, the
 * most specific source around it decides; what the owner of any source around it leaves untranslated is left so
 * (segment.ts). Where sources depend on the link by which packets came, each such link is a zone with sets of its own.
 */
import { parseCidr, type Cidr } from "../../../address/cidr.ts";
import { ascending, type IpFamily } from "../../../address/ip.ts";
import { WayoutError } from "../../../error.ts";
import { NEVER_TRANSLATED, type NatIntent, type NatSource } from "../../intent.ts";
import { byPrecedence, counts, type OwnedSource } from "../../segment.ts";
import {
  familyIndex,
  numberKey,
  pairKey,
  prefixKey,
  translationValue,
  ZONES,
  type TranslationValue,
} from "./layout.ts";
import { present } from "../../../present.ts";

/** The two bases, and how many translations each may have: half of the array's. */
export const BASES = [0x0100_0000, 0x0200_0000] as const;
export type Base = (typeof BASES)[number];
const MOST_TRANSLATIONS = 4096;
/** Sets of untranslated destinations begin here, after those of the zones. */
const KEPT_SETS = 0x0080_0000;

export const POLICY_MAPS = ["sources", "kept", "bound", "zones"] as const;
export type PolicyMap = (typeof POLICY_MAPS)[number];

export interface Entry {
  readonly key: Uint8Array;
  readonly value: Uint8Array;
}

/** A policy as it stands in the maps. */
export interface PolicyEntries {
  readonly entries: Readonly<Record<PolicyMap, readonly Entry[]>>;
  /** Index in the array, and value. */
  readonly translations: readonly Entry[];
  readonly hasZones: boolean;
}

/** @param indexOf of a link by its name; undefined for one that is not there */
export function policyEntries(
  intents: readonly NatIntent[],
  base: Base,
  indexOf: (name: string) => number | undefined,
): PolicyEntries {
  return new Writer(intents, base, indexOf).write();
}

class Writer {
  readonly #entries: Record<PolicyMap, Entry[]> = { sources: [], kept: [], bound: [], zones: [] };
  readonly #translations = new Map<string, number>();
  readonly #values: Entry[] = [];
  readonly #keptSets = new Map<string, number>();

  constructor(
    private readonly intents: readonly NatIntent[],
    private readonly base: Base,
    private readonly indexOf: (name: string) => number | undefined,
  ) {}

  write(): PolicyEntries {
    const names = [
      ...new Set(
        this.intents.flatMap(({ sources }) => sources.flatMap(({ inInterfaces }) => inInterfaces ?? [])),
      ),
    ].sort();
    for (const family of [4, 6] as const) {
      this.#writeZone(0, family, (source) => counts(source, undefined));
      if (names.length > 0) this.#writeZone(ZONES.any, family, () => true);
      for (const [index, name] of names.entries())
        this.#writeZone(ZONES.first + index, family, (source) => counts(source, name));
    }
    for (const [index, name] of names.entries()) {
      const link = this.indexOf(name);
      if (link === undefined) continue;
      this.#entries.zones.push({ key: pairKey(this.base, link), value: numberKey(ZONES.first + index) });
    }
    return { entries: this.#entries, translations: this.#values, hasZones: names.length > 0 };
  }

  #writeZone(zone: number, family: IpFamily, isAsked: (source: NatSource) => boolean): void {
    const set = this.base + 2 * zone + familyIndex(family);
    for (const around of nested(byPrecedence(this.intents, family).filter(({ source }) => isAsked(source)))) {
      const [deciding] = around;
      const { network, prefixLength } = deciding!.cidr;
      const owners = [...new Set(around.map(({ owner }) => owner))].sort();
      this.#entries.sources.push({
        key: prefixKey(set, network, prefixLength),
        value: pairKey(this.#translationOf(deciding!.source), this.#keptSetOf(owners)),
      });
    }
  }

  #translationOf({ translation, outInterfaces }: NatSource): number {
    const { snat, ports, fullyRandom } = translation;
    const value: TranslationValue = {
      ...(snat === undefined ? {} : snat),
      ...present({ ports }),
      fullyRandom,
      bound: outInterfaces !== undefined,
    };
    const text = JSON.stringify([value, outInterfaces]);
    const known = this.#translations.get(text);
    if (known !== undefined) return known;
    if (this.#translations.size >= MOST_TRANSLATIONS) throw tooMany();
    const index = BASES.indexOf(this.base) * MOST_TRANSLATIONS + this.#translations.size;
    this.#translations.set(text, index);
    this.#values.push({ key: numberKey(index), value: translationValue(value) });
    for (const name of outInterfaces ?? []) {
      const link = this.indexOf(name);
      if (link !== undefined) this.#entries.bound.push({ key: pairKey(index, link), value: numberKey(1) });
    }
    return index;
  }

  #keptSetOf(owners: readonly string[]): number {
    const text = owners.join(" ");
    const known = this.#keptSets.get(text);
    if (known !== undefined) return known;
    const set = this.base + KEPT_SETS + 2 * this.#keptSets.size;
    this.#keptSets.set(text, set);
    const wanted = this.intents.filter(({ owner }) => owners.includes(owner));
    const cidrs = new Set([
      ...wanted.flatMap(({ untranslated }) => untranslated),
      ...NEVER_TRANSLATED[4],
      ...NEVER_TRANSLATED[6],
    ]);
    for (const cidr of cidrs) {
      const { family, network, prefixLength } = parseCidr(cidr);
      this.#entries.kept.push({
        key: prefixKey(set + familyIndex(family), network, prefixLength),
        value: numberKey(1),
      });
    }
    return set;
  }
}

/** For every prefix among the sources, those around it: the one that decides first. */
function nested(sources: readonly OwnedSource[]): OwnedSource[][] {
  // Outer prefixes before the ones inside them; of equal ones the order of precedence is kept.
  const ordered = sources.toSorted(
    (a, b) => ascending(a.cidr.first, b.cidr.first) || a.cidr.prefixLength - b.cidr.prefixLength,
  );
  const found: OwnedSource[][] = [];
  let open: { readonly cidr: Cidr; readonly around: OwnedSource[] }[] = [];
  for (const owned of ordered) {
    open = open.filter(({ cidr }) => cidr.last >= owned.cidr.last);
    const innermost = open.at(-1);
    if (innermost?.cidr.prefixLength === owned.cidr.prefixLength) {
      // The first of equal ones decides; of the others only the owner counts.
      innermost.around.push(owned);
      continue;
    }
    const around = [owned, ...(innermost?.around ?? [])];
    found.push(around);
    open.push({ cidr: owned.cidr, around });
  }
  return found;
}

function tooMany(): WayoutError {
  return new WayoutError({
    code: "nat-refused",
    kind: "broken",
    doing: "writing the policy of the eBPF programs",
    said: `it has more than ${MOST_TRANSLATIONS} different ways to translate, which is all that they hold`,
    todo: "Choose the backend nftables, which has no such limit.",
  });
}
