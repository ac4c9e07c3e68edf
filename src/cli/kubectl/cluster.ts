/**
 * What a cluster says of its nodes and pods, asked through the person's own kubectl: it knows the context, the
 * credentials and the proxies, and what it may do is what the person may do.
 */
import * as v from "valibot";
import { messageOf, WayoutError } from "../../error.ts";
import { tellAside } from "../output.ts";

/** Carried by the pods of every manifest in deploy/. */
export const AGENT_LABEL = "app.kubernetes.io/name=wayout";
/** The container of those pods that holds this program, and where in it. */
export const AGENT_CONTAINER = "agent";
export const AGENT_PROGRAM = "/usr/local/bin/wayout";

const DOING = "looking for wayout's pods";

/** How long kubectl may take to answer a question, in milliseconds; `exec` has no limit. */
const QUESTION_MS = 20_000;

/** A DNS subdomain: what Kubernetes takes for the name of a pod, a node, a namespace or a container. */
const NAME = /^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$/;

const text = v.pipe(v.string(), v.maxLength(4096));
// Each becomes a word of a command: one that begins with a dash would be an option there.
const name = v.pipe(v.string(), v.regex(NAME));
const metadata = v.object({ name, namespace: v.optional(name, "default") });
const conditions = v.optional(
  v.array(
    v.object({
      type: text,
      status: text,
      message: v.optional(text, ""),
      lastTransitionTime: v.optional(text),
    }),
  ),
  [],
);
const POD = v.object({
  metadata,
  spec: v.object({
    nodeName: v.optional(name),
    containers: v.array(v.object({ name })),
  }),
  status: v.optional(v.object({ phase: v.optional(text, "Unknown"), conditions }), {}),
});
const NODE = v.object({
  metadata,
  spec: v.optional(v.object({ podCIDR: v.optional(text), podCIDRs: v.optional(v.array(text)) }), {}),
  status: v.optional(v.object({ conditions }), {}),
});
const PODS = v.object({ items: v.array(POD) });
const NODES = v.object({ items: v.array(NODE) });

export type ClusterPod = v.InferOutput<typeof POD>;
export type ClusterNode = v.InferOutput<typeof NODE>;

/** Which cluster, as kubectl's own options say it. */
export interface ClusterOptions {
  readonly context?: string;
  readonly kubeconfig?: string;
  readonly namespace?: string;
  readonly agentNamespace?: string;
}

/** Whom a question is about, as the person names it. */
export type Target = { readonly node: string } | { readonly namespace?: string; readonly pod: string };

/** `node/NAME`, `NAMESPACE/POD`, `POD`. @throws WayoutError `usage` */
export function targetOf(given: string): Target {
  const [first = "", second, ...more] = given.split("/");
  const isName = (word: string): boolean => NAME.test(word);
  if (more.length === 0 && isName(first)) {
    if (second === undefined) return { pod: first };
    if (isName(second)) return first === "node" ? { node: second } : { namespace: first, pod: second };
  }
  throw new WayoutError({
    code: "usage",
    kind: "usage",
    doing: "reading the command line",
    said: `"${given}" is neither NAMESPACE/POD, POD nor node/NAME`,
  });
}

/** A cluster as one kubectl sees it. */
export class Cluster {
  readonly #options: ClusterOptions;
  readonly #program: string;

  /** @throws WayoutError `no-kubectl` */
  constructor(options: ClusterOptions) {
    const program = Bun.which("kubectl");
    if (program === null) {
      throw new WayoutError({
        code: "no-kubectl",
        kind: "machine",
        doing: "asking the cluster",
        said: "there is no kubectl on the PATH",
        todo: "Install kubectl; this command asks the cluster through it, with your credentials.",
      });
    }
    this.#program = program;
    this.#options = options;
  }

  /** @throws WayoutError `kubectl-failed` when there is no such pod */
  async pod({ namespace, pod }: Extract<Target, { pod: string }>): Promise<ClusterPod> {
    const within = namespace ?? this.#options.namespace;
    const where = within === undefined ? [] : [`--namespace=${within}`];
    return this.#ask(POD, `reading pod ${pod}`, ["get", "pod", pod, ...where]);
  }

