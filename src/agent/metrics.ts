/**
 * Figures for Prometheus. What the agent counts itself is counted as it happens; what the connection table says is read
 * by another process on request, at most every few seconds: the reconcile loop never waits for it.
 *
 * Labels are bounded: of pods, destinations and culprits the first so many have a name, and the rest are one.
 */
import { familyOf } from "../address/ip.ts";
import { Counter, Gauge, Histogram, Registry } from "prom-client";
import type { FlowSummary } from "../flows/flow-statistics.ts";
import type { ClusterFigures } from "../kubernetes/cluster-network.ts";
import { VERSION } from "../version.ts";
import type { AgentListener } from "./agent.ts";
import type { MetricsText } from "./api/view.ts";
import type { Look } from "./look/look.ts";
import type { JournalEvent } from "./journal/journal.ts";
import type { Round } from "./reconcile/reconciler.ts";

/** Pods and destinations that have lines of their own. */
export const MOST_NAMED = 50;
const MOST_CULPRITS = 20;
/** Answers of the connection table are used again for so long. */
const FRESH_MS = 5_000;

/** A link with what passed through it. */
export interface CountedLink {
  readonly index: number;
  readonly statistics?: { readonly rxBytes: number; readonly rxPackets: number };
}

/** What `wayout conntrack stats --json` says, as far as it is shown. */
export interface TableFigures extends FlowSummary {
  readonly table: { readonly entries: number; readonly maximum: number };
  readonly counters: readonly { readonly name: string; readonly value: number }[];
}

/** Counters of nf_conntrack that cost packets or connections. */
const LOSSES = ["insert_failed", "drop", "early_drop", "invalid"] as const;

/** Outgoing addresses and destinations that have no line of their own. */
const OTHERS = { protocol: "other", outgoing: "other", destination: "other" } as const;

