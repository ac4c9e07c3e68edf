import { expect } from "bun:test";
import { rmSync } from "node:fs";
import { join } from "node:path";
import type { NetworkNamespace } from "../../src/kernel/namespace.ts";
import { tcxPrograms, type AttachedProgram } from "../../src/kernel/bpf/programs.ts";
import { BpfMap, pinnedObject, pinObject } from "../../src/kernel/bpf/map.ts";
import { detachFromLink } from "../../src/kernel/bpf/link.ts";
import { echo } from "../../src/kernel/echo.ts";
import { ebpfCounts, ebpfFlowOf, ebpfFlows, ebpfRoom } from "../../src/nat/backends/ebpf/flows.ts";
import { namesIn, namespaceDirectory } from "../../src/nat/backends/ebpf/bpf-directory.ts";
import { endTracked, trackedByPrograms } from "../../src/nat/backends/ebpf/tracked.ts";
import { EbpfNat } from "../../src/nat/backends/ebpf/ebpf.ts";
import { afterThisTest } from "../support/teardown.ts";
import { ask, testWith } from "../support/witness.ts";
import { backendSuite } from "./backend-suite.ts";
import { CLIENT, NODE, OUTSIDE, rulesWithHandles, world } from "./three-namespaces.ts";
import { masqueradeIntent } from "../../src/nat/intent.ts";
import { applyAndSettle } from "../../src/nat/settle-flows.ts";

/** What is left of a namespace's programs is taken away with the namespace. */
function open(namespace: NetworkNamespace): EbpfNat {
  afterThisTest(() => {
    using nat = new EbpfNat({ namespace });
    nat.remove();
  });
  return new EbpfNat({ namespace });
}

function directoryOf(namespace: NetworkNamespace): string {
  return namespaceDirectory(namespace) ?? "/nowhere";
}

function programsOf(namespace: NetworkNamespace): AttachedProgram[] {
  const links = ask(namespace, ["ip", "-o", "link"]).matchAll(/^(\d+):/gm);
  return tcxPrograms(
    namespace,
    [...links].map(([, index]) => Number(index)),
  );
}

/** Names, programs and the policy's entries: whatever apply would write. */
function listing(namespace: NetworkNamespace): string {
  const names = namesIn(directoryOf(namespace)) ?? [];
  const entries = ["sources", "kept", "bound", "zones", "settings"].flatMap((name) => {
    using map = BpfMap.pinned(`${directoryOf(namespace)}/${name}`, name);
    return map === undefined
      ? []
      : map.keys().map((key) => `${name} ${key.toHex()} ${map.get(key)?.toHex()}`);
  });
  const programs = programsOf(namespace);
  return [
    ...names.sort().map((name) => `pin ${name}`),
    ...entries.sort(),
    JSON.stringify(programs),
    rulesWithHandles(namespace),
  ].join("\n");
}

backendSuite({
  title: "ebpf",
  needs: ["real-root"],
  open,
  translates: true,
  podsOnly: true,
  trace: "pin settings",
  listing,
  damage: {
    "the guard was flushed": "nft flush ruleset",
    "the guard lets another link pass": "nft add element inet wayout-guard hooked '{ 4711 }'",
    "everything was taken away": (namespace) => {
      const directory = directoryOf(namespace);
      for (const name of namesIn(directory) ?? []) rmSync(`${directory}/${name}`);
    },
    "a map's name was taken away": (namespace) => rmSync(`${directoryOf(namespace)}/sources`),
    "the claims were taken away": (namespace) => rmSync(`${directoryOf(namespace)}/claims`),
    "an entry of the policy was deleted": (namespace) => {
      using kept = BpfMap.pinned(`${directoryOf(namespace)}/kept`, "kept");
      kept!.delete(kept!.keys()[0]!);
    },
    "a program was detached": (namespace) => {
      ask(namespace, ["ip", "link", "add", "wan7", "type", "veth", "peer", "wan8"]);
      using nat = open(namespace);
      nat.apply(nat.intents()[0]!);
      const name = namesIn(directoryOf(namespace))!.find((one) => one.startsWith("egress-"))!;
      detachFromLink(pinnedObject(`${directoryOf(namespace)}/${name}`)!);
    },
    "there is a link without our programs": (namespace) =>
      void ask(namespace, ["ip", "link", "add", "wan7", "type", "veth", "peer", "wan8"]),
  },
});

const test = testWith(["root", "real-root", "ip", "curl"]);

test("programs that have lost a map are given the new one", async () => {
  const { node, fetch } = world();
  using nat = open(node);
  const intent = masqueradeIntent("cni/blue", ["10.9.0.0/24"]);
  for (const lost of ["sources", "flows", "translations"]) {
    nat.apply(intent);
    expect((await fetch(OUTSIDE.v4)).address).toBe(NODE.v4);
    rmSync(`${directoryOf(node)}/${lost}`);
  }
  nat.apply(intent);
  expect((await fetch(OUTSIDE.v4)).address).toBe(NODE.v4);
});

test("maps of another version, with another shape, are made anew", async () => {
  const { node, fetch } = world();
  using nat = open(node);
  const intent = masqueradeIntent("cni/blue", ["10.9.0.0/24"]);
  for (const name of ["settings", "flows", "sources"]) {
    nat.apply(intent);
    const path = `${directoryOf(node)}/${name}`;
    using current = BpfMap.pinned(path, name)!;
    const { definition } = current;
    rmSync(path);
    using other = BpfMap.create({ ...definition, valueBytes: definition.valueBytes + 8 });
    pinObject(other.fd, path);
    expect(nat.verify(intent)).toContainEqual({
      object: `the map ${name} of the eBPF programs`,
      expected: "there",
      found: "missing",
    });
    nat.apply(intent);
    expect(nat.verify(intent)).toEqual([]);
    expect((await fetch(OUTSIDE.v4)).address).toBe(NODE.v4);
  }
});

