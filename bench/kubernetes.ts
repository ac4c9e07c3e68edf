/** How soon an agent follows its cluster: real routes of a real agent, told by an API server of the tests' own. Promises. */
import { Rtnetlink } from "../src/kernel/route/rtnetlink.ts";
import { ownRoutes } from "../src/kubernetes/route-plan.ts";
import { nodeObject, NODES } from "../test/kubernetes/api-server.ts";
import { until } from "../test/support/until.ts";
import { ClusterWorld, type ClusterNodeOfTest } from "../test/kubernetes/cluster-world.ts";
import { tearDown } from "../test/support/teardown.ts";
import { ask } from "../test/support/witness.ts";
import type { Benchmark, BenchmarkContext, Measurement } from "./benchmark.ts";

const TARGET = (of: string) => ({ ratio: 1, of });
const NEEDS = ["root", "ip", "openssl"];
const ROUNDS = 15;
const MANY = 1_000;
const MANY_ROUNDS = 5;

export const benchmarks: readonly Benchmark[] = [
  {
    name: "kubernetes/new-node",
    what: "from the API server's event about a new Node until the kernel has the route to its pods",
    target: TARGET("100 ms"),
    needs: NEEDS,
    run: (context) =>
      withAgent(async ({ world, hasRoutes }) => {
        const values: number[] = [];
        for (let round = 0; round < ROUNDS; round++) {
          const began = performance.now();
          post(world, round);
          await hasRoutes(round + 1);
          values.push(performance.now() - began);
        }
        return measured(context, values, { name: "100 ms", ms: 100 }, {});
      }),
  },
  {
    name: "kubernetes/1000-nodes",
    what: "from the first event about a thousand new Nodes until the kernel has all their routes",
    target: TARGET("1 s"),
    needs: NEEDS,
    run: async (context) => {
      const values: number[] = [];
      for (let round = 0; round < MANY_ROUNDS; round++)
        await withAgent(async ({ world, hasRoutes }) => {
          const began = performance.now();
          for (let peer = 0; peer < MANY; peer++) post(world, peer);
          await hasRoutes(MANY);
          values.push(performance.now() - began);
        });
      return measured(context, values, { name: "1 s", ms: 1000 }, { nodes: MANY });
    },
  },
];

interface Scene {
  readonly world: ClusterWorld;
  /** Resolves when so many routes to other nodes' pods are there. */
  readonly hasRoutes: (count: number) => Promise<void>;
}

/** One node with its agent, which has settled. */
async function withAgent<T>(work: (scene: Scene) => Promise<T>): Promise<T> {
  try {
    const world = await ClusterWorld.make("node-a");
    const [node] = world.nodes as [ClusterNodeOfTest];
    // Room for a thousand nodes on the node's link (RFC 2544 keeps this network for benchmarks).
    ask(node.namespace, ["ip", "address", "add", "198.18.255.1/16", "dev", "up0"]);
    world.post(node, ["10.0.0.0/24"]);
    await world.agent(node);
    await until(() => world.conflist(node) !== undefined, "it is configured");
    using route = Rtnetlink.open(node.namespace);
    const count = (): number =>
      ownRoutes(route.routes({ family: 4 })).filter(({ type }) => type === "unicast").length;
    const hasRoutes = async (wanted: number): Promise<void> => {
      while (count() < wanted) await Bun.sleep(1);
    };
    return await work({ world, hasRoutes });
  } finally {
    await tearDown();
  }
}

/** Never Ready, so that nobody waits for its answer. */
function post(world: ClusterWorld, peer: number): void {
  const number = peer + 1;
  const podCidr = `10.${number >> 8}.${number & 255}.0/24`;
  const address = `198.18.${number >> 8}.${number & 255}`;
  world.api.put(NODES, nodeObject(`peer-${peer}`, [podCidr], [address], { ready: false }));
}

function measured(
  context: BenchmarkContext,
  values: readonly number[],
  budget: { readonly name: string; readonly ms: number },
  facts: Readonly<Record<string, number>>,
): Measurement {
  const reference = context.budget(budget.name, budget.ms);
  return { unit: "ms", ours: { name: "wayout", values }, reference, facts };
}
