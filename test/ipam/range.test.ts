/** Ranges and configuration: pure. */
import { describe, expect, test } from "bun:test";
import * as fc from "fast-check";
import { readHostLocal, readRoute } from "../../src/ipam/configuration.ts";
import { Fields } from "../../src/ipam/fields.ts";
import { addressesAfter, capacityOf, rangeOf, readRange, readRangeSet } from "../../src/ipam/range.ts";
import { ipFromNumber, ipNumber } from "../../src/address/ip.ts";

function range(value: object) {
  return readRange(Fields.of(value, "ipam"));
}

function configuration(ipam: object, requests: { argument?: string; args?: object; runtime?: object } = {}) {
  const { argument, args, runtime } = requests;
  return readHostLocal("net", Fields.of(ipam, "ipam"), {
    ...(argument === undefined ? {} : { argument }),
    ...(args === undefined ? {} : { args: Fields.of(args, "args.cni") }),
    ...(runtime === undefined ? {} : { runtime: Fields.of(runtime, "runtimeConfig") }),
  });
}

describe("a range", () => {
  test("defaults to every host address behind the gateway", () => {
    const read = range({ subnet: "10.1.0.0/24" });
    expect(ipFromNumber(4, read.first)).toBe("10.1.0.1");
    expect(ipFromNumber(4, read.last)).toBe("10.1.0.254");
    expect(read.gateway).toBe("10.1.0.1");
    expect(capacityOf([read])).toBe(253n);
  });

  test("of IPv6 has no broadcast address to leave out", () => {
    const read = range({ subnet: "fd00:1::/120" });
    expect(ipFromNumber(6, read.last)).toBe("fd00:1::ff");
    expect(read.gateway).toBe("fd00:1::1");
  });

  test("takes a subnet with host bits, which the reference plugin refuses", () => {
    expect(range({ subnet: "10.1.0.7/24" }).subnet.network).toBe("10.1.0.0");
  });

  const bad: readonly (readonly [object, string])[] = [
    [{}, "ipam.subnet is missing"],
    [{ subnet: "10.1.0.0/31" }, "ipam.subnet 10.1.0.0/31 has too few addresses to assign one"],
    [{ subnet: 5 }, "ipam.subnet must be a string, not a number"],
    [{ subnet: "10.1.0.0/24", rangeStart: "10.2.0.1" }, "ipam.rangeStart 10.2.0.1 is not in 10.1.0.0/24"],
    [
      { subnet: "10.1.0.0/24", gateway: "fd00::1" },
      "ipam.gateway fd00::1 is of another address family than the subnet",
    ],
    [
      { subnet: "10.1.0.0/24", rangeStart: "10.1.0.9", rangeEnd: "10.1.0.8" },
      "ipam.rangeEnd 10.1.0.8 lies before rangeStart 10.1.0.9",
    ],
    [{ subnet: "10.1.0.0/24", rangeStart: "10.1.0" }, 'ipam.rangeStart "10.1.0" is not an IP address'],
  ];
  for (const [value, message] of bad) {
    test(`is refused: ${message}`, () => expect(() => range(value)).toThrow(message));
  }
});

