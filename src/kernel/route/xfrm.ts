import type { NetworkNamespace } from "../namespace.ts";
import { SystemError } from "../../linux/errno.ts";
import { policiesRequest, policyOf, XFRM_MSG_NEWPOLICY, type XfrmPolicy } from "../../linux/xfrm-policy.ts";
import { NetlinkConnection } from "../netlink/connection.ts";
import { openTransport } from "../netlink/transport.ts";

const NETLINK_XFRM = 6;
/** A kernel without IPsec, or without netlink for it. */
const ABSENT: ReadonlySet<string> = new Set(["EPROTONOSUPPORT", "EINVAL", "EOPNOTSUPP"]);

/** The IPsec policies of a namespace, those of single sockets included; none where the kernel has no such thing. */
export function xfrmPolicies(namespace: NetworkNamespace): XfrmPolicy[] {
  try {
    const connection = new NetlinkConnection(openTransport(NETLINK_XFRM, { namespace }));
    try {
      return connection.dump(policiesRequest(), XFRM_MSG_NEWPOLICY).map(policyOf);
    } finally {
      connection.close();
    }
  } catch (error) {
    if (error instanceof SystemError && ABSENT.has(error.code)) return [];
    throw error;
  }
}
