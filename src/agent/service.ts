/** The agent with everything around it: journal, metrics, API. */
import { isIp } from "../address/ip.ts";
import { setPriority } from "node:os";
import { Admission, NO_ADMISSION } from "../admission/admission.ts";
import { messageOf, WayoutError } from "../error.ts";
import { removeAtWish } from "../nat/installed.ts";
import { inNatQueue } from "../nat/lock.ts";
import { BACKENDS } from "../nat/backends/backends.ts";
import { nodeAddresses } from "../network/node-addresses.ts";
import { adviceOn } from "../policy/advice.ts";
import { POLICY_OWNER } from "../policy/policy.ts";
import { ProcessWatch } from "../kernel/bpf/processes.ts";
import type { NetworkNamespace } from "../kernel/namespace.ts";
import type { ClusterNetwork, ClusterSurroundings } from "../kubernetes/cluster-network.ts";
import { Rtnetlink } from "../kernel/route/rtnetlink.ts";
import { BRIEF_RUN, selfCommand } from "../self.ts";
import { Agent } from "./agent.ts";
import { AnyChange } from "./any-change.ts";
import { SelfAsker, type Answered } from "./api/ask-self.ts";
import type { PolicyWish } from "./desired.ts";
import { EventFeed } from "./api/event-feed.ts";
import { ApiServer, type ServerOptions } from "./api/server.ts";
import { AgentView, answerOf } from "./api/view.ts";
import { TableHistory } from "./table-history.ts";
import { PortHistory } from "./port-history.ts";
import { Historian, type EventSink } from "./historian.ts";
import { Journal } from "./journal/journal.ts";
import type { AgentLog } from "./log.ts";
import { LOOKER } from "./look/name.ts";
import { Looks } from "./look/looks.ts";
import { PageSignIn } from "./page/sign-in.ts";
import { PAINTER } from "./picture/name.ts";
import { Pictures } from "./picture/pictures.ts";
import { pageFiles } from "./page/files.ts";
import type { PageFiles } from "./page/page-files.ts";
import { NetworkNotes } from "./network-notes.ts";
import { heldPolicy } from "./held-policy.ts";
import { AgentMetrics, MOST_NAMED, type TableFigures } from "./metrics.ts";
import { PolicySource, type PolicyPlace, type PolicyState } from "./policy-source.ts";
import { socketPath } from "./socket.ts";
import { readToken } from "./token.ts";
import { present } from "../present.ts";

export interface ServiceOptions {
  readonly node: NetworkNamespace;
  readonly log: AgentLog;
  /** Path of the journal; undefined for none. */
  readonly journal: string | undefined;
  readonly tokenPath: string;
  readonly listen?: NonNullable<ServerOptions["listen"]>;
  /** Names under which the agent may be asked over HTTP, besides those of loopback. */
  readonly hosts: readonly string[];
  readonly remotePeers: boolean;
  /** Whether to look at the whole node after changes: what became of which pod, for journal and metrics. */
  readonly looks: boolean;
  /** Where the node is a lab's: over it the page breaks and mends, and traces packets to this destination. */
  readonly lab?: { readonly destination: string };
  /** Where the policy stands; without one only what attach and the plugin want is kept. */
  readonly policy?: PolicyPlace;
  /** What the policy made goes when the agent ends in order. */
  readonly cleanup?: boolean;
  /** Where the node is one of a cluster: its part, made of what it needs of the agent. */
  readonly cluster?: (around: ClusterSurroundings) => ClusterNetwork;
}

export class AgentService {
  readonly #journal: Journal | undefined;
  readonly #feed: EventFeed;
  readonly #historian: Historian;
  readonly #agent: Agent;
  readonly #server: ApiServer;
  readonly #looks: Looks | undefined;
  readonly #anyChange: AnyChange;
  readonly #table: TableHistory;
  /** Only for who looks at it: the page. */
  readonly #ports: PortHistory | undefined;
  readonly #door: PageSignIn | undefined;
  readonly #processes: ProcessWatch | undefined;
  readonly #cluster: ClusterNetwork | undefined;
  #policy: PolicySource | undefined;
  /** What became of its files, as it was last told. */
  #policyState: PolicyState | undefined;

