/** How one gets to the page: by a code, once, within a minute; and who else does not. */
import { expect, test } from "bun:test";
import type { Caller } from "../../src/agent/api/access.ts";
import { refusal } from "../../src/agent/api/access.ts";
import { PageSignIn } from "../../src/agent/page/sign-in.ts";
import { pageFiles } from "../../src/agent/page/files.ts";

const FILES = { "/": { type: "text/html", text: "<!doctype html>" } };
const own: Caller = {
  over: "http",
  host: "127.0.0.1:7070",
  peer: "127.0.0.1",
  origin: "http://127.0.0.1:7070",
  fetchSite: "same-origin",
};

function door(secret = "secret"): { readonly door: PageSignIn; readonly passes: (ms: number) => void } {
  let now = 1_000_000;
  return { door: new PageSignIn(FILES, secret, () => now), passes: (ms) => void (now += ms) };
}

function enter(at: PageSignIn, code: string, caller = own): Promise<Response> {
  return at.answer(new Request("http://a/session", { method: "POST", body: code }), "/session", caller);
}

async function cookieOf(answer: Response): Promise<string | undefined> {
  return answer.headers.get("set-cookie")?.split(";")[0];
}

test("a code lets one in, once, and no script sees the cookie", async () => {
  const { door: at } = door();
  const code = at.code();
  const answer = await enter(at, code);
  expect(await answer.json()).toEqual({ entered: true });
  expect(answer.headers.get("set-cookie")).toMatch(/; HttpOnly; SameSite=Strict; Path=\/; Max-Age=43200$/);
  const again = await enter(at, code);
  expect(await again.json()).toEqual({ entered: false });
  expect(again.headers.has("set-cookie")).toBe(false);
});

test("a code is worth nothing after a minute, nor to another page, nor when it was never given", async () => {
  const { door: at, passes } = door();
  const late = at.code();
  passes(60_000);
  expect(await cookieOf(await enter(at, late))).toBeUndefined();
  const code = at.code();
  expect(
    (await enter(at, code, { ...own, origin: "http://evil.example", fetchSite: "cross-site" })).status,
  ).toBe(403);
  for (const wrong of ["", "x", "x".repeat(100_000), `${code}x`]) {
    expect(await cookieOf(await enter(at, wrong))).toBeUndefined();
  }
  expect(await cookieOf(await enter(at, code))).toBeDefined();
});

test("a cookie holds twelve hours, outlives the agent, and ends with its token", async () => {
  const { door: at, passes } = door();
  const cookie = (await cookieOf(await enter(at, at.code())))!;
  expect(at.isGuest(`other=1; ${cookie}`)).toBe(true);
  expect(door().door.isGuest(cookie)).toBe(true);
  expect(door("another token").door.isGuest(cookie)).toBe(false);
  const [name, statement = ""] = cookie.split("=");
  const [until = "", ...rest] = statement.split(".");
  expect(at.isGuest(`${name}=${[String(Number(until) + 1), ...rest].join(".")}`)).toBe(false);
  expect(at.isGuest(`${name}=`)).toBe(false);
  passes(12 * 3_600_000);
  expect(at.isGuest(cookie)).toBe(false);
});

test("the cookie counts for our own page alone: a browser sends it along for every port of this address", () => {
  const rules = { token: "t", hosts: new Set<string>(), remotePeers: false, isPage: () => true };
  const guest = { ...own, cookie: "wayout-page=x" };
  expect(refusal(guest, "read", rules)).toBeUndefined();
  expect(refusal(guest, "act", rules)).toBeUndefined();
  const { origin: _, ...noOrigin } = guest;
  expect(refusal({ ...noOrigin, fetchSite: "same-site" }, "read", rules)?.code).toBe("no-token");
  expect(refusal({ ...guest, origin: "http://127.0.0.1:8080" }, "read", rules)?.code).toBe("no-token");
  expect(refusal({ ...guest, host: "evil.example" }, "read", rules)?.code).toBe("wrong-host");
});

test("a guest's page holds what it shows first, and nobody else's does", async () => {
  const files = { "/": { type: "text/html", text: "<!doctype html><body></body>" } };
  const at = new PageSignIn(files, "secret", () => 1_000_000);
  const hostile = { pod: "</script><script>alert(1)</script><!--" };
  at.first = () => JSON.stringify(hostile);
  const cookie = (await cookieOf(await enter(at, at.code())))!;
  const opened = async (headers: Record<string, string>, caller: Partial<Caller>): Promise<string> => {
    const { origin: _, ...asked } = { ...own, fetchSite: "none", cookie, ...caller };
    const answer = await at.answer(new Request("http://a/", { headers }), "/", asked);
    return answer.text();
  };
  const document = { "sec-fetch-dest": "document" };
  const page = await opened(document, {});
  const held = /<script id="first" type="application\/json">(.*)<\/script><\/body>$/.exec(page)?.[1];
  expect(JSON.parse(held!)).toEqual(hostile);
  expect(held).not.toContain("<");
  expect(await opened(document, { fetchSite: "same-origin" })).toBe(page);
  for (const [headers, caller] of [
    [{ "sec-fetch-dest": "iframe" }, {}],
    [{ "sec-fetch-dest": "empty" }, { fetchSite: "same-origin" }],
    [{}, {}],
    // What another port of this address leads to brings the cookie along, too.
    [document, { fetchSite: "same-site" }],
    [document, { fetchSite: "cross-site" }],
    [document, { cookie: "wayout-page=1.2.3" }],
  ] as const)
    expect(await opened(headers, caller)).toBe(files["/"].text);
});

test("the page is small, and asks for nothing from elsewhere", async () => {
  const files = await pageFiles();
  const packed = Object.values(files).map(({ text }) => Bun.gzipSync(text, { level: 9 }).length);
  expect(packed.reduce((sum, one) => sum + one, 0)).toBeLessThanOrEqual(60_000);
  const policy = (await new PageSignIn(files, "s").answer(new Request("http://a/"), "/", own)).headers.get(
    "content-security-policy",
  );
  expect(policy).toStartWith("default-src 'none';");
  expect(policy).not.toMatch(/unsafe|http|\*|data:/);
});
