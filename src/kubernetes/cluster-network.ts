/** A node of a cluster as the agent keeps it: view, steps, translation and readiness put together. */
import type { DesiredNat, PolicyWish } from "../agent/desired.ts";
import type { AgentLog } from "../agent/log.ts";
import type { ReconcileStep } from "../agent/reconcile/step.ts";
import type { StepFailure } from "../agent/reconcile/reconciler.ts";
import { isIdentifier } from "../cni/call.ts";
import { WayoutError } from "../error.ts";
import type { NetworkNamespace } from "../kernel/namespace.ts";
import { Rtnetlink } from "../kernel/route/rtnetlink.ts";
import { requireNodesDirectory } from "../kernel/shared-run.ts";
import { openSysctls } from "../kernel/sysctl-mount.ts";
import { DEFAULT_BACKEND } from "../nat/backends/backends.ts";
import type { NatIntent } from "../nat/intent.ts";
import { openNat } from "../nat/open.ts";
import { checkInterfaceName } from "../network/interface-name.ts";
import type { ApiAccess } from "./access.ts";
import { PodBridgeStep } from "./bridge-step.ts";
import { Cluster } from "./cluster.ts";
import { CniStep, networkMadePath, type CniDirectories } from "./cni-step.ts";
import { NodeStatus } from "./node-status.ts";
import { EgressStep } from "./egress/egress.ts";
import type { GrantsFile } from "./egress/grants.ts";
import { KUBERNETES_OWNER, podNatIntent } from "./pod-nat.ts";
import type { PodNetwork } from "./pod-network.ts";
import { Readiness, type ReadinessState } from "./readiness.ts";
import { RouteStep } from "./route-step.ts";

export interface ClusterNetworkOptions extends CniDirectories {
  readonly access: ApiAccess;
  readonly nodeName: string;
  readonly network: string;
  readonly bridge: string;
  readonly masqueradeToNodes: boolean;
  /** Which namespaces may leave with addresses of their own; absent: none. */
  readonly egress?: GrantsFile;
  /** Key of a taint that goes when the node is ready. */
  readonly startupTaint?: string;
}

/** What of the agent it needs. */
export interface ClusterSurroundings {
  readonly node: NetworkNamespace;
  readonly log: AgentLog;
  /** Something may be to do. */
  readonly wake: () => void;
  /** What the agent could not mend. */
  readonly failures: () => readonly StepFailure[];
  /** A sentence for the history. */
  readonly note: (text: string) => void;
}

/** For metrics. */
export interface ClusterFigures {
  readonly nodes: number;
  readonly routes: number;
  readonly routesWithheld: number;
  readonly nodesUnreached: number;
  readonly ready: boolean;
  readonly peersAnswer: boolean;
  readonly apiHeard: boolean;
  /** Reasons for which pods do not leave with the address that they ask for. */
  readonly egressUnavailable: number;
}

/** What must stand before a pod may come. */
const FIRST: ReadonlySet<string> = new Set(["pod-bridge", "egress", "nat", "forwarding", "routes"]);

export class ClusterNetwork {
  readonly #cluster: Cluster;
  readonly #routes: RouteStep;
  readonly #bridge: PodBridgeStep;
  readonly #cni: CniStep;
  readonly #readiness: Readiness;
  readonly #status: NodeStatus;
  readonly #egress: EgressStep | undefined;
  #egressUnavailable: readonly string[] = [];
  /** Why the API server is not followed now, as it was told last. */
  #toldOfServer: string | undefined;
  /** Of this node as it is registered. */
  #uid: string | undefined;
  /** What our rules say from before, until the API server says more. */
  readonly #remembered: NatIntent | undefined;
  #intent: { readonly key: unknown; readonly intent: NatIntent | undefined } | undefined;
  #mtu: number | undefined;

