/** Agents of a cluster on nodes of the test's own: real routes, real pods, made by the plugin as a runtime makes them. */
import { expect } from "bun:test";
import { existsSync, rmSync } from "node:fs";
import { join } from "node:path";
import { socketPath } from "../../src/agent/socket.ts";
import { networkMadePath } from "../../src/kubernetes/cni-step.ts";
import { call, type Configuration } from "../cni/plugin.ts";
import { until } from "../support/until.ts";
import { ask, run, testWith } from "../support/witness.ts";
import { WAYOUT } from "../attachment/world.ts";
import { freshNamespace } from "../support/world.ts";
import { nodeObject, NODES } from "./api-server.ts";
import { ClusterWorld, reaches, routesOf, seenAs, SERVER, type ClusterNodeOfTest } from "./cluster-world.ts";

const test = testWith(["root", "nft", "openssl", "curl", "ping"]);
const TIMEOUT_MS = 300_000;

async function readyz(node: ClusterNodeOfTest): Promise<{ ready: boolean; troubles: { message: string }[] }> {
  const answer = await fetch("http://agent/readyz", { unix: socketPath(node.namespace) });
  return (await answer.json()) as { ready: boolean; troubles: { message: string }[] };
}

async function metric(node: ClusterNodeOfTest, name: string): Promise<number> {
  const answer = await fetch("http://agent/metrics", { unix: socketPath(node.namespace) });
  return Number(new RegExp(`^${name} (\\S+)$`, "m").exec(await answer.text())?.[1]);
}

/** Two nodes of both families with their agents, ready. */
async function twoNodes(...podCidrs: readonly (readonly string[])[]) {
  const world = await ClusterWorld.make("node-a", "node-b");
  const [a, b] = world.nodes as [ClusterNodeOfTest, ClusterNodeOfTest];
  const [ofA = ["10.244.1.0/24", "fd00:10:244:1::/64"], ofB = ["10.244.2.0/24", "fd00:10:244:2::/64"]] =
    podCidrs;
  world.post(a, ofA);
  world.post(b, ofB);
  const agents = [await world.agent(a), await world.agent(b)] as const;
  await until(() => [a, b].every((node) => world.conflist(node) !== undefined), "both are configured");
  return { world, a, b, agents };
}

test(
  "pods of two nodes reach each other as themselves, and the outside as their node, in both families",
  async () => {
    const { world, a, b, agents } = await twoNodes();
    expect(routesOf(a)).toEqual([
      "blackhole 10.244.1.0/24 metric 2147483647",
      "10.244.2.0/24 via 203.0.113.12 dev up0",
      "blackhole fd00:10:244:1::/64 dev lo metric 2147483647",
      "fd00:10:244:2::/64 via 2001:db8:113::12 dev up0 metric 1024",
    ]);
    const [left, right] = [world.pod(a), world.pod(b)];
    expect(left.addresses.map((one) => one.split(/[.:]/).slice(0, 3).join())).toEqual([
      "10,244,1",
      "fd00,10,244",
    ]);
    for (const family of [0, 1]) {
      expect(await seenAs(left.namespace, right.namespace, right.addresses[family]!)).toBe(
        left.addresses[family],
      );
      expect(await seenAs(right.namespace, left.namespace, left.addresses[family]!)).toBe(
        right.addresses[family],
      );
    }
    expect(await seenAs(left.namespace, world.outside, SERVER[4])).toBe(a.v4);
    expect(await seenAs(left.namespace, world.outside, SERVER[6])).toBe(a.v6);
    // Nodes as well see the pod.
    expect(await seenAs(left.namespace, b.namespace, b.v4)).toBe(left.addresses[0]);
    expect(await readyz(a)).toEqual({ ready: true, troubles: [] });
    // A packet to a pod that is not there ends on its node.
    expect(run(right.namespace, ["ping", "-c1", "-W1", "10.244.1.77"]).exitCode).not.toBe(0);
    for (const agent of agents) expect(await agent.stop()).toBe(0);
    // Everything stays for the pods: an upgrade is no outage.
    expect(await seenAs(left.namespace, right.namespace, right.addresses[0]!)).toBe(left.addresses[0]);
    expect(await seenAs(left.namespace, world.outside, SERVER[4])).toBe(a.v4);
    expect(world.conflist(a)).toBeDefined();
  },
  TIMEOUT_MS,
);