describe("a range set", () => {
  test("holds one family and no address twice", () => {
    const mixed = [{ subnet: "10.1.0.0/24" }, { subnet: "fd00::/64" }];
    expect(() => readRangeSet(mixed, "ranges[0]")).toThrow("ranges[0][1] is of another address family");
    const overlapping = [{ subnet: "10.1.0.0/24" }, { subnet: "10.1.0.128/25" }];
    expect(() => readRangeSet(overlapping, "ranges[0]")).toThrow("overlaps 10.1.0.1-10.1.0.254");
    expect(() => readRangeSet([], "ranges[0]")).toThrow("must be a list of ranges");
  });

  test("is gone round once, wherever one begins", () => {
    const sizes = fc.array(fc.integer({ min: 1, max: 6 }), { minLength: 1, maxLength: 4 });
    fc.assert(
      fc.property(sizes, fc.nat(), (counts, seed) => {
        const set = readRangeSet(
          counts.map((count, index) => ({
            subnet: `10.${index}.0.0/24`,
            rangeStart: `10.${index}.0.3`,
            rangeEnd: `10.${index}.0.${2 + count}`,
            gateway: `10.${index}.0.4`,
          })),
          "ranges[0]",
        );
        const all = [...addressesAfter(set, undefined)].map(({ address }) => address);
        expect(BigInt(all.length)).toBe(capacityOf(set));
        if (all.length === 0) return;
        const start = all[seed % all.length]!;
        const round = [...addressesAfter(set, start)].map(({ address }) => address);
        expect(round.toSorted()).toEqual(all.toSorted());
        expect(round.at(-1)).toBe(start);
        expect(round).not.toContain("10.0.0.4");
      }),
    );
  });

  test("begins at the first address when the last one given away is not in it any more", () => {
    const set = readRangeSet([{ subnet: "10.1.0.0/29" }], "ranges[0]");
    expect([...addressesAfter(set, "10.9.0.1")][0]!.address).toBe("10.1.0.2");
    expect(rangeOf(set, "fd00::1")).toBeUndefined();
    expect(ipNumber([...addressesAfter(set, "10.1.0.6")][0]!.address)).toBe(ipNumber("10.1.0.2"));
  });
});

describe("host-local's configuration", () => {
  test("puts the runtime's ranges first, then the short form, then the list", () => {
    const read = configuration(
      { subnet: "10.2.0.0/24", ranges: [[{ subnet: "fd00::/64" }]], dataDir: "/tmp/x/" },
      { runtime: { ipRanges: [[{ subnet: "10.1.0.0/24" }]] } },
    );
    expect(read.sets.map((set) => set[0]!.subnet.network)).toEqual(["10.1.0.0", "10.2.0.0", "fd00::"]);
    expect(read.directory).toBe("/tmp/x/net");
  });

  test("gathers requested addresses from all three places", () => {
    const ranges = [[{ subnet: "10.1.0.0/24" }], [{ subnet: "10.2.0.0/24" }], [{ subnet: "fd00::/64" }]];
    const read = configuration(
      { ranges },
      { argument: "10.1.0.7", args: { ips: ["10.2.0.8"] }, runtime: { ips: ["fd00::0009/64"] } },
    );
    expect(read.requested).toEqual(["10.1.0.7", "10.2.0.8", "fd00::9"]);
  });

  const bad: readonly (readonly [object, Parameters<typeof configuration>[1], string])[] = [
    [{}, {}, "ipam.ranges is missing: there are no addresses to assign"],
    [{ subnet: "10.1.0.0/24" }, { argument: "10.9.0.1" }, "CNI_ARGS IP asks for 10.9.0.1, which is not in"],
    [{ subnet: "10.1.0.0/24" }, { argument: "10.1.0.1" }, "which is the subnet's gateway"],
    [
      { subnet: "10.1.0.0/24" },
      { args: { ips: ["10.1.0.5", "10.1.0.6"] } },
      "args.cni.ips[1] asks for a second address (10.1.0.6)",
    ],
    [{ subnet: "10.1.0.0/24", ranges: [[{ subnet: "10.1.0.0/16" }]] }, {}, "overlaps ipam.ranges[0]"],
    [{ subnet: "10.1.0.0/24", dataDir: "state" }, {}, "must be an absolute path"],
    [{ subnet: "10.1.0.0/24", routes: [{ gw: "10.1.0.1" }] }, {}, "ipam.routes[0].dst is missing"],
  ];
  for (const [ipam, requests, message] of bad) {
    test(`is refused: ${message}`, () => expect(() => configuration(ipam, requests)).toThrow(message));
  }

  test("reads every key of a route", () => {
    const route = { dst: "198.51.100.0/24", gw: "10.1.0.9", mtu: 1400, priority: 5, table: 100, scope: 253 };
    expect(readRoute({ ...route, advmss: 0 }, "r")).toEqual(route);
    expect(() => readRoute({ dst: "0.0.0.0/0", gw: "fd00::1" }, "r")).toThrow("another address family");
  });
});
