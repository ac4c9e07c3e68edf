/** Random tracked connections, as the kernel would describe them. */
import * as fc from "fast-check";
import { ipText } from "../../../src/address/ip.ts";
import { IPCTNL_MSG_CT_NEW, type cta, type ctaTuple } from "../../../src/linux/conntrack/attributes.ts";
import { conntrackEntry, type ConntrackEntry } from "../../../src/linux/conntrack/entry.ts";
import { EntryScan } from "../../../src/linux/conntrack/scan.ts";
import type { AttributesOf } from "../../../src/linux/netlink/attributes.ts";
import { decode } from "../../../src/linux/netlink/message.ts";
import { NFPROTO } from "../../../src/linux/netfilter.ts";
import { Wire, Writer } from "../../../src/linux/netlink/wire.ts";
import { kernelText } from "../../support/arbitrary.ts";

type Tuple = AttributesOf<typeof ctaTuple>;

/** Family header and attributes of a message. */
export interface Description {
  readonly family: number;
  readonly attributes: AttributesOf<typeof cta>;
}

const u8 = fc.integer({ min: 0, max: 255 });
const port = fc.oneof(fc.constantFrom(0, 53, 443, 9999, 10_000, 65535), fc.integer({ min: 0, max: 65535 }));
const be32 = fc.oneof(fc.constantFrom(0, 9, 10, 9999, 10_000, 99_999_999, 0xffff_ffff), fc.nat(0xffff_ffff));
const counter = fc.oneof(fc.nat(100_000), fc.nat(Number.MAX_SAFE_INTEGER));

/** Few addresses, so that equal ones meet, beside any; IPv6 with runs of zeros in every place. */
const addressOf = (family: 4 | 6): fc.Arbitrary<string> =>
  family === 4
    ? fc.oneof(
        fc.constantFrom("10.0.0.1", "10.0.0.2", "203.0.113.5", "198.51.100.80", "255.255.255.255", "0.0.0.0"),
        fc.uint8Array({ minLength: 4, maxLength: 4 }).map((bytes) => ipText(bytes)),
      )
    : fc.oneof(
        fc.constantFrom("::", "::1", "2001:db8::1", "fd00::2", "::ffff:10.0.0.1", "1:0:0:2::", "::ffff:0:1"),
        fc
          .array(fc.oneof(fc.constant(0), fc.nat(0xffff)), { minLength: 8, maxLength: 8 })
          .map((groups) => ipText(Uint8Array.from(groups.flatMap((group) => [group >> 8, group & 255])))),
      );

function tupleOf(family: 4 | 6, protocol: number): fc.Arbitrary<Tuple> {
  const address = addressOf(family);
  const ip =
    family === 4
      ? fc.record({ v4Source: address, v4Destination: address })
      : fc.record({ v6Source: address, v6Destination: address });
  const number = fc.constant(protocol);
  const proto: fc.Arbitrary<NonNullable<Tuple["proto"]>> =
    protocol === 1
      ? fc.record({ number, icmpId: port, icmpType: u8, icmpCode: u8 })
      : protocol === 58
        ? fc.record({ number, icmpv6Id: port, icmpv6Type: u8, icmpv6Code: u8 })
        : [6, 17, 33, 132, 136, 47].includes(protocol)
          ? fc.record({ number, sourcePort: port, destinationPort: port })
          : fc.record({ number });
  return fc.record(
    { ip, proto, zone: fc.integer({ min: 1, max: 65535 }) },
    { requiredKeys: ["ip", "proto"] },
  );
}

