/** Offloads, against the flags the kernel shows elsewhere, and the tables against the headers. */
import { expect } from "bun:test";
import {
  bitsetAttributes,
  controlAttributes,
  CTRL_CMD_GETFAMILY,
  ETHTOOL_MSG_FEATURES_GET,
  ETHTOOL_MSG_FEATURES_SET,
  featuresAttributes,
  readOffloads,
  setOffload,
} from "../../../src/kernel/route/offloads.ts";
import { Rtnetlink } from "../../../src/kernel/route/rtnetlink.ts";
import { compareWithHeaders, namesOf, testWithHeaders } from "../../support/kernel-headers.ts";
import { testWith } from "../../support/witness.ts";
import { freshNamespace } from "../../support/world.ts";

testWith(["root"])("the checksum offload of a veth is seen, switched off and on again", () => {
  const namespace = freshNamespace();
  using route = Rtnetlink.open(namespace);
  route.createVeth({ name: "v0", peer: { name: "v1" } });
  const [v0, v1] = [route.link("v0")!.index, route.link("v1")!.index];
  const has = (index: number): boolean =>
    readOffloads(namespace).get(index)!.includes("tx-checksum-ip-generic");
  expect([has(v0), has(v1)]).toEqual([true, true]);
  setOffload(namespace, v0, "tx-checksum-ip-generic", false);
  expect([has(v0), has(v1)]).toEqual([false, true]);
  setOffload(namespace, v0, "tx-checksum-ip-generic", true);
  expect(has(v0)).toBe(true);
  expect(() => setOffload(namespace, v0, "no-such-feature", true)).toThrow(
    expect.objectContaining({ attribute: expect.stringContaining("ETHTOOL_A_BITSET_BIT_NAME") }),
  );
  expect(() => setOffload(namespace, 4711, "tx-checksum-ip-generic", true)).toThrow(
    expect.objectContaining({ code: "ENODEV" }),
  );
});

testWithHeaders("every attribute and command has the number it has in the headers", () => {
  const numbers: [string, number][] = [
    ...namesOf([featuresAttributes, bitsetAttributes, controlAttributes]),
    ["ETHTOOL_A_BITSET_BITS_BIT", 1],
    ["ETHTOOL_MSG_FEATURES_GET", ETHTOOL_MSG_FEATURES_GET],
    ["ETHTOOL_MSG_FEATURES_SET", ETHTOOL_MSG_FEATURES_SET],
    ["CTRL_CMD_GETFAMILY", CTRL_CMD_GETFAMILY],
  ];
  const { wrong, unknown } = compareWithHeaders(["linux/genetlink.h", "linux/ethtool_netlink.h"], numbers);
  expect({ wrong, unknown }).toEqual({ wrong: [], unknown: [] });
});