  /** Started, with its policy in force. @throws WayoutError `agent-runs`, `port-in-use`, `bad-token-file`, `no-privilege` */
  static async start(options: ServiceOptions): Promise<AgentService> {
    const files = options.listen === undefined ? undefined : await pageFiles();
    const service = new AgentService(options, files);
    const { policy, log } = options;
    if (policy !== undefined && policy.dialect !== "wayout")
      log.write("info", "policy-dialect", { path: policy.path, message: wholeNodeText(policy.sources) });
    if (policy !== undefined) {
      service.#policy = await PolicySource.open(
        policy,
        (state) => service.#policyChanged(policy.path, state),
        service.#policyState?.policy,
      );
    }
    log.write("info", "listening", { socket: socketPath(options.node), url: service.#server.url });
    return service;
  }

  private constructor(
    private readonly options: ServiceOptions,
    files: PageFiles | undefined,
  ) {
    const { node, log, listen } = options;
    // What only needs reading comes first: nothing is to be undone when it fails.
    const token = listen === undefined ? "" : readToken(options.tokenPath);
    this.#door = files === undefined ? undefined : new PageSignIn(files, token);
    this.#table = new TableHistory(node);
    this.#journal = openJournal(options.journal, log);
    this.#feed = new EventFeed(this.#journal);
    const asker = new SelfAsker((words) => runIn(node, words));
    const pictures = new Pictures(() => answerOf(asker, [PAINTER, "--json"]));
    const throughTable = async (): Promise<TableFigures | undefined> => {
      const found = await tableFigures(asker);
      if (found !== undefined) this.#ports?.note(found.portUse);
      return found;
    };
    this.#ports = listen === undefined ? undefined : new PortHistory(throughTable);
    const metrics = new AgentMetrics(
      throughTable,
      () => this.#agent.troubles().length === 0,
      () => linksOf(node),
      undefined,
      () => this.#cluster?.figures(),
    );
    if (options.policy !== undefined)
      this.#policyState = { policy: heldPolicy(node), trouble: undefined, warnings: [], files: [] };
    this.#processes = watchProcesses(log);
    const told: EventSink = (event, id, step) => {
      metrics.recorded(event, step);
      this.#feed.put(event, id);
    };
    this.#historian = new Historian(this.#journal, notesOf(node), told, Date.now, process.pid, {
      process: (pid) => this.#processes?.process(pid),
      settingWrites: () => this.#processes?.settingWrites() ?? [],
      inode: node.inode,
    });
    this.#historian.resume();
    try {
      const policy = {
        wanted: () => this.#policyState?.policy,
        trouble: () => this.#policyState?.trouble,
      };
      this.#looks = options.looks ? this.#looking(metrics, pictures) : undefined;
      this.#cluster = options.cluster?.({
        node,
        log,
        // They come before the agent is there to hear of it, too.
        wake: () => this.#agent?.wake(),
        failures: () => this.#agent?.failures() ?? [],
        note: (text) => this.#historian.record({ at: Date.now(), kind: "agent", object: "cluster", text }),
      });
      const part = this.#cluster === undefined ? {} : { cluster: this.#cluster };
      this.#agent = new Agent({ node, log, policy, ...part }, [
        this.#historian,
        metrics,
        ...(this.#looks === undefined ? [] : [this.#looks]),
      ]);
    } catch (error) {
      this.#looks?.stop();
      this.#closeRecords();
      throw error;
    }
    try {
      const view = new AgentView(this.#agent, asker, this.#feed, this.#journal, () => metrics.text(), {
        figures: () => this.#table.kept,
        portFigures: () => this.#ports?.kept ?? [],
        pictures,
        looks: options.looks,
        pageUrl: () => this.pageUrl(),
        policy: () =>
          options.policy && this.#policyState && { place: options.policy, state: this.#policyState },
        url: () => this.#server.url,
        ...(options.lab === undefined ? {} : { lab: true, destination: options.lab.destination }),
      });
      if (this.#door !== undefined) this.#door.first = () => view.firstText();
      this.#server = new ApiServer(
        present({
          view,
          rules: present({
            token,
            hosts: new Set(options.hosts.map((host) => host.toLowerCase())),
            remotePeers: options.remotePeers,
            isPage: this.#door?.isGuest,
          }),
          socket: socketPath(node),
          listen,
          page: this.#door,
        }),
      );
    } catch (error) {
      this.#looks?.stop();
      void this.#cluster?.stop();
      void this.#agent.stop().finally(() => this.#closeRecords());
      throw error;
    }
    this.#anyChange = new AnyChange(node, () => {
      this.#looks?.event({ kind: "any" });
      this.#feed.stir();
    });
  }

  /** The page's address with a code for one browser, for a minute; undefined without HTTP. */
  pageUrl(): string | undefined {
    const [url, door] = [this.#server.url, this.#door];
    // The fragment stays in the browser: no server, no log, no referrer has the code.
    return url === undefined || door === undefined ? undefined : `${url}/#code=${door.code()}`;
  }

  #looking(metrics: AgentMetrics, pictures: Pictures): Looks {
    const { node, log } = this.options;
    return new Looks({
      run: (words, signal) => runIn(node, words, signal),
      log,
      historian: this.#historian,
      journal: this.#journal,
      looked: (look, at, began) => {
        metrics.looked(look, at);
        pictures.seen(look.picture, began);
        this.#feed.looked();
      },
      lab: this.options.lab !== undefined,
    });
  }

  /** It is called in force when it is. */
  #policyChanged(path: string, state: PolicyState): void {
    const { log } = this.options;
    this.#policyState = state;
    if (state.trouble === undefined && state.policy !== undefined)
      this.#policyState = { ...state, warnings: [...state.warnings, ...this.#advice(state.policy)] };
    for (const warning of this.#policyState.warnings) log.write("warn", "policy", { path, message: warning });
    this.#agent.compare();
    const refused = this.#agent.troubles().find(({ step }) => step === "nat")?.message;
    const text = policyText(path, state, refused);
    const isWell = state.trouble === undefined && refused === undefined;
    log.write(isWell ? "info" : "error", "policy", { path, message: text });
    this.#historian.record({ at: Date.now(), kind: "policy", object: path, text });
  }

  /** What the policy allows, and probably does not mean, on this node as it is now. */
  #advice({ backend, intent }: PolicyWish): string[] {
    if (!BACKENDS[backend].translates) return [];
    const others = this.#agent.desired().nat.filter((one) => one.backend === backend);
    return adviceOn(
      intent,
      others.map((one) => one.intent),
      nodeAddresses(this.options.node),
    );
  }

  async stop(): Promise<void> {
    this.#looks?.stop();
    await this.#anyChange.close();
    this.#policy?.close();
    this.#feed.close();
    await this.#server.close();
    await this.#cluster?.stop();
    await this.#agent.stop();
    if (this.options.cleanup === true) await this.#cleanUp();
    this.#closeRecords();
  }

  /** The policy's rules and doors. Those of attached namespaces and CNI networks are not the agent's to take. */
  async #cleanUp(): Promise<void> {
    const { node, log } = this.options;
    const removedFrom = await inNatQueue(node, "removing the policy's rules", () =>
      removeAtWish(node, POLICY_OWNER),
    );
    const { changes, failures } = await new Admission(node).settleAll(NO_ADMISSION);
    for (const message of failures) log.write("error", "cleanup", { message });
    log.write("info", "cleanup", { rules: removedFrom.join(", "), doors: changes.length });
  }

  #closeRecords(): void {
    this.#feed.close();
    this.#table[Symbol.dispose]();
    this.#ports?.[Symbol.dispose]();
    this.#historian[Symbol.dispose]();
    this.#processes?.close();
    this.#journal?.close();
  }
}

