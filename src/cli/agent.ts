import { logLine } from "./output.ts";
import { Command, Option } from "commander";
import { agentLog, type LogFormat } from "../agent/log.ts";
import { JOURNAL_PATH } from "../agent/journal/path.ts";
import { AgentService, parseListen, type ServiceOptions } from "../agent/service.ts";
import { DEFAULT_BIN_DIRECTORY, DEFAULT_CONFIGURATION_DIRECTORY } from "../naming/cni-places.ts";
import type { PolicyPlace } from "../agent/policy-source.ts";
import { WayoutError } from "../error.ts";
import { TOKEN_PATH } from "../agent/token.ts";
import { agentStatusCommand } from "./agent-status.ts";
import { Interruption } from "./interruption.ts";
import { openNamespace } from "../pods/open-namespace.ts";
import { present } from "../present.ts";

const HELP = `
It listens to the kernel, and puts back what other programs took away: our rules after a flush, forwarding that was switched off, the
bridge of attached namespaces with its address and ports.
While it runs, a flush of the ruleset cuts no translated connection (Linux 5.12 and later). Rules of other products stay as
they are. It ends with SIGTERM or Ctrl-C; rules and pods stay then,
but for the policy's own with --cleanup-on-exit.

It answers questions (docs/openapi.json) over a socket under /run/wayout/agent, which is root's alone, and with --listen over
HTTP: to peers on this machine that show the token.

Examples:
  sudo wayout agent                        in the foreground, one JSON line an event on stderr
  sudo wayout agent --log-format text      the same for people
  sudo wayout agent --config policy.yaml   and a policy of your own, read again when the file changes
  sudo wayout agent --ip-masq-agent-config /etc/config/ip-masq-agent --source 10.244.1.0/24
  sudo wayout agent --listen :7070         answer over HTTP on loopback as well
  sudo wayout agent --kubernetes --kubeconfig /etc/kubernetes/kubelet.conf      a node of a cluster without overlay
  sudo wayout agent status                 how it is: its policy, what it cannot mend, its last repairs
  sudo wayout history                      what it saw and did`;

interface AgentCommandOptions {
  readonly config?: string;
  readonly ipMasqAgentConfig?: string;
  readonly azureConfigDir?: string;
  readonly source: readonly string[];
  readonly journal: string;
  readonly listen?: string;
  readonly host: readonly string[];
  readonly remote?: true;
  readonly look: boolean;
  readonly cleanupOnExit?: true;
  readonly tokenFile: string;
  readonly logFormat: LogFormat;
  readonly kubernetes?: true;
  readonly kubeconfig?: string;
  readonly context?: string;
  readonly apiServer?: string;
  readonly nodeName?: string;
  readonly podNetwork: string;
  readonly podBridge: string;
  readonly cniBinDir: string;
  readonly cniConfDir: string;
  readonly masqueradeToNodes?: true;
  readonly egressGrants?: string;
  readonly startupTaint?: string;
  readonly netns?: string;
}