/** One agent, and peers that are there as addresses only. */
async function lonely(peers: number, ...more: readonly string[]) {
  const world = await ClusterWorld.make("node-a");
  const [a] = world.nodes as [ClusterNodeOfTest];
  world.post(a, ["10.244.1.0/24"]);
  for (let peer = 1; peer <= peers; peer++) postPeer(world, peer);
  return { world, a, start: () => world.agent(a, ...more) };
}

/** Never Ready, so that nobody waits for its answer. */
function postPeer(
  world: ClusterWorld,
  number: number,
  address = `203.0.113.${100 + number}`,
  podCidr = number + 1,
): void {
  world.api.put(NODES, nodeObject(`peer-${number}`, [`10.244.${podCidr}.0/24`], [address], { ready: false }));
}

function route4(number: number, address = 100 + number): string {
  return `10.244.${number + 1}.0/24 via 203.0.113.${address} dev up0`;
}

const BLACKHOLE = "blackhole 10.244.1.0/24 metric 2147483647";

test(
  "routes: missing, wrong and stale ones are mended at start and when somebody changes them",
  async () => {
    const { world, a, start } = await lonely(4);
    const ip = (...words: string[]): string => ask(a.namespace, ["ip", ...words]);
    // Of an agent that was here before: one right, one with an address of before, one of a node that is gone; and others' own.
    ip("route", "add", "10.244.2.0/24", "via", "203.0.113.101", "proto", "119");
    ip("route", "add", "10.244.3.0/24", "via", "203.0.113.55", "proto", "119");
    ip("route", "add", "10.244.77.0/24", "via", "203.0.113.77", "proto", "119");
    ip("route", "add", "10.99.0.0/16", "via", "203.0.113.88");
    const all = [BLACKHOLE, route4(1), route4(2), route4(3), route4(4)];
    const agent = await start();
    await until(() => routesOf(a).join() === all.join(), "the routes are as they should be");
    expect(ip("route", "show", "10.99.0.0/16")).toContain("203.0.113.88");
    await until(() => world.conflist(a) !== undefined, "it is configured");
    ip("route", "del", "10.244.2.0/24");
    await agent.says("repaired", { step: "routes", object: "route 10.244.2.0/24 via 203.0.113.101" });
    // Stolen by another protocol, as kindnet or flannel would.
    ip("route", "replace", "10.244.4.0/24", "via", "203.0.113.66", "proto", "static");
    await agent.says("repaired", { step: "routes", object: "route 10.244.4.0/24 via 203.0.113.103" });
    expect(routesOf(a)).toEqual(all);
    expect(ip("route", "show", "10.244.4.0/24").trim().split("\n")).toHaveLength(1);
    ip("route", "flush", "proto", "119");
    await until(() => routesOf(a).join() === all.join(), "they are back after a flush");
    // The kernel takes the routes of a link away when it goes down, and says nothing of it.
    ip("link", "set", "up0", "down");
    ip("link", "set", "up0", "up");
    ip("route", "add", "default", "via", "203.0.113.1");
    await until(() => routesOf(a).join() === all.join(), "they are back after the link was down");
    // A node's new address, one that is gone, and its prefix at once with another.
    postPeer(world, 1, "203.0.113.201");
    world.api.delete(NODES, "peer-2");
    postPeer(world, 9, "203.0.113.109", 3);
    const then = [BLACKHOLE, route4(1, 201), route4(2, 109), route4(3), route4(4)];
    await until(() => routesOf(a).join() === then.join(), "the cluster's changes are followed");
    world.api.delete(NODES, "peer-9");
    await until(() => routesOf(a).length === 4, "what is gone is deleted");
    // On another link: named, and not skipped in silence.
    postPeer(world, 5, "198.51.100.5");
    // While the link was down, others were told as not reached.
    await agent.says("kubernetes", {
      level: "warn",
      message:
        "node peer-5: its pods 10.244.6.0/24 are not reached: its address 198.51.100.5 is behind the router 203.0.113.1, and not on a link of this node",
    });
    expect(await metric(a, "wayout_cluster_nodes_unreached")).toBe(1);
  },
  TIMEOUT_MS,
);

