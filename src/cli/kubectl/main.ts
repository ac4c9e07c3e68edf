/**
 * `kubectl wayout`: the questions that a person asks on a node, asked from where kubectl runs. It finds the node of the
 * pod, and on that node the pod that holds this program, and runs the same command there: what is printed is what the
 * node prints. A file or a link called `kubectl-wayout` on the PATH is enough.
 */
import { Command, type Option } from "commander";
import { WayoutError } from "../../error.ts";
import { Cluster, targetOf, type ClusterOptions, type ClusterPod, type Target } from "./cluster.ts";
import { showNodes } from "./nodes.ts";

const HELP = `
A POD is NAMESPACE/POD, or POD in the namespace of --namespace or of the context; node/NAME asks about a whole node.
Everything else is as on the node: 'wayout doctor --help' and so on say more. It needs wayout's pods on the nodes
(deploy/), and the right to list pods and to 'exec' into those: who has that is root on the nodes.

Examples:
  kubectl wayout doctor shop/web-1 --to api.github.com   why can it not reach that?
  kubectl wayout trace shop/web-1 198.51.100.80:443      the nine steps of one real packet
  kubectl wayout flows shop/web-1 --state ESTABLISHED    its connections, as what the outside sees them
  kubectl wayout history node/worker-1 --since 14:00     what changed on that node
  kubectl wayout nodes                                   which nodes give their pods a way out`;

/** One of ours, and what it is on the node. */
interface Remote {
  readonly name: string;
  readonly load: () => Promise<Command>;
  /** The words before the options. @param pod undefined for the whole node */
  readonly words: (pod: string | undefined, rest: readonly string[]) => string[];
  /** Options that name a file or a namespace of the node, which a person elsewhere does not have. */
  readonly without: readonly string[];
}

const REMOTES: readonly Remote[] = [
  {
    name: "doctor",
    load: async () => (await import("../doctor.ts")).doctorCommand(),
    words: (pod) => ["doctor", ...(pod === undefined ? [] : [pod])],
    without: ["--snapshot", "--node", "--journal"],
  },
  {
    name: "trace",
    load: async () => (await import("../trace.ts")).traceCommand(),
    words: (pod, rest) => {
      if (pod === undefined) throw wrongUsage("a trace needs a pod that sends: NAMESPACE/POD DESTINATION");
      return ["trace", pod, ...rest];
    },
    without: ["--pcap", "--html"],
  },
  {
    name: "flows",
    load: async () => (await import("../conntrack-list.ts")).conntrackListCommand(),
    words: (pod) => ["conntrack", "list", ...(pod === undefined ? [] : [`--pod=${pod}`])],
    without: ["--netns", "--pod"],
  },
  {
    name: "history",
    load: async () => (await import("../history.ts")).historyCommand(),
    words: (pod) => ["history", ...(pod === undefined ? [] : [pod])],
    without: ["--journal"],
  },
];

/** `wayout kubectl`, which is `kubectl wayout`. */
export async function kubectlCommand(): Promise<Command> {
  const family = new Command("kubectl")
    .description("the same questions about pods of a cluster, asked through kubectl (as `kubectl wayout`)")
    .addHelpText("after", HELP);
  for (const remote of REMOTES) family.addCommand(await remoteCommand(remote));
  family.addCommand(
    withCluster(new Command("nodes"))
      .description("the nodes of the cluster: wayout's pod there, and whether its way out stands")
      .option("--json", "one JSON value")
      .action(async (options: ClusterOptions & { readonly json?: true }) =>
        showNodes(new Cluster(options), options.json === true),
      ),
  );
  return family;
}

/** The node's own command with its own options, run over there. */
async function remoteCommand(remote: Remote): Promise<Command> {
  const there = await remote.load();
  const command = new Command(remote.name).description(there.description());
  command.argument("<pod>", "NAMESPACE/POD, POD or node/NAME");
  if (remote.name === "trace") command.argument("[destination]", "where the packet is sent to");
  const shared = there.options.filter(({ long }) => !remote.without.includes(long ?? ""));
  for (const option of shared) command.addOption(option);
  return withCluster(command).action(async () => {
    const [named = "", ...rest] = command.args;
    const cluster = new Cluster(command.opts<ClusterOptions>());
    const { agent, pod } = await placeOf(cluster, targetOf(named));
    const args = [...remote.words(pod, rest), ...shared.flatMap((option) => asGiven(command, option))];
    process.exitCode = await cluster.run(agent, args, isTerminal(command));
  });
}

function withCluster(command: Command): Command {
  return command
    .option("-n, --namespace <namespace>", "the namespace of the pod")
    .option("--context <context>", "kubectl's: which cluster, and as whom")
    .option("--kubeconfig <file>", "kubectl's: where that stands")
    .option(
      "--agent-namespace <namespace>",
      "where wayout's pods are; default: looked for in all namespaces",
    );
}

/** The pod of ours on the node in question, and the other pod by the name that the node knows it by. */
async function placeOf(
  cluster: Cluster,
  target: Target,
): Promise<{ readonly agent: ClusterPod; readonly pod: string | undefined }> {
  if ("node" in target) return { agent: await cluster.agentOn(target.node), pod: undefined };
  const { metadata, spec, status } = await cluster.pod(target);
  const name = `${metadata.namespace}/${metadata.name}`;
  if (spec.nodeName === undefined) {
    throw new WayoutError({
      code: "pod-without-node",
      kind: "broken",
      doing: `looking for the node of pod ${name}`,
      said: `it is on no node yet (${status.phase})`,
      todo: `See why: kubectl describe pod --namespace=${metadata.namespace} ${metadata.name}`,
    });
  }
  return { agent: await cluster.agentOn(spec.nodeName), pod: name };
}

/** An option as the person gave it, in the form that no value can change: one word each. */
function asGiven(command: Command, option: Option): string[] {
  const attribute = option.attributeName();
  if (command.getOptionValueSource(attribute) !== "cli") return [];
  const value: unknown = command.getOptionValue(attribute);
  const flag = option.long ?? option.short!;
  if (typeof value === "boolean") return value === !option.negate ? [flag] : [];
  const values: readonly unknown[] = Array.isArray(value) ? value : [value];
  return values.map((one) => `${flag}=${String(one)}`);
}

/** Whether a person sits there: then questions are asked, colours shown and Ctrl-C reaches the node. */
function isTerminal(command: Command): boolean {
  return process.stdin.isTTY && process.stdout.isTTY && command.getOptionValue("json") !== true;
}

function wrongUsage(said: string): WayoutError {
  return new WayoutError({ code: "usage", kind: "usage", doing: "reading the command line", said });
}