export class AgentMetrics implements AgentListener {
  readonly #registry = new Registry();
  readonly #repairs = new Counter({
    name: "wayout_repairs_total",
    help: "Repairs, by the step that made them and by the program that had made the change.",
    labelNames: ["step", "culprit"],
    registers: [this.#registry],
  });
  readonly #failures = new Counter({
    name: "wayout_repair_failures_total",
    help: "Steps of a comparison that failed.",
    labelNames: ["step"],
    registers: [this.#registry],
  });
  readonly #reconcile = new Histogram({
    name: "wayout_reconcile_duration_seconds",
    help: "How long a comparison with the configuration took, repairs included.",
    buckets: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1],
    registers: [this.#registry],
  });
  readonly #entries = this.#gauge("wayout_conntrack_entries", "Tracked connections.");
  readonly #maximum = this.#gauge(
    "wayout_conntrack_entries_limit",
    "Size of the table (nf_conntrack_max); 0: no limit.",
  );
  readonly #lost = this.#gauge(
    "wayout_conntrack_events",
    "Counters of nf_conntrack since the node's network namespace was made, by name.",
    ["counter"],
  );
  readonly #flows = this.#gauge(
    "wayout_pod_flows",
    "Tracked connections by the pod that began them; the pods beyond the first fifty are `other`.",
    ["pod"],
  );
  readonly #egressBytes = this.#traffic("wayout_pod_egress_bytes_total", "Bytes");
  readonly #egressPackets = this.#traffic("wayout_pod_egress_packets_total", "Packets");
  readonly #headroom = this.#gauge(
    "wayout_source_ports_free",
    "Source ports left for new connections, by outgoing address and destination: the fifty fullest; those of the others, together, are `other`.",
    ["protocol", "outgoing", "destination"],
  );
  readonly #findings = this.#gauge(
    "wayout_findings",
    "Pods that have a finding, by its code, when the node was last looked at.",
    ["code"],
  );
  readonly #pods = this.#gauge(
    "wayout_pods",
    "Pods by the state of their way out at the last look: healthy, broken, or unknown (something could not be read).",
    ["state"],
  );
  readonly #lookedAt = this.#gauge("wayout_look_timestamp_seconds", "When the node was last looked at.");
  readonly #ready = this.#gauge("wayout_ready", "1 when everything is as configured.");
  readonly #nodes = this.#gauge("wayout_cluster_nodes", "Nodes of the cluster, this one included.");
  readonly #routes = this.#gauge("wayout_cluster_routes", "Prefixes of pods to which routes of ours lead.");
  readonly #withheld = this.#gauge(
    "wayout_cluster_routes_withheld",
    "Routes that are nobody's any more, and are kept for a while since too many would go at once.",
  );
  readonly #unreached = this.#gauge(
    "wayout_cluster_nodes_unreached",
    "Nodes to whose pods no route can be made.",
  );
  readonly #clusterReady = this.#gauge(
    "wayout_cluster_ready",
    "1 once a packet has passed from a pod to the node and back, and another node has answered.",
  );
  readonly #peersAnswer = this.#gauge(
    "wayout_cluster_peers_answer",
    "0 when none of the other nodes that were tried answers.",
  );
  readonly #apiHeard = this.#gauge("wayout_cluster_api_heard", "1 while the API server is heard.");
  readonly #egressUnavailable = this.#gauge(
    "wayout_cluster_egress_unavailable",
    "Reasons for which pods of this node do not leave with the address that they ask for.",
  );
  readonly #culprits = new Set<string>();
  /** Whose traffic is named; who came first keeps the name, so that counters only grow. */
  readonly #named = new Set<string>();
  #ends: Look["ends"] = [];
  #read: { readonly at: number; readonly figures: Promise<TableFigures | undefined> } | undefined;

  /** @param readTable asks the connection table; undefined when it cannot be read */
  constructor(
    private readonly readTable: () => Promise<TableFigures | undefined>,
    private readonly isReady: () => boolean,
    private readonly readLinks: () => readonly CountedLink[] = () => [],
    private readonly now: () => number = () => performance.now(),
    private readonly readCluster: () => ClusterFigures | undefined = () => undefined,
  ) {
    this.#gauge("wayout_build_info", "1, with the version that runs.", ["version"]).set(
      { version: VERSION },
      1,
    );
  }

  readonly round = ({ failures, tookMs }: Round): void => {
    this.#reconcile.observe(tookMs / 1000);
    for (const { step } of failures) this.#failures.inc({ step });
  };

  /** Repairs are counted when it is known who made them necessary. */
  readonly recorded = ({ kind, by }: JournalEvent, step = "unknown"): void => {
    if (kind === "repair") this.#repairs.inc({ step, culprit: this.#culprit(by?.process ?? "unknown") });
  };

  readonly looked = ({ verdicts, ends }: Look, at: number): void => {
    this.#ends = ends;
    this.#lookedAt.set(at / 1000);
    this.#findings.reset();
    const states = { healthy: 0, broken: 0, unknown: 0 };
    for (const { healthy, blind, findings } of verdicts) {
      states[!healthy ? "broken" : blind ? "unknown" : "healthy"]++;
      for (const code of new Set(findings.map((one) => one.code))) this.#findings.inc({ code });
    }
    for (const [state, count] of Object.entries(states)) this.#pods.set({ state }, count);
  };

  async text(): Promise<MetricsText> {
    this.#ready.set(this.isReady() ? 1 : 0);
    this.#showCluster();
    const figures = await this.#figures();
    if (figures !== undefined) this.#show(figures);
    this.#showTraffic();
    return { text: await this.#registry.metrics(), type: this.#registry.contentType };
  }

  #showCluster(): void {
    const cluster = this.readCluster();
    if (cluster === undefined) return;
    this.#nodes.set(cluster.nodes);
    this.#routes.set(cluster.routes);
    this.#withheld.set(cluster.routesWithheld);
    this.#unreached.set(cluster.nodesUnreached);
    this.#clusterReady.set(Number(cluster.ready));
    this.#peersAnswer.set(Number(cluster.peersAnswer));
    this.#apiHeard.set(Number(cluster.apiHeard));
    this.#egressUnavailable.set(cluster.egressUnavailable);
  }

  #gauge(name: string, help: string, labelNames: readonly string[] = []): Gauge {
    return new Gauge({ name, help, labelNames: [...labelNames], registers: [this.#registry] });
  }

  #traffic(name: string, what: string): Counter {
    return new Counter({
      name,
      help: `${what} that came from the pod's interfaces, whomever they were for; the pods beyond the first fifty are \`other\`.`,
      labelNames: ["pod"],
      registers: [this.#registry],
    });
  }

  #showTraffic(): void {
    const links = new Map(this.#ends.length === 0 ? [] : this.readLinks().map((link) => [link.index, link]));
    this.#egressBytes.reset();
    this.#egressPackets.reset();
    const present = new Set(this.#ends.map(({ pod }) => pod));
    for (const pod of this.#named) if (!present.has(pod)) this.#named.delete(pod);
    for (const { pod, link } of this.#ends) {
      const sent = links.get(link)?.statistics;
      if (sent === undefined) continue;
      if (this.#named.size < MOST_NAMED) this.#named.add(pod);
      const label = this.#named.has(pod) ? pod : "other";
      // What the node's end of the pair receives, the pod sent.
      this.#egressBytes.inc({ pod: label }, sent.rxBytes);
      this.#egressPackets.inc({ pod: label }, sent.rxPackets);
    }
  }

  #culprit(culprit: string): string {
    if (this.#culprits.size < MOST_CULPRITS) this.#culprits.add(culprit);
    return this.#culprits.has(culprit) ? culprit : "other";
  }

  #figures(): Promise<TableFigures | undefined> {
    const now = this.now();
    if (this.#read === undefined || now - this.#read.at > FRESH_MS)
      this.#read = { at: now, figures: this.readTable() };
    return this.#read.figures;
  }

  #show({ table, counters, sources, portUse, portUseOfOthers, flows }: TableFigures): void {
    this.#entries.set(table.entries);
    this.#maximum.set(table.maximum);
    for (const counter of LOSSES) {
      const value = counters.find(({ name }) => name.replaceAll("-", "_") === counter)?.value;
      if (value !== undefined) this.#lost.set({ counter }, value);
    }
    this.#flows.reset();
    const named = sources.filter(({ pod }) => pod !== undefined).slice(0, MOST_NAMED);
    for (const { pod = "", flows: own } of named) this.#flows.inc({ pod }, own);
    this.#flows.set({ pod: "other" }, flows - named.reduce((sum, one) => sum + one.flows, 0));
    this.#headroom.reset();
    for (const { protocol, outgoing, destination, port, used, of } of portUse) {
      const end = familyOf(destination) === 6 ? `[${destination}]:${port}` : `${destination}:${port}`;
      this.#headroom.set({ protocol, outgoing, destination: end }, Math.max(0, of - used));
    }
    if (portUseOfOthers.groups > 0) this.#headroom.set(OTHERS, portUseOfOthers.of - portUseOfOthers.used);
  }
}
