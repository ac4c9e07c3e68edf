import { Command } from "commander";
import type { NetworkNamespace } from "../kernel/namespace.ts";
import { readNatListing, type ReadNatListing } from "../rules/read-listing.ts";
import type { Counter, ListedChain, ListedRule, NatElement, NatListing } from "../rules/listing.ts";
import { translationText } from "../nat/claim.ts";
import type { LinkTranslation } from "../nat/backends/link-translation.ts";
import { openNamespace } from "../pods/open-namespace.ts";
import { namespaceOption } from "./namespace-option.ts";
import { printJson, tell } from "./output.ts";
import { style } from "./style.ts";

const HELP = `
Packets meet the chains from top to bottom. The first rule that translates decides, whatever its table; an accept or
return ends its own chain only, and a later chain may still translate.

A dead rule is one that no packet can reach. Exit 1 when a translating rule is dead, or when nothing translates what
leaves this node.`;

/** `wayout nat show` */
export function natShowCommand(): Command {
  return new Command("show")
    .description("every NAT rule of the node in the order in which packets meet it, with its owner")
    .option("--dead", "only the rules that no packet can reach")
    .addOption(namespaceOption())
    .option("--json", "one JSON value")
    .addHelpText("after", HELP)
    .action((options: { readonly netns?: string; readonly json?: boolean; readonly dead?: boolean }) => {
      using namespace: NetworkNamespace = openNamespace(options.netns);
      const whole = readNatListing(namespace);
      const problems = problemsOf(whole);
      const listing = options.dead === true ? onlyDead(whole) : whole;
      if (options.json === true)
        printJson({ ok: problems.length === 0, problems, notes: notesOf(whole), ...listing });
      else tell(listingText, listing, problems);
      if (problems.length > 0) process.exitCode = 1;
    });
}

/** What makes the exit code 1, each as a sentence. */
function problemsOf({ chains, unreached, unread, atLinks }: ReadNatListing): string[] {
  const rules = [...chains.flatMap((chain) => chain.rules), ...unreached];
  const dead = rules.filter((rule) => rule.translates !== undefined && rule.dead !== undefined);
  const hidesSource =
    (atLinks !== undefined && atLinks.egress.length > 0) ||
    chains
      .filter(({ hook }) => hook === "postrouting")
      .some((chain) =>
        chain.rules.some(({ translates, dead }) => translates !== undefined && dead === undefined),
      );
  return [
    ...dead.map((rule) => `${placeOf(rule)} translates nothing: ${rule.dead!.reason}`),
    ...(hidesSource || unread.length > 0
      ? []
      : ["no rule translates what leaves this node (an eBPF program might)"]),
  ];
}

/** What is not wrong, but surprises. */
function notesOf({ chains }: NatListing): string[] {
  const kinds = new Set(chains.flatMap(({ kind, rules }) => (rules.length > 0 ? [kind] : [])));
  if (!kinds.has("iptables-nft") || !kinds.has("iptables-legacy")) return [];
  return ["both kinds of iptables hold rules here; packets meet both, and `iptables` shows only one"];
}

function onlyDead<L extends NatListing>(listing: L): L {
  const chains = listing.chains
    .map((chain) => ({ ...chain, rules: chain.rules.filter(({ dead }) => dead !== undefined) }))
    .filter(({ rules }) => rules.length > 0);
  return { ...listing, chains };
}

function placeOf({ family, table, chain, position }: ListedRule): string {
  return `rule ${position} of ${family} ${table} ${chain}`;
}

function listingText(listing: ReadNatListing, problems: readonly string[]): string {
  const lines: string[] = [];
  let hook: string | undefined;
  for (const chain of listing.chains.filter(({ rules }) => rules.length > 0)) {
    if (chain.hook !== hook)
      lines.push(...(hook === undefined ? [] : [""]), style.strong(hookText(chain.hook)));
    hook = chain.hook;
    lines.push(...chainLines(chain));
  }
  if (listing.atLinks !== undefined)
    lines.push(...(lines.length === 0 ? [] : [""]), ...programLines(listing.atLinks));
  if (listing.unreached.length > 0) {
    lines.push("", style.strong("No packet reaches these"));
    lines.push(
      ...listing.unreached.flatMap((rule) => [
        style.quiet(`  ${placeOf(rule)} (${rule.kind})`),
        ...ruleLines(rule, 2),
      ]),
    );
  }
  if (lines.length === 0) lines.push(style.quiet("There are no NAT rules here."));
  lines.push("");
  for (const note of [...notesOf(listing), ...listing.unread]) lines.push(`${style.warn("!")} ${note}`);
  for (const problem of problems) lines.push(`${style.bad("✗")} ${problem}`);
  if (problems.length === 0) lines.push(`${style.good("✓")} every rule that translates can be reached`);
  return `${lines.join("\n")}\n`;
}

