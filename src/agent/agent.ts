/**
 * Room `agent/`: the agent of one node: it knows what is configured, hears of every change, and puts back what other
 * programs took away.
 *
 *     kernel ── NodeEvents ──► Reconciler ──► steps (nat, forwarding, …) ──► kernel
 *                  │                │
 *                  └── who did it ──┴──► listeners: log, journal, metrics, API
 *
 * In: events of the kernel; the policy's file; records of attach and the plugin; requests over its socket and HTTP.
 * Out: repairs, each with the program that made them necessary; the journal; answers; metrics.
 * Touches: our rules, forwarding, bridges of attached namespaces; /var/lib/wayout, /run/wayout/agent. Rules of others:
 *   never, but what the policy's `admit` lets room admission/ add to them.
 */
import { FileLock, lockHolder } from "../kernel/file-lock.ts";
import { removeIfEmpty } from "../kernel/file.ts";
import type { NetworkNamespace } from "../kernel/namespace.ts";
import { lockFailure } from "../kernel/own-place.ts";
import { runDirectory } from "../kernel/run-directory.ts";
import { requireSharedRun } from "../kernel/shared-run.ts";
import { ADMISSION_DOORS } from "../admission/doors.ts";
import { NftablesTwin } from "../nat/backends/nftables/twin.ts";
import { WayoutError } from "../error.ts";
import { DesiredSource, type Desired, type DesiredNat, type PolicyWish } from "./desired.ts";
import type { AgentLog } from "./log.ts";
import { FastPathKeeper } from "./fast-path.ts";
import { NodeEvents, type NodeEvent } from "./node-events.ts";
import { AdmissionStep } from "./reconcile/admission-step.ts";
import { BridgeStep } from "./reconcile/bridge-step.ts";
import { ForwardingStep } from "./reconcile/forwarding-step.ts";
import { NatStep } from "./reconcile/nat-step.ts";
import { agentDirectory } from "./socket.ts";
import { Unannounced } from "./unannounced.ts";
import type { AgentState } from "./api/view.ts";
import type { ReconcileStep, Repair } from "./reconcile/step.ts";
import { Reconciler, type Round, type StepFailure } from "./reconcile/reconciler.ts";

/** What the kernel announces to nobody is compared this often. */
const LOOK_EVERY_MS = 2_000;

export interface AgentOptions {
  readonly node: NetworkNamespace;
  readonly log: AgentLog;
  /** What the configuration wants, and why it cannot be used as it is now. */
  readonly policy?: {
    readonly wanted: () => PolicyWish | undefined;
    readonly trouble: () => string | undefined;
  };
  readonly cluster?: ClusterPart;
  /** What the kernel announces to nobody is compared this often; LOOK_EVERY_MS when absent. */
  readonly lookEveryMs?: number;
  /** Room for announcements that wait to be read, in bytes; four megabytes when absent. */
  readonly eventBufferBytes?: number;
}

/** What a cluster adds to a node (kubernetes/, which only an agent of one loads). */
export interface ClusterPart {
  /** Steps before those that every node has, and behind them. */
  readonly early: readonly ReconcileStep[];
  readonly late: readonly ReconcileStep[];
  readonly nat: (policy: PolicyWish | undefined) => DesiredNat | undefined;
  readonly troubles: () => readonly StepFailure[];
}

/** Who hears of what the agent saw and did. */
export interface AgentListener {
  readonly event?: (event: NodeEvent) => void;
  readonly round?: (round: Round) => void;
}

/** So many of the last repairs are told on request. */
const LAST_REPAIRS = 20;

export class Agent implements AgentState {
  readonly since = new Date();
  #repairs: (Repair & { readonly at: string })[] = [];
  readonly #lock: FileLock;
  readonly #twin: NftablesTwin | undefined;
  readonly #nat: NatStep;
  readonly #bridge: BridgeStep;
  readonly #doors: readonly AdmissionStep[];
  readonly #desired: DesiredSource;
  readonly #forwarding: ForwardingStep;
  readonly #reconciler: Reconciler;
  readonly #events: NodeEvents;
  readonly #unannounced: Unannounced;
  readonly #fastPath: FastPathKeeper;
  readonly #look: ReturnType<typeof setInterval>;
  readonly #listeners: readonly AgentListener[];

