/** The table that others cannot flush: what it holds, and that connections outlive a flush because of it. */
import { expect } from "bun:test";
import { Nftables } from "../../src/kernel/nftables/nftables.ts";
import { NftablesNat } from "../../src/nat/backends/nftables/nftables.ts";
import { TWIN } from "../../src/nat/backends/nftables/names.ts";
import { NftablesTwin } from "../../src/nat/backends/nftables/twin.ts";
import { masqueradeIntent } from "../../src/nat/intent.ts";
import { connection, echoServer } from "../support/echo.ts";
import { freshNamespace } from "../support/world.ts";
import { ask, run, testWith } from "../support/witness.ts";
import { OUTSIDE, world } from "./three-namespaces.ts";

const test = testWith(["root", "nft"]);
const INTENT = masqueradeIntent("cni/blue", ["10.9.0.0/24", "fd00:9::/64"]);

test("it holds the same translations, and nobody else can change it", () => {
  const namespace = freshNamespace();
  using nat = new NftablesNat({ namespace });
  nat.apply(INTENT);
  using twin = NftablesTwin.open(namespace)!;
  expect(twin.hold([INTENT])).toBe(true);
  expect(twin.hold([INTENT])).toBe(false);
  expect(ask(namespace, ["nft", "list", "table", "inet", TWIN.table])).toContain("srcnat - 4");
  expect(run(namespace, ["nft", "delete", "table", "inet", TWIN.table]).exitCode).not.toBe(0);
  ask(namespace, ["nft", "flush", "ruleset"]);
  using kernel = Nftables.open(namespace);
  expect(kernel.ruleset().tables.map(({ name }) => name)).toEqual([TWIN.table]);
  twin.remove();
  expect(kernel.ruleset().tables).toEqual([]);
});

test("what a process that was killed left of it is taken over", () => {
  const namespace = freshNamespace();
  const first = NftablesTwin.open(namespace)!;
  first.hold([INTENT]);
  first[Symbol.dispose]();
  using second = NftablesTwin.open(namespace)!;
  expect(second.hold([masqueradeIntent("cni/red", ["10.8.0.0/24"])])).toBe(true);
  const text = ask(namespace, ["nft", "list", "ruleset"]);
  expect(text).toContain("10.8.0.0/24");
  expect(text).not.toContain("10.9.0.0/24");
  second.remove();
});

for (const held of [true, false]) {
  test(`${held ? "with it every connection outlives" : "without it none outlives"} a flush of the ruleset`, async () => {
    const three = world();
    echoServer(three.outside);
    using nat = new NftablesNat({ namespace: three.node });
    nat.apply(INTENT);
    using twin = held ? NftablesTwin.open(three.node)! : undefined;
    twin?.hold([INTENT]);
    const connections = Array.from({ length: 5 }, () => connection(three.client, OUTSIDE.v4));
    for (const one of connections) expect(await one.says("before")).toBe("before");
    ask(three.node, ["nft", "flush", "ruleset"]);
    for (const one of connections) expect(await one.says("meanwhile")).toBe(held ? "meanwhile" : "lost");
    nat.apply(INTENT);
    for (const one of connections) expect(await one.says("after")).toBe(held ? "after" : "lost");
    // A new one is translated all the time.
    ask(three.node, ["nft", "flush", "ruleset"]);
    if (held) expect((await three.fetch(OUTSIDE.v4)).address).toBe("203.0.113.5");
    twin?.remove();
  });
}
