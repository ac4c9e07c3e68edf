/** What the API's routes see of the agent. */
import { ANYWHERE } from "../../doctor/anywhere.ts";
import { WayoutError } from "../../error.ts";
import type { Journal, JournalEvent } from "../journal/journal.ts";
import { VERSION } from "../../version.ts";
import type { Pictures } from "../picture/pictures.ts";
import type { Desired, PolicyWish } from "../desired.ts";
import type { PolicyPlace, PolicyState, PolicyText } from "../policy-source.ts";
import type { Repair } from "../reconcile/step.ts";
import { PAINTER } from "../picture/name.ts";
import type { SelfAsker } from "./ask-self.ts";
import { eventAsJson, type EventFeed } from "./event-feed.ts";
import type { Answer } from "./answer.ts";
import { present } from "../../present.ts";

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
  /** How many source ports were in use, the oldest first. */
  readonly portFigures?: () => readonly unknown[];
  readonly pictures?: Pictures;
  /** Whether it looks at the whole node after each change by itself. */
  readonly looks?: boolean;
  /** Where the policy stands, and what became of it; undefined without one. */
  readonly policy?: () => { readonly place: PolicyPlace; readonly state: PolicyState } | undefined;
  /** Where it answers over HTTP; undefined where it does not. */
  readonly url?: () => string | undefined;
  /** The page's address with a code for one browser; undefined where no page is served. */
  readonly pageUrl?: () => string | undefined;
  /** Whether the node is a lab's: then it may be broken on purpose. */
  readonly lab?: boolean;
  /** Where a packet that is to be traced goes to, unless another is named. */
  readonly destination?: string;
}

/** `/v1/policy` */
export interface PolicyAnswer {
  readonly place?: PolicyPlace;
  readonly files: readonly PolicyText[];
  readonly warnings: readonly string[];
  /** Why the files as they are now are not in force. */
  readonly trouble?: string;
  readonly inForce?: PolicyWish;
}

export interface JournalAnswer {
  readonly path: string;
  readonly bytes: number;
  /** What writing it has taken of this agent's life. */
  readonly writingMs: number;
  /** From when on it can tell how the node was. */
  readonly beginsAt?: string;
}

/** `/v1/node` */
export interface NodeAnswer {
  readonly wayout: string;
  readonly pid: number;
  /** ISO 8601. */
  readonly since: string;
  readonly policy: Omit<PolicyAnswer, "files"> & { readonly files: readonly string[] };
  readonly journal?: JournalAnswer;
  readonly url?: string;
  readonly lab: boolean;
  /** Whether it looks at the whole node after each change, and tells so (`looked`). */
  readonly looks: boolean;
  readonly destination: string;
  readonly desired: Desired;
  readonly troubles: readonly Trouble[];
  readonly lastRepairs: readonly (Repair & { readonly at: string })[];
}

const DESTINATION = `${ANYWHERE[4].address}:${ANYWHERE[4].port}`;

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

  portFigures(): readonly unknown[] {
    return this.more.portFigures?.() ?? [];
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

  /** With the text of its files as they were read. */
  policy(): PolicyAnswer {
    const { place, state } = this.more.policy?.() ?? {};
    if (place === undefined || state === undefined) return { files: [], warnings: [] };
    const { policy, files, trouble, warnings } = state;
    return present({
      place,
      files,
      warnings,
      trouble,
      inForce: policy,
    });
  }

  node(): NodeAnswer {
    const { since, desired, troubles, lastRepairs } = this.agent;
    const { files, ...policy } = this.policy();
    const url = this.more.url?.();
    return present({
      wayout: VERSION,
      pid: process.pid,
      since: since.toISOString(),
      policy: { ...policy, files: files.map(({ name }) => name) },
      journal: this.journal === undefined ? undefined : journalAnswer(this.journal),
      url,
      lab: this.lab,
      looks: this.more.looks === true,
      destination: this.more.destination ?? DESTINATION,
      desired: desired(),
      troubles: troubles(),
      lastRepairs: lastRepairs(),
    });
  }

  ask(words: readonly string[]): Promise<Answer> {
    return answerOf(this.asker, words);
  }

  /** @param age seconds; so old a picture of the present may be */
  async picture(at: string | undefined, age: string): Promise<Answer> {
    const { pictures } = this.more;
    if (at === undefined && pictures !== undefined) return pictures.get(Number(age) * 1000);
    return this.ask([PAINTER, "--json", ...this.wordsFor(at)]);
  }

  /** What a page shows before it has asked for anything: only what is known already. */
  firstText(): string {
    const picture = this.more.pictures?.lastText;
    const node = `"node":${JSON.stringify(this.node())}`;
    return `{${node}${picture === undefined ? "" : `,"picture":${picture}`}}`;
  }

  history(parameters: Readonly<Record<string, string>>): unknown {
    const { since, until, after, pod, kind, limit = "1000" } = parameters;
    return this.#needJournal()
      .events(
        present({
          limit: Number(limit),
          since: since === undefined ? undefined : Date.parse(since),
          until: until === undefined ? undefined : Date.parse(until),
          after: after === undefined ? undefined : Number(after),
          pod,
          kind: kind === undefined ? undefined : (kind as JournalEvent["kind"]),
        }),
      )
      .map(({ id, ...event }) => eventAsJson(event, id));
  }

  /** What makes the doctor judge the node as it was. */
  wordsFor(at: string | undefined): readonly string[] {
    if (at === undefined) return [];
    return ["--at", new Date(at).toISOString(), "--journal", this.#needJournal().path];
  }

  snapshotAt(at: string | undefined): unknown {
    return this.#needJournal().snapshotAt(at === undefined ? undefined : Date.parse(at)).snapshot;
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

/** Asks this program itself; its answer under --json is the API's. Exit codes 0 and 1 are answers, others refusals. */
export async function answerOf(asker: SelfAsker, words: readonly string[]): Promise<Answer> {
  const { exitCode, stdout, stderr } = await asker.ask(words);
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

function journalAnswer(journal: Journal): JournalAnswer {
  const beginsAt = journal.beginsAt();
  return present({
    path: journal.path,
    bytes: journal.bytes(),
    writingMs: Math.round(journal.writingMs),
    beginsAt: beginsAt === undefined ? undefined : new Date(beginsAt).toISOString(),
  });
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
