/** What `ip` and `bridge` say against what we say: of what they made, and of what we made. */
import { expect } from "bun:test";
import type { NetworkNamespace } from "../../../src/kernel/namespace.ts";
import { Rtnetlink } from "../../../src/kernel/route/rtnetlink.ts";
import { ask, askJson, isRealRoot, run, testWith } from "../../support/witness.ts";
import { freshNamespace } from "../../support/world.ts";
import {
  addressAsIp,
  ipLink,
  linkAsIp,
  namesOfLinks,
  neighbourAsIp,
  pick,
  plain,
  routeAsIp,
  ruleAsIp,
  sorted,
  type Json,
} from "./as-ip.ts";

const test = testWith(["root", "ip", "bridge"]);

/** Carrier and operational state settle a moment after a link is set up. */
async function settled(namespace: NetworkNamespace): Promise<void> {
  let before = "";
  for (let i = 0; i < 50; i++) {
    const now = ask(namespace, ["ip", "-o", "link"]) + ask(namespace, ["ip", "-o", "addr"]);
    if (now === before && !/state DOWN.*LOWER_UP|tentative/.test(now)) return;
    before = now;
    await Bun.sleep(50);
  }
}

function ipRoutes(namespace: NetworkNamespace): Json[] {
  return [
    ...askJson<Json[]>(namespace, ["ip", "-j", "-d", "-4", "route", "show", "table", "all"]),
    ...askJson<Json[]>(namespace, ["ip", "-j", "-d", "-6", "route", "show", "table", "all"]),
  ];
}

function ipRules(namespace: NetworkNamespace): Json[] {
  return [
    ...askJson<Json[]>(namespace, ["ip", "-j", "-d", "-4", "rule"]),
    ...askJson<Json[]>(namespace, ["ip", "-j", "-d", "-6", "rule"]),
  ];
}

function ipAddresses(namespace: NetworkNamespace): Json[] {
  return askJson<Json[]>(namespace, ["ip", "-j", "-d", "addr"]).flatMap(
    (link) => link["addr_info"] as Json[],
  );
}

/** Everything that `ip` and `bridge` tell, in an order of our own where theirs has no meaning. */
function told(namespace: NetworkNamespace) {
  return {
    links: askJson<Json[]>(namespace, ["ip", "-j", "-d", "link"]).map(ipLink),
    addresses: sorted(ipAddresses(namespace)),
    routes: sorted(ipRoutes(namespace)),
    rules: ipRules(namespace),
    neighbours: sorted(
      askJson<Json[]>(namespace, ["ip", "-j", "neigh"]).map((one) =>
        pick(one, ["dst", "dev", "lladdr", "state"]),
      ),
    ),
    forwarding: sorted(
      askJson<Json[]>(namespace, ["bridge", "-j", "-d", "fdb"]).map(({ mac, ifname, master }) =>
        plain({ mac, interface: ifname, master }),
      ),
    ),
  };
}

/** The same, as we read it. */
function read(namespace: NetworkNamespace) {
  using route = Rtnetlink.open(namespace);
  const links = route.links();
  const nameOf = namesOfLinks(links);
  for (const link of links) {
    for (const name of [link.name, ...link.alternativeNames])
      expect(route.link(name)!.index).toBe(link.index);
  }
  for (const name of ["", "nowhere", "a name that nobody has", "x".repeat(200)]) {
    expect(route.link(name)).toBeUndefined();
  }
  return {
    links: links.map((link) => linkAsIp(link, nameOf)),
    addresses: sorted(route.addresses().map(addressAsIp)),
    routes: sorted(route.routes().map((one) => routeAsIp(one, nameOf))),
    rules: route.rules().map(ruleAsIp),
    neighbours: sorted(
      route
        .neighbours()
        .filter(isTold)
        .map((one) => neighbourAsIp(one, nameOf)),
    ),
    forwarding: sorted(
      route.forwardingDatabase().map(({ mac, interface: index, master }) =>
        plain({
          mac,
          interface: nameOf(index),
          master: master === undefined ? undefined : nameOf(master),
        }),
      ),
    ),
  };
}

