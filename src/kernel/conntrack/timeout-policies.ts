/** The named timeouts of connection tracking, where a rule asks for one by its name. */
import {
  TIMEOUT_POLICY,
  timeoutPoliciesRequest,
  timeoutPolicyOf,
  type TimeoutPolicy,
} from "../../linux/conntrack/timeout-policy.ts";
import type { Table } from "../../linux/nftables/ruleset.ts";
import { NetlinkConnection } from "../netlink/connection.ts";
import type { NetlinkTransport } from "../netlink/transport.ts";

/** Where the name stands in struct xt_ct_target_info_v1, as hexadecimal digits. */
const NAME_AT = 28 * 2;

/**
 * Undefined where no rule names one: to ask would load the module. Such rules stand in tables `raw` alone (xt_CT).
 * @param open a socket of NETLINK_NETFILTER, when one is needed
 */
export function readTimeoutPolicies(
  tables: readonly Table[],
  open: () => NetlinkTransport,
): TimeoutPolicy[] | undefined {
  if (!tables.some((table) => table.name === "raw" && namesOne(table))) return undefined;
  return new NetlinkConnection(open()).dump(timeoutPoliciesRequest(), TIMEOUT_POLICY).map(timeoutPolicyOf);
}

function namesOne({ chains }: Table): boolean {
  return chains.some((chain) =>
    chain.rules.some((rule) =>
      rule.expressions.some(
        (one) =>
          one.kind === "target" &&
          one.name === "CT" &&
          one.revision > 0 &&
          !one.info.slice(NAME_AT, NAME_AT + 2).startsWith("00"),
      ),
    ),
  );
}
