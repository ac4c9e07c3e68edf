/** `kubectl wayout nodes`: what each node says of its way out, by what stands in the cluster. */
import { CONDITION } from "../../kubernetes/node-status.ts";
import { printJson, tell } from "../output.ts";
import { style, table } from "../style.ts";
import { isReady, type Cluster, type ClusterNode, type ClusterPod } from "./cluster.ts";
import { present } from "../../present.ts";

interface NodeState {
  readonly name: string;
  readonly podCidrs: readonly string[];
  /** NAMESPACE/POD; absent where none of ours runs. */
  readonly agent?: string;
  readonly agentReady: boolean;
  /** What the agent says of the node; absent when it says nothing (no such right, or it only answers questions). */
  readonly wayOut?: { readonly stands: boolean; readonly text: string; readonly since?: string };
}

/** Prints them. Sets exit code 1 when a node has no agent that is ready, or says that its way out does not stand. */
export async function showNodes(cluster: Cluster, json: boolean): Promise<void> {
  const [askedNodes, askedAgents] = [cluster.nodes(), cluster.agents()];
  // When both are refused the first is told, whichever answer came first.
  await Promise.allSettled([askedNodes, askedAgents]);
  const nodes = await askedNodes;
  const agents = await askedAgents;
  const states = nodes.map((node) => stateOf(node, agents));
  if (json) printJson({ nodes: states });
  else tell(nodesText, states);
  if (states.some((state) => problemOf(state) !== undefined)) process.exitCode = 1;
}

function stateOf({ metadata, spec, status }: ClusterNode, agents: readonly ClusterPod[]): NodeState {
  const here = agents.filter((agent) => agent.spec.nodeName === metadata.name);
  const agent = here.find(isReady) ?? here[0];
  const said = status.conditions?.find(({ type }) => type === CONDITION);
  return present({
    name: metadata.name,
    podCidrs: spec.podCIDRs ?? (spec.podCIDR === undefined ? [] : [spec.podCIDR]),
    agent: agent === undefined ? undefined : `${agent.metadata.namespace}/${agent.metadata.name}`,
    agentReady: agent !== undefined && isReady(agent),
    wayOut:
      said === undefined
        ? undefined
        : present({
            stands: said.status === "True",
            text: said.message,
            since: said.lastTransitionTime,
          }),
  });
}

function problemOf({ agent, agentReady, wayOut }: NodeState): string | undefined {
  if (agent === undefined) return "no pod of wayout";
  if (wayOut?.stands === false) return wayOut.text === "" ? "its way out does not stand" : wayOut.text;
  return agentReady ? undefined : "wayout's pod is not ready";
}

function nodesText(states: readonly NodeState[]): string {
  if (states.length === 0) return "The cluster has no node.\n";
  const head = ["node", "pods' addresses", "wayout", "way out"].map(style.quiet);
  return `${table([head, ...states.map(rowOf)])}\n`;
}

function rowOf(state: NodeState): string[] {
  const problem = problemOf(state);
  const { name, podCidrs, agent, wayOut } = state;
  const fine = wayOut === undefined ? style.quiet("? not said") : style.good("✓ stands");
  return [
    style.strong(name),
    podCidrs.length === 0 ? style.quiet("none yet") : style.address(podCidrs.join(" ")),
    agent ?? style.quiet("–"),
    problem === undefined ? fine : style.bad(`✗ ${problem}`),
  ];
}
