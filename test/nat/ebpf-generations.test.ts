/** Nobody's connection ends because the programs, their room or their policy change under it. */
import { expect } from "bun:test";
import { join } from "node:path";
import type { NetworkNamespace } from "../../src/kernel/namespace.ts";
import { pinnedObject, pinObject } from "../../src/kernel/bpf/map.ts";
import { renameFile } from "../../src/kernel/file.ts";
import { namesIn, namespaceDirectory } from "../../src/nat/backends/ebpf/bpf-directory.ts";
import { EbpfNat } from "../../src/nat/backends/ebpf/ebpf.ts";
import { ebpfCounts, ebpfFlows, ebpfRoom } from "../../src/nat/backends/ebpf/flows.ts";
import { masqueradeIntent, type NatIntent } from "../../src/nat/intent.ts";
import { CONNECTIONS, Talk } from "../support/talk.ts";
import { afterThisTest } from "../support/teardown.ts";
import { testWith } from "../support/witness.ts";
import { NODE, OUTSIDE, world } from "./three-namespaces.ts";

const test = testWith(["root", "real-root", "ip"]);
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

test("connections outlive other room, other programs and another policy", async () => {
  const { node, client, outside } = applied(ROOM.first);
  const talk = await Talk.between(client, outside, OUTSIDE);
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
  const talk = await Talk.between(client, outside, OUTSIDE);
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
  const talk = await Talk.between(client, outside, OUTSIDE);
  afterThisTest(() => talk.stop());
  using smaller = new EbpfNat({ namespace: node, flows: 64 });
  expect(() => smaller.apply(INTENT)).toThrow(/100 connections live, and there would be room for 64/);
  expect([talk.ends, await talk.silent()]).toEqual([0, 0]);
  expect(ebpfRoom(node)).toBe(ROOM.first);
});
