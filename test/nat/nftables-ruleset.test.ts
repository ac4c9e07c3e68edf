/** The sets of our table, asked as the rules ask them, decide what the intents say; for any intents and addresses. */
import { expect, test } from "bun:test";
import * as fc from "fast-check";
import { cidrContains, cidrOf, cidrText, parseCidr } from "../../src/address/cidr.ts";
import { ipFromNumber, ipNumber } from "../../src/address/ip.ts";
import { NEVER_TRANSLATED, normalizeIntent, type NatIntent, type NatSource } from "../../src/nat/intent.ts";
import { tableOf, type WantedSet, type WantedTable } from "../../src/nat/backends/nftables/ruleset.ts";
import { decisionOf } from "../../src/nat/decision.ts";
import { byPrecedence } from "../../src/nat/segment.ts";

/** A world of 64 sources and 16 destinations, so that everything overlaps. */
const host = fc.integer({ min: 0, max: 63 }).map((number) => `10.0.0.${number}`);
const destination = fc.integer({ min: 0, max: 15 }).map((number) => `198.51.100.${number * 16}`);
const outInterface = fc.constantFrom("eth0", "eth1", "wan0");
const inInterface = fc.constantFrom("cni0", "cni1", "elsewhere");

const smallCidr = fc
  .tuple(host, fc.integer({ min: 26, max: 32 }))
  .map(([address, length]) => cidrText(cidrOf(address, length)));
const excluded = fc
  .tuple(destination, fc.integer({ min: 25, max: 32 }))
  .map(([address, length]) => cidrText(cidrOf(address, length)));
const range = fc
  .tuple(fc.integer({ min: 1, max: 9 }), fc.integer({ min: 1, max: 9 }))
  .map(([a, b]) => ({ first: `203.0.113.${Math.min(a, b)}`, last: `203.0.113.${Math.max(a, b)}` }));
const ports = fc.constantFrom({ first: 1, last: 99 }, { first: 1024, last: 2047 });

const source: fc.Arbitrary<NatSource> = fc
  .tuple(
    smallCidr,
    fc.option(range, { nil: undefined }),
    fc.option(ports, { nil: undefined }),
    fc.boolean(),
    fc.option(fc.uniqueArray(outInterface, { minLength: 1, maxLength: 2 }), { nil: undefined, freq: 3 }),
    fc.option(fc.uniqueArray(inInterface, { minLength: 1, maxLength: 2 }), { nil: undefined }),
  )
  .map(([cidr, snat, portRange, fullyRandom, out, entered]) => ({
    cidr,
    translation: {
      ...(snat === undefined ? {} : { snat }),
      ...(portRange === undefined ? {} : { ports: portRange }),
      fullyRandom,
    },
    ...(entered === undefined ? {} : { inInterfaces: entered }),
    ...(out === undefined || entered !== undefined ? {} : { outInterfaces: out }),
  }));

const intents = fc
  .uniqueArray(fc.constantFrom("attach", "cni/a", "policy"), { minLength: 1 })
  .chain((owners) =>
    fc.tuple(
      ...owners.map((owner) =>
        fc
          .record({
            owner: fc.constant(owner),
            sources: fc.uniqueArray(source, { maxLength: 6, selector: ({ cidr }) => cidr }),
            untranslated: fc.array(excluded, { maxLength: 4 }),
          })
          .map((intent) => normalizeIntent(intent)),
      ),
    ),
  );

interface Packet {
  readonly from: string;
  readonly to: string;
  /** By which interface it leaves, and by which it came. */
  readonly by: string;
  readonly entered: string;
}

/** What the intents say should become of a packet. */
function wanted(all: readonly NatIntent[], { from, to, by, entered }: Packet): string {
  const around = byPrecedence(all, 4).filter(
    ({ cidr, source: { inInterfaces } }) =>
      cidrContains(cidr, from) && inInterfaces?.includes(entered) !== false,
  );
  const [deciding] = around;
  if (deciding === undefined) return "untranslated";
  const { source: chosen } = deciding;
  const owners = around.map(({ owner }) => owner);
  const keep = [
    ...all.filter(({ owner }) => owners.includes(owner)).flatMap(({ untranslated }) => untranslated),
    ...NEVER_TRANSLATED[4],
  ];
  if (keep.some((cidr) => cidrContains(parseCidr(cidr), to))) return "untranslated";
  if (chosen.outInterfaces?.includes(by) === false) return "untranslated";
  const { snat, ports: portRange, fullyRandom } = chosen.translation;
  const portsText = portRange === undefined ? "" : ` ${portRange.first}-${portRange.last}`;
  return `${snat === undefined ? "masquerade" : `${snat.first}-${snat.last}`}${portsText}${fullyRandom ? " random" : ""}`;
}

