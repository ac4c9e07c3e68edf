/**
 * An API server of the tests' own: it speaks list and watch over TLS as the real one does (paged lists, versions that grow
 * with every change, bookmarks, versions that become too old), and misbehaves when it is told to.
 */
import { createServer, type Server } from "node:https";
import type { IncomingMessage, ServerResponse } from "node:http";
import type { TLSSocket } from "node:tls";
import { afterThisTest } from "../support/teardown.ts";
import { Authority, type Signed } from "./certificates.ts";

export interface ApiObject {
  readonly kind: string;
  readonly metadata: {
    readonly name: string;
    readonly namespace?: string;
    readonly uid?: string;
    readonly resourceVersion?: string;
    readonly [field: string]: unknown;
  };
  readonly [field: string]: unknown;
}

interface Change {
  readonly version: number;
  readonly type: "ADDED" | "MODIFIED" | "DELETED";
  readonly collection: string;
  readonly object: ApiObject;
}

interface Watcher {
  readonly collection: string;
  readonly response: ServerResponse;
}

/** What it does wrong. Each holds until it is taken back. */
export interface Misbehaviour {
  /** A watch is answered with 410 over HTTP, or by an ERROR inside it. */
  expired?: "http" | "in-band";
  /** Watches are answered as by a server that is behind the version they name. */
  ahead?: boolean;
  /** A watch ends as soon as it has begun. */
  closesAtOnce?: boolean;
  /** A watch begins, and nothing more ever comes over it; the connection stays. */
  silent?: boolean;
  /** Events come in pieces of so many bytes. */
  pieces?: number;
  /** The watch is cut in the middle of the next event. */
  cutsEvent?: boolean;
  /** Every list is complete and empty. */
  emptyList?: boolean;
  /** Pages of a list behind the first are refused with this, so many times. */
  failsPages?: { readonly status: number; times: number; readonly retryAfter?: number };
  /** Every page says that another one follows: always the same, or always a new one. */
  endlessPages?: "same" | "new";
  /** Every answer comes so much later. */
  slowMs?: number;
  /** Everything is answered with this. */
  status?: number;
  /** Answers of somebody else: a page of a proxy with status 200. */
  stranger?: boolean;
}

export interface Asked {
  readonly method: string;
  readonly path: string;
  readonly query: URLSearchParams;
  readonly body: unknown;
}

export class TestApiServer {
  readonly authority = new Authority();
  readonly wrong: Misbehaviour = {};
  /** Bearer tokens that it takes; a client certificate of its authority does as well. */
  readonly tokens = new Set<string>(["token-of-the-test"]);
  readonly asked: Asked[] = [];
  /** Paths, by their beginning with method, that the account may not use: `PATCH /api/v1/nodes`. */
  readonly forbidden = new Set<string>();
  #objects = new Map<string, Map<string, ApiObject>>();
  #changes: Change[] = [];
  #version = 1000;
  #oldest = 0;
  readonly #watchers = new Set<Watcher>();
  readonly #server: Server;
  readonly #sockets = new Set<TLSSocket>();
  #port = 0;
  #within: (work: () => void) => void = (work) => work();

