/** How rules that were found in order are known to be so still: by the kernel's count of changes, then by our table's looks. */
import { rethrowMistake } from "../../../error.ts";
import type { NetworkNamespace } from "../../../kernel/namespace.ts";
import { NetlinkConnection } from "../../../kernel/netlink/connection.ts";
import { NETLINK_NETFILTER, openTransport } from "../../../kernel/netlink/transport.ts";
import { rulesetGeneration } from "../../../kernel/nftables/generation.ts";
import type { RuleMemory } from "../../backend.ts";
import { TABLE } from "./names.ts";

export const nftablesMemory: RuleMemory = {
  generation: (namespace) => ask(namespace, rulesetGeneration),
  async fingerprint(namespace, generation) {
    const { tableFingerprint } = await import("../../../kernel/nftables/fingerprint.ts");
    return ask(namespace, (connection) => tableFingerprint(connection, TABLE.table, generation));
  },
};

/** undefined on a kernel without nf_tables: opening the backend says so in better words. */
function ask<T>(namespace: NetworkNamespace, question: (connection: NetlinkConnection) => T): T | undefined {
  try {
    using connection = new NetlinkConnection(openTransport(NETLINK_NETFILTER, { namespace }));
    return question(connection);
  } catch (error) {
    rethrowMistake(error);
    return undefined;
  }
}
