/** The numbers by which one namespace refers to another: IFLA_LINK_NETNSID, `link-netnsid` in the words of `ip`. */
import { attribute, AttributeSet } from "../netlink/attributes.ts";
import { i32, struct, u32 } from "../netlink/codec.ts";
import { request, type MessageSpec, type Request } from "../netlink/message.ts";

export const rtgenmsg = struct("rtgenmsg", { family: "u8" });

/** NETNSA_* (include/uapi/linux/net_namespace.h). */
export const namespaceIdAttributes = new AttributeSet(() => ({
  id: attribute("NETNSA_NSID", 1, i32),
  pid: attribute("NETNSA_PID", 2, u32),
  fd: attribute("NETNSA_FD", 3, u32),
  targetId: attribute("NETNSA_TARGET_NSID", 4, i32),
  currentId: attribute("NETNSA_CURRENT_NSID", 5, i32),
}));

/** The namespace has no number here. */
export const NETNSA_NSID_NOT_ASSIGNED = -1;

export const RTM_NEWNSID = {
  name: "RTM_NEWNSID",
  type: 88,
  header: rtgenmsg,
  attributes: namespaceIdAttributes,
} as const satisfies MessageSpec;
export const RTM_GETNSID = { ...RTM_NEWNSID, name: "RTM_GETNSID", type: 90 } as const satisfies MessageSpec;

export function namespaceIdRequest(namespaceFd: number): Request {
  return request(RTM_GETNSID, "asking for the number of a namespace", {}, { fd: namespaceFd });
}
