/** What a prediction says besides the path: why it ends here, which leg fails, which way the answer takes. */
import { expect, test } from "bun:test";
import { predictPath, type PredictedPath } from "../../src/doctor/predict/predict.ts";
import type { StopKind, Target } from "../../src/doctor/predict/path.ts";
import { ask, run, testWith } from "../support/witness.ts";
import {
  askFrom,
  fetchFrom,
  healthyWorld,
  serveInternet,
  serving,
  snapshotOf,
  PLAN,
  type World,
} from "./world.ts";

const WEB: Target = { address: PLAN.internet.httpIpv4, protocol: "tcp", port: 80 };
const DNS: Target = { address: PLAN.internet.dnsIpv4, protocol: "udp", port: 53 };

function predict(world: World, target: Target = WEB): PredictedPath {
  const snapshot = snapshotOf(world, [target.address]);
  return predictPath(snapshot, snapshot.pods[0]!, target);
}

function kinds({ path }: Pick<PredictedPath, "path">): StopKind[] {
  return path.stops.map((stop) => stop.kind);
}

function nft(world: World, text: string): void {
  ask(world.node, ["nft", "-f", "-"], text);
}

/** A second way out, by eth1, to the same internet. */
function secondUplink(world: World): void {
  const { internet, node } = PLAN;
  const veth = ["type", "veth", "peer", "name", "to-node-2", "netns", internet.namespace];
  ask(world.node, ["ip", "link", "add", "eth1", ...veth]);
  ask(world.node, ["ip", "addr", "add", "192.0.2.77/24", "dev", "eth1"]);
  ask(world.node, ["ip", "link", "set", "eth1", "up"]);
  ask(world.internet, ["ip", "addr", "add", "192.0.2.1/24", "dev", "to-node-2"]);
  ask(world.internet, ["ip", "link", "set", "to-node-2", "up"]);
  const hops = ["nexthop", "via", internet.routerIpv4, "dev", node.uplink, "nexthop", "via", "192.0.2.1"];
  ask(world.node, ["ip", "route", "replace", "default", ...hops, "dev", "eth1"]);
}

testWith(["root", "nft", "ip", "curl"])("every leg of a multipath route is judged", async () => {
  const world = healthyWorld();
  await using _ = await serveInternet(world);
  secondUplink(world);
  const whole = predict(world);
  expect(whole.legs.map(({ link, path }) => [link?.name, path.stops])).toEqual([
    ["up0", []],
    ["eth1", []],
  ]);
  // The kernel chooses by addresses, and has named the leg between these two.
  expect(whole.legs.filter(({ taken }) => taken === true)).toHaveLength(1);
  nft(world, "delete table inet wayout");
  nft(
    world,
    `table ip half { chain post { type nat hook postrouting priority 100; oifname "up0" masquerade; }; }`,
  );
  const half = predict(world);
  expect(half.legs.map((leg) => [leg.link?.name, leg.weight, kinds(leg)])).toEqual([
    ["up0", 1, []],
    ["eth1", 1, ["untranslated"]],
  ]);
  const taken = half.legs.find((leg) => leg.taken === true)!;
  expect(half.path).toBe(taken.path);
  expect(fetchFrom(world, 4, 0.5) !== undefined).toBe(taken.path.stops.length === 0);
  // With the ports in the hash nobody knows: the leg that fails is what is told.
  ask(world.node, ["sysctl", "-qw", "net.ipv4.fib_multipath_hash_policy=1"]);
  const unknown = predict(world);
  expect(unknown.legs.map((leg) => leg.taken)).toEqual([undefined, undefined]);
  expect(kinds(unknown)).toEqual(["untranslated"]);
});

testWith(["root", "nft", "ip"])("a next hop group is a multipath route", () => {
  const world = healthyWorld();
  secondUplink(world);
  ask(world.node, ["ip", "nexthop", "add", "id", "1", "via", PLAN.internet.routerIpv4, "dev", "up0"]);
  ask(world.node, ["ip", "nexthop", "add", "id", "2", "via", "192.0.2.1", "dev", "eth1"]);
  ask(world.node, ["ip", "nexthop", "add", "id", "10", "group", "1/2,3"]);
  ask(world.node, ["ip", "route", "replace", "default", "nhid", "10"]);
  expect(predict(world).legs.map(({ link, weight }) => [link?.name, weight])).toEqual([
    ["up0", 1],
    ["eth1", 3],
  ]);
});

