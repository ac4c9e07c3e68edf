/** What the programs do to packets that are not the usual ones: fragments, errors, large ones; and when they run out of room. */
import { expect } from "bun:test";
import { echo } from "../../src/kernel/echo.ts";
import type { NetworkNamespace } from "../../src/kernel/namespace.ts";
import { Rtnetlink } from "../../src/kernel/route/rtnetlink.ts";
import { writeSysctl } from "../../src/kernel/sysctl.ts";
import { ebpfCounts } from "../../src/nat/backends/ebpf/flows.ts";
import { EbpfNat } from "../../src/nat/backends/ebpf/ebpf.ts";
import { masqueradeIntent, type Translation } from "../../src/nat/intent.ts";
import { afterThisTest } from "../support/teardown.ts";
import { ask, run, testWith } from "../support/witness.ts";
import { CLIENT, NODE, OUTSIDE, world } from "./three-namespaces.ts";

const test = testWith(["root", "real-root", "ip", "ping", "curl"]);
const PORT = 5353;
const NOWHERE = { v4: "198.51.100.99", v6: "2001:db8:198::99" } as const;
const DROPPED = { full: "dropped: the table of flows is full", ports: "dropped: no free port" } as const;

function translated(
  options: { readonly translation?: Translation; readonly flows?: number; readonly udpSeconds?: number } = {},
) {
  const three = world();
  // Only who is translated is answered.
  for (const [family, cidr] of [
    ["-4", "10.9.0.0/16"],
    ["-6", "fd00:9::/64"],
  ] as const)
    ask(three.outside, ["ip", family, "route", "delete", cidr]);
  if (options.udpSeconds !== undefined)
    writeSysctl(three.node, "net.netfilter.nf_conntrack_udp_timeout", String(options.udpSeconds));
  const nat = new EbpfNat({
    namespace: three.node,
    ...(options.flows === undefined ? {} : { flows: options.flows }),
  });
  afterThisTest(() => nat[Symbol.dispose]());
  nat.apply(
    masqueradeIntent("cni/blue", ["10.9.0.0/24", "fd00:9::/64"], {
      translation: options.translation ?? { fullyRandom: false },
    }),
  );
  return three;
}

/** Answers each datagram with what it held; tells from where they came. */
async function echoServer(outside: NetworkNamespace, hostname: string): Promise<string[]> {
  const seen: string[] = [];
  const server = await outside.run(() =>
    Bun.udpSocket({
      hostname,
      port: PORT,
      socket: {
        data: (socket, bytes, port, address) => {
          seen.push(address);
          socket.send(bytes, port, address);
        },
      },
    }),
  );
  afterThisTest(() => server.close());
  return seen;
}

/** The answer to a datagram from a new socket, which stays open; undefined when none comes. */
async function answerTo(
  client: NetworkNamespace,
  to: string,
  bytes: Uint8Array,
  from: { readonly hostname?: string; readonly port?: number } = {},
): Promise<Uint8Array | undefined> {
  const { promise, resolve } = Promise.withResolvers<Uint8Array | undefined>();
  const hostname = from.hostname ?? (to.includes(":") ? CLIENT.v6 : CLIENT.v4);
  const socket = await client.run(() =>
    Bun.udpSocket({
      hostname,
      port: from.port ?? 0,
      socket: { data: (_, answer) => resolve(new Uint8Array(answer)) },
    }),
  );
  afterThisTest(() => socket.close());
  socket.send(bytes, PORT, to);
  const timer = setTimeout(() => resolve(undefined), 700);
  const answer = await promise;
  clearTimeout(timer);
  return answer;
}

test("fragments pass both ways", async () => {
  const { client, outside } = translated();
  const seen = [await echoServer(outside, OUTSIDE.v4), await echoServer(outside, OUTSIDE.v6)];
  const bytes = crypto.getRandomValues(new Uint8Array(5000));
  for (const to of [OUTSIDE.v4, OUTSIDE.v6]) {
    expect(run(client, ["ping", "-c", "2", "-i", "0.2", "-W", "5", "-s", "4000", to]).stdout).toContain(
      " 0% packet loss",
    );
    expect(await answerTo(client, to, bytes)).toEqual(bytes);
  }
  expect(seen).toEqual([[NODE.v4], [NODE.v6]]);
});

