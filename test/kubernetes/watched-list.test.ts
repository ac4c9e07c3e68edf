/** The client against a server that speaks the protocol and misbehaves. */
import { expect } from "bun:test";
import type { ApiAccess } from "../../src/kubernetes/access.ts";
import { ApiClient } from "../../src/kubernetes/api-client.ts";
import { clusterNodeOf, isSameNode, type ClusterNode } from "../../src/kubernetes/cluster-node.ts";
import { WatchedList, type Pace } from "../../src/kubernetes/watched-list.ts";
import { afterThisTest } from "../support/teardown.ts";
import { until } from "../support/until.ts";
import { testWith } from "../support/witness.ts";
import { nodeObject, NODES, TestApiServer } from "./api-server.ts";

const test = testWith(["openssl"]);

function accessTo(server: TestApiServer, token: () => string = () => "token-of-the-test"): ApiAccess {
  return {
    server: server.url,
    credentials: async () => ({ tls: { ca: server.authority.cert }, bearer: token() }),
    refused() {},
  };
}

/** Waits as the program would, in no time; what it would have waited is kept. */
class QuickPace implements Pace {
  readonly waited: number[] = [];
  async sleep(ms: number): Promise<void> {
    this.waited.push(ms);
    await Bun.sleep(2);
  }
  random(): number {
    return 0.5;
  }
}

class Listener {
  readonly states: (readonly string[])[] = [];
  readonly troubles: (string | undefined)[] = [];
  readonly problems: string[] = [];
  readonly pace = new QuickPace();
  readonly list: WatchedList<ClusterNode>;

  constructor(server: TestApiServer, options: { access?: ApiAccess; idleMs?: number } = {}) {
    this.list = new WatchedList(new ApiClient(options.access ?? accessTo(server), "wayout/test"), {
      path: NODES,
      read: clusterNodeOf,
      same: isSameNode,
      changed: (items) => {
        this.states.push([...items.values()].map(lineOf));
        for (const { problems } of items.values()) this.problems.push(...problems);
      },
      trouble: (message) => this.troubles.push(message),
      pace: this.pace,
      ...(options.idleMs === undefined ? {} : { idleMs: options.idleMs }),
    });
    afterThisTest(() => this.list.stop());
  }

  get last(): readonly string[] {
    return this.states.at(-1) ?? [];
  }
}

function lineOf({ name, podCidrs, addresses }: ClusterNode): string {
  return [name, ...podCidrs, ...addresses].join(" ");
}

const A = ["a", ["10.244.1.0/24"], ["192.0.2.1"]] as const;
const B = ["b", ["10.244.2.0/24"], ["192.0.2.2"]] as const;
const [LINE_A, LINE_B] = ["a 10.244.1.0/24 192.0.2.1", "b 10.244.2.0/24 192.0.2.2"];

async function serverWith(...nodes: readonly (readonly [string, readonly string[], readonly string[]])[]) {
  const server = await TestApiServer.start();
  for (const node of nodes) server.put(NODES, nodeObject(...node));
  return server;
}

test("what is there is listed, and what changes is told; what only looks new is not", async () => {
  const server = await serverWith(A);
  const heard = new Listener(server);
  await until(() => server.watches === 1, "it watches");
  server.put(NODES, nodeObject(...B));
  await until(() => heard.last.length === 2, "b is there");
  // kubelet's report: the Node is written anew, and says the same.
  for (let report = 0; report < 20; report++) server.put(NODES, nodeObject(...A));
  server.bookmark();
  server.delete(NODES, "a");
  await until(() => heard.last.length === 1, "a is gone");
  expect(heard.states).toEqual([[LINE_A], [LINE_A, LINE_B], [LINE_B]]);
  expect([server.count("GET", NODES), server.count("GET", NODES, true)]).toEqual([1, 1]);
  expect(heard.troubles).toEqual([]);
});

test("a watch that ends goes on from the last version, that of a bookmark included", async () => {
  const server = await serverWith(A);
  const heard = new Listener(server);
  await until(() => server.watches === 1, "it watches");
  server.compact();
  server.bookmark();
  await Bun.sleep(20);
  server.endWatches();
  await until(() => server.watches === 1, "it watches again");
  server.put(NODES, nodeObject(...B));
  await until(() => heard.last.length === 2, "b is there");
  // Without the bookmark's version the server would have said 410, and a list had been needed.
  expect(server.count("GET", NODES)).toBe(1);
  expect(heard.troubles).toEqual([]);
});