/** Lifetimes run down and neighbours grow stale: what is compared was read while all that stood still. */
function expectSame(namespace: NetworkNamespace): void {
  for (let attempt = 0; ; attempt++) {
    const before = told(namespace);
    const ours = read(namespace);
    if (attempt < 10 && JSON.stringify(before) !== JSON.stringify(told(namespace))) continue;
    expect(ours).toEqual(before);
    return;
  }
}

/** `ip neigh` leaves out entries that need no resolution. */
function isTold(neighbour: { readonly state: string }): boolean {
  return neighbour.state !== "noarp" && neighbour.state !== "none";
}

const MADE_BY_IP = `
link add br0 address 02:00:00:00:00:01 type bridge stp_state 0 priority 4096 ageing_time 20000
link add v0 address 02:00:00:00:00:02 mtu 1400 type veth peer name v1 address 02:00:00:00:00:03
link set v0 master br0
link set v0 type bridge_slave hairpin on isolated on learning off cost 7
link set br0 up
link set v0 up
link set v1 up alias uplink
link property add dev v1 altname the-other-end-of-the-veth
link add vx0 address 02:00:00:00:00:04 type vxlan id 42 local 192.0.2.1 remote 192.0.2.2 dstport 4789 dev v1 nolearning
link add mv0 link v1 address 02:00:00:00:00:05 type macvlan mode private
link set mv0 addrgenmode none
addr add 10.0.0.254/24 brd + dev br0
addr add 10.0.0.253/24 brd + dev br0 metric 5 valid_lft 3000 preferred_lft 2000
addr add 10.7.0.1 peer 10.7.0.2/32 dev v1
addr add 169.254.7.7/16 dev v1 scope link noprefixroute
addr add fd00::fe/64 dev br0 nodad
addr add 2001:db8:1::1/64 dev v1 nodad
route add 192.0.2.0/24 via 10.0.0.5 mtu 1400 advmss 1300 initcwnd 20 quickack 1
route add 198.51.100.0/24 nexthop via 10.0.0.5 weight 2 nexthop via 10.0.0.6
route add 198.51.100.128/25 dev v1 scope link src 10.0.0.254 metric 12 proto static
route add blackhole 203.0.113.0/25 table 100
route add unreachable 203.0.113.128/26 table 100
route add prohibit 203.0.113.192/26 table 1000
route add default via 10.99.0.1 dev br0 onlink
route add 192.0.2.128/25 via inet6 fd00::5 dev br0
-6 route add 2001:db8::/32 via fd00::5 metric 77 mtu 1380
-6 route add 2001:db8:8::/48 nexthop via fd00::5 weight 3 nexthop via fd00::6
-6 route add unreachable 2001:db8:9::/48 table 200
-6 route add default via fd00::1 dev br0 pref high
rule add from 10.0.0.0/24 fwmark 0x1/0xff table 100 pref 1000
rule add not to 192.0.2.1 iif br0 oif v1 lookup main suppress_prefixlength 0 pref 1001
rule add iif nowhere prohibit pref 1002
rule add uidrange 0-0 ipproto tcp sport 1000-2000 dport 443 table 1000 pref 1003
rule add pref 1004 goto 32766
-6 rule add from fd00::/64 table 200 pref 900
-6 rule add to 2001:db8::/32 blackhole pref 901
neigh add 10.0.0.77 lladdr 02:00:00:00:00:77 dev br0
neigh add fd00::77 lladdr 02:00:00:00:00:78 dev br0 nud stale
`;

/** An ordinary user may not open /dev/net/tun. */
const TAP = isRealRoot
  ? ["tuntap add tap0 mode tap", "link set tap0 address 02:00:00:00:00:06 promisc on txqueuelen 77"]
  : [];

