/**
 * What a CNI network wants of NAT, as a line of text: the finding that the plugin remembers when it has seen the rules
 * in order (generation-memory.ts), and by which the doctor knows that missing rules were there.
 */
import type { IpFamily } from "../address/ip.ts";
import type { Translation } from "./intent.ts";

export interface NetworkWants {
  readonly network: string;
  readonly translations: ReadonlyMap<IpFamily, Translation>;
  readonly nonMasqueradeCidrs: readonly string[];
  readonly subnets: readonly string[];
  /** The interfaces by which the network's pods come to the node; empty when they are not known. */
  readonly from: readonly string[];
}

const KIND = "cni";

export function wantsText(wants: NetworkWants): string {
  const { network, translations, nonMasqueradeCidrs, subnets, from } = wants;
  return JSON.stringify([KIND, network, [...translations], nonMasqueradeCidrs, subnets, from]);
}

const REMOVED = "removed";

/** That a person took an owner's rules away: nobody but the owner's own next wish puts them back. */
export function removedText(owner: string): string {
  return JSON.stringify([REMOVED, owner]);
}

/** Whether a finding is one of those, whoever the owner. */
export function isRemovedText(finding: string): boolean {
  return finding.startsWith(`["${REMOVED}",`);
}

/** undefined for a finding of another kind. Those of version 0.1.0 name no interfaces. */
export function readWants(text: string): NetworkWants | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (!Array.isArray(value) || value.length < 5 || value[0] !== KIND) return undefined;
  const [, network, translations, nonMasqueradeCidrs, subnets, from = []] = value as [
    string,
    string,
    [IpFamily, Translation][],
    string[],
    string[],
    string[] | undefined,
  ];
  return { network, translations: new Map(translations), nonMasqueradeCidrs, subnets, from };
}
