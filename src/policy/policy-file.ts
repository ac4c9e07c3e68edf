/** From the text of a policy file (YAML or JSON) to a policy, with errors that name the field and its position. */
import { readFileSync } from "node:fs";
import * as v from "valibot";
import type { Document, LineCounter, Node } from "yaml";
import { messageOf, WayoutError } from "../error.ts";
import { editDistance } from "../text/edit-distance.ts";
import { POLICY, policyOf, type NatPolicy } from "./policy.ts";

/** One thing that is wrong with a policy file. */
export interface PolicyProblem {
  /** `sources[1].snat`; empty for the file as a whole. */
  readonly path: string;
  /** 1-based; absent when the field is not there at all. */
  readonly line?: number;
  readonly column?: number;
  readonly problem: string;
}

/**
 * @param name for messages: the file's path, or "stdin"
 * @throws WayoutError `bad-policy`; `details.problems` lists every PolicyProblem
 */
export async function parsePolicy(text: string, name: string): Promise<NatPolicy> {
  // Only this needs a YAML parser; a CNI call never does.
  const { LineCounter, parseDocument } = await import("yaml");
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false });
  if (document.errors.length > 0) {
    throw badPolicy(
      name,
      document.errors.map((error) => {
        const { line, col } = lines.linePos(error.pos[0]);
        return { path: "", line, column: col, problem: firstLine(error.message) };
      }),
    );
  }
  // An empty file is ip-masq-agent's way to ask for the defaults.
  const value: unknown = document.toJS() ?? {};
  if (typeof value !== "object" || Array.isArray(value)) {
    throw badPolicy(name, [
      { path: "", ...position(document, lines, []), problem: "a policy is a map of keys and values" },
    ]);
  }
  const result = v.safeParse(POLICY, value);
  if (!result.success)
    throw badPolicy(
      name,
      result.issues.map((issue) => problemOf(issue, document, lines)),
    );
  const { cidrLimit, nonMasqueradeCIDRs } = result.output;
  if (nonMasqueradeCIDRs.length > cidrLimit) {
    const problem = `holds ${nonMasqueradeCIDRs.length} CIDRs; cidrLimit is ${cidrLimit}: raise it, or list fewer`;
    throw badPolicy(name, [
      { path: "nonMasqueradeCIDRs", ...position(document, lines, ["nonMasqueradeCIDRs"]), problem },
    ]);
  }
  try {
    return policyOf(result.output);
  } catch (error) {
    if (!(error instanceof WayoutError) || error.code !== "bad-nat-intent") throw error;
    throw badPolicy(name, [intentProblem(error, document, lines)]);
  }
}

/** @param path a file, or `-` for standard input. @throws WayoutError `policy-unreadable`, `bad-policy` */
export async function readPolicy(path: string): Promise<NatPolicy> {
  const { name, text } = await readPolicyText(path);
  return parsePolicy(text, name);
}

/** @throws WayoutError `policy-unreadable` */
export async function readPolicyText(
  path: string,
): Promise<{ readonly name: string; readonly text: string }> {
  try {
    const text = path === "-" ? await Bun.stdin.text() : readFileSync(path, "utf8");
    return { name: path === "-" ? "stdin" : path, text };
  } catch (error) {
    throw new WayoutError({
      code: "policy-unreadable",
      kind: "usage",
      doing: `reading the NAT policy ${path}`,
      said: messageOf(error),
      todo: "Give the path of a YAML or JSON file, or - for standard input.",
      cause: error,
    });
  }
}

function badPolicy(name: string, problems: readonly PolicyProblem[]): WayoutError {
  const texts = problems.map(({ path, line, column, problem }) => {
    const where = line === undefined ? "" : ` (line ${line}, column ${column})`;
    return path === "" ? `${problem}${where}` : `${path}: ${problem}${where}`;
  });
  return new WayoutError({
    code: "bad-policy",
    kind: "usage",
    doing: `reading the NAT policy ${name}`,
    said: texts.join("; "),
    todo: "Nothing was changed. examples/nat-policy.yaml shows every key.",
    details: { file: name, problems },
  });
}

