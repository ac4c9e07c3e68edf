/**
 * What a CNI network wants of NAT, as a line of text: the finding that the plugin remembers when it has seen the rules
 * in order (generation-memory.ts), and by which the doctor knows that missing rules were there.
 */
import { rethrowMistake } from "../error.ts";
import type { IpFamily } from "../address/ip.ts";
import { DEFAULT_BACKEND, isBackend, type NatBackendName } from "./backends/backends.ts";
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
  const known = [KIND, network, [...translations], nonMasqueradeCidrs, subnets, from];
  return JSON.stringify(backend === DEFAULT_BACKEND ? known : [...known, backend]);
}

/** undefined for a finding of another kind. Those of version 0.1.0 name no interfaces. */
export function readWants(text: string): NetworkWants | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    rethrowMistake(error);
    return undefined;
  }
  if (!Array.isArray(value) || value.length < 5 || value[0] !== KIND) return undefined;
  const [, network, translations, nonMasqueradeCidrs, subnets, from = [], backend = DEFAULT_BACKEND] =
    value as [
      string,
      string,
      [IpFamily, Translation][],
      string[],
      string[],
      string[] | undefined,
      string | undefined,
    ];
  if (!isBackend(backend)) return undefined;
  return { network, translations: new Map(translations), nonMasqueradeCidrs, subnets, from, backend };
}
