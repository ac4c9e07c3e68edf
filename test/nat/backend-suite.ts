/**
 * What every backend must do, whatever it writes into the kernel. `none` runs the same tests; it only expects that
 * nothing is translated.
 */
import { describe, expect } from "bun:test";
import type { NatBackend } from "../../src/nat/backend.ts";
import {
  DROPPED,
  masqueradeIntent,
  nodeSources,
  normalizeIntent,
  type NatIntent,
} from "../../src/nat/intent.ts";
import { echo } from "../../src/kernel/echo.ts";
import type { NetworkNamespace } from "../../src/kernel/namespace.ts";
import { freshNamespace } from "../support/world.ts";
import { ask, testWith } from "../support/witness.ts";
import {
  CLIENT,
  CLOSED_PORT,
  HANGUP_PORT,
  NODE,
  OUTSIDE,
  rulesWithHandles,
  SILENT_PORT,
  UPLINK,
  world,
} from "./three-namespaces.ts";

export interface BackendUnderTest {
  readonly title: string;
  readonly needs: readonly string[];
  readonly open: (namespace: NetworkNamespace) => NatBackend;
  /** False for `none`. */
  readonly translates: boolean;
  /** What the node itself sends it cannot translate, and says so. */
  readonly podsOnly?: true;
  /** Ways in which somebody may damage the ruleset behind our back: commands for a shell. */
  readonly damage: Readonly<Record<string, string | ((namespace: NetworkNamespace) => void)>>;
  /** Text that stands in the listing while anything of ours does. */
  readonly trace: string;
  /** Where it is no rule: everything that it has in a namespace, equal only if nothing was written. */
  readonly listing?: (namespace: NetworkNamespace) => string;
}

const BLUE = masqueradeIntent("cni/blue", ["10.9.0.0/24", "fd00:9::/64"]);

function snat(first: string, last: string, ports?: { first: number; last: number }): NatIntent {
  const v6 = first.includes(":");
  return {
    owner: "policy",
    sources: [
      {
        cidr: v6 ? "fd00:9::/64" : "10.9.0.0/24",
        translation: { snat: { first, last }, ...(ports === undefined ? {} : { ports }), fullyRandom: false },
      },
    ],
    untranslated: [],
  };
}

const EVERYTHING: NatIntent = {
  owner: "policy",
  sources: [
    {
      cidr: "10.9.0.0/24",
      translation: {
        snat: { first: "203.0.113.6", last: "203.0.113.9" },
        ports: { first: 2000, last: 2999 },
        fullyRandom: true,
      },
      outInterfaces: ["eth0", "eth1"],
    },
    {
      cidr: "10.9.1.0/24",
      translation: { snat: { first: "203.0.113.7", last: "203.0.113.7" }, fullyRandom: false },
    },
    { cidr: "10.9.2.0/24", translation: { ports: { first: 3000, last: 3999 }, fullyRandom: false } },
    {
      cidr: "10.9.2.128/25",
      translation: { ports: { first: 3000, last: 3999 }, fullyRandom: true },
      outInterfaces: ["eth0"],
    },
    {
      cidr: "fd00:9::/64",
      translation: {
        snat: { first: "2001:db8:113::6", last: "2001:db8:113::7" },
        ports: { first: 2000, last: 2999 },
        fullyRandom: true,
      },
    },
    { cidr: "fd00:9:1::/64", translation: { fullyRandom: false } },
  ],
  untranslated: ["10.0.0.0/8", "192.168.0.0/16", "fd00::/8"],
};

