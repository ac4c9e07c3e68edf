/** What an API server answered, or that it did not. */
import { WayoutError } from "../error.ts";
import { present } from "../present.ts";

/** @property status of HTTP, or the code of a Status that came inside a watch; undefined: there was no answer */
export class ApiError extends WayoutError {
  constructor(
    doing: string,
    readonly status: number | undefined,
    said: string,
    /** The server asked to be left alone for so long. */
    readonly retryAfterMs?: number,
  ) {
    super(
      present({
        code: status === 401 || status === 403 ? "api-refused" : "api-unavailable",
        kind: "broken",
        doing,
        said,
        todo: status === 403 ? "Give the account the role that deploy/kubernetes describes." : undefined,
      }),
    );
  }

  /** The version that was asked for is too old: only a new list helps. */
  get isExpired(): boolean {
    return this.status === 410;
  }
}

/** `Status` of the API: `{"kind":"Status","code":410,"reason":"Expired","message":"…"}`. */
export function statusText(value: unknown): string | undefined {
  if (typeof value !== "object" || value === null) return undefined;
  const { reason, message } = value as { readonly reason?: unknown; readonly message?: unknown };
  const words = [reason, message].filter((one) => typeof one === "string" && one !== "");
  return words.length === 0 ? undefined : words.join(": ");
}

export function statusCode(value: unknown): number | undefined {
  const code = (value as { readonly code?: unknown } | null)?.code;
  return typeof code === "number" ? code : undefined;
}
