/** What a network wants of NAT, as the backends understand it. Pure. */
import { LINK_LOCAL, normalizeIntent, type NatIntent } from "../nat/intent.ts";
import type { NatWish } from "./configuration.ts";
import { familyOf } from "./plan.ts";

/**
 * @param subnets every subnet whose pods are translated
 * @param earlier what the network wanted until now; its other subnets are kept
 * @returns undefined when nothing is to be translated
 */
export function natIntent(
  owner: string,
  wish: NatWish,
  subnets: readonly string[],
  earlier?: NatIntent,
): NatIntent | undefined {
  const sources = [...new Set(subnets)].flatMap((cidr) => {
    const translation = wish.translations.get(familyOf(cidr));
    return translation === undefined ? [] : [{ cidr, translation }];
  });
  if (sources.length === 0) return undefined;
  const others = (earlier?.sources ?? []).filter(({ cidr }) => !subnets.includes(cidr));
  const all = [...sources, ...others];
  const families = new Set(all.map(({ cidr }) => familyOf(cidr)));
  return normalizeIntent({
    owner,
    sources: all,
    untranslated: [
      ...all.map(({ cidr }) => cidr),
      ...[...families].map((family) => LINK_LOCAL[family]),
      ...wish.nonMasqueradeCidrs,
    ],
  });
}