/** Their agents translate whatever leaves the node. */
function wholeNodeText(sources: readonly string[]): string {
  const whose = sources.length === 0 ? "this node's pods send" : `${sources.join(", ")} send`;
  return `ip-masq-agent translates everything that leaves; here it is what ${whose}, and what the node itself sends only where the file says hostTraffic: true`;
}

/** @param refused why the rules could not be written */
function policyText(path: string, { trouble, policy }: PolicyState, refused: string | undefined): string {
  if (trouble !== undefined)
    return `${path} cannot be used, and the policy before stays in force: ${trouble}`;
  if (refused !== undefined) return `${path} is not in force yet: ${refused}`;
  const { sources = [], untranslated = [] } = policy?.intent ?? {};
  return `${path} is in force: ${sources.length} sources, ${untranslated.length} destinations left untranslated`;
}

/** Who may not load BPF reads of processes what /proc still has. */
function watchProcesses(log: AgentLog): ProcessWatch | undefined {
  try {
    const watch = ProcessWatch.open();
    if (watch.blindToSettings !== undefined)
      log.write("info", "culprits", {
        message: `the programs that write settings are not seen: ${watch.blindToSettings}`,
      });
    return watch;
  } catch (error) {
    log.write("info", "culprits", {
      message: `parents of processes are not learnt beforehand: ${messageOf(error)}`,
    });
    return undefined;
  }
}

