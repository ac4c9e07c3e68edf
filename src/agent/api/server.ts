/** The agent's doors: a socket of root's, and HTTP where it was asked for. */
import { rmSync } from "node:fs";
import { dirname } from "node:path";
import * as v from "valibot";
import { codeOf, messageOf, WayoutError } from "../../error.ts";
import { makeDirectory } from "../../kernel/file.ts";
import { placeFailure } from "../../kernel/own-place.ts";
import { jsonText } from "../../text/json.ts";
import { VERSION } from "../../version.ts";
import type { PageSignIn } from "../page/sign-in.ts";
import { VERSION_HEADER } from "../socket.ts";
import { refusal, type AccessRules, type Caller } from "./access.ts";
import { TooBusy } from "./ask-self.ts";
import type { Answer } from "./answer.ts";
import { LAB_ROUTES, ROUTES, type ApiRoute } from "./routes.ts";
import type { AgentView } from "./view.ts";
import { present } from "../../present.ts";

const MOST_BODY_BYTES = 64 * 1024;
/**
 * A connection on which nothing moves for so long is closed. Seconds. Bun extends it for one request (below) over TCP alone:
 * on a socket file it is as long as an answer may be.
 */
const IDLE_S = 20;
/** An answer that is given by a process of its own may be as long in coming, its turn included. Seconds. */
const ANSWER_S = 120;
const MOST_URL = 8 * 1024;
/** Each peer may ask so often at once, and so often a second for long. */
const BURST = 200;
const PER_SECOND = 50;
const MOST_PEERS = 1024;
/** Requests that are being answered at once; more are turned away. */
const MOST_OPEN = 256;

/**
 * An address, or a socket file that only its owner may open: behind it is a process that listens at `url`, on loopback, and hands
 * over what is asked there.
 */
export type HttpPlace =
  | { readonly hostname: string; readonly port: number }
  | { readonly unix: string; readonly url: string };

export interface ServerOptions {
  readonly view: AgentView;
  readonly rules: AccessRules;
  /** Path of the socket. */
  readonly socket: string;
  /** Where HTTP listens; nowhere when absent. */
  readonly listen?: HttpPlace;
  /** Serves the page, and lets people in; none is served when absent. */
  readonly page?: PageSignIn;
}

/** Headers of every answer: it is nobody's to frame, to guess at, or to keep. */
const HEADERS: Readonly<Record<string, string>> = {
  "cache-control": "no-store",
  "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
  "cross-origin-resource-policy": "same-origin",
  "referrer-policy": "no-referrer",
  "x-content-type-options": "nosniff",
  "x-frame-options": "DENY",
};

type Server = ReturnType<typeof Bun.serve>;

export class ApiServer {
  readonly #servers: readonly Server[];
  readonly #limits = new RateLimits();
  readonly #routes: readonly ApiRoute[];
  #open = 0;

  /** @throws WayoutError `port-in-use`, `no-socket` */
  constructor(private readonly options: ServerOptions) {
    const { socket, listen } = options;
    this.#routes = options.view.lab ? [...ROUTES, ...LAB_ROUTES] : ROUTES;
    rmSync(socket, { force: true });
    const over = (kind: Caller["over"]) => async (request: Request, server: Server) => {
      const answer = await this.#answer(request, server, kind);
      // Who may open the socket is root; which version runs is nobody else's business.
      if (kind === "socket") answer.headers.set(VERSION_HEADER, VERSION);
      return answer;
    };
    const common = { maxRequestBodySize: MOST_BODY_BYTES, idleTimeout: ANSWER_S } as const;
    // Made with nobody's rights but the owner's from the first moment on.
    const umask = process.umask(0o177);
    const servers: Server[] = [];
    const serve = (place: object, kind: Caller["over"]): void =>
      void servers.push(Bun.serve({ ...common, ...place, fetch: over(kind) }));
    try {
      makeDirectory(dirname(socket), 0o755);
      serve({ unix: socket }, "socket");
      if (listen !== undefined)
        serve("unix" in listen ? { unix: listen.unix } : { ...listen, idleTimeout: IDLE_S }, "http");
      this.#servers = servers;
    } catch (error) {
      // One that goes on listening would keep the process.
      for (const server of servers) void server.stop(true);
      if (servers.length > 0) rmSync(socket, { force: true });
      throw notOpened(socket, servers.length === 0 ? undefined : listen, error);
    } finally {
      process.umask(umask);
    }
  }

