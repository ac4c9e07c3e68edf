/** What an intent allows that is probably not meant. Pure: nothing here is an error. */
import { parseCidr, type Cidr } from "../address/cidr.ts";
import { familyOf, ipFamily, ipFromNumber, ipNumber } from "../address/ip.ts";
import { podSources, type NatIntent } from "../nat/intent.ts";
import { byPrecedence, segmentsOf } from "../nat/segment.ts";
import { present } from "../present.ts";

/** What the node has, as far as advice depends on it. */
export interface NodeAddresses {
  /** Every address of the node, without prefix. */
  readonly addresses: ReadonlySet<string>;
  readonly interfaces: ReadonlySet<string>;
}

/** A range longer than this is not looked at address by address. */
const MOST_ADDRESSES = 1024n;

/** Sentences, each with the value it is about. @param others what other owners want */
export function adviceOn(intent: NatIntent, others: readonly NatIntent[], node: NodeAddresses): string[] {
  return [
    ...shadowed(intent, others),
    ...foreignAddresses(intent, node),
    ...missingInterfaces(intent, node),
    ...fewPorts(intent),
  ];
}

/** Each destination can be reached so many times at once: fewer than this is soon too few. */
const FEW_PORTS = 1024;

function fewPorts(intent: NatIntent): string[] {
  const few = new Map<string, string[]>();
  for (const { cidr, translation } of intent.sources) {
    const { first, last } = translation.ports ?? { first: 0, last: FEW_PORTS };
    const count = last - first + 1;
    if (count >= FEW_PORTS) continue;
    const range = count === 1 ? `port ${first}` : `ports ${first}-${last}, ${count} in all`;
    few.set(range, [...(few.get(range) ?? []), cidr]);
  }
  return [...few].map(
    ([range, [first, ...more]]) =>
      `${first}${more.length === 0 ? "" : ` and ${more.length} more`} may use ${range}: no more connections than that to one destination at once`,
  );
}

/** Sources of which no address is this owner's to decide. */
function shadowed(intent: NatIntent, others: readonly NatIntent[]): string[] {
  const all = [...others.filter(({ owner }) => owner !== intent.owner), intent];
  return ([4, 6] as const).flatMap((family) => {
    const decided = new Set(
      segmentsOf(all, family)
        .filter(({ owned }) => owned.owner === intent.owner)
        .map(({ owned }) => owned.source.cidr),
    );
    return byPrecedence([intent], family)
      .filter(({ source }) => !decided.has(source.cidr))
      .map(({ source, cidr }) => {
        const winners = byPrecedence(all, family)
          .filter(
            (other) =>
              other.owner !== intent.owner && other.cidr.first <= cidr.last && cidr.first <= other.cidr.last,
          )
          .map(({ owner }) => owner);
        return `the policy's entry for ${source.cidr} has no effect: ${[...new Set(winners)].join(", ")} decides about all of it`;
      });
  });
}

/** Owners beside whom the policy holds: they say as whom, and what the policy leaves untranslated is left so. */
export interface Shared {
  readonly owner: string;
  readonly cidrs: readonly string[];
  /** Destinations that the owner by itself would have translated. */
  readonly untranslated: readonly string[];
  /** The backend of the owner's rules when it is another than the policy's: there nobody asks the policy. */
  readonly elsewhere?: string;
}

/** @param others what other owners want, in the policy's backend or in the one that is named */
export function sharedWith(intent: NatIntent, others: readonly NatIntent[], elsewhere?: string): Shared[] {
  return others
    .filter(({ owner }) => owner !== intent.owner)
    .flatMap(({ owner, sources, untranslated }) => {
      const around = podSources(intent).map(({ cidr }) => parseCidr(cidr));
      const cidrs = sources
        .map(({ cidr }) => cidr)
        .filter((text) => around.some((outer) => contains(outer, parseCidr(text))));
      const added = intent.untranslated.filter((cidr) => {
        const sameFamily = cidrs.some((text) => familyOf(text) === familyOf(cidr));
        return sameFamily && !untranslated.some((own) => contains(parseCidr(own), parseCidr(cidr)));
      });
      if (cidrs.length === 0 || added.length === 0) return [];
      return [present({ owner, cidrs, untranslated: added, elsewhere })];
    });
}

function contains(outer: Cidr, inner: Cidr): boolean {
  return outer.family === inner.family && outer.first <= inner.first && inner.last <= outer.last;
}

/** Answers to an address that the node does not have arrive only when a router leads it here. */
function foreignAddresses(intent: NatIntent, { addresses }: NodeAddresses): string[] {
  const foreign = new Set<string>();
  for (const { translation } of intent.sources) {
    if (translation.snat === undefined) continue;
    const family = ipFamily(translation.snat.first);
    const [first, last] = [ipNumber(translation.snat.first), ipNumber(translation.snat.last)];
    for (let at = first; at <= last && at - first < MOST_ADDRESSES; at++) {
      const address = ipFromNumber(family, at);
      if (!addresses.has(address)) foreign.add(address);
    }
  }
  if (foreign.size === 0) return [];
  const [one, ...rest] = foreign;
  return [
    `${one}${rest.length === 0 ? "" : ` and ${rest.length} more`} is no address of this node: answers come back only if the network outside routes it here`,
  ];
}

function missingInterfaces(intent: NatIntent, { interfaces }: NodeAddresses): string[] {
  const named = new Set(intent.sources.flatMap(({ outInterfaces }) => outInterfaces ?? []));
  return [...named]
    .filter((name) => !interfaces.has(name))
    .map((name) => `there is no interface ${name} now; nothing is translated there until there is one`);
}
