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
    return this.status === EXPIRED;
  }
}

/** What came is not what was asked for: something was said, and nobody knows what. */
export class UnreadableAnswer extends ApiError {
  constructor(doing: string, said: string) {
    super(doing, undefined, said);
  }
}

/** `Status` of the API: `{"kind":"Status","code":410,"reason":"Expired","message":"…"}`. */
export function statusText(value: unknown): string | undefined {
  if (typeof value !== "object" || value === null) return undefined;
  const { reason, message } = value as { readonly reason?: unknown; readonly message?: unknown };
  const words = [reason, message].filter((one) => typeof one === "string" && one !== "");
  return words.length === 0 ? undefined : words.join(": ");
}

/**
 * Its code, or that of HTTP. A version that the server has not reached yet (504, ResourceVersionTooLarge), as after its
 * database was restored, is as far from it as one that it has forgotten: 410.
 */
export function statusCode(value: unknown, ofHttp?: number): number | undefined {
  const { code, details } = (value ?? {}) as { readonly code?: unknown; readonly details?: unknown };
  const { causes } = (details ?? {}) as { readonly causes?: unknown };
  const isAhead = Array.isArray(causes) && causes.some((one) => one?.reason === "ResourceVersionTooLarge");
  if (isAhead) return EXPIRED;
  return typeof code === "number" ? code : ofHttp;
}

const EXPIRED = 410;
