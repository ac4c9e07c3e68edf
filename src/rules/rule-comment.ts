/** What a rule says about itself: most products write their names there. */
import type { Expression } from "../linux/nftables/expressions.ts";
import type { Rule } from "../linux/nftables/ruleset.ts";
import { bytesOfHex, decodeUtf8 } from "../platform/bytes.ts";

/** nft's comment, or that of iptables' match of the same name. */
export function commentOf({
  comment,
  expressions,
}: Pick<Rule, "comment" | "expressions">): string | undefined {
  return comment ?? xtablesComment(expressions);
}

/** struct xt_comment_info: up to 256 bytes with a NUL. */
function xtablesComment(expressions: readonly Expression[]): string | undefined {
  const match = expressions.find((one) => one.kind === "match" && one.name === "comment");
  if (match?.kind !== "match") return undefined;
  return decodeUtf8(bytesOfHex(match.info)).replace(/\0.*$/s, "");
}