test("nothing is left of it, and no rule translates", async () => {
  const { node, fetch } = world();
  using nat = open(node);
  nat.apply(masqueradeIntent("cni/blue", ["10.9.0.0/24"]));
  expect((await fetch(OUTSIDE.v4)).address).toBe(NODE.v4);
  expect(ask(node, ["nft", "list", "tables"])).toBe("table inet wayout-guard\n");
  expect(ask(node, ["nft", "list", "ruleset"])).not.toContain("type nat");
  expect(ask(node, ["conntrack", "-L"])).toBe("");
  expect(programsOf(node)).toHaveLength(4);
  const directory = directoryOf(node);
  nat.remove();
  expect(programsOf(node)).toEqual([]);
  expect(namesIn(directory)).toBeUndefined();
  expect(ask(node, ["nft", "list", "ruleset"])).toBe("");
  expect(ask(node, ["tc", "qdisc", "show"])).not.toContain("clsact");
  expect((await fetch(OUTSIDE.v4)).address).toBe(CLIENT.v4);
});

test("its flows are told, with what became of them", async () => {
  const { node, client, fetch } = world();
  using nat = open(node);
  expect(ebpfFlows(node)).toBeUndefined();
  nat.apply(masqueradeIntent("cni/blue", ["10.9.0.0/24", "fd00:9::/64"]));
  const { port } = await fetch(OUTSIDE.v4);
  await fetch(OUTSIDE.v6);
  expect(echo(client, OUTSIDE.v4, 1000)).toBeDefined();
  const flows = ebpfFlows(node)!;
  expect(flows).toHaveLength(3);
  expect(flows.find(({ family, protocol }) => family === 4 && protocol === 6)).toMatchObject({
    translated: true,
    source: { address: CLIENT.v4 },
    destination: { address: OUTSIDE.v4, port: 8080 },
    seenAs: { address: NODE.v4, port },
    state: "time_wait",
    answered: true,
  });
  expect(flows.find(({ family }) => family === 6)).toMatchObject({ seenAs: { address: NODE.v6 } });
  expect(flows.find(({ protocol }) => protocol === 1)).toMatchObject({ packets: [1n, 1n], answered: true });
  expect(ebpfCounts(node)!.get("begun")).toBe(3n);
  expect(ebpfRoom(node)).toBeGreaterThanOrEqual(65_536);
});

testWith(["clang", "llvm-strip"])("the object is what clang makes of its source", () => {
  const script = join(import.meta.dir, "..", "..", "scripts", "build-bpf.ts");
  ask(undefined, [process.execPath, script, "--check"]);
});

test("connections end at a person's word, or with the address that they are seen as", async () => {
  const { node, client, fetch } = world();
  using nat = open(node);
  const intent = masqueradeIntent("cni/blue", ["10.9.0.0/24", "fd00:9::/64"]);
  nat.apply(intent);
  await fetch(OUTSIDE.v4);
  await fetch(OUTSIDE.v6);
  expect(echo(client, OUTSIDE.v4, 1000)).toBeDefined();
  const all = trackedByPrograms(node);
  expect(all).toHaveLength(3);
  // Found by its ends, and by nobody else's.
  const [flow] = ebpfFlows(node)!.filter(({ protocol }) => protocol === 6);
  expect(ebpfFlowOf(node, flow!)).toMatchObject({ slot: flow!.slot, seenAs: flow!.seenAs });
  expect(ebpfFlowOf(node, { ...flow!, source: { ...flow!.source, port: 1 } })).toBeUndefined();
  // Another policy: what stands is kept, until somebody cuts it.
  const seven = (family: 4 | 6): string => (family === 4 ? "203.0.113.7" : "2001:db8:113::7");
  const snat = {
    ...intent,
    sources: intent.sources.map((one) => {
      const address = seven(one.cidr.includes(":") ? 6 : 4);
      return { ...one, translation: { ...one.translation, snat: { first: address, last: address } } };
    }),
  };
  expect(applyAndSettle(nat, node, snat).flows).toEqual({ forgotten: 0, kept: 3 });
  expect(applyAndSettle(nat, node, snat, { cut: true }).flows).toEqual({ forgotten: 3, kept: 0 });
  expect(ebpfFlows(node)).toEqual([]);
  // Who has gone is not ended twice, nor who stands in his place now.
  expect(endTracked(node, all)).toBe(0);
  expect((await fetch(OUTSIDE.v4)).address).toBe("203.0.113.7");
  expect(endTracked(node, all)).toBe(0);
  expect(ebpfFlows(node)).toHaveLength(1);
  applyAndSettle(nat, node, intent, { cut: true });
  expect((await fetch(OUTSIDE.v4)).address).toBe(NODE.v4);
  ask(node, ["ip", "address", "delete", "203.0.113.5/24", "dev", "wan0"]);
  expect(nat.verify(intent)).not.toEqual([]);
  expect(applyAndSettle(nat, node, intent).flows).toEqual({ forgotten: 1, kept: 0 });
  expect((await fetch(OUTSIDE.v4)).address).toBe("203.0.113.6");
});