/** `wayout agent`. */
export function agentCommand(): Command {
  return new Command("agent")
    .description("keeps the way out of this node's pods in place for as long as it runs")
    .option("--netns <netns|path>", "the network namespace to take as the node; default: the current one")
    .addOption(
      new Option("--config <file>", "the policy: YAML or JSON, see examples/nat-policy.yaml").conflicts([
        "ipMasqAgentConfig",
        "azureConfigDir",
      ]),
    )
    .addOption(
      new Option("--ip-masq-agent-config <file>", "the same as a file of ip-masq-agent").conflicts(
        "azureConfigDir",
      ),
    )
    .option("--azure-config-dir <directory>", "the same as the files of Azure's ip-masq-agent-v2")
    .option("--source <cidr...>", "the sources for the last two, whose files name none", [])
    .option("--journal <file>", "where to remember what changed; none: nowhere", JOURNAL_PATH)
    .option("--no-look", "do not look at every pod after changes: no findings in history and metrics")
    .option("--cleanup-on-exit", "take the policy's rules and open doors away when it ends in order")
    .option("--listen <address:port>", "answer over HTTP as well: 127.0.0.1:7070; clients need the token")
    .option("--host <name...>", "a Host name that it answers to over HTTP, besides localhost", [])
    .option("--remote", "answer peers beyond this machine")
    .option("--token-file <file>", "the token; made when it is not there", TOKEN_PATH)
    .addOption(
      new Option("--log-format <format>", "one line an event").choices(["json", "text"]).default("json"),
    )
    .option("--kubernetes", "this node is one of a cluster: its pods' bridge, routes to other nodes, CNI")
    .option("--kubeconfig <file>", "how to reach the API server; default: the account of the pod it runs in")
    .option("--context <name>", "the context of the kubeconfig; default: its current one")
    .option("--api-server <url>", "its own address, where the service's needs kube-proxy first")
    .option("--node-name <name>", "this node's name in the cluster; default: $NODE_NAME, or the host's")
    .option("--pod-network <name>", "the CNI network's name", "wayout")
    .option("--pod-bridge <name>", "its bridge", "cni0")
    .option("--cni-bin-dir <directory>", "where runtimes look for plugins", DEFAULT_BIN_DIRECTORY)
    .option("--cni-conf-dir <directory>", "where they look for networks", DEFAULT_CONFIGURATION_DIRECTORY)
    .option("--masquerade-to-nodes", "other nodes see the node instead of the pod")
    .option("--egress-grants <file>", "which namespaces may leave with which addresses of their own")
    .option("--startup-taint <key>", "a taint of this node that goes when its network is ready")
    .addHelpText("after", HELP)
    .enablePositionalOptions()
    .addCommand(agentStatusCommand())
    .action(async (options: AgentCommandOptions) => {
      using stop = new Interruption();
      using node = openNamespace(options.netns);
      const log = agentLog(options.logFormat, logLine);
      const service = await AgentService.start({
        node,
        log,
        journal: options.journal === "none" ? undefined : options.journal,
        looks: options.look,
        cleanup: options.cleanupOnExit === true,
        tokenPath: options.tokenFile,
        hosts: options.host,
        remotePeers: options.remote === true,
        ...policyPlace(options),
        ...(await clusterPart(options)),
        ...present({ listen: options.listen === undefined ? undefined : parseListen(options.listen) }),
      });
      await new Promise((resolve) => stop.signal.addEventListener("abort", resolve, { once: true }));
      await service.stop();
    });
}

/** Nothing of kubernetes/ is loaded without --kubernetes. @throws WayoutError `no-api-access`, `usage` */
async function clusterPart(options: AgentCommandOptions): Promise<Pick<ServiceOptions, "cluster">> {
  const { kubeconfig, context, apiServer } = options;
  if (options.kubernetes !== true) {
    const { nodeName, startupTaint, egressGrants } = options;
    const named = [kubeconfig, context, apiServer, nodeName, startupTaint, egressGrants];
    if (named.every((one) => one === undefined)) return {};
    throw new WayoutError({
      code: "usage",
      kind: "usage",
      doing: "starting the agent",
      said: "options of a cluster are given without --kubernetes",
    });
  }
  const { ClusterNetwork } = await import("../kubernetes/cluster-network.ts");
  const { defaultNodeName } = await import("../kubernetes/cluster.ts");
  const access =
    kubeconfig === undefined
      ? (await import("../kubernetes/access.ts")).inClusterAccess(apiServer)
      : await (
          await import("../kubernetes/kubeconfig.ts")
        ).kubeconfigAccess(kubeconfig, { context, server: apiServer });
  const part = present({
    access,
    nodeName: options.nodeName ?? defaultNodeName(),
    network: options.podNetwork,
    bridge: options.podBridge,
    binDirectory: options.cniBinDir,
    configurationDirectory: options.cniConfDir,
    masqueradeToNodes: options.masqueradeToNodes === true,
    egress:
      options.egressGrants === undefined
        ? undefined
        : await (await import("../kubernetes/egress/grants.ts")).GrantsFile.open(options.egressGrants),
    startupTaint: options.startupTaint,
  });
  return { cluster: (around) => new ClusterNetwork(part, around) };
}

/** @throws WayoutError `no-source` */
function policyPlace(options: AgentCommandOptions): { readonly policy?: PolicyPlace } {
  const { config, ipMasqAgentConfig, azureConfigDir, source } = options;
  if (config !== undefined) return { policy: { dialect: "wayout", path: config } };
  const path = ipMasqAgentConfig ?? azureConfigDir;
  if (path === undefined) return {};
  // In a cluster its own pods are meant.
  if (source.length === 0 && options.kubernetes !== true) {
    throw new WayoutError({
      code: "no-source",
      kind: "usage",
      doing: `reading ${path}`,
      said: "such a file does not say whose packets are translated; its own agent takes all that leaves the node, the node's own included",
      todo: "Name this node's pods: --source 10.244.1.0/24. For all of it: --source 0.0.0.0/0.",
    });
  }
  const dialect = ipMasqAgentConfig === undefined ? "azure-v2" : "ip-masq-agent";
  return { policy: { dialect, path, sources: source } };
}
