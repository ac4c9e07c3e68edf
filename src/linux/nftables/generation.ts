/**
 * The messages about the ruleset's generation, a number that changes with every transaction. They have a file of their
 * own because the program that asks only for the number needs nothing else of nf_tables.
 */
import { attribute, AttributeSet } from "../netlink/attributes.ts";
import { be32, string } from "../netlink/codec.ts";
import type { MessageSpec } from "../netlink/message.ts";
import { NFNL_SUBSYS_NFTABLES, nfgenmsg, nfnlType } from "../netlink/nfnetlink.ts";

export const generationAttributes = new AttributeSet(() => ({
  id: attribute("NFTA_GEN_ID", 1, be32),
  pid: attribute("NFTA_GEN_PROC_PID", 2, be32),
  name: attribute("NFTA_GEN_PROC_NAME", 3, string),
}));

/** enum nf_tables_msg_types */
export const NFT_MSG_NEWGEN = {
  name: "NFT_MSG_NEWGEN",
  type: nfnlType(NFNL_SUBSYS_NFTABLES, 15),
  header: nfgenmsg,
  attributes: generationAttributes,
} as const satisfies MessageSpec;
export const NFT_MSG_GETGEN = {
  name: "NFT_MSG_GETGEN",
  type: nfnlType(NFNL_SUBSYS_NFTABLES, 16),
  header: nfgenmsg,
  attributes: generationAttributes,
} as const satisfies MessageSpec;
