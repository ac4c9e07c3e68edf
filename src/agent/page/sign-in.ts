/**
 * How one gets to the page: every client that may ask this machine at all gets its files, and show nothing but how to get in. A
 * one-time code, which `wayout page` asks for over the agent's own socket, is changed for a cookie.
 *
 * The cookie is a statement of ours, signed with the agent's token: it outlives a restart of the agent, there is no list of
 * guests to keep, and a new token shuts all of them out.
 *
 * To a guest the page comes with what it shows first, so that nothing has to be asked for before something is seen.
 */
import { createHmac, randomBytes } from "node:crypto";
import { gzipSync } from "node:zlib";
import { isOwnPage, isSameSecret, type Caller } from "../api/access.ts";
import type { PageFiles } from "./page-files.ts";
import { present } from "../../present.ts";

/** A code that nobody used by then is worth nothing. */
const CODE_MS = 60_000;
const MOST_CODES = 16;
const GUEST_MS = 12 * 3_600_000;
const COOKIE = "wayout-page";
const SECRET_BYTES = 24;
/** Longer than any code. */
const MOST_CODE_TEXT = 128;

const SHUT =
  "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'";

/** Nothing from elsewhere, nothing written in the page itself, nobody's frame. */
const HEADERS: Readonly<Record<string, string>> = {
  "cache-control": "no-cache",
  "content-security-policy": `${SHUT}; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'`,
  "cross-origin-opener-policy": "same-origin",
  "cross-origin-resource-policy": "same-origin",
  "permissions-policy": "camera=(), microphone=(), geolocation=()",
  "referrer-policy": "no-referrer",
  "x-content-type-options": "nosniff",
  "x-frame-options": "DENY",
};

export class PageSignIn {
  readonly #codes = new Map<string, number>();
  readonly #packed = new Map<string, Uint8Array<ArrayBuffer>>();

  /** @param secret what cookies are signed with */
  constructor(
    private readonly files: PageFiles,
    private readonly secret: string,
    private readonly now: () => number = Date.now,
  ) {}

  /** What a guest's page shows first, as JSON. */
  first: () => string = () => "{}";

  owns(path: string): boolean {
    return path === "/session" || path in this.files;
  }

  /** A code that lets one person in, once, within a minute. */
  code(): string {
    const now = this.now();
    for (const [code, until] of this.#codes) if (until <= now) this.#codes.delete(code);
    const [oldest] = this.#codes.keys();
    if (oldest !== undefined && this.#codes.size >= MOST_CODES) this.#codes.delete(oldest);
    const code = randomBytes(SECRET_BYTES).toString("base64url");
    this.#codes.set(code, now + CODE_MS);
    return code;
  }

  /** Whether a Cookie header holds a statement of ours that still holds. */
  readonly isGuest = (header: string): boolean => {
    for (const part of header.split(";")) {
      const [name, value = ""] = part.trim().split("=", 2);
      if (name !== COOKIE) continue;
      const [until = "", nonce = "", signature = ""] = value.split(".");
      if (isSameSecret(signature, this.#signature(`${until}.${nonce}`)) && Number(until) > this.now())
        return true;
    }
    return false;
  };

  async answer(request: Request, path: string, caller: Caller): Promise<Response> {
    if (path === "/session") return this.#session(request, caller);
    if (request.method !== "GET")
      return json({ error: { code: "wrong-method", message: "ask with GET" } }, 405);
    const file = this.files[path]!;
    if (path === "/" && this.#mayOpen(request, caller)) return this.#withFirst(file);
    const packed = request.headers.get("accept-encoding")?.includes("gzip") === true;
    const headers = {
      ...HEADERS,
      "content-type": file.type,
      vary: "accept-encoding",
      ...present({ "content-encoding": packed ? "gzip" : undefined }),
    };
    return new Response(packed ? this.#pack(path, file.text) : file.text, { headers });
  }

  /** Opened by a person, or by the page itself, in a browser that is in: never what a page of another port leads to. */
  #mayOpen(request: Request, { cookie, fetchSite }: Caller): boolean {
    if (request.headers.get("sec-fetch-dest") !== "document") return false;
    if (fetchSite !== "none" && fetchSite !== "same-origin") return false;
    return cookie !== undefined && this.isGuest(cookie);
  }

  /** No browser keeps it: it is of this moment, and of this guest. */
  #withFirst({ type, text }: PageFiles[string]): Response {
    // A block of data is no script: nothing in it is run, and without "<" nothing in it ends it.
    const data = this.first().replaceAll("<", "\\u003c");
    const at = text.lastIndexOf("</body>");
    const page = `${text.slice(0, at)}<script id="first" type="application/json">${data}</script>${text.slice(at)}`;
    return new Response(page, { headers: { ...HEADERS, "cache-control": "no-store", "content-type": type } });
  }

  /** As small as it goes: it is done once. */
  #pack(path: string, text: string): Uint8Array<ArrayBuffer> {
    const known = this.#packed.get(path);
    if (known !== undefined) return known;
    const packed = Uint8Array.from(gzipSync(text, { level: 9 }));
    this.#packed.set(path, packed);
    return packed;
  }

  /** GET: whether this browser is in already. POST with a code: lets it in. */
  async #session(request: Request, caller: Caller): Promise<Response> {
    if (request.method === "GET") {
      return json({
        entered: caller.cookie !== undefined && isOwnPage(caller) && this.isGuest(caller.cookie),
      });
    }
    if (request.method !== "POST" || !isOwnPage(caller)) return json({ entered: false }, 403);
    const code = (await request.text()).slice(0, MOST_CODE_TEXT);
    const until = this.#codes.get(code);
    this.#codes.delete(code);
    if (until === undefined || until <= this.now()) return json({ entered: false });
    const cookie = `${COOKIE}=${this.#statement()}; HttpOnly; SameSite=Strict; Path=/; Max-Age=${GUEST_MS / 1000}`;
    return json({ entered: true }, 200, { "set-cookie": cookie });
  }

  #statement(): string {
    const said = `${this.now() + GUEST_MS}.${randomBytes(SECRET_BYTES).toString("base64url")}`;
    return `${said}.${this.#signature(said)}`;
  }

  #signature(said: string): string {
    return createHmac("sha256", this.secret).update(`${COOKIE} ${said}`).digest("base64url");
  }
}

function json(value: unknown, status = 200, more: Readonly<Record<string, string>> = {}): Response {
  return Response.json(value, { status, headers: { ...HEADERS, "cache-control": "no-store", ...more } });
}
