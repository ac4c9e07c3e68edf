/** A backend is one folder and one row: one that is not among ours passes the shared suite, and every command knows it. */
import { expect } from "bun:test";
import { join } from "node:path";
import { rmSync, writeFileSync } from "node:fs";
import { echo } from "../../src/kernel/echo.ts";
import { NetworkNamespace } from "../../src/kernel/namespace.ts";
import { afterThisTest } from "../support/teardown.ts";
import { ask as program, run, testWith, type Ran } from "../support/witness.ts";
import { backendSuite } from "./backend-suite.ts";
import { PlainNat } from "./fourth-backend/plain.ts";
import { NODE, OUTSIDE, world } from "./three-namespaces.ts";

backendSuite({
  title: "plain",
  needs: [],
  open: (namespace) => new PlainNat({ namespace }),
  translates: true,
  trace: "plain",
  damage: {
    "the ruleset was flushed": "nft flush ruleset",
    "one of its tables was deleted": "nft delete table ip6 plain",
    "its rules were flushed": "nft flush chain ip plain postrouting",
    "somebody put a rule into our chain": "nft insert rule ip plain postrouting accept",
  },
});

const test = testWith(["root", "nft", "curl"]);
const ROOT = join(import.meta.dir, "..", "..");

/** wayout with one row more. */
function wayout(node: NetworkNamespace, args: readonly string[], input?: string, call: object = {}): Ran {
  const row = join(ROOT, "test", "nat", "fourth-backend", "row.ts");
  const program = [join(ROOT, "bin", "bun"), "--preload", row, join(ROOT, "src", "main.ts")];
  return run(node, [...program, ...args], input, { ...process.env, ...call });
}

interface Answer {
  readonly namespaces: readonly {
    readonly state: string;
    readonly problems: readonly { readonly code: string }[];
  }[];
  readonly findings: readonly { readonly code: string }[];
  readonly [more: string]: unknown;
}

function ask(node: NetworkNamespace, args: readonly string[], exitCode = 0): Answer {
  const ran = wayout(node, [...args, "--json"]);
  expect([args, ran.exitCode, ran.stderr]).toEqual([args, exitCode, ""]);
  return JSON.parse(ran.stdout) as Answer;
}

/** A namespace of this name, gone after the test. */
function named(name: string): NetworkNamespace {
  program(undefined, ["ip", "netns", "add", name]);
  const namespace = NetworkNamespace.named(name);
  afterThisTest(() => {
    namespace.close();
    run(undefined, ["ip", "netns", "delete", name]);
  });
  return namespace;
}

const seenAs = (pod: NetworkNamespace): boolean => echo(pod, OUTSIDE.v4, 1000) !== undefined;

test("an attachment has it: made, listed, examined, mended and taken away", () => {
  const { node, outside } = world();
  // Only who is translated is answered: there is no way back to the pods.
  program(outside, ["ip", "route", "delete", "10.9.0.0/16"]);
  const name = `fourth-${process.pid}`;
  const pod = named(name);
  ask(node, ["attach", name, "--backend", "plain", "--bridge", "lan7", "--interface", "out3"]);
  expect(seenAs(pod)).toBe(true);
  expect(ask(node, ["list"]).namespaces[0]).toMatchObject({
    state: "ok",
    outside: expect.arrayContaining([
      expect.objectContaining({ translation: "masquerade", address: NODE.v4 }),
    ]),
  });
  expect(wayout(node, ["nat", "show"]).stdout).toMatch(/masquerade.*wayout/);
  expect(ask(node, ["doctor", name]).findings.filter(({ code }) => code.startsWith("nat-"))).toEqual([]);
  program(node, ["nft", "delete", "table", "ip", "plain"]);
  expect(ask(node, ["list"], 1).namespaces[0]?.problems.map(({ code }) => code)).toEqual(["nat-missing"]);
  expect(ask(node, ["doctor", name], 1).findings.map(({ code }) => code)).toContain("nat-flushed");
  expect(wayout(node, ["doctor", name, "--fix", "--yes"]).stdout).toContain("wayout attach");
  expect(seenAs(pod)).toBe(true);
  ask(node, ["detach", name]);
  expect(run(node, ["nft", "list", "ruleset"]).stdout).not.toContain("plain");
});

test("a network of the plugin has it", () => {
  const { node, outside } = world();
  program(outside, ["ip", "route", "delete", "10.9.0.0/16"]);
  const name = `fourth-cni-${process.pid}`;
  const pod = named(name);
  const configuration = {
    cniVersion: "1.1.0",
    name: `fourth${process.pid}`,
    type: "wayout",
    bridge: "lan7",
    isDefaultGateway: true,
    ipMasq: true,
    ipMasqBackend: "plain",
    ipam: { type: "host-local", ranges: [[{ subnet: "10.61.0.0/24" }]] },
  };
  const call = (command: string, prevResult?: object): unknown => {
    const ran = wayout(node, [], JSON.stringify({ ...configuration, prevResult }), {
      CNI_COMMAND: command,
      CNI_CONTAINERID: name,
      CNI_NETNS: `/run/netns/${name}`,
      CNI_IFNAME: "out3",
      CNI_PATH: "/opt/cni/bin",
    });
    return ran.stdout === "" ? undefined : JSON.parse(ran.stdout);
  };
  const result = call("ADD") as object;
  expect(result).toMatchObject({ ips: [{ address: "10.61.0.2/24" }] });
  expect(seenAs(pod)).toBe(true);
  expect(call("CHECK", result)).toBeUndefined();
  program(node, ["nft", "delete", "table", "ip", "plain"]);
  expect(call("CHECK", result)).toMatchObject({
    code: 110,
    details: expect.stringMatching(/^problems=nat-missing;/),
  });
  expect(call("STATUS")).toBeUndefined();
  expect(call("CHECK", result)).toBeUndefined();
  expect(seenAs(pod)).toBe(true);
  expect(call("DEL", result)).toBeUndefined();
  expect(run(node, ["nft", "list", "ruleset"]).stdout).not.toContain("plain");
});

test("a policy has it, and another one moves from there", () => {
  const { node, client, outside } = world();
  program(outside, ["ip", "route", "delete", "10.9.0.0/16"]);
  const policy = (backend: string): string => JSON.stringify({ backend, sources: ["10.9.0.0/24"] });
  const path = `/tmp/fourth-${process.pid}.json`;
  afterThisTest(() => rmSync(path, { force: true }));
  const apply = (backend: string): void => {
    writeFileSync(path, policy(backend));
    expect(wayout(node, ["nat", "apply", "-f", path])).toMatchObject({ exitCode: 0, stderr: "" });
    expect(seenAs(client)).toBe(true);
  };
  apply("plain");
  const tables = (): string => run(node, ["nft", "list", "tables"]).stdout;
  expect(tables()).toBe("table ip plain\ntable ip6 plain\n");
  expect(wayout(node, ["nat", "explain", "10.9.0.2", OUTSIDE.v4]).stdout).toContain("policy");
  apply("nftables");
  expect(tables()).toBe("table inet wayout\n");
  apply("plain");
  expect(wayout(node, ["nat", "remove"]).exitCode).toBe(0);
  expect(tables()).toBe("");
});
