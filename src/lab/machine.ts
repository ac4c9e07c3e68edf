/** What the lab must leave as it was: the machine's own network, read before and after. */
import { readFileSync } from "node:fs";
import { Rtnetlink } from "../kernel/route/rtnetlink.ts";
import { namedNamespaces } from "../kernel/named-namespace.ts";
import { Nftables } from "../kernel/nftables/nftables.ts";
import { rulesetText } from "../linux/nftables/text/ruleset.ts";
import type { StoryStep } from "./story.ts";

const SYSCTLS = [
  "net.ipv4.ip_forward",
  "net.ipv4.conf.all.forwarding",
  "net.ipv6.conf.all.forwarding",
  "net.ipv4.conf.all.rp_filter",
] as const;

/** Each part of the machine's network as comparable text; undefined where this user may not look. */
export type MachineState = Readonly<Record<string, readonly string[] | undefined>>;

export function readMachine(): MachineState {
  using route = Rtnetlink.open();
  return {
    links: route.links({ statistics: false }).map((link) => link.name),
    addresses: route
      .addresses()
      .map((address) => `${address.interface} ${address.address}/${address.prefixLength}`),
    routes: route
      .routes()
      .map((route) => `${route.table} ${route.destination} ${route.gateway ?? ""}`)
      .sort(),
    namespaces: namedNamespaces(),
    rules: readRules(),
    sysctls: SYSCTLS.map((name) => `${name} = ${readSysctlFile(name)}`),
  };
}

/** Tables and rules without their counters, which go on counting. */
function readRules(): readonly string[] | undefined {
  try {
    using nftables = Nftables.open();
    return rulesetText(nftables.ruleset(), { stateless: true }).split("\n");
  } catch {
    return undefined;
  }
}

function readSysctlFile(name: string): string {
  try {
    return readFileSync(`/proc/sys/${name.replaceAll(".", "/")}`, "utf8").trim();
  } catch {
    return "absent";
  }
}

/** The story's last step: nothing is left. */
export function compareMachine(before: MachineState, after: MachineState): StoryStep {
  const parts = Object.keys(before);
  const changed = parts.filter((part) => JSON.stringify(before[part]) !== JSON.stringify(after[part]));
  return {
    where: "this machine",
    command: "ip link; ip netns; nft list ruleset; sysctl net.ipv4.ip_forward",
    expected: "the same as before the story",
    found: changed.length === 0 ? "nothing is left, nothing is changed" : `changed: ${changed.join(", ")}`,
    ok: changed.length === 0,
    evidence: parts.map((part) => ({ source: part, lines: [describePart(part, before[part], after[part])] })),
  };
}

function describePart(
  part: string,
  before: readonly string[] | undefined,
  after: readonly string[] | undefined,
): string {
  if (before === undefined || after === undefined) return `${part}: not compared, only root may read them`;
  const gone = before.filter((line) => !after.includes(line));
  const come = after.filter((line) => !before.includes(line));
  if (gone.length + come.length === 0)
    return `${part}: ${before.length} before, ${after.length} after, the same`;
  return [...gone.map((line) => `- ${line}`), ...come.map((line) => `+ ${line}`)].join("; ");
}
