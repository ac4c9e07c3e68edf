/** What the agent of this node says to the command line. Where none can be asked, the command looks for itself. */
import { askAgent, type Asked, type Said } from "../agent/ask.ts";
import { WayoutError } from "../error.ts";
import { NetworkNamespace } from "../kernel/namespace.ts";
import { note } from "./output.ts";

/** What an agent without the thing that is asked for says. */
const HAS_NONE: ReadonlySet<string> = new Set(["no-journal"]);

/**
 * The agent's answer; undefined where none runs, where it does not have the thing, or, told on standard error, where the
 * one that runs cannot be understood.
 * @throws WayoutError what the agent refuses
 */
export async function agentSaid<T>(
  path: string,
  query: Asked["query"] = {},
  node?: NetworkNamespace,
): Promise<T | undefined> {
  using own = node === undefined ? NetworkNamespace.current() : undefined;
  const said = await askAgent<T>(node ?? own!, path, { query });
  if (said.kind === "answer") return said.value;
  if (said.kind === "silent") note(`The agent of this node was not asked: ${said.why}.`);
  if (said.kind === "refusal" && !HAS_NONE.has(said.error.code)) throw said.error;
  return undefined;
}

/** For what only an agent can answer. @param start the command that starts one that can */
export function noAgent(
  doing: string,
  said: Extract<Said<unknown>, { readonly kind: "away" | "silent" }>,
  start: string,
): WayoutError {
  const away = said.kind === "away";
  return new WayoutError({
    code: "no-agent",
    kind: "machine",
    doing,
    said: away ? "no agent of this node answers" : `the agent of this node does not: ${said.why}`,
    todo: away ? `Start one, as root: ${start}` : "Start it again with this version: one agent a node.",
  });
}
