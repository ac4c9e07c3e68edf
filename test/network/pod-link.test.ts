/** A pod's link, with real packets on it. */
import { expect } from "bun:test";
import { WayoutError } from "../../src/error.ts";
import type { NetworkNamespace } from "../../src/kernel/namespace.ts";
import { Rtnetlink } from "../../src/kernel/route/rtnetlink.ts";
import { readSysctl, writeSysctl } from "../../src/kernel/sysctl.ts";
import { connectPod, disconnectPod, ensureBridge, type PodLinkIntent } from "../../src/network/network.ts";
import { until } from "../support/until.ts";
import { ask, askJson, run, testWith } from "../support/witness.ts";
import { freshNamespace } from "../support/world.ts";
import { hostVethName } from "../../src/naming/names.ts";

const test = testWith(["root", "ip", "bridge", "ping"]);

function failureOf(action: () => unknown): WayoutError {
  try {
    action();
  } catch (error) {
    if (error instanceof WayoutError) return error;
    throw error;
  }
  throw new Error("it did not fail");
}

function intentOf(number: number, bridge: number): PodLinkIntent {
  return {
    network: "net",
    container: `pod-${number}`,
    interfaceName: "eth0",
    bridge,
    addresses: [`10.0.0.${number}/24`, `fd00::${number}/64`],
    routes: [
      { destination: "0.0.0.0/0", gateway: "10.0.0.254" },
      { destination: "::/0", gateway: "fd00::fe", mtu: 1300 },
    ],
  };
}

function reaches(from: NetworkNamespace, address: string): boolean {
  return run(from, ["ping", "-c", "1", "-W", "3", address]).exitCode === 0;
}

/** The bridge's port begins to forward a moment after both ends are up. */
async function expectReach(from: NetworkNamespace, address: string): Promise<void> {
  await until(() => reaches(from, address), `${from.name} reaches ${address}`);
}

interface LinkedPod extends Disposable {
  readonly node: NetworkNamespace;
  readonly route: Rtnetlink;
  readonly bridge: number;
}

function world(): LinkedPod {
  const node = freshNamespace();
  const route = Rtnetlink.open(node);
  const bridge = ensureBridge(route, { name: "br0", gateways: ["10.0.0.254/24", "fd00::fe/64"] }).link.index;
  return { node, route, bridge, [Symbol.dispose]: () => route.close() };
}

test("pods reach each other and their gateway at once, in both families", async () => {
  using here = world();
  const [blue, green] = [freshNamespace(), freshNamespace()];
  for (const [index, pod] of [blue, green].entries())
    connectPod(here.route, pod, intentOf(index + 1, here.bridge));
  for (const address of ["10.0.0.254", "fd00::fe", "10.0.0.2", "fd00::2"]) await expectReach(blue, address);
  const routes = ask(blue, ["ip", "route"]) + ask(blue, ["ip", "-6", "route"]);
  expect(routes).toContain("default via 10.0.0.254 dev eth0");
  expect(routes).toContain("default via fd00::fe dev eth0 metric 1024 mtu 1300");
  expect(ask(blue, ["ip", "-6", "addr", "show", "eth0"])).not.toContain("tentative");
  expect(readSysctl(blue, "net.ipv6.conf.eth0.accept_dad")).toBe("0");
});

test("the veth is as asked for: names, MAC, MTU, port settings; the name is the same every time", () => {
  using here = world();
  const pod = freshNamespace();
  const intent = {
    ...intentOf(1, here.bridge),
    mac: "02:00:00:00:00:07",
    mtu: 1400,
    hairpin: true,
    isolated: true,
  };
  const { host, pod: end, created } = connectPod(here.route, pod, intent);
  expect(created).toBe(true);
  expect(host.name).toBe(hostVethName("net", "pod-1", "eth0"));
  expect({ name: end.name, mac: end.mac, mtu: end.mtu }).toEqual({
    name: "eth0",
    mac: intent.mac,
    mtu: 1400,
  });
  const [port] = askJson<Record<string, unknown>[]>(here.node, ["bridge", "-j", "-d", "link"]);
  expect(port).toMatchObject({ ifname: host.name, master: "br0", mtu: 1400, hairpin: true, isolated: true });
});