  /** @throws WayoutError where the directories of CNI are a container's own, or a name cannot be one */
  constructor(
    private readonly options: ClusterNetworkOptions,
    private readonly around: ClusterSurroundings,
  ) {
    const { node } = around;
    checkNames(options);
    for (const directory of [options.binDirectory, options.configurationDirectory])
      requireNodesDirectory(directory, "starting the agent of a cluster");
    if (openSysctls()) around.log.write("info", "kubernetes", { message: "/proc/sys is writable here now" });
    const view = () => this.#cluster.view;
    this.#remembered = rememberedIntent(node);
    this.#routes = new RouteStep(node, view, {
      changed: ({ set, deleted }) =>
        this.#tell("info", `routes to the pods of other nodes: ${set} set, ${deleted} deleted`),
      withheld: (count, of, waitMs) => {
        const text = `${count} of ${of} routes to other nodes would go at once; they stay for ${Math.round(waitMs / 1000)} s, and go if the API server still says so then`;
        this.#warn("RoutesWithheld", text);
      },
      unreached: (problems) => {
        for (const { node: name, text } of problems) this.#tell("warn", `node ${name}: ${text}`);
      },
    });
    this.#cni = new CniStep(
      options,
      () => this.#podNetwork(),
      view,
      networkMadePath(node),
      () => this.#obstacle() ?? (this.#readiness.isChainProven ? undefined : "no packet has passed yet"),
      (path) => this.#tell("info", `the CNI configuration ${path} is written`),
    );
    this.#bridge = new PodBridgeStep(node, options.bridge, view, () => this.#cni.earlierGateways(), {
      moved: (from, to) =>
        this.#warn(
          "PodCidrChanged",
          `${options.bridge} had ${from.join(" and ")} and has ${to.join(" and ")} now, as this node's podCIDR says: pods with addresses of before are cut off; delete them`,
        ),
    });
    this.#readiness = new Readiness({
      node,
      view,
      plugin: () => this.#cni.plugin(),
      binDirectory: options.binDirectory,
      obstacle: () => this.#obstacle(),
      isRouted: ({ podCidrs }) => podCidrs.some((cidr) => this.#routes.led.destinations.has(cidr)),
      changed: (state) => this.#readinessChanged(state),
    });
    this.#cluster = new Cluster({
      access: options.access,
      nodeName: options.nodeName,
      changed: () => {
        this.#registered();
        this.#tellOfServer();
        around.wake();
      },
    });
    this.#status = new NodeStatus(this.#cluster.client, options.nodeName, (kind, message) =>
      this.#tell("info", `the ${kind} is not written: ${message}`),
    );
    if (options.egress !== undefined)
      this.#egress = new EgressStep(
        {
          node,
          nodeName: options.nodeName,
          client: this.#cluster.client,
          view,
          changed: () => around.wake(),
          unavailable: (problems) => this.#egressChanged(problems),
        },
        options.egress,
      );
    around.log.write("info", "kubernetes", { node: options.nodeName, server: options.access.server });
  }

  /** Before everything else: what rules and routes speak of. */
  get early(): readonly ReconcileStep[] {
    return [this.#bridge, ...(this.#egress === undefined ? [] : [this.#egress])];
  }

  /** Behind the rules, so that no packet takes a new route before it is known whether it is translated. */
  get late(): readonly ReconcileStep[] {
    const ready: ReconcileStep = {
      name: "readiness",
      run: () => {
        this.#readiness.changed();
        return [];
      },
    };
    return [this.#routes, this.#cni, ready];
  }

  /** What shall be translated of this node's pods. */
  nat(policy: PolicyWish | undefined): DesiredNat | undefined {
    const { view } = this.#cluster;
    const { led } = this.#routes;
    const backend = policy?.backend ?? DEFAULT_BACKEND;
    const egress = this.#egress?.plan;
    const parts = [view, led, policy?.intent, egress];
    if (this.#intent === undefined || !isSame(this.#intent.key as unknown[], parts)) {
      // Who leaves with an address of its own is not known at first: until then it is as it was.
      const isUnheard = view === undefined || (this.#egress !== undefined && egress === undefined);
      const intent =
        (isUnheard ? this.#remembered : undefined) ??
        (view === undefined ? undefined : podNatIntent(view, led, policy?.intent, this.options, egress));
      this.#intent = { key: parts, intent };
    }
    const { intent } = this.#intent;
    return intent === undefined ? undefined : { backend, intent, tellsChanges: true };
  }

  /** Why the node's network is not as the cluster wants it. */
  troubles(): StepFailure[] {
    const { ready, problem } = this.#readiness.state;
    const { doubt, view, unheard } = this.#cluster;
    // Without the API server all goes on as it was: that is told, and is no failure of the node's.
    const messages = view === undefined ? [unheard ?? doubt] : [doubt, ready ? undefined : problem];
    return messages.flatMap((message) => (message === undefined ? [] : [{ step: "kubernetes", message }]));
  }

  figures(): ClusterFigures {
    const { view, unheard } = this.#cluster;
    const { ready, reason } = this.#readiness.state;
    return {
      nodes: view === undefined ? 0 : view.peers.length + 1,
      routes: this.#routes.led.destinations.size,
      routesWithheld: this.#routes.withheld,
      nodesUnreached: new Set(this.#routes.problems.map(({ node }) => node)).size,
      ready,
      peersAnswer: reason !== "PeersSilent",
      apiHeard: unheard === undefined,
      egressUnavailable: this.#egressUnavailable.length,
    };
  }

  async stop(): Promise<void> {
    await Promise.all([
      this.#readiness.stop(),
      this.#cluster.stop(),
      this.#status.stop(),
      this.#egress?.[Symbol.asyncDispose](),
    ]);
    this.#routes[Symbol.dispose]();
    this.#bridge[Symbol.dispose]();
  }

  #obstacle(): string | undefined {
    const failure = this.around.failures().find(({ step }) => FIRST.has(step));
    return failure === undefined ? undefined : `${failure.step}: ${failure.message}`;
  }

  /** Of a Node that was registered anew nothing is known that was written to the one before; kubelet gave it its taints. */
  #registered(): void {
    const uid = this.#cluster.view?.own.uid;
    const before = this.#uid;
    this.#uid = uid;
    if (before === undefined || uid === before) return;
    this.#tell("info", "this node was registered anew");
    this.#announce(this.#readiness.state);
  }

  /** Once when the API server is not heard or not believed, whatever the reason becomes meanwhile, and once when it is again. */
  #tellOfServer(): void {
    const { unheard, doubt } = this.#cluster;
    const why = unheard === undefined ? doubt : "the API server is not heard";
    if (why === this.#toldOfServer) return;
    this.#toldOfServer = why;
    if (why === undefined) this.#tell("info", "the API server is heard, and its list of nodes is followed");
    else this.#tell("warn", unheard === undefined ? why : `${why}: ${unheard}; all stays as it was`);
  }

  #readinessChanged(state: ReadinessState): void {
    const { problem } = state;
    this.#tell(
      problem === undefined ? "info" : "warn",
      problem ?? "this node's pods reach it, and other nodes answer",
    );
    this.#announce(state);
    this.around.wake();
  }

  #announce({ ready, problem, reason }: ReadinessState): void {
    const message = problem ?? "a packet passed from a pod to the node and back in each family";
    this.#status.condition({ isTrue: problem === undefined, reason, message });
    if (problem !== undefined && ready) this.#event("Warning", reason, problem);
    if (ready && this.options.startupTaint !== undefined) this.#status.removeTaint(this.options.startupTaint);
  }

  #egressChanged(problems: readonly string[]): void {
    for (const problem of problems.filter((one) => !this.#egressUnavailable.includes(one)))
      this.#tell("warn", problem);
    if (problems.length === 0) this.#tell("info", "all pods leave with the addresses that they ask for");
    else this.#event("Warning", "EgressAddressUnavailable", problems.join("; "));
    this.#egressUnavailable = problems;
  }

  #podNetwork(): PodNetwork {
    const { network, bridge } = this.options;
    this.#mtu = uplinkMtu(this.around.node, this.#cluster.view?.own.addresses ?? []) ?? this.#mtu;
    return { network, bridge, mtu: this.#mtu };
  }

  #warn(reason: string, message: string): void {
    this.#tell("warn", message);
    this.#event("Warning", reason, message);
  }

  #event(type: "Normal" | "Warning", reason: string, message: string): void {
    const uid = this.#cluster.view?.own.uid;
    if (uid !== undefined) this.#status.event({ type, reason, message }, uid);
  }

  #tell(level: "info" | "warn", message: string): void {
    this.around.log.write(level, "kubernetes", { message });
    this.around.note(message);
  }
}

