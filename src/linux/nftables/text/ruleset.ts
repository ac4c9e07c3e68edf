/**
 * A ruleset as nft writes it: `nft list ruleset`, which `nft -f` takes back. What is not understood stands there as a
 * comment, never left out.
 */
import { BRIDGE_HOOK_PRIORITY, HOOK_PRIORITY } from "../../netfilter.ts";
import type { BaseChain, Chain, Family, Flowtable, Rule, Ruleset, Table } from "../ruleset.ts";
import { quoted } from "./format.ts";
import { iptablesWords, isIptablesTable } from "./iptables-nft.ts";
import { ruleTextIn } from "./rule.ts";
import { Scope, type TextOptions } from "./scope.ts";
import { setLines } from "./sets.ts";
import { objectLines } from "./stateful.ts";
import { present } from "../../../present.ts";

export type { TextOptions } from "./scope.ts";
export { iptablesText, iptablesWords, isIptablesTable } from "./iptables-nft.ts";

/** What a rule's text depends on: the family, and the table's sets and chains for what a rule names. */
export type RuleContext = Pick<Table, "family" | "sets" | "chains">;

const scopes = new WeakMap<RuleContext, Scope>();

/** The text of one rule: `ip saddr 10.0.0.0/24 oifname != "br0" counter packets 0 bytes 0 masquerade`. */
export function ruleText(rule: Rule, table: RuleContext, options?: TextOptions): string {
  if (options !== undefined) return ruleTextIn(rule, new Scope(table, options));
  let scope = scopes.get(table);
  if (scope === undefined) scopes.set(table, (scope = new Scope(table)));
  return ruleTextIn(rule, scope);
}

/**
 * The rule in the words of the program that keeps its table: as `iptables-save -c` writes it (`[12:840] -s 10.0.0.0/24 -j
 * MASQUERADE`) where that is iptables, as nft does otherwise.
 */
export function ruleInOwnWords(rule: Rule, table: Table, options: TextOptions = {}): string {
  const { stateless, ipsets } = options;
  const words = isIptablesTable(table)
    ? iptablesWords(
        rule,
        table.family,
        present({
          counters: stateless !== true,
          ipsets,
        }),
      )
    : undefined;
  return words ?? ruleText(rule, table, options);
}

/** All tables. */
export function rulesetText(ruleset: Pick<Ruleset, "tables">, options?: TextOptions): string {
  return ruleset.tables.map((table) => tableText(table, options)).join("");
}

/** One table with everything in it. */
export function tableText(table: Table, options: TextOptions = {}): string {
  const scope = new Scope(table, options);
  const handle = options.handles === true ? ` # handle ${table.handle}` : "";
  const head: string[] = [];
  if (table.flags.length > 0) head.push(`\tflags ${table.flags.join(",")}`);
  if (table.comment !== undefined) head.push(`\tcomment ${quoted(table.comment)}`);
  const blocks = [
    ...table.objects.map((object) => objectLines(object, options)),
    ...table.sets.filter((set) => !set.flags.includes("anonymous")).map((set) => setLines(set, scope)),
    ...table.flowtables.map((flowtable) => flowtableLines(flowtable, options)),
    ...table.chains
      .filter((chain) => !chain.flags.includes("binding"))
      .map((chain) => chainLines(chain, table.family, scope)),
  ].map((lines) => `${lines.map((line) => `\t${line}`).join("\n")}\n`);
  const body = (head.length === 0 ? "" : `${head.join("\n")}\n`) + blocks.join("\n");
  return `table ${table.family} ${table.name} {${handle}\n${body}}\n`;
}

function chainLines(chain: Chain, family: Family, scope: Scope): string[] {
  const handle = scope.options.handles === true ? ` # handle ${chain.handle}` : "";
  const lines = [`chain ${chain.name} {${handle}`];
  if (chain.comment !== undefined) lines.push(`\tcomment ${quoted(chain.comment)}`);
  if (chain.base !== undefined) lines.push(`\t${baseText(chain.base, family)}`);
  if (chain.flags.includes("offload")) lines.push("\tflags offload");
  for (const rule of chain.rules) lines.push(`\t${ruleTextIn(rule, scope)}`);
  lines.push("}");
  return lines;
}

/** `type nat hook postrouting priority srcnat; policy accept;` */
export function baseText(base: BaseChain, family: Family): string {
  const devices = base.devices ?? [];
  const one = devices.length === 1 ? ` device ${quoted(devices[0]!)}` : "";
  const many = devices.length > 1 ? ` devices = { ${devices.map((name) => quoted(name)).join(", ")} }` : "";
  const priority = priorityText(base, family);
  return `type ${base.type} hook ${base.hook}${one}${many} priority ${priority}; policy ${base.policy};`;
}

interface NamedPriority {
  readonly name: string;
  readonly priority: number;
  /** The only hook for which nft knows the name. */
  readonly hook?: string;
}

const INET_PRIORITIES: readonly NamedPriority[] = [
  { name: "raw", priority: HOOK_PRIORITY.raw },
  { name: "mangle", priority: HOOK_PRIORITY.mangle },
  { name: "dstnat", priority: HOOK_PRIORITY.dstnat, hook: "prerouting" },
  { name: "filter", priority: HOOK_PRIORITY.filter },
  { name: "security", priority: HOOK_PRIORITY.security },
  { name: "srcnat", priority: HOOK_PRIORITY.srcnat, hook: "postrouting" },
];

const BRIDGE_PRIORITIES: readonly NamedPriority[] = [
  { name: "dstnat", priority: BRIDGE_HOOK_PRIORITY.dstnat, hook: "prerouting" },
  { name: "filter", priority: BRIDGE_HOOK_PRIORITY.filter },
  { name: "out", priority: BRIDGE_HOOK_PRIORITY.out, hook: "output" },
  { name: "srcnat", priority: BRIDGE_HOOK_PRIORITY.srcnat, hook: "postrouting" },
];

const FILTER_ONLY: readonly NamedPriority[] = [{ name: "filter", priority: HOOK_PRIORITY.filter }];

function prioritiesOf(family: Family): readonly NamedPriority[] {
  if (family === "bridge") return BRIDGE_PRIORITIES;
  return family === "arp" || family === "netdev" ? FILTER_ONLY : INET_PRIORITIES;
}

/** A priority by nft's name where it is one, or close to one: `srcnat`, `filter - 5`, `-200`. */
export function priorityText(base: Pick<BaseChain, "hook" | "priority">, family: Family): string {
  for (const named of prioritiesOf(family)) {
    if (named.hook !== undefined && named.hook !== base.hook) continue;
    const distance = base.priority - named.priority;
    if (Math.abs(distance) > 10) continue;
    if (distance === 0) return named.name;
    return `${named.name} ${distance < 0 ? "-" : "+"} ${Math.abs(distance)}`;
  }
  return String(base.priority);
}

function flowtableLines(flowtable: Flowtable, options: TextOptions): string[] {
  const handle = options.handles === true ? ` # handle ${flowtable.handle}` : "";
  const lines = [`flowtable ${flowtable.name} {${handle}`];
  lines.push(`\thook ${flowtable.hook} priority ${priorityText(flowtable, "netdev")}`);
  if (flowtable.devices.length > 0) {
    lines.push(`\tdevices = { ${flowtable.devices.map((name) => quoted(name)).join(", ")} }`);
  }
  if (flowtable.flags.length > 0) lines.push(`\tflags ${flowtable.flags.join(",")}`);
  if (flowtable.flags.includes("counter")) lines.push("\tcounter");
  lines.push("}");
  return lines;
}