test("what ip made, we read as ip reads it", async () => {
  const namespace = freshNamespace();
  const other = freshNamespace();
  for (const line of [...MADE_BY_IP.trim().split("\n"), ...TAP]) ask(namespace, ["ip", ...line.split(" ")]);
  ask(namespace, ["ip", "link", "add", "far", "type", "veth", "peer", "name", "eth0", "netns", other.name!]);
  await settled(namespace);
  expectSame(namespace);
  expectSame(other);
});

/** The same objects, made by us in one namespace and by ip in another. */
async function expectAlike(ours: (route: Rtnetlink) => void, theirs: string): Promise<void> {
  const [mine, its] = [freshNamespace(), freshNamespace()];
  using route = Rtnetlink.open(mine);
  ours(route);
  for (const line of theirs.trim().split("\n")) ask(its, ["ip", ...line.trim().split(" ")]);
  await settled(mine);
  await settled(its);
  expect(told(mine)).toEqual(told(its));
  expectSame(mine);
}

test("links: veth, bridge and its ports, macvlan, vxlan, and what is set on them", () =>
  expectAlike(
    (route) => {
      route.createBridge({ name: "br0", mac: "02:00:00:00:00:01", up: true, mtu: 1400 });
      const br0 = route.link("br0")!.index;
      route.createVeth({
        name: "v0",
        mac: "02:00:00:00:00:02",
        mtu: 1400,
        master: br0,
        peer: { name: "v1", mac: "02:00:00:00:00:03", mtu: 1400 },
      });
      route.setLink("v0", { up: true });
      route.setBridgePort("v0", {
        hairpin: true,
        isolated: true,
        learning: false,
        flood: false,
        multicastFlood: false,
        broadcastFlood: false,
        cost: 9,
        priority: 5,
      });
      const v1 = route.link("v1")!.index;
      route.setLink(v1, { name: "v9", mac: "02:00:00:00:00:09", mtu: 1300, alias: "nine", queueLength: 50 });
      route.setLink("v9", { up: true, promiscuous: true, allMulticast: true, ipv6AddressGeneration: "none" });
      route.createMacvlan({ name: "mv0", lower: v1, mode: "vepa", mac: "02:00:00:00:00:05" });
      route.createVxlan({
        name: "vx0",
        id: 7,
        local: "192.0.2.1",
        remote: "192.0.2.2",
        lower: v1,
        learning: false,
      });
      route.setLink("vx0", { mac: "02:00:00:00:00:04" });
      route.createVeth({ name: "gone", peer: { name: "gone-too" } });
      expect(route.deleteLink("gone")).toBe(true);
      expect(route.deleteLink("gone")).toBe(false);
    },
    `
    link add br0 address 02:00:00:00:00:01 mtu 1400 type bridge
    link set br0 up
    link add v0 address 02:00:00:00:00:02 mtu 1400 type veth peer name v1 address 02:00:00:00:00:03 mtu 1400
    link set v0 master br0
    link set v0 up
    link set v0 type bridge_slave hairpin on isolated on learning off flood off mcast_flood off bcast_flood off cost 9 priority 5
    link set v1 name v9 address 02:00:00:00:00:09 mtu 1300 alias nine txqueuelen 50
    link set v9 up promisc on allmulticast on addrgenmode none
    link add mv0 link v9 address 02:00:00:00:00:05 type macvlan mode vepa
    link add vx0 type vxlan id 7 local 192.0.2.1 remote 192.0.2.2 dstport 4789 dev v9 nolearning
    link set vx0 address 02:00:00:00:00:04
  `,
  ));

/** Two interfaces that are up, in both namespaces the same. */
function vethPair(route: Rtnetlink): number {
  route.createVeth({
    name: "v0",
    mac: "02:00:00:00:00:01",
    peer: { name: "v1", mac: "02:00:00:00:00:02" },
  });
  route.setLink("v1", { up: true });
  route.setLink("v0", { up: true });
  return route.link("v0")!.index;
}
const VETH_PAIR = `
    link add v0 address 02:00:00:00:00:01 type veth peer name v1 address 02:00:00:00:00:02
    link set v1 up
    link set v0 up`;