type Path = readonly (string | number)[];

function problemOf(
  issue: v.BaseIssue<unknown>,
  document: Document.Parsed,
  lines: LineCounter,
): PolicyProblem {
  const path = (issue.path ?? []).map(({ key }) => key as string | number);
  const isUnknownKey = issue.type === "strict_object" && issue.expected === "never";
  const isMissing = issue.type === "strict_object" && !isUnknownKey && issue.received === "undefined";
  const place = position(document, lines, path, isUnknownKey);
  if (isUnknownKey) return { path: pathText(path), ...place, problem: unknownKey(path) };
  if (isMissing) return { path: pathText(path), ...place, problem: "is missing" };
  return { path: pathText(path), ...place, problem: issue.message };
}

/** `sources[1].snat` */
function pathText(path: Path): string {
  return path
    .map((part, index) => (typeof part === "number" ? `[${part}]` : index === 0 ? part : `.${part}`))
    .join("");
}

const KEYS = Object.keys(POLICY.entries);
const SOURCE_KEYS = ["cidr", "snat", "portRange", "randomFully", "outInterfaces", "drop"];

function unknownKey(path: Path): string {
  const key = String(path.at(-1));
  const known = path.length > 1 ? SOURCE_KEYS : KEYS;
  const nearest = known
    .map((one) => ({ one, distance: editDistance(key.toLowerCase(), one.toLowerCase()) }))
    .sort((a, b) => a.distance - b.distance)[0]!;
  const hint =
    nearest.distance <= Math.max(2, key.length / 3)
      ? `did you mean ${nearest.one}?`
      : `known keys are ${known.join(", ")}`;
  return `unknown key; ${hint}`;
}

/** Where a field stands: its key for a key that is wrong, otherwise its value; a missing one, where its parent does. */
function position(
  document: Document.Parsed,
  lines: LineCounter,
  path: Path,
  ofKey = false,
): { line?: number; column?: number } {
  for (let length = path.length; length >= 0; length--) {
    const at = offsetOf(document, path.slice(0, length), ofKey && length === path.length);
    if (at === undefined) continue;
    const { line, col } = lines.linePos(at);
    return { line, column: col };
  }
  return {};
}

interface KeyedPair {
  readonly key: { readonly value?: unknown; readonly range?: readonly number[] | null };
}

function offsetOf(document: Document.Parsed, path: Path, ofKey: boolean): number | undefined {
  if (ofKey) {
    const parent = path.length === 1 ? document.contents : document.getIn(path.slice(0, -1), true);
    const items = (parent as { readonly items?: readonly KeyedPair[] } | undefined)?.items ?? [];
    return items.find(({ key }) => key?.value === path.at(-1))?.key.range?.[0];
  }
  const node = (path.length === 0 ? document.contents : document.getIn(path, true)) as
    | Node
    | null
    | undefined;
  return node?.range?.[0];
}

/** An intent's fields have other names than the file's. */
function intentProblem(error: WayoutError, document: Document.Parsed, lines: LineCounter): PolicyProblem {
  const at = error.details?.["path"] as string;
  const index = /^sources\[(\d+)\]/.exec(at)?.[1];
  const field = at.endsWith("snat")
    ? "snat"
    : at.endsWith("ports")
      ? "portRange"
      : at.endsWith("drop")
        ? "drop"
        : "cidr";
  const problem = error.said.slice(error.said.indexOf(": ") + 2);
  if (index === undefined) return { path: at, problem };
  const own: Path = ["sources", Number(index), field];
  const common: Path = [field];
  const path = document.hasIn(own) ? own : document.hasIn(common) ? common : ["sources", Number(index)];
  return { path: pathText(path), ...position(document, lines, path), problem };
}

function firstLine(text: string): string {
  return text.split("\n")[0]!.replace(/ at line \d+, column \d+:?$/, "");
}