test("an error about a pod's packet reaches the pod, and is about what it sent", () => {
  const { client, outside } = translated();
  for (const [family, to] of [
    ["4", NOWHERE.v4],
    ["6", NOWHERE.v6],
  ] as const) {
    writeSysctl(outside, family === "4" ? "net.ipv4.ip_forward" : "net.ipv6.conf.all.forwarding", "1");
    ask(outside, ["ip", `-${family}`, "route", "add", "unreachable", to]);
    expect(run(client, ["ping", `-${family}`, "-c", "1", "-W", "1", to]).stdout).toMatch(/unreachable/i);
    const host = to.includes(":") ? `[${to}]` : to;
    const curl = run(client, [
      "curl",
      "-sS",
      "-g",
      "--noproxy",
      "*",
      "--max-time",
      "2",
      `http://${host}:8080/`,
    ]);
    // 7: refused at once, by the error; 28 were the time that ran out.
    expect([to, curl.exitCode]).toEqual([to, 7]);
  }
});

test("what begins outside is answered by the pod as itself", async () => {
  const { client, node, outside } = world();
  using nat = new EbpfNat({ namespace: node });
  nat.apply(masqueradeIntent("cni/blue", ["10.9.0.0/24", "fd00:9::/64"]));
  const server = client.run(() =>
    Bun.serve({ hostname: "::", port: 8088, fetch: () => new Response("pod") }),
  );
  afterThisTest(() => void server.stop(true));
  for (const [address, from] of [
    [CLIENT.v4, OUTSIDE.near4],
    [CLIENT.v6, "2001:db8:113::1"],
  ] as const) {
    expect(echo(outside, address, 1000)).toBeDefined();
    const host = address.includes(":") ? `[${address}]` : address;
    const child = outside.run(() =>
      Bun.spawn(
        [
          "curl",
          "-sS",
          "-g",
          "--noproxy",
          "*",
          "--max-time",
          "2",
          "--interface",
          from,
          `http://${host}:8088/`,
        ],
        { stdout: "pipe" },
      ),
    );
    expect(await new Response(child.stdout).text()).toBe("pod");
  }
  expect(ebpfCounts(node)!.get("begun outside")).toBe(4n);
  expect(ebpfCounts(node)!.get("begun")).toBe(0n);
});

test("large transfers arrive whole, both ways", async () => {
  const { client, outside } = translated();
  const body = crypto.getRandomValues(new Uint8Array(65_536));
  const whole = Buffer.concat(Array.from({ length: 64 }, () => body));
  const hash = (bytes: Uint8Array): string => new Bun.CryptoHasher("sha256").update(bytes).digest("hex");
  for (const [hostname, to] of [
    ["0.0.0.0", OUTSIDE.v4],
    ["::", `[${OUTSIDE.v6}]`],
  ] as const) {
    const server = outside.run(() =>
      Bun.serve({
        hostname,
        port: 8090,
        ipv6Only: hostname === "::",
        fetch: async (request) => {
          const got = new Uint8Array(await request.arrayBuffer());
          return new Response(got, { headers: { hash: hash(got) } });
        },
      }),
    );
    afterThisTest(() => void server.stop(true));
    const child = client.run(() =>
      Bun.spawn(
        [
          "curl",
          "-sS",
          "-g",
          "--noproxy",
          "*",
          "--max-time",
          "20",
          "--data-binary",
          "@-",
          `http://${to}:8090/`,
        ],
        { stdin: whole, stdout: "pipe" },
      ),
    );
    expect(hash(new Uint8Array(await new Response(child.stdout).arrayBuffer()))).toBe(hash(whole));
  }
});

test("when all ports are taken a flow is dropped and counted, and nobody gets another's answers", async () => {
  const { client, node, outside } = translated({
    translation: { fullyRandom: true, ports: { first: 20_000, last: 20_003 } },
  });
  const seen = await echoServer(outside, OUTSIDE.v4);
  const answers: boolean[] = [];
  for (let flow = 0; flow < 6; flow++) {
    const bytes = Uint8Array.of(flow, 7);
    const answer = await answerTo(client, OUTSIDE.v4, bytes);
    if (answer !== undefined) expect(answer).toEqual(bytes);
    answers.push(answer !== undefined);
  }
  expect(answers).toEqual([true, true, true, true, false, false]);
  expect(new Set(seen)).toEqual(new Set([NODE.v4]));
  expect(ebpfCounts(node)!.get(DROPPED.ports)).toBe(2n);
});

test("a full table drops and counts, and recovers by itself when flows have expired", async () => {
  const { client, node, outside } = translated({ flows: 8, udpSeconds: 5 });
  writeSysctl(node, "net.netfilter.nf_conntrack_udp_timeout_stream", "5");
  using nat = new EbpfNat({ namespace: node });
  nat.apply(masqueradeIntent("cni/red", ["10.9.3.0/24"]));
  const seen = await echoServer(outside, OUTSIDE.v4);
  const bytes = Uint8Array.of(1);
  const once = async (): Promise<boolean> => (await answerTo(client, OUTSIDE.v4, bytes)) !== undefined;
  expect(await Promise.all(Array.from({ length: 8 }, once))).toEqual(Array.from({ length: 8 }, () => true));
  expect(await once()).toBe(false);
  expect(ebpfCounts(node)!.get(DROPPED.full)).toBe(1n);
  // Until all have expired.
  await Bun.sleep(7_000);
  expect(await once()).toBe(true);
  expect(ebpfCounts(node)!.get("taken back")).toBe(8n);
  expect(new Set(seen)).toEqual(new Set([NODE.v4]));
});