test("names of hosts' ends fit, differ, and are safe to type", () => {
  const names = new Set<string>();
  for (let i = 0; i < 2000; i++) {
    const name = hostVethName("a-long-network-name", `container-${i >> 1}`, i % 2 === 0 ? "eth0" : "eth1");
    expect(name).toMatch(/^wout[a-z2-7]{11}$/);
    names.add(name);
  }
  expect(names.size).toBe(2000);
  expect(hostVethName("a", "bc", "d")).not.toBe(hostVethName("ab", "c", "d"));
});

test("a second call is refused and changes nothing; told to adopt, it completes what is missing", async () => {
  using here = world();
  const pod = freshNamespace();
  const intent = intentOf(1, here.bridge);
  const { host } = connectPod(here.route, pod, intent);
  const failure = failureOf(() => connectPod(here.route, pod, intent));
  expect(failure).toMatchObject({ code: "interface-exists" });
  await expectReach(pod, "10.0.0.254");
  ask(pod, ["ip", "addr", "del", "10.0.0.1/24", "dev", "eth0"]);
  ask(pod, ["ip", "link", "set", "eth0", "down"]);
  ask(here.node, ["ip", "link", "set", host.name, "nomaster"]);
  expect(connectPod(here.route, pod, { ...intent, adopt: true })).toMatchObject({ created: false });
  await expectReach(pod, "10.0.0.254");
  await expectReach(pod, "fd00::fe");
  expect(ask(pod, ["ip", "route"])).toContain("default via 10.0.0.254");
});

test("an interface of that name in the pod, or on the node, is never touched", () => {
  using here = world();
  const pod = freshNamespace();
  ask(pod, ["ip", "link", "add", "eth0", "type", "veth", "peer", "name", "other"]);
  const inside = ask(pod, ["ip", "-d", "link"]);
  const failure = failureOf(() => connectPod(here.route, pod, intentOf(1, here.bridge)));
  expect(failure).toMatchObject({ code: "interface-exists", details: { interface: "eth0" } });
  expect(
    failureOf(() => connectPod(here.route, pod, { ...intentOf(1, here.bridge), adopt: true })).code,
  ).toBe("interface-exists");
  expect(ask(pod, ["ip", "-d", "link"])).toBe(inside);
  ask(here.node, ["ip", "link", "add", "taken", "type", "veth", "peer", "name", "other"]);
  const outside = ask(here.node, ["ip", "-d", "link", "show", "taken"]);
  const empty = freshNamespace();
  for (const adopt of [false, true]) {
    const intent = { ...intentOf(1, here.bridge), hostName: "taken", alias: "ours", adopt };
    expect(failureOf(() => connectPod(here.route, empty, intent)).code).toMatch(
      /^interface-(exists|missing)$/,
    );
  }
  expect(ask(here.node, ["ip", "-d", "link", "show", "taken"])).toBe(outside);
});

test("the node's own namespace is no pod's, and its interfaces are not taken away as one's", () => {
  using here = world();
  ask(here.node, ["ip", "link", "add", "eth0", "type", "veth", "peer", "name", "other"]);
  const intent = { ...intentOf(1, here.bridge), interfaceName: "eth1" };
  expect(failureOf(() => connectPod(here.route, here.node, intent)).code).toBe("own-namespace");
  expect(disconnectPod(here.route, here.node, intentOf(1, here.bridge))).toBe(false);
  ask(here.node, ["ip", "link", "show", "eth0"]);
  // Also where the node is simply where this process lives.
  here.node.run(() => {
    using route = Rtnetlink.open();
    expect(failureOf(() => connectPod(route, here.node, intent)).code).toBe("own-namespace");
    expect(disconnectPod(route, here.node, intentOf(1, here.bridge))).toBe(false);
  });
});

test("wrong input is refused with its reason, and nothing is left", () => {
  using here = world();
  const pod = freshNamespace();
  const before = ask(here.node, ["ip", "link"]);
  const attempt = (change: Partial<PodLinkIntent>): string =>
    failureOf(() => connectPod(here.route, pod, { ...intentOf(1, here.bridge), ...change })).code;
  expect(attempt({ interfaceName: "a-name-too-long-for-linux" })).toBe("bad-interface-name");
  expect(attempt({ addresses: ["10.0.0.1/33"] })).toBe("bad-address");
  expect(attempt({ routes: [{ destination: "10.0.0.1/24" }] })).toBe("bad-address");
  expect(attempt({ bridge: 4711 })).toBe("interface-missing");
  expect(attempt({ routes: [{ destination: "0.0.0.0/0", gateway: "192.0.2.1" }] })).toBe(
    "gateway-unreachable",
  );
  expect(attempt({ mtu: 5 })).toBe("network-failed");
  expect(ask(here.node, ["ip", "link"])).toBe(before);
  expect(run(pod, ["ip", "link", "show", "eth0"]).exitCode).not.toBe(0);
});

