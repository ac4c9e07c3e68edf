/** `wayout nat` and `wayout forwarding` as a person meets them: text, JSON, exit codes. */
import { afterAll, expect } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { NetworkNamespace } from "../../src/kernel/namespace.ts";
import { freshNamespace } from "../support/world.ts";
import { ask, run, testWith } from "../support/witness.ts";

const test = testWith(["root", "nft"]);
const directory = mkdtempSync(join(tmpdir(), "wayout-command-"));
afterAll(() => rmSync(directory, { recursive: true }));

function wayout(args: readonly string[], input?: string) {
  return run(undefined, [process.execPath, join(import.meta.dir, "../../src/main.ts"), ...args], input);
}

function json<T>(args: readonly string[], input?: string): { readonly exitCode: number; readonly value: T } {
  const { exitCode, stdout } = wayout([...args, "--json"], input);
  return { exitCode, value: JSON.parse(stdout) as T };
}

function file(name: string, text: string): string {
  const path = join(directory, name);
  writeFileSync(path, text);
  return path;
}

interface Applied {
  readonly changed: boolean;
  readonly removedFrom: readonly string[];
}

const listed = (namespace: NetworkNamespace): string => ask(namespace, ["nft", "list", "ruleset"]);

test("apply does what the file says, once, and remove takes it back", () => {
  const namespace = freshNamespace();
  const at = ["--netns", namespace.name!];
  const policy = file("policy.yaml", "sources: [10.9.0.0/24]\nsnat: 203.0.113.5\n");
  const dry = wayout(["nat", "apply", "-f", policy, "--dry-run", ...at]);
  expect(dry.exitCode).toBe(0);
  expect(dry.stdout).toContain("snat 203.0.113.5");
  expect(dry.stdout).toContain("table inet wayout");
  expect(listed(namespace)).toBe("");
  expect(json<Applied>(["nat", "apply", "-f", policy, ...at])).toMatchObject({
    exitCode: 0,
    value: { changed: true },
  });
  expect(listed(namespace)).toContain("map snat4");
  expect(json<Applied>(["nat", "apply", "-f", policy, ...at]).value.changed).toBe(false);
  expect(wayout(["nat", "show", ...at]).stdout).toContain("10.9.0.0/24");
  expect(wayout(["nat", "show", ...at]).exitCode).toBe(0);
  expect(json<Applied>(["nat", "remove", ...at])).toMatchObject({
    exitCode: 0,
    value: { removedFrom: ["nftables"] },
  });
  expect(listed(namespace)).toBe("");
  expect(wayout(["nat", "remove", ...at]).stdout).toContain("there were none");
});

test("a policy may come by standard input, and move to another backend", () => {
  const namespace = freshNamespace();
  const at = ["--netns", namespace.name!];
  const text = JSON.stringify({ nonMasqueradeCIDRs: ["10.0.0.0/8"] });
  expect(json<Applied>(["nat", "apply", "-f", "-", ...at], text).value.changed).toBe(true);
  const moved = json<Applied>(["nat", "apply", "-f", "-", "--backend", "none", ...at], text);
  expect(moved.value).toMatchObject({ changed: false, removedFrom: ["nftables"] });
  expect(listed(namespace)).not.toContain("wayout");
});

testWith(["root", "nft", "iptables-save"])(
  "a policy moves from nftables to iptables and is gone from both at the end",
  () => {
    const namespace = freshNamespace();
    const at = ["--netns", namespace.name!];
    const policy = file("move.yaml", "sources: [10.9.0.0/24, 'fd00::/64']\n");
    const saved = (): string =>
      run(namespace, ["iptables-save", "-t", "nat"]).stdout +
      run(namespace, ["ip6tables-save", "-t", "nat"]).stdout;
    wayout(["nat", "apply", "-f", policy, ...at]);
    const moved = json<Applied>(["nat", "apply", "-f", policy, "--backend", "iptables", ...at]);
    expect(moved).toMatchObject({ exitCode: 0, value: { changed: true, removedFrom: ["nftables"] } });
    expect(saved()).toContain("-s 10.9.0.0/24");
    expect(saved()).toContain("-s fd00::/64");
    expect(listed(namespace)).not.toContain("table inet wayout");
    expect(json<Applied>(["nat", "remove", "--all", ...at]).value.removedFrom).toEqual(["iptables"]);
    expect(saved()).not.toContain("WAYOUT");
  },
);