/** What can never be is told at the start, not whenever a step fails on it. */
function checkNames({ nodeName, network, bridge, startupTaint }: ClusterNetworkOptions): void {
  const doing = "starting the agent of a cluster";
  checkInterfaceName(bridge, `${doing}: reading --pod-bridge`);
  const wrong = !isIdentifier(network)
    ? `--pod-network "${network}" is no network name: letters, digits and _ . -`
    : nodeName === ""
      ? "--node-name is empty: give the name that kubectl get nodes shows"
      : startupTaint === ""
        ? "--startup-taint is empty: give the key of the taint that kubelet registers the node with"
        : undefined;
  if (wrong !== undefined) throw new WayoutError({ code: "usage", kind: "usage", doing, said: wrong });
}

/** The rules of an earlier run of this agent: kept true while the API server is away. */
function rememberedIntent(node: NetworkNamespace): NatIntent | undefined {
  try {
    using nat = openNat(DEFAULT_BACKEND, node);
    return nat.intents().find(({ owner }) => owner === KUBERNETES_OWNER);
  } catch {
    // The step that writes them says what this machine lacks.
    return undefined;
  }
}

/** Of the link on which the node has its address: pods must not send larger packets to other nodes. */
function uplinkMtu(node: NetworkNamespace, addresses: readonly string[]): number | undefined {
  using route = Rtnetlink.open(node);
  const index = route.addresses().find(({ address }) => addresses.includes(address))?.interface;
  return index === undefined ? undefined : route.linkState(index)?.mtu;
}

function isSame(a: readonly unknown[], b: readonly unknown[]): boolean {
  return a.length === b.length && a.every((one, index) => one === b[index]);
}
