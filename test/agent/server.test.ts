/** The agent's doors, knocked at in every wrong way: over a real socket and real HTTP on loopback. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { SelfAsker, TooBusy } from "../../src/agent/api/ask-self.ts";
import { EventFeed } from "../../src/agent/api/event-feed.ts";
import { LAB_ROUTES, ROUTES } from "../../src/agent/api/routes.ts";
import { ApiServer } from "../../src/agent/api/server.ts";
import { AgentView } from "../../src/agent/api/view.ts";
import { Journal } from "../../src/agent/journal/journal.ts";

const TOKEN = "a-secret-of-the-tests";
const directory = mkdtempSync(join(tmpdir(), "wayout-server-"));
const asked: (readonly string[])[] = [];
let answerOfSelf = { exitCode: 0, stdout: "{}", stderr: "" };
let journal: Journal;
let feed: EventFeed;
let server: ApiServer;

beforeAll(() => {
  journal = Journal.write(join(directory, "journal.db"));
  feed = new EventFeed(journal);
  const asker = new SelfAsker(async (words) => {
    asked.push(words);
    return answerOfSelf;
  });
  const state = {
    since: new Date(0),
    desired: () => ({
      nat: [],
      forwarding: { ipv4: true, ipv6: false },
      admission: { doors: [], cidrs: [] },
    }),
    troubles: () => [],
    lastRepairs: () => [],
  };
  server = new ApiServer({
    view: new AgentView(
      state,
      asker,
      feed,
      journal,
      async () => ({ text: "# nothing\n", type: "text/plain" }),
      { pageUrl: () => "http://127.0.0.1:7070/#code=x" },
    ),
    rules: { token: TOKEN, hosts: new Set(), remotePeers: false },
    socket: join(directory, "agent.sock"),
    listen: { hostname: "127.0.0.1", port: 0 },
  });
});

afterAll(async () => {
  feed.close();
  await server.close();
  journal.close();
  rmSync(directory, { recursive: true, force: true });
});

const proven = { authorization: `Bearer ${TOKEN}` };

function ask(path: string, init: RequestInit = {}): Promise<Response> {
  return fetch(`${server.url}${path}`, init);
}

async function code(answer: Promise<Response>): Promise<string> {
  const { error } = (await (await answer).json()) as { error: { code: string } };
  return error.code;
}

function pathOf(path: string): string {
  return path.replace("{pod}", "blue");
}

test("the socket is its owner's alone", () => {
  expect(statSync(join(directory, "agent.sock")).mode & 0o777).toBe(0o600);
});

test("every route is closed without the token, with a wrong one, under a foreign name and to foreign pages", async () => {
  for (const { path, method, access } of ROUTES) {
    const url = pathOf(path);
    if (access !== "open") {
      expect([path, await code(ask(url, { method }))]).toEqual([path, "no-token"]);
      expect([path, await code(ask(url, { method, headers: { authorization: "Bearer wrong" } }))]).toEqual([
        path,
        "no-token",
      ]);
    }
    expect([path, await code(ask(url, { method, headers: { ...proven, host: "evil.example" } }))]).toEqual([
      path,
      "wrong-host",
    ]);
    if (access === "act") {
      expect(await code(ask(url, { method, headers: { ...proven, origin: "http://evil.example" } }))).toBe(
        "cross-origin",
      );
    }
  }
});

test("every route answers whoever may ask, and no answer may be kept or framed", async () => {
  for (const { path, method, parameters } of ROUTES) {
    if (path === "/v1/events" || path === "/v1/snapshot") continue;
    const query = parameters.filter((one) => one.required).map(({ name }) => `${name}=198.51.100.9`);
    const answer = await ask(`${pathOf(path)}?${query.join("&")}`, { method, headers: proven });
    expect([path, answer.status]).toEqual([path, 200]);
    expect(answer.headers.get("cache-control")).toBe("no-store");
    expect(answer.headers.get("content-security-policy")).toContain("frame-ancestors 'none'");
    expect(answer.headers.get("x-content-type-options")).toBe("nosniff");
  }
});

test("what breaks things on purpose is only there over a lab", async () => {
  for (const { path, method } of LAB_ROUTES)
    expect([path, await code(ask(path, { method, headers: proven }))]).toEqual([path, "no-route"]);
});

test("what is asked for badly is refused, and never becomes an option of ours", async () => {
  const before = asked.length;
  const wrong: readonly (readonly [string, string])[] = [
    ["/v1/flows?limit=-1", "bad-parameter"],
    ["/v1/flows?limit=1e9", "bad-parameter"],
    ["/v1/flows?pod=--netns", "bad-parameter"],
    ["/v1/flows?netns=other", "unknown-parameter"],
    ["/v1/pods/--help/doctor", "bad-parameter"],
    ["/v1/pods/%2D%2Dfix/doctor", "bad-parameter"],
    ["/v1/pods/a%00b/doctor", "bad-parameter"],
    [`/v1/pods/${"x".repeat(600)}/doctor`, "bad-parameter"],
    ["/v1/history?since=yesterday", "bad-parameter"],
    ["/v1/flows?limit=1&limit=2", "bad-parameter"],
    ["/v1/flows?__proto__=1", "unknown-parameter"],
    ["/v1/events?after=-1", "bad-parameter"],
    ["/v1/events?after=1e3", "bad-parameter"],
    ["/%76%31/node", "no-route"],
    ["/v1/node%00", "no-route"],
    ["/v1/node;x=1", "no-route"],
    ["/v1/pods/%ff%fe/doctor", "no-route"],
    ["/v1/pods/%zz/doctor", "no-route"],
    ["/v1/../v1/nothing", "no-route"],
    ["/../../etc/passwd", "no-route"],
    ["/%2e%2e/%2e%2e/etc/passwd", "no-route"],
    ["/v1//node", "no-route"],
    ["/v1/pods/blue/trace", "wrong-method"],
    [`/v1/flows?src=${"1".repeat(9000)}`, "too-long"],
  ];
  for (const [path, expected] of wrong)
    expect([path, await code(ask(path, { headers: proven }))]).toEqual([path, expected]);
  for (const method of ["PUT", "DELETE", "PATCH"])
    expect(await code(ask("/v1/node", { method, headers: proven }))).toBe("wrong-method");
  expect(await code(ask("/v1/pods/blue/trace", { method: "POST", headers: proven }))).toBe("bad-parameter");
  expect((await ask("/v1/node", { method: "POST", headers: proven, body: "x".repeat(100_000) })).status).toBe(
    413,
  );
  expect(asked.length).toBe(before);
});

test("what this program answers to itself is passed on, and what it refuses is told", async () => {
  await ask("/v1/pods/a%2Fb/doctor?to=%5B2001:db8::1%5D:443", { headers: proven });
  expect(asked.at(-1)).toEqual(["doctor", "a/b", "--no-probe", "--json", "--to", "[2001:db8::1]:443"]);
  answerOfSelf = { exitCode: 2, stdout: '{"error":{"code":"no-such-pod"}}', stderr: "" };
  expect((await ask("/v1/pods/x/doctor", { headers: proven })).status).toBe(400);
  answerOfSelf = { exitCode: 137, stdout: "", stderr: "" };
  expect(await code(ask("/v1/nat", { headers: proven }))).toBe("no-answer");
  answerOfSelf = { exitCode: 0, stdout: "{}", stderr: "" };
});

test("who comes back gets what it missed, and is told when that cannot be had", async () => {
  const put = (text: string): void => {
    const event = { at: 1000, kind: "agent", object: "agent", text } as const;
    feed.put(event, journal.record(event));
  };
  for (const text of ["one", "two", "three"]) put(text);
  const [first] = journal.events();
  const missed = await openStream({ "last-event-id": String(first!.id) });
  expect(await missed.until("three")).toContain("two");
  put("four");
  expect(await missed.until("four")).toContain(`id: ${first!.id + 3}`);
  feed.stir();
  expect(await missed.until("changed")).toContain("event: changed\ndata: {}\n\n");
  feed.looked();
  expect(await missed.until("looked")).toContain("event: looked\ndata: {}\n\n");
  missed.close();
  for (const unknown of ["99999", "12345678901"]) {
    const hole = await openStream({ "last-event-id": unknown });
    expect(await hole.until("reset")).toContain("event: reset");
    hole.close();
  }
  const fresh = await openStream({});
  put("five\nwith a line");
  expect(await fresh.until("five")).toContain(String.raw`five\nwith a line`);
  fresh.close();
});

test("paths that climb, and names that hide a path, lead nowhere", async () => {
  for (const path of [
    "/../../etc/passwd",
    "/v1/../../etc/passwd",
    "/v1/pods/..%2f..%2fetc%2fpasswd/nothing",
  ]) {
    const { status } = await fetch(`${server.url}${path}`, { headers: proven });
    expect([path, status]).toEqual([path, 404]);
  }
  asked.length = 0;
  await fetch(`${server.url}/v1/pods/..%2f..%2fetc%2fpasswd/doctor`, { headers: proven });
  // A name is a word of its own to the program that is asked, whatever is in it.
  expect(asked.every((words) => words[1] === "../../etc/passwd")).toBe(true);
});

test("a Host that is no name is refused, and no mistake of ours", async () => {
  for (const host of ["a@localhost", "localhost:7070:1", "", "local host"]) {
    const { status } = await ask("/v1/node", { headers: { ...proven, host } });
    expect([host, [400, 421].includes(status)]).toEqual([host, true]);
  }
});

test("another Host beside a line of ours, two Hosts, and words that two readers take differently are refused", async () => {
  const proof = `Authorization: Bearer ${TOKEN}\r\n`;
  const closing = "Connection: close\r\n\r\n";
  for (const [request, statuses] of [
    [`GET /v1/node HTTP/1.1\r\nHost: localhost\r\n${proof}${closing}`, [200]],
    [`GET http://localhost/v1/node HTTP/1.1\r\nHost: localhost\r\n${proof}${closing}`, [200]],
    [`GET http://localhost/v1/node HTTP/1.1\r\nHost: evil.example\r\n${proof}${closing}`, [421]],
    [`GET /v1/node HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n${proof}${closing}`, [400, 421]],
    [`GET /v1/node HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer x\r\n${proof}${closing}`, [401]],
    [`GET /v1/node HTTP/1.1\r\n${proof}${closing}`, [400]],
    [`GET /v1/node HTTP/1.0\r\n\r\n`, [400]],
    [`GET /v1/node HTTP/1.0\r\nHost: localhost\r\n\r\n`, [401]],
    [`GET /v1/node HTTP/9.9\r\nHost: localhost\r\n${proof}${closing}`, [505]],
    [`GET /v1/node HTTP/1.1\nHost: localhost\n${proof}${closing}`, [400, 505]],
    [`GET /v1/node HTTP/1.1\r\nHost: evil.example\r\n localhost\r\n${proof}${closing}`, [400]],
    [`GET /v1/node HTTP/1.1\r\nHost : localhost\r\n${proof}${closing}`, [400]],
    [
      `GET /v1/node HTTP/1.1\r\nHost: evil.example\r\nX-Forwarded-Host: localhost\r\n${proof}${closing}`,
      [421],
    ],
    [`GET /v1/node HTTP/1.1\r\nHost: localhost\r\nX: a\0b\r\n${proof}${closing}`, [400]],
    [`GET /v1/node?token=${TOKEN} HTTP/1.1\r\nHost: localhost\r\n${closing}`, [401]],
    [`TRACE /v1/node HTTP/1.1\r\nHost: localhost\r\n${proof}${closing}`, [405]],
    [`POST /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n${closing}`, [405]],
    [`CONNECT evil.example:443 HTTP/1.1\r\nHost: localhost\r\n${proof}${closing}`, [400, 404, 421]],
    ...["+5", "-5", "0x5", "5, 5", "99999999999999999999"].map(
      (length) =>
        [
          `POST /v1/page/code HTTP/1.1\r\nHost: localhost\r\n${proof}Content-Length: ${length}\r\n${closing}hello`,
          [400, 413],
        ] as const,
    ),
    [
      `POST /v1/page/code HTTP/1.1\r\nHost: localhost\r\n${proof}Transfer-Encoding: xchunked\r\n${closing}0\r\n\r\n`,
      [400],
    ],
    [
      `POST /v1/page/code HTTP/1.1\r\nHost: localhost\r\n${proof}Origin: http://localhost\r\nOrigin: http://evil.example\r\nContent-Length: 0\r\n${closing}`,
      [403],
    ],
    [
      `POST /v1/page/code HTTP/1.1\r\nHost: localhost\r\n${proof}Sec-Fetch-Site: same-origin\r\nSec-Fetch-Site: cross-site\r\nContent-Length: 0\r\n${closing}`,
      [403],
    ],
    [
      `POST /v1/pods/b/trace HTTP/1.1\r\nHost: localhost\r\n${proof}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n${closing}0\r\n\r\n`,
      [400],
    ],
    [`GET /v1/node HTTP/1.1\r\nHost: localhost\r\n${proof}X: ${"y".repeat(100_000)}\r\n${closing}`, [431]],
  ] as const)
    expect([request.slice(0, 90), statuses as readonly number[]]).toEqual([
      request.slice(0, 90),
      expect.arrayContaining([await statusOf(request)]),
    ]);
});

/** Of bytes as they are: fetch would mend them. */
async function statusOf(request: string): Promise<number> {
  const { hostname, port } = new URL(server.url!);
  let answer = "";
  const { promise, resolve } = Promise.withResolvers<void>();
  await Bun.connect({
    hostname,
    port: Number(port),
    socket: {
      open: (socket) => void socket.write(request),
      data: (socket, bytes) => {
        answer += new TextDecoder().decode(bytes);
        if (!/^HTTP\/1\.1 \d+/.test(answer)) return;
        resolve();
        socket.end();
      },
      close: () => resolve(),
    },
  });
  await promise;
  return Number(/^HTTP\/1\.1 (\d+)/.exec(answer)?.[1]);
}

