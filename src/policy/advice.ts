/** What an intent allows that is probably not meant. Pure: nothing here is an error. */
import { ipFamily, ipFromNumber, ipNumber } from "../address/ip.ts";
import type { NatIntent } from "../nat/intent.ts";
import { byPrecedence, segmentsOf } from "../nat/segment.ts";

/** What the node has, as far as advice depends on it. */
export interface NodeFacts {
  /** Every address of the node, without prefix. */
  readonly addresses: ReadonlySet<string>;
  readonly interfaces: ReadonlySet<string>;
}

/** A range longer than this is not looked at address by address. */
const MOST_ADDRESSES = 1024n;

/** Sentences, each with the value it is about. @param others what other owners want */
export function adviceOn(intent: NatIntent, others: readonly NatIntent[], node: NodeFacts): string[] {
  return [...shadowed(intent, others), ...foreignAddresses(intent, node), ...missingInterfaces(intent, node)];
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
        return `${source.cidr} changes nothing: ${[...new Set(winners)].join(", ")} decides about all of it`;
      });
  });
}

/** Answers to an address that the node does not have arrive only when somebody routes it here. */
function foreignAddresses(intent: NatIntent, { addresses }: NodeFacts): string[] {
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
    `${one}${rest.length === 0 ? "" : ` and ${rest.length} more`} is no address of this node: answers come back only when the network outside routes it here`,
  ];
}

function missingInterfaces(intent: NatIntent, { interfaces }: NodeFacts): string[] {
  const named = new Set(intent.sources.flatMap(({ outInterfaces }) => outInterfaces ?? []));
  return [...named]
    .filter((name) => !interfaces.has(name))
    .map((name) => `there is no interface ${name} now; nothing is translated there until there is one`);
}
