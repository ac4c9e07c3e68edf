import type { NetworkNamespace } from "../kernel/namespace.ts";
import type { NatBackend, NatBackendName } from "./backend.ts";
import { IptablesNat } from "./backends/iptables/iptables.ts";
import { NftablesNat } from "./backends/nftables/nftables.ts";
import { NoNat } from "./backends/none/none.ts";

/**
 * The backend of that name in a namespace (the calling thread's when absent).
 * @throws WayoutError no-nftables, no-iptables, no-privilege
 */
export function openNat(name: NatBackendName, namespace?: NetworkNamespace): NatBackend {
  const options = namespace === undefined ? {} : { namespace };
  switch (name) {
    case "nftables":
      return new NftablesNat(options);
    case "iptables":
      return new IptablesNat(options);
    case "none":
      return new NoNat();
  }
}