/** What the table's sets lead to, looked up as chain postrouting does. */
function decided(table: WantedTable, { from, to, by, entered }: Packet): string {
  const has = (name: string, ...key: string[]): boolean => lookup(table, name, key) !== undefined;
  if (has("entered-untranslated4", from, to, entered)) return "untranslated";
  const early = lookup(table, "entered-egress4", [from, entered]);
  if (early !== undefined) return translated(table, early, "entered-snat4", [from, entered]);
  if (has("bound4", from) && !has("leave4", from, by)) return "untranslated";
  const bySource = table.sets.some(({ spec }) => spec.set === "untranslated4" && spec.type.includes(" . "));
  if (bySource ? has("untranslated4", from, to) : has("untranslated4", to)) return "untranslated";
  const late = lookup(table, "egress4", [from]);
  return late === undefined ? "untranslated" : translated(table, late, "snat4", [from]);
}

/** What an element of a verdict map leads to. */
function translated(
  table: WantedTable,
  { data }: WantedSet["elements"][number],
  map: string,
  key: readonly string[],
): string {
  const { chain } = data as { readonly chain: string };
  expect(table.chains.map(({ name }) => name)).toContain(chain);
  const random = chain.endsWith("-random") ? " random" : "";
  if (chain.startsWith("masquerade"))
    return `masquerade${/(-)(\d+-\d+)/.exec(chain)?.[2]?.replace(/^/, " ") ?? ""}${random}`;
  const withPorts = chain.startsWith(`${map}-ports`);
  const address = lookup(table, map, key)!.data as string;
  if (!withPorts) return `${address}${random}`;
  const both = lookup(table, `${map}-ports`, key)!.data as readonly string[];
  // Protocols without ports take the address from the other map.
  expect(both[0]).toBe(address);
  return `${both.join(" ")}${random}`;
}

function lookup(
  { sets }: WantedTable,
  name: string,
  key: readonly string[],
): WantedSet["elements"][number] | undefined {
  const elements = sets.find(({ spec }) => spec.set === name)?.elements ?? [];
  const found = elements.filter((element) => {
    const parts = typeof element.key === "object" ? element.key : [element.key];
    return parts.every((part, index) => covers(String(part), key[index]!));
  });
  // An interval set cannot hold two intervals that overlap.
  expect(found.length).toBeLessThanOrEqual(1);
  return found[0];
}

function covers(part: string, value: string): boolean {
  const [first, last = first] = part.split("-");
  if (!part.includes(".")) return part === value;
  return ipNumber(first!) <= ipNumber(value) && ipNumber(value) <= ipNumber(last!);
}

test("the table decides about every packet as the intents say", () => {
  const packets = fc.array(
    fc.record({ from: host, to: destination, by: outInterface, entered: inInterface }),
    {
      minLength: 20,
      maxLength: 20,
    },
  );
  fc.assert(
    fc.property(intents, packets, (all, some) => {
      const sorted = [...all].sort((a, b) => (a.owner < b.owner ? -1 : 1));
      const table = tableOf(sorted);
      const decide = decisionOf(sorted);
      for (const packet of some) {
        const outcome = wanted(sorted, packet);
        expect(decided(table, packet)).toBe(outcome);
        // What is decided about flows without the rules is the same, but for the interface that they leave by.
        const decision = decide(packet.from, packet.to, () => packet.entered);
        const leaves = decision?.source.outInterfaces?.includes(packet.by) !== false;
        expect(decision?.translated === true && leaves).toBe(outcome !== "untranslated");
      }
    }),
    { numRuns: 150 },
  );
});

test("multicast and broadcast are never translated, whoever sends", () => {
  const all = [
    normalizeIntent({
      owner: "policy",
      sources: [{ cidr: "0.0.0.0/0", translation: { fullyRandom: true } }],
      untranslated: [],
    }),
  ];
  const table = tableOf(all);
  for (const to of ["224.0.0.1", "239.255.255.255", "255.255.255.255"]) {
    expect(decided(table, { from: ipFromNumber(4, 1n), to, by: "eth0", entered: "cni0" })).toBe(
      "untranslated",
    );
  }
  expect(decided(table, { from: "10.0.0.1", to: "223.255.255.255", by: "eth0", entered: "cni0" })).toBe(
    "masquerade random",
  );
});
