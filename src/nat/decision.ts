/** What a set of intents decides about one packet: the same as the rules that the backends make of them. Pure. */
import { cidrContains, parseCidr, type Cidr } from "../address/cidr.ts";
import { ipFamily, type IpFamily } from "../address/ip.ts";
import { NEVER_TRANSLATED, type NatIntent, type NatSource } from "./intent.ts";
import { byPrecedence, type OwnedSource } from "./segment.ts";

/** The source that decides, and whether this destination sees another address than the pod's own. */
export interface Decision {
  readonly source: NatSource;
  readonly translated: boolean;
}

/** undefined where nobody of ours wants anything of the source. */
export type Decide = (source: string, destination: string) => Decision | undefined;

/** Interfaces are not looked at: a source that is bound to some (`outInterfaces`) is translated there only. */
export function decisionOf(intents: readonly NatIntent[]): Decide {
  const sources: Readonly<Record<IpFamily, readonly OwnedSource[]>> = {
    4: byPrecedence(intents, 4),
    6: byPrecedence(intents, 6),
  };
  const untranslated = new Map<string, Cidr[]>();
  for (const { owner, untranslated: cidrs } of intents) {
    untranslated.set(
      owner,
      [...cidrs, ...NEVER_TRANSLATED[4], ...NEVER_TRANSLATED[6]].map((cidr) => parseCidr(cidr)),
    );
  }
  return (source, destination) => {
    const found = sources[ipFamily(source)].find(({ cidr }) => cidrContains(cidr, source));
    if (found === undefined) return undefined;
    const isKept = untranslated.get(found.owner)!.some((cidr) => cidrContains(cidr, destination));
    return { source: found.source, translated: !isKept };
  };
}
