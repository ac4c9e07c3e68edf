/** Named timeouts of connection tracking (nfct timeout; include/uapi/linux/netfilter/nfnetlink_cttimeout.h). */
import { attribute, AttributeSet, nested } from "../netlink/attributes.ts";
import { be16, be32, string, u8 } from "../netlink/codec.ts";
import { request, type MessageOf, type MessageSpec, type Request } from "../netlink/message.ts";
import { nfgenmsg, nfnlType } from "../netlink/nfnetlink.ts";
import { AF_INET6 } from "../socket.ts";

/** How long flows of one protocol are remembered, for the rules that ask for it (`CT --timeout`). */
export interface TimeoutPolicy {
  readonly name: string;
  readonly family: 4 | 6;
  readonly protocol: number;
  /** Seconds by number of the protocol's state: those that say when a flow at rest is forgotten. */
  readonly timeouts: Readonly<Record<number, number>>;
}

const NFNL_SUBSYS_CTNETLINK_TIMEOUT = 8;

/** CTA_TIMEOUT_TCP_ESTABLISHED, CTA_TIMEOUT_UDP_REPLIED: the states in which a flow rests. */
export const RESTING_STATE = { tcp: 3, udp: 2 } as const;

/** Attributes of CTA_TIMEOUT_DATA are states; the numbers mean other things for other protocols. */
const stateAttributes = new AttributeSet(() => ({
  first: attribute("CTA_TIMEOUT_TCP_SYN_SENT", 1, be32),
  second: attribute("CTA_TIMEOUT_TCP_SYN_RECV", 2, be32),
  third: attribute("CTA_TIMEOUT_TCP_ESTABLISHED", 3, be32),
}));

export const timeoutPolicyAttributes = new AttributeSet(() => ({
  name: attribute("CTA_TIMEOUT_NAME", 1, string),
  l3proto: attribute("CTA_TIMEOUT_L3PROTO", 2, be16),
  l4proto: attribute("CTA_TIMEOUT_L4PROTO", 3, u8),
  data: attribute("CTA_TIMEOUT_DATA", 4, nested(stateAttributes)),
}));

const GET = {
  name: "IPCTNL_MSG_TIMEOUT_GET",
  type: nfnlType(NFNL_SUBSYS_CTNETLINK_TIMEOUT, 1),
  header: nfgenmsg,
  attributes: timeoutPolicyAttributes,
} as const satisfies MessageSpec;

export const TIMEOUT_POLICY = {
  name: "IPCTNL_MSG_TIMEOUT_NEW",
  type: nfnlType(NFNL_SUBSYS_CTNETLINK_TIMEOUT, 0),
  header: nfgenmsg,
  attributes: timeoutPolicyAttributes,
} as const satisfies MessageSpec;

export function timeoutPoliciesRequest(): Request {
  return request(GET, "listing the timeout policies of connection tracking", {}, {});
}

export function timeoutPolicyOf({ attributes }: MessageOf<typeof TIMEOUT_POLICY>): TimeoutPolicy {
  const { name = "", l3proto, l4proto = 0, data } = attributes;
  const timeouts: Record<number, number> = {};
  for (const [at, seconds] of [data?.first, data?.second, data?.third].entries()) {
    if (seconds !== undefined) timeouts[at + 1] = seconds;
  }
  return { name, family: l3proto === AF_INET6 ? 6 : 4, protocol: l4proto, timeouts };
}
