/** Asking the agent. Everything that comes back is spelled out, so that nothing unseen reaches the page. */
import { visible, visibleValue } from "../../text/visible.ts";
import { present } from "../../present.ts";

/** What the agent said instead of an answer. */
export class Refused extends Error {
  constructor(
    readonly code: string,
    message: string,
    readonly todo?: string,
  ) {
    super(message);
  }
}

interface ErrorAnswer {
  readonly error?: {
    readonly code?: string;
    readonly message?: string;
    readonly said?: string;
    readonly todo?: string;
  };
}

export interface Question {
  readonly method?: "GET" | "POST";
  readonly parameters?: Readonly<Record<string, string | undefined>>;
  readonly signal?: AbortSignal;
}

/** @throws Refused */
export async function ask<T>(
  path: string,
  { method = "GET", parameters = {}, signal }: Question = {},
): Promise<T> {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) {
    if (value !== undefined && value !== "") query.set(name, value);
  }
  const text = query.toString();
  let answer: Response;
  try {
    answer = await fetch(
      text === "" ? path : `${path}?${text}`,
      present({
        method,
        signal,
      }),
    );
  } catch (error) {
    if (signal?.aborted === true) throw error;
    throw new Refused(
      "away",
      "The agent does not answer.",
      "Is it still running? systemctl status wayout-agent",
    );
  }
  const value = (await answer.json()) as unknown;
  const { error } = (value ?? {}) as ErrorAnswer;
  if (!answer.ok || error !== undefined) {
    throw new Refused(
      error?.code ?? String(answer.status),
      visible(error?.message ?? `status ${answer.status}`),
      error?.todo === undefined ? undefined : visible(error.todo),
    );
  }
  return visibleValue(value) as T;
}
