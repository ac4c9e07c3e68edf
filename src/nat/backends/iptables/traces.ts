/** Whether the kernel may have rules of the iptables backend, without the iptables programs. */
import { Nftables } from "../../../kernel/nftables/nftables.ts";
import { SystemError } from "../../../linux/errno.ts";
import type { NetworkNamespace } from "../../../kernel/namespace.ts";
import { legacyInUse } from "./program.ts";
import { MAIN_CHAIN } from "./ruleset.ts";

export function holdsRules(namespace: NetworkNamespace): boolean {
  if (legacyInUse(namespace, 4) || legacyInUse(namespace, 6)) return true;
  try {
    using nftables = Nftables.open(namespace);
    return (["ip", "ip6"] as const).some(
      (family) => nftables.getChain({ family, table: "nat", chain: MAIN_CHAIN }) !== undefined,
    );
  } catch (error) {
    // A kernel without nf_tables has none of iptables-nft either.
    if (error instanceof SystemError && error.code !== "EPERM") return false;
    throw error;
  }
}
