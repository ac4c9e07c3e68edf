/** The agent of this node, asked over its socket by another process of this program. */
import { existsSync } from "node:fs";
import { codeOf, messageOf, WayoutError } from "../error.ts";
import type { NetworkNamespace } from "../kernel/namespace.ts";
import { VERSION } from "../version.ts";
import { socketPath, VERSION_HEADER } from "./socket.ts";
import { present } from "../present.ts";

/** An agent answers in milliseconds; for one that does not answer nobody waits longer. */
const TIMEOUT_MS = 5_000;

/** What a killed agent left behind is a socket that nobody answers; it is root's alone. */
const GONE: ReadonlySet<string | undefined> = new Set(["ENOENT", "ECONNREFUSED", "EACCES", "EPERM"]);

/** It has enough to do: the caller looks by itself. */
const BUSY: ReadonlySet<string> = new Set(["too-many", "too-busy"]);

export interface Asked {
  readonly method?: "POST";
  /** What stands behind `?`; those without a value are left away. */
  readonly query?: Readonly<Record<string, string | undefined>>;
}

export type Said<T> =
  | { readonly kind: "answer"; readonly value: T }
  /** It runs, and will not or cannot answer this. */
  | { readonly kind: "refusal"; readonly error: WayoutError }
  /** None runs on this node. */
  | { readonly kind: "away" }
  /** One runs, or something has its socket, and cannot be understood. */
  | { readonly kind: "silent"; readonly why: string };

/** Asks the agent of `node`. Never throws: who asks goes on without it. */
export async function askAgent<T>(
  node: NetworkNamespace,
  path: string,
  { method, query = {} }: Asked = {},
): Promise<Said<T>> {
  const unix = socketPath(node);
  if (!existsSync(unix)) return { kind: "away" };
  const parameters = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) if (value !== undefined) parameters.set(name, value);
  try {
    const signal = AbortSignal.timeout(TIMEOUT_MS);
    const answer = await fetch(
      `http://agent${path}?${parameters.toString()}`,
      present({
        unix,
        signal,
        method,
      }),
    );
    const version = answer.headers.get(VERSION_HEADER);
    if (version !== VERSION)
      return { kind: "silent", why: `it is of version ${version ?? "unknown"}, and this is ${VERSION}` };
    const value = (await answer.json()) as T & { readonly error?: AgentError };
    if (answer.ok) return { kind: "answer", value };
    const error = refusalOf(path, answer.status, value.error);
    return BUSY.has(error.code) ? { kind: "silent", why: error.said } : { kind: "refusal", error };
  } catch (error) {
    return GONE.has(codeOf(error)) ? { kind: "away" } : { kind: "silent", why: messageOf(error) };
  }
}

interface AgentError {
  readonly code: string;
  readonly message: string;
  readonly todo?: string;
}

function refusalOf(path: string, status: number, error: AgentError | undefined): WayoutError {
  const { code = "no-answer", message = `status ${status}`, todo } = error ?? {};
  return new WayoutError(
    present({
      code,
      kind: status === 503 ? "machine" : status >= 500 || status === 404 ? "broken" : "usage",
      doing: `asking the agent for ${path}`,
      said: message,
      todo,
    }),
  );
}