function protoinfoOf(protocol: number): Record<string, fc.Arbitrary<object>> {
  const flags = fc.record({ flags: u8, mask: u8 });
  switch (protocol) {
    case 6: {
      const tcp = fc.record(
        {
          state: fc.nat(12),
          windowScaleOriginal: u8,
          windowScaleReply: u8,
          flagsOriginal: flags,
          flagsReply: flags,
        },
        { requiredKeys: ["state"] },
      );
      return { protoinfo: fc.record({ tcp }) };
    }
    case 132: {
      const sctp = fc.record({
        state: fc.nat(11),
        verificationTagOriginal: be32,
        verificationTagReply: be32,
      });
      return { protoinfo: fc.record({ sctp }) };
    }
    case 33:
      return { protoinfo: fc.record({ dccp: fc.record({ state: fc.nat(10), role: fc.nat(1) }) }) };
    default:
      return {};
  }
}

const KINDS: readonly (readonly [4 | 6, number])[] = [
  ...[1, 6, 17, 33, 47, 50, 132, 136, 200].map((protocol) => [4, protocol] as const),
  ...[6, 17, 58, 132, 50].map((protocol) => [6, protocol] as const),
];

/** Any message that ctnetlink could send. */
export const description: fc.Arbitrary<Description> = fc
  .constantFrom(...KINDS)
  .chain(([family, protocol]) => {
    const tuple = tupleOf(family, protocol);
    const counters = fc.record({ packets: counter, bytes: counter });
    const nanoseconds = fc.bigInt({ min: 0n, max: 4_000_000_000_000_000_000n });
    const attributes = fc.record(
      {
        original: tuple,
        reply: tuple,
        status: fc.nat(0xffff),
        timeout: be32,
        mark: be32,
        id: be32,
        use: fc.nat(10),
        zone: fc.integer({ min: 1, max: 65535 }),
        countersOriginal: counters,
        countersReply: counters,
        timestamp: fc.record({ start: nanoseconds, stop: nanoseconds }, { requiredKeys: ["start"] }),
        help: fc.record({ name: kernelText }),
        labels: fc.uint8Array({ minLength: 16, maxLength: 16 }),
        secctx: fc.record({ name: kernelText }),
        master: tuple,
        ...protoinfoOf(protocol),
      },
      { requiredKeys: ["original", "reply", "status", "id"] },
    );
    return attributes.map((value) => ({
      family: family === 4 ? NFPROTO.ipv4 : NFPROTO.ipv6,
      attributes: mirrored(value as Description["attributes"]),
    }));
  });

/** Half of the flows are not translated: the reply is the original turned round. */
function mirrored(attributes: Description["attributes"]): Description["attributes"] {
  const { original, reply } = attributes;
  if (((attributes.id ?? 0) & 1) === 0 || original?.ip === undefined) return attributes;
  const { v4Source, v4Destination, v6Source, v6Destination } = original.ip;
  const { sourcePort, destinationPort } = original.proto ?? {};
  return {
    ...attributes,
    reply: {
      ...reply,
      ip:
        v4Source === undefined
          ? { v6Source: v6Destination!, v6Destination: v6Source! }
          : { v4Source: v4Destination!, v4Destination: v4Source },
      proto: {
        ...original.proto,
        ...(sourcePort === undefined ? {} : { sourcePort: destinationPort!, destinationPort: sourcePort }),
      },
    },
  };
}

/** The bytes behind struct nlmsghdr. */
export function encodeDescription({ family, attributes }: Description): Uint8Array {
  const writer = new Writer();
  IPCTNL_MSG_CT_NEW.header.write(writer, { family });
  IPCTNL_MSG_CT_NEW.attributes.write(writer, attributes);
  return writer.done().slice();
}

/** The entry that the attribute tables make of the bytes. */
export function decodeEntry(bytes: Uint8Array): ConntrackEntry {
  const raw = { type: IPCTNL_MSG_CT_NEW.type, flags: 0, sequence: 0, portId: 0 };
  return conntrackEntry(
    decode(IPCTNL_MSG_CT_NEW, { ...raw, wire: new Wire(bytes), start: 0, end: bytes.length }),
  );
}

/** A scan pointed at the bytes. */
export function scanOf(bytes: Uint8Array): EntryScan {
  const scan = new EntryScan();
  scan.point(new Wire(bytes), 0, bytes.length);
  return scan;
}
