/** What follows from a list of nodes: what is believed, which routes, who is translated. No kernel is asked. */
import { expect, test } from "bun:test";
import { clusterNodeOf, type ClusterNode } from "../../src/kubernetes/cluster-node.ts";
import { trusted, type ClusterView } from "../../src/kubernetes/cluster.ts";
import { DeletionGuard } from "../../src/kubernetes/deletion-guard.ts";
import { podNatIntent } from "../../src/kubernetes/pod-nat.ts";
import { planRoutes, routeWishes, type Way } from "../../src/kubernetes/route-plan.ts";
import type { NatIntent } from "../../src/nat/intent.ts";
import type { Route } from "../../src/linux/route/route.ts";
import { nodeObject } from "./api-server.ts";

function node(
  name: string,
  podCidrs: readonly string[],
  addresses: readonly string[],
  created = "",
): ClusterNode {
  return { ...clusterNodeOf(nodeObject(name, podCidrs, addresses))!.value, created };
}

const OWN = node("own", ["10.244.1.0/24", "fd00:1::/64"], ["192.0.2.1", "2001:db8::1"]);
const DIRECT = (): Way => ({ interface: 2 });

function wishesOf(peers: readonly ClusterNode[], wayTo: (address: string) => Way = DIRECT) {
  return routeWishes({ own: OWN, peers }, new Set(["192.0.2.1", "2001:db8::1", "127.0.0.1"]), wayTo);
}

function texts(peers: readonly ClusterNode[], wayTo?: (address: string) => Way): string[] {
  return wishesOf(peers, wayTo).problems.map(({ node: name, text }) => `${name}: ${text}`);
}

test("a Node is read as the API has it, and what cannot be used is named", () => {
  expect(clusterNodeOf({ metadata: {} })).toBeUndefined();
  expect(clusterNodeOf(null)).toBeUndefined();
  const old = { metadata: { name: "old" }, spec: { podCIDR: "10.1.0.0/24" } };
  expect(clusterNodeOf(old)?.value.podCidrs).toEqual(["10.1.0.0/24"]);
  const odd = clusterNodeOf({
    metadata: { name: "odd" },
    spec: { podCIDRs: ["", "0.0.0.0/0", "10.1.0.1/24", "x", "FD00::/64"] },
    status: {
      addresses: [
        { type: "InternalIP", address: "nowhere" },
        { type: "ExternalIP", address: "192.0.2.9" },
      ],
    },
  })!.value;
  expect(odd.podCidrs).toEqual(["fd00::/64"]);
  expect(odd.addresses).toEqual([]);
  expect(odd.problems).toHaveLength(4);
});

test("a list without this node is not followed, nor one that takes its podCIDR away", () => {
  const list = (...nodes: readonly ClusterNode[]) => new Map(nodes.map((one) => [one.name, one]));
  const peer = node("peer", ["10.244.2.0/24"], ["192.0.2.2"]);
  const first = trusted(list(OWN, peer), "own", undefined);
  expect(first).toEqual({ view: { own: OWN, peers: [peer] }, doubt: undefined });
  for (const wrong of [list(), list(peer)]) {
    const { view, doubt } = trusted(wrong, "own", first.view);
    expect(view).toBe(first.view);
    expect(doubt).toContain("lacks this one, own");
  }
  const { view, doubt } = trusted(list({ ...OWN, podCidrs: [] }), "own", first.view);
  expect([view?.own.podCidrs, view?.peers]).toEqual([OWN.podCidrs, []]);
  expect(doubt).toContain("10.244.1.0/24 and fd00:1::/64 is kept");
  // One that never had any has none.
  expect(trusted(list({ ...OWN, podCidrs: [] }), "own", undefined).doubt).toBeUndefined();
});

test("each node's pods are reached through its address of their family; the own prefix ends here", () => {
  const { wishes, problems } = wishesOf([
    node("b", ["fd00:2::/64", "10.244.2.0/24"], ["192.0.2.2", "2001:db8::2"]),
  ]);
  expect(problems).toEqual([]);
  expect(wishes.map(({ destination, type, gateway }) => [destination, type, gateway])).toEqual([
    ["10.244.1.0/24", "blackhole", undefined],
    ["fd00:1::/64", "blackhole", undefined],
    ["fd00:2::/64", "unicast", "2001:db8::2"],
    ["10.244.2.0/24", "unicast", "192.0.2.2"],
  ]);
});

test("a node that cannot be routed is named, with the reason", () => {
  const behind = (): Way => ({ lacking: "is behind the router 192.0.2.254, and not on a link of this node" });
  expect(texts([node("far", ["10.244.9.0/24"], ["198.51.100.7"])], behind)).toEqual([
    "far: its pods 10.244.9.0/24 are not reached: its address 198.51.100.7 is behind the router 192.0.2.254, and not on a link of this node",
  ]);
  expect(texts([node("v4", ["fd00:2::/64"], ["192.0.2.2"])])).toEqual([
    "v4: its pods fd00:2::/64 are not reached: it has no InternalIP of IPv6",
  ]);
  expect(texts([node("me", ["10.244.2.0/24"], ["192.0.2.1"])])[0]).toContain("is this node's own");
});