test("names that can never be are refused at the start", () => {
  const node = freshNamespace("node");
  const words = [
    "agent",
    "--kubernetes",
    "--api-server",
    "https://192.0.2.1:6443",
    "--journal",
    "none",
    "--no-look",
  ];
  for (const [option, value] of [
    ["--pod-bridge", "a-name-too-long-for-a-link"],
    ["--pod-network", "../up"],
    ["--node-name", ""],
    ["--startup-taint", ""],
  ] as const) {
    const { exitCode, stderr } = run(node, [WAYOUT, ...words, option, value]);
    expect([option, exitCode, stderr]).toEqual([option, 2, expect.stringContaining(option)]);
  }
});

test(
  "an empty list, a list of another cluster, and most nodes gone at once delete nothing",
  async () => {
    const { world, a, start } = await lonely(4);
    const agent = await start();
    await until(() => routesOf(a).length === 5 && world.conflist(a) !== undefined, "it works");
    const before = [routesOf(a), ask(a.namespace, ["nft", "list", "table", "inet", "wayout"])];
    const now = () => [routesOf(a), ask(a.namespace, ["nft", "list", "table", "inet", "wayout"])];
    const lists = world.api.count("GET", NODES);
    world.api.wrong.emptyList = true;
    world.api.compact();
    world.api.endWatches();
    await until(() => world.api.count("GET", NODES) > lists, "it lists again");
    await until(() => JSON.stringify(now()) === JSON.stringify(before), "nothing is changed");
    await until(() => world.api.watches === 1, "it watches");
    expect((await readyz(a)).troubles.map(({ message }) => message).join()).toContain(
      "list of 0 nodes lacks this one, node-a",
    );
    expect(now()).toEqual(before);
    await agent.says("kubernetes", { level: "warn", message: /list of 0 nodes lacks this one, node-a/ });
    delete world.api.wrong.emptyList;
    world.api.compact();
    world.api.endWatches();
    await until(() => world.api.watches === 1, "it watches");
    for (const number of [1, 2, 3]) world.api.delete(NODES, `peer-${number}`);
    const { message } = await agent.says("kubernetes", { level: "warn", message: withheld(3, 4) });
    expect(message).toBeDefined();
    expect(now()).toEqual(before);
    expect(await metric(a, "wayout_cluster_routes_withheld")).toBe(3);
    await until(() => world.api.asked.some(({ path }) => path.endsWith("/events")), "an event is sent");
    // Killed and started again it does not forget that it waits: what an earlier run left is doubted as well.
    await agent.stop("SIGKILL");
    const again = await start();
    await again.says("kubernetes", { level: "warn", message: withheld(3, 4) });
    expect(now()).toEqual(before);
    // Not so many any more: at once.
    for (const number of [1, 2]) postPeer(world, number);
    await until(() => routesOf(a).length === 4, "one is gone");
  },
  TIMEOUT_MS,
);

function withheld(count: number, of: number): string {
  return `${count} of ${of} routes to other nodes would go at once; they stay for 60 s, and go if the API server still says so then`;
}

test(
  "an API server that is away changes nothing: what others take away is put back, by a new agent as well",
  async () => {
    const { world, a, b, agents } = await twoNodes();
    const [left, right] = [world.pod(a), world.pod(b)];
    await world.api.stop();
    await agents[0].says("kubernetes", {
      level: "warn",
      message: /^the API server is not heard: .*stays as it was$/,
    });
    ask(a.namespace, ["ip", "route", "flush", "proto", "119"]);
    ask(a.namespace, ["nft", "flush", "ruleset"]);
    await until(() => routesOf(a).length === 4, "the routes are back");
    expect(await seenAs(left.namespace, right.namespace, right.addresses[0]!)).toBe(left.addresses[0]);
    expect(await seenAs(left.namespace, world.outside, SERVER[4])).toBe(a.v4);
    expect(await readyz(a)).toEqual({ ready: true, troubles: [] });
    expect(await metric(a, "wayout_cluster_api_heard")).toBe(0);
    // One that has never heard of the cluster keeps the rules that it finds.
    expect(await agents[0].stop()).toBe(0);
    const again = await world.agent(a);
    ask(a.namespace, ["nft", "flush", "ruleset"]);
    await again.says("repaired", { step: "nat" });
    expect(await seenAs(left.namespace, world.outside, SERVER[4])).toBe(a.v4);
    expect(await seenAs(left.namespace, right.namespace, right.addresses[0]!)).toBe(left.addresses[0]);
    expect(routesOf(a)).toHaveLength(4);
    await world.api.listen();
    await until(() => world.api.watches === 2, "both hear it again", 60_000);
    await again.says("kubernetes", { level: "info", message: /^the API server is heard/ });
    await until(() => routesOf(a).length === 4, "nothing has changed");
  },
  TIMEOUT_MS,
);

