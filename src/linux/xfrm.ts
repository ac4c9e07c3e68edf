/**
 * IPsec as the kernel has it (include/uapi/linux/xfrm.h): policies, which say what is encrypted, refused or let through,
 * and associations, by which it is encrypted. Keys are not read.
 */
import { ipText } from "../address/ip.ts";
import { attribute, AttributeSet } from "./netlink/attributes.ts";
import { bytes, struct, u32 } from "./netlink/codec.ts";
import { request, type MessageOf, type MessageSpec, type Request } from "./netlink/message.ts";
import { AF_INET, AF_INET6 } from "./socket.ts";
import { present } from "../present.ts";

/** The multicast group that hears of policies. */
export const XFRMNLGRP_POLICY = 4;

/** What a policy or an association is for. A port, a protocol or an interface of 0 is any. */
export interface IpsecSelector {
  readonly family: 4 | 6;
  /** Prefixes. */
  readonly source: string;
  readonly destination: string;
  readonly protocol: number;
  readonly sourcePort: number;
  readonly sourcePortMask: number;
  readonly destinationPort: number;
  readonly destinationPortMask: number;
  /** Index of the interface that the packet leaves by. */
  readonly interface: number;
}

/** `in`: for this namespace; `out`: sent or forwarded; `fwd`: forwarded, as it came in. */
export type IpsecDirection = "in" | "out" | "fwd";

/** One transformation that a policy asks for. */
export interface IpsecTemplate {
  /** Ends of the tunnel; the packet's own for transport mode. */
  readonly source: string;
  readonly destination: string;
  /** IPPROTO_ESP 50, AH 51, IPCOMP 108; 0 is any. */
  readonly protocol: number;
  readonly requestId: number;
  readonly mode: string;
  /** Without an association the packet goes on as it is. */
  readonly optional?: true;
}

export interface IpsecPolicy extends IpsecSelector {
  readonly direction: IpsecDirection;
  readonly action: "allow" | "block";
  /** The smallest counts first; of equal ones the older. */
  readonly priority: number;
  readonly index: number;
  readonly mark?: number;
  readonly mask?: number;
  readonly templates: readonly IpsecTemplate[];
}

export interface IpsecAssociation {
  readonly source: string;
  readonly destination: string;
  readonly protocol: number;
  readonly requestId: number;
  readonly mode: string;
}

/** Policies and associations of a namespace, in the kernel's order. */
export interface IpsecState {
  readonly policies: readonly IpsecPolicy[];
  readonly associations: readonly IpsecAssociation[];
}

/** xfrm_address_t: four words, of which IPv4 uses the first. */
function addressFields<const P extends string>(prefix: P): Record<`${P}${0 | 1 | 2 | 3}`, "be32"> {
  return {
    [`${prefix}0`]: "be32",
    [`${prefix}1`]: "be32",
    [`${prefix}2`]: "be32",
    [`${prefix}3`]: "be32",
  } as Record<`${P}${0 | 1 | 2 | 3}`, "be32">;
}

const selector = {
  ...addressFields("destination"),
  ...addressFields("source"),
  destinationPort: "be16",
  destinationPortMask: "be16",
  sourcePort: "be16",
  sourcePortMask: "be16",
  family: "u16",
  destinationLength: "u8",
  sourceLength: "u8",
  protocol: "u8",
  interface: "i32",
  user: "u32",
} as const;

const lifetime = {
  softBytes: "u64",
  hardBytes: "u64",
  softPackets: "u64",
  hardPackets: "u64",
  softAdd: "u64",
  hardAdd: "u64",
  softUse: "u64",
  hardUse: "u64",
  bytes: "u64",
  packets: "u64",
  addTime: "u64",
  useTime: "u64",
} as const;

export const xfrmUserPolicyInfo = struct("xfrm_userpolicy_info", {
  ...selector,
  ...lifetime,
  priority: "u32",
  index: "u32",
  direction: "u8",
  action: "u8",
  flags: "u8",
  share: "u8",
});

export const xfrmUserSaInfo = struct("xfrm_usersa_info", {
  ...selector,
  ...addressFields("to"),
  spi: "be32",
  transform: "u8",
  ...addressFields("from"),
  ...lifetime,
  replayWindowErrors: "u32",
  replays: "u32",
  integrityFailed: "u32",
  sequence: "u32",
  requestId: "u32",
  saFamily: "u16",
  mode: "u8",
  replayWindow: "u8",
  saFlags: "u8",
});

/** XFRMA_* */
export const xfrmAttributes = new AttributeSet(() => ({
  templates: attribute("XFRMA_TMPL", 5, bytes),
  /** struct xfrm_mark: a value and its mask. */
  mark: attribute("XFRMA_MARK", 21, bytes),
  interfaceId: attribute("XFRMA_IF_ID", 31, u32),
}));

