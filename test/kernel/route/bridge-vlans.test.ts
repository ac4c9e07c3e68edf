/**
 * Bridge VLANs as messages: what `bridge vlan` (iproute2 6.1) puts on the wire, byte for byte, and what is read of the
 * answer. The bytes are those of sendmsg(2) in the command beside them, struct nlmsghdr cut off;
 * v0 had the index 4, br0 the index 2. iproute2 leaves NLA_F_NESTED out, and we do not.
 */
import { expect, test } from "bun:test";
import * as fc from "fast-check";
import { type Request, writeMessage } from "../../../src/linux/netlink/message.ts";
import { Writer } from "../../../src/linux/netlink/wire.ts";
import { bridgeVlanInfos, bridgeVlansOf } from "../../../src/linux/route/bridge.ts";
import {
  addBridgeVlansRequest,
  createBridgeRequest,
  deleteBridgeVlansRequest,
} from "../../../src/linux/route/link-requests.ts";

const NLA_F_NESTED_BYTE = 0x80;
/** Where the upper byte of the type of IFLA_AF_SPEC, IFLA_LINKINFO and IFLA_INFO_DATA stands. */
const NESTED_AT = { afSpec: [19], linkInfo: [27, 43] } as const;

/** What we send, NLA_F_NESTED taken out where it is set. */
function sent(request: Request, nests: readonly number[]): string {
  const writer = new Writer();
  writeMessage(writer, request, 1);
  const bytes = writer.done().slice(16);
  for (const at of nests) {
    expect(bytes[at]! & NLA_F_NESTED_BYTE).toBe(NLA_F_NESTED_BYTE);
    bytes[at]! &= ~NLA_F_NESTED_BYTE;
  }
  return Buffer.from(bytes).toString("hex");
}

const vlan = (first: number, last = first, own = false) => ({ first, last, pvid: own, untagged: own });

const GOLDEN: readonly (readonly [
  command: string,
  bytes: string,
  ours: Request,
  nests: readonly number[],
])[] = [
  [
    "bridge vlan add dev v0 vid 10 pvid untagged",
    "070000000400000000000000000000000c001a000800020006000a00",
    addBridgeVlansRequest(4, [vlan(10, 10, true)]),
    NESTED_AT.afSpec,
  ],
  [
    "bridge vlan add dev v0 vid 100-110",
    "0700000004000000000000000000000014001a0008000200080064000800020010006e00",
    addBridgeVlansRequest(4, [vlan(100, 110)]),
    NESTED_AT.afSpec,
  ],
  [
    "bridge vlan del dev v0 vid 1",
    "070000000400000000000000000000000c001a000800020000000100",
    deleteBridgeVlansRequest(4, [vlan(1)]),
    NESTED_AT.afSpec,
  ],
  [
    "bridge vlan add dev br0 vid 10 self",
    "0700000002000000000000000000000014001a0006000000020000000800020000000a00",
    addBridgeVlansRequest(2, [vlan(10)], true),
    NESTED_AT.afSpec,
  ],
];

for (const [command, bytes, ours, nests] of GOLDEN) {
  test(command, () => expect(sent(ours, nests)).toBe(bytes));
}

test("ip link add br1 type bridge vlan_filtering 1 vlan_default_pvid 0", () => {
  // Only what IFLA_INFO_DATA holds: iproute2 sends the kind before it without its NUL.
  const request = createBridgeRequest({ name: "br1", vlanFiltering: true, defaultVlan: 0 });
  expect(sent(request, NESTED_AT.linkInfo)).toEndWith("1400020005000700010000000600270000000000");
});

test("any VLANs come back as they went out", () => {
  const vlan = fc
    .record({
      first: fc.integer({ min: 1, max: 4094 }),
      length: fc.integer({ min: 0, max: 50 }),
      pvid: fc.boolean(),
      untagged: fc.boolean(),
    })
    .map(({ first, length, pvid, untagged }) => ({
      first,
      last: Math.min(first + length, 4094),
      pvid,
      untagged,
    }));
  fc.assert(
    fc.property(fc.array(vlan), (vlans) => {
      expect(bridgeVlansOf(vlans.flatMap(bridgeVlanInfos))).toEqual(vlans);
    }),
  );
});
