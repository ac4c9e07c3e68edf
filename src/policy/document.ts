/** The text of a policy's file, YAML or JSON: its value, and where in the text each field of it stands. Pure. */
import type { BaseIssue } from "valibot";
import type { Document, LineCounter, Node } from "yaml";
import { messageOf, WayoutError } from "../error.ts";

/** One thing that is wrong with a policy file. */
export interface PolicyProblem {
  /** `sources[1].snat`; empty for the file as a whole. */
  readonly path: string;
  /** 1-based; absent when the field is not there at all. */
  readonly line?: number;
  readonly column?: number;
  readonly problem: string;
}

/** From the file's root to a field. */
export type FieldPath = readonly (string | number)[];

/** `sources[1].snat` */
export function pathText(path: FieldPath): string {
  return path
    .map((part, index) => (typeof part === "number" ? `[${part}]` : index === 0 ? part : `.${part}`))
    .join("");
}

/** What is said of a file that cannot be used. */
export interface Refusing {
  readonly doing: string;
  readonly todo: string;
}

/** A file of ten thousand prefixes may be wrong ten thousand times: so many are told, and so many listed. */
const MOST_TOLD = 10;
const MOST_LISTED = 100;
/** A message repeats what stands in the file, which may be the whole of it. Characters. */
const MOST_OF_MESSAGE = 300;

/** `details.problems` lists every PolicyProblem, up to MOST_LISTED. */
export function badPolicy(
  name: string,
  problems: readonly PolicyProblem[],
  { doing, todo }: Refusing,
): WayoutError {
  const texts = problems.slice(0, MOST_TOLD).map(({ path, line, column, problem }) => {
    const where = line === undefined ? "" : ` (line ${line}, column ${column})`;
    return path === "" ? `${problem}${where}` : `${path}: ${problem}${where}`;
  });
  const more = problems.length - texts.length;
  return new WayoutError({
    code: "bad-policy",
    kind: "usage",
    doing,
    said: [...texts, ...(more > 0 ? [`and ${more} more`] : [])].join("; "),
    todo,
    details: { file: name, problems: problems.slice(0, MOST_LISTED) },
  });
}

function bounded(message: string): string {
  return message.length <= MOST_OF_MESSAGE ? message : `${message.slice(0, MOST_OF_MESSAGE)}…`;
}

export class PolicyDocument {
  #parsed: Document.Parsed | undefined | "not yet" = "not yet";

  /**
   * @param parse the document, with the places of its parts
   * @param json what it says, where that is known already
   */
  private constructor(
    private readonly name: string,
    private readonly parse: () => Document.Parsed | undefined,
    private readonly lines: LineCounter,
    private readonly refusing: Refusing,
    private readonly isJson: boolean,
    private readonly known?: { readonly value: unknown },
  ) {}

  /** @throws WayoutError `bad-policy` for what is no YAML */
  static async read(text: string, name: string, refusing: Refusing): Promise<PolicyDocument> {
    return (await PolicyDocument.reader())(text, name, refusing);
  }

  /** The same for who reads more than once, and cannot wait then. */
  static async reader(): Promise<(text: string, name: string, refusing: Refusing) => PolicyDocument> {
    // Only this needs a YAML parser; a CNI call never does.
    const { LineCounter, parseDocument } = await import("yaml");
    return (text, name, refusing) => {
      const lines = new LineCounter();
      const parse = () => parseDocument(text, { lineCounter: lines, prettyErrors: false });
      const json = plainJson(text);
      const read = new PolicyDocument(name, parse, lines, refusing, false, json);
      return json === undefined ? read.checked() : read;
    };
  }

  /**
   * As programs of Kubernetes read a file, which turn YAML into JSON first (sigs.k8s.io/yaml): YAML 1.1, where `yes` is true;
   * of equal keys the last counts, of documents the first; and what begins with a brace is JSON, and nothing else.
   * @throws WayoutError `bad-policy`
   */
  static async readAsGo(text: string, name: string, refusing: Refusing): Promise<PolicyDocument> {
    const { LineCounter, parseAllDocuments } = await import("yaml");
    const lines = new LineCounter();
    const options = { lineCounter: lines, prettyErrors: false, uniqueKeys: false, version: "1.1" } as const;
    const parse = () => (parseAllDocuments(text, options) as readonly Document.Parsed[])[0];
    const isJson = text.trimStart().startsWith("{");
    const read = new PolicyDocument(name, parse, lines, refusing, isJson);
    if (!isJson) return read.checked();
    try {
      JSON.parse(text);
    } catch (error) {
      throw read.refused([
        { path: "", problem: `it begins with a brace, and is no JSON: ${messageOf(error)}` },
      ]);
    }
    return read.checked();
  }

  /**
   * The file's keys and values in the order in which they are read; none for an empty one.
   * @throws WayoutError `bad-policy` when it is no map
   */
  fields(): Readonly<Record<string, unknown>> {
    const value = this.value() ?? {};
    if (typeof value === "object" && !Array.isArray(value)) return value as Record<string, unknown>;
    throw this.refused([{ path: "", ...this.placeOf([]), problem: "it is no map of keys and values" }]);
  }

