import { rethrowMistake } from "../../error.ts";
import { attributeLength, NLA_TYPE_MASK } from "./attributes.ts";
import { errnoName, errnoText, SystemError } from "../errno.ts";
import { decodeUtf8 } from "../../platform/bytes.ts";
import { align4, Wire } from "./wire.ts";
import { NLM_F_ACK_TLVS, NLM_F_CAPPED, NLMSG_HDRLEN, type MessageSpec, type RawMessage } from "./message.ts";

/**
 * The kernel refused a request. `code` is the errno's name, `extack` the kernel's own explanation (extended
 * acknowledgement), `attribute` the kernel names of the attribute it complains about.
 */
export class NetlinkError extends SystemError {
  constructor(
    /** What we were doing: "creating bridge br0". */
    readonly doing: string,
    /** Kernel name of the request: "RTM_NEWLINK". */
    readonly request: string,
    errno: number,
    /** NLMSGERR_ATTR_MSG; undefined when the kernel gave none. */
    readonly extack: string | undefined,
    /** "IFLA_LINKINFO.IFLA_INFO_KIND"; undefined when the kernel named none. */
    readonly attribute: string | undefined,
    /** The attribute the kernel missed (NLMSGERR_ATTR_MISS_TYPE). */
    readonly missing?: string,
  ) {
    super(request, errno);
    const because = extack === undefined ? errnoText(errno) : extack;
    const where = attribute === undefined ? "" : ` at ${attribute}`;
    const lacks = missing === undefined ? "" : `, ${missing} is missing`;
    this.message = `${doing}: the kernel says: ${because} (${errnoName(errno)}${where}${lacks})`;
  }
}

/** Attributes of NLMSG_ERROR (enum nlmsgerr_attrs, include/uapi/linux/netlink.h). */
const NLMSGERR_ATTR_MSG = 1;
const NLMSGERR_ATTR_OFFS = 2;
const NLMSGERR_ATTR_MISS_TYPE = 5;
const NLMSGERR_ATTR_MISS_NEST = 6;

/** errno of an NLMSG_ERROR or NLMSG_DONE message as a positive number; 0 is an acknowledgement. */
export function errorNumber(raw: RawMessage): number {
  return raw.end - raw.start < 4 ? 0 : -raw.wire.view.getInt32(raw.start, true);
}

/**
 * Builds the error for an NLMSG_ERROR (or a failed NLMSG_DONE).
 * @param sent the bytes of the request that failed, to find the attribute at the offset the kernel names
 */
export function netlinkError(
  raw: RawMessage,
  doing: string,
  message: MessageSpec,
  sent: Uint8Array,
  payloadIsError = true,
): NetlinkError {
  const extack = readExtack(raw, payloadIsError);
  let attribute: string | undefined;
  let missing: string | undefined;
  try {
    const wire = new Wire(sent);
    const start = NLMSG_HDRLEN + align4(message.header.size);
    if (extack.offset !== undefined && extack.offset >= start) {
      attribute = message.attributes.pathAt(wire, start, sent.length, extack.offset);
    }
    if (extack.missType !== undefined) {
      missing =
        extack.missNest === undefined
          ? message.attributes.nameOf(extack.missType)
          : `attribute ${extack.missType} of ${message.attributes.pathAt(wire, start, sent.length, extack.missNest)}`;
      missing ??= `attribute ${extack.missType}`;
    }
  } catch (error) {
    rethrowMistake(error);
    // The request was ours, so this cannot happen; but no explanation is worth losing the error itself.
  }
  return new NetlinkError(doing, message.name, errorNumber(raw), extack.message, attribute, missing);
}

interface Extack {
  message?: string;
  offset?: number;
  missType?: number;
  missNest?: number;
}

/** The attributes behind struct nlmsgerr; with NLM_F_CAPPED the request's payload is left out there. */
function readExtack(raw: RawMessage, payloadIsError: boolean): Extack {
  const extack: Extack = {};
  if ((raw.flags & NLM_F_ACK_TLVS) === 0) return extack;
  let at = raw.start + 4;
  if (payloadIsError) {
    if (raw.end - at < NLMSG_HDRLEN) return extack;
    const echoed = raw.wire.view.getUint32(at, true);
    at += (raw.flags & NLM_F_CAPPED) === 0 ? align4(echoed) : NLMSG_HDRLEN;
  }
  try {
    while (at < raw.end) {
      const length = attributeLength(raw.wire, at, raw.end);
      const type = raw.wire.view.getUint16(at + 2, true) & NLA_TYPE_MASK;
      if (type === NLMSGERR_ATTR_MSG) {
        extack.message = decodeUtf8(raw.wire.bytes.subarray(at + 4, at + length)).replace(/\0.*$/s, "");
      } else if (length >= 8) {
        const value = raw.wire.view.getUint32(at + 4, true);
        if (type === NLMSGERR_ATTR_OFFS) extack.offset = value;
        if (type === NLMSGERR_ATTR_MISS_TYPE) extack.missType = value;
        if (type === NLMSGERR_ATTR_MISS_NEST) extack.missNest = value;
      }
      at += align4(length);
    }
  } catch (error) {
    rethrowMistake(error);
    // A malformed explanation explains nothing; the errno stands.
  }
  return extack;
}
