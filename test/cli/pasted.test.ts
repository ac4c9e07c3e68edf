/** Every line that is offered for pasting, pasted: with names that were chosen to have a shell run something else. */
import { expect } from "bun:test";
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Diagnosis } from "../../src/doctor/diagnose.ts";
import type { NetworkNamespace } from "../../src/kernel/namespace.ts";
import { createNamedNamespace, deleteNamedNamespace } from "../../src/kernel/named-namespace.ts";
import { isVisible } from "../../src/text/visible.ts";
import { healthyWorld, PLAN, type World } from "../doctor/world.ts";
import { afterThisTest } from "../support/teardown.ts";
import { ask, run, testWith } from "../support/witness.ts";

const WAYOUT = join(import.meta.dir, "..", "..", "bin", "wayout");

/** Programs that our lines name. Each stands for itself here, and writes down the words that it is given. */
const PROGRAMS = ["bridge", "conntrack", "ethtool", "ip", "ip6tables", "ipset", "iptables", "kubectl"].concat(
  ["modprobe", "nft", "nsenter", "sysctl", "tc", "update-alternatives", "wayout"],
);

/** A link's name has at most fifteen bytes, no blank and no slash. */
const NAMES = ["-x$(>p)`>p`;>p", "'&>p\">p#é"];

/** A directory with a program of each name. */
function stubs(): string {
  const directory = mkdtempSync(join(tmpdir(), "wayout-stubs-"));
  afterThisTest(() => rmSync(directory, { recursive: true, force: true }));
  for (const name of PROGRAMS) {
    writeFileSync(
      join(directory, name),
      `#!/bin/sh\nprintf '%s\\0' ${name} "$@" >> "$SAID"\nexec 0</dev/null\n`,
    );
    chmodSync(join(directory, name), 0o755);
  }
  return directory;
}

/** Pastes the line, and returns the words that programs were given; what else it does is found. */
function paste(programs: string, line: string): string[] {
  const place = mkdtempSync(join(tmpdir(), "wayout-paste-"));
  afterThisTest(() => rmSync(place, { recursive: true, force: true }));
  const said = join(programs, "said");
  writeFileSync(said, "");
  const { exitCode, stderr } = run(undefined, ["sh", "-c", `cd '${place}' || exit 9\n${line}`], undefined, {
    ...process.env,
    PATH: `${programs}:/usr/bin:/bin`,
    SAID: said,
  });
  expect([line, exitCode, stderr, readdirSync(place)]).toEqual([line, 0, "", []]);
  return readFileSync(said, "utf8").split("\0").slice(0, -1);
}

/** What `doctor` offers, as its JSON and its text have it. */
function offered(node: NetworkNamespace | undefined, pod: string): string[] {
  const args = [WAYOUT, "doctor", "--no-probe"];
  const { stdout } = run(node, [...args, "--json", "--", pod]);
  const { findings, suspicions } = JSON.parse(stdout) as Diagnosis;
  const text = run(node, [...args, "--", pod]).stdout;
  const shown = text.split("\n").flatMap((line) => /^ {2}fix {7}(.*)$/.exec(line)?.[1] ?? []);
  expect(text.split("\n").filter((line) => !isVisible(line))).toEqual([]);
  return [
    ...new Set([
      ...[...findings, ...suspicions].flatMap((one) => one.fix.map((fix) => fix.command)),
      ...shown,
    ]),
  ];
}