  private constructor(readonly hostname: string) {
    const own = this.authority.sign("api", `IP:${hostname}`, "DNS:kubernetes");
    this.#server = createServer(
      { ...own, ca: this.authority.cert, requestCert: true, rejectUnauthorized: false },
      (request, response) => void this.#answer(request, response),
    );
    this.#server.on("secureConnection", (socket: TLSSocket) => {
      this.#sockets.add(socket);
      socket.on("error", () => {});
      socket.on("close", () => this.#sockets.delete(socket));
    });
  }

  /** Listens in the calling thread's namespace. */
  static async start(): Promise<TestApiServer> {
    const server = TestApiServer.unstarted("127.0.0.1");
    await server.listen();
    return server;
  }

  static unstarted(hostname: string): TestApiServer {
    const server = new TestApiServer(hostname);
    afterThisTest(() => server.stop());
    return server;
  }

  /** @param within runs it in a namespace; the next time in the same one */
  async listen(within: (work: () => void) => void = this.#within): Promise<void> {
    this.#within = within;
    await new Promise<void>((resolve, reject) => {
      this.#server.once("error", reject);
      within(() => this.#server.listen(this.#port, this.hostname, () => resolve()));
    });
    this.#port = (this.#server.address() as { readonly port: number }).port;
  }

  get url(): string {
    return `https://${this.hostname.includes(":") ? `[${this.hostname}]` : this.hostname}:${this.#port}`;
  }

  client(commonName: string): Signed {
    return this.authority.sign(commonName);
  }

  agentUser(nodeName: string): object {
    const { cert, key } = this.client(nodeName);
    const base64 = (text: string): string => Buffer.from(text).toString("base64");
    return { "client-certificate-data": base64(cert), "client-key-data": base64(key) };
  }

  /** Away, with every connection; `listen` brings it back on the same port. */
  async stop(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    this.dropConnections();
    await Promise.race([closed, Bun.sleep(500)]);
  }

  dropConnections(): void {
    for (const { response } of this.#watchers) response.destroy();
    this.#watchers.clear();
    for (const socket of this.#sockets) socket.destroy();
  }

  get watches(): number {
    return this.#watchers.size;
  }

  count(method: string, path: string, watch = false): number {
    return this.asked.filter(
      (one) => one.method === method && one.path === path && one.query.has("watch") === watch,
    ).length;
  }

  object(collection: string, name: string): ApiObject | undefined {
    return this.#objects.get(collection)?.get(name);
  }

  /** Creates or replaces. `collection` is its path: `/api/v1/nodes`. */
  put(collection: string, object: ApiObject): void {
    const list = this.#objects.get(collection) ?? new Map<string, ApiObject>();
    this.#objects.set(collection, list);
    const before = list.get(object.metadata.name);
    const version = ++this.#version;
    const uid = before?.metadata.uid ?? object.metadata.uid ?? crypto.randomUUID();
    const stored = { ...object, metadata: { ...object.metadata, uid, resourceVersion: String(version) } };
    list.set(object.metadata.name, stored);
    this.#change({ version, type: before === undefined ? "ADDED" : "MODIFIED", collection, object: stored });
  }

  delete(collection: string, name: string): void {
    const object = this.object(collection, name);
    if (object === undefined) throw new Error(`there is no ${name} in ${collection}`);
    this.#objects.get(collection)!.delete(name);
    const version = ++this.#version;
    const last = { ...object, metadata: { ...object.metadata, resourceVersion: String(version) } };
    this.#change({ version, type: "DELETED", collection, object: last });
  }

  bookmark(): void {
    for (const watcher of this.#watchers) {
      const object = { kind: "Bookmark", metadata: { resourceVersion: String(this.#version) } };
      this.#send(watcher, { type: "BOOKMARK", object });
    }
  }

  /** Raw text to everybody who watches. */
  say(text: string): void {
    for (const { response } of this.#watchers) response.write(text);
  }

  /** Ends every watch in order, as the server does after timeoutSeconds. */
  endWatches(): void {
    for (const { response } of this.#watchers) response.end();
    this.#watchers.clear();
  }

  /** Versions up to now are too old from now on. */
  compact(): void {
    this.#oldest = ++this.#version;
    this.#changes = [];
  }

  #change(change: Change): void {
    this.#changes.push(change);
    for (const watcher of this.#watchers)
      if (watcher.collection === change.collection) this.#send(watcher, change);
  }

  #send({ response }: Watcher, { type, object }: { readonly type: string; readonly object: unknown }): void {
    if (this.wrong.silent === true) return;
    const line = `${JSON.stringify({ type, object })}\n`;
    if (this.wrong.cutsEvent === true) {
      this.wrong.cutsEvent = false;
      response.write(line.slice(0, line.length / 2), () => response.destroy());
      return;
    }
    const { pieces } = this.wrong;
    if (pieces === undefined) response.write(line);
    else for (let at = 0; at < line.length; at += pieces) response.write(line.slice(at, at + pieces));
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? "/", "https://api");
    const method = request.method ?? "GET";
    const body = await bodyOf(request);
    this.asked.push({ method, path: url.pathname, query: url.searchParams, body });
    if (this.wrong.slowMs !== undefined) await Bun.sleep(this.wrong.slowMs);
    if (this.wrong.stranger === true) return send(response, 200, { hello: "this is a proxy" });
    if (this.wrong.status !== undefined) return fail(response, this.wrong.status, "as the test wants it");
    if (!this.#isKnown(request)) return fail(response, 401, "Unauthorized");
    const used = `${method} ${url.pathname}`;
    if ([...this.forbidden].some((path) => used.startsWith(path))) return fail(response, 403, "Forbidden");
    if (method === "POST") return this.#create(url.pathname, body as ApiObject, response);
    if (method === "PATCH") return this.#patch(url.pathname, body as Patch, response);
    if (url.searchParams.has("watch")) return this.#watch(url, response);
    const [, collection = "", name = ""] = /^(.*\/[a-z]+)\/([^/]+)$/.exec(url.pathname) ?? [];
    const single = this.object(collection, name);
    if (single !== undefined) return send(response, 200, single);
    this.#list(url, response);
  }

  #isKnown(request: IncomingMessage): boolean {
    const [, token] = /^Bearer (.+)$/.exec(request.headers.authorization ?? "") ?? [];
    if (token !== undefined) return this.tokens.has(token);
    return (request.socket as TLSSocket).authorized;
  }

  #list(url: URL, response: ServerResponse): void {
    const all = [...(this.#objects.get(url.pathname)?.values() ?? [])];
    const limit = Number(url.searchParams.get("limit") ?? all.length);
    const from = Number(url.searchParams.get("continue") ?? 0);
    const { failsPages, endlessPages } = this.wrong;
    if (from > 0 && failsPages !== undefined && failsPages.times > 0) {
      failsPages.times--;
      if (failsPages.retryAfter !== undefined) response.setHeader("retry-after", failsPages.retryAfter);
      return fail(response, failsPages.status, "as the test wants it");
    }
    if (endlessPages !== undefined) {
      const metadata = {
        resourceVersion: String(this.#version),
        continue: endlessPages === "same" ? "1" : String(from + 1),
      };
      return send(response, 200, { kind: "ObjectList", apiVersion: "v1", metadata, items: all });
    }
    const items = this.wrong.emptyList === true ? [] : all.slice(from, from + limit);
    const next =
      this.wrong.emptyList !== true && from + limit < all.length ? { continue: String(from + limit) } : {};
    const metadata = { resourceVersion: String(this.#version), ...next };
    send(response, 200, { kind: "ObjectList", apiVersion: "v1", metadata, items });
  }

  #watch(url: URL, response: ServerResponse): void {
    const from = Number(url.searchParams.get("resourceVersion"));
    const isOld = from < this.#oldest || this.wrong.expired !== undefined;
    if (this.wrong.ahead === true) {
      const message = `Too large resource version: ${from}, current: 7`;
      // As ResourceVersionTooLarge is told (k8s.io/apiserver, NewTooLargeResourceVersionError).
      const details = {
        causes: [{ reason: "ResourceVersionTooLarge", message: "Too large resource version" }],
      };
      const status = { kind: "Status", status: "Failure", reason: "Timeout", code: 504, message, details };
      return send(response, 504, status);
    }
    if (isOld && this.wrong.expired === "http") return fail(response, 410, "too old resource version");
    response.writeHead(200, { "content-type": "application/json" });
    response.flushHeaders();
    if (isOld) {
      const object = { kind: "Status", code: 410, reason: "Expired", message: "too old resource version" };
      response.end(`${JSON.stringify({ type: "ERROR", object })}\n`);
      return;
    }
    if (this.wrong.closesAtOnce === true) return void response.end();
    const watcher = { collection: url.pathname, response };
    this.#watchers.add(watcher);
    response.on("close", () => this.#watchers.delete(watcher));
    for (const change of this.#changes)
      if (change.version > from && change.collection === url.pathname) this.#send(watcher, change);
  }

  #create(collection: string, object: ApiObject, response: ServerResponse): void {
    this.put(collection, object);
    send(response, 201, this.object(collection, object.metadata.name));
  }

  /** `…/nodes/NAME/status` and `…/nodes/NAME`: conditions by their type, the rest field by field. */
  #patch(path: string, patch: Patch, response: ServerResponse): void {
    const [, collection = "", name = ""] = /^(.*\/[a-z]+)\/([^/]+?)(?:\/status)?$/.exec(path) ?? [];
    const object: PatchedObject | undefined = this.object(collection, name);
    if (object === undefined) return fail(response, 404, "not found");
    const version = patch.metadata?.resourceVersion;
    if (version !== undefined && version !== object.metadata.resourceVersion)
      return fail(response, 409, "Conflict");
    const conditions = new Map((object.status?.conditions ?? []).map((one) => [one.type, one]));
    for (const one of patch.status?.conditions ?? [])
      conditions.set(one.type, { ...conditions.get(one.type), ...one });
    this.put(collection, {
      ...object,
      spec: { ...object.spec, ...patch.spec },
      status: { ...object.status, conditions: [...conditions.values()] },
    });
    send(response, 200, this.object(collection, name));
  }
}

type PatchedObject = ApiObject & { readonly spec?: object; readonly status?: Patch["status"] };

interface Patch {
  readonly metadata?: { readonly resourceVersion?: string };
  readonly spec?: object;
  readonly status?: { readonly conditions?: readonly { readonly type: string }[] };
}

async function bodyOf(request: IncomingMessage): Promise<unknown> {
  let text = "";
  for await (const chunk of request) text += String(chunk);
  return text === "" ? undefined : JSON.parse(text);
}

function send(response: ServerResponse, status: number, value: unknown): void {
  response.writeHead(status, { "content-type": "application/json" });
  response.end(JSON.stringify(value));
}

function fail(response: ServerResponse, code: number, message: string): void {
  send(response, code, { kind: "Status", status: "Failure", code, message });
}

export const NODES = "/api/v1/nodes";

/** A Node as kubelet and the controller leave it. */
export function nodeObject(
  name: string,
  podCidrs: readonly string[],
  addresses: readonly string[],
  extra: { readonly ready?: boolean; readonly taints?: readonly object[]; readonly uid?: string } = {},
): ApiObject {
  const { ready = true, taints = [], uid } = extra;
  return {
    kind: "Node",
    apiVersion: "v1",
    metadata: {
      name,
      creationTimestamp: "2026-11-29T00:00:00Z",
      labels: { "kubernetes.io/hostname": name },
      ...(uid === undefined ? {} : { uid }),
    },
    spec: { ...(podCidrs.length === 0 ? {} : { podCIDR: podCidrs[0], podCIDRs: podCidrs }), taints },
    status: {
      addresses: [
        { type: "Hostname", address: name },
        ...addresses.map((address) => ({ type: "InternalIP", address })),
      ],
      conditions: [{ type: "Ready", status: ready ? "True" : "False" }],
    },
  };
}