test(
  "IPv6 first, podCIDRs that come late, and a node that is registered anew with others",
  async () => {
    const world = await ClusterWorld.make("node-a", "node-b");
    const [a, b] = world.nodes as [ClusterNodeOfTest, ClusterNodeOfTest];
    world.post(a, []);
    world.post(b, ["fd00:10:244:2::/64", "10.244.2.0/24"]);
    const agent = await world.agent(a);
    await world.agent(b);
    await until(() => routesOf(a).length === 2, "the routes to b do not wait for a's own prefix");
    expect((await readyz(a)).troubles.map(({ message }) => message).join()).toContain("has no podCIDR yet");
    expect(world.conflist(a)).toBeUndefined();
    world.post(a, ["fd00:10:244:1::/64", "10.244.1.0/24"]);
    await until(() => world.conflist(a) !== undefined && world.conflist(b) !== undefined, "it is configured");
    const [left, right] = [world.pod(a), world.pod(b)];
    expect(left.addresses.map((one) => one.includes(":"))).toEqual([true, false]);
    for (const family of [0, 1])
      expect(await seenAs(left.namespace, right.namespace, right.addresses[family]!)).toBe(
        left.addresses[family],
      );
    // Deleted, and registered again: nothing changes until it is known what it has now.
    world.api.delete(NODES, "node-a");
    await until(() => routesOf(b).length === 2 || routesOf(b).length === 4, "b has heard of it");
    expect(world.conflist(a)).toBeDefined();
    expect(routesOf(a)).toHaveLength(4);
    world.post(a, ["fd00:10:244:7::/64", "10.244.7.0/24"], { uid: "another" });
    const { message } = await agent.says("kubernetes", { level: "warn", message: moved() });
    expect(message).toBeDefined();
    await until(
      () => JSON.stringify(world.conflist(a)).includes("10.244.7.0/24"),
      "the configuration follows",
    );
    const addresses = ask(a.namespace, ["ip", "-o", "address", "show", "dev", "cni0", "scope", "global"]);
    expect([...addresses.matchAll(/inet6? (\S+)/g)].map(([, text]) => text!).sort()).toEqual([
      "10.244.7.1/24",
      "fd00:10:244:7::1/64",
    ]);
    const next = world.pod(a);
    for (const family of [0, 1])
      expect(await seenAs(next.namespace, right.namespace, right.addresses[family]!)).toBe(
        next.addresses[family],
      );
    expect(await seenAs(next.namespace, world.outside, SERVER[6])).toBe(a.v6);
  },
  TIMEOUT_MS,
);

function moved(): string {
  return "cni0 had fd00:10:244:1::1/64 and 10.244.1.1/24 and has fd00:10:244:7::1/64 and 10.244.7.1/24 now, as this node's podCIDR says: pods with addresses of before are cut off; delete them";
}

interface NodeAsPosted {
  readonly spec: { readonly taints: readonly { readonly key: string }[] };
  readonly status: {
    readonly conditions: readonly {
      readonly type: string;
      readonly status: string;
      readonly reason?: string;
    }[];
  };
}