const NOTHING = struct("nothing", {});
const NONE = new AttributeSet(() => ({}));
const QUESTION = {
  policies: { name: "XFRM_MSG_GETPOLICY", type: 0x15, header: NOTHING, attributes: NONE },
  associations: { name: "XFRM_MSG_GETSA", type: 0x12, header: NOTHING, attributes: NONE },
} as const satisfies Record<string, MessageSpec>;

export const XFRM_POLICY = {
  name: "XFRM_MSG_NEWPOLICY",
  type: 0x13,
  header: xfrmUserPolicyInfo,
  attributes: xfrmAttributes,
} as const satisfies MessageSpec;

export const XFRM_ASSOCIATION = {
  name: "XFRM_MSG_NEWSA",
  type: 0x10,
  header: xfrmUserSaInfo,
  attributes: xfrmAttributes,
} as const satisfies MessageSpec;

export function ipsecRequest(what: keyof typeof QUESTION): Request {
  return request(QUESTION[what], `listing the ${what} of IPsec`, {}, {});
}

const MODES = ["transport", "tunnel", "route optimization", "in trigger", "beet", "iptfs"];
const DIRECTIONS: readonly (IpsecDirection | undefined)[] = ["in", "out", "fwd"];

type Words = readonly [number, number, number, number];

function addressOf(words: Words, family: number): string {
  const raw = new Uint8Array(16);
  const view = new DataView(raw.buffer);
  for (const [at, word] of words.entries()) view.setUint32(at * 4, word);
  return ipText(raw, 0, family === AF_INET ? 4 : 16);
}

/** Undefined for a socket's own policy, and for those of an xfrm interface, which see only what is routed there. */
export function policyOf({ header, attributes }: MessageOf<typeof XFRM_POLICY>): IpsecPolicy | undefined {
  const direction = DIRECTIONS[header.direction];
  if (direction === undefined || (attributes.interfaceId ?? 0) !== 0) return undefined;
  const marks = attributes.mark === undefined ? undefined : wordsOf(attributes.mark);
  return {
    ...selectorOf(header),
    direction,
    action: header.action === 1 ? "block" : "allow",
    priority: header.priority,
    index: header.index,
    ...(marks === undefined || marks[1] === 0 ? {} : { mark: marks[0]!, mask: marks[1]! }),
    templates: templatesOf(attributes.templates),
  };
}

export function associationOf({ header }: MessageOf<typeof XFRM_ASSOCIATION>): IpsecAssociation {
  const { saFamily: family } = header;
  return {
    source: addressOf([header.from0, header.from1, header.from2, header.from3], family),
    destination: addressOf([header.to0, header.to1, header.to2, header.to3], family),
    protocol: header.transform,
    requestId: header.requestId,
    mode: MODES[header.mode] ?? String(header.mode),
  };
}

function selectorOf(header: MessageOf<typeof XFRM_POLICY>["header"]): IpsecSelector {
  const { family } = header;
  const to: Words = [header.destination0, header.destination1, header.destination2, header.destination3];
  const from: Words = [header.source0, header.source1, header.source2, header.source3];
  return {
    family: family === AF_INET6 ? 6 : 4,
    source: `${addressOf(from, family)}/${header.sourceLength}`,
    destination: `${addressOf(to, family)}/${header.destinationLength}`,
    protocol: header.protocol,
    sourcePort: header.sourcePort,
    sourcePortMask: header.sourcePortMask,
    destinationPort: header.destinationPort,
    destinationPortMask: header.destinationPortMask,
    interface: header.interface,
  };
}

/** Words in the machine's own order. */
function wordsOf(raw: Uint8Array): number[] {
  const view = new DataView(raw.buffer, raw.byteOffset, raw.byteLength);
  return Array.from({ length: Math.floor(raw.length / 4) }, (_, at) => view.getUint32(at * 4, true));
}

/** sizeof(struct xfrm_user_tmpl), and where its fields are. */
export const TEMPLATE = {
  size: 64,
  protocol: 20,
  family: 24,
  source: 28,
  requestId: 44,
  mode: 48,
  optional: 50,
} as const;

function templatesOf(raw: Uint8Array | undefined): IpsecTemplate[] {
  const found: IpsecTemplate[] = [];
  if (raw === undefined) return found;
  const view = new DataView(raw.buffer, raw.byteOffset, raw.byteLength);
  for (let at = 0; at + TEMPLATE.size <= raw.length; at += TEMPLATE.size) {
    const bytesOfAddress = view.getUint16(at + TEMPLATE.family, true) === AF_INET ? 4 : 16;
    const mode = view.getUint8(at + TEMPLATE.mode);
    const source = at + TEMPLATE.source;
    found.push(
      present({
        source: ipText(raw, source, source + bytesOfAddress),
        destination: ipText(raw, at, at + bytesOfAddress),
        protocol: view.getUint8(at + TEMPLATE.protocol),
        requestId: view.getUint32(at + TEMPLATE.requestId, true),
        mode: MODES[mode] ?? String(mode),
        optional: view.getUint8(at + TEMPLATE.optional) === 0 ? undefined : true,
      }),
    );
  }
  return found;
}
