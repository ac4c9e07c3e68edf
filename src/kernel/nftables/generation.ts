/** The number of the ruleset's generation, which changes with every transaction: the cheapest question there is. */
import { request } from "../../linux/netlink/message.ts";
import { NFT_MSG_GETGEN, NFT_MSG_NEWGEN } from "../../linux/nftables/generation.ts";
import type { NetlinkConnection } from "../netlink/connection.ts";

/** The current generation of the namespace that the connection (to NETLINK_NETFILTER) speaks to. */
export function rulesetGeneration(connection: NetlinkConnection): number {
  const ask = request(NFT_MSG_GETGEN, "reading the ruleset's generation", {}, {});
  return connection.question(ask, NFT_MSG_NEWGEN).attributes.id ?? 0;
}
