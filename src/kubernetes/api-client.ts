/** Requests to an API server over `fetch`: one answer, or the lines of a watch. */
import { messageOf } from "../error.ts";
import type { ApiAccess } from "./access.ts";
import { ApiError, statusCode, statusText, UnreadableAnswer } from "./api-error.ts";
import { present } from "../present.ts";

/** Longest until an answer is there, whole. */
const ANSWER_MS = 30_000;
/** Longest until a watch has begun. */
const BEGIN_MS = 15_000;
/** A Node is 4 kB, with many images a few hundred; a page of them is no larger than this. */
const MOST_LINE_BYTES = 8 * 1024 * 1024;
const MOST_ANSWER_BYTES = 256 * 1024 * 1024;
const MOST_REFUSAL_BYTES = 1024 * 1024;
/** Characters of a refusal that are told. */
const MOST_SAID = 500;

export interface ApiRequest {
  readonly method?: "GET" | "POST" | "PATCH";
  readonly body?: object;
  /** Of the body; `application/json` when absent. */
  readonly contentType?: string;
}

export class ApiClient {
  constructor(
    private readonly access: ApiAccess,
    private readonly agent: string,
  ) {}

  get server(): string {
    return this.access.server;
  }

  /** @throws ApiError */
  async json(path: string, request: ApiRequest = {}): Promise<unknown> {
    const doing = `asking the API server for ${path.split("?")[0]}`;
    const signal = AbortSignal.timeout(ANSWER_MS);
    const response = await this.#send(path, request, signal, doing);
    try {
      return JSON.parse(await textOf(response, MOST_ANSWER_BYTES)) as unknown;
    } catch (error) {
      throw new ApiError(doing, undefined, `the answer cannot be read: ${messageOf(error)}`);
    }
  }

  /**
   * The lines of an answer that goes on, until the server ends it. What stands behind the last line break when it ends is
   * half a line, and is dropped.
   * @param idleMs so long without a byte, and the connection is dead: no packet need tell of it
   * @throws ApiError
   */
  async *lines(path: string, signal: AbortSignal, idleMs: number): AsyncGenerator<string> {
    const doing = `watching ${path.split("?")[0]} at the API server`;
    const silence = new AbortController();
    let reason = `no answer within ${BEGIN_MS / 1000} s`;
    let timer = setTimeout(() => silence.abort(), BEGIN_MS);
    try {
      const response = await this.#send(path, {}, AbortSignal.any([signal, silence.signal]), doing);
      reason = `nothing came for ${idleMs / 1000} s`;
      clearTimeout(timer);
      timer = setTimeout(() => silence.abort(), idleMs);
      const decoder = new TextDecoder();
      let rest = "";
      for await (const chunk of chunksOf(response)) {
        clearTimeout(timer);
        timer = setTimeout(() => silence.abort(), idleMs);
        const parts = (rest + decoder.decode(chunk, { stream: true })).split("\n");
        rest = parts.pop()!;
        for (const line of parts) if (line !== "") yield line;
        if (rest.length > MOST_LINE_BYTES)
          throw new UnreadableAnswer(doing, `a line is longer than ${MOST_LINE_BYTES} bytes`);
      }
    } catch (error) {
      if (error instanceof ApiError) throw error;
      throw new ApiError(doing, undefined, silence.signal.aborted ? reason : messageOf(error));
    } finally {
      clearTimeout(timer);
      silence.abort();
    }
  }

  async #send(path: string, request: ApiRequest, signal: AbortSignal, doing: string): Promise<Response> {
    const { method = "GET", body, contentType = "application/json" } = request;
    const { tls, bearer } = await this.access.credentials();
    let response: Response;
    try {
      response = await fetch(
        this.access.server + path,
        present({
          method,
          signal,
          tls,
          redirect: "manual",
          headers: present({
            accept: "application/json",
            "user-agent": this.agent,
            authorization: bearer === undefined ? undefined : `Bearer ${bearer}`,
            "content-type": body === undefined ? undefined : contentType,
          }),
          body: body === undefined ? undefined : JSON.stringify(body),
        }),
      );
    } catch (error) {
      throw new ApiError(doing, undefined, `${this.access.server} does not answer: ${messageOf(error)}`);
    }
    if (response.ok) return response;
    if (response.status === 401) this.access.refused();
    throw await refusal(response, doing);
  }
}

async function* chunksOf(response: Response): AsyncGenerator<Uint8Array> {
  if (response.body === null) return;
  for await (const chunk of response.body as unknown as AsyncIterable<Uint8Array>) yield chunk;
}

/** The whole answer, unless it is longer than anything that such an answer is. */
async function textOf(response: Response, mostBytes: number): Promise<string> {
  const decoder = new TextDecoder();
  let text = "";
  let bytes = 0;
  for await (const chunk of chunksOf(response)) {
    bytes += chunk.length;
    if (bytes > mostBytes) throw new Error(`the answer is longer than ${mostBytes} bytes`);
    text += decoder.decode(chunk, { stream: true });
  }
  return text + decoder.decode();
}

async function refusal(response: Response, doing: string): Promise<ApiError> {
  const seconds = Number(response.headers.get("retry-after"));
  let status: unknown;
  try {
    status = JSON.parse(await textOf(response, MOST_REFUSAL_BYTES));
  } catch {
    // A proxy in between has no Status to give.
  }
  const said = statusText(status)?.slice(0, MOST_SAID);
  return new ApiError(
    doing,
    statusCode(status, response.status),
    `it answered ${response.status}${said === undefined ? "" : `: ${said}`}`,
    seconds > 0 ? seconds * 1000 : undefined,
  );
}