test("addresses: broadcast, peer, scope, label, lifetimes, metric, nodad, noprefixroute", () =>
  expectAlike(
    (route) => {
      const v0 = vethPair(route);
      route.addAddress({ interface: v0, address: "10.0.0.1", prefixLength: 24 });
      route.addAddress({ interface: v0, address: "10.0.1.1", prefixLength: 24, broadcast: null, metric: 44 });
      route.addAddress({ interface: v0, address: "10.0.2.1", prefixLength: 32, peer: "10.0.2.2" });
      route.addAddress({
        interface: v0,
        address: "10.0.3.1",
        prefixLength: 31,
        label: "v0:x",
        scope: "link",
      });
      route.addAddress({ interface: v0, address: "10.0.4.1", prefixLength: 24, noPrefixRoute: true });
      route.addAddress({ interface: v0, address: "fd00::1", prefixLength: 64, nodad: true });
      route.addAddress({
        interface: v0,
        address: "fd01::1",
        prefixLength: 128,
        nodad: true,
        noPrefixRoute: true,
      });
      route.addAddress({ interface: v0, address: "10.9.9.9", prefixLength: 24 });
      expect(route.deleteAddress({ interface: v0, address: "10.9.9.9", prefixLength: 24 })).toBe(true);
      expect(route.deleteAddress({ interface: v0, address: "10.9.9.9", prefixLength: 24 })).toBe(false);
    },
    `${VETH_PAIR}
    addr add 10.0.0.1/24 brd + dev v0
    addr add 10.0.1.1/24 dev v0 metric 44
    addr add 10.0.2.1 peer 10.0.2.2/32 dev v0
    addr add 10.0.3.1/31 dev v0 label v0:x scope link
    addr add 10.0.4.1/24 brd + dev v0 noprefixroute
    addr add fd00::1/64 dev v0 nodad
    addr add fd01::1/128 dev v0 nodad noprefixroute
  `,
  ));