test("what is too large is refused before it is read", async () => {
  const body = "x".repeat(2 * 1024 * 1024);
  const large = await fetch(`${server.url}/v1/pods/blue/trace?to=192.0.2.1`, {
    method: "POST",
    headers: proven,
    body,
  });
  expect(large.status).toBe(413);
  const long = await fetch(`${server.url}/v1/history?pod=${"x".repeat(9_000)}`, { headers: proven });
  expect([400, 414, 431]).toContain(long.status);
});

test("who speaks slowly, or no HTTP, keeps nobody else waiting", async () => {
  const { hostname, port } = new URL(server.url!);
  const slow = await Promise.all(
    Array.from({ length: 200 }, (_, index) =>
      Bun.connect({ hostname, port: Number(port), socket: { data: () => {} } }).then((socket) => {
        socket.write(
          index % 2 === 0 ? "GET /healthz HTTP/1.1\r\nHost: local" : "\x16\x03\x01\0\xff nonsense\r\n",
        );
        return socket;
      }),
    ),
  );
  const began = performance.now();
  expect(await (await fetch(`${server.url}/healthz`)).text()).toBe("ok\n");
  expect(performance.now() - began).toBeLessThan(10_000);
  for (const socket of slow) socket.end();
});

test("five hundred that ask at once are all answered, and some are told to slow down", async () => {
  const answers = await Promise.all(Array.from({ length: 500 }, () => ask("/healthz")));
  const counted = Map.groupBy(answers, ({ status }) => status);
  expect(answers.every(({ status }) => status === 200 || status === 429 || status === 503)).toBe(true);
  expect(counted.get(200)!.length).toBeGreaterThan(50);
  expect(counted.get(429)!.length).toBeGreaterThan(50);
});

