/** The agent, and what we ship for a cluster, before a real kube-apiserver with etcd. */
import { expect } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { parseAllDocuments } from "yaml";
import { helmProgram } from "../../scripts/kubernetes-server.ts";
import { until } from "../support/until.ts";
import { ask } from "../support/witness.ts";
import { nodeObject, NODES } from "./api-server.ts";
import { ClusterWorld, routesOf, seenAs, SERVER, type ClusterNodeOfTest } from "./cluster-world.ts";
import { RealApiServer, testWithServer } from "./real-server.ts";

const test = testWithServer();
const TIMEOUT_MS = 300_000;
const DEPLOY = join(import.meta.dir, "..", "..", "deploy");
/** What this server is too old for: AppArmor as a field came with 1.30, so did admission by expressions. */
const NEWER_FIELD = "appArmorProfile";
const NEWER_KIND = "ValidatingAdmissionPolicy";

interface Manifest {
  readonly kind: string;
}

function manifests(text: string): Manifest[] {
  return parseAllDocuments(text).flatMap((document) => (document.toJS() as Manifest | null) ?? []);
}

/** What the server's own schema says against them; nothing but what it is too old for. */
function apply(api: RealApiServer, all: readonly Manifest[], ...words: readonly string[]): string[] {
  const known = all.filter(({ kind }) => !kind.startsWith(NEWER_KIND));
  return known.flatMap((manifest) => {
    const told = api.given(JSON.stringify(manifest), "apply", ...words, "-f", "-");
    if (told.exitCode === 0) return [];
    const older = JSON.parse(
      JSON.stringify(manifest, (key, value: unknown) => (key === NEWER_FIELD ? undefined : value)),
    ) as Manifest;
    const again = api.given(JSON.stringify(older), "apply", ...words, "-f", "-");
    return [`${manifest.kind}: ${again.exitCode === 0 ? told.stderr : again.stderr}`];
  });
}

function rendered(folder: string): Manifest[] {
  return manifests(ask(undefined, ["kubectl", "kustomize", join(DEPLOY, folder)]));
}

function roles(): Manifest[] {
  return ["role-status", "role-events", "role-taint"].flatMap((name) =>
    manifests(readFileSync(join(DEPLOY, "kubernetes", `${name}.yaml`), "utf8")),
  );
}

/** The API server with what docs/kubernetes.md says to apply. */
async function installed(outside: Parameters<typeof RealApiServer.start>[0]): Promise<RealApiServer> {
  const api = await RealApiServer.start(outside);
  apply(api, [...rendered("kubernetes"), ...roles()]);
  return api;
}

test(
  "the server takes every manifest and the chart, and knows every field but one that is newer than it",
  async () => {
    const { api } = await ClusterWorld.with((outside) => RealApiServer.start(outside));
    const field = `ValidationError(DaemonSet.spec.template.spec.containers[0].securityContext): unknown field "${NEWER_FIELD}" in io.k8s.api.core.v1.SecurityContext`;
    for (const folder of ["kubernetes", "doctor-only"]) {
      const all = rendered(folder);
      // Their namespace first: without it nothing in it can be tried.
      apply(
        api,
        all.filter(({ kind }) => kind === "Namespace"),
      );
      const told = apply(api, all, "--dry-run=server");
      expect(told.map((line) => line.includes(field))).toEqual(told.map(() => true));
      expect(told.length).toBeLessThanOrEqual(1);
      expect(apply(api, all).length).toBe(told.length);
    }
    expect(apply(api, roles())).toEqual([]);
    // The server's own word on who may do what.
    const may = (verb: string, what: string): boolean =>
      api.try("auth", "can-i", verb, what, "--as", "system:serviceaccount:wayout:wayout").exitCode === 0;
    expect(
      ["list nodes", "patch nodes/status", "delete nodes", "list pods", "get secrets"].filter((one) => {
        const [verb, what] = one.split(" ");
        return may(verb!, what!);
      }),
    ).toEqual(["list nodes", "patch nodes/status"]);
    const helm = helmProgram();
    if (typeof helm === "string") return console.log(`the chart is not rendered: ${helm}`);
    const values = [
      "--set",
      "roles.status=true,roles.events=true,roles.taint=true,image.repository=r,image.tag=v1",
    ];
    const chart = manifests(
      ask(undefined, [
        helm.helm,
        "template",
        "wayout",
        join(DEPLOY, "helm", "wayout"),
        "-n",
        "wayout",
        ...values,
      ]),
    );
    expect(chart.map(({ kind }) => kind)).toContain(NEWER_KIND);
    const told = apply(api, chart, "--dry-run=server");
    expect(told.map((line) => line.includes(field))).toEqual([true]);
    // The schema of the values is helm's to hold.
    const wrong = Bun.spawnSync([helm.helm, "template", join(DEPLOY, "helm", "wayout"), "--set", "roles=7"]);
    expect([wrong.exitCode, wrong.stderr.toString()]).toEqual([1, expect.stringContaining("roles")]);
  },
  TIMEOUT_MS,
);

