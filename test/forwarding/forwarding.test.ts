import { expect } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import {
  enableForwarding,
  planForwarding,
  readForwarding,
  undoForwarding,
  type Forwarding,
} from "../../src/forwarding/forwarding.ts";
import { readSysctl } from "../../src/kernel/sysctl.ts";
import { freshNamespace } from "../support/world.ts";
import { makeWorld } from "../trace/world.ts";
import { ask, run, testWith } from "../support/witness.ts";

const MAIN = join(import.meta.dir, "..", "..", "src", "main.ts");
const test = testWith(["root", "ip"]);
const BOTH = { ipv4: true, ipv6: true };

test("reads, enables, enables again, and undoes", () => {
  const namespace = freshNamespace();
  ask(
    namespace,
    ["ip", "-batch", "-"],
    "link add name a type veth peer name b\nlink set dev a up\nlink set dev b up",
  );
  const before = readForwarding(namespace);
  expect(before).toMatchObject({ ipv4: false, ipv6: false });
  expect(before.interfaces.map(({ name }) => name)).toEqual(["a", "b"]);
  const changes = enableForwarding(namespace, BOTH);
  expect(changes).toEqual([
    { name: "net.ipv4.ip_forward", before: "0", after: "1" },
    { name: "net.ipv6.conf.all.forwarding", before: "0", after: "1" },
  ]);
  const after = readForwarding(namespace);
  expect(after).toMatchObject({ ipv4: true, ipv6: true });
  expect(after.interfaces.every(({ ipv4, ipv6 }) => ipv4 === true && ipv6 === true)).toBe(true);
  expect(enableForwarding(namespace, BOTH)).toEqual([]);
  expect(undoForwarding(namespace, changes)).toEqual([]);
  expect(readForwarding(namespace)).toEqual(before);
});

test("enables one family and leaves the other alone", () => {
  const namespace = freshNamespace();
  enableForwarding(namespace, { ipv4: true, ipv6: false });
  expect(readForwarding(namespace)).toMatchObject({ ipv4: true, ipv6: false });
});

test("an interface that is off on its own is switched on too", () => {
  const namespace = freshNamespace();
  ask(namespace, ["ip", "link", "add", "eth0.100", "type", "veth", "peer", "name", "b"]);
  enableForwarding(namespace, BOTH);
  namespace.run(() => writeFileSync("/proc/sys/net/ipv4/conf/eth0.100/forwarding", "0"));
  expect(enableForwarding(namespace, BOTH)).toEqual([
    { name: "net.ipv4.conf.eth0.100.forwarding", before: "0", after: "1", reason: "off for eth0.100 alone" },
  ]);
  expect(readSysctl(namespace, "net.ipv4.conf.eth0.100.forwarding")).toBe("1");
});

test("a route that came by advertisement is not lost to IPv6 forwarding", () => {
  const namespace = freshNamespace();
  ask(
    namespace,
    ["ip", "-batch", "-"],
    "link add name eth0 type veth peer name b\nlink set dev eth0 up\nlink set dev b up\nroute add default via fe80::1 dev eth0 proto ra expires 1800",
  );
  expect(readSysctl(namespace, "net.ipv6.conf.eth0.accept_ra")).toBe("1");
  expect(enableForwarding(namespace, BOTH)).toEqual([
    { name: "net.ipv4.ip_forward", before: "0", after: "1" },
    {
      name: "net.ipv6.conf.eth0.accept_ra",
      before: "1",
      after: "2",
      reason: "keeps the route default, which came by router advertisement",
    },
    { name: "net.ipv6.conf.all.forwarding", before: "0", after: "1" },
  ]);
  expect(readSysctl(namespace, "net.ipv6.conf.eth0.accept_ra")).toBe("2");
  expect(readSysctl(namespace, "net.ipv6.conf.b.accept_ra")).toBe("1");
});

test("accept_ra comes before forwarding, only where a route would be lost", () => {
  const one = (
    name: string,
    acceptRa: number,
    advertisedRoutes: string[],
  ): Forwarding["interfaces"][number] => ({
    name,
    ipv4: false,
    ipv6: false,
    acceptRa,
    advertisedRoutes,
  });
  const current: Forwarding = {
    ipv4: true,
    ipv6: false,
    interfaces: [
      one("eth0", 1, ["default"]),
      one("eth1", 1, []),
      one("eth2", 2, ["default"]),
      one("eth3", 0, []),
    ],
  };
  expect(
    planForwarding(current, { ipv4: false, ipv6: true }).map(({ name, after }) => [name, after]),
  ).toEqual([
    ["net.ipv6.conf.eth0.accept_ra", "2"],
    ["net.ipv6.conf.all.forwarding", "1"],
  ]);
});

test("an interface that forwards already keeps its advertised route, too", () => {
  const current: Forwarding = {
    ipv4: true,
    ipv6: true,
    interfaces: [{ name: "eth0", ipv4: true, ipv6: true, acceptRa: 1, advertisedRoutes: ["default"] }],
  };
  expect(planForwarding(current, BOTH).map(({ name, after }) => [name, after])).toEqual([
    ["net.ipv6.conf.eth0.accept_ra", "2"],
  ]);
});

testWith(["root", "nft"])("IPv6 asks the family's switch alone, IPv4 the interface's", async () => {
  await using world = await makeWorld({ ipv6: true });
  const shows = (family: string): number =>
    run(undefined, [process.execPath, MAIN, "forwarding", "show", family, "--netns", world.node.name!])
      .exitCode;
  world.in("node", "sysctl", "-qw", "net.ipv6.conf.lan0.forwarding=0");
  expect([shows("--ipv6"), world.trace({ destination: "[2001:db8:198::80]:443" }).outcome]).toEqual([
    0,
    "answered",
  ]);
  expect(enableForwarding(world.node, { ipv4: false, ipv6: true })).toEqual([]);
  // Something else drops: the switch is not blamed.
  world.nft(
    "table inet guard { chain fw { type filter hook forward priority 0; meta nfproto ipv6 drop; }; }",
  );
  expect(world.trace({ destination: "[2001:db8:198::80]:443" }).stop?.code).toBe("filter-rule-drops");
  world.in("node", "sysctl", "-qw", "net.ipv4.conf.lan0.forwarding=0");
  expect(shows("--ipv4")).toBe(1);
  const { stop } = world.trace();
  expect<(string | undefined)[]>([stop?.code, stop?.fix?.[0]?.command]).toEqual([
    "forwarding-off-on-interface",
    "sysctl -w net.ipv4.conf.lan0.forwarding=1",
  ]);
});
