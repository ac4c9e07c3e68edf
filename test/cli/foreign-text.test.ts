/** Names and comments that a pod or a runtime chose: no command lets them act on the terminal, or begin a line. */
import { expect } from "bun:test";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createNamedNamespace, deleteNamedNamespace } from "../../src/kernel/named-namespace.ts";
import { CNI_CACHE_DIRECTORY } from "../../src/pods/cni-cache.ts";
import { visibleLines } from "../../src/text/visible.ts";
import { healthyWorld } from "../doctor/world.ts";
import { afterThisTest } from "../support/teardown.ts";
import { ask, run, testWith, type Ran } from "../support/witness.ts";

const WAYOUT = join(import.meta.dir, "..", "..", "bin", "wayout");
const POD = "ns-red";
const HTTP = "198.51.100.80:80";

testWith(["root", "ip", "nft"])("is spelled out by every command that shows it", () => {
  afterThisTest(() => {
    deleteNamedNamespace(POD);
    for (const path of ["/run/wayout", CNI_CACHE_DIRECTORY]) rmSync(path, { recursive: true, force: true });
  });
  const { node } = healthyWorld();
  createNamedNamespace(POD);
  const wayout = (...args: string[]): Ran => run(node, [WAYOUT, ...args]);
  expect(wayout("attach", POD).exitCode).toBe(0);
  const inPod = (...words: string[]): string => ask(undefined, ["ip", "netns", "exec", POD, ...words]);
  inPod("ip", "link", "set", "dev", "eth0", "down");
  inPod("ip", "link", "set", "dev", "eth0", "name", "e\u001b[7m\u202e;x");
  inPod("ip", "link", "set", "dev", "e\u001b[7m\u202e;x", "up");
  inPod("ip", "route", "add", "default", "via", "10.213.0.1");
  ask(node, ["nft", "add table ip strange"]);
  ask(node, ["nft", "add chain ip strange c { type filter hook forward priority 0; }"]);
  ask(node, [
    "nft",
    `add rule ip strange c ip saddr 10.213.0.0/24 drop comment "no\u001b]0;own\u0007te\u202e"`,
  ]);
  ask(node, ["nft", "add table ip strange-nat"]);
  ask(node, ["nft", "add chain ip strange-nat c { type nat hook postrouting priority 50; }"]);
  ask(node, ["nft", `add rule ip strange-nat c ip saddr 10.9.0.0/16 masquerade comment "\u009bm\u2066"`]);
  mkdirSync(CNI_CACHE_DIRECTORY, { recursive: true });
  writeFileSync(
    join(CNI_CACHE_DIRECTORY, "strange"),
    JSON.stringify({
      kind: "cniCacheV1",
      containerId: "abcdef",
      ifName: "eth0",
      networkName: "n\u001b[2J",
      netns: `/run/netns/${POD}`,
      cniArgs: [
        ["K8S_POD_NAMESPACE", "d\u001b[2J"],
        ["K8S_POD_NAME", "we\n✓ all pods healthy"],
      ],
      result: { ips: [{ address: "10.213.0.2/24" }] },
    }),
  );
  const page = join(mkdtempSync(join(tmpdir(), "wayout-page-")), "page.html");
  afterThisTest(() => rmSync(join(page, ".."), { recursive: true }));
  const commands = [
    ["list"],
    ["doctor"],
    ["doctor", POD],
    ["trace", POD, HTTP, "--html", page],
    ["trace", "d\u001b/nope", HTTP],
    ["nat", "show"],
    ["conntrack", "list"],
    ["conntrack", "stats"],
    ["detach", "no\n✓ all pods healthy"],
  ];
  const shown = commands.map((words) => {
    const { stdout, stderr } = wayout(...words);
    return { words, text: stdout + stderr };
  });
  for (const { words, text } of [...shown, { words: ["page"], text: readFileSync(page, "utf8") }]) {
    expect([words, visibleLines(text)]).toEqual([words, text]);
    expect([words, /^✓ all pods healthy/m.test(text)]).toEqual([words, false]);
  }
  const said = (first: string): string =>
    shown
      .filter(({ words }) => words[0] === first)
      .map(({ text }) => text)
      .join();
  expect(said("list")).toContain("d\\x1b[2J/we\\n✓ all pods healthy");
  expect(said("doctor")).toContain("no\\x1b]0;own\\x07te\\u202e");
  expect(said("nat")).toContain("\\x9bm\\u2066");
  const { stdout } = wayout("nat", "show", "--json");
  expect(visibleLines(stdout)).toBe(stdout);
  expect(JSON.stringify(JSON.parse(stdout))).toContain("\u009bm\u2066");
});

testWith(["root", "ip", "nft"])(
  "attach offers a command for the very name, or none; what was mended is one sentence",
  () => {
    const { node } = healthyWorld();
    const attach = (name: string): string => {
      const { exitCode, stdout, stderr } = run(node, [WAYOUT, "attach", "--create", "--", name]);
      expect([name, exitCode, stderr]).toEqual([name, 0, ""]);
      return stdout;
    };
    const offered = ["w\u202ered", "-rf", "plain"].map((name) => {
      afterThisTest(() => run(node, [WAYOUT, "detach", "--", name]));
      const said = attach(name);
      const after = (word: string): string =>
        new RegExp(`^ ${word} +(.*)$`, "m").exec(said)?.[1]?.trimEnd() ?? "";
      return [name, [after("use it"), after("undo")]];
    });
    expect(Object.fromEntries(offered)).toEqual({
      "w\u202ered": ["", ""],
      "-rf": ["ip netns exec -rf COMMAND", ""],
      plain: ["ip netns exec plain COMMAND", "wayout detach plain"],
    });
    ask(undefined, ["ip", "-n", "plain", "link", "set", "eth0", "down"]);
    expect(attach("plain").split("\n")[0]).toMatch(
      /^✓ plain was broken \(eth0 is down[^=]*\) and is repaired\.$/,
    );
  },
);
