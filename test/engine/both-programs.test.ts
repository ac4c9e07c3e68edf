/** The two programs are one: the same answers, and the same node, byte for byte, whatever they are asked. */
import { expect } from "bun:test";
import * as fc from "fast-check";
import { existsSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import type { NetworkNamespace } from "../../src/kernel/namespace.ts";
import { environmentOf, freshPod, networkName, pluginProgram } from "../cni/plugin.ts";
import { run, testWith } from "../support/witness.ts";
import { freshNamespace } from "../support/world.ts";
import { inputOf, KINDS } from "./configurations.ts";
import { smallPlugin } from "./small-program.ts";

const withBoth = testWith(["root", "ip", "nft", "iptables", "bridge", "musl-gcc"]);
const NETWORKS = "/var/lib/cni/networks";
const COMMANDS = ["ADD", "CHECK", "STATUS", "ADD", "DEL", "DEL", "GC", "VERSION"] as const;
/** What a node says of itself, by programs that know nothing of us. */
const WITNESSES = [
  "nft -s list ruleset",
  "iptables -w -t nat -S",
  "ip -o link",
  "ip -o address",
  "ip route show table all",
  "ip -6 route show table all",
  "bridge vlan",
].join("; ");

/** Everything a program says and makes in a node of its own, with what no two runs have in common left out. */
function story(program: string, input: string, name: string, commands: readonly string[] = COMMANDS): string {
  const node = freshNamespace("node");
  const pod = freshPod();
  const lines: string[] = [];
  let previous: unknown;
  for (const [step, command] of commands.entries()) {
    const { exitCode, stdout, stderr } = run(
      node,
      [program],
      withPrevious(input, command, previous),
      environmentOf(command, pod),
    );
    lines.push(`${step} ${command} ${exitCode}\n${stdout}${stderr}`);
    if (command === "ADD" && exitCode === 0) previous ??= JSON.parse(stdout) as unknown;
    // Once with the pod and once without.
    const isTelling = step === 0 || step === commands.lastIndexOf("DEL");
    if (isTelling) lines.push(witnessed(node), witnessed(pod.namespace), ...files(name));
  }
  // The other program begins where this one began, whatever the configuration called its network.
  rmSync(NETWORKS, { recursive: true, force: true });
  return scrubbed(lines.join("\n"));
}

/** As libcni does it: the result in CHECK and DEL, what is valid in GC. What it could not read stays as it is. */
function withPrevious(input: string, command: string, previous: unknown): string {
  let conf: object;
  try {
    conf = JSON.parse(input) as object;
  } catch {
    return input;
  }
  if (!("bridge" in Object(conf))) return input;
  if (command === "GC") return JSON.stringify({ ...conf, "cni.dev/valid-attachments": [] });
  const asks = (command === "CHECK" || command === "DEL") && previous !== undefined;
  return asks ? JSON.stringify({ ...conf, prevResult: previous }) : input;
}

/** Without what the kernel adds when it has seen that nobody else has an address of IPv6: link-local ones, local routes. */
function witnessed(namespace: NetworkNamespace): string {
  const { stdout } = run(namespace, ["sh", "-c", WITNESSES]);
  return stdout.replace(/^(?:.*fe80::.*|(?:local|anycast) [0-9a-f]+:.*)\n/gm, "");
}

function files(name: string): string[] {
  const directory = join(NETWORKS, name);
  if (!existsSync(directory)) return [];
  return readdirSync(directory, { recursive: true, encoding: "utf8" })
    .sort()
    .filter((file) => !file.startsWith(".") && file !== "lock")
    .map((file) => `${file}: ${JSON.stringify(readFileSync(join(directory, file), "utf8"))}`);
}

/** MAC addresses, indexes, names of namespaces, times: each its number in the order in which it comes. */
function scrubbed(text: string): string {
  const seen = new Map<string, string>();
  const number = (found: string): string => {
    const known = seen.get(found) ?? `«${seen.size}»`;
    seen.set(found, known);
    return known;
  };
  return text
    .replace(/\b[0-9a-f]{2}(?::[0-9a-f]{2}){5}\b/g, number)
    .replace(/(?:node|pod)-\d+-\d+/g, number)
    .replace(/^\d+: /gm, "")
    .replace(/@if\d+/g, "")
    .replace(/ (?:tentative|state \S+|master \S+|link-netns\S* \S+|NO-CARRIER,?|nodad)/g, "")
    .replace(/(?:NO-CARRIER,|,LOWER_UP|,M-DOWN|linkdown ?|dadfailed ?)/g, "")
    .replace(/valid_lft.*|expires \S+/g, "");
}

withBoth(
  "every kind of configuration: the same results, errors, rules, links, addresses, routes and files",
  () => {
    for (const [kind, value] of Object.entries(KINDS)) {
      const name = networkName();
      const input = inputOf(value, name);
      const [large, small] = [pluginProgram(), smallPlugin()].map((program) => story(program, input, name));
      expect(`${kind}\n${small}`).toBe(`${kind}\n${large}`);
      // An attachment that works is among them, or nothing was compared.
      if (kind === "two families") expect(large).toContain("fd00:75::");
    }
  },
  300_000,
);

/** Anything that JSON can say, and often what we know. */
const value = fc.oneof(
  { weight: 3, arbitrary: fc.jsonValue({ maxDepth: 2 }) },
  fc.constantFrom(
    true,
    false,
    0,
    1,
    1500,
    -1,
    "",
    "host-local",
    "10.75.0.0/24",
    "fd00::/64",
    "0.0.0.0/0",
    "1.1.0",
  ),
);
const key = fc.constantFrom(
  ..."cniVersion name type bridge isGateway isDefaultGateway forceAddress ipMasq ipMasqBackend mtu hairpinMode promiscMode vlan".split(
    " ",
  ),
  ..."vlanTrunk macspoofchk preserveDefaultVlan portIsolation ipam dns runtimeConfig args capabilities prevResult enabledad".split(
    " ",
  ),
  ..."cni.dev/valid-attachments __proto__ toString".split(" "),
);
const environment = fc.record({
  command: fc.constantFrom("ADD", "DEL", "CHECK", "STATUS", "GC", "VERSION"),
  odd: fc.boolean(),
});

withBoth(
  "configurations that nobody writes: never a crash, and the same answer",
  () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(key, value), { maxLength: 3 }),
        environment,
        (changes, { command, odd }) => {
          const name = networkName();
          const base = JSON.parse(inputOf({}, name)) as Record<string, unknown>;
          const input = JSON.stringify({ ...base, ...Object.fromEntries(changes) }) + (odd ? "\ufeff" : "");
          const [large, small] = [pluginProgram(), smallPlugin()].map((program) =>
            story(program, input, name, [command, "DEL"]),
          );
          expect(small).toBe(large);
          expect(large).not.toMatch(/"code": 999|undefined/);
        },
      ),
      { numRuns: Number(process.env["WAYOUT_FUZZ_RUNS"] ?? 30), includeErrorInReport: true },
    );
  },
  300_000,
);