  /** The address on which HTTP listens. */
  get url(): string | undefined {
    const { listen } = this.options;
    return listen !== undefined && "unix" in listen ? listen.url : this.#servers[1]?.url.origin;
  }

  async close(): Promise<void> {
    await Promise.all(this.#servers.map((server) => server.stop(true)));
    rmSync(this.options.socket, { force: true });
  }

  async #answer(request: Request, server: Server, over: Caller["over"]): Promise<Response> {
    const peer = over === "socket" ? undefined : this.#peerOf(request, server);
    if (!this.#limits.allow(peer ?? "socket"))
      return problem(429, "too-many", "too many requests; slow down");
    if (this.#open >= MOST_OPEN) return problem(503, "too-many", "too many requests are being answered");
    this.#open++;
    try {
      return await this.#routed(request, server, callerOf(request, over, peer));
    } catch (error) {
      return failed(error);
    } finally {
      this.#open--;
    }
  }

  #peerOf(request: Request, server: Server): string | undefined {
    const { listen } = this.options;
    if (listen === undefined || !("unix" in listen)) return server.requestIP(request)?.address;
    // The one who hands it over listens on loopback alone.
    return "127.0.0.1";
  }

  async #routed(request: Request, server: Server, caller: Caller): Promise<Response> {
    if (request.url.length > MOST_URL) return problem(414, "too-long", "the address is too long");
    const url = URL.parse(request.url);
    // Of a name that is none, and of a request without one.
    if (url === null) return problem(400, "bad-request", "the address, or the Host, cannot be read");
    const page = caller.over === "http" ? this.options.page : undefined;
    if (page?.owns(url.pathname) === true) {
      const refused = refusal(caller, "open", this.options.rules);
      return refused === undefined
        ? page.answer(request, url.pathname, caller)
        : problem(refused.status, refused.code, refused.said);
    }
    const matches = this.#routes.flatMap((route) => {
      const found = matchPath(route.path, url.pathname);
      return found === undefined ? [] : [{ route, found }];
    });
    const match = matches.find(({ route }) => route.method === request.method);
    // Whether there is such a route is nobody's business who may not ask.
    const asked = match ?? matches[0];
    const refused = refusal(caller, asked?.route.access ?? "read", this.options.rules);
    if (refused !== undefined) return problem(refused.status, refused.code, refused.said);
    if (match === undefined) {
      return asked === undefined
        ? problem(404, "no-route", "there is no such path")
        : problem(405, "wrong-method", `${url.pathname} takes the method ${asked.route.method}`);
    }
    const after = request.headers.get("last-event-id");
    if (match.route.path === "/v1/events" && after !== null && !url.searchParams.has("after"))
      url.searchParams.set("after", after);
    const parameters = checked(match.route, match.found, url.searchParams);
    if (parameters instanceof Response) return parameters;
    server.timeout(request, ANSWER_S);
    const answer = await match.route.answer({ view: this.options.view, parameters });
    if (answer.kind === "stream") server.timeout(request, 0);
    return responseOf(answer);
  }
}

function callerOf(request: Request, over: Caller["over"], peer: string | undefined): Caller {
  const header = (name: string): string | undefined => request.headers.get(name) ?? undefined;
  const fields = {
    peer,
    host: header("host"),
    origin: header("origin"),
    fetchSite: header("sec-fetch-site"),
    authorization: header("authorization"),
    cookie: header("cookie"),
  };
  return {
    over,
    ...(Object.fromEntries(
      Object.entries(fields).filter(([, value]) => value !== undefined),
    ) as Partial<Caller>),
  };
}

/** The path's own parameters; undefined when it is another path. */
function matchPath(pattern: string, path: string): Record<string, string> | undefined {
  const wanted = pattern.split("/");
  const given = path.split("/");
  if (wanted.length !== given.length) return undefined;
  const found: Record<string, string> = {};
  for (const [index, part] of wanted.entries()) {
    const name = /^\{(\w+)\}$/.exec(part)?.[1];
    if (name === undefined) {
      if (part !== given[index]) return undefined;
      continue;
    }
    try {
      found[name] = decodeURIComponent(given[index]!);
    } catch {
      return undefined;
    }
  }
  return found;
}

