/** Filters, sorting and counting on scans, against the plain way on entries. */
import { describe, expect, test } from "bun:test";
import * as fc from "fast-check";
import { cidrContains, cidrOf, type Cidr } from "../../src/address/cidr.ts";
import { ipBits, ipFamily } from "../../src/address/ip.ts";
import { compileFlowFilter, isEmptyFilter } from "../../src/flows/flow-filter.ts";
import type { DirectionFilter, FlowFilter } from "../../src/flows/flow-filter.ts";
import type { PortRange } from "../../src/linux/ip-protocol.ts";
import { flowState } from "../../src/flows/flow.ts";
import { FlowSorter, SORT_KEYS } from "../../src/flows/flow-sorter.ts";
import { explainCounters, FlowTally, NAT_PORTS } from "../../src/flows/flow-statistics.ts";
import type { ConntrackEntry, ConntrackTuple } from "../../src/linux/conntrack/entry.ts";
import { passes } from "../../src/linux/conntrack/filter.ts";
import { IPS } from "../../src/linux/conntrack/status.ts";
import { decodeEntry, description, encodeDescription, scanOf } from "../kernel/conntrack/arbitrary.ts";

const ADDRESSES = ["10.0.0.1", "10.0.0.2", "203.0.113.5", "198.51.100.80", "fd00::2", "2001:db8::1", "::1"];

const cidr: fc.Arbitrary<Cidr> = fc
  .tuple(fc.constantFrom(...ADDRESSES), fc.nat(128))
  .map(([address, length]) => cidrOf(address, length % (ipBits(ipFamily(address)) + 1)))
  .map((made) => cidrOf(made.network, made.prefixLength));
const ports: fc.Arbitrary<PortRange> = fc
  .tuple(fc.nat(65535), fc.nat(65535))
  .map(([a, b]) => ({ first: Math.min(a, b), last: Math.max(a, b) }));
const several = <T>(one: fc.Arbitrary<T>): fc.Arbitrary<T[]> => fc.array(one, { minLength: 1, maxLength: 3 });
const direction: fc.Arbitrary<DirectionFilter> = fc.record(
  {
    source: several(cidr),
    destination: several(cidr),
    sourcePort: several(ports),
    destinationPort: several(ports),
  },
  { requiredKeys: [] },
);
const filter = fc.record(
  {
    family: fc.constantFrom(4 as const, 6 as const),
    protocols: several(fc.constantFrom(1, 6, 17, 58, 132)),
    states: several(fc.constantFrom("ESTABLISHED", "SYN_SENT", "unreplied", "replied", "assured")),
    original: direction,
    reply: direction,
    podAddresses: several(fc.constantFrom(...ADDRESSES)),
    sourceTranslated: fc.boolean(),
    destinationTranslated: fc.boolean(),
    translated: fc.boolean(),
    unreplied: fc.boolean(),
    assured: fc.boolean(),
    offloaded: fc.boolean(),
    mark: fc.record({ value: fc.nat(7), mask: fc.constantFrom(1, 7, 0xffff_ffff) }),
    zone: fc.nat(3),
  },
  { requiredKeys: [] },
) as fc.Arbitrary<FlowFilter>;

/** The filter's meaning, spelled out on the entry. */
function plainly(entry: ConntrackEntry, wanted: FlowFilter): boolean {
  const has = (bit: number): boolean => (entry.status & bit) !== 0;
  const same = (given: boolean | undefined, actual: boolean): boolean =>
    given === undefined || given === actual;
  const zone = entry.original.zone ?? entry.reply.zone ?? entry.zone;
  const { mark } = wanted;
  return (
    (wanted.family === undefined || entry.family === wanted.family) &&
    (wanted.protocols?.includes(entry.protocol) ?? true) &&
    (wanted.states?.includes(flowState(entry)) ?? true) &&
    tuplePlainly(entry.original, wanted.original) &&
    tuplePlainly(entry.reply, wanted.reply) &&
    (wanted.podAddresses?.some((a) => a === entry.original.source || a === entry.reply.source) ?? true) &&
    same(wanted.sourceTranslated, has(IPS.SRC_NAT)) &&
    same(wanted.destinationTranslated, has(IPS.DST_NAT)) &&
    same(wanted.translated, has(IPS.SRC_NAT) || has(IPS.DST_NAT)) &&
    same(wanted.unreplied, !has(IPS.SEEN_REPLY)) &&
    same(wanted.assured, has(IPS.ASSURED)) &&
    same(wanted.offloaded, has(IPS.OFFLOAD) || has(IPS.HW_OFFLOAD)) &&
    (mark === undefined || Number(BigInt(entry.mark) & BigInt(mark.mask)) === mark.value) &&
    (wanted.zone === undefined || zone === wanted.zone)
  );
}