testWith(["root", "nft", "ip", "curl"])(
  "a redirected packet ends on the node, and somebody listens or not",
  async () => {
    const world = healthyWorld();
    nft(
      world,
      "table ip r { chain pre { type nat hook prerouting priority -100; tcp dport 80 redirect to :3129; }; }",
    );
    const alone = predict(world).path;
    expect(alone.end).toBe("node");
    expect(alone.localEnd).toMatchObject({ place: "node", port: 3129, listener: "none" });
    expect(alone.localEnd!.why).toMatchObject({ kind: "translated", by: { table: { name: "r" } } });
    await using _ = await serving(world.node, 3129, "");
    expect(fetchFrom(world)).toBe(PLAN.pods.blue.ipv4);
    const served = predict(world);
    expect(served.path.localEnd!.listener).toMatchObject({ port: 3129, address: "::" });
    expect([served.certain, kinds(served)]).toEqual([true, []]);
  },
);

testWith(["root", "nft", "ip"])("a foreign address of the node's own, and a local route by mark", () => {
  const world = healthyWorld();
  ask(world.node, ["ip", "link", "add", "ipvs0", "type", "bridge"]);
  ask(world.node, ["ip", "addr", "add", `${WEB.address}/32`, "dev", "ipvs0"]);
  expect(predict(world).path.localEnd).toMatchObject({
    why: { kind: "address", link: { name: "ipvs0" } },
    listener: "none",
  });
  ask(world.node, ["ip", "link", "del", "ipvs0"]);
  nft(
    world,
    "table ip m { chain pre { type filter hook prerouting priority -150; tcp dport 80 meta mark set 1; }; }",
  );
  ask(world.node, ["ip", "rule", "add", "fwmark", "1", "lookup", "100"]);
  ask(world.node, ["ip", "route", "add", "local", "default", "dev", "lo", "table", "100"]);
  expect(predict(world).path.localEnd!.why).toMatchObject({
    kind: "route",
    rule: { mark: 1 },
    markedBy: { table: { name: "m" } },
  });
});

testWith(["root", "nft", "ip"])(
  "a transparent proxy takes what no socket of the pod's destination has",
  async () => {
    const world = healthyWorld();
    nft(
      world,
      `table ip t { chain pre { type filter hook prerouting priority -150;
      tcp dport 80 tproxy to 127.0.0.1:15006 meta mark set 1 accept; }; }`,
    );
    ask(world.node, ["ip", "rule", "add", "fwmark", "1", "lookup", "100"]);
    ask(world.node, ["ip", "route", "add", "local", "default", "dev", "lo", "table", "100"]);
    const frames = "net.bridge.bridge-nf-call-iptables";
    const hasFrames = run(world.node, ["sysctl", "-qw", `${frames}=0`]).exitCode === 0;
    // Without a socket that may take it the rule does not match, and the packet goes on.
    expect(predict(world).path.end).toBe("outside");
    const socket = `import socket,time
s=socket.socket();s.setsockopt(0,19,1);s.bind(("127.0.0.1",15006));s.listen(9);print("ready",flush=True);time.sleep(60)`;
    const child = world.node.run(() => Bun.spawn(["python3", "-c", socket], { stdout: "pipe" }));
    try {
      await child.stdout.getReader().read();
      const { path, certain } = predict(world);
      expect([path.end, certain]).toEqual(["node", true]);
      expect(path.localEnd!.why).toMatchObject({ kind: "proxy", by: { table: { name: "t" } } });
      if (hasFrames) {
        // What prerouting finds while the frame is at the bridge is lost on its way into the IP stack.
        ask(world.node, ["sysctl", "-qw", `${frames}=1`]);
        const { localEnd } = predict(world).path;
        expect(localEnd).toMatchObject({ listener: "none", forgottenBy: { table: { name: "t" } } });
        ask(world.node, ["sysctl", "-qw", `${frames}=0`]);
      }
      ask(world.node, ["ip", "route", "flush", "table", "100"]);
      expect(kinds(predict(world))).toEqual(["proxy-without-route"]);
    } finally {
      child.kill();
      await child.exited;
    }
  },
);