test(
  "ready is told when a peer has answered, the start-up taint goes, and silent peers later take nothing back",
  async () => {
    const world = await ClusterWorld.make("node-a", "node-b");
    const [a, b] = world.nodes as [ClusterNodeOfTest, ClusterNodeOfTest];
    const taints = [
      { key: "wayout.dev/starting", effect: "NoSchedule" },
      { key: "other", effect: "NoSchedule" },
    ];
    world.post(a, ["10.244.1.0/24"], { taints });
    // It says that it is ready, and knows no way back to a's pods.
    world.post(b, ["10.244.2.0/24"]);
    const agent = await world.agent(a, "--startup-taint", "wayout.dev/starting");
    const posted = (): NodeAsPosted => world.api.object(NODES, "node-a") as unknown as NodeAsPosted;
    const condition = (): string | undefined =>
      posted().status.conditions.find(({ type }) => type === "WayoutReady")?.status;
    await until(() => condition() === "False", "it is not ready");
    const told = () => posted().status.conditions.find(({ type }) => type === "WayoutReady");
    await until(() => told()?.reason === "PeersSilent", "b does not answer");
    const { ready, troubles } = await readyz(a);
    expect([ready, troubles[0]!.message]).toEqual([
      false,
      "no other node answers to 10.244.1.1, this node's address among its pods: tried node-b (203.0.113.12). Either they have no route to it, or something between drops it",
    ]);
    expect(posted().spec.taints).toHaveLength(2);
    // The node's own chain stands: pods may come, and the others learn of it.
    expect(world.conflist(a)).toBeDefined();
    const other = await world.agent(b);
    await until(() => condition() === "True", "b has answered");
    await until(() => posted().spec.taints.length === 1, "the taint is gone");
    expect(posted().spec.taints[0]!.key).toBe("other");
    expect(await readyz(a)).toEqual({ ready: true, troubles: [] });
    // Left behind by nobody: the probe's pod is gone, with its address.
    expect(ask(a.namespace, ["ip", "-o", "link", "show", "type", "veth"]).trim().split("\n")).toHaveLength(1);
    expect(existsSync(join("/var/lib/cni/networks", a.network, "10.244.1.2"))).toBe(false);
    await other.stop();
    await agent.stop();
    // A new agent says nothing new.
    const writes = world.api.asked.filter(({ method }) => method === "PATCH").length;
    await world.agent(a, "--startup-taint", "wayout.dev/starting");
    await until(() => world.api.watches === 1, "it watches");
    await until(() => world.api.count("GET", `${NODES}/node-a`) > 3, "it has looked");
    await Bun.sleep(300);
    expect(world.api.asked.filter(({ method }) => method === "PATCH").length).toBe(writes);
  },
  TIMEOUT_MS,
);

test(
  "a node that is registered anew, with the same name, is told ready again, and loses its start-up taint again",
  async () => {
    const world = await ClusterWorld.make("node-a");
    const [a] = world.nodes as [ClusterNodeOfTest];
    const taints = [{ key: "wayout.dev/starting", effect: "NoSchedule" }];
    const posted = () => world.api.object(NODES, "node-a") as unknown as NodeAsPosted;
    const isTold = (): boolean =>
      posted().spec.taints.length === 0 &&
      posted().status.conditions.some(({ type, status }) => type === "WayoutReady" && status === "True");
    world.post(a, ["10.244.1.0/24"], { taints });
    await world.agent(a, "--startup-taint", "wayout.dev/starting");
    await until(isTold, "it is ready");
    // As kubelet does it when somebody deleted its Node: at first without a podCIDR.
    world.api.delete(NODES, "node-a");
    world.post(a, [], { taints });
    world.post(a, ["10.244.1.0/24"], { taints });
    await until(isTold, "it is ready again");
    expect(await readyz(a)).toEqual({ ready: true, troubles: [] });
  },
  TIMEOUT_MS,
);