function tuplePlainly(tuple: ConntrackTuple, wanted: DirectionFilter | undefined): boolean {
  if (wanted === undefined) return true;
  const inside = (cidrs: readonly Cidr[] | undefined, address: string): boolean =>
    cidrs?.some((one) => cidrContains(one, address)) ?? true;
  const among = (ranges: readonly PortRange[] | undefined, port: number | undefined): boolean =>
    ranges?.some(({ first, last }) => port !== undefined && port >= first && port <= last) ?? true;
  return (
    inside(wanted.source, tuple.source) &&
    inside(wanted.destination, tuple.destination) &&
    among(wanted.sourcePort, tuple.sourcePort ?? tuple.icmpId) &&
    among(wanted.destinationPort, tuple.destinationPort)
  );
}

/** An entry as the kernel makes them: one zone at most. */
const oneZone = description.map(({ family, attributes }) => {
  const { original, reply, zone, ...rest } = attributes;
  const without = (tuple: typeof original): typeof original => {
    const { zone: _zone, ...more } = tuple ?? {};
    return more;
  };
  const id = attributes.id ?? 0;
  return {
    family,
    attributes: {
      ...rest,
      original: id % 3 === 0 ? original! : without(original)!,
      reply: id % 3 === 1 ? reply! : without(reply)!,
      ...(id % 3 === 2 && zone !== undefined ? { zone } : {}),
    },
  };
});

describe("a filter", () => {
  test("takes exactly the flows that it means", () => {
    fc.assert(
      fc.property(oneZone, filter, (value, wanted) => {
        const bytes = encodeDescription(value);
        expect(compileFlowFilter(wanted).matches(scanOf(bytes))).toBe(plainly(decodeEntry(bytes), wanted));
      }),
      { numRuns: 1500 },
    );
  });

  test("one condition at a time, so that each is seen to take and to refuse", () => {
    const taken = new Map<string, Set<boolean>>();
    fc.assert(
      fc.property(oneZone, filter, (value, wanted) => {
        const bytes = encodeDescription(value);
        for (const [key, condition] of Object.entries(wanted)) {
          const alone = { [key]: condition } as FlowFilter;
          const verdict = compileFlowFilter(alone).matches(scanOf(bytes));
          expect(verdict).toBe(plainly(decodeEntry(bytes), alone));
          taken.set(key, (taken.get(key) ?? new Set()).add(verdict));
        }
      }),
      { numRuns: 2000, seed: 1 },
    );
    for (const [key, verdicts] of taken) expect([key, verdicts.size]).toEqual([key, 2]);
  });

  test("asks the kernel for nothing that would leave out a flow it takes", () => {
    fc.assert(
      fc.property(oneZone, filter, (value, wanted) => {
        const bytes = encodeDescription(value);
        const { kernel, matches } = compileFlowFilter(wanted);
        // An ICMP id stands where the kernel's filter has a port; it never compares the two.
        if (decodeEntry(bytes).original.icmpId !== undefined) return;
        if (matches(scanOf(bytes))) expect(passes(decodeEntry(bytes), kernel)).toBe(true);
      }),
      { numRuns: 1500 },
    );
  });

  test("is empty exactly when it has no condition", () => {
    expect(isEmptyFilter({})).toBe(true);
    fc.assert(
      fc.property(
        filter,
        (wanted) =>
          isEmptyFilter(wanted) ===
          (Object.keys(wanted).filter((key) => !isHollow(key, wanted)).length === 0),
      ),
    );
  });
});

/** A direction without a condition in it is none. */
function isHollow(key: string, wanted: FlowFilter): boolean {
  return (key === "original" || key === "reply") && Object.keys(wanted[key] ?? {}).length === 0;
}

