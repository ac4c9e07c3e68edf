/** Keeps known which pods of this node leave with an address of their own: their namespaces' annotations, and where they are. */
import type { ReconcileStep, Repair } from "../../agent/reconcile/step.ts";
import { AddressError, canonicalIp } from "../../address/ip.ts";
import { WayoutError } from "../../error.ts";
import type { NetworkNamespace } from "../../kernel/namespace.ts";
import { Rtnetlink } from "../../kernel/route/rtnetlink.ts";
import type { ApiClient } from "../api-client.ts";
import type { ClusterView } from "../cluster.ts";
import { WatchedList } from "../watched-list.ts";
import { EGRESS_ANNOTATION, egressPlan, type EgressPlan, type EgressPod } from "./egress-plan.ts";
import type { GrantsFile } from "./grants.ts";

export interface EgressSurroundings {
  readonly node: NetworkNamespace;
  readonly nodeName: string;
  readonly client: ApiClient;
  readonly view: () => ClusterView | undefined;
  readonly changed: () => void;
  /** Hears which pods do not leave as they ask, when that is another answer than before. */
  readonly unavailable: (problems: readonly string[]) => void;
}

export class EgressStep implements ReconcileStep, AsyncDisposable {
  readonly name = "egress";
  readonly #route: Rtnetlink;
  readonly #pods: WatchedList<EgressPod>;
  readonly #namespaces: WatchedList<string>;
  #lists: {
    pods?: ReadonlyMap<string, EgressPod>;
    namespaces?: ReadonlyMap<string, string>;
  } = {};
  #trouble = "the lists of pods and namespaces have not come yet";
  #plan: { readonly key: string; readonly plan: EgressPlan } | undefined;
  #told = "[]";

  constructor(
    private readonly around: EgressSurroundings,
    private readonly file: GrantsFile,
  ) {
    const { client, nodeName, changed } = around;
    this.#route = Rtnetlink.open(around.node);
    const trouble = (message: string | undefined): void => {
      if (message !== undefined) this.#trouble = message;
      changed();
    };
    this.#pods = new WatchedList(client, {
      path: `/api/v1/pods?fieldSelector=${encodeURIComponent(`spec.nodeName=${nodeName}`)}`,
      read: egressPodOf,
      same: (a, b) => JSON.stringify(a) === JSON.stringify(b),
      changed: (pods) => {
        this.#lists = { ...this.#lists, pods };
        changed();
      },
      trouble,
    });
    this.#namespaces = new WatchedList(client, {
      path: "/api/v1/namespaces",
      read: namespaceOf,
      same: (a, b) => a === b,
      changed: (namespaces) => {
        this.#lists = { ...this.#lists, namespaces };
        changed();
      },
      trouble,
    });
  }

  /** undefined until both lists have come. The same value as long as it is the same plan. */
  get plan(): EgressPlan | undefined {
    return this.#plan?.plan;
  }

  run(): Repair[] {
    const { pods, namespaces } = this.#lists;
    const view = this.around.view();
    if (view === undefined) return [];
    if (pods === undefined || namespaces === undefined) throw unheard(this.#trouble);
    const { grants } = this.file;
    const facts = {
      pods: [...pods.values()],
      namespaces: new Map([...namespaces].filter(([, wish]) => wish !== "")),
      podCidrs: view.own.podCidrs,
      addresses: new Set(this.#route.addresses().map(({ address }) => address)),
    };
    const plan = egressPlan(facts, grants);
    const key = JSON.stringify(plan);
    if (key !== this.#plan?.key) this.#plan = { key, plan };
    const problems = [...plan.problems, ...(this.file.trouble === undefined ? [] : [this.file.trouble])];
    const told = JSON.stringify(problems);
    if (told !== this.#told) {
      this.#told = told;
      this.around.unavailable(problems);
    }
    return [];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([this.#pods.stop(), this.#namespaces.stop()]);
    this.#route.close();
  }
}

function egressPodOf(object: unknown): { readonly name: string; readonly value: EgressPod } | undefined {
  const { metadata, spec, status } = (object ?? {}) as {
    readonly metadata?: {
      readonly name?: unknown;
      readonly namespace?: unknown;
      readonly annotations?: Readonly<Record<string, unknown>> | null;
      readonly creationTimestamp?: unknown;
      readonly deletionTimestamp?: unknown;
    };
    readonly spec?: { readonly hostNetwork?: unknown };
    readonly status?: { readonly phase?: unknown; readonly podIP?: unknown; readonly podIPs?: unknown };
  };
  const { name, namespace } = metadata ?? {};
  if (typeof name !== "string" || typeof namespace !== "string") return undefined;
  const addresses = addressesOf(status);
  const isOver =
    spec?.hostNetwork === true ||
    status?.phase === "Succeeded" ||
    status?.phase === "Failed" ||
    // kubelet starts nothing any more that is to go.
    (metadata?.deletionTimestamp !== undefined && addresses.length === 0);
  const annotation = metadata?.annotations?.[EGRESS_ANNOTATION];
  const value: EgressPod = {
    namespace,
    name,
    addresses,
    annotation: typeof annotation === "string" ? annotation : undefined,
    created: typeof metadata?.creationTimestamp === "string" ? metadata.creationTimestamp : "",
    isOver,
  };
  return { name: `${namespace}/${name}`, value };
}

function addressesOf(status: { readonly podIP?: unknown; readonly podIPs?: unknown } | undefined): string[] {
  const listed = Array.isArray(status?.podIPs) ? (status.podIPs as readonly { readonly ip?: unknown }[]) : [];
  const texts = listed.length > 0 ? listed.map((one) => one?.ip) : [status?.podIP];
  return texts.flatMap((text) => {
    if (typeof text !== "string" || text === "") return [];
    try {
      return [canonicalIp(text)];
    } catch (error) {
      if (error instanceof AddressError) return [];
      throw error;
    }
  });
}

/** Its annotation; empty where it has none. */
function namespaceOf(object: unknown): { readonly name: string; readonly value: string } | undefined {
  const { metadata } = (object ?? {}) as {
    readonly metadata?: {
      readonly name?: unknown;
      readonly annotations?: Readonly<Record<string, unknown>> | null;
    };
  };
  if (typeof metadata?.name !== "string") return undefined;
  const annotation = metadata.annotations?.[EGRESS_ANNOTATION];
  return { name: metadata.name, value: typeof annotation === "string" ? annotation : "" };
}

function unheard(said: string): WayoutError {
  return new WayoutError({
    code: "no-egress-lists",
    kind: "broken",
    doing: "reading which pods leave with an address of their own",
    said,
    todo: "The account needs role-egress.yaml: to list and watch pods and namespaces.",
  });
}