  /** Whether it was read as JSON. */
  get json(): boolean {
    return this.isJson;
  }

  refused(problems: readonly PolicyProblem[]): WayoutError {
    return badPolicy(this.name, problems, this.refusing);
  }

  /**
   * What a strict map of the file's keys does not accept.
   * @param unknownKey what is said of a key that it does not have
   * @param within where in the file the value stands that was judged
   */
  refusedFor(
    issues: readonly BaseIssue<unknown>[],
    unknownKey: (path: FieldPath) => string,
    within: FieldPath = [],
  ): WayoutError {
    return this.refused(
      issues.map((issue): PolicyProblem => {
        const path = [...within, ...(issue.path ?? []).map(({ key }) => key as string | number)];
        const isOfMap = issue.type === "strict_object" || issue.type === "object";
        const isUnknownKey = isOfMap && issue.expected === "never";
        const isMissing = isOfMap && !isUnknownKey && issue.received === "undefined";
        const problem = isUnknownKey ? unknownKey(path) : isMissing ? "is missing" : bounded(issue.message);
        return { path: pathText(path), ...this.placeOf(path, isUnknownKey), problem };
      }),
    );
  }

  /** One problem of a field, with its place. */
  refusedAt(path: FieldPath, problem: string): WayoutError {
    return this.refused([{ path: pathText(path), ...this.placeOf(path), problem }]);
  }

  has(path: FieldPath): boolean {
    return this.#document?.hasIn(path) ?? false;
  }

  /**
   * Where a field stands: its value, or its key; a missing one, where its parent does. Nothing of an empty file.
   */
  placeOf(path: FieldPath, ofKey = false): { readonly line?: number; readonly column?: number } {
    for (let length = path.length; length >= 0; length--) {
      const at = this.#offsetOf(path.slice(0, length), ofKey && length === path.length);
      if (at === undefined) continue;
      const { line, col } = this.lines.linePos(at);
      return { line, column: col };
    }
    return {};
  }

  /** A value that refers to itself too often to be written out is none. */
  private value(): unknown {
    if (this.known !== undefined) return this.known.value;
    try {
      return this.#document?.toJS();
    } catch (error) {
      throw this.refused([{ path: "", problem: messageOf(error) }]);
    }
  }

  private checked(): this {
    const all = this.#document?.errors ?? [];
    if (all.length === 0) return this;
    // What follows it follows from it.
    const deep = all.find(({ message }) => isTooDeep(message));
    const errors = deep === undefined ? all : [deep];
    throw this.refused(
      errors.map((error) => {
        const { line, col } = this.lines.linePos(error.pos[0]);
        return { path: "", line, column: col, problem: yamlProblem(error.message) };
      }),
    );
  }

  get #document(): Document.Parsed | undefined {
    if (this.#parsed === "not yet") this.#parsed = this.parse();
    return this.#parsed;
  }

  #offsetOf(path: FieldPath, ofKey: boolean): number | undefined {
    if (ofKey) {
      const parent = path.length === 1 ? this.#document?.contents : this.#nodeAt(path.slice(0, -1));
      const items = (parent as { readonly items?: readonly KeyedPair[] } | undefined)?.items ?? [];
      return items.findLast(({ key }) => key?.value === path.at(-1))?.key.range?.[0];
    }
    const node = path.length === 0 ? this.#document?.contents : this.#nodeAt(path);
    return (node as Node | null | undefined)?.range?.[0];
  }

  #nodeAt(path: FieldPath): unknown {
    return this.#document?.getIn(path, true);
  }
}

/**
 * What a text says that is JSON without a key twice, which programs write: then a YAML parser, fifty times slower over ten
 * thousand prefixes, is needed only to find the places of what is refused. undefined for everything else.
 */
function plainJson(text: string): { readonly value: unknown } | undefined {
  if (!text.trimStart().startsWith("{")) return undefined;
  try {
    return unlessTwice(text, JSON.parse(text));
  } catch {
    // It may be YAML, which has braces, too; or it is nested without an end, which is told there.
    return undefined;
  }
}

function unlessTwice(text: string, value: unknown): { readonly value: unknown } | undefined {
  // Of equal keys JSON.parse keeps the last; then fewer keys come out than went in.
  const written = [...text.matchAll(/"(?:[^"\\]|\\.)*"\s*(:?)/g)].filter(([, colon]) => colon === ":").length;
  return written === keysIn(value) ? { value } : undefined;
}

function keysIn(value: unknown): number {
  if (typeof value !== "object" || value === null) return 0;
  const parts = Object.values(value);
  const own = Array.isArray(value) ? 0 : parts.length;
  return parts.reduce<number>((sum, part) => sum + keysIn(part), own);
}

interface KeyedPair {
  readonly key: { readonly value?: unknown; readonly range?: readonly number[] | null };
}

/** The reader goes down as deep as lists and maps are nested; ten thousand levels are more than its stack has. */
function isTooDeep(text: string): boolean {
  return text.includes("call stack");
}

function yamlProblem(text: string): string {
  if (isTooDeep(text)) return "lists or maps are nested too deeply here";
  return text.split("\n")[0]!.replace(/ at line \d+, column \d+:?$/, "");
}
