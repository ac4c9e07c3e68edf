/** Nobody's connection ends because the programs, their room or their policy change under it. */
import { expect } from "bun:test";
import { join } from "node:path";
import type { Socket } from "bun";
import type { NetworkNamespace } from "../../src/kernel/namespace.ts";
import { pinnedObject, pinObject } from "../../src/kernel/bpf/map.ts";
import { renameFile } from "../../src/kernel/file.ts";
import { namesIn, namespaceDirectory } from "../../src/nat/backends/ebpf/bpf-directory.ts";
import { EbpfNat } from "../../src/nat/backends/ebpf/ebpf.ts";
import { ebpfCounts, ebpfFlows, ebpfRoom } from "../../src/nat/backends/ebpf/flows.ts";
import { masqueradeIntent, type NatIntent } from "../../src/nat/intent.ts";
import { afterThisTest } from "../support/teardown.ts";
import { testWith } from "../support/witness.ts";
import { NODE, OUTSIDE, world } from "./three-namespaces.ts";

const test = testWith(["root", "real-root", "ip"]);
const PORT = 7000;
const CONNECTIONS = 100;
const ROOM = { first: 4096, more: 16_384, less: 1024 } as const;
const INTENT = masqueradeIntent("cni/blue", ["10.9.0.0/24", "fd00:9::/64"]);
const APPLY = join(import.meta.dir, "..", "support", "apply-ebpf.ts");

function applied(flows: number) {
  const three = world();
  const nat = new EbpfNat({ namespace: three.node, flows });
  afterThisTest(() => {
    nat.remove();
    nat[Symbol.dispose]();
  });
  nat.apply(INTENT);
  return { ...three, nat };
}

/** In another process: here the connections go on meanwhile. */
async function applying(node: NetworkNamespace, intent: NatIntent, flows: number): Promise<void> {
  const child = Bun.spawn([process.execPath, APPLY, node.path, JSON.stringify(intent), String(flows)], {
    stdout: "inherit",
    stderr: "inherit",
  });
  expect(await child.exited).toBe(0);
}

/** Connections over which a few bytes go to and fro until they are told to end. */
class Talk {
  readonly seen = new Set<string>();
  ends = 0;
  rounds = 0;
  #goesOn = true;
  readonly #sockets: Socket<{ got: number }>[] = [];

  static async between(client: NetworkNamespace, outside: NetworkNamespace): Promise<Talk> {
    const talk = new Talk();
    for (const hostname of [OUTSIDE.v4, OUTSIDE.v6]) {
      const server = outside.run(() =>
        Bun.listen({
          hostname,
          port: PORT,
          socket: {
            open: (socket) => void talk.seen.add(socket.remoteAddress),
            data: (socket, bytes) => void socket.write(bytes),
          },
        }),
      );
      afterThisTest(() => server.stop(true));
    }
    for (let count = 0; count < CONNECTIONS; count++)
      await talk.begin(client, count % 2 === 0 ? OUTSIDE.v4 : OUTSIDE.v6);
    return talk;
  }

  async begin(client: NetworkNamespace, hostname: string): Promise<void> {
    const ended = (): void => void (this.#goesOn && this.ends++);
    const socket = await client.run(() =>
      Bun.connect({
        hostname,
        port: PORT,
        data: { got: 0 },
        socket: {
          data: (one) => {
            one.data.got++;
            this.rounds++;
            setTimeout(() => this.#goesOn && one.write("once more"), 5);
          },
          close: ended,
          error: ended,
        },
      }),
    );
    this.#sockets.push(socket);
    socket.write("hello");
  }

  /** How many of them have not said anything since they were asked the last time. */
  async silent(): Promise<number> {
    for (const { data } of this.#sockets) data.got = 0;
    const until = Date.now() + 5000;
    const quiet = (): number => this.#sockets.filter(({ data }) => data.got === 0).length;
    while (quiet() > 0 && Date.now() < until) await Bun.sleep(50);
    return quiet();
  }

  stop(): void {
    this.#goesOn = false;
    for (const socket of this.#sockets) socket.terminate();
  }
}

test("connections outlive other room, other programs and another policy", async () => {
  const { node, client, outside } = applied(ROOM.first);
  const talk = await Talk.between(client, outside);
  afterThisTest(() => talk.stop());
  const goesOn = async (what: string): Promise<void> =>
    expect([what, talk.ends, await talk.silent()]).toEqual([what, 0, 0]);
  await goesOn("at first");
  for (const room of [ROOM.more, ROOM.less]) {
    const before = talk.rounds;
    await applying(node, INTENT, room);
    await goesOn(`room for ${room}`);
    expect(talk.rounds).toBeGreaterThan(before);
    expect(ebpfRoom(node)).toBe(room);
    expect(namesIn(namespaceDirectory(node)!)).not.toContain("older_flows");
    // New ones begin there as well.
    await talk.begin(client, OUTSIDE.v4);
  }
  const ranged = masqueradeIntent("cni/blue", ["10.9.0.0/24", "fd00:9::/64"], {
    translation: { fullyRandom: false, ports: { first: 40_000, last: 45_000 } },
  });
  await applying(node, ranged, ROOM.less);
  await goesOn("another range of ports");
  // As after an update: the claims name other programs.
  const claims = `${namespaceDirectory(node)!}/claims`;
  renameFile(claims, `${claims}-gone`);
  await applying(node, ranged, ROOM.less);
  await goesOn("other programs");
  expect([...talk.seen].sort()).toEqual([NODE.v6, NODE.v4].sort());
  expect(ebpfFlows(node)!.length).toBeGreaterThanOrEqual(CONNECTIONS);
  expect(ebpfCounts(node)!.get("dropped: the table of flows is full")).toBe(0n);
});

test("what was interrupted amid the move is gone on with", async () => {
  const { node, client, outside, nat } = applied(ROOM.first);
  const talk = await Talk.between(client, outside);
  afterThisTest(() => talk.stop());
  const directory = namespaceDirectory(node)!;
  // As if killed before the new maps were in use: what flows are in has two names.
  pinObject(pinnedObject(`${directory}/flows`)!, `${directory}/older_flows`);
  pinObject(pinnedObject(`${directory}/places`)!, `${directory}/older_places`);
  pinObject(pinnedObject(`${directory}/flows`)!, `${directory}/flows-new`);
  expect(nat.verify(INTENT)).not.toEqual([]);
  await applying(node, INTENT, ROOM.first);
  expect([talk.ends, await talk.silent()]).toEqual([0, 0]);
  expect(nat.verify(INTENT)).toEqual([]);
  expect(namesIn(directory)!.filter((name) => /new|older/.test(name))).toEqual([]);
});

test("more connections than there would be room for are no reason to cut some", async () => {
  const { node, client, outside } = applied(ROOM.first);
  const talk = await Talk.between(client, outside);
  afterThisTest(() => talk.stop());
  using smaller = new EbpfNat({ namespace: node, flows: 64 });
  expect(() => smaller.apply(INTENT)).toThrow(/100 connections live, and there would be room for 64/);
  expect([talk.ends, await talk.silent()]).toEqual([0, 0]);
  expect(ebpfRoom(node)).toBe(ROOM.first);
});
