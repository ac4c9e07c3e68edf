/** Which announcements of the kernel are news. */
import { expect, test } from "bun:test";
import { NetworkNotes, type NotedNetwork } from "../../src/agent/network-notes.ts";
import type { Address } from "../../src/linux/route/address.ts";
import type { Link } from "../../src/linux/route/link.ts";
import { NETCONFA_IFINDEX_ALL } from "../../src/linux/route/netconf.ts";
import type { Route } from "../../src/linux/route/route.ts";

const link = (index: number, name: string, more: Partial<Link> = {}): Link =>
  ({ index, name, up: true, ...more }) as Link;
const address = (index: number, text: string): Address =>
  ({
    family: 4,
    interface: index,
    address: text,
    prefixLength: 24,
    scope: "global",
    flags: [],
  }) as unknown as Address;
const route = (index: number): Route =>
  ({
    family: 4,
    type: "unicast",
    destination: "0.0.0.0/0",
    table: 254,
    interface: index,
    flags: [],
    metrics: {},
  }) as unknown as Route;

const STATE: NotedNetwork = {
  links: [link(2, "eth0"), link(3, "veth1", { kind: "veth" }), link(4, "up0", { kind: "veth" })],
  addresses: [address(2, "203.0.113.5")],
  routes: [route(4)],
};

test("what was only refreshed is no news, nor what happens to a pod's link", () => {
  const notes = new NetworkNotes(() => STATE);
  const texts = (...events: Parameters<NetworkNotes["of"]>): string[] =>
    notes.of(...events).map(({ text }) => text);
  expect(texts({ kind: "link", gone: false, link: link(2, "eth0") })).toEqual([]);
  expect(texts({ kind: "address", gone: false, address: address(2, "203.0.113.5") })).toEqual([]);
  expect(texts({ kind: "route", gone: false, route: route(4) })).toEqual([]);
  expect(texts({ kind: "link", gone: true, link: link(3, "veth1", { kind: "veth" }) })).toEqual([]);
  expect(texts({ kind: "link", gone: false, link: link(4, "up0", { kind: "veth", up: false }) })).toEqual([
    "up0 is down now",
  ]);
  // The kernel took the IPv4 route with the link, without a word: that it comes back is news.
  expect(texts({ kind: "route", gone: false, route: route(4) })).toEqual([
    'the IPv4 route "default dev up0" is there now',
  ]);
  expect(texts({ kind: "address", gone: false, address: address(3, "10.0.0.1") })).toEqual([]);
});

test("a switch that all interfaces follow is one line, and one that differs later another", () => {
  const notes = new NetworkNotes(() => STATE);
  const turn = (index: number, value: number): string[] =>
    notes.setting({ family: 4, interface: index, setting: "forwarding", value }).map(({ text }) => text);
  expect(turn(NETCONFA_IFINDEX_ALL, 1)).toEqual(["net.ipv4.ip_forward is 1 now"]);
  expect([turn(2, 1), turn(3, 1), turn(4, 1)]).toEqual([[], [], []]);
  expect(turn(2, 0)).toEqual(["net.ipv4.conf.eth0.forwarding is 0 now"]);
  expect(turn(2, 1)).toEqual(["net.ipv4.conf.eth0.forwarding is 1 now"]);
});

test("where events were lost it begins with what is there", () => {
  let state = STATE;
  const notes = new NetworkNotes(() => state);
  state = { ...STATE, routes: [] };
  notes.renew();
  expect(notes.of({ kind: "route", gone: false, route: route(4) })).toHaveLength(1);
});