test("a bad policy changes nothing: message with field and place, exit 2", () => {
  const namespace = freshNamespace();
  const at = ["--netns", namespace.name!];
  wayout(["nat", "apply", "-f", file("good.yaml", "sources: [10.9.0.0/24]"), ...at]);
  const before = listed(namespace);
  const bad = wayout([
    "nat",
    "apply",
    "-f",
    file("bad.yaml", "sources:\n  - 10.9.0.1/24\nmasqLinklocal: true"),
    ...at,
  ]);
  expect(bad.exitCode).toBe(2);
  expect(bad.stderr).toContain(
    `sources[0]: "10.9.0.1/24" has host bits set; did you mean 10.9.0.0/24? (line 2, column 5)`,
  );
  expect(bad.stderr).toContain("did you mean masqLinkLocal?");
  expect(bad.stdout).toBe("");
  expect(listed(namespace)).toBe(before);
  const asJson = json<{ error: { code: string; details: { problems: unknown[] } } }>([
    "nat",
    "apply",
    "-f",
    file("bad.yaml", "a: 1"),
    ...at,
  ]);
  expect(asJson).toMatchObject({ exitCode: 2, value: { error: { code: "bad-policy" } } });
});

test("wrong usage is exit 2, with what to do", () => {
  for (const [args, said] of [
    [["nat", "apply"], "-f, --file"],
    [["nat", "apply", "-f", "/nonexistent"], "/nonexistent"],
    [["nat", "show", "--netns", "nobody"], "no such namespace"],
    [["nat", "show", "--netns", "/etc/hostname"], "no network namespace"],
    [["nat", "remove", "--backend", "ipvs"], "--backend"],
    [["forwarding", "enable", "--persist", "--netns", "x"], "--persist"],
    [["forwarding", "frobnicate"], "frobnicate"],
  ] as const) {
    const { exitCode, stderr } = wayout(args);
    expect([args, exitCode]).toEqual([args, 2]);
    expect(stderr).toContain(said);
  }
});

test("show is exit 1 when nothing translates, or a translating rule is dead", () => {
  const namespace = freshNamespace();
  const at = ["--netns", namespace.name!];
  expect(json<{ problems: string[] }>(["nat", "show", ...at])).toMatchObject({
    exitCode: 1,
    value: { problems: ["no rule translates what leaves this node (an eBPF program might)"] },
  });
  ask(
    namespace,
    ["nft", "-f", "-"],
    "table ip t { chain p { type nat hook postrouting priority 100; masquerade; }; }",
  );
  expect(wayout(["nat", "show", ...at]).exitCode).toBe(0);
  ask(namespace, ["nft", "insert", "rule", "ip", "t", "p", "accept"]);
  const { exitCode, stdout } = wayout(["nat", "show", "--dead", ...at]);
  expect(exitCode).toBe(1);
  expect(stdout).toContain("dead: rule 1 of p decides every packet before");
});

test("forwarding: off, on, on already; each with its exit code", () => {
  const namespace = freshNamespace();
  const at = ["--netns", namespace.name!];
  const off = wayout(["forwarding", "show", ...at]);
  expect(off.exitCode).toBe(1);
  expect(off.stdout).toContain("✗ off");
  const on = wayout(["forwarding", "enable", "--ipv4", ...at]);
  expect(on.exitCode).toBe(0);
  expect(on.stdout).toContain("net.ipv4.ip_forward: 0 → 1");
  expect(wayout(["forwarding", "show", ...at]).exitCode).toBe(0);
  expect(wayout(["forwarding", "show", "--ipv6", ...at]).exitCode).toBe(1);
  expect(wayout(["forwarding", "enable", "--ipv4", ...at]).stdout).toContain("nothing changed");
  expect(json<{ ipv4: boolean; ipv6: boolean }>(["forwarding", "show", ...at]).value).toMatchObject({
    ok: true,
    ipv4: true,
    ipv6: false,
  });
});

test("forwarding --persist writes our file and tells who undoes it", () => {
  const root = mkdtempSync(join(directory, "root-"));
  const script = `"${process.execPath}" "${join(import.meta.dir, "../../src/main.ts")}"`;
  const inside = freshNamespace();
  const enable = (): { exitCode: number; stdout: string } =>
    run(inside, ["sh", "-c", `${script} forwarding enable --persist --root ${root}`]);
  expect(enable().exitCode).toBe(0);
  expect(readFileSync(join(root, "etc/sysctl.d/90-wayout.conf"), "utf8")).toContain(
    "net.ipv4.ip_forward = 1",
  );
  writeFileSync(join(root, "etc/sysctl.d/99-other.conf"), "net.ipv4.ip_forward=0\n");
  const undone = enable();
  expect(undone.exitCode).toBe(1);
  expect(undone.stdout).toContain("/etc/sysctl.d/99-other.conf:1");
});

test("help says how to begin", () => {
  for (const args of [["nat"], ["nat", "apply"], ["nat", "show"], ["forwarding"], ["forwarding", "enable"]]) {
    const { exitCode, stdout } = wayout([...args, "--help"]);
    expect(exitCode).toBe(0);
    expect(stdout).toContain("Usage: wayout");
  }
  expect(wayout(["nat", "--help"]).stdout).toContain("wayout nat apply -f policy.yaml --dry-run");
});