  /** @throws WayoutError `agent-runs`, `run-not-shared`, `run-not-ours`, `no-privilege` */
  constructor(
    private readonly options: AgentOptions,
    listeners: readonly AgentListener[] = [],
  ) {
    const { node, log } = options;
    this.#lock = lockOf(node);
    this.#listeners = [logging(log), ...listeners];
    this.#twin = NftablesTwin.open(node);
    this.#desired = new DesiredSource(
      node,
      () => options.policy?.wanted(),
      (policy) => options.cluster?.nat(policy),
    );
    const wanted = this.desired;
    this.#nat = new NatStep(node, wanted, this.#twin);
    this.#bridge = new BridgeStep(node);
    this.#doors = ADMISSION_DOORS.map(
      (door) =>
        new AdmissionStep(
          node,
          door,
          wanted,
          () => this.#reconciler.wake(),
          () => this.#unannounced.legacyChanges,
        ),
    );
    this.#forwarding = new ForwardingStep(node, wanted);
    const { early = [], late = [] } = options.cluster ?? {};
    const own = [this.#nat, this.#bridge, this.#forwarding, ...this.#doors];
    const steps = [...early, ...own, ...late];
    this.#reconciler = new Reconciler(steps, (round) => {
      const at = new Date().toISOString();
      this.#repairs = [...this.#repairs, ...round.repairs.map((one) => ({ ...one, at }))].slice(
        -LAST_REPAIRS,
      );
      if (round.repairs.length > 0) this.#unannounced?.renew();
      for (const listener of this.#listeners) listener.round?.(round);
    });
    // Heard before it is read: what changes in between is looked at again.
    const heard = (event: NodeEvent): void => {
      for (const listener of this.#listeners) listener.event?.(event);
      this.#reconciler.wake();
    };
    this.#events = new NodeEvents(node, heard, options.eventBufferBytes);
    this.#unannounced = new Unannounced(node, heard);
    this.#reconciler.run();
    this.#fastPath = new FastPathKeeper(node, () => options.policy?.wanted()?.fastPath === "auto", log);
    this.#look = setInterval(() => this.#reconciler.wake(), options.lookEveryMs ?? LOOK_EVERY_MS);
    log.write("info", "started", {
      twin: this.#twin === undefined ? "none" : this.#twin.persists ? "persists" : "held",
    });
  }

  readonly desired = (): Desired => this.#desired.read();

  readonly troubles = (): readonly StepFailure[] => {
    const message = this.options.policy?.trouble();
    return [
      ...(message === undefined ? [] : [{ step: "policy", message }]),
      ...this.failures(),
      ...(this.options.cluster?.troubles() ?? []),
    ];
  };

  /** What could not be mended up to now. */
  readonly failures = (): readonly StepFailure[] => this.#reconciler.failures;

  /** What shall be true is different now. */
  wake(): void {
    this.#reconciler.wake();
  }

  /** Compares and mends now. */
  compare(): void {
    this.#reconciler.run();
  }

  readonly lastRepairs = (): readonly (Repair & { readonly at: string })[] => this.#repairs;

  /** In order: nothing is mended any more, the rules stay as they are, and pods stay connected. */
  async stop(): Promise<void> {
    clearInterval(this.#look);
    this.#unannounced.close();
    this.#reconciler.stop();
    await this.#fastPath.stop();
    await this.#events.close();
    await Promise.all(this.#doors.map((door) => door.idle()));
    // Our own table translates on its own; the twin would go on with what nobody keeps up to date any more.
    this.#twin?.remove();
    this.#twin?.[Symbol.dispose]();
    this.#nat[Symbol.dispose]();
    this.#bridge[Symbol.dispose]();
    this.#forwarding[Symbol.dispose]();
    for (const door of this.#doors) door[Symbol.dispose]();
    this.#lock.remove();
    for (const directory of [agentDirectory(), runDirectory()]) removeIfEmpty(directory);
    this.options.log.write("info", "stopped");
  }
}

function lockOf(node: NetworkNamespace): FileLock {
  requireSharedRun(node, "starting the agent");
  const path = `${agentDirectory()}/${node.cookie}.lock`;
  const lock = lockAt(path);
  if (lock !== undefined) return lock.sign();
  const holder = lockHolder(path);
  throw new WayoutError({
    code: "agent-runs",
    kind: "broken",
    doing: "starting the agent",
    said: `an agent of this node runs already${holder === undefined ? "" : ` (process ${holder.pid})`}`,
    todo: "One is enough: two would undo each other's work.",
  });
}

function lockAt(path: string): FileLock | undefined {
  try {
    return FileLock.try(path);
  } catch (error) {
    throw lockFailure(path, "starting the agent", error);
  }
}

/** Only what happened is written: a round in which all was well is silent. */
function logging(log: AgentLog): AgentListener {
  return {
    round({ repairs, failures, fights, tookMs }) {
      for (const { step, object, found } of repairs) log.write("warn", "repaired", { step, object, found });
      for (const { step, message } of failures) log.write("error", "not-repaired", { step, message });
      for (const { step, object, pauseMs } of fights)
        log.write("warn", "undone-again", { step, object, pauseMs });
      if (repairs.length > 0)
        log.write("info", "reconciled", { repairs: repairs.length, tookMs: Math.round(tookMs) });
    },
  };
}
