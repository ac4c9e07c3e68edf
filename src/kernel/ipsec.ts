/** The policies and associations of IPsec, asked over NETLINK_XFRM of the namespace that the thread is in. */
import {
  associationOf,
  ipsecRequest,
  policyOf,
  XFRM_ASSOCIATION,
  XFRM_POLICY,
  type IpsecState,
} from "../linux/xfrm.ts";
import { SystemError } from "../linux/errno.ts";
import { NetlinkConnection } from "./netlink/connection.ts";
import type { NetlinkTransport } from "./netlink/transport.ts";

/** Undefined where there is no policy, so that nothing is encrypted or refused, and on a kernel without IPsec. */
export function readIpsec(open: () => NetlinkTransport): IpsecState | undefined {
  const connection = connectionOf(open);
  if (connection === undefined) return undefined;
  const policies = connection
    .dump(ipsecRequest("policies"), XFRM_POLICY)
    .flatMap((message) => policyOf(message) ?? []);
  if (policies.length === 0) return undefined;
  const associations = connection.dump(ipsecRequest("associations"), XFRM_ASSOCIATION).map(associationOf);
  return { policies, associations };
}

function connectionOf(open: () => NetlinkTransport): NetlinkConnection | undefined {
  try {
    return new NetlinkConnection(open());
  } catch (error) {
    if (error instanceof SystemError && error.code === "EPROTONOSUPPORT") return undefined;
    throw error;
  }
}
