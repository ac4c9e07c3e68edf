/** What the API's routes see of the agent. */
import { WayoutError } from "../../error.ts";
import type { Journal } from "../journal/journal.ts";
import { VERSION } from "../../version.ts";
import type { Desired } from "../desired.ts";
import type { Repair } from "../reconcile/step.ts";
import type { SelfAsker } from "./ask-self.ts";
import { eventAsJson, type EventFeed } from "./event-feed.ts";
import type { Answer } from "./answer.ts";

/** What is not as it shall be, and could not be mended. */
export interface Trouble {
  readonly step: string;
  readonly message: string;
}

/** The agent, as far as others may look. */
export interface AgentState {
  readonly since: Date;
  readonly desired: () => Desired;
  readonly troubles: () => readonly Trouble[];
  /** The files in which the policy in force stands. */
  readonly policyFiles: () => readonly string[];
  readonly lastRepairs: () => readonly (Repair & { readonly at: string })[];
}

export interface MetricsText {
  readonly text: string;
  readonly type: string;
}

/** What an agent that serves a page, or keeps a lab, has besides. */
export interface ViewMore {
  /** How full the connection table was, the oldest first. */
  readonly figures?: () => readonly unknown[];
  /** The page's address with a code for one browser; undefined where no page is served. */
  readonly pageUrl?: () => string | undefined;
  /** Whether the node is a lab's: then it may be broken on purpose. */
  readonly lab?: boolean;
  /** Where a packet that is to be traced goes to, unless somebody says otherwise. */
  readonly destination?: string;
}

const DESTINATION = "1.1.1.1:443";

export class AgentView {
  constructor(
    private readonly agent: AgentState,
    private readonly asker: SelfAsker,
    private readonly feed: EventFeed,
    private readonly journal: Journal | undefined,
    readonly metrics: () => Promise<MetricsText>,
    private readonly more: ViewMore = {},
  ) {}

  get lab(): boolean {
    return this.more.lab === true;
  }

  figures(): readonly unknown[] {
    return this.more.figures?.() ?? [];
  }

  /** @throws WayoutError `no-page` */
  pageUrl(): string {
    const url = this.more.pageUrl?.();
    if (url !== undefined) return url;
    throw new WayoutError({
      code: "no-page",
      kind: "usage",
      doing: "opening the agent's page",
      said: "this agent answers over its socket only",
      todo: "Start it with --listen 127.0.0.1:7070.",
    });
  }

  troubles(): readonly Trouble[] {
    return this.agent.troubles();
  }

  policyFiles(): readonly string[] {
    return this.agent.policyFiles();
  }

  node(): unknown {
    const { since, desired, troubles, lastRepairs } = this.agent;
    return {
      wayout: VERSION,
      since: since.toISOString(),
      lab: this.lab,
      destination: this.more.destination ?? DESTINATION,
      desired: desired(),
      troubles: troubles(),
      lastRepairs: lastRepairs(),
    };
  }

  /** Asks this program itself; its answer under --json is the API's. Exit codes 0 and 1 are answers, others refusals. */
  async ask(words: readonly string[]): Promise<Answer> {
    const { exitCode, stdout, stderr } = await this.asker.ask(words);
    const value = parsed(stdout);
    if (value === undefined) {
      throw new WayoutError({
        code: "no-answer",
        kind: "broken",
        doing: `asking wayout ${words.join(" ")}`,
        said: stderr.trim() || `it ended with ${exitCode}`,
      });
    }
    return { kind: "json", value, status: STATUS[exitCode] ?? 500 };
  }

  history(parameters: Readonly<Record<string, string>>): unknown {
    const { since, until, after, pod, limit = "1000" } = parameters;
    return this.#needJournal()
      .events({
        limit: Number(limit),
        ...(since === undefined ? {} : { since: Date.parse(since) }),
        ...(until === undefined ? {} : { until: Date.parse(until) }),
        ...(after === undefined ? {} : { after: Number(after) }),
        ...(pod === undefined ? {} : { pod }),
      })
      .map(({ id, ...event }) => eventAsJson(event, id));
  }

  /** What makes the doctor judge the node as it was. */
  wordsFor(at: string | undefined): readonly string[] {
    if (at === undefined) return [];
    return ["--at", new Date(at).toISOString(), "--journal", this.#needJournal().path];
  }

  snapshotAt(at: string | undefined): unknown {
    return this.#needJournal().snapshotAt(at === undefined ? Date.now() : Date.parse(at)).snapshot;
  }

  events(after: string | undefined): Answer {
    const stream = this.feed.open(after === undefined ? undefined : Number(after));
    if (stream === undefined) {
      throw new WayoutError({
        code: "too-many-listeners",
        kind: "machine",
        doing: "opening a stream of events",
        said: "too many clients listen already",
      });
    }
    return { kind: "stream", stream, type: "text/event-stream" };
  }

  #needJournal(): Journal {
    if (this.journal !== undefined) return this.journal;
    throw new WayoutError({
      code: "no-journal",
      kind: "machine",
      doing: "reading the journal",
      said: "this agent keeps no journal",
      todo: "Start it with --journal FILE.",
    });
  }
}

/** By exit code: an answer, an answer that says it is broken, wrong usage, this machine cannot. */
const STATUS: Readonly<Record<number, number>> = { 0: 200, 1: 200, 2: 400, 3: 503 };

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
