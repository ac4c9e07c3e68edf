/**
 * Nodes of a cluster as namespaces on one link, with an outside that has no way back to pods, and an API server there:
 *
 *   node a  up0 203.0.113.11 ─┐
 *   node b  up0 203.0.113.12 ─┼─ switch ── outside 203.0.113.1: API server; 198.51.100.80, 2001:db8:198::80
 *   node c  up0 203.0.113.13 ─┘
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { NetworkNamespace } from "../../src/kernel/namespace.ts";
import { RunningAgent } from "../agent/running-agent.ts";
import { call, must, networkName, pluginDirectory, type Configuration } from "../cni/plugin.ts";
import { afterThisTest } from "../support/teardown.ts";
import { ask, run } from "../support/witness.ts";
import { freshNamespace } from "../support/world.ts";
import { nodeObject, NODES, TestApiServer, type ApiObject } from "./api-server.ts";

export const SERVER = { 4: "198.51.100.80", 6: "2001:db8:198::80" } as const;

export interface ClusterNodeOfTest {
  readonly name: string;
  readonly namespace: NetworkNamespace;
  readonly network: string;
  readonly configurationDirectory: string;
  readonly v4: string;
  readonly v6: string;
}

/** The API server of a world: one of the tests' own, or the real one. */
export interface ClusterApi {
  readonly url: string;
  /** The certificate of who signed the server's. */
  readonly authority: { readonly cert: string };
  /** The user of a node's agent, as a kubeconfig has it. */
  agentUser(nodeName: string): object;
  put(collection: string, object: ApiObject): unknown;
}

export class ClusterWorld<Api extends ClusterApi = TestApiServer> {
  readonly nodes: ClusterNodeOfTest[] = [];
  readonly #directory = mkdtempSync(join(tmpdir(), "wayout-cluster-"));
  #pods = 0;

