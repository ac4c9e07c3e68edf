/** More and fewer prefixes are elements that come and go: the table stays, and says what one made anew would say. */
import { expect } from "bun:test";
import * as fc from "fast-check";
import { NETLINK_NETFILTER, openTransport } from "../../src/kernel/netlink/transport.ts";
import type { NetworkNamespace } from "../../src/kernel/namespace.ts";
import { Nftables } from "../../src/kernel/nftables/nftables.ts";
import type { Table } from "../../src/linux/nftables/ruleset.ts";
import { cidrOf, cidrText } from "../../src/address/cidr.ts";
import { CLAIMS, TABLE, TWIN } from "../../src/nat/backends/nftables/names.ts";
import { NftablesNat } from "../../src/nat/backends/nftables/nftables.ts";
import { NftablesTwin } from "../../src/nat/backends/nftables/twin.ts";
import { normalizeIntent, type NatIntent, type NatSource } from "../../src/nat/intent.ts";
import { freshNamespace } from "../support/world.ts";
import { ask, testWith } from "../support/witness.ts";

const test = testWith(["root", "nft"]);
const MASQUERADE = { fullyRandom: true };
const FIXED = { snat: { first: "203.0.113.8", last: "203.0.113.9" }, fullyRandom: true };

/** Prefixes of a small world, so that they nest and meet often. */
const prefix = fc
  .tuple(fc.integer({ min: 0, max: 15 }), fc.integer({ min: 28, max: 32 }))
  .map(([host, length]) => cidrText(cidrOf(`10.0.0.${host}`, length)));
const source = fc.record({ cidr: prefix, translation: fc.constantFrom(MASQUERADE, FIXED) });
const wish: fc.Arbitrary<NatIntent> = fc
  .tuple(
    fc.constantFrom("policy", "cni/a"),
    fc.uniqueArray(source, { minLength: 1, maxLength: 8, selector: ({ cidr }) => cidr }),
    fc.uniqueArray(prefix, { maxLength: 4 }),
  )
  .map(([owner, sources, untranslated]) => ({ owner, sources, untranslated }));

test("whatever is wanted after another, the kernel has what a table made anew has", () => {
  fc.assert(
    fc.property(fc.array(wish, { minLength: 2, maxLength: 6 }), (wishes) => {
      const [changed, anew] = [freshNamespace(), freshNamespace()];
      using nat = new NftablesNat({ namespace: changed });
      using twin = NftablesTwin.open(changed)!;
      const latest = new Map<string, NatIntent>();
      for (const one of wishes) {
        nat.apply(one);
        latest.set(one.owner, one);
        twin.hold([...latest.values()]);
        expect(nat.verify(one)).toEqual([]);
      }
      using fresh = new NftablesNat({ namespace: anew });
      fresh.applyAll([...latest.values()]);
      using freshTwin = NftablesTwin.open(anew)!;
      freshTwin.hold([...latest.values()]);
      expect(contents(changed)).toEqual(contents(anew));
      twin.remove();
      freshTwin.remove();
    }),
    { numRuns: 25 },
  );
}, 180_000);

test("one prefix more leaves the table, its rules and its counters where they are", () => {
  const namespace = freshNamespace();
  using nat = new NftablesNat({ namespace });
  using kernel = Nftables.open(namespace);
  const cidrs = Array.from({ length: 100 }, (_, index) => `10.1.${index}.0/24`);
  nat.apply(policy(cidrs.slice(1)));
  const before = kernel.table(TABLE)!;
  const claims = kernel.elements(CLAIMS)!;
  expect(nat.apply(policy(cidrs)).changed).toBe(true);
  const after = kernel.table(TABLE)!;
  expect(after.handle).toBe(before.handle);
  // Each element of a verdict map uses its chain.
  const rules = ({ chains }: Table) => chains.map(({ name, rules: own }) => ({ name, rules: own }));
  expect(rules(after)).toEqual(rules(before));
  // It is the first in order, and has the key that was free. The kernel tells them in no order.
  expect(kernel.elements(CLAIMS)).toEqual(expect.arrayContaining(claims));
  expect(nat.apply(policy(cidrs.slice(0, 50))).changed).toBe(true);
  expect(kernel.table(TABLE)!.handle).toBe(before.handle);
  expect(nat.intents()).toEqual([normalizeIntent(policy(cidrs.slice(0, 50)))]);
  // Another owner's prefixes go without a trace, too; another kind of translation needs a chain more.
  nat.apply({ ...policy(["10.2.0.0/16"]), owner: "cni/b" });
  const two = kernel.table(TABLE)!.handle;
  expect(nat.remove("cni/b")).toBe(true);
  expect(nat.intents()).toEqual([normalizeIntent(policy(cidrs.slice(0, 50)))]);
  expect(two).toBeGreaterThanOrEqual(before.handle);
});