/** Faults of a node, each with the name of a thing that its cure has to name. */
const FAULTS: Readonly<Record<string, (world: World, name: string) => void>> = {
  "the node's end of the pair, down": ({ node }, name) => {
    ask(node, ["ip", "link", "set", "dev", PLAN.pods.blue.veth, "down"]);
    ask(node, ["ip", "link", "set", "dev", PLAN.pods.blue.veth, "name", name]);
  },
  "the bridge, down": ({ node }, name) => {
    ask(node, ["ip", "link", "set", "dev", PLAN.node.bridge, "down"]);
    ask(node, ["ip", "link", "set", "dev", PLAN.node.bridge, "name", name]);
  },
  "the pod's own link, down": ({ blue }, name) => {
    ask(blue, ["ip", "link", "set", "dev", "net1", "down"]);
    ask(blue, ["ip", "link", "set", "dev", "net1", "name", name]);
  },
  "the uplink, without ARP": ({ node }, name) => {
    ask(node, ["ip", "link", "set", "dev", PLAN.node.uplink, "down"]);
    ask(node, ["ip", "link", "set", "dev", PLAN.node.uplink, "name", name]);
    ask(node, ["ip", "link", "set", "dev", name, "up"]);
    ask(node, ["ip", "route", "add", "default", "via", PLAN.internet.routerIpv4, "dev", name]);
    ask(node, ["ip", "link", "set", "dev", name, "arp", "off"]);
  },
  "a chain of iptables that drops": ({ node }, name) => {
    const chain = name.startsWith("-") ? `x${name}` : name;
    ask(node, ["iptables", "-N", chain]);
    ask(node, ["iptables", "-I", "FORWARD", "-j", chain]);
    ask(node, [
      "iptables",
      "-A",
      chain,
      "-s",
      PLAN.pods.blue.ipv4,
      "-m",
      "comment",
      "--comment",
      name,
      "-j",
      "DROP",
    ]);
  },
  "a set of ipset, to which it is not to send": ({ node }, name) => {
    const set = name.startsWith("-") ? `x${name}` : name;
    ask(node, ["ipset", "create", set, "hash:net"]);
    ask(node, ["ipset", "add", set, "1.1.1.0/24"]);
    ask(node, ["iptables", "-I", "FORWARD", "-m", "set", "--match-set", set, "dst", "-j", "DROP"]);
  },
};

for (const [what, fault] of Object.entries(FAULTS)) {
  for (const name of NAMES) {
    testWith(["root", "ip", "iptables", "ipset"])(`what mends ${what}, with the name ${name}`, () => {
      const world = healthyWorld();
      fault(world, name);
      const programs = stubs();
      const lines = offered(world.node, PLAN.pods.blue.namespace);
      // Some names nft and iptables cannot spell: then there is no line at all.
      if (!/iptables|ipset/.test(what)) expect(lines.join()).toContain(">p");
      for (const line of lines) {
        // A name stands whole in one word, or not at all: half of it would be another thing's.
        const half = paste(programs, line).filter((word) => word.includes(">p") && !word.includes(name));
        expect([line, half]).toEqual([line, []]);
      }
    });
  }
}

testWith(["root", "ip"])(
  "a namespace of any name is told by it, in words that a shell hands on as they are",
  () => {
    const programs = stubs();
    const world = healthyWorld();
    afterThisTest(() => rmSync("/run/wayout", { recursive: true, force: true }));
    for (const name of ["$(>p)", "`>p`", ";>p;", "'|>p|'", '">p#é\\', "*~!!"]) {
      createNamedNamespace(name);
      afterThisTest(() => deleteNamedNamespace(name));
      for (const line of offered(world.node, name)) expect(paste(programs, line)).toContain(name);
      const { exitCode, stderr } = run(world.node, [WAYOUT, "attach", "--interface", "net1", "--", name]);
      expect([name, exitCode, stderr]).toEqual([name, 0, ""]);
      ask(undefined, ["ip", "-n", name, "link", "set", "dev", "net1", "down"]);
      const lines = offered(world.node, name);
      expect(lines.length).toBeGreaterThan(0);
      for (const line of lines)
        expect([name, paste(programs, line)]).toEqual([name, expect.arrayContaining([name])]);
      const list = run(world.node, [WAYOUT, "list"]).stdout;
      expect(list.split("\n").filter((line) => !isVisible(line))).toEqual([]);
      expect(run(world.node, [WAYOUT, "detach", "--", name]).exitCode).toBe(0);
    }
  },
);
