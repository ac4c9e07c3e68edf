/** Stateful objects: counters, quotas, limits and the ct objects that rules refer to by name. */
import { attribute, AttributeSet, NLA_TYPE_MASK } from "../netlink/attributes.ts";
import { be16, be32, u32, u8, string } from "../netlink/codec.ts";
import { Wire, Writer } from "../netlink/wire.ts";
import { OBJECT_TYPES, SYNPROXY_FLAGS, type LIMIT_TYPES, type QUOTA_FLAGS } from "./enumerations.ts";
import { EXPRESSIONS } from "./expressions.ts";
import type { ObjectValue } from "./ruleset.ts";
import { bits, hexBytes, hexText, type Named } from "./values.ts";

const helperAttributes = new AttributeSet(() => ({
  name: attribute("NFTA_CT_HELPER_NAME", 1, string),
  l3proto: attribute("NFTA_CT_HELPER_L3PROTO", 2, be16),
  l4proto: attribute("NFTA_CT_HELPER_L4PROTO", 3, u8),
}));

const timeoutAttributes = new AttributeSet(() => ({
  l3proto: attribute("NFTA_CT_TIMEOUT_L3PROTO", 1, be16),
  l4proto: attribute("NFTA_CT_TIMEOUT_L4PROTO", 2, u8),
  data: attribute("NFTA_CT_TIMEOUT_DATA", 3, {
    kind: "timeouts",
    nested: true,
    write(writer, value: Readonly<Record<number, number>>) {
      for (const [state, seconds] of Object.entries(value)) {
        const at = writer.reserve(4);
        writer.view.setUint16(at, 8, true);
        writer.view.setUint16(at + 2, Number(state), true);
        be32.write(writer, seconds);
      }
    },
    read(wire, start, end) {
      const value: Record<number, number> = {};
      for (let at = start; at + 8 <= end; at += 8) {
        value[wire.view.getUint16(at + 2, true) & NLA_TYPE_MASK] = be32.read(wire, at + 4, end);
      }
      return value;
    },
  }),
}));

const expectationAttributes = new AttributeSet(() => ({
  l3proto: attribute("NFTA_CT_EXPECT_L3PROTO", 1, be16),
  l4proto: attribute("NFTA_CT_EXPECT_L4PROTO", 2, u8),
  dport: attribute("NFTA_CT_EXPECT_DPORT", 3, be16),
  /** Milliseconds, in host order: the one number here that is. */
  timeoutMs: attribute("NFTA_CT_EXPECT_TIMEOUT", 4, u32),
  size: attribute("NFTA_CT_EXPECT_SIZE", 5, u8),
}));

const secmarkAttributes = new AttributeSet(() => ({ context: attribute("NFTA_SECMARK_CTX", 1, string) }));

const synproxyAttributes = new AttributeSet(() => ({
  mss: attribute("NFTA_SYNPROXY_MSS", 1, be16),
  wscale: attribute("NFTA_SYNPROXY_WSCALE", 2, u8),
  flags: attribute("NFTA_SYNPROXY_FLAGS", 3, bits(SYNPROXY_FLAGS)),
}));

export const objectDataAttributes = [
  helperAttributes,
  timeoutAttributes,
  expectationAttributes,
  secmarkAttributes,
  synproxyAttributes,
] as const;

