import { afterEach, expect } from "bun:test";
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { masqueradeIntent } from "../../src/nat/intent.ts";
import { detectVariant } from "../../src/nat/backends/iptables/program.ts";
import { freshNamespace } from "../support/world.ts";
import { ask, testWith } from "../support/witness.ts";
import { IptablesNat } from "../../src/nat/backends/iptables/iptables.ts";
import { backendSuite } from "./backend-suite.ts";
import { iptablesChain } from "../../src/naming/names.ts";

for (const variant of ["nft", "legacy"] as const) {
  const [v4, v6] = [`iptables-${variant} -t nat`, `ip6tables-${variant} -t nat`];
  const chain = iptablesChain("policy");
  backendSuite({
    title: `iptables-${variant}`,
    needs: [`iptables-${variant}`, `ip6tables-${variant}-restore`],
    open: (namespace) => new IptablesNat({ namespace, variant }),
    translates: true,
    trace: "WAYOUT",
    damage: {
      "the table was flushed": `${v4} -F`,
      "the table was flushed and its chains deleted": `${v6} -F; ${v6} -X`,
      "the jump is gone": `${v4} -D POSTROUTING 1`,
      "the jump is there twice": `${v4} -S POSTROUTING | sed -n "s/^-A/${v4} -A/p" | sh -e`,
      "a chain was emptied": `${v4} -F ${chain}`,
      "one exclusion is gone": `${v4} -D ${chain} 1`,
      "one source is gone": `${v6} -D WAYOUT-POSTROUTING 3`,
      "somebody put a rule into our chain": `${v4} -I ${chain} 1 -j ACCEPT`,
    },
  });
}

const test = testWith(["root", "iptables-nft", "iptables-legacy"]);
const path = process.env["PATH"];
const directories: string[] = [];

afterEach(() => {
  process.env["PATH"] = path;
  for (const directory of directories.splice(0)) rmSync(directory, { recursive: true });
});

/** Puts a program before the real one of that name. */
function shadow(program: string, script: string): void {
  const directory = mkdtempSync(join(tmpdir(), "wayout-path-"));
  directories.push(directory);
  writeFileSync(join(directory, program), `#!/bin/sh\n${script}\n`);
  chmodSync(join(directory, program), 0o755);
  process.env["PATH"] = `${directory}:${path}`;
}

test("who keeps several owners' rules gets those of one family though the other is refused", () => {
  const namespace = freshNamespace();
  using nat = new IptablesNat({ namespace, variant: "nft" });
  const blue = masqueradeIntent("cni/blue", ["10.1.0.0/16", "fd00:1::/64"]);
  const policy = masqueradeIntent("policy", ["10.2.0.0/16", "fd00:2::/64"]);
  nat.applyAll([blue, policy]);
  const masquerades = (program: string): number =>
    ask(namespace, [`${program}-nft-save`, "-t", "nat"]).match(/MASQUERADE/g)?.length ?? 0;
  for (const [refused, other] of [
    ["ip6tables", "iptables"],
    ["iptables", "ip6tables"],
  ] as const) {
    const before = masquerades(other);
    for (const program of [refused, other]) ask(namespace, [`${program}-nft`, "-t", "nat", "-F"]);
    shadow(`${refused}-nft-restore`, "echo 'line 3 failed' >&2; exit 1");
    expect(() => nat.applyAll([blue, policy])).toThrow("line 3 failed");
    expect([masquerades(refused), masquerades(other)]).toEqual([0, before]);
    process.env["PATH"] = path;
    nat.applyAll([blue, policy]);
  }
  nat.applyAll([blue, policy]);
  expect([nat.verify(blue), nat.verify(policy)]).toEqual([[], []]);
});

test("when IPv6 is refused, IPv4 is as it was before", () => {
  const namespace = freshNamespace();
  const save = (): string => ask(namespace, ["iptables-nft-save", "-t", "nat"]).replace(/^#.*$/gm, "");
  using nat = new IptablesNat({ namespace, variant: "nft" });
  nat.apply(masqueradeIntent("cni/blue", ["10.1.0.0/16"]));
  const before = save();
  shadow("ip6tables-nft-restore", "echo 'ip6tables-restore: line 3 failed' >&2; exit 1");
  const both = masqueradeIntent("cni/red", ["10.2.0.0/16", "fd00::/64"]);
  expect(() => nat.apply(both)).toThrow(/line 3 failed/);
  expect(save()).toBe(before);
  expect(nat.intents().map(({ owner }) => owner)).toEqual(["cni/blue"]);
});

test("several at once all stand", async () => {
  const namespace = freshNamespace();
  const module = (name: string): string => JSON.stringify(join(import.meta.dir, "../../src/nat", name));
  const script = `import { IptablesNat } from ${module("backends/iptables/iptables.ts")};
    import { masqueradeIntent } from ${module("intent.ts")};
    const network = process.argv[1];
    new IptablesNat({ variant: "nft" }).apply(masqueradeIntent("cni/n" + network, ["10." + network + ".0.0/16"]));`;
  const children = namespace.run(() =>
    [1, 2, 3, 4].map((network) => Bun.spawn([process.execPath, "-e", script, String(network)])),
  );
  expect(await Promise.all(children.map((child) => child.exited))).toEqual([0, 0, 0, 0]);
  using nat = new IptablesNat({ namespace, variant: "nft" });
  expect(nat.intents().map(({ owner }) => owner)).toEqual(["cni/n1", "cni/n2", "cni/n3", "cni/n4"]);
  for (const intent of nat.intents()) expect(nat.verify(intent)).toEqual([]);
});

test("a lock that is held, and a missing privilege, are told as what they are", () => {
  const namespace = freshNamespace();
  using nat = new IptablesNat({ namespace, variant: "nft" });
  const refusal = (): unknown => {
    try {
      nat.apply(masqueradeIntent("cni/red", ["10.2.0.0/16"]));
    } catch (error) {
      return error;
    }
    return undefined;
  };
  shadow("iptables-nft-restore", "echo 'Another app is currently holding the xtables lock' >&2; exit 4");
  expect(refusal()).toMatchObject({
    code: "nat-refused",
    todo: expect.stringContaining("try again") as string,
  });
  shadow("iptables-nft-restore", "echo 'iptables-restore: Permission denied (you must be root)' >&2; exit 4");
  expect(refusal()).toMatchObject({ code: "no-privilege", kind: "machine" });
});

test("the host's kind is the one that holds its rules", () => {
  const fresh = freshNamespace();
  const usual = ask(undefined, ["iptables", "--version"]).includes("nf_tables") ? "nft" : "legacy";
  expect(detectVariant(fresh)).toBe(usual);
  const legacy = freshNamespace();
  ask(legacy, ["iptables-legacy", "-t", "nat", "-A", "POSTROUTING", "-s", "10.0.0.0/8", "-j", "MASQUERADE"]);
  expect(detectVariant(legacy)).toBe("legacy");
  ask(legacy, ["iptables-nft", "-t", "nat", "-A", "POSTROUTING", "-s", "10.0.0.0/8", "-j", "MASQUERADE"]);
  expect(detectVariant(legacy)).toBe(usual);
});