for (const how of ["http", "in-band"] as const) {
  test(`a version that is too old (410, ${how}) is a new list, and what went meanwhile is gone`, async () => {
    const server = await serverWith(A, B);
    const heard = new Listener(server);
    await until(() => server.watches === 1, "it watches");
    server.wrong.expired = how;
    server.endWatches();
    server.delete(NODES, "a");
    await until(() => heard.last.length === 1, "a is gone");
    delete server.wrong.expired;
    await until(() => server.watches === 1, "it watches again");
    expect(heard.last).toEqual([LINE_B]);
    expect(heard.troubles).toEqual([]);
  });
}

test("a server that takes every version for too old is asked less and less often", async () => {
  const server = await serverWith(A);
  server.wrong.expired = "in-band";
  const heard = new Listener(server);
  await until(() => heard.pace.waited.length >= 8, "it waits");
  expect(heard.pace.waited.slice(0, 8)).toEqual([600, 1200, 2400, 4800, 9600, 19_200, 22_500, 22_500]);
  expect(heard.states).toEqual([[LINE_A]]);
});

test("a watch that ends at once, again and again, is no circle", async () => {
  const server = await serverWith(A);
  server.wrong.closesAtOnce = true;
  const heard = new Listener(server);
  await until(() => heard.pace.waited.length >= 5, "it waits");
  expect(heard.pace.waited.slice(0, 5)).toEqual([600, 1200, 2400, 4800, 9600]);
});

test("events in pieces are whole; one that is cut off is asked for again", async () => {
  const server = await serverWith(A);
  server.wrong.pieces = 7;
  const heard = new Listener(server);
  await until(() => server.watches === 1, "it watches");
  server.put(NODES, nodeObject("ä", ["10.244.3.0/24"], ["192.0.2.3"]));
  await until(() => heard.last.length === 2, "ä is there");
  server.wrong.cutsEvent = true;
  server.put(NODES, nodeObject(...B));
  await until(() => heard.last.length === 3, "b is there");
  expect(heard.last).toEqual([LINE_A, "ä 10.244.3.0/24 192.0.2.3", LINE_B]);
});

test("a connection over which nothing comes is given up", async () => {
  const server = await serverWith(A);
  server.wrong.silent = true;
  const heard = new Listener(server, { idleMs: 150 });
  await until(() => server.watches === 1, "it watches");
  server.put(NODES, nodeObject(...B));
  await until(() => heard.troubles.some((one) => one?.includes("nothing came") === true), "it gives up");
  server.wrong.silent = false;
  await until(() => heard.last.length === 2, "b is there");
  expect(server.count("GET", NODES)).toBe(1);
  expect(heard.troubles.at(-1)).toBeUndefined();
});

test("a line that is no event is told, and costs nothing but the connection", async () => {
  const server = await serverWith(A);
  const heard = new Listener(server);
  await until(() => server.watches === 1, "it watches");
  server.say("<html>gateway\n");
  await until(() => heard.troubles.length > 0, "it is told");
  server.put(NODES, nodeObject(...B));
  await until(() => heard.last.length === 2, "b is there");
  expect(heard.troubles[0]).toContain('"<html>gateway" is no event');
});

test("a token that is renewed is read again; a refusal is told, and changes nothing that is known", async () => {
  const server = await serverWith(A);
  let token = "token-of-the-test";
  const heard = new Listener(server, { access: accessTo(server, () => token) });
  await until(() => server.watches === 1, "it watches");
  server.tokens.clear();
  server.tokens.add("renewed");
  server.dropConnections();
  await until(() => heard.troubles.some((one) => one?.includes("401") === true), "it is refused");
  expect(heard.states).toEqual([[LINE_A]]);
  token = "renewed";
  server.put(NODES, nodeObject(...B));
  await until(() => heard.last.length === 2, "b is there");
});

test("an answer that is no list is not an empty one", async () => {
  const server = await serverWith(A);
  server.wrong.stranger = true;
  const heard = new Listener(server);
  await until(() => heard.troubles.length > 0, "it is told");
  expect(heard.states).toEqual([]);
  expect(heard.troubles[0]).toContain("the answer is no list");
  server.wrong.stranger = false;
  await until(() => heard.last.length === 1, "a is there");
});

