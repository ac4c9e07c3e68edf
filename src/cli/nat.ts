import { Command, Option } from "commander";
import { NAT_BACKENDS, type NatBackendName, type NatChange } from "../nat/backend.ts";
import type { NetworkNamespace } from "../kernel/namespace.ts";
import { Rtnetlink } from "../kernel/route/rtnetlink.ts";
import { adviceOn, type NodeFacts } from "../policy/advice.ts";
import { removeElsewhere } from "../nat/installed.ts";
import { openNat } from "../nat/open.ts";
import { translationText } from "../nat/claim.ts";
import type { NatIntent } from "../nat/intent.ts";
import { readPolicy } from "../policy/policy-file.ts";
import { POLICY_OWNER } from "../policy/policy.ts";
import { namespaceOption, openNamespace } from "./namespace-option.ts";
import { natShowCommand } from "./nat-show.ts";
import { printJson, tell } from "./output.ts";
import { style, table } from "./style.ts";

const HELP = `
What leaves a node with a private source address gets no answer: nobody outside knows the way back. NAT gives it the
node's own address (MASQUERADE) or a fixed one (SNAT).

Examples:
  wayout nat show                              every NAT rule of this node, whose it is, and which are dead
  wayout nat apply -f policy.yaml --dry-run    what a policy means, without touching anything
  sudo wayout nat apply -f policy.yaml         make it so; doing it again changes nothing
  sudo wayout nat remove                       take it back

examples/nat-policy.yaml shows every key; a file of ip-masq-agent works as it is. Networks of \`wayout attach\` and of
the CNI plugin have their own rules beside the policy's and are not touched.`;

/** `wayout nat show`, `apply` and `remove`. */
export function natCommand(): Command {
  return new Command("nat")
    .description("which packets leave under another address: show all rules, apply a policy, remove it")
    .addHelpText("after", HELP)
    .addCommand(natShowCommand())
    .addCommand(applyCommand())
    .addCommand(removeCommand());
}

interface Common {
  readonly netns?: string;
  readonly json?: boolean;
  readonly backend?: NatBackendName;
}

function backendOption(text: string): Option {
  return new Option("--backend <name>", text).choices(NAT_BACKENDS);
}

// ── apply ────────────────────────────────────────────────────────────────────────────────────────────────────────

function applyCommand(): Command {
  return new Command("apply")
    .description("carry out a policy file; other owners' rules stay as they are")
    .requiredOption("-f, --file <path>", "YAML or JSON; - reads standard input")
    .option("--dry-run", "say what it would do, and print the ruleset")
    .addOption(backendOption("instead of the one the file names"))
    .addOption(namespaceOption())
    .option("--json", "one JSON value")
    .action(async (options: Common & { readonly file: string; readonly dryRun?: boolean }) => {
      const policy = await readPolicy(options.file);
      const name = options.backend ?? policy.backend;
      using namespace = openNamespace(options.netns);
      using nat = openNat(name, namespace);
      const warnings = name === "none" ? [] : adviceOn(policy.intent, nat.intents(), nodeFacts(namespace));
      if (options.dryRun === true) {
        const drifts = nat.verify(policy.intent);
        const ruleset = nat.describe(policy.intent);
        if (options.json === true)
          printJson({ backend: name, intent: policy.intent, drifts, warnings, ruleset });
        else
          tell(dryRunText, name, policy.intent, warnings, drifts.length > 0, ruleset.trimEnd().split("\n"));
        return;
      }
      const change = nat.apply(policy.intent);
      // Rules that an earlier policy left in another backend would go on translating.
      const moved = removeElsewhere(namespace, POLICY_OWNER, name);
      if (options.json === true)
        printJson({ backend: name, ...change, removedFrom: moved, warnings, intent: policy.intent });
      else tell(appliedText, name, policy.intent, warnings, change, moved);
    });
}