test("nobody draws to itself what is another's: overlapping prefixes, and those that hold a node's address", () => {
  expect(texts([node("b", ["10.244.0.0/16"], ["192.0.2.2"])])[0]).toContain("they overlap those of own");
  const [elder, younger] = [
    node("zz", ["10.244.2.0/24"], ["192.0.2.2"], "2026-01-01T00:00:00Z"),
    node("aa", ["10.244.2.0/25"], ["192.0.2.3"], "2026-02-01T00:00:00Z"),
  ];
  expect(texts([younger, elder])).toEqual([
    "aa: its pods 10.244.2.0/25 are not reached: they overlap those of zz",
  ]);
  expect(texts([node("b", ["192.0.2.0/24"], ["192.0.2.2"])])[0]).toContain(
    "its own address 192.0.2.2 is one of them",
  );
  expect(texts([node("b", ["192.0.2.0/24"], ["198.51.100.2"])])[0]).toContain(
    "this node's own address 192.0.2.1 is one of them",
  );
});

function route(destination: string, gateway: string, extra: Partial<Route> = {}): Route {
  const family = destination.includes(":") ? 6 : 4;
  const usual = { table: 254, protocol: "119", scope: "global", flags: [], metrics: {} } as const;
  return { family, type: "unicast", destination, gateway, interface: 2, ...usual, ...extra };
}

test("missing, wrong and stale routes are told apart; a node that cannot be routed now keeps its own", () => {
  const [b, c, d] = ["b", "c", "d"].map((name, index) =>
    node(name, [`10.244.${index + 2}.0/24`], [`192.0.2.${index + 2}`]),
  ) as [ClusterNode, ClusterNode, ClusterNode];
  const wishes = wishesOf([b, c, d], (address) =>
    address === "192.0.2.4" ? { lacking: "is away" } : { interface: 2 },
  );
  const own = ["10.244.1.0/24", "fd00:1::/64"].map((destination) =>
    route(destination, "", { type: "blackhole", metric: 0x7fff_ffff }),
  );
  const wrong = route("10.244.3.0/24", "192.0.2.99");
  const gone = route("10.244.77.0/24", "192.0.2.77");
  const second = route("10.244.2.0/24", "192.0.2.2", { metric: 50 });
  const plan = planRoutes(wishes, [
    ...own,
    route("10.244.2.0/24", "192.0.2.2"),
    second,
    wrong,
    route("10.244.4.0/24", "192.0.2.4"),
    gone,
  ]);
  expect(plan.set.map(({ destination }) => destination)).toEqual(["10.244.3.0/24"]);
  expect(plan.stale).toEqual([gone]);
  expect(plan.extra).toEqual([second]);
  // The same once more, when it was carried out: nothing.
  const after = [...own, route("10.244.2.0/24", "192.0.2.2"), route("10.244.3.0/24", "192.0.2.3")];
  expect(planRoutes(wishes, after)).toEqual({ set: [], stale: [], extra: [] });
});

test("more than half at once waits for a minute, and begins anew when it was not so in between", () => {
  let now = 0;
  const guard = new DeletionGuard(() => now);
  expect(guard.waitMs(10, 5)).toBe(0);
  expect(guard.waitMs(10, 6)).toBe(60_000);
  now = 59_999;
  expect(guard.waitMs(10, 6)).toBe(1);
  expect(guard.waitMs(10, 0)).toBe(0);
  expect(guard.waitMs(10, 10)).toBe(60_000);
  now = 119_999;
  expect(guard.waitMs(10, 10)).toBe(0);
  expect(guard.waitMs(0, 0)).toBe(0);
});

const NOTHING = { destinations: new Set<string>(), gateways: new Set<string>() };
const VIEW: ClusterView = {
  own: OWN,
  peers: [
    node("b", ["10.244.0.0/24", "fd00:2::/64"], ["192.0.2.0"]),
    node("c", ["10.244.2.0/23"], ["192.0.2.7"]),
  ],
};

test("translated is what pods send outside: not to pods, not to nodes, not what the policy excludes", () => {
  const plain = podNatIntent(
    VIEW,
    { destinations: new Set(["10.244.9.0/24"]), gateways: new Set(["192.0.2.9"]) },
    undefined,
    { masqueradeToNodes: false },
  )!;
  expect(plain.sources.map(({ cidr, translation }) => [cidr, translation])).toEqual([
    ["10.244.1.0/24", { fullyRandom: true }],
    ["fd00:1::/64", { fullyRandom: true }],
  ]);
  // The four first are one prefix; what still waits for its deletion stays untranslated as long as it is routed.
  expect(plain.untranslated).toEqual([
    "10.244.0.0/22",
    "10.244.9.0/24",
    "192.0.2.0/31",
    "192.0.2.7/32",
    "192.0.2.9/32",
    "2001:db8::1/128",
    "fd00:1::/64",
    "fd00:2::/64",
  ]);
  const toNodes = podNatIntent(VIEW, NOTHING, undefined, { masqueradeToNodes: true })!;
  expect(toNodes.untranslated).toEqual(["10.244.0.0/22", "fd00:1::/64", "fd00:2::/64"]);
  const policy: NatIntent = {
    owner: "policy",
    sources: [
      {
        cidr: "10.0.0.0/8",
        translation: { snat: { first: "203.0.113.9", last: "203.0.113.9" }, fullyRandom: false },
      },
      { cidr: "10.244.1.128/25", translation: { fullyRandom: false } },
    ],
    untranslated: ["198.51.100.0/24"],
  };
  const both = podNatIntent(VIEW, NOTHING, policy, { masqueradeToNodes: true })!;
  expect(both.sources[0]!.translation.snat?.first).toBe("203.0.113.9");
  expect(both.untranslated).toContain("198.51.100.0/24");
  expect(
    podNatIntent({ ...VIEW, own: { ...OWN, podCidrs: [] } }, NOTHING, policy, { masqueradeToNodes: true }),
  ).toBe(undefined);
});