test("routes: every type, gateway of either family, multipath, metrics, tables, onlink, replace", () =>
  expectAlike(
    (route) => {
      const v0 = vethPair(route);
      route.addAddress({ interface: v0, address: "10.0.0.1", prefixLength: 24 });
      route.addAddress({ interface: v0, address: "fd00::1", prefixLength: 64, nodad: true });
      route.addRoute({ destination: "0.0.0.0/0", gateway: "10.0.0.254" });
      route.addRoute({ destination: "192.0.2.0/24", interface: v0, preferredSource: "10.0.0.1", metric: 9 });
      route.addRoute({
        destination: "192.0.2.0/25",
        gateway: "10.0.0.5",
        protocol: "static",
        metrics: { mtu: 1400, advmss: 1360, initialCongestionWindow: 20, locked: ["mtu"] },
      });
      route.addRoute({
        destination: "198.51.100.0/24",
        nextHops: [
          { gateway: "10.0.0.5", weight: 3 },
          { gateway: "10.0.0.6" },
          { gateway: "fd00::6", interface: v0 },
        ],
      });
      for (const type of ["blackhole", "unreachable", "prohibit", "throw"] as const) {
        route.addRoute({
          destination: "203.0.113.0/24",
          type,
          table: { blackhole: 100, unreachable: 200, prohibit: 300, throw: 4000 }[type],
        });
        route.addRoute({
          destination: "2001:db8::/32",
          type,
          table: { blackhole: 100, unreachable: 200, prohibit: 300, throw: 4000 }[type],
        });
      }
      route.addRoute({ destination: "192.0.2.128/25", gateway: "10.99.0.1", interface: v0, onlink: true });
      route.addRoute({ destination: "192.0.2.64/26", gateway: "fd00::7", interface: v0 });
      route.addRoute({ destination: "::/0", gateway: "fd00::fe" });
      route.addRoute({ destination: "2001:db8:1::/48", gateway: "fd00::5", metric: 5 });
      route.replaceRoute({ destination: "2001:db8:1::/48", gateway: "fd00::6", metric: 5 });
      route.addRoute({
        destination: "2001:db8:2::/48",
        nextHops: [
          { gateway: "fd00::5", interface: v0 },
          { gateway: "fd00::6", interface: v0, weight: 2 },
        ],
      });
      route.addRoute({ destination: "2001:db8:3::/48", interface: v0 });
      route.replaceRoute({ destination: "0.0.0.0/0", gateway: "10.0.0.253" });
      expect(route.deleteRoute({ destination: "2001:db8:3::/48" })).toBe(true);
      expect(route.deleteRoute({ destination: "2001:db8:3::/48" })).toBe(false);
      expect(route.deleteRoute({ destination: "10.88.0.0/16" })).toBe(false);
    },
    `${VETH_PAIR}
    addr add 10.0.0.1/24 brd + dev v0
    addr add fd00::1/64 dev v0 nodad
    route add default via 10.0.0.253
    route add 192.0.2.0/24 dev v0 src 10.0.0.1 metric 9
    route add 192.0.2.0/25 via 10.0.0.5 proto static mtu lock 1400 advmss 1360 initcwnd 20
    route add 198.51.100.0/24 nexthop via 10.0.0.5 weight 3 nexthop via 10.0.0.6 nexthop via inet6 fd00::6 dev v0
    route add blackhole 203.0.113.0/24 table 100
    -6 route add blackhole 2001:db8::/32 table 100
    route add unreachable 203.0.113.0/24 table 200
    -6 route add unreachable 2001:db8::/32 table 200
    route add prohibit 203.0.113.0/24 table 300
    -6 route add prohibit 2001:db8::/32 table 300
    route add throw 203.0.113.0/24 table 4000
    -6 route add throw 2001:db8::/32 table 4000
    route add 192.0.2.128/25 via 10.99.0.1 dev v0 onlink
    route add 192.0.2.64/26 via inet6 fd00::7 dev v0
    -6 route add default via fd00::fe
    -6 route add 2001:db8:1::/48 via fd00::6 metric 5
    -6 route add 2001:db8:2::/48 nexthop via fd00::5 dev v0 nexthop via fd00::6 dev v0 weight 2
  `,
  ));

test("rules: marks, prefixes, interfaces, ports, actions", () =>
  expectAlike(
    (route) => {
      route.addRule({ family: 4, priority: 1000, source: "10.0.0.0/24", mark: 1, mask: 0xff, table: 100 });
      route.addRule({
        family: 4,
        priority: 1001,
        destination: "192.0.2.1/32",
        inputInterface: "lo",
        invert: true,
        table: 254,
        suppressPrefixLength: 0,
      });
      route.addRule({ family: 4, priority: 1002, outputInterface: "nowhere", action: "prohibit" });
      route.addRule({
        family: 4,
        priority: 1003,
        uids: { first: 0, last: 0 },
        ipProtocol: 6,
        destinationPorts: { first: 443, last: 443 },
        sourcePorts: { first: 1000, last: 2000 },
        table: 1000,
      });
      route.addRule({ family: 4, priority: 1004, action: "goto", goto: 32766 });
      route.addRule({ family: 6, priority: 900, source: "fd00::/64", mark: 7, table: 200 });
      route.addRule({ family: 6, priority: 901, destination: "2001:db8::/32", action: "blackhole" });
      route.addRule({ family: 6, priority: 902, table: 5 });
      expect(route.deleteRule({ family: 6, priority: 902 })).toBe(true);
      expect(route.deleteRule({ family: 6, priority: 902 })).toBe(false);
    },
    `
    rule add from 10.0.0.0/24 fwmark 0x1/0xff table 100 pref 1000 protocol boot
    rule add not to 192.0.2.1 iif lo lookup main suppress_prefixlength 0 pref 1001 protocol boot
    rule add oif nowhere prohibit pref 1002 protocol boot
    rule add uidrange 0-0 ipproto tcp sport 1000-2000 dport 443 table 1000 pref 1003 protocol boot
    rule add pref 1004 goto 32766 protocol boot
    -6 rule add from fd00::/64 fwmark 7 table 200 pref 900 protocol boot
    -6 rule add to 2001:db8::/32 blackhole pref 901 protocol boot
  `,
  ));

