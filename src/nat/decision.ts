/** What a set of intents decides about one packet: the same as the rules that the backends make of them. Pure. */
import { cidrContains, parseCidr, type Cidr } from "../address/cidr.ts";
import { ipFamily, type IpFamily } from "../address/ip.ts";
import { NEVER_TRANSLATED, type NatIntent, type NatSource } from "./intent.ts";
import { byPrecedence, counts, type OwnedSource } from "./segment.ts";

/** The source that decides, and whether this destination sees another address than the pod's own. */
export interface Decision {
  readonly source: NatSource;
  readonly translated: boolean;
}

/** @param entered the interface that the packet came to the node by. undefined where nobody wants anything of it */
export type Decide = (
  source: string,
  destination: string,
  entered: string | undefined,
) => Decision | undefined;

/** Where the packet leaves is not looked at: a source that is bound there (`outInterfaces`) is translated there only. */
export function decisionOf(intents: readonly NatIntent[]): Decide {
  const sources: Readonly<Record<IpFamily, readonly OwnedSource[]>> = {
    4: byPrecedence(intents, 4),
    6: byPrecedence(intents, 6),
  };
  const never = [...NEVER_TRANSLATED[4], ...NEVER_TRANSLATED[6]];
  const untranslated = new Map<string, Cidr[]>();
  for (const { owner, untranslated: cidrs } of intents) {
    untranslated.set(
      owner,
      [...cidrs, ...never].map((cidr) => parseCidr(cidr)),
    );
  }
  return (source, destination, entered) => {
    const around = sources[ipFamily(source)].filter(
      (one) => counts(one.source, entered) && cidrContains(one.cidr, source),
    );
    const [decides] = around;
    if (decides === undefined) return undefined;
    const isKept = around.some(({ owner }) =>
      untranslated.get(owner)!.some((cidr) => cidrContains(cidr, destination)),
    );
    return { source: decides.source, translated: !isKept };
  };
}
