/**
 * What IPsec does to a packet: `out` policies encrypt or refuse what is sent or forwarded, `fwd` and `in` policies demand
 * that what arrives was encrypted (xfrm_lookup, __xfrm_policy_check).
 */
import { prefixContains } from "../../address/cidr.ts";
import type { Link } from "../../linux/route/link.ts";
import type { IpsecDirection, IpsecPolicy, IpsecSelector, IpsecTemplate } from "../../linux/xfrm.ts";
import { PROTOCOL_NUMBER, type Packet } from "./packet.ts";
import type { Side } from "./side.ts";
import type { NodeView } from "./view.ts";
import type { Walk } from "./walk.ts";

/** The policy that decides: the smallest priority, of equal ones the older. */
export function policyFor(
  { state }: NodeView,
  direction: IpsecDirection,
  packet: Packet,
  out?: Link,
): IpsecPolicy | undefined {
  let best: IpsecPolicy | undefined;
  for (const policy of state.ipsec?.policies ?? []) {
    if (policy.direction !== direction || (best !== undefined && policy.priority >= best.priority)) continue;
    if (selects(policy, packet, out) && isMarked(policy, packet)) best = policy;
  }
  return best;
}

/** xfrm_selector_match */
function selects(selector: IpsecSelector, packet: Packet, out: Link | undefined): boolean {
  return (
    selector.family === packet.family &&
    (selector.protocol === 0 || selector.protocol === PROTOCOL_NUMBER[packet.protocol]) &&
    ((selector.sourcePort ^ packet.sourcePort) & selector.sourcePortMask) === 0 &&
    ((selector.destinationPort ^ packet.destinationPort) & selector.destinationPortMask) === 0 &&
    (selector.interface === 0 || out === undefined || selector.interface === out.index) &&
    prefixContains(selector.source, packet.source) &&
    prefixContains(selector.destination, packet.destination)
  );
}

function isMarked({ mark, mask }: IpsecPolicy, packet: Packet): boolean {
  return mark === undefined || (packet.mark & (mask ?? 0)) >>> 0 === mark;
}

/** Whether there is an association that does what a template asks for. */
function isMet({ state }: NodeView, template: IpsecTemplate): boolean {
  const { associations = [] } = state.ipsec ?? {};
  return associations.some(
    (one) =>
      one.mode === template.mode &&
      (template.protocol === 0 || one.protocol === template.protocol) &&
      (template.requestId === 0 || one.requestId === template.requestId) &&
      // In transport mode the ends are the packet's own.
      (template.mode !== "tunnel" || one.destination === template.destination),
  );
}

/**
 * What leaves, by the policies for what is sent. Notes what they refuse, and what they encrypt.
 * @returns the policy that encrypts it
 */
export function protect(walk: Walk, place: Side, packet: Packet, link: Link): IpsecPolicy | undefined {
  const { view } = place === "pod" ? walk.pod! : walk.node;
  if (view.state.ipsec === undefined || view.conf(packet.family, link.name, "disable_xfrm") === 1)
    return undefined;
  const policy = policyFor(view, "out", packet, link);
  if (policy === undefined) return undefined;
  if (policy.action === "block") {
    walk.stop({ kind: "ipsec", place, link, policy, why: "refused" });
    return undefined;
  }
  const lacking = policy.templates.filter((template) => !isMet(view, template));
  if (lacking.some(({ optional }) => optional !== true)) {
    walk.stop({ kind: "ipsec", place, link, policy, why: "no-association" });
  }
  // What is optional and lacking leaves the packet as it is.
  return policy.templates.length > 0 && lacking.every((one) => one.optional !== true) ? policy : undefined;
}

/** What arrives unencrypted, by the policies that demand or refuse it. Its addresses are those of the wire. */
export function demand(walk: Walk, place: Side, direction: "in" | "fwd", packet: Packet, link: Link): void {
  const { view } = place === "pod" ? walk.pod! : walk.node;
  if (view.state.ipsec === undefined || view.conf(packet.family, link.name, "disable_policy") === 1) return;
  const policy = policyFor(view, direction, packet);
  if (policy === undefined) return;
  const wanted = policy.templates.some((template) => template.optional !== true);
  if (policy.action !== "block" && !wanted) return;
  walk.stop({
    kind: "ipsec",
    place,
    link,
    policy,
    why: policy.action === "block" ? "refused" : "unprotected",
  });
}