describe("sorting", () => {
  test("gives every flow once, in order, for every key", () => {
    fc.assert(
      fc.property(
        fc.array(oneZone, { maxLength: 30 }),
        fc.constantFrom(...SORT_KEYS),
        fc.boolean(),
        (values, key, reverse) => {
          const sorter = new FlowSorter(key, reverse);
          const entries = values.map((value, index) => {
            const bytes = encodeDescription({ ...value, attributes: { ...value.attributes, id: index } });
            sorter.add(scanOf(bytes));
            return decodeEntry(bytes);
          });
          const order: number[] = [];
          sorter.visit((scan) => {
            order.push(scan.id);
            expect(scan.entry()).toEqual(entries[scan.id]!);
          });
          expect(order.toSorted((a, b) => a - b)).toEqual(values.map((_, index) => index));
          const keys = order.map((index) => plainKey(entries[index]!, key));
          const sorted = keys.toSorted((a, b) => (reverse ? -1 : 1) * comparePlain(a, b));
          expect(keys).toEqual(sorted);
        },
      ),
      { numRuns: 1000 },
    );
  });

  test("the first flows only, and equal ones as they came", () => {
    const sorter = new FlowSorter("timeout");
    for (let id = 0; id < 5; id++) {
      const attributes = { original: TUPLE, reply: TUPLE, status: 0, id };
      sorter.add(scanOf(encodeDescription({ family: 2, attributes })));
    }
    const ids: number[] = [];
    sorter.visit((scan) => ids.push(scan.id), 2);
    expect(ids).toEqual([0, 1]);
    expect(sorter.size).toBe(5);
  });

  test("more flows than one piece holds", () => {
    const sorter = new FlowSorter("mark");
    const count = 60_000;
    for (let mark = 0; mark < count; mark++) {
      const attributes = { original: TUPLE, reply: TUPLE, status: 0, id: mark, mark };
      sorter.add(scanOf(encodeDescription({ family: 2, attributes })));
    }
    const marks: number[] = [];
    sorter.visit((scan) => marks.push(scan.mark));
    expect(marks).toEqual(Array.from({ length: count }, (_, index) => count - 1 - index));
  });
});

const TUPLE = { ip: { v4Source: "10.0.0.1", v4Destination: "10.0.0.2" }, proto: { number: 50 } };

type PlainKey = number | string;

function plainKey(entry: ConntrackEntry, key: (typeof SORT_KEYS)[number]): PlainKey {
  const { counters } = entry;
  const end = (address: string, port: number | undefined): string => {
    const bytes = address.includes(":") ? 16 : 4;
    const number = BigInt(`0x${Buffer.from(addressBytes(address)).toString("hex")}`);
    return `${bytes === 4 ? 4 : 6} ${number.toString().padStart(39, "0")} ${String((port ?? -1) + 1).padStart(5, "0")}`;
  };
  switch (key) {
    case "timeout":
      return entry.timeoutSeconds ?? -1;
    case "age":
      return -(entry.startedAtMs ?? -1);
    case "bytes":
      return (counters?.original.bytes ?? 0) + (counters?.reply.bytes ?? 0);
    case "packets":
      return (counters?.original.packets ?? 0) + (counters?.reply.packets ?? 0);
    case "mark":
      return entry.mark;
    case "source":
      return end(entry.original.source, entry.original.sourcePort ?? entry.original.icmpId);
    case "destination":
      return end(entry.original.destination, entry.original.destinationPort);
    case "outside":
      return end(entry.reply.destination, entry.reply.destinationPort);
    case "protocol":
      return entry.protocolName;
    case "state":
      return flowState(entry);
  }
}

function addressBytes(address: string): Uint8Array {
  const value = cidrOf(address, ipBits(ipFamily(address))).first;
  return Buffer.from(value.toString(16).padStart(ipBits(ipFamily(address)) / 4, "0"), "hex");
}

function comparePlain(a: PlainKey, b: PlainKey): number {
  if (typeof a === "number" && typeof b === "number") return b - a;
  return a < b ? -1 : a > b ? 1 : 0;
}

