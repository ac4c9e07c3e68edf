import { describe, expect, test } from "bun:test";
import * as fc from "fast-check";
import { cidrOf, cidrsOverlap, cidrText, parseCidr } from "../../src/address/cidr.ts";
import { ipFromNumber } from "../../src/address/ip.ts";
import { freeSubnet, IPV4_BLOCKS, occupiedPrefixes, requireFree } from "../../src/attachment/subnet.ts";
import { Rtnetlink } from "../../src/kernel/route/rtnetlink.ts";
import { ask, testWith } from "../support/witness.ts";
import { freshNamespace } from "../support/world.ts";
import { WayoutError } from "../../src/error.ts";

const occupiedBy = (...texts: string[]) => texts.map((text) => ({ cidr: parseCidr(text), by: text }));

describe("a free subnet", () => {
  test("is the first candidate on a node without routes", () => {
    expect(freeSubnet(4, [], "seed")).toBe("10.213.0.0/24");
  });

  test("steps over what is taken, also by a larger or a smaller prefix", () => {
    expect(freeSubnet(4, occupiedBy("10.213.0.128/25", "10.213.1.0/24"), "")).toBe("10.213.2.0/24");
    expect(freeSubnet(4, occupiedBy("10.0.0.0/8"), "")).toBe("172.30.192.0/24");
    expect(freeSubnet(4, occupiedBy("10.0.0.0/8", "172.16.0.0/12"), "")).toBe("100.71.0.0/24");
  });

  test("does not exist where everything private is routed", () => {
    expect(() => freeSubnet(4, occupiedBy(...IPV4_BLOCKS), "")).toThrow(/every candidate/);
  });

  test("is a unique local prefix in IPv6, the same for the same seed", () => {
    const prefix = freeSubnet(6, [], "one");
    expect(prefix).toMatch(/^fd[0-9a-f]{2}:[0-9a-f]+:[0-9a-f]+::\/64$/);
    expect(freeSubnet(6, [], "one")).toBe(prefix);
    expect(freeSubnet(6, [], "two")).not.toBe(prefix);
    expect(freeSubnet(6, occupiedBy(prefix), "one")).not.toBe(prefix);
  });

  test("never overlaps what is occupied", () => {
    const prefix = fc
      .tuple(fc.bigInt({ min: 0n, max: 2n ** 32n - 1n }), fc.integer({ min: 8, max: 32 }))
      .map(([address, length]) => cidrText(cidrOf(ipFromNumber(4, address), length)));
    fc.assert(
      fc.property(fc.array(prefix, { maxLength: 30 }), (taken) => {
        const found = parseCidr(freeSubnet(4, occupiedBy(...taken), ""));
        expect(taken.some((text) => cidrsOverlap(found, parseCidr(text)))).toBe(false);
      }),
    );
  });
});

testWith(["root", "ip"])("routes of every table and addresses are occupied; default routes are not", () => {
  const namespace = freshNamespace();
  for (const command of [
    "link add uplink type veth peer name router",
    "link set uplink up",
    "link set router up",
    "address add 192.0.2.7/24 dev uplink",
    "address add 2001:db8:7::7/64 dev uplink nodad",
    "route add default via 192.0.2.1",
    "route add 10.213.0.0/16 via 192.0.2.2",
    "route add blackhole 172.30.192.0/20 table 52",
  ]) {
    ask(namespace, ["ip", ...command.split(" ")]);
  }
  using node = Rtnetlink.open(namespace);
  const occupied = occupiedPrefixes(node);
  const by = (text: string): unknown => {
    try {
      requireFree(parseCidr(text), occupied, "looking");
      return undefined;
    } catch (error) {
      if (!(error instanceof WayoutError)) throw error;
      return error.details?.["by"];
    }
  };
  expect(by("10.213.9.0/24")).toBe("the route to 10.213.0.0/16 via 192.0.2.2 dev uplink");
  expect(by("172.30.200.0/24")).toBe("the route to 172.30.192.0/20 (blackhole) table 52");
  expect(by("192.0.2.0/28")).toBe("the route to 192.0.2.0/24 dev uplink");
  expect(by("2001:db8:7::/64")).toContain("2001:db8:7::");
  expect(by("198.51.100.0/24")).toBeUndefined();
  expect(by("fe80::/64")).toBeUndefined();
  expect(freeSubnet(4, occupied, "")).toBe("172.30.208.0/24");
  expect(occupiedPrefixes(node, node.link("uplink")!.index).map(({ by }) => by)).toEqual([
    "the route to 172.30.192.0/20 (blackhole) table 52",
    "the address 127.0.0.1 of lo",
    "the address ::1 of lo",
  ]);
});
