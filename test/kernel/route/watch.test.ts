/** Events, against what was done. */
import { expect } from "bun:test";
import { SystemError } from "../../../src/linux/errno.ts";
import { Rtnetlink } from "../../../src/kernel/route/rtnetlink.ts";
import { RouteWatch, RTNLGRP, type RouteEvent } from "../../../src/kernel/route/watch.ts";
import { compareWithHeaders, testWithHeaders } from "../../support/kernel-headers.ts";
import { ScriptedTransport } from "../../support/scripted-transport.ts";
import { ask, testWith } from "../../support/witness.ts";
import { freshNamespace } from "../../support/world.ts";

const test = testWith(["root", "ip"]);

/** Everything until a quiet moment. */
function collect(watch: RouteWatch): RouteEvent[] {
  const events: RouteEvent[] = [];
  for (;;) {
    const more = watch.next(200);
    if (more.length === 0) return events;
    events.push(...more);
  }
}

test("what ip does is told, in order, new and gone", () => {
  const namespace = freshNamespace();
  using watch = RouteWatch.open(namespace, ["links", "addresses", "routes", "rules", "neighbours"]);
  for (const line of [
    "link add v0 type veth peer name v1",
    "link set v1 up",
    "link set v0 up",
    "addr add 10.0.0.1/24 dev v0",
    "route add 192.0.2.0/24 via 10.0.0.5",
    "rule add pref 77 table 100",
    "neigh add 10.0.0.9 lladdr 02:00:00:00:00:09 dev v0",
    "neigh del 10.0.0.9 dev v0",
    "rule del pref 77",
    "route del 192.0.2.0/24",
    "addr del 10.0.0.1/24 dev v0",
    "link del v0",
  ]) {
    ask(namespace, ["ip", ...line.split(" ")]);
  }
  const told = collect(watch).flatMap((event) => {
    switch (event.kind) {
      case "link":
        return [`${event.gone ? "-" : "+"}link ${event.link.name}`];
      case "address":
        return event.address.family === 4
          ? [`${event.gone ? "-" : "+"}address ${event.address.address}`]
          : [];
      case "route":
        return event.route.table === 254 && event.route.family === 4
          ? [`${event.gone ? "-" : "+"}route ${event.route.destination}`]
          : [];
      case "rule":
        return [`${event.gone ? "-" : "+"}rule ${event.rule.priority}`];
      case "neighbour":
        // On the way out the kernel first tells of a failed entry, and not always of its MAC.
        return event.neighbour.mac === "02:00:00:00:00:09" && !event.gone
          ? [`+neighbour ${event.neighbour.address}`]
          : [];
      case "lost":
        return ["lost"];
    }
  });
  const firsts = [...new Set(told)];
  expect(firsts.filter((line) => !line.includes("link"))).toEqual([
    "+address 10.0.0.1",
    "+route 10.0.0.0/24",
    "+route 192.0.2.0/24",
    "+rule 77",
    "+neighbour 10.0.0.9",
    "-rule 77",
    "-route 192.0.2.0/24",
    "-address 10.0.0.1",
    "-route 10.0.0.0/24",
  ]);
  expect(firsts.filter((line) => line.includes("link"))).toEqual([
    "+link v1",
    "+link v0",
    "-link v0",
    "-link v1",
  ]);
});

test("only the kinds that were asked for are told", () => {
  const namespace = freshNamespace();
  using watch = RouteWatch.open(namespace, ["rules"]);
  using route = Rtnetlink.open(namespace);
  route.createBridge({ name: "br0", up: true });
  route.addRule({ family: 6, priority: 5, table: 7 });
  expect(collect(watch)).toMatchObject([
    { kind: "rule", gone: false, rule: { family: 6, priority: 5, table: 7 } },
  ]);
});

test("events that the kernel dropped are told as lost", () => {
  const transport = new ScriptedTransport(() => []);
  transport.receive = () => {
    throw new SystemError("recv", 105);
  };
  using watch = new RouteWatch(transport, ["links", "addresses"]);
  expect(transport.groups).toEqual([...RTNLGRP.links, ...RTNLGRP.addresses]);
  expect(watch.next(0)).toEqual([{ kind: "lost" }]);
});

testWithHeaders("the groups have the headers' numbers", () => {
  const names = {
    links: ["RTNLGRP_LINK"],
    neighbours: ["RTNLGRP_NEIGH"],
    addresses: ["RTNLGRP_IPV4_IFADDR", "RTNLGRP_IPV6_IFADDR"],
    routes: ["RTNLGRP_IPV4_ROUTE", "RTNLGRP_IPV6_ROUTE"],
    rules: ["RTNLGRP_IPV4_RULE", "RTNLGRP_IPV6_RULE"],
    settings: ["RTNLGRP_IPV4_NETCONF", "RTNLGRP_IPV6_NETCONF"],
    trafficControl: ["RTNLGRP_TC"],
  } satisfies Record<keyof typeof RTNLGRP, readonly string[]>;
  const numbers = Object.entries(RTNLGRP).flatMap(([kind, groups]) =>
    groups.map((group, index): [string, number] => [names[kind as keyof typeof names][index]!, group]),
  );
  expect(compareWithHeaders(["linux/rtnetlink.h"], numbers)).toEqual({
    wrong: [],
    unknown: [],
    compared: 11,
  });
});
