/** A Kubernetes Service without endpoints: kube-proxy refuses its packets, rightly. */
import { ipNumber } from "../../address/ip.ts";
import type { SetElement } from "../../linux/nftables/ruleset.ts";
import { commentOf } from "../../rules/rule-comment.ts";
import type { CheckContext } from "../check.ts";
import type { Decision } from "../predict/decision.ts";
import { PROTOCOL_NUMBER } from "../predict/packet.ts";

export interface EmptyService {
  /** `namespace/name:port`, as kube-proxy calls it. */
  readonly name: string;
  /** kube-proxy's own words. */
  readonly said: string;
  /** It has endpoints, and none on this node, where its traffic policy wants them. */
  readonly elsewhere: boolean;
}

/** The Service for whose lack of endpoints kube-proxy stops the packet; undefined when that is not why. */
export function emptyService(context: CheckContext, by: Decision): EmptyService | undefined {
  const comment = by.rule === undefined ? undefined : commentOf(by.rule);
  const named = /^(?<name>\S+\/\S+) has no (?<local>local )?endpoints$/.exec(comment ?? "")?.groups;
  if (named !== undefined) {
    return { name: named["name"]!, said: comment!, elsewhere: named["local"] !== undefined };
  }
  if (by.table.name !== "kube-proxy") return undefined;
  const set = by.table.sets.find((one) => one.name === "no-endpoint-services");
  const element = set?.elements.find((one) => isKey(context, one));
  if (element?.comment === undefined) return undefined;
  return { name: element.comment, said: `no-endpoint-services: ${element.comment}`, elsewhere: false };
}

/** `ip daddr . meta l4proto . th dport`: each part begins at a four-byte word. */
function isKey({ target, path }: CheckContext, { key }: SetElement): boolean {
  const destination = path.left?.destination ?? target.address;
  const size = target.address.includes(":") ? 32 : 8;
  return [...new Set([target.address, destination])].some((address) => {
    const address16 = ipNumber(address).toString(16).padStart(size, "0");
    const protocol = PROTOCOL_NUMBER[target.protocol].toString(16).padStart(2, "0");
    const port = target.port.toString(16).padStart(4, "0");
    return key === `${address16}${protocol}000000${port}0000`;
  });
}
