/**
 * What the agent writes to the API server about its own node: the condition WayoutReady, events, and that a start-up taint
 * may go. All of it is optional: without the role for it the agent works the same, and says so once.
 */
import { messageOf } from "../error.ts";
import type { ApiClient } from "./api-client.ts";
import { ApiError } from "./api-error.ts";
import { REAL_PACE } from "./watched-list.ts";

export const CONDITION = "WayoutReady";
const COMPONENT = "wayout";
const FIRST_RETRY_MS = 5_000;
const LONGEST_RETRY_MS = 300_000;

export interface NodeCondition {
  readonly isTrue: boolean;
  /** One word in CamelCase, for programs. */
  readonly reason: string;
  readonly message: string;
}

export interface NodeEventText {
  readonly type: "Normal" | "Warning";
  readonly reason: string;
  readonly message: string;
}

/** One thing to write, repeated until it is written; a newer one of its kind takes its place. */
interface Errand {
  readonly kind: string;
  readonly run: () => Promise<void>;
}

export class NodeStatus {
  readonly #errands = new Map<string, Errand>();
  readonly #stop = new AbortController();
  #working: Promise<void> | undefined;
  /** Something is to be written that was not when the wait began. */
  #news = new AbortController();
  #told = new Set<string>();

  /** @param told hears, once for each kind of thing, why it cannot be written */
  constructor(
    private readonly client: ApiClient,
    private readonly nodeName: string,
    private readonly told: (kind: string, message: string) => void,
  ) {}

  condition(condition: NodeCondition): void {
    this.#soon({ kind: "condition", run: () => this.#setCondition(condition) });
  }

  event(event: NodeEventText, nodeUid: string): void {
    this.#soon({ kind: `event ${event.reason}`, run: () => this.#sendEvent(event, nodeUid) });
  }

  /** Takes the taint with this key away, wherever it stands. It is never put back. */
  removeTaint(key: string): void {
    this.#soon({ kind: "taint", run: () => this.#removeTaint(key) });
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#working;
  }

  #soon(errand: Errand): void {
    this.#errands.set(errand.kind, errand);
    this.#news.abort();
    this.#working ??= this.#work().finally(() => (this.#working = undefined));
  }

  async #work(): Promise<void> {
    for (let waitMs = FIRST_RETRY_MS; this.#errands.size > 0 && !this.#stop.signal.aborted;) {
      let failed = false;
      let askedMs = 0;
      this.#news = new AbortController();
      for (const errand of this.#errands.values()) {
        try {
          await errand.run();
          this.#told.delete(errand.kind);
        } catch (error) {
          const isRefused = this.#isRefused(errand, error);
          failed ||= !isRefused;
          if (error instanceof ApiError) askedMs = Math.max(askedMs, error.retryAfterMs ?? 0);
          if (!isRefused) continue;
        }
        if (this.#errands.get(errand.kind) === errand) this.#errands.delete(errand.kind);
      }
      if (!failed) continue;
      const woken = AbortSignal.any([this.#stop.signal, this.#news.signal]);
      await REAL_PACE.sleep(Math.min(Math.max(waitMs, askedMs), LONGEST_RETRY_MS), woken);
      waitMs = this.#news.signal.aborted ? FIRST_RETRY_MS : Math.min(2 * waitMs, LONGEST_RETRY_MS);
    }
  }

  /** What we have no role for is given up; the rest is tried again. */
  #isRefused({ kind }: Errand, error: unknown): boolean {
    if (!this.#told.has(kind)) this.told(kind, messageOf(error));
    this.#told.add(kind);
    return error instanceof ApiError && error.status === 403;
  }

  /** Written only where it says something else: an agent that is started again says nothing new. */
  async #setCondition({ isTrue, reason, message }: NodeCondition): Promise<void> {
    const path = `/api/v1/nodes/${encodeURIComponent(this.nodeName)}`;
    const { status } = (await this.client.json(path)) as NodeParts;
    const there = status?.conditions?.find(({ type }) => type === CONDITION);
    const wanted = { type: CONDITION, status: isTrue ? "True" : "False", reason, message };
    if (there?.status === wanted.status && there.reason === reason && there.message === message) return;
    const now = new Date().toISOString();
    const since = there?.status === wanted.status ? there.lastTransitionTime : undefined;
    const condition = { ...wanted, lastHeartbeatTime: now, lastTransitionTime: since ?? now };
    await this.client.json(`${path}/status`, {
      method: "PATCH",
      // Conditions are put together by their type; a merge patch would take kubelet's away.
      contentType: "application/strategic-merge-patch+json",
      body: { status: { conditions: [condition] } },
    });
  }

  async #sendEvent({ type, reason, message }: NodeEventText, uid: string): Promise<void> {
    const now = new Date().toISOString();
    await this.client.json("/api/v1/namespaces/default/events", {
      method: "POST",
      body: {
        kind: "Event",
        apiVersion: "v1",
        metadata: {
          name: `${this.nodeName}.${crypto.randomUUID().slice(0, 13)}`,
          namespace: "default",
        },
        involvedObject: { kind: "Node", apiVersion: "v1", name: this.nodeName, uid },
        type,
        reason,
        message: message.slice(0, MOST_MESSAGE),
        source: { component: COMPONENT, host: this.nodeName },
        firstTimestamp: now,
        lastTimestamp: now,
        count: 1,
      },
    });
  }

  async #removeTaint(key: string): Promise<void> {
    const path = `/api/v1/nodes/${encodeURIComponent(this.nodeName)}`;
    const { metadata, spec } = (await this.client.json(path)) as NodeParts;
    const taints = spec?.taints ?? [];
    const kept = taints.filter((taint) => taint.key !== key);
    if (kept.length === taints.length) return;
    await this.client.json(path, {
      method: "PATCH",
      contentType: "application/merge-patch+json",
      // Another taint that is set in between makes this fail, and it is tried again.
      body: { metadata: { resourceVersion: metadata?.resourceVersion }, spec: { taints: kept } },
    });
  }
}

/** Longer ones are refused. */
const MOST_MESSAGE = 1024;

interface NodeParts {
  readonly metadata?: { readonly resourceVersion?: string };
  readonly spec?: { readonly taints?: readonly { readonly key?: string }[] };
  readonly status?: {
    readonly conditions?: readonly {
      readonly type?: string;
      readonly status?: string;
      readonly reason?: string;
      readonly message?: string;
      readonly lastTransitionTime?: string;
    }[];
  };
}