/** What may be asked, and nothing else. */
function checked(
  route: ApiRoute,
  found: Record<string, string>,
  search: URLSearchParams,
): Record<string, string> | Response {
  const parameters: Record<string, string> = {};
  for (const name of search.keys()) {
    if (!route.parameters.some((one) => one.in === "query" && one.name === name)) {
      return problem(
        400,
        "unknown-parameter",
        `${route.path} has no parameter ${JSON.stringify(name.slice(0, 40))}`,
      );
    }
    // One reader would take the first, another the last.
    if (search.getAll(name).length > 1) return problem(400, "bad-parameter", `${name} is given twice`);
  }
  for (const { name, in: place, schema, required } of route.parameters) {
    const given = place === "path" ? found[name] : (search.get(name) ?? undefined);
    if (given === undefined && required === true) return problem(400, "bad-parameter", `${name} is missing`);
    if (given === undefined) continue;
    const result = v.safeParse(schema, given);
    if (!result.success) return problem(400, "bad-parameter", `${name}: ${result.issues[0].message}`);
    parameters[name] = result.output;
  }
  return parameters;
}

function responseOf(answer: Answer): Response {
  if (answer.kind === "json") return json(answer.value, { status: answer.status ?? 200, headers: HEADERS });
  const headers = { ...HEADERS, "content-type": answer.type };
  if (answer.kind === "stream") return new Response(answer.stream, { headers });
  return new Response(answer.text, { status: answer.status ?? 200, headers });
}

function failed(error: unknown): Response {
  if (error instanceof TooBusy)
    return problem(503, "too-busy", "too many requests are waiting; try again later");
  if (error instanceof WayoutError) {
    const status = { usage: 400, machine: 503, broken: 500 }[error.kind];
    return problem(error.code === "before-the-journal" ? 404 : status, error.code, error.message, error.todo);
  }
  return problem(500, "failed", messageOf(error));
}

function problem(status: number, code: string, said: string, todo?: string): Response {
  const headers = {
    ...HEADERS,
    ...present({
      "www-authenticate": status === 401 ? "Bearer" : undefined,
      "retry-after": status === 429 ? "1" : undefined,
    }),
  };
  const error = present({ code, message: said, todo });
  return json({ error }, { status, headers });
}

/** With curl it is read on a terminal. */
function json(value: unknown, { status, headers }: { status: number; headers: object }): Response {
  return new Response(jsonText(value), {
    status,
    headers: { ...headers, "content-type": "application/json;charset=utf-8" },
  });
}

/** A bucket for each peer, which fills again with time. */
class RateLimits {
  readonly #buckets = new Map<string, { left: number; at: number }>();

  allow(peer: string, now: number = performance.now()): boolean {
    if (this.#buckets.size > MOST_PEERS) this.#buckets.clear();
    const bucket = this.#buckets.get(peer) ?? { left: BURST, at: now };
    const left = Math.min(BURST, bucket.left + ((now - bucket.at) / 1000) * PER_SECOND);
    this.#buckets.set(peer, { left: Math.max(0, left - 1), at: now });
    return left >= 1;
  }
}

/** @param listen where it was to listen; undefined for the socket itself */
function notOpened(socket: string, listen: HttpPlace | undefined, error: unknown): WayoutError {
  const address =
    listen === undefined || "unix" in listen ? "socket" : `port ${listen.hostname}:${listen.port}`;
  const inUse = codeOf(error) === "EADDRINUSE";
  const directory = dirname(socket);
  const place = placeFailure(
    directory,
    "directory",
    error,
    `Check that ${directory} can be written and has room.`,
  );
  return new WayoutError({
    code: inUse ? "port-in-use" : "no-socket",
    kind: "machine",
    doing: `opening the agent's ${address}`,
    ...(inUse
      ? { said: messageOf(error), todo: "Choose another one: --listen 127.0.0.1:PORT." }
      : address === "socket"
        ? place
        : { said: messageOf(error), todo: "Choose an address of this machine: --listen 127.0.0.1:PORT." }),
    cause: error,
  });
}