function linksOf(node: NetworkNamespace) {
  using route = Rtnetlink.open(node);
  return route.links({ statistics: true });
}

function notesOf(node: NetworkNamespace): NetworkNotes {
  return new NetworkNotes(() => {
    using route = Rtnetlink.open(node);
    return {
      links: route.links({ statistics: false }),
      addresses: route.addresses(),
      routes: route.routes(),
    };
  });
}

/** The child lives in the node's namespace, as this thread does while it starts it. */
async function runIn(
  node: NetworkNamespace,
  words: readonly string[],
  signal?: AbortSignal,
): Promise<Answered> {
  const child = node.run(() =>
    Bun.spawn(
      [...selfCommand(), ...words],
      present({
        stdin: "ignore",
        stdout: "pipe",
        stderr: "pipe",
        timeout: ASK_TIMEOUT_MS,
        killSignal: "SIGKILL",
        signal,
        env: { ...process.env, ...(BRIEF.has(words[0]) ? BRIEF_RUN : {}), NO_COLOR: "1" },
      }),
    ),
  );
  giveWay(child.pid);
  const [stdout, stderr, exitCode] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  const usage = child.resourceUsage();
  return present({ exitCode, stdout, stderr, cpuMs: usage === undefined ? undefined : cpuMsOf(usage) });
}

function cpuMsOf({ cpuTime }: Bun.ResourceUsage): number {
  return Number(cpuTime.total) / 1000;
}

/** They read a whole node and end: a third of their time went to the engine's compilers. */
const BRIEF: ReadonlySet<string | undefined> = new Set([LOOKER, PAINTER]);

/** The agent's own loop, and whatever the node is there for, comes before an answer. */
function giveWay(pid: number): void {
  try {
    setPriority(pid, NICENESS);
  } catch {
    // It has ended already.
  }
}

const NICENESS = 5;
const ASK_TIMEOUT_MS = 30_000;

async function tableFigures(asker: SelfAsker): Promise<TableFigures | undefined> {
  try {
    const words = ["conntrack", "stats", "--json", "--no-destinations", "--top", String(MOST_NAMED)];
    const { stdout } = await asker.ask(words);
    return JSON.parse(stdout) as TableFigures;
  } catch {
    return undefined;
  }
}

/** While its file cannot be used the agent still does its work: what is wrong is told, and no more. */
function openJournal(path: string | undefined, log: AgentLog): Journal | undefined {
  if (path === undefined) return undefined;
  return Journal.write(path, (trouble) => {
    if (trouble === "") log.write("info", "journal", { message: "is written again" });
    else log.write("error", "journal", { message: trouble });
  });
}

/** `127.0.0.1:7070`, `[::1]:7070`, `:7070` (loopback), `7070`. @throws WayoutError `bad-listen` */
export function parseListen(text: string): { readonly hostname: string; readonly port: number } {
  const match = /^(?:(\[[0-9a-fA-F:]+\]|[0-9.]+|localhost)?:)?(\d{1,5})$/.exec(text);
  const port = Number(match?.[2]);
  const name = match?.[1]?.replace(/^\[|\]$/g, "") ?? "localhost";
  const hostname = name === "localhost" ? "127.0.0.1" : name;
  if (match !== null && port <= 65_535 && isIp(hostname)) return { hostname, port };
  throw new WayoutError({
    code: "bad-listen",
    kind: "usage",
    doing: `reading --listen ${text}`,
    said: "it is no address with a port",
    todo: "Like 127.0.0.1:7070 or [::1]:7070.",
  });
}