/** Decodes NFTA_OBJ_DATA by NFTA_OBJ_TYPE. @throws DecodeError */
export function readObject(type: number, raw: Uint8Array): ObjectValue {
  const wire = new Wire(raw);
  const end = raw.length;
  switch (type) {
    case OBJECT_TYPES.counter: {
      const { packets = 0, bytes = 0 } = EXPRESSIONS.counter.attributes.read(wire, 0, end);
      return { type: "counter", packets, bytes };
    }
    case OBJECT_TYPES.quota: {
      const { bytes = 0, consumed = 0, flags = [] } = EXPRESSIONS.quota.attributes.read(wire, 0, end);
      return { type: "quota", bytes, consumed, flags };
    }
    case OBJECT_TYPES.limit: {
      const limit = EXPRESSIONS.limit.attributes.read(wire, 0, end);
      return {
        type: "limit",
        rate: limit.rate ?? 0,
        unitSeconds: limit.unitSeconds ?? 1,
        burst: limit.burst ?? 0,
        per: limit.type === "bytes" ? "bytes" : "packets",
        over: limit.flags?.includes("inv") === true,
      };
    }
    case OBJECT_TYPES.connlimit: {
      const { count = 0, flags = [] } = EXPRESSIONS.connlimit.attributes.read(wire, 0, end);
      return { type: "connlimit", count, over: flags.includes("inv") };
    }
    case OBJECT_TYPES["ct helper"]: {
      const { name = "", l3proto = 0, l4proto = 0 } = helperAttributes.read(wire, 0, end);
      return { type: "ct helper", helper: name, l3proto, l4proto };
    }
    case OBJECT_TYPES["ct timeout"]: {
      const { l3proto = 0, l4proto = 0, data = {} } = timeoutAttributes.read(wire, 0, end);
      return { type: "ct timeout", l3proto, l4proto, timeouts: data };
    }
    case OBJECT_TYPES["ct expectation"]: {
      const read = expectationAttributes.read(wire, 0, end);
      const { l3proto = 0, l4proto = 0, dport = 0, timeoutMs = 0, size = 0 } = read;
      return { type: "ct expectation", l3proto, l4proto, dport, timeoutMs, size };
    }
    case OBJECT_TYPES.secmark:
      return { type: "secmark", context: secmarkAttributes.read(wire, 0, end).context ?? "" };
    case OBJECT_TYPES.synproxy: {
      const { mss = 0, wscale = 0, flags = [] } = synproxyAttributes.read(wire, 0, end);
      return { type: "synproxy", mss, wscale, flags };
    }
    default:
      return { type: "other", number: type, data: hexText(raw) };
  }
}

/** NFTA_OBJ_TYPE of a value. */
export function objectTypeNumber(value: ObjectValue): number {
  return value.type === "other" ? value.number : OBJECT_TYPES[value.type];
}

/** Encodes NFTA_OBJ_DATA. @throws EncodeError */
export function writeObject(value: ObjectValue): Uint8Array {
  const writer = new Writer(64);
  switch (value.type) {
    case "counter":
      EXPRESSIONS.counter.attributes.write(writer, { packets: value.packets, bytes: value.bytes });
      break;
    case "quota":
      EXPRESSIONS.quota.attributes.write(writer, {
        bytes: value.bytes,
        flags: value.flags.filter((flag) => flag !== "depleted") as readonly Named<typeof QUOTA_FLAGS>[],
        consumed: value.consumed,
      });
      break;
    case "limit":
      EXPRESSIONS.limit.attributes.write(writer, {
        rate: value.rate,
        unitSeconds: value.unitSeconds,
        burst: value.burst,
        type: value.per satisfies keyof typeof LIMIT_TYPES,
        flags: value.over ? ["inv"] : [],
      });
      break;
    case "connlimit":
      EXPRESSIONS.connlimit.attributes.write(writer, {
        count: value.count,
        flags: value.over ? ["inv"] : [],
      });
      break;
    case "ct helper":
      helperAttributes.write(writer, { name: value.helper, l3proto: value.l3proto, l4proto: value.l4proto });
      break;
    case "ct timeout":
      timeoutAttributes.write(writer, {
        l3proto: value.l3proto,
        l4proto: value.l4proto,
        data: value.timeouts,
      });
      break;
    case "ct expectation": {
      const { l3proto, l4proto, dport, timeoutMs, size } = value;
      expectationAttributes.write(writer, { l3proto, l4proto, dport, timeoutMs, size });
      break;
    }
    case "secmark":
      secmarkAttributes.write(writer, { context: value.context });
      break;
    case "synproxy":
      synproxyAttributes.write(writer, {
        mss: value.mss,
        wscale: value.wscale,
        flags: value.flags as readonly Named<typeof SYNPROXY_FLAGS>[],
      });
      break;
    case "other":
      writer.append(hexBytes(value.data));
      break;
  }
  return writer.done();
}