test("disconnecting takes both ends, is repeatable, and works without the namespace", () => {
  using here = world();
  const [blue, green] = [freshNamespace(), freshNamespace()];
  connectPod(here.route, blue, intentOf(1, here.bridge));
  connectPod(here.route, green, intentOf(2, here.bridge));
  expect(disconnectPod(here.route, blue, intentOf(1, here.bridge))).toBe(true);
  expect(disconnectPod(here.route, blue, intentOf(1, here.bridge))).toBe(false);
  expect(run(blue, ["ip", "link", "show", "eth0"]).exitCode).not.toBe(0);
  expect(disconnectPod(here.route, undefined, intentOf(2, here.bridge))).toBe(true);
  expect(here.route.links().map(({ name }) => name)).toEqual(["lo", "br0"]);
});

test("disconnecting finds a veth that another plugin named, and leaves what is no veth", () => {
  using here = world();
  const pod = freshNamespace();
  ask(here.node, [
    "ip",
    "link",
    "add",
    "vethabcd",
    "type",
    "veth",
    "peer",
    "name",
    "eth0",
    "netns",
    pod.name!,
  ]);
  expect(disconnectPod(here.route, pod, intentOf(1, here.bridge))).toBe(true);
  expect(here.route.link("vethabcd")).toBeUndefined();
  ask(pod, ["ip", "link", "add", "eth0", "type", "bridge"]);
  expect(disconnectPod(here.route, pod, intentOf(1, here.bridge))).toBe(false);
  ask(pod, ["ip", "link", "show", "eth0"]);
});

test("the pod tells its neighbours: an old MAC under its address is replaced at once", async () => {
  using here = world();
  const [blue, green] = [freshNamespace(), freshNamespace()];
  connectPod(here.route, blue, intentOf(1, here.bridge));
  await expectReach(blue, "10.0.0.254");
  using blueRoute = Rtnetlink.open(blue);
  const index = blueRoute.link("eth0")!.index;
  for (const [route, interfaceIndex] of [
    [here.route, here.bridge],
    [blueRoute, index],
  ] as const) {
    for (const address of ["10.0.0.2", "fd00::2"]) {
      route.setNeighbour({
        interface: interfaceIndex,
        address,
        mac: "02:00:00:00:00:99",
        state: "reachable",
      });
    }
  }
  const { pod } = connectPod(here.route, green, intentOf(2, here.bridge));
  // "At once" beside the minutes that an entry lives for.
  await until(() => {
    const macs = blueRoute
      .neighbours({ interface: index })
      .filter(({ address }) => address === "10.0.0.2" || address === "fd00::2")
      .map(({ mac }) => mac);
    return macs.length === 2 && macs.every((mac) => mac === pod.mac);
  }, "both are replaced");
  // The node forgot it outright.
  const stale = here.route
    .neighbours({ interface: here.bridge })
    .filter(({ mac }) => mac === "02:00:00:00:00:99");
  expect(stale).toEqual([]);
});

test("duplicate address detection, when asked for, finds the other owner", async () => {
  using here = world();
  const [blue, green] = [freshNamespace(), freshNamespace()];
  connectPod(here.route, blue, intentOf(1, here.bridge));
  await expectReach(blue, "fd00::fe");
  const same = { ...intentOf(2, here.bridge), addresses: ["fd00::1/64"], routes: [] };
  const failure = failureOf(() =>
    connectPod(here.route, green, { ...same, duplicateAddressDetection: true }),
  );
  expect(failure).toMatchObject({ code: "address-in-use", details: { address: "fd00::1" } });
  expect(run(green, ["ip", "link", "show", "eth0"]).exitCode).not.toBe(0);
  const free = { ...same, addresses: ["fd00::2/64"], duplicateAddressDetection: true };
  connectPod(here.route, green, free);
  expect(ask(green, ["ip", "-6", "addr", "show", "eth0"])).not.toContain("tentative");
});