  private constructor(
    readonly api: Api,
    readonly outside: NetworkNamespace,
  ) {
    afterThisTest(() => {
      rmSync(this.#directory, { recursive: true, force: true });
      rmSync("/run/wayout", { recursive: true, force: true });
    });
  }

  static async make(...names: readonly string[]): Promise<ClusterWorld> {
    return ClusterWorld.with(
      async (outside) => {
        const api = TestApiServer.unstarted("203.0.113.1");
        await api.listen((work) => outside.run(work));
        return api;
      },
      ...names,
    );
  }

  /** @param serve starts the API server outside, at 203.0.113.1 */
  static async with<Api extends ClusterApi>(
    serve: (outside: NetworkNamespace) => Promise<Api>,
    ...names: readonly string[]
  ): Promise<ClusterWorld<Api>> {
    const outside = freshNamespace("outside");
    lines(outside, [
      "link add switch type bridge",
      "link set switch up",
      "address add 203.0.113.1/24 dev switch",
      "address add 2001:db8:113::1/64 dev switch nodad",
      `address add ${SERVER[4]}/32 dev lo`,
      `address add ${SERVER[6]}/128 dev lo`,
    ]);
    const world = new ClusterWorld(await serve(outside), outside);
    for (const name of names) world.addNode(name);
    return world;
  }

  addNode(name: string): ClusterNodeOfTest {
    const namespace = freshNamespace(name);
    const number = 11 + this.nodes.length;
    const [v4, v6] = [`203.0.113.${number}`, `2001:db8:113::${number}`];
    ask(namespace, ["sysctl", "-qw", "net.ipv6.conf.default.accept_dad=0", "net.ipv6.conf.all.accept_dad=0"]);
    const port = `to-${name}`.slice(0, 15);
    lines(this.outside, [
      `link add ${port} type veth peer name up0 netns ${namespace.name}`,
      `link set ${port} master switch up`,
    ]);
    lines(namespace, [
      `address add ${v4}/24 dev up0`,
      `address add ${v6}/64 dev up0 nodad`,
      "link set up0 up",
      "route add default via 203.0.113.1",
      "route add default via 2001:db8:113::1",
    ]);
    const configurationDirectory = join(this.#directory, name);
    const node = { name, namespace, network: networkName(), configurationDirectory, v4, v6 };
    ask(undefined, ["mkdir", configurationDirectory]);
    this.nodes.push(node);
    return node;
  }

  /** What kubelet and the controller would post of a node. */
  post(
    node: ClusterNodeOfTest,
    podCidrs: readonly string[],
    extra: Parameters<typeof nodeObject>[3] = {},
  ): void {
    this.api.put(NODES, nodeObject(node.name, podCidrs, [node.v4, node.v6], extra));
  }

  async agent(node: ClusterNodeOfTest, ...more: readonly string[]): Promise<RunningAgent> {
    return this.agentWithin([], node, ...more);
  }

  /** @param wrapper a program that starts another with less than it has itself */
  async agentWithin(
    wrapper: readonly string[],
    node: ClusterNodeOfTest,
    ...more: readonly string[]
  ): Promise<RunningAgent> {
    const kubeconfig = join(this.#directory, `${node.name}.kubeconfig`);
    writeFileSync(kubeconfig, kubeconfigText(this.api, this.api.agentUser(node.name)));
    return RunningAgent.within(
      wrapper,
      node.namespace,
      "--kubernetes",
      "--kubeconfig",
      kubeconfig,
      "--node-name",
      node.name,
      "--pod-network",
      node.network,
      "--cni-conf-dir",
      node.configurationDirectory,
      "--cni-bin-dir",
      pluginDirectory(),
      ...more,
    );
  }

  conflist(node: ClusterNodeOfTest): ConflistOfTest | undefined {
    try {
      const path = join(node.configurationDirectory, "10-wayout.conflist");
      return JSON.parse(readFileSync(path, "utf8")) as ConflistOfTest;
    } catch {
      return undefined;
    }
  }

  /** A pod as a runtime makes it: by the plugin, with what the configuration says. */
  pod(node: ClusterNodeOfTest): PodOfTest {
    const conflist = this.conflist(node);
    if (conflist === undefined) throw new Error(`${node.name} has no CNI configuration`);
    const namespace = freshNamespace("pod");
    const configuration = {
      ...conflist.plugins[0],
      name: conflist.name,
      cniVersion: conflist.cniVersion,
    } as Configuration;
    const attachment = {
      container: `pod-${process.pid}-${++this.#pods}`,
      netns: `/run/netns/${namespace.name}`,
    };
    const { ips = [] } = must(call(node.namespace, "ADD", configuration, attachment));
    afterThisTest(() => call(node.namespace, "DEL", configuration, attachment));
    return { namespace, addresses: ips.map(({ address }) => address.split("/")[0]!) };
  }
}

function lines(namespace: NetworkNamespace, commands: readonly string[]): void {
  ask(namespace, ["ip", "-batch", "-"], commands.join("\n"));
}

/** @param user as a kubeconfig has it */
export function kubeconfigText(
  { url, authority }: Pick<ClusterApi, "url" | "authority">,
  user: object,
): string {
  const authorityData = Buffer.from(authority.cert).toString("base64");
  return JSON.stringify({
    apiVersion: "v1",
    kind: "Config",
    "current-context": "test",
    contexts: [{ name: "test", context: { cluster: "test", user: "user" } }],
    clusters: [{ name: "test", cluster: { server: url, "certificate-authority-data": authorityData } }],
    users: [{ name: "user", user }],
  });
}

export interface ConflistOfTest {
  readonly name: string;
  readonly cniVersion: string;
  readonly plugins: readonly Configuration[];
}

export interface PodOfTest {
  readonly namespace: NetworkNamespace;
  /** As the result has them: the primary family first. */
  readonly addresses: readonly string[];
}

/** Our routes as `ip` tells them. */
export function routesOf({ namespace }: ClusterNodeOfTest): string[] {
  return [4, 6].flatMap((family) =>
    ask(namespace, ["ip", `-${family}`, "route", "show", "proto", "119", "table", "main"])
      .split("\n")
      .map((line) => line.replace(/ (proto 119|pref medium|onlink|linkdown)/g, "").trim())
      .filter((line) => line !== ""),
  );
}

/** As whom `to` sees `from`, of a connection to this address of its; undefined when there is none. */
export async function seenAs(
  from: NetworkNamespace,
  to: NetworkNamespace,
  address: string,
): Promise<string | undefined> {
  const server = to.run(() =>
    Bun.serve({
      hostname: address,
      port: 0,
      fetch: (request, own) => new Response(own.requestIP(request)?.address ?? ""),
    }),
  );
  try {
    const host = address.includes(":") ? `[${address}]` : address;
    const words = ["-sS", "-g", "--noproxy", "*", "--max-time", "5", `http://${host}:${server.port}/`];
    const child = from.run(() => Bun.spawn(["curl", ...words], { stdout: "pipe", stderr: "ignore" }));
    const text = await new Response(child.stdout).text();
    return (await child.exited) === 0 ? text : undefined;
  } finally {
    await server.stop(true);
  }
}

export function reaches(from: NetworkNamespace, address: string): boolean {
  return run(from, ["ping", "-c1", "-W5", address]).exitCode === 0;
}