test("one prefix more leaves the twin where it is", () => {
  const namespace = freshNamespace();
  using twin = NftablesTwin.open(namespace)!;
  using kernel = Nftables.open(namespace);
  twin.hold([policy(["10.1.0.0/24", "10.1.2.0/24"])]);
  const { handle } = kernel.table(TWIN)!;
  twin.hold([policy(["10.1.0.0/24", "10.1.1.0/24", "10.1.2.0/24"])]);
  expect(kernel.table(TWIN)!.handle).toBe(handle);
  expect(ask(namespace, ["nft", "list", "table", "inet", TWIN.table])).toContain("10.1.1.0/24");
  // Another place among the hooks is another chain.
  twin.hold([policy(["10.1.0.0/24"])], 0);
  expect(kernel.table(TWIN)!.chains.find(({ base }) => base !== undefined)?.base?.priority).toBe(1);
  twin.remove();
});

test("rules that somebody changes between our reading and our writing are made anew", () => {
  const namespace = freshNamespace();
  using nat = new NftablesNat({ namespace });
  nat.apply(policy(["10.1.0.0/24", "10.2.0.0/24"]));
  const transport = namespace.run(() => openTransport(NETLINK_NETFILTER));
  let isMeddled = false;
  using meddled = new NftablesNat({
    namespace,
    transport: {
      send: (datagram) => {
        // A batch begins with NFNL_MSG_BATCH_BEGIN (16).
        if (!isMeddled && new DataView(datagram.buffer, datagram.byteOffset).getUint16(4, true) === 16) {
          isMeddled = true;
          ask(namespace, ["nft", "delete", "element", "inet", "wayout", "egress4", "{ 10.1.0.0/24 }"]);
        }
        transport.send(datagram);
      },
      receive: (timeoutMs) => transport.receive(timeoutMs),
      join: (group) => transport.join(group),
      close: () => transport.close(),
    },
  });
  const wanted = policy(["10.1.0.0/24", "10.3.0.0/24"]);
  expect(meddled.apply(wanted).changed).toBe(true);
  expect(isMeddled).toBe(true);
  expect(nat.verify(wanted)).toEqual([]);
});

test("a set that was flushed is filled again, by itself", () => {
  const namespace = freshNamespace();
  using nat = new NftablesNat({ namespace });
  using kernel = Nftables.open(namespace);
  const wanted = policy(["10.1.0.0/24", "10.2.0.0/24"]);
  nat.apply(wanted);
  const { handle } = kernel.table(TABLE)!;
  ask(namespace, ["nft", "flush", "map", "inet", "wayout", "egress4"]);
  expect(nat.apply(wanted).changed).toBe(true);
  expect(nat.verify(wanted)).toEqual([]);
  expect(kernel.table(TABLE)!.handle).toBe(handle);
});

function policy(cidrs: readonly string[]): NatIntent {
  const sources = cidrs.map((cidr): NatSource => ({ cidr, translation: MASQUERADE }));
  return { owner: "policy", sources, untranslated: ["10.0.0.0/8"] };
}

/** Both tables as they can be compared: handles differ, and a claim's key means nothing. */
function contents(namespace: NetworkNamespace): unknown {
  using kernel = Nftables.open(namespace);
  return kernel.ruleset().tables.map(({ name, sets, chains }) => ({
    name,
    sets: Object.fromEntries(
      sets.map((set) => [
        set.name,
        // Of pairs the kernel tells the first that came first.
        set.elements
          .map(({ key, keyEnd, data, comment }) =>
            JSON.stringify(set.name === CLAIMS.set ? comment : [key, keyEnd, data]),
          )
          .sort(),
      ]),
    ),
    chains: Object.fromEntries(
      chains.map((chain) => [
        chain.name,
        { base: chain.base, rules: chain.rules.map(({ expressions }) => expressions) },
      ]),
    ),
  }));
}
