/**
 * What a CNI network wants of NAT, as a line of text: the finding that the plugin remembers when it has seen the rules
 * in order (generation-memory.ts), and by which the doctor knows that missing rules were there.
 */
import type { IpFamily } from "../address/ip.ts";
import { isBackend, type NatBackendName } from "./backends/backends.ts";
import type { Translation } from "./intent.ts";

/** What a network's configuration says of NAT. */
export interface NatWish {
  /** What shall happen to the pods' source addresses; a family that is absent is not translated. */
  readonly translations: ReadonlyMap<IpFamily, Translation>;
  /** Destinations that keep seeing the pod's own address. */
  readonly nonMasqueradeCidrs: readonly string[];
  readonly backend: NatBackendName;
}

/** The same of a network whose pods are known. */
export interface NetworkWants extends NatWish {
  readonly network: string;
  /** The subnets of its pods, as far as they are known. */
  readonly subnets: readonly string[];
  /** The interfaces by which the network's pods come to the node; empty when they are not known. */
  readonly from: readonly string[];
}

const KIND = "cni";

export function wantsText(wants: NetworkWants): string {
  const { network, translations, nonMasqueradeCidrs, subnets, from, backend } = wants;
  return JSON.stringify([KIND, network, [...translations], nonMasqueradeCidrs, subnets, from, backend]);
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

/** undefined for a finding of another kind, or of another version of wayout. */
export function readWants(text: string): NetworkWants | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (!Array.isArray(value) || value.length !== 7 || value[0] !== KIND) return undefined;
  const [, network, translations, nonMasqueradeCidrs, subnets, from, backend] = value as [
    string,
    string,
    [IpFamily, Translation][],
    string[],
    string[],
    string[],
    string,
  ];
  if (!isBackend(backend)) return undefined;
  return { network, translations: new Map(translations), nonMasqueradeCidrs, subnets, from, backend };
}
