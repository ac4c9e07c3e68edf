/** Policies of IPsec (include/uapi/linux/xfrm.h): which packets are to be transformed, or not let out at all. */
import { ipText } from "../address/ip.ts";
import { attribute, AttributeSet } from "./netlink/attributes.ts";
import { bytes, struct, u32 } from "./netlink/codec.ts";
import { request, type MessageOf, type Request } from "./netlink/message.ts";
import { AF_INET, AF_INET6 } from "./socket.ts";

/** An address is four words in network order, of which IPv4 uses the first. */
const selector = {
  d0: "be32",
  d1: "be32",
  d2: "be32",
  d3: "be32",
  s0: "be32",
  s1: "be32",
  s2: "be32",
  s3: "be32",
  destinationPort: "be16",
  destinationPortMask: "be16",
  sourcePort: "be16",
  sourcePortMask: "be16",
  family: "u16",
  destinationBits: "u8",
  sourceBits: "u8",
  protocol: "u8",
  interface: "u32",
  user: "u32",
} as const;
/** struct xfrm_userpolicy_info: the selector, limits and statistics that nobody asks for here, and what it is. */
const policyInfo = struct("xfrm_userpolicy_info", {
  ...selector,
  limit0: "u64",
  limit1: "u64",
  limit2: "u64",
  limit3: "u64",
  limit4: "u64",
  limit5: "u64",
  limit6: "u64",
  limit7: "u64",
  current0: "u64",
  current1: "u64",
  current2: "u64",
  current3: "u64",
  priority: "u32",
  index: "u32",
  direction: "u8",
  action: "u8",
  flags: "u8",
  share: "u8",
});
const policyId = struct("xfrm_userpolicy_id", { ...selector, index: "u32", direction: "u8" });

const attributes = new AttributeSet(() => ({
  templates: attribute("XFRMA_TMPL", 5, bytes),
  interfaceId: attribute("XFRMA_IF_ID", 31, u32),
}));
export const XFRM_MSG_NEWPOLICY = {
  name: "XFRM_MSG_NEWPOLICY",
  type: 0x13,
  header: policyInfo,
  attributes,
} as const;
const XFRM_MSG_GETPOLICY = { name: "XFRM_MSG_GETPOLICY", type: 0x15, header: policyId, attributes } as const;

/** XFRM_POLICY_IN, …_OUT, …_FWD; those of single sockets have higher numbers. */
const DIRECTIONS: Readonly<Record<number, XfrmPolicy["direction"]>> = { 0: "in", 1: "out", 2: "fwd" };
const XFRM_POLICY_BLOCK = 1;

export interface XfrmPolicy {
  readonly direction: "in" | "out" | "fwd" | "socket";
  /** Prefixes. */
  readonly source: string;
  readonly destination: string;
  /** IPPROTO_*; 0: any. */
  readonly protocol: number;
  /** Index of the link that it is about; 0: any. */
  readonly interface: number;
  /** Of an xfrm interface, whose packets alone it is about; 0: none. */
  readonly interfaceId: number;
  readonly priority: number;
  /** What becomes of its packets: "pass" as they are. */
  readonly action: "block" | "transform" | "pass";
}

export function policiesRequest(): Request {
  return request(XFRM_MSG_GETPOLICY, "reading the IPsec policies", {}, {}) as Request;
}

export function policyOf({ header, attributes: extra }: MessageOf<typeof XFRM_MSG_NEWPOLICY>): XfrmPolicy {
  const { family, destinationBits, sourceBits, protocol, priority, direction, action } = header;
  const { d0, d1, d2, d3, s0, s1, s2, s3 } = header;
  return {
    direction: DIRECTIONS[direction] ?? "socket",
    source: `${addressOf(family, [s0, s1, s2, s3])}/${sourceBits}`,
    destination: `${addressOf(family, [d0, d1, d2, d3])}/${destinationBits}`,
    protocol,
    interface: header.interface,
    interfaceId: extra.interfaceId ?? 0,
    priority,
    action:
      action === XFRM_POLICY_BLOCK ? "block" : (extra.templates?.length ?? 0) > 0 ? "transform" : "pass",
  };
}

/** AF_UNSPEC: any address of either family. */
function addressOf(family: number, words: readonly number[]): string {
  if (family !== AF_INET && family !== AF_INET6) return "any";
  const address = new Uint8Array(16);
  const view = new DataView(address.buffer);
  for (const [index, word] of words.entries()) view.setUint32(index * 4, word, false);
  return ipText(address, 0, family === AF_INET ? 4 : 16);
}