test("questions that take long wait for their turn, and too many are turned away", async () => {
  const open: (() => void)[] = [];
  const asker = new SelfAsker(
    () => new Promise((resolve) => open.push(() => resolve({ exitCode: 0, stdout: "", stderr: "" }))),
  );
  const all = Array.from({ length: 40 }, () =>
    asker.ask([]).then(
      () => "answered",
      (error: unknown) => (error instanceof TooBusy ? "busy" : "failed"),
    ),
  );
  await Bun.sleep(0);
  expect(open.length).toBe(2);
  for (let round = 0; round < 40; round++) {
    open.shift()?.();
    await Bun.sleep(0);
  }
  const results = await Promise.all(all);
  expect(results.filter((one) => one === "answered")).toHaveLength(34);
  expect(results.filter((one) => one === "busy")).toHaveLength(6);
});

async function openStream(headers: Record<string, string>) {
  const abort = new AbortController();
  // Not to be slowed down by what the other tests asked before.
  const answer = await fetch("http://agent/v1/events", {
    headers,
    signal: abort.signal,
    unix: join(directory, "agent.sock"),
  });
  const reader = answer.body!.getReader();
  let text = "";
  return {
    async until(word: string): Promise<string> {
      while (!text.includes(word)) text += new TextDecoder().decode((await reader.read()).value);
      return text;
    },
    close: () => abort.abort(),
  };
}