describe("counting", () => {
  test("kinds, sources, destinations and source ports add up", () => {
    fc.assert(
      fc.property(fc.array(oneZone, { maxLength: 40 }), (values) => {
        const tally = new FlowTally();
        const entries = values.map((value) => {
          const bytes = encodeDescription(value);
          tally.add(scanOf(bytes));
          return decodeEntry(bytes);
        });
        const summary = tally.summary(new Map([["10.0.0.1", "blue"]]), 1000);
        expect(summary.flows).toBe(entries.length);
        const table = (keys: readonly string[]): Map<string, number> => {
          const counts = new Map<string, number>();
          for (const key of keys) counts.set(key, (counts.get(key) ?? 0) + 1);
          return counts;
        };
        expect(new Map(summary.sources.map(({ address, flows }) => [address, flows]))).toEqual(
          table(entries.map((entry) => entry.original.source)),
        );
        expect(summary.sources.find((source) => source.address === "10.0.0.1")?.pod ?? "blue").toBe("blue");
        expect(
          new Map(
            summary.destinations.map((one) => [`${one.protocol} ${one.address} ${one.port}`, one.flows]),
          ),
        ).toEqual(
          table(
            entries.map(
              (one) => `${one.protocolName} ${one.original.destination} ${one.original.destinationPort}`,
            ),
          ),
        );
        const kinds = new Map<string, number>();
        for (const { protocol, state, flows } of summary.kinds) {
          kinds.set(`${protocol} ${state}`, (kinds.get(`${protocol} ${state}`) ?? 0) + flows);
        }
        expect(kinds).toEqual(table(entries.map((one) => `${one.protocolName} ${flowState(one)}`)));
        const withPorts = entries.filter((one) => one.reply.destinationPort !== undefined);
        const group = ({ reply, protocolName }: ConntrackEntry): string =>
          `${protocolName} ${reply.destination} ${reply.source} ${reply.sourcePort}`;
        const translated = new Set(withPorts.filter((one) => one.flags.includes("src-nat")).map(group));
        expect(
          new Map(
            summary.portUse.map((use) => [
              `${use.protocol} ${use.outgoing} ${use.destination} ${use.port}`,
              use.used,
            ]),
          ),
        ).toEqual(table(withPorts.map(group).filter((key) => translated.has(key))));
        const few = tally.summary(new Map(), 2);
        expect(few.portUse).toEqual(summary.portUse.slice(0, 2));
        expect(few.portUseOfOthers).toEqual({
          groups: summary.portUse.length - few.portUse.length,
          used: summary.portUse.slice(2).reduce((sum, { used }) => sum + used, 0),
          of: summary.portUse.slice(2).reduce((sum, { of }) => sum + of, 0),
        });
        expect(summary.portUse.every((use) => use.of === NAT_PORTS.last - NAT_PORTS.first + 1)).toBe(true);
      }),
      { numRuns: 200 },
    );
  });

  test("counters of all CPUs are added and explained, those that cost packets first", () => {
    const cpu = { found: 1, invalid: 2, insert: 3, insertFailed: 4, drop: 5, earlyDrop: 6, error: 7 };
    const rest = { searchRestart: 8, clashResolve: 9, chainTooLong: 10 };
    const perCpu = [0, 1].map((number) => ({ cpu: number, ...cpu, ...rest }));
    const uneven = [...perCpu, { ...perCpu[0]!, cpu: 2, drop: 9, found: 0 }];
    const byName = new Map(
      explainCounters({ entries: 0, maximum: 0, perCpu: uneven }).map(({ name, cpus }) => [
        name,
        cpus.map(({ cpu: number, value }) => `${number}:${value}`).join(),
      ]),
    );
    expect([byName.get("drop"), byName.get("found")]).toEqual(["2:9,0:5,1:5", "0:1,1:1"]);
    const counters = explainCounters({ entries: 0, maximum: 0, perCpu });
    const values = new Map<string, number>(counters.map(({ name, value }) => [name, value]));
    const doubled = Object.entries({ ...cpu, ...rest }).map(([name, value]): [string, number] => [
      name,
      2 * value,
    ]);
    expect(values).toEqual(new Map(doubled));
    const costs = counters.map((counter) => counter.costsPackets);
    expect(costs.lastIndexOf(true)).toBeLessThan(costs.indexOf(false));
  });
});