test("without a bridge the pod is routed: host routes on the node, the gateway on the link", async () => {
  const [node, pod] = [freshNamespace(), freshNamespace()];
  using route = Rtnetlink.open(node);
  const { host } = connectPod(route, pod, {
    network: "net",
    container: "pod",
    interfaceName: "eth0",
    addresses: ["10.0.0.1/24", "fd00::1/64"],
    gateways: ["10.0.0.254", "fd00::fe"],
    routes: [
      { destination: "0.0.0.0/0", gateway: "10.0.0.254" },
      { destination: "::/0", gateway: "fd00::fe" },
    ],
  });
  await expectReach(pod, "10.0.0.254");
  await expectReach(pod, "fd00::fe");
  await expectReach(node, "10.0.0.1");
  await expectReach(node, "fd00::1");
  expect(ask(node, ["ip", "route"]).trim()).toBe(`10.0.0.1 dev ${host.name} scope link`);
});

test("a second network's default route comes first, and the first one's comes back", () => {
  using here = world();
  const second = ensureBridge(here.route, { name: "br1", gateways: ["10.1.0.254/24"] }).link.index;
  const pod = freshNamespace();
  connectPod(here.route, pod, intentOf(1, here.bridge));
  const other = {
    ...intentOf(1, second),
    network: "second",
    interfaceName: "eth1",
    addresses: ["10.1.0.1/24"],
    routes: [{ destination: "0.0.0.0/0", gateway: "10.1.0.254" }],
  };
  connectPod(here.route, pod, other);
  expect(ask(pod, ["ip", "route", "get", "192.0.2.1"])).toContain("via 10.1.0.254 dev eth1");
  disconnectPod(here.route, pod, other);
  expect(ask(pod, ["ip", "route", "get", "192.0.2.1"])).toContain("via 10.0.0.254 dev eth0");
});

test("loopback is set up where it is down, and left alone when told so", () => {
  using here = world();
  const pods = [freshNamespace(), freshNamespace()] as const;
  for (const pod of pods) ask(pod, ["ip", "link", "set", "lo", "down"]);
  expect(connectPod(here.route, pods[0], intentOf(1, here.bridge)).raisedLoopback).toBe(true);
  const left = { ...intentOf(2, here.bridge), raiseLoopback: false };
  expect(connectPod(here.route, pods[1], left).raisedLoopback).toBe(false);
  const isUp = (pod: NetworkNamespace): boolean =>
    ask(pod, ["ip", "link", "show", "lo"]).includes("LOWER_UP");
  expect(pods.map(isUp)).toEqual([true, false]);
});

test("a link without addresses is layer 2 only; one that is to stay down stays so", () => {
  using here = world();
  const [plain, down] = [freshNamespace(), freshNamespace()];
  const bare = { ...intentOf(1, here.bridge), addresses: [], routes: [] };
  connectPod(here.route, plain, bare);
  const { host } = connectPod(here.route, down, { ...bare, container: "down", leaveDown: true });
  const linkOf = (pod: NetworkNamespace) => {
    using route = Rtnetlink.open(pod);
    return { up: route.link("eth0")!.up, addresses: route.addresses({ family: 4 }).length };
  };
  // Of IPv4 there is only loopback's own, where loopback was up.
  expect(linkOf(plain)).toEqual({ up: true, addresses: 1 });
  expect(linkOf(down).up).toBe(false);
  expect(host.master).toBe(here.bridge);
});

test("IPv6 that is switched off for new interfaces is switched on for these two, and for no other", async () => {
  const [node, pod] = [freshNamespace(), freshNamespace()];
  for (const namespace of [node, pod]) {
    writeSysctl(namespace, "net.ipv6.conf.default.disable_ipv6", "1");
    ask(namespace, ["ip", "link", "add", "other", "type", "bridge"]);
  }
  using route = Rtnetlink.open(node);
  const bridge = ensureBridge(route, { name: "br0", gateways: ["10.0.0.254/24", "fd00::fe/64"] }).link.index;
  connectPod(route, pod, intentOf(1, bridge));
  await expectReach(pod, "fd00::fe");
  for (const namespace of [node, pod]) {
    expect(readSysctl(namespace, "net.ipv6.conf.other.disable_ipv6")).toBe("1");
    expect(readSysctl(namespace, "net.ipv6.conf.default.disable_ipv6")).toBe("1");
  }
});