test("neighbours: permanent, stale, proxy; flushing leaves what is permanent", () =>
  expectAlike(
    (route) => {
      const v0 = vethPair(route);
      route.setNeighbour({ interface: v0, address: "10.0.0.77", mac: "02:00:00:00:00:77" });
      route.setNeighbour({ interface: v0, address: "fd00::77", mac: "02:00:00:00:00:78" });
      route.setNeighbour({ interface: v0, address: "10.0.0.78", mac: "02:00:00:00:00:79", state: "stale" });
      route.setNeighbour({ interface: v0, address: "10.0.0.5", proxy: true });
      expect(route.neighbours({ proxies: true }).map(({ address }) => address)).toEqual(["10.0.0.5"]);
      expect(route.flushNeighbours(v0, 4)).toBe(1);
      expect(route.deleteNeighbour({ interface: v0, address: "fd00::77" })).toBe(true);
      expect(route.deleteNeighbour({ interface: v0, address: "fd00::78" })).toBe(false);
    },
    `${VETH_PAIR}
    neigh add 10.0.0.77 lladdr 02:00:00:00:00:77 dev v0
  `,
  ));

test("the way of a packet: as ip route get says, refusals included", () => {
  const namespace = freshNamespace();
  using route = Rtnetlink.open(namespace);
  const v0 = vethPair(route);
  const v1 = route.link("v1")!.index;
  route.addAddress({ interface: v0, address: "10.0.0.1", prefixLength: 24 });
  route.addAddress({ interface: v1, address: "10.1.0.1", prefixLength: 24 });
  route.addAddress({ interface: v0, address: "fd00::1", prefixLength: 64, nodad: true });
  route.addRoute({ destination: "192.0.2.0/24", gateway: "10.0.0.5" });
  route.addRoute({ destination: "192.0.2.0/24", gateway: "10.1.0.5", table: 100 });
  route.addRoute({ destination: "203.0.113.0/24", type: "prohibit" });
  route.addRoute({ destination: "203.0.112.0/24", type: "blackhole" });
  route.addRoute({ destination: "198.51.100.0/24", type: "unreachable" });
  route.addRoute({ destination: "2001:db8::/32", gateway: "fd00::5" });
  route.addRoute({ destination: "2001:db8:1::/48", type: "prohibit" });
  route.addRule({ family: 4, priority: 100, mark: 7, table: 100 });
  const nameOf = namesOfLinks(route.links());
  const same = (query: Parameters<Rtnetlink["routeTo"]>[0], words: readonly string[]): void => {
    const answer = route.routeTo(query);
    const [told] = askJson<Json[]>(namespace, [
      "ip",
      "-j",
      "-d",
      "route",
      "get",
      query.destination,
      ...words,
    ]);
    expect(answer.reachable).toBe(true);
    if (!answer.reachable) return;
    const fields = ["dst", "gateway", "dev", "table", "prefsrc"];
    expect(pick(routeAsIp(answer.route, nameOf), fields)).toEqual(pick(told!, fields));
  };
  same({ destination: "192.0.2.9" }, []);
  same({ destination: "192.0.2.9", mark: 7 }, ["mark", "7"]);
  same({ destination: "192.0.2.9", fibMatch: true }, ["fibmatch"]);
  same({ destination: "10.0.0.1" }, []);
  same({ destination: "2001:db8::1" }, []);
  same({ destination: "2001:db8::1", fibMatch: true }, ["fibmatch"]);
  same({ destination: "192.0.2.9", ipProtocol: 6, destinationPort: 443 }, ["ipproto", "tcp", "dport", "443"]);
  const refused = (query: Parameters<Rtnetlink["routeTo"]>[0]): string => {
    const answer = route.routeTo(query);
    return answer.reachable ? "reachable" : answer.code;
  };
  expect(refused({ destination: "203.0.113.1" })).toBe("EACCES");
  expect(refused({ destination: "203.0.112.1" })).toBe("EINVAL");
  expect(refused({ destination: "198.51.100.1" })).toBe("EHOSTUNREACH");
  expect(refused({ destination: "8.8.8.8" })).toBe("ENETUNREACH");
  expect(refused({ destination: "2001:db9::1" })).toBe("ENETUNREACH");
  expect(refused({ destination: "2001:db8:1::1" })).toBe("EACCES");
  // As a packet that came in: forwarding is off, then on, then refused by the strict reverse path filter.
  const forwarded = { destination: "192.0.2.9", source: "10.1.0.9", inputInterface: v1 };
  expect(refused(forwarded)).toBe("EHOSTUNREACH");
  ask(namespace, ["sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"]);
  expect(refused(forwarded)).toBe("reachable");
  ask(namespace, ["sh", "-c", "echo 1 > /proc/sys/net/ipv4/conf/v1/rp_filter"]);
  expect(refused(forwarded)).toBe("reachable");
  expect(["EINVAL", "EXDEV"]).toContain(refused({ ...forwarded, source: "10.0.0.9" }));
});