test("nothing leaves untranslated by a link that came later; it is dropped and counted until the link is ours", () => {
  const { client, node, outside } = translated();
  using route = Rtnetlink.open(node);
  route.createVeth({ name: "wan1", peer: { name: "internet1", namespaceFd: outside.fd } });
  ask(node, ["ip", "address", "add", "192.0.2.1/24", "dev", "wan1"]);
  ask(node, ["ip", "link", "set", "wan1", "up"]);
  ask(outside, ["ip", "address", "add", "192.0.2.2/24", "dev", "internet1"]);
  ask(outside, ["ip", "link", "set", "internet1", "up"]);
  // Whoever would leave as himself could be answered.
  ask(outside, ["ip", "route", "add", "10.9.0.0/16", "via", "192.0.2.1"]);
  ask(node, ["ip", "route", "replace", "default", "via", "192.0.2.2"]);
  expect(echo(client, OUTSIDE.v4, 500)).toBeUndefined();
  expect(echo(node, OUTSIDE.v4, 1000)).toBeDefined();
  expect(ask(node, ["nft", "list", "chain", "inet", "wayout-guard", "unhooked"])).toContain(
    "counter packets 1 ",
  );
  using nat = new EbpfNat({ namespace: node });
  expect(nat.apply(nat.intents()[0]!).changed).toBe(true);
  expect(echo(client, OUTSIDE.v4, 1000)).toBeDefined();
});

test("the node's own flow and a pod's with the same ends each get their own answers, whoever was first", async () => {
  const { client, node, outside } = translated();
  await echoServer(outside, OUTSIDE.v4);
  const pod = async (port: number): Promise<unknown> =>
    await answerTo(client, OUTSIDE.v4, Uint8Array.of(1), { port });
  const own = async (port: number): Promise<unknown> =>
    await answerTo(node, OUTSIDE.v4, Uint8Array.of(2), { hostname: NODE.v4, port });
  expect(await pod(40_001)).toEqual(Uint8Array.of(1));
  expect(await own(40_001)).toEqual(Uint8Array.of(2));
  expect(await own(40_002)).toEqual(Uint8Array.of(2));
  expect(await pod(40_002)).toEqual(Uint8Array.of(1));
});

test("no pod leaves with a port that is reserved, and the node's own packets do", async () => {
  const { node, outside, fetch } = world();
  writeSysctl(node, "net.ipv4.ip_local_reserved_ports", "40001,40010-40019");
  using nat = new EbpfNat({ namespace: node });
  afterThisTest(() => nat.remove());
  const keeping = { fullyRandom: false };
  const intent = masqueradeIntent("cni/blue", ["10.9.0.0/24"], { translation: keeping });
  nat.apply(intent);
  expect(await fetch(OUTSIDE.v4, { fromPort: 40_000 })).toEqual({ address: NODE.v4, port: 40_000 });
  for (const fromPort of [40_001, 40_010, 40_019]) {
    const seen = await fetch(OUTSIDE.v4, { fromPort });
    expect(seen.address).toBe(NODE.v4);
    expect([40_001, 40_010, 40_019]).not.toContain(seen.port);
  }
  // Of a range that is reserved but for two, these two are taken.
  writeSysctl(node, "net.ipv4.ip_local_reserved_ports", "40001,50001-50010,50013-50020");
  const ranged = masqueradeIntent("cni/blue", ["10.9.0.0/24"], {
    translation: { ...keeping, ports: { first: 50_001, last: 50_020 } },
  });
  expect(nat.verify(intent)).toContainEqual(
    expect.objectContaining({ object: "the map reserved of the eBPF programs" }),
  );
  nat.apply(ranged);
  const taken: number[] = [];
  for (let count = 0; count < 2; count++) taken.push((await fetch(OUTSIDE.v4)).port);
  expect(taken.toSorted((a, b) => a - b)).toEqual([50_011, 50_012]);
  await echoServer(outside, OUTSIDE.near4);
  expect(await answerTo(node, OUTSIDE.near4, Uint8Array.of(7), { hostname: NODE.v4, port: 40_001 })).toEqual(
    Uint8Array.of(7),
  );
});