export function backendSuite(backend: BackendUnderTest): void {
  const test = testWith(["root", "ip", "nft", "curl", "iptables-legacy", ...backend.needs]);
  const listing = backend.listing ?? rulesWithHandles;
  const after = (translated: string, real: string): string => (backend.translates ? translated : real);

  describe(backend.title, () => {
    test("applies once, then writes nothing more", () => {
      const namespace = freshNamespace();
      using nat = backend.open(namespace);
      expect(nat.verify(EVERYTHING).length > 0).toBe(backend.translates);
      expect(nat.apply(EVERYTHING).changed).toBe(backend.translates);
      expect(nat.verify(EVERYTHING)).toEqual([]);
      const before = listing(namespace);
      expect(nat.apply(EVERYTHING)).toEqual({ changed: false, drifts: [] });
      // The order in which things were said does not matter.
      const shuffled = {
        ...EVERYTHING,
        sources: EVERYTHING.sources.toReversed(),
        untranslated: EVERYTHING.untranslated.toReversed(),
      };
      expect(nat.apply(shuffled).changed).toBe(false);
      expect(listing(namespace)).toBe(before);
    });

    test("reads back from the kernel what everybody wanted", () => {
      const namespace = freshNamespace();
      using nat = backend.open(namespace);
      nat.apply(EVERYTHING);
      nat.apply(BLUE);
      using other = backend.open(namespace);
      expect(other.intents()).toEqual(backend.translates ? [BLUE, EVERYTHING] : []);
    });

    test("replaces what an owner wanted before, and leaves the others alone", () => {
      const namespace = freshNamespace();
      using nat = backend.open(namespace);
      nat.apply(BLUE);
      nat.apply(EVERYTHING);
      const updated = { ...BLUE, untranslated: [...BLUE.untranslated, "192.0.2.0/24"] };
      expect(nat.apply(updated).changed).toBe(backend.translates);
      expect(nat.verify(updated)).toEqual([]);
      expect(nat.verify(EVERYTHING)).toEqual([]);
      expect(nat.verify(BLUE).length > 0).toBe(backend.translates);
      expect(nat.remove("nobody")).toBe(false);
      expect(nat.remove("cni/blue")).toBe(backend.translates);
      expect(nat.verify(EVERYTHING)).toEqual([]);
      expect(nat.intents()).toEqual(backend.translates ? [EVERYTHING] : []);
    });

    test("what several owners want is written at once where the backend can", () => {
      const namespace = freshNamespace();
      using nat = backend.open(namespace);
      if (nat.applyAll === undefined) return;
      expect(nat.applyAll([BLUE, EVERYTHING]).changed).toBe(true);
      expect([nat.verify(BLUE), nat.verify(EVERYTHING)]).toEqual([[], []]);
      expect(nat.applyAll([EVERYTHING, BLUE])).toEqual({ changed: false, drifts: [] });
      expect(nat.intents()).toEqual([BLUE, EVERYTHING]);
    });

    test("removing the last owner leaves nothing", () => {
      const namespace = freshNamespace();
      using nat = backend.open(namespace);
      nat.apply(BLUE);
      nat.apply(EVERYTHING);
      expect(listing(namespace).includes(backend.trace)).toBe(backend.translates);
      expect(nat.remove("policy")).toBe(backend.translates);
      expect(nat.remove("cni/blue")).toBe(backend.translates);
      expect(listing(namespace)).not.toContain(backend.trace);
      expect(nat.remove("cni/blue")).toBe(false);
      nat.apply(BLUE);
      nat.apply(EVERYTHING);
      expect(nat.remove()).toBe(backend.translates);
      expect(listing(namespace)).not.toContain(backend.trace);
      expect(nat.remove()).toBe(false);
    });

    test("other people's rules stay as they are", () => {
      const namespace = freshNamespace();
      const theirs = `table ip theirs { chain postrouting { type nat hook postrouting priority srcnat; ip saddr 10.1.0.0/16 counter masquerade; }; }`;
      ask(namespace, ["nft", "-f", "-"], theirs);
      const before = ask(namespace, ["nft", "-a", "list", "table", "ip", "theirs"]);
      using nat = backend.open(namespace);
      nat.apply(EVERYTHING);
      nat.remove();
      expect(ask(namespace, ["nft", "-a", "list", "table", "ip", "theirs"])).toBe(before);
    });

    test("an owner whose source somebody else decides is content all the same", () => {
      const namespace = freshNamespace();
      using nat = backend.open(namespace);
      const shadowed = masqueradeIntent("cni/late", ["10.9.0.0/24"]);
      nat.apply(BLUE);
      nat.apply(shadowed);
      expect(nat.verify(shadowed)).toEqual([]);
      expect(nat.verify(BLUE)).toEqual([]);
      nat.remove("cni/blue");
      expect(nat.verify(shadowed)).toEqual([]);
      expect(nat.intents().map(({ owner }) => owner)).toEqual(backend.translates ? ["cni/late"] : []);
    });

    test("a bad intent is refused and changes nothing", () => {
      const namespace = freshNamespace();
      using nat = backend.open(namespace);
      nat.apply(BLUE);
      const before = listing(namespace);
      const bad: readonly (readonly [NatIntent, string])[] = [
        [{ ...BLUE, owner: "a b" }, "owner"],
        [{ ...BLUE, untranslated: ["10.0.0.1/8"] }, "10.0.0.0/8"],
        [snat("203.0.113.9", "203.0.113.6"), "before it begins"],
        [snat("203.0.113.6", "203.0.113.6", { first: 0, last: 10 }), "port"],
        [snat("203.0.113.6", "2001:db8::1"), "IPv6"],
      ];
      for (const [intent, said] of bad) expect(() => nat.apply(intent)).toThrow(said);
      expect(listing(namespace)).toBe(before);
    });

    for (const [title, command] of Object.entries(backend.damage)) {
      test(`sees and mends: ${title}`, () => {
        const namespace = freshNamespace();
        using nat = backend.open(namespace);
        nat.apply(EVERYTHING);
        // Whoever was content before must see what happened since.
        expect(nat.verify(EVERYTHING)).toEqual([]);
        const whole = nat.describe(EVERYTHING);
        if (typeof command === "string") ask(namespace, ["sh", "-ec", command]);
        else command(namespace);
        using fresh = backend.open(namespace);
        const drifts = fresh.verify(EVERYTHING);
        expect(drifts).not.toEqual([]);
        const change = fresh.apply(EVERYTHING);
        expect(change.changed).toBe(true);
        expect(change.drifts).toEqual(drifts);
        expect(fresh.verify(EVERYTHING)).toEqual([]);
        expect(fresh.describe(EVERYTHING)).toBe(whole);
      });
    }

    test("MASQUERADE hides the client behind the interface's address, and follows it", async () => {
      const { node, client, fetch } = world();
      using nat = backend.open(node);
      expect((await fetch(OUTSIDE.v4)).address).toBe(CLIENT.v4);
      nat.apply(BLUE);
      expect((await fetch(OUTSIDE.v4)).address).toBe(after(NODE.v4, CLIENT.v4));
      expect((await fetch(OUTSIDE.v6)).address).toBe(after(NODE.v6, CLIENT.v6));
      // Somebody who is no source keeps his address.
      expect((await fetch(OUTSIDE.v4, { from: CLIENT.other4 })).address).toBe(CLIENT.other4);
      expect(echo(client, OUTSIDE.v4, 1000)).toBeDefined();
      expect(echo(client, OUTSIDE.v6, 1000)).toBeDefined();
      // MASQUERADE takes the first address of the subnet of the next hop: move it, as DHCP would.
      ask(node, ["ip", "address", "del", `${NODE.v4}/24`, "dev", UPLINK]);
      ask(node, ["ip", "route", "replace", "default", "via", OUTSIDE.near4]);
      if (!backend.translates) return;
      const moved = (await fetch(OUTSIDE.v4)).address;
      expect(moved).toMatch(/^203\.0\.113\.[6-9]$/);
    });

    test("SNAT takes the fixed address, or one of the range", async () => {
      const { node, fetch } = world();
      using nat = backend.open(node);
      nat.apply(snat("203.0.113.7", "203.0.113.7"));
      expect((await fetch(OUTSIDE.v4)).address).toBe(after("203.0.113.7", CLIENT.v4));
      nat.apply(snat("203.0.113.8", "203.0.113.9"));
      const seen = new Set<string>();
      for (let count = 0; count < 6; count++) seen.add((await fetch(OUTSIDE.v4)).address);
      // A client keeps the address of the range that it was given.
      expect([...seen]).toHaveLength(1);
      expect([...seen][0]).toMatch(backend.translates ? /^203\.0\.113\.[89]$/ : /^10\.9\.0\.2$/);
      nat.apply(snat("2001:db8:113::6", "2001:db8:113::6"));
      expect((await fetch(OUTSIDE.v6)).address).toBe(after("2001:db8:113::6", CLIENT.v6));
    });

    test("a port range holds for TCP, and ICMP passes beside it", async () => {
      const { node, client, fetch } = world();
      using nat = backend.open(node);
      const ports = { first: 20000, last: 20009 };
      const inRange = (port: number): boolean => port >= ports.first && port <= ports.last;
      nat.apply(snat("203.0.113.7", "203.0.113.7", ports));
      for (let count = 0; count < 3; count++) {
        const { address, port } = await fetch(OUTSIDE.v4);
        expect([address, inRange(port)]).toEqual([after("203.0.113.7", CLIENT.v4), backend.translates]);
      }
      expect(echo(client, OUTSIDE.v4, 1000)).toBeDefined();
      nat.apply(snat("2001:db8:113::6", "2001:db8:113::6", ports));
      const fixed = await fetch(OUTSIDE.v6);
      expect([fixed.address, inRange(fixed.port)]).toEqual([
        after("2001:db8:113::6", CLIENT.v6),
        backend.translates,
      ]);
      expect(echo(client, OUTSIDE.v6, 1000)).toBeDefined();
      nat.apply({
        owner: "policy",
        untranslated: [],
        sources: [
          { cidr: "10.9.0.0/24", translation: { ports, fullyRandom: true } },
          { cidr: "fd00:9::/64", translation: { ports, fullyRandom: false } },
        ],
      });
      const v4 = await fetch(OUTSIDE.v4);
      expect([v4.address, inRange(v4.port)]).toEqual([after(NODE.v4, CLIENT.v4), backend.translates]);
      const v6 = await fetch(OUTSIDE.v6);
      expect([v6.address, inRange(v6.port)]).toEqual([after(NODE.v6, CLIENT.v6), backend.translates]);
      expect(echo(client, OUTSIDE.v4, 1000)).toBeDefined();
      expect(echo(client, OUTSIDE.v6, 1000)).toBeDefined();
    });

    test("the client's port is kept, unless it shall be random", async () => {
      const { node, fetch } = world();
      using nat = backend.open(node);
      nat.apply(masqueradeIntent("cni/blue", ["10.9.0.0/24"], { translation: { fullyRandom: false } }));
      expect((await fetch(OUTSIDE.v4, { fromPort: 34_567 })).port).toBe(34_567);
      nat.apply(BLUE);
      const random = new Set<number>();
      for (const fromPort of [34_568, 34_569, 34_570])
        random.add((await fetch(OUTSIDE.v4, { fromPort })).port);
      const kept = [34_568, 34_569, 34_570].filter((port) => random.has(port)).length;
      // Each is kept by chance once in 64 000: all three never.
      expect(kept === 3).toBe(!backend.translates);
    });

    test("excluded destinations see the real source", async () => {
      const { node, fetch } = world();
      using nat = backend.open(node);
      nat.apply(
        masqueradeIntent("cni/blue", ["10.9.0.0/24", "fd00:9::/64"], {
          untranslated: ["198.51.100.0/24", "2001:db8:198::/48"],
        }),
      );
      expect((await fetch(OUTSIDE.v4)).address).toBe(CLIENT.v4);
      expect((await fetch(OUTSIDE.v6)).address).toBe(CLIENT.v6);
      expect((await fetch(OUTSIDE.near4)).address).toBe(after(NODE.v4, CLIENT.v4));
    });

    test("what is dropped does not leave, but to destinations that are left alone; what others want goes on", async () => {
      const { node, fetch, connect } = world();
      using nat = backend.open(node);
      const drop: NatIntent = {
        owner: "policy",
        sources: [
          { cidr: "10.9.0.0/24", translation: DROPPED },
          { cidr: "fd00:9::/64", translation: DROPPED },
        ],
        untranslated: ["203.0.113.0/24"],
      };
      const other = masqueradeIntent("cni/other", ["10.9.1.0/24"]);
      // By itself too: nothing else makes the kernel track connections then.
      nat.apply(drop);
      expect(await connect(OUTSIDE.v4, 8080, backend.translates)).toBe(backend.translates ? 28 : 0);
      nat.remove();
      nat.apply(other);
      expect(nat.apply(drop).changed).toBe(backend.translates);
      expect([nat.verify(drop), nat.verify(other), nat.apply(drop).changed]).toEqual([[], [], false]);
      expect(nat.intents()).toEqual(backend.translates ? [other, drop] : []);
      const stopped = backend.translates ? 28 : 0;
      expect(await connect(OUTSIDE.v4, 8080, backend.translates)).toBe(stopped);
      expect(await connect(OUTSIDE.v6, 8080, backend.translates)).toBe(stopped);
      expect((await fetch(OUTSIDE.near4)).address).toBe(CLIENT.v4);
      expect((await fetch(OUTSIDE.v4, { from: CLIENT.other4 })).address).toBe(after(NODE.v4, CLIENT.other4));
      if (!backend.translates) return;
      // One address in it is let out all the same: the most specific source decides.
      const mine = masqueradeIntent("cni/mine", [`${CLIENT.v4}/32`]);
      nat.apply(mine);
      expect((await fetch(OUTSIDE.v4)).address).toBe(NODE.v4);
      nat.remove("cni/mine");
      expect(await connect(OUTSIDE.v4, 8080, backend.translates)).toBe(stopped);
      // Nothing of it stays behind.
      nat.remove("policy");
      expect(nat.intents()).toEqual([other]);
      nat.remove();
      expect(ask(node, ["nft", "list", "ruleset"])).not.toContain("wayout");
    });

    test("the most specific source decides as whom; what anybody around it leaves untranslated is left so", async () => {
      const { node, fetch } = world();
      using nat = backend.open(node);
      nat.apply({
        ...snat("203.0.113.6", "203.0.113.6"),
        sources: [
          {
            cidr: "10.0.0.0/8",
            translation: { snat: { first: "203.0.113.6", last: "203.0.113.6" }, fullyRandom: false },
          },
        ],
        untranslated: ["203.0.113.0/24"],
      });
      const blue = masqueradeIntent("cni/blue", ["10.9.0.0/24"]);
      nat.apply(blue);
      expect(nat.verify(blue)).toEqual([]);
      expect((await fetch(OUTSIDE.v4)).address).toBe(after(NODE.v4, CLIENT.v4));
      expect((await fetch(OUTSIDE.v4, { from: CLIENT.other4 })).address).toBe(
        after("203.0.113.6", CLIENT.other4),
      );
      expect((await fetch(OUTSIDE.near4)).address).toBe(CLIENT.v4);
      expect((await fetch(OUTSIDE.near4, { from: CLIENT.other4 })).address).toBe(CLIENT.other4);
      // Each owner is remembered with its own words only: when one goes, the other is as it was.
      nat.remove("policy");
      expect(nat.intents()).toEqual(backend.translates ? [blue] : []);
      expect((await fetch(OUTSIDE.near4)).address).toBe(after(NODE.v4, CLIENT.v4));
    });

    test("a source bound to where packets come from is asked about those only", async () => {
      const { node, fetch } = world();
      using nat = backend.open(node);
      const entering = (name: string): NatIntent => {
        const { sources, untranslated } = masqueradeIntent("cni/blue", ["10.9.0.0/24", "fd00:9::/64"]);
        return {
          owner: "cni/blue",
          sources: sources.map((source) => ({ ...source, inInterfaces: [name, "vrf-blue"] })),
          untranslated,
        };
      };
      const pods = normalizeIntent(entering("pods"));
      nat.apply(pods);
      expect(nat.verify(pods)).toEqual([]);
      expect(nat.intents()).toEqual(backend.translates ? [pods] : []);
      expect((await fetch(OUTSIDE.v4)).address).toBe(after(NODE.v4, CLIENT.v4));
      expect((await fetch(OUTSIDE.v6)).address).toBe(after(NODE.v6, CLIENT.v6));
      nat.apply(entering("cni0"));
      expect((await fetch(OUTSIDE.v4)).address).toBe(CLIENT.v4);
      expect((await fetch(OUTSIDE.v6)).address).toBe(CLIENT.v6);
      // Of what comes from elsewhere another owner decides, though less specific.
      const wide = { ...snat("203.0.113.6", "203.0.113.6"), untranslated: ["203.0.113.0/24"] };
      nat.apply({ ...wide, sources: [{ ...wide.sources[0]!, cidr: "10.0.0.0/8" }] });
      expect((await fetch(OUTSIDE.v4)).address).toBe(after("203.0.113.6", CLIENT.v4));
      nat.apply(pods);
      expect((await fetch(OUTSIDE.v4)).address).toBe(after(NODE.v4, CLIENT.v4));
      expect((await fetch(OUTSIDE.near4)).address).toBe(CLIENT.v4);
      // Fixed addresses are told apart by it, too.
      const fixed = (owner: string, name: string, address: string): NatIntent => ({
        owner,
        sources: [
          {
            cidr: "10.9.0.0/24",
            translation: {
              snat: { first: address, last: address },
              ports: { first: 2000, last: 2999 },
              fullyRandom: false,
            },
            inInterfaces: [name],
          },
        ],
        untranslated: [],
      });
      nat.apply(fixed("cni/blue", "cni0", "203.0.113.7"));
      nat.apply(fixed("cni/red", "pods", "203.0.113.8"));
      const seen = await fetch(OUTSIDE.v4);
      expect(seen.address).toBe(after("203.0.113.8", CLIENT.v4));
      expect(seen.port >= 2000 && seen.port <= 2999).toBe(backend.translates);
    });

    test("a source bound to interfaces is translated there only", async () => {
      const { node, fetch } = world();
      using nat = backend.open(node);
      const translation = { fullyRandom: false };
      const bound = (name: string): NatIntent => ({
        owner: "policy",
        sources: [{ cidr: "10.9.0.0/24", translation, outInterfaces: [name, "wan7"] }],
        untranslated: [],
      });
      nat.apply(bound("eth1"));
      expect((await fetch(OUTSIDE.v4)).address).toBe(CLIENT.v4);
      nat.apply(bound(UPLINK));
      expect((await fetch(OUTSIDE.v4)).address).toBe(after(NODE.v4, CLIENT.v4));
    });

    test("everybody may be a source, the node itself included", async () => {
      const { node, client, fetch } = world();
      using nat = backend.open(node);
      nat.apply({
        owner: "policy",
        sources: ["0.0.0.0/0", "::/0"].map((cidr) => ({ cidr, translation: { fullyRandom: true } })),
        untranslated: ["10.0.0.0/8"],
      });
      expect(nat.verify(nat.intents()[0] ?? EVERYTHING)).toEqual([]);
      expect((await fetch(OUTSIDE.v4)).address).toBe(after(NODE.v4, CLIENT.v4));
      expect((await fetch(OUTSIDE.v4, { from: CLIENT.other4 })).address).toBe(after(NODE.v4, CLIENT.other4));
      expect((await fetch(OUTSIDE.v6)).address).toBe(after(NODE.v6, CLIENT.v6));
      // Traffic of the node with itself does not leave it.
      expect(echo(node, NODE.v4, 1000)).toBeDefined();
      expect(echo(node, "127.0.0.1", 1000)).toBeDefined();
      expect(echo(node, CLIENT.v4, 1000)).toBeDefined();
      expect(echo(client, "10.9.0.1", 1000)).toBeDefined();
    });

    test("what the node itself sends is translated where that is wanted, and the pods' is not for that", async () => {
      const { node, client, fetch } = world();
      using nat = backend.open(node);
      const wanted: NatIntent = {
        owner: "policy",
        sources: [
          { cidr: "10.9.1.0/24", translation: { fullyRandom: true } },
          ...nodeSources([4, 6], [], { fullyRandom: true }),
        ],
        untranslated: ["203.0.113.0/24"],
      };
      if (backend.podsOnly === true) {
        expect(() => nat.apply(wanted)).toThrow("hostTraffic");
        expect(nat.intents()).toEqual([]);
        return;
      }
      const own = (destination: string, from: string) => fetch(destination, { by: node, from });
      expect((await own(OUTSIDE.v4, "10.9.0.1")).address).toBe("10.9.0.1");
      nat.apply(wanted);
      expect(nat.verify(wanted)).toEqual([]);
      const normal = normalizeIntent(wanted);
      expect(nat.intents()).toEqual(backend.translates ? [normal] : []);
      expect((await own(OUTSIDE.v4, "10.9.0.1")).address).toBe(after(NODE.v4, "10.9.0.1"));
      expect((await own(OUTSIDE.v6, "fd00:9::1")).address).toBe(after(NODE.v6, "fd00:9::1"));
      // Destinations that are left alone are so for the node, too.
      expect((await own(OUTSIDE.near4, "10.9.0.1")).address).toBe("10.9.0.1");
      // A pod that no source speaks of leaves as itself; one that is a source is translated as ever.
      expect((await fetch(OUTSIDE.v4)).address).toBe(CLIENT.v4);
      expect((await fetch(OUTSIDE.v6)).address).toBe(CLIENT.v6);
      expect((await fetch(OUTSIDE.v4, { from: CLIENT.other4 })).address).toBe(after(NODE.v4, CLIENT.other4));
      // Beside an owner whose source is bound to where packets come from, and is more specific.
      nat.apply({ ...BLUE, sources: BLUE.sources.map((source) => ({ ...source, inInterfaces: ["pods"] })) });
      expect(nat.verify(wanted)).toEqual([]);
      expect((await own(OUTSIDE.v4, "10.9.0.1")).address).toBe(after(NODE.v4, "10.9.0.1"));
      expect((await fetch(OUTSIDE.v4)).address).toBe(after(NODE.v4, CLIENT.v4));
      expect(echo(node, CLIENT.v4, 1000)).toBeDefined();
      expect(echo(client, "10.9.0.1", 1000)).toBeDefined();
      // With fixed addresses and ports.
      const fixed = {
        snat: { first: "203.0.113.7", last: "203.0.113.7" },
        ports: { first: 2000, last: 2999 },
      };
      const translation = { ...fixed, fullyRandom: false };
      nat.apply({ ...wanted, sources: nodeSources([4], [], translation) });
      const seen = await own(OUTSIDE.v4, "10.9.1.1");
      expect(seen.address).toBe(after("203.0.113.7", "10.9.1.1"));
      expect(seen.port >= 2000 && seen.port <= 2999).toBe(backend.translates);
      nat.remove("policy");
      expect((await own(OUTSIDE.v4, "10.9.0.1")).address).toBe("10.9.0.1");
    });

    test("refused, silent and closed connections look to the client as they are", async () => {
      const { node, connect } = world();
      using nat = backend.open(node);
      nat.apply(BLUE);
      expect(await connect(OUTSIDE.v4, CLOSED_PORT)).toBe(7);
      expect(await connect(OUTSIDE.v6, CLOSED_PORT)).toBe(7);
      expect(await connect(OUTSIDE.v4, SILENT_PORT, true)).toBe(28);
      expect(await connect(OUTSIDE.v4, HANGUP_PORT)).toBe(52);
      expect(await connect(OUTSIDE.v6, HANGUP_PORT)).toBe(52);
    });
  });
}