async function serverWithThousand(): Promise<TestApiServer> {
  const server = await TestApiServer.start();
  for (let number = 0; number < 1000; number++) {
    const [high, low] = [Math.floor(number / 250), number % 250];
    server.put(NODES, nodeObject(`n${number}`, [`10.${high}.${low}.0/24`], [`192.0.${high}.${low + 1}`]));
  }
  return server;
}

test("a thousand nodes come in pages; where the pages are too old again and again, in one", async () => {
  const server = await serverWithThousand();
  server.wrong.failsPages = { status: 410, times: 1000 };
  const heard = new Listener(server);
  await until(() => heard.states.length > 0, "they are there");
  expect(heard.states.map((one) => one.length)).toEqual([1000]);
  // Of the two pages the second one was refused, and nobody has to wait or to hear of it.
  expect(server.count("GET", NODES)).toBe(3);
  expect([heard.troubles, heard.pace.waited]).toEqual([[], []]);
});

for (const [status, retryAfter, waited] of [
  [500, undefined, 600],
  [429, 7, 7000],
  [429, 86_400, 30_000],
] as const) {
  test(`${status} between two pages${retryAfter === undefined ? "" : ` with Retry-After: ${retryAfter}`} is no half list`, async () => {
    const server = await serverWithThousand();
    server.wrong.failsPages = {
      status,
      times: 1,
      ...(retryAfter === undefined ? {} : { retryAfter }),
    };
    const heard = new Listener(server);
    await until(() => heard.states.length > 0, "they are there");
    expect(heard.states.map((one) => one.length)).toEqual([1000]);
    expect(heard.pace.waited).toEqual([waited]);
    expect(heard.troubles).toEqual([
      expect.stringContaining(`it answered ${status}: as the test wants it`),
      undefined,
    ]);
  });
}

for (const endlessPages of ["same", "new"] as const) {
  test(`a list that never ends (${endlessPages} pages) is told, and none of it is believed`, async () => {
    const server = await serverWith(A);
    server.wrong.endlessPages = endlessPages;
    const heard = new Listener(server);
    await until(() => heard.troubles.length > 0, "it is told");
    expect(heard.troubles[0]).toContain("its pages do not end");
    expect(heard.states).toEqual([]);
    delete server.wrong.endlessPages;
    await until(() => heard.last.length === 1, "a is there");
  });
}

test("events that say nothing, or what nobody knows, change nothing and cost no connection", async () => {
  const server = await serverWith(A);
  const heard = new Listener(server);
  await until(() => server.watches === 1, "it watches");
  for (const event of [
    { type: "BOOKMARK", object: {} },
    { type: "BOOKMARK", object: { metadata: { resourceVersion: "" } } },
    { type: "BOOKMARK", object: { kind: "Node", metadata: null } },
    { type: "RENAMED", object: nodeObject("a", ["10.9.9.0/24"], ["192.0.2.9"]) },
    { type: "ADDED", object: nodeObject(...A, { uid: "one" }) },
    { type: "ADDED", object: nodeObject(...A, { uid: "one" }) },
    { type: "DELETED", object: nodeObject("nobody", [], []) },
    { type: "MODIFIED", object: { metadata: {} } },
    { type: "MODIFIED", object: { metadata: { name: 7 }, spec: [] } },
  ])
    server.say(`${JSON.stringify(event)}\n`);
  server.put(NODES, nodeObject(...B));
  await until(() => heard.last.length === 2, "b is there");
  // The first ADDED is another Node than the listed one, and the second the same again.
  expect(heard.states).toEqual([[LINE_A], [LINE_A], [LINE_A, LINE_B]]);
  expect([server.count("GET", NODES), server.count("GET", NODES, true)]).toEqual([1, 1]);
  expect(heard.troubles).toEqual([]);
});

