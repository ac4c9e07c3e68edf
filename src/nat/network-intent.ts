/** What a CNI network wants of NAT, as the backends understand it. Pure. */
import { LINK_LOCAL } from "../address/special-purpose.ts";
import { ipFamily, type IpFamily } from "../address/ip.ts";
import { normalizeIntent, type NatIntent } from "./intent.ts";
import type { NetworkWants } from "./network-wants.ts";
import { networkOwner } from "./owner-name.ts";

/**
 * @param earlier what the network wanted until now; its other subnets are kept
 * @returns undefined when nothing is to be translated
 */
export function networkIntent(
  { network, translations, nonMasqueradeCidrs, subnets }: NetworkWants,
  earlier?: NatIntent,
): NatIntent | undefined {
  const sources = [...new Set(subnets)].flatMap((cidr) => {
    const translation = translations.get(familyOf(cidr));
    return translation === undefined ? [] : [{ cidr, translation }];
  });
  if (sources.length === 0) return undefined;
  const others = (earlier?.sources ?? []).filter(({ cidr }) => !subnets.includes(cidr));
  const all = [...sources, ...others];
  const families = new Set(all.map(({ cidr }) => familyOf(cidr)));
  return normalizeIntent({
    owner: networkOwner(network),
    sources: all,
    untranslated: [
      ...all.map(({ cidr }) => cidr),
      ...[...families].map((family) => LINK_LOCAL[family]),
      ...nonMasqueradeCidrs,
    ],
  });
}

function familyOf(cidr: string): IpFamily {
  return ipFamily(cidr.split("/")[0]!);
}