function nodeFacts(namespace: NetworkNamespace): NodeFacts {
  using rtnetlink = Rtnetlink.open(namespace);
  return {
    addresses: new Set(rtnetlink.addresses().map(({ address }) => address)),
    interfaces: new Set(rtnetlink.links({ statistics: false }).map((link) => link.name)),
  };
}

/** A policy may name thousands of sources; --json shows all. */
const MOST_SOURCES = 30;

function intentText({ sources, untranslated }: NatIntent, warnings: readonly string[]): string {
  const rows = sources
    .slice(0, MOST_SOURCES)
    .map(({ cidr, translation, outInterfaces }) => [
      `  ${style.address(cidr)}`,
      `→ ${translationText(translation)}`,
      outInterfaces === undefined ? "" : `by ${outInterfaces.join(", ")}`,
    ]);
  const keep = untranslated.length === 0 ? "nothing" : untranslated.join(", ");
  return [
    table(rows),
    ...(sources.length > rows.length
      ? [style.quiet(`  and ${sources.length - rows.length} more sources`)]
      : []),
    `  not to ${style.quiet(keep)}`,
    ...warnings.map((warning) => `${style.warn("!")} ${warning}`),
  ].join("\n");
}

function dryRunText(
  name: NatBackendName,
  intent: NatIntent,
  warnings: readonly string[],
  changes: boolean,
  ruleset: readonly string[],
): string {
  return [
    `${style.strong("The policy")} (backend ${name})`,
    intentText(intent, warnings),
    "",
    changes
      ? `${style.warn("!")} applying it would change the rules to:`
      : `${style.good("✓")} it is in force already:`,
    "",
    ruleset.join("\n") === "" ? style.quiet("(no rules)") : ruleset.join("\n"),
    "",
  ].join("\n");
}

function appliedText(
  name: NatBackendName,
  intent: NatIntent,
  warnings: readonly string[],
  change: NatChange,
  moved: readonly NatBackendName[],
): string {
  const shown = change.drifts.slice(0, 10);
  return [
    change.changed
      ? `${style.good("✓")} the policy is in force now (backend ${name})`
      : name === "none"
        ? `${style.good("✓")} nothing to do: the backend none leaves NAT to somebody else`
        : `${style.good("✓")} the policy was in force already; nothing changed (backend ${name})`,
    ...shown.map(({ text }) => style.quiet(`    before: ${text}`)),
    ...(change.drifts.length > shown.length
      ? [style.quiet(`    and ${change.drifts.length - shown.length} more`)]
      : []),
    ...moved.map((backend) => `${style.good("✓")} its rules in ${backend} are gone`),
    intentText(intent, warnings),
    `${style.hint("→")} see it among all NAT rules: ${style.command("wayout nat show")}`,
    `${style.hint("→")} take it back: ${style.command("wayout nat remove")}`,
    "",
  ].join("\n");
}

// ── remove ───────────────────────────────────────────────────────────────────────────────────────────────────────

function removeCommand(): Command {
  return new Command("remove")
    .description("take the policy's rules back, whichever backend holds them")
    .option("--owner <name>", "somebody else's of ours: attach, cni/NETWORK", POLICY_OWNER)
    .option("--all", "everything that wayout ever installed here")
    .addOption(namespaceOption())
    .option("--json", "one JSON value")
    .action((options: Common & { readonly owner: string; readonly all?: boolean }) => {
      using namespace = openNamespace(options.netns);
      const owner = options.all === true ? undefined : options.owner;
      const removedFrom = removeElsewhere(namespace, owner);
      if (options.json === true) {
        printJson({ removed: removedFrom.length > 0, removedFrom, owner: owner ?? null });
        return;
      }
      tell(removedText, owner, removedFrom);
    });
}

function removedText(owner: string | undefined, removedFrom: readonly NatBackendName[]): string {
  const what = owner === undefined ? "our NAT rules" : `the NAT rules of ${owner}`;
  return removedFrom.length > 0
    ? `${style.good("✓")} ${what} are gone (${removedFrom.join(", ")}). Connections that exist keep their translation until they end.\n`
    : `${style.good("✓")} ${what}: there were none\n`;
}