test("an object whose fields are all of the wrong kind is a node without prefixes and addresses", async () => {
  const server = await serverWith(A);
  const heard = new Listener(server);
  await until(() => server.watches === 1, "it watches");
  for (const [spec, status] of [
    ["text", 7],
    [{ podCIDRs: {} }, { addresses: "x", conditions: {} }],
    [
      { podCIDRs: [null, {}, 7, "10.0.0.0/33", "x".repeat(5_000_000)] },
      { addresses: [null, 7, { type: "InternalIP" }] },
    ],
    [{ podCIDRs: Array.from({ length: 50_000 }, () => "x") }, null],
  ] as const)
    server.say(`${JSON.stringify({ type: "ADDED", object: { metadata: { name: "odd" }, spec, status } })}\n`);
  server.put(NODES, nodeObject(...B));
  await until(() => heard.last.length === 3, "b is there");
  expect(heard.last).toEqual([LINE_A, "odd", LINE_B]);
  expect(JSON.stringify(heard.problems).length).toBeLessThan(20_000);
  expect(heard.troubles).toEqual([]);
});

test("a Node that is deleted and registered again by the same name is another one", async () => {
  const server = await serverWith(A, B);
  const heard = new Listener(server);
  await until(() => server.watches === 1, "it watches");
  server.delete(NODES, "a");
  server.put(NODES, nodeObject("a", [], ["192.0.2.1"]));
  server.put(NODES, nodeObject("a", ["10.244.9.0/24"], ["192.0.2.1"]));
  await until(() => heard.last.includes("a 10.244.9.0/24 192.0.2.1"), "a has its new prefix");
  expect(heard.states).toEqual([
    [LINE_A, LINE_B],
    [LINE_B],
    [LINE_B, "a 192.0.2.1"],
    [LINE_B, "a 10.244.9.0/24 192.0.2.1"],
  ]);
  // While nobody watched: the list says it, and the name is the same.
  const before = heard.states.length;
  server.dropConnections();
  server.delete(NODES, "b");
  server.put(NODES, nodeObject(...B));
  server.compact();
  await until(() => heard.states.length > before, "it is told, for the Node is another one");
  expect(heard.last).toEqual(["a 10.244.9.0/24 192.0.2.1", LINE_B]);
});

test("an event larger than any object is not asked for again and again: the list says what it said", async () => {
  const server = await serverWith(A);
  const heard = new Listener(server);
  await until(() => server.watches === 1, "it watches");
  server.put(NODES, { ...nodeObject(...B), images: "x".repeat(9_000_000) });
  await until(() => heard.last.length === 2, "b is there");
  expect(heard.troubles[0]).toContain("a line is longer than");
  expect(server.count("GET", NODES)).toBe(2);
  await until(() => server.watches === 1, "it watches again");
  expect(heard.troubles.at(-1)).toBeUndefined();
});

test("a version that the server has not reached, as after its database was restored, is a new list", async () => {
  const server = await serverWith(A);
  const heard = new Listener(server);
  await until(() => server.watches === 1, "it watches");
  server.wrong.ahead = true;
  server.put(NODES, nodeObject(...B));
  server.endWatches();
  await until(() => server.count("GET", NODES) > 1, "it lists");
  delete server.wrong.ahead;
  await until(() => server.watches === 1, "it watches again");
  expect(heard.last).toEqual([LINE_A, LINE_B]);
  expect(heard.troubles).toEqual([]);
});

test("an API server that is away for an hour: what is known stays, and it is asked every 30 s at most", async () => {
  const server = await serverWith(A, B);
  const heard = new Listener(server);
  await until(() => server.watches === 1, "it watches");
  await server.stop();
  const hour = 3600 * 1000;
  await until(() => heard.pace.waited.reduce((sum, ms) => sum + ms, 0) > hour, "an hour passes");
  expect(heard.states).toEqual([[LINE_A, LINE_B]]);
  expect(Math.max(...heard.pace.waited)).toBeLessThanOrEqual(30_000);
  // The words are the same, so they are said once.
  expect(new Set(heard.troubles).size).toBe(heard.troubles.length);
  server.delete(NODES, "a");
  await server.listen();
  await until(() => heard.last.length === 1, "it is there again");
  expect(heard.troubles.at(-1)).toBeUndefined();
});

test("a slow server is waited for", async () => {
  const server = await serverWith(A);
  server.wrong.slowMs = 300;
  const heard = new Listener(server);
  await until(() => heard.last.length === 1, "a is there");
  expect(heard.troubles).toEqual([]);
});
