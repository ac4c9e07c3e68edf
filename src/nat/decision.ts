/** What a set of intents decides about one packet: the same as the rules that the backends make of them. Pure. */
import { cidrContains, cidrText, parseCidr, type Cidr } from "../address/cidr.ts";
import { ipFamily, type IpFamily } from "../address/ip.ts";
import { cidrsOf, NEVER_TRANSLATED, type NatIntent, type NatSource } from "./intent.ts";
import { byPrecedence, counts, type OwnedSource } from "./segment.ts";

/** The source that decides, and whether this destination sees another address than the pod's own. */
export interface NatDecision {
  readonly owner: string;
  readonly source: NatSource;
  readonly translated: boolean;
  /** It is not let out at all; absent when it is. */
  readonly dropped?: true;
  /** The prefix around the destination that is left untranslated, and whose wish that is; absent when translated. */
  readonly kept?: { readonly owner: string; readonly cidr: string };
}

/**
 * undefined where nobody of ours wants anything of the source.
 * @param entered by which interface the source's packets come, or FROM_NODE; asked only where a source depends on it
 */
export type Decide = (
  source: string,
  destination: string,
  entered: () => string | undefined,
) => NatDecision | undefined;

/** `outInterfaces` are not looked at: a source that is bound to some is translated there only. */
export function decisionOf(intents: readonly NatIntent[]): Decide {
  const sources: Readonly<Record<IpFamily, readonly OwnedSource[]>> = {
    4: byPrecedence(intents, 4),
    6: byPrecedence(intents, 6),
  };
  const untranslated = new Map<string, Cidr[]>();
  const never = [...NEVER_TRANSLATED[4], ...NEVER_TRANSLATED[6]].map((cidr) => parseCidr(cidr));
  for (const intent of intents) untranslated.set(intent.owner, [...cidrsOf(intent).untranslated, ...never]);
  const depends = intents.some((intent) =>
    intent.sources.some((one) => one.inInterfaces !== undefined || one.fromNode === true),
  );
  // Many flows have one source.
  const known = new Map<string, readonly OwnedSource[]>();
  const around = (source: string, entered: string | undefined): readonly OwnedSource[] => {
    const key = `${source} ${entered}`;
    let found = known.get(key);
    if (found === undefined) {
      found = sources[ipFamily(source)].filter(
        (one) => cidrContains(one.cidr, source) && counts(one.source, entered),
      );
      known.set(key, found);
    }
    return found;
  };
  return (source, destination, entered) => {
    const found = around(source, depends ? entered() : undefined);
    const [deciding] = found;
    if (deciding === undefined) return undefined;
    const { owner, source: decides } = deciding;
    for (const around of found) {
      const cidr = untranslated.get(around.owner)!.find((one) => cidrContains(one, destination));
      if (cidr === undefined) continue;
      return {
        owner,
        source: decides,
        translated: false,
        kept: { owner: around.owner, cidr: cidrText(cidr) },
      };
    }
    return decides.translation.drop === true
      ? { owner, source: decides, translated: false, dropped: true }
      : { owner, source: decides, translated: true };
  };
}