test(
  "without any role but to read nodes it works, and a network of others that sorts before ours is told",
  async () => {
    const { world, a, start } = await lonely(1);
    world.api.forbidden.add("PATCH ");
    world.api.forbidden.add("POST ");
    ask(undefined, ["touch", join(a.configurationDirectory, "05-other.conflist")]);
    const agent = await start();
    await until(() => world.conflist(a) !== undefined, "it is configured");
    await agent.says("not-repaired", { step: "cni-configuration" });
    expect((await readyz(a)).troubles[0]!.message).toContain(
      "05-other.conflist sorts before 10-wayout.conflist",
    );
    ask(undefined, ["rm", join(a.configurationDirectory, "05-other.conflist")]);
    ask(undefined, ["rm", join(a.configurationDirectory, "10-wayout.conflist")]);
    await until(() => world.conflist(a) !== undefined, "what was deleted is back", 40_000);
    expect(reaches(world.pod(a).namespace, world.nodes[0]!.v4)).toBe(true);
  },
  TIMEOUT_MS,
);

test(
  "after a reboot no pod comes before the network stands: ADD and STATUS say so, and then it comes",
  async () => {
    const { world, a, start } = await lonely(0);
    const agent = await start();
    await until(() => world.conflist(a) !== undefined, "it is configured");
    const made = networkMadePath(a.namespace);
    await until(() => existsSync(made), "it is told");
    expect(reaches(world.pod(a).namespace, a.v4)).toBe(true);
    await agent.stop();
    // An agent that ends leaves it: pods come on.
    expect(await seenAs(world.pod(a).namespace, world.outside, SERVER[4])).toBe(a.v4);
    // The node starts anew: /run and the rules are gone, the configuration is there, and runtimes are quicker than the agent.
    rmSync("/run/wayout", { recursive: true });
    ask(a.namespace, ["nft", "flush", "ruleset"]);
    ask(a.namespace, ["ip", "route", "flush", "proto", "119"]);
    expect(() => world.pod(a)).toThrow("the agent has not made this node's network since the node started");
    const conflist = world.conflist(a)!;
    const plugin = { ...conflist.plugins[0], name: conflist.name, cniVersion: "1.1.0" } as Configuration;
    const status = call(a.namespace, "STATUS", plugin);
    expect(JSON.parse(status.stdout)).toMatchObject({ code: 50 });
    const again = await start();
    await until(() => existsSync(made), "it stands again");
    const pod = world.pod(a);
    expect(await seenAs(pod.namespace, world.outside, SERVER[4])).toBe(a.v4);
    expect(call(a.namespace, "STATUS", plugin).exitCode).toBe(0);
    // Whoever clears /run is no reboot: it is back in moments.
    rmSync(made);
    await until(() => existsSync(made), "it is told again");
    await again.stop();
  },
  TIMEOUT_MS,
);

test(
  "in a quiet cluster nothing is asked of the API server: what is watched tells, and bookmarks keep it current",
  async () => {
    const { world, a, start } = await lonely(1);
    await start();
    await until(() => world.conflist(a) !== undefined, "it is configured");
    await until(() => routesOf(a).includes(route4(1)), "the peer is routed");
    // What follows from having become ready is written once.
    await until(() => world.api.count("PATCH", `${NODES}/node-a/status`) > 0, "the condition is told");
    await Bun.sleep(1_000);
    const asked = world.api.asked.length;
    for (let turn = 0; turn < 6; turn++) {
      world.api.bookmark();
      await Bun.sleep(500);
    }
    expect(world.api.asked.slice(asked)).toEqual([]);
    expect(world.api.watches).toBe(1);
    // It listens all the same.
    postPeer(world, 2);
    await until(() => routesOf(a).includes(route4(2)), "the new peer is routed");
    expect(world.api.count("GET", NODES)).toBe(1);
  },
  TIMEOUT_MS,
);

testWith(["real-root", "nft", "openssl", "unshare"])(
  "in a container, where /proc/sys is mounted read-only, it keeps the node all the same",
  async () => {
    const { world, a } = await lonely(0);
    const sealed = 'mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys && exec "$@"';
    const agent = await world.agentWithin(["unshare", "-m", "sh", "-c", sealed, "sh"], a);
    await until(() => world.conflist(a) !== undefined, "it is configured");
    expect(ask(a.namespace, ["sysctl", "-n", "net.ipv4.ip_forward"]).trim()).toBe("1");
    ask(a.namespace, ["sysctl", "-qw", "net.ipv4.ip_forward=0"]);
    await agent.says("repaired", { step: "forwarding" });
  },
  TIMEOUT_MS,
);