testWith(["root", "nft", "ip", "curl"])("the pod's own rules lead its packets back to itself", async () => {
  const world = healthyWorld();
  await using _ = await serveInternet(world);
  const rules = (uid: number): string => `flush ruleset
    table ip istio { chain output { type nat hook output priority -100;
      meta skuid ${uid} accept; tcp dport 80 redirect to :15001; }; }`;
  ask(world.blue, ["nft", "-f", "-"], rules(1337));
  const { path, certain } = predict(world);
  expect([path.end, certain]).toEqual(["pod", true]);
  expect(path.localEnd).toMatchObject({ place: "pod", address: "127.0.0.1", port: 15_001, listener: "none" });
  expect(fetchFrom(world, 4, 0.5)).toBeUndefined();
  // The proxy's own packets leave.
  expect(predict(world, { ...WEB, sender: { uid: 1337, gid: 1337 } }).path.end).toBe("outside");
  ask(world.blue, ["nft", "-f", "-"], rules(0));
  expect(predict(world).path.end).toBe("outside");
  expect(fetchFrom(world)).toBe(PLAN.node.uplinkIpv4);
});

testWith(["root", "nft", "ip", "curl"])("a mark that the pod's rules set chooses its way", async () => {
  const world = healthyWorld();
  await using _ = await serveInternet(world);
  const chain = (type: string): string =>
    `flush ruleset
     table ip m { chain output { type ${type} hook output priority -150; tcp dport 80 meta mark set 7; }; }`;
  ask(world.blue, ["ip", "rule", "add", "fwmark", "7", "prohibit"]);
  ask(world.blue, ["nft", "-f", "-"], chain("filter"));
  expect(kinds(predict(world))).toEqual([]);
  expect(fetchFrom(world)).toBeString();
  // Only a chain of type route has the packet routed anew.
  ask(world.blue, ["nft", "-f", "-"], chain("route"));
  expect(kinds(predict(world))).toEqual(["no-route"]);
  expect(fetchFrom(world, 4, 0.5)).toBeUndefined();
});

testWith(["root", "nft", "ip", "curl"])("a rule by source takes what connect() sends", async () => {
  const world = healthyWorld();
  await using _ = await serveInternet(world);
  ask(world.blue, ["ip", "rule", "add", "from", PLAN.pods.blue.ipv4, "lookup", "77"]);
  ask(world.blue, ["ip", "route", "add", "blackhole", "default", "table", "77"]);
  expect(kinds(predict(world))).toEqual(["no-route"]);
  expect(fetchFrom(world, 4, 0.5)).toBeUndefined();
});

testWith(["root", "nft", "ip", "curl"])("what the node answers is routed by its source", async () => {
  const world = healthyWorld();
  await using _ = await serving(world.node, 80, "");
  const target: Target = { address: PLAN.node.uplinkIpv4, protocol: "tcp", port: 80 };
  const { routerIpv4 } = PLAN.internet;
  expect([kinds(predict(world, target)), fetchFrom(world, 4, 5, PLAN.node.uplinkIpv4)]).toEqual([
    [],
    PLAN.pods.blue.ipv4,
  ]);
  ask(world.node, ["ip", "route", "add", "default", "via", routerIpv4, "table", "30400"]);
  ask(world.node, [
    "ip",
    "rule",
    "add",
    "from",
    PLAN.node.uplinkIpv4,
    "lookup",
    "30400",
    "priority",
    "30400",
  ]);
  const { path } = predict(world, target);
  expect(path.stops).toMatchObject([{ kind: "astray", link: { name: "up0" }, rule: { table: 30_400 } }]);
  expect(fetchFrom(world, 4, 0.5, PLAN.node.uplinkIpv4)).toBeUndefined();
});

const ZONES: readonly (readonly [rules: string, stop: StopKind | undefined])[] = [
  [`iifname "lan0" ct zone set 5; iifname "up0" ct zone set 5;`, undefined],
  [`iifname "lan0" ct original zone set 5;`, undefined],
  [`iifname "lan0" ct zone set 5;`, "answer-unrecognized"],
  [`iifname "lan0" ct reply zone set 5;`, "answer-unrecognized"],
  [`iifname "up0" notrack;`, "answer-unrecognized"],
  [`iifname "lan0" notrack;`, "untranslated"],
];

