/** What a CNI network wants of NAT, as the backends understand it. Pure. */
import { prefixFamily } from "../address/ip.ts";
import { normalizeIntent, type NatIntent } from "./intent.ts";
import type { NetworkWants } from "./network-wants.ts";
import { networkOwner } from "../naming/names.ts";

/**
 * @param earlier what the network wanted until now; its other subnets are kept, and the bridges of pods that came when
 *   the network had another one
 * @returns undefined when nothing is to be translated
 */
export function networkIntent(
  { network, translations, nonMasqueradeCidrs, subnets, from }: NetworkWants,
  earlier?: NatIntent,
): NatIntent | undefined {
  const sources = [...new Set(subnets)].flatMap((cidr) => {
    const translation = translations.get(prefixFamily(cidr));
    if (translation === undefined) return [];
    const before = earlier?.sources.find((source) => source.cidr === cidr)?.inInterfaces ?? [];
    return [{ cidr, translation, ...(from.length === 0 ? {} : { inInterfaces: [...from, ...before] }) }];
  });
  if (sources.length === 0) return undefined;
  const others = (earlier?.sources ?? []).filter(({ cidr }) => !subnets.includes(cidr));
  const all = [...sources, ...others];
  return normalizeIntent({
    owner: networkOwner(network),
    sources: all,
    untranslated: [...all.map(({ cidr }) => cidr), ...nonMasqueradeCidrs],
  });
}
