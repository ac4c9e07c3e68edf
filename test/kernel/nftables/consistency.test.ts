/** A ruleset that changes while it is read: what is returned is of one generation, or nothing is. */
import { expect } from "bun:test";
import type { NetworkNamespace } from "../../../src/kernel/namespace.ts";
import {
  NETLINK_NETFILTER,
  openTransport,
  type NetlinkTransport,
} from "../../../src/kernel/netlink/transport.ts";
import { addChain, addTable } from "../../../src/linux/nftables/commands.ts";
import { Nftables } from "../../../src/kernel/nftables/nftables.ts";
import { testWith } from "../../support/witness.ts";
import { freshNamespace } from "../../support/world.ts";

/** A real socket; before each request somebody else may change the ruleset. */
function disturbed(namespace: NetworkNamespace, before: (request: number) => void): NetlinkTransport {
  const real = openTransport(NETLINK_NETFILTER, { namespace });
  let requests = 0;
  return {
    send(datagram) {
      before(++requests);
      real.send(datagram);
    },
    receive: (timeoutMs) => real.receive(timeoutMs),
    join: (group) => real.join(group),
    close: () => real.close(),
  };
}

testWith(["root"])("a change between two dumps is seen, and all is read again", () => {
  const namespace = freshNamespace();
  using other = Nftables.open(namespace);
  other.transaction([addTable({ family: "ip", table: "first" })], "setting up");
  // The generation, the tables; then, before the chains are read, a table and a chain appear.
  const late = { family: "ip", table: "late", chain: "c" } as const;
  using nftables = new Nftables(
    disturbed(namespace, (request) => {
      if (request === 3) other.transaction([addTable(late), addChain(late)], "meanwhile");
    }),
  );
  const ruleset = nftables.ruleset();
  expect(ruleset.generation).toBe(other.generation());
  expect(ruleset).toEqual(other.ruleset());
  expect(ruleset.tables.map((table) => table.name)).toEqual(["first", "late"]);
});

testWith(["root"])("a ruleset that never holds still is an error, not a mixture", () => {
  const namespace = freshNamespace();
  using other = Nftables.open(namespace);
  let count = 0;
  using nftables = new Nftables(
    disturbed(namespace, () => {
      other.transaction([addTable({ family: "ip", table: `t${++count}` })], "always changing");
    }),
  );
  expect(() => nftables.ruleset()).toThrow(/changed 10 times while it was read/);
});