testWith(["root", "nft", "ip"])("conntrack zones, and packets that are not tracked", async () => {
  const world = healthyWorld();
  await using _ = await serveInternet(world);
  for (const [rules, stop] of ZONES) {
    nft(world, `table ip z { chain pre { type filter hook prerouting priority -300; ${rules} }; }`);
    const { path } = predict(world, DNS);
    expect([rules, path.stops.map((one) => one.kind)]).toEqual([rules, stop === undefined ? [] : [stop]]);
    const [first] = path.stops;
    if (first?.kind === "untranslated") expect(first.untrackedBy).toMatchObject({ table: { name: "z" } });
    expect([rules, askFrom(world, 0, stop === undefined ? 5 : 0.3)]).toEqual([rules, stop === undefined]);
    nft(world, "delete table ip z");
  }
});

testWith(["root", "nft", "ip"])("a TTL that runs out", async () => {
  const world = healthyWorld();
  await using _ = await serveInternet(world);
  for (const [chain, ttl, passes] of [
    ["prerouting priority -150", 1, false],
    ["prerouting priority -150", 3, true],
    ["postrouting priority -150", 1, false],
  ] as const) {
    nft(
      world,
      `table ip l { chain c { type filter hook ${chain}; ip saddr 10.0.0.0/24 ip ttl set ${ttl}; }; }`,
    );
    // The lab's router is the destination itself: it takes what has one hop left.
    expect([chain, kinds(predict(world, DNS))]).toEqual([chain, passes ? [] : ["ttl-exceeded"]]);
    if (chain.startsWith("prerouting")) expect(askFrom(world, 0, passes ? 5 : 0.3)).toBe(passes);
    nft(world, "delete table ip l");
  }
});

testWith(["root", "nft", "ip", "curl"])("a source that the uplink's neighbours ask for in vain", async () => {
  const world = healthyWorld();
  await using _ = await serveInternet(world);
  nft(
    world,
    `delete table inet wayout
     table ip one { chain post { type nat hook postrouting priority 100; oifname "up0" snat to 203.0.113.99; }; }`,
  );
  expect(predict(world).path.stops).toMatchObject([
    { kind: "foreign-source", source: "203.0.113.99", prefix: "203.0.113.0/24" },
  ]);
  expect(fetchFrom(world, 4, 0.5)).toBeUndefined();
  ask(world.node, ["ip", "addr", "add", "203.0.113.99/24", "dev", "up0"]);
  expect(kinds(predict(world))).toEqual([]);
  expect(fetchFrom(world)).toBe("203.0.113.99");
});

testWith(["root", "nft", "ip", "curl"])("neighbour discovery passes the node's own rules", async () => {
  const world = healthyWorld();
  await using _ = await serveInternet(world);
  const target: Target = { address: PLAN.internet.httpIpv6, protocol: "tcp", port: 80 };
  const rules = (accepted: string): string =>
    `table ip6 fw { chain input { type filter hook input priority 0; policy drop; ${accepted} }; }`;
  nft(world, rules(""));
  for (const namespace of [world.blue, world.node]) ask(namespace, ["ip", "-6", "neigh", "flush", "all"]);
  expect(fetchFrom(world, 6, 1)).toBeUndefined();
  const { stops } = predict(world, target).path;
  expect(stops[0]).toMatchObject({ kind: "filtered", hook: "input", about: "neighbour-discovery" });
  nft(world, `delete table ip6 fw; ${rules("icmpv6 type { 135, 136 } accept;")}`);
  expect(kinds(predict(world, target))).toEqual([]);
  expect(fetchFrom(world, 6)).toBeString();
});

test("a snapshot without sockets does not know who listens", () => {
  const world = healthyWorld();
  const snapshot = snapshotOf(world, [PLAN.node.uplinkIpv4]);
  const { listeners: _, ...node } = snapshot.node;
  const older = { ...snapshot, node };
  const target: Target = { address: PLAN.node.uplinkIpv4, protocol: "tcp", port: 80 };
  expect(predictPath(older, older.pods[0]!, target).path.localEnd!.listener).toBe("unknown");
  expect(predictPath(snapshot, snapshot.pods[0]!, target).path.localEnd!.listener).toBe("none");
});

testWith(["root", "nft", "ip"])("a prefix that the node holds may be a source of its own", () => {
  const world = healthyWorld();
  nft(
    world,
    `delete table inet wayout
     table ip one { chain post { type nat hook postrouting priority 100; oifname "up0" snat to 192.0.2.9; }; }`,
  );
  expect(kinds(predict(world))).toEqual(["foreign-source"]);
  ask(world.node, ["ip", "route", "add", "blackhole", "192.0.2.8/29"]);
  expect(kinds(predict(world))).toEqual([]);
});