interface NodeAsStored {
  readonly spec: { readonly taints?: readonly { readonly key: string }[] };
  readonly status: { readonly conditions: readonly { readonly type: string; readonly status: string }[] };
}

test(
  "agents with the account of the manifests: pods reach pods, the outside sees the node, a node comes back with another podCIDR",
  async () => {
    const world = await ClusterWorld.with(installed, "node-a", "node-b", "node-c");
    const { api } = world;
    const [a, b, c] = world.nodes as [ClusterNodeOfTest, ClusterNodeOfTest, ClusterNodeOfTest];
    const podCidrs = (number: number): string[] => [`10.244.${number}.0/24`, `fd00:10:244:${number}::/64`];
    const taints = [{ key: "wayout.dev/starting", effect: "NoSchedule" }];
    for (const [index, node] of world.nodes.entries()) world.post(node, podCidrs(index + 1), { taints });
    const start = (node: ClusterNodeOfTest) => world.agent(node, "--startup-taint", "wayout.dev/starting");
    const agents = [await start(a), await start(b), await start(c)];
    await until(() => world.nodes.every((node) => world.conflist(node) !== undefined), "all are configured");
    const [left, right] = [world.pod(a), world.pod(b)];
    for (const family of [0, 1]) {
      expect(await seenAs(left.namespace, right.namespace, right.addresses[family]!)).toBe(
        left.addresses[family],
      );
      const server = family === 0 ? SERVER[4] : SERVER[6];
      expect(await seenAs(left.namespace, world.outside, server)).toBe(family === 0 ? a.v4 : a.v6);
    }
    const stored = (node: ClusterNodeOfTest): NodeAsStored => api.json("get", "node", node.name);
    const isTold = (node: ClusterNodeOfTest): boolean =>
      stored(node).status.conditions.some(({ type, status }) => type === "WayoutReady" && status === "True");
    await until(() => world.nodes.every(isTold), "the server has the condition of each", 60_000);
    await until(
      () =>
        world.nodes.every(
          (node) => stored(node).spec.taints?.some(({ key }) => key.startsWith("wayout")) !== true,
        ),
      "the start-up taint is gone",
    );
    // kubelet's own conditions stay.
    expect(stored(a).status.conditions.map(({ type }) => type)).toContain("Ready");
    // Deleted, and registered again with other podCIDRs.
    api.kubectl("delete", "node", c.name);
    await until(() => routesOf(a).length === 4, "c's routes are gone");
    world.post(c, podCidrs(9));
    await until(() => routesOf(a).some((line) => line.startsWith("10.244.9.0/24")), "a knows c's new pods");
    await until(() => JSON.stringify(world.conflist(c)).includes("10.244.9.0/24"), "c is configured anew");
    const moved = world.pod(c);
    expect(await seenAs(left.namespace, moved.namespace, moved.addresses[0]!)).toBe(left.addresses[0]);
    const events = (): string => api.kubectl("get", "events", "-o", "custom-columns=r:.reason,m:.message");
    await until(() => events().includes("PodCidrChanged"), "the event is stored");
    // An agent that was away while the cluster changed.
    expect(await agents[0]!.stop("SIGKILL")).not.toBe(0);
    api.kubectl("delete", "node", c.name);
    world.post(c, podCidrs(10));
    await start(a);
    await until(
      () =>
        routesOf(a).some((line) => line.startsWith("10.244.10.0/24")) &&
        !routesOf(a).some((line) => line.startsWith("10.244.9.0/24")),
      "a has followed what it missed",
    );
    expect(await seenAs(left.namespace, right.namespace, right.addresses[0]!)).toBe(left.addresses[0]);
  },
  TIMEOUT_MS,
);

test(
  "the server dies and comes back: what changed meanwhile is followed, and nothing is deleted in between",
  async () => {
    const world = await ClusterWorld.with(installed, "node-a");
    const { api } = world;
    const [a] = world.nodes as [ClusterNodeOfTest];
    world.post(a, ["10.244.1.0/24"]);
    const peer = (number: number, address: number): void =>
      api.put(
        NODES,
        nodeObject(`peer-${number}`, [`10.244.${number}.0/24`], [`203.0.113.${address}`], { ready: false }),
      );
    for (const number of [2, 3, 4]) peer(number, 100 + number);
    await world.agent(a);
    await until(() => routesOf(a).length === 4, "the routes stand");
    const before = routesOf(a);
    await api.kill();
    ask(a.namespace, ["ip", "route", "flush", "proto", "119"]);
    await until(() => routesOf(a).join() === before.join(), "they are back without the server");
    await api.begin();
    peer(3, 203);
    api.kubectl("delete", "node", "peer-4");
    peer(5, 105);
    const after = before.flatMap((line) =>
      line.startsWith("10.244.3.")
        ? [line.replace(".103", ".203")]
        : line.startsWith("10.244.4.")
          ? [line.replace("10.244.4.", "10.244.5.").replace(".104", ".105")]
          : [line],
    );
    await until(() => routesOf(a).join() === after.join(), "the changes are followed", 90_000);
  },
  TIMEOUT_MS,
);