test("interface settings come with the link, and IPv4's can be set with it", () => {
  const namespace = freshNamespace();
  using route = Rtnetlink.open(namespace);
  vethPair(route);
  ask(namespace, [
    "sh",
    "-c",
    "echo 2 > /proc/sys/net/ipv4/conf/v0/rp_filter; echo 0 > /proc/sys/net/ipv6/conf/v0/accept_ra",
  ]);
  route.setLink("v0", { ipv4: { arp_notify: 1, proxy_arp: 1 } });
  const { ipv4, ipv6 } = route.link("v0")!;
  expect(ipv4).toMatchObject({ rp_filter: 2, arp_notify: 1, proxy_arp: 1, forwarding: 0 });
  expect(ipv6).toMatchObject({ accept_ra: 0, accept_dad: 1, disable_ipv6: 0 });
  for (const [name, value] of Object.entries(ipv4!)) {
    // The tags of igmp are unsigned there and signed here; all others are the same number.
    const file = run(namespace, ["cat", `/proc/sys/net/ipv4/conf/v0/${name}`]);
    if (file.exitCode === 0) expect(`${name} ${value}`).toBe(`${name} ${file.stdout.trim()}`);
  }
  for (const [name, value] of Object.entries(ipv6!)) {
    const file = run(namespace, ["cat", `/proc/sys/net/ipv6/conf/v0/${name}`]);
    if (file.exitCode === 0) expect(`${name} ${value}`).toBe(`${name} ${file.stdout.trim()}`);
  }
});

test("numbers of namespaces are those of link-netnsid", () => {
  const [here, there] = [freshNamespace(), freshNamespace()];
  using route = Rtnetlink.open(here);
  expect(route.namespaceId(there.fd)).toBeUndefined();
  route.createVeth({ name: "v0", peer: { name: "eth0", namespaceFd: there.fd } });
  const id = route.namespaceId(there.fd);
  expect(id).toBeNumber();
  expect(route.link("v0")!.linkNamespaceId).toBe(id);
  expect(Rtnetlink.open(there).link("eth0")!.link).toBe(route.link("v0")!.index);
});