/** Programs come behind every rule on the way out, and before every rule on the way back. */
function programLines({ intents, egress, ingress, counts, fastPath }: LinkTranslation): string[] {
  const begun = counts["begun"] ?? 0;
  const dropped = Object.entries(counts).filter(([what, count]) => what.startsWith("dropped") && count > 0);
  const oneSided = [...egress, ...ingress].filter(
    (link) => !egress.includes(link) || !ingress.includes(link),
  );
  return [
    style.strong(
      "egress of a link: what leaves by it, behind every rule; answers are turned back at its ingress",
    ),
    `  ${style.command("wayout's eBPF programs")} ${style.quiet(`at ${egress.join(", ") || "no link"}; ${begun} connections begun`)}`,
    ...intents.flatMap(({ owner, sources, untranslated }) => [
      ...sources.map(
        ({ cidr, translation, outInterfaces }) =>
          `    ${style.good("●")} from ${cidr}${outInterfaces === undefined ? "" : `, by ${outInterfaces.join(" or ")}`}: ${translationText(translation)} ${style.address(`[wayout, ${owner}]`)}`,
      ),
      ...(untranslated.length === 0 ? [] : [style.quiet(`    · not to ${untranslated.join(", ")}`)]),
    ]),
    ...fastPathLines(fastPath, counts),
    ...dropped.map(([what, count]) => `    ${style.warn("!")} ${count} packets ${what}`),
    ...oneSided.map((link) => `    ${style.bad("✗")} only one of the two programs is attached to ${link}`),
  ];
}

function fastPathLines(fastPath: LinkTranslation["fastPath"], counts: LinkTranslation["counts"]): string[] {
  if (fastPath === undefined) return [];
  const [left, arrived] = ["left", "arrived"].map((what) => counts[`${what} by the fast path`] ?? 0);
  const counted = style.quiet(`${left} packets left by it, ${arrived} arrived`);
  if (fastPath.open)
    return [
      `    ${style.good("●")} fast path: on; known connections go past every rule of the node; ${counted}`,
    ];
  return [
    `    · fast path: off for now; ${counted}`,
    ...fastPath.obstacles.map((obstacle) => style.quiet(`        ${obstacle}`)),
  ];
}

const HOOKS: Readonly<Record<string, string>> = {
  prerouting: "prerouting: what arrives, before its route is chosen",
  input: "input: what is for this node",
  output: "output: what this node itself sends",
  postrouting: "postrouting: what leaves, routed or sent by this node",
};

function hookText(hook: string): string {
  return HOOKS[hook] ?? hook;
}

function chainLines(chain: ListedChain): string[] {
  const name = `${chain.family} ${chain.table} ${chain.chain}`;
  const policy = chain.policy === "accept" ? "" : `, policy ${chain.policy}`;
  return [
    `  ${style.command(name)} ${style.quiet(`${chain.kind}, priority ${chain.priority}${policy}`)}`,
    ...chain.rules.flatMap((rule) => ruleLines(rule, 2 + rule.depth)),
  ];
}

function ruleLines(rule: ListedRule, depth: number): string[] {
  const indent = "  ".repeat(depth);
  const mark =
    rule.dead !== undefined
      ? style.bad("✗")
      : rule.translates !== undefined
        ? style.good("●")
        : style.quiet("·");
  const owner = rule.owner === undefined ? "" : ` ${style.address(`[${ownerText(rule.owner)}]`)}`;
  const inside = rule.depth > 0 ? style.quiet(`${rule.chain} `) : "";
  const text = rule.dead === undefined ? rule.text : style.quiet(rule.text);
  return [
    `${indent}${mark} ${inside}${text}${counterText(rule.counter)}${owner}`,
    ...(rule.dead === undefined ? [] : [`${indent}  ${style.bad("dead:")} ${rule.dead.reason}`]),
    ...elementLines(rule.elements ?? [], `${indent}    `),
  ];
}

function ownerText({ product, detail, confidence }: NonNullable<ListedRule["owner"]>): string {
  return `${product}${detail === undefined ? "" : `: ${detail}`}${confidence === "likely" ? "?" : ""}`;
}

function counterText(counter: Counter | undefined): string {
  if (counter === undefined) return "";
  return style.quiet(`  ${counter.packets} ${counter.packets === 1 ? "packet" : "packets"}`);
}

/** Longer maps (a service mesh has thousands of entries) are for --json. */
const MOST_ELEMENTS = 20;

function elementLines(elements: readonly NatElement[], indent: string): string[] {
  const lines = elements.slice(0, MOST_ELEMENTS).map(({ key, leadsTo, counter, owner, comment }) => {
    const whose = owner === undefined ? "" : ` ${style.address(`[${owner}]`)}`;
    const said = comment === undefined ? "" : style.quiet(`  ${comment}`);
    return `${indent}${style.address(key)} → ${leadsTo}${counterText(counter)}${whose}${said}`;
  });
  const more = elements.length - lines.length;
  return more > 0 ? [...lines, style.quiet(`${indent}and ${more} more; --json shows all`)] : lines;
}