  async nodes(): Promise<readonly ClusterNode[]> {
    return (await this.#ask(NODES, "reading the nodes", ["get", "nodes"])).items;
  }

  /**
   * The pods that hold this program, one a node; all of them, those that are not ready too. Whoever may make pods may
   * give them our label: what runs in them would answer for the node, on the person's terminal.
   * @throws WayoutError `agents-in-two-namespaces`
   */
  async agents(): Promise<readonly ClusterPod[]> {
    const { agentNamespace } = this.#options;
    const where = agentNamespace === undefined ? "--all-namespaces" : `--namespace=${agentNamespace}`;
    const asked = ["get", "pods", where, `--selector=${AGENT_LABEL}`];
    const { items } = await this.#ask(PODS, DOING, asked);
    const namespaces = [...new Set(items.map(({ metadata }) => metadata.namespace))].sort();
    if (namespaces.length <= 1) return items;
    throw new WayoutError({
      code: "agents-in-two-namespaces",
      kind: "usage",
      doing: DOING,
      said: `pods with the label ${AGENT_LABEL} are in ${namespaces.length} namespaces (${namespaces.slice(0, 8).join(", ")}), and anybody may give his pods that label`,
      todo: "Say in which one wayout was installed: --agent-namespace NAMESPACE",
    });
  }

  /** @throws WayoutError `no-agent` when no pod of ours runs on that node */
  async agentOn(node: string): Promise<ClusterPod> {
    const all = await this.agents();
    const here = all.filter(({ spec, status }) => spec.nodeName === node && status.phase === "Running");
    const agent = here.find(isReady) ?? here[0];
    if (agent !== undefined) return agent;
    const others = all.filter(({ spec }) => spec.nodeName !== node).length;
    throw new WayoutError({
      code: "no-agent",
      kind: "machine",
      doing: `looking for wayout's pod on node ${node}`,
      said:
        others === 0
          ? `no pod of this cluster has the label ${AGENT_LABEL}`
          : `none runs there, though ${others} run on other nodes`,
      todo:
        others === 0
          ? "Install it; deploy/doctor-only is for clusters whose pods another product connects (docs/kubernetes.md)."
          : `See why: kubectl get pods --all-namespaces --selector=${AGENT_LABEL} --output=wide`,
    });
  }

  /**
   * Runs a wayout command on the node of one of our pods, with the person's terminal.
   * @returns its exit code
   */
  async run(agent: ClusterPod, args: readonly string[], terminal: boolean): Promise<number> {
    const child = Bun.spawn(this.#command(execArgs(agent, args, terminal)), {
      stdin: terminal ? "inherit" : "ignore",
      stdout: "inherit",
      stderr: "pipe",
    });
    await passOn(child.stderr);
    return child.exited;
  }

  /** The same, for a program: what it printed. */
  async read(agent: ClusterPod, args: readonly string[]): Promise<{ exitCode: number; stdout: string }> {
    const { exitCode, stdout } = await this.#collect(execArgs(agent, args, false));
    return { exitCode, stdout };
  }

  async #ask<S extends v.GenericSchema>(
    schema: S,
    doing: string,
    args: readonly string[],
  ): Promise<v.InferOutput<S>> {
    const limit = `--request-timeout=${QUESTION_MS / 1000}s`;
    const { exitCode, stdout, stderr } = await this.#collect([...args, "--output=json", limit]);
    if (exitCode !== 0) throw failed(doing, stderr === "" ? `kubectl ended with ${exitCode}` : stderr);
    try {
      return v.parse(schema, JSON.parse(stdout));
    } catch (error) {
      throw failed(doing, `kubectl answered what we cannot read: ${messageOf(error)}`);
    }
  }

  async #collect(args: readonly string[]): Promise<{ exitCode: number; stdout: string; stderr: string }> {
    const child = Bun.spawn(this.#command(args), { stdin: "ignore", stdout: "pipe", stderr: "pipe" });
    const [stdout, stderr] = await Promise.all([child.stdout.text(), child.stderr.text()]);
    return { exitCode: await child.exited, stdout, stderr: errorOf(stderr) };
  }

  #command(args: readonly string[]): string[] {
    const { context, kubeconfig } = this.#options;
    return [
      this.#program,
      ...(context === undefined ? [] : [`--context=${context}`]),
      ...(kubeconfig === undefined ? [] : [`--kubeconfig=${kubeconfig}`]),
      ...args,
    ];
  }
}

export function isReady({ status }: ClusterPod): boolean {
  return status.conditions?.some(({ type, status }) => type === "Ready" && status === "True") ?? false;
}

function execArgs({ metadata, spec }: ClusterPod, args: readonly string[], terminal: boolean): string[] {
  const container = spec.containers.find(({ name }) => name === AGENT_CONTAINER) ?? spec.containers[0];
  return [
    "exec",
    `--namespace=${metadata.namespace}`,
    metadata.name,
    ...(terminal ? ["--stdin", "--tty"] : []),
    ...(container === undefined ? [] : [`--container=${container.name}`]),
    "--",
    AGENT_PROGRAM,
    ...args,
  ];
}

/** kubectl's own sentence, without the log of its attempts before it (`E1129 07:13:38.594938 25961 memcache.go:265] …`). */
function errorOf(stderr: string): string {
  const lines = stderr.split("\n").filter((line) => line !== "" && !/^[IWEF]\d{4} /.test(line));
  return lines.join("; ").replace(/^error: /i, "");
}

/** What kubectl says of itself when the command over there ended with another code than 0: the code says it. */
const ENDED = /^command terminated with exit code \d+$/;

async function passOn(stream: ReadableStream<Uint8Array>): Promise<void> {
  let rest = "";
  const decoder = new TextDecoder();
  const tell = (line: string): void => {
    if (!ENDED.test(line)) tellAside((said) => `${said}\n`, line);
  };
  for await (const chunk of stream) {
    const lines = (rest + decoder.decode(chunk, { stream: true })).split("\n");
    rest = lines.pop()!;
    for (const line of lines) tell(line);
  }
  if (rest !== "") tell(rest);
}

function failed(doing: string, said: string): WayoutError {
  return new WayoutError({ code: "kubectl-failed", kind: "machine", doing, said });
}
