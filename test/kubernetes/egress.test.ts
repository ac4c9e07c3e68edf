/** Namespaces that leave with an address of their own: who may, what happens where it is not, and that no other is taken. */
import { expect } from "bun:test";
import { mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { socketPath } from "../../src/agent/socket.ts";
import { egressPlan, EGRESS_ANNOTATION, type EgressPod } from "../../src/kubernetes/egress/egress-plan.ts";
import { PolicyDocument } from "../../src/policy/document.ts";
import { GrantsFile, grantsOf } from "../../src/kubernetes/egress/grants.ts";
import { DROPPED } from "../../src/nat/intent.ts";
import { afterThisTest } from "../support/teardown.ts";
import { until } from "../support/until.ts";
import { ask, testWith } from "../support/witness.ts";
import type { ApiObject } from "./api-server.ts";
import { ClusterWorld, seenAs, SERVER, type ClusterNodeOfTest } from "./cluster-world.ts";

const unit = testWith([]);
const readDocument = await PolicyDocument.reader();
const EGRESS = "203.0.113.50";
const EGRESS6 = "2001:db8:113::50";
const GRANTS = { namespaces: { shop: [EGRESS, "2001:db8:113::/112"], lab: ["203.0.113.64/28"] } };

function pod(name: string, addresses: readonly string[], more: Partial<EgressPod> = {}): EgressPod {
  const namespace = name.split("/")[0]!;
  return { namespace, name, addresses, annotation: undefined, created: "", isOver: false, ...more };
}

function planOf(
  pods: readonly EgressPod[],
  namespaces: Readonly<Record<string, string>>,
  grants: object = {},
  addresses: readonly string[] = [EGRESS, EGRESS6],
) {
  return egressPlan(
    {
      pods,
      namespaces: new Map(Object.entries(namespaces)),
      podCidrs: ["10.244.1.0/24", "fd00:10:244:1::/64"],
      addresses: new Set(addresses),
    },
    grantsOf(readDocument(JSON.stringify({ ...GRANTS, ...grants }), "grants", { doing: "", todo: "" })),
  );
}

const BOTH = ["10.244.1.5", "fd00:10:244:1::5"];
const snat = (address: string) => ({ snat: { first: address, last: address }, fullyRandom: true });

unit("an address that is granted and on the node is taken; the family without one is dropped", () => {
  const pods = [pod("shop/web", BOTH), pod("other/x", ["10.244.1.6"])];
  expect(planOf(pods, { shop: `${EGRESS}, ${EGRESS6}` })).toEqual({
    sources: [
      { cidr: "10.244.1.5/32", translation: snat(EGRESS) },
      { cidr: "fd00:10:244:1::5/128", translation: snat(EGRESS6) },
    ],
    onlyAsNode: undefined,
    problems: [],
  });
  const one = planOf(pods, { shop: EGRESS });
  expect(one.sources[1]).toEqual({ cidr: "fd00:10:244:1::5/128", translation: DROPPED });
  expect(one.problems).toEqual([
    `namespace shop: ${EGRESS_ANNOTATION} names no address of IPv6: what its pods send outside over IPv6 is dropped`,
  ]);
});

unit(
  "what is not granted, not here, no address or two of them is dropped, or leaves as the node where that is said",
  () => {
    const pods = [pod("shop/web", ["10.244.1.5"])];
    const drops: readonly (readonly [string, Readonly<Record<string, string>>, (readonly string[])?])[] = [
      ["is not granted to it", { shop: `203.0.113.51 ${EGRESS6}` }],
      ["is not on this node", { shop: `${EGRESS} ${EGRESS6}` }, [EGRESS6]],
      ["which is no address", { shop: "203.0.113.50/32" }],
      ["which is no address", { shop: " " }],
      ["more than one address of IPv4", { shop: `${EGRESS} 203.0.113.51 ${EGRESS6}` }],
    ];
    for (const [said, namespaces, addresses] of drops) {
      const strict = planOf(pods, namespaces, {}, addresses);
      expect(strict.sources).toEqual([{ cidr: "10.244.1.5/32", translation: DROPPED }]);
      expect(strict.problems[0]).toContain(said);
      const mild = planOf(pods, namespaces, { fallback: "node" }, addresses);
      expect(mild.sources).toEqual([]);
      expect(mild.problems[0]).toContain("leave as the node");
    }
    // A grant is a namespace's own, and what an object has besides its keys is none.
    expect(planOf([pod("constructor/x", BOTH)], { constructor: EGRESS }).problems[0]).toContain(
      "not granted",
    );
  },
);

unit("while a pod that asks for an address is starting, only pods that are known leave as the node", () => {
  const known = pod("other/x", ["10.244.1.6"]);
  const namespaces = { shop: `${EGRESS} ${EGRESS6}` };
  const starting = pod("shop/new", []);
  expect(planOf([known, starting], namespaces).onlyAsNode).toEqual(["10.244.1.6"]);
  expect(planOf([known, starting], namespaces, { fallback: "node" }).onlyAsNode).toBeUndefined();
  expect(planOf([known, { ...starting, isOver: true }], namespaces).onlyAsNode).toBeUndefined();
  expect(planOf([known, pod("other/new", [])], namespaces).onlyAsNode).toBeUndefined();
  // A pod's own word counts only where that is said.
  const own = pod("lab/p", ["10.244.1.7"], { annotation: "203.0.113.65" });
  expect(planOf([own], {}).sources).toEqual([]);
  expect(planOf([own], {}, { pods: true }, ["203.0.113.65"]).sources).toEqual([
    { cidr: "10.244.1.7/32", translation: snat("203.0.113.65") },
  ]);
  // Of two with one address the younger has it, whoever it is.
  const [old, young] = [{ created: "2026-01-01T00:00:00Z" }, { created: "2026-01-02T00:00:00Z" }];
  const shop = (more: object): EgressPod => pod("shop/a", ["10.244.1.9"], more);
  const other = (more: object): EgressPod => pod("other/b", ["10.244.1.9"], more);
  expect(planOf([other(young), shop(old)], namespaces).sources).toEqual([]);
  expect(planOf([shop(young), other(old)], namespaces).sources).toHaveLength(1);
});

unit(
  "a file that cannot be used names the key and its line, and leaves in force what it said before",
  async () => {
    const directory = mkdtempSync(join(tmpdir(), "wayout-grants-"));
    afterThisTest(() => rmSync(directory, { recursive: true, force: true }));
    const path = join(directory, "grants.yaml");
    const PREFIX = "must be an address, or a prefix like 203.0.113.64/28";
    for (const [text, said] of [
      ["namespaces: { shop: [300.1.1.1] }", `namespaces.shop[0]: ${PREFIX} (line 1, column 22)`],
      [
        "namespaces:\n  shop: [203.0.113.5]\n  lab:\n  - 7",
        `namespaces.lab[0]: ${PREFIX} (line 4, column 5)`,
      ],
      ["fallback: perhaps\nnamespaces: {}", "fallback: must be drop or node (line 1, column 11)"],
      ["{}", "namespaces: is missing (line 1, column 1)"],
      [
        "namespaces: {}\nnamespace: {}",
        "namespace: unknown key; known keys are namespaces, fallback, pods (line 2, column 1)",
      ],
      ["- x", "it is no map of keys and values (line 1, column 1)"],
      ["a: [", "line 1"],
    ] as const) {
      writeFileSync(path, text);
      const refused: unknown = await GrantsFile.open(path).catch((error: unknown) => error);
      expect(refused).toMatchObject({ code: "bad-egress-grants", said: expect.stringContaining(said) });
    }
    for (const [make, said] of [
      ["mkfifo", "is no regular file"],
      ["mkdir", "is no regular file"],
    ] as const) {
      rmSync(path, { recursive: true, force: true });
      ask(undefined, [make, path]);
      const refused: unknown = await GrantsFile.open(path).catch((error: unknown) => error);
      expect(refused).toMatchObject({ code: "bad-egress-grants", said: `${path} ${said}` });
    }
    rmSync(path, { recursive: true });
    const put = (text: string): void => {
      writeFileSync(`${path}.new`, text);
      renameSync(`${path}.new`, path);
    };
    put(JSON.stringify(GRANTS));
    const file = await GrantsFile.open(path);
    expect(file.grants.isGranted("shop", EGRESS)).toBe(true);
    put("namespaces: 7");
    expect([file.grants.isGranted("shop", EGRESS), file.trouble?.includes("stays in force")]).toEqual([
      true,
      true,
    ]);
    put("namespaces: {}");
    expect([file.grants.isGranted("shop", EGRESS), file.trouble]).toEqual([false, undefined]);
  },
);

const test = testWith(["root", "nft", "openssl", "curl", "ping"]);

test("pods of a namespace leave with its address while it is on the node, and else not at all", async () => {
  const world = await ClusterWorld.make("node-a");
  const [a] = world.nodes as [ClusterNodeOfTest];
  const directory = mkdtempSync(join(tmpdir(), "wayout-grants-"));
  afterThisTest(() => rmSync(directory, { recursive: true, force: true }));
  const path = join(directory, "grants.yaml");
  writeFileSync(path, JSON.stringify(GRANTS));
  const put = (
    collection: string,
    metadata: ApiObject["metadata"],
    more: Readonly<Record<string, unknown>> = {},
  ): void => {
    const kind = collection.endsWith("pods") ? "Pod" : "Namespace";
    world.api.put(collection, { kind, ...more, metadata });
  };
  const annotate = (wish: string): void =>
    put("/api/v1/namespaces", { name: "shop", annotations: { [EGRESS_ANNOTATION]: wish } });
  annotate(`${EGRESS}, ${EGRESS6}`);
  put("/api/v1/namespaces", { name: "other" });
  world.post(a, ["10.244.1.0/24", "fd00:10:244:1::/64"]);
  ask(a.namespace, ["ip", "address", "add", `${EGRESS}/24`, "dev", "up0"]);
  ask(a.namespace, ["ip", "address", "add", `${EGRESS6}/64`, "dev", "up0", "nodad", "preferred_lft", "0"]);
  const agent = await world.agent(a, "--egress-grants", path);
  await until(() => world.conflist(a) !== undefined, "it is configured");
  const tellPod = (name: string, namespace: string, addresses: readonly string[]): void =>
    put(
      "/api/v1/pods",
      { name, namespace },
      {
        spec: { nodeName: a.name },
        status: { podIPs: addresses.map((ip) => ({ ip })) },
      },
    );
  const other = world.pod(a);
  tellPod("x", "other", other.addresses);
  const seen = (from: typeof other, family: 4 | 6) => seenAs(from.namespace, world.outside, SERVER[family]);
  expect(await seen(other, 4)).toBe(a.v4);
  // Scheduled to this node, and its address not told yet: it does not leave as the node meanwhile.
  tellPod("web", "shop", []);
  const web = world.pod(a);
  const listing = (): string => ask(a.namespace, ["nft", "list", "table", "inet", "wayout"]);
  await until(() => listing().includes("drop"), "strangers are held back");
  expect(await seen(web, 4)).toBeUndefined();
  expect(await seen(other, 4)).toBe(a.v4);
  tellPod("web", "shop", web.addresses);
  await until(() => listing().includes(EGRESS), "its address is known");
  expect([await seen(web, 4), await seen(web, 6)]).toEqual([EGRESS, EGRESS6]);
  expect([await seen(other, 4), await seen(other, 6)]).toEqual([a.v4, a.v6]);
  // To other pods it is itself.
  expect(await seenAs(web.namespace, other.namespace, other.addresses[0]!)).toBe(web.addresses[0]);
  expect(await (await fetch("http://agent/readyz", { unix: socketPath(a.namespace) })).json()).toMatchObject({
    ready: true,
  });
  // The address moves to another node.
  ask(a.namespace, ["ip", "address", "del", `${EGRESS}/24`, "dev", "up0"]);
  const message = `namespace shop: its egress address ${EGRESS} is not on this node: what its pods send outside over IPv4 is dropped`;
  await agent.says("kubernetes", { level: "warn", message });
  await until(() => !listing().includes(`${EGRESS} `) && listing().includes("drop"), "it is dropped");
  expect([await seen(web, 4), await seen(web, 6)]).toEqual([undefined, EGRESS6]);
  expect(await seen(other, 4)).toBe(a.v4);
  await until(
    () => world.api.asked.some(({ body }) => JSON.stringify(body ?? "").includes("EgressAddressUnavailable")),
    "an event says so",
  );
  const metrics = await (await fetch("http://agent/metrics", { unix: socketPath(a.namespace) })).text();
  expect(metrics).toContain("\nwayout_cluster_egress_unavailable 1\n");
  // A namespace cannot take what was not granted to it.
  ask(a.namespace, ["ip", "address", "add", "203.0.113.51/24", "dev", "up0"]);
  annotate(`203.0.113.51, ${EGRESS6}`);
  await agent.says("kubernetes", {
    level: "warn",
    message: `namespace shop: the egress address 203.0.113.51 is not granted to it: what its pods send outside over IPv4 is dropped`,
  });
  expect(await seen(web, 4)).toBeUndefined();
  // An agent that is started again while the API server is away lets nothing out as the node.
  await agent.stop();
  await world.api.stop();
  await world.agent(a, "--egress-grants", path);
  expect([await seen(web, 4), await seen(web, 6)]).toEqual([undefined, EGRESS6]);
  expect(await seen(other, 4)).toBe(a.v4);
}, 180_000);
