import { Command, Option } from "commander";
import {
  Admission,
  admissionOf,
  NO_ADMISSION,
  type AdmissionOutcome,
  type AdmissionWish,
} from "../admission/admission.ts";
import { driftText, type NatChange } from "../nat/backend.ts";
import { BACKENDS, NAT_BACKENDS, type NatBackendName } from "../nat/backends/backends.ts";
import type { NetworkNamespace } from "../kernel/namespace.ts";
import { nodeAddresses } from "../network/node-addresses.ts";
import { adviceOn, sharedWith, type Shared } from "../policy/advice.ts";
import { intentsElsewhere, removeAtWish, removeElsewhere } from "../nat/installed.ts";
import { inNatQueue } from "../nat/lock.ts";
import { openNat, requireNat } from "../nat/open.ts";
import { applyAndSettle, type SettledFlows } from "../nat/settle-flows.ts";
import { translationText } from "../nat/claim.ts";
import type { NatIntent } from "../nat/intent.ts";
import { readPolicy } from "../policy/policy-file.ts";
import { POLICY_OWNER } from "../policy/policy.ts";
import { Interruption } from "./interruption.ts";
import { openNamespace } from "../pods/open-namespace.ts";
import { namespaceOption } from "./namespace-option.ts";
import { natExplainCommand } from "./nat-explain.ts";
import { natShowCommand } from "./nat-show.ts";
import { printJson, tell } from "./output.ts";
import { style, table } from "./style.ts";

const HELP = `
What leaves a node with a private source address gets no answer: no router outside has a route back. NAT gives it the
node's own address (MASQUERADE) or a fixed one (SNAT).

Examples:
  wayout nat show                              every NAT rule of this node, whose it is, and which are dead
  sudo wayout nat explain ns-blue 192.0.2.4    is it translated, to which address, and by which owner
  wayout nat apply -f policy.yaml --dry-run    what a policy would change, without changing it
  sudo wayout nat apply -f policy.yaml         apply it; a second time changes nothing
  sudo wayout nat apply -f policy.yaml --cut   also for connections that have another translation already
  sudo wayout nat remove                       remove its rules, and those that its admit made

examples/nat-policy.yaml shows every key; a file of ip-masq-agent works as it is. Networks of \`wayout attach\` and of
the CNI plugin have their own rules beside the policy's: those decide the address that their pods leave with. What the policy
leaves untranslated stays untranslated for their pods, too.`;

/** `wayout nat show`, `explain`, `apply` and `remove`. */
export function natCommand(): Command {
  return new Command("nat")
    .description("which packets leave under another address: show all rules, apply a policy, remove it")
    .addHelpText("after", HELP)
    .addCommand(natShowCommand())
    .addCommand(natExplainCommand())
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
    .description("apply a policy file; other owners' rules stay as they are")
    .requiredOption("-f, --file <path>", "YAML or JSON; - reads standard input")
    .option("--dry-run", "print what it would do, and the ruleset")
    .option("--cut", "also forget tracked flows that have another translation: those connections break")
    .addOption(backendOption("the backend, instead of the one that the file names"))
    .addOption(namespaceOption())
    .option("--json", "one JSON value")
    .action(
      async (options: Common & { readonly file: string; readonly dryRun?: boolean; readonly cut?: true }) => {
        const policy = await readPolicy(options.file);
        const name = options.backend ?? policy.backend;
        using namespace = openNamespace(options.netns);
        if (options.dryRun !== true) requireNat(name, namespace, "applying the policy");
        using nat = openNat(name, namespace);
        const others = nat.intents();
        const warnings = BACKENDS[name].translates
          ? adviceOn(policy.intent, others, nodeAddresses(namespace))
          : [];
        const shared = BACKENDS[name].translates ? sharedOn(namespace, name, policy.intent, others) : [];
        if (options.dryRun === true) {
          const drifts = nat.verify(policy.intent);
          const ruleset = nat.describe(policy.intent);
          if (options.json === true)
            printJson({ backend: name, intent: policy.intent, drifts, warnings, shared, ruleset });
          else {
            const text = ruleset.trimEnd().split("\n");
            tell(dryRunText, name, { intent: policy.intent, warnings, shared }, drifts.length > 0, text);
          }
          return;
        }
        const wish = admissionOf(policy.admit, [policy.intent, ...others]);
        const { change, moved } = await changing(namespace, "applying the policy", () => ({
          change: applyAndSettle(nat, namespace, policy.intent, { always: true, cut: options.cut === true }),
          // Rules that an earlier policy left in another backend would go on translating.
          moved: removeElsewhere(namespace, POLICY_OWNER, name),
        }));
        const admission = await new Admission(namespace).settleAll(wish);
        if (options.json === true)
          printJson({
            backend: name,
            admission: { ...wish, ...admission },
            ...change,
            removedFrom: moved,
            warnings,
            shared,
            intent: policy.intent,
          });
        else tell(appliedText, name, { intent: policy.intent, warnings, shared }, change, moved);
        if (options.json !== true) tell(admissionText, wish, admission);
        if (admission.failures.length > 0) process.exitCode = 1;
      },
    );
}

/** While nobody else changes the rules; Ctrl-C ends the wait for who does. */
async function changing<T>(namespace: NetworkNamespace, doing: string, change: () => T): Promise<T> {
  using interruption = new Interruption();
  return await inNatQueue(namespace, doing, change, interruption.signal);
}

/** Other owners of these pods: those in the policy's backend heed it, those in another do not. */
function sharedOn(
  namespace: NetworkNamespace,
  backend: NatBackendName,
  intent: NatIntent,
  others: readonly NatIntent[],
): Shared[] {
  const elsewhere = intentsElsewhere(namespace, backend);
  return [
    ...sharedWith(intent, others),
    ...elsewhere.flatMap((other) => sharedWith(intent, other.intents, other.backend)),
  ];
}

function sharedText({ owner, cidrs, untranslated, elsewhere }: Shared): string {
  const from = cidrs.map((cidr) => style.address(cidr)).join(", ");
  if (elsewhere === undefined) {
    return `${style.good("✓")} ${from} leaves as ${owner} has it, and untranslated to ${untranslated.join(", ")} as the policy has it`;
  }
  return `${style.warn("!")} ${from} is translated by ${owner} with ${elsewhere} even to ${untranslated.join(", ")}: take one backend for both`;
}

/** A policy may name thousands of sources; --json shows all. */
const MOST_SOURCES = 30;

/** A policy, and what there is to say about it on this node. */
interface Considered {
  readonly intent: NatIntent;
  readonly warnings: readonly string[];
  readonly shared: readonly Shared[];
}

function policyText({ intent, warnings, shared }: Considered): string {
  const { sources, untranslated } = intent;
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
    ...shared.map(sharedText),
    ...warnings.map((warning) => `${style.warn("!")} ${warning}`),
  ].join("\n");
}

function dryRunText(
  name: NatBackendName,
  policy: Considered,
  changes: boolean,
  ruleset: readonly string[],
): string {
  return [
    `${style.strong("The policy")} (backend ${name})`,
    policyText(policy),
    "",
    changes
      ? `${style.warn("!")} applying it would change the rules to:`
      : `${style.good("✓")} it is in force already:`,
    "",
    ruleset.join("") === "" ? style.quiet("(no rules)") : ruleset.join("\n"),
    "",
  ].join("\n");
}

function appliedText(
  name: NatBackendName,
  policy: Considered,
  change: NatChange & { readonly flows: SettledFlows },
  moved: readonly NatBackendName[],
): string {
  const shown = change.drifts.slice(0, 10);
  return [
    change.changed
      ? `${style.good("✓")} the policy is in force now (backend ${name})`
      : !BACKENDS[name].translates
        ? `${style.good("✓")} nothing to do: the backend ${name} makes no NAT rules: another program does`
        : `${style.good("✓")} the policy was in force already; nothing changed (backend ${name})`,
    ...shown.map((drift) => style.quiet(`    before: ${driftText(drift)}`)),
    ...(change.drifts.length > shown.length
      ? [style.quiet(`    and ${change.drifts.length - shown.length} more`)]
      : []),
    ...flowLines(change.flows),
    ...moved.map((backend) => `${style.good("✓")} its rules in ${backend} are gone`),
    policyText(policy),
    `${style.hint("→")} see it with all NAT rules: ${style.command("wayout nat show")}`,
    `${style.hint("→")} remove it: ${style.command("wayout nat remove")}`,
    "",
  ].join("\n");
}

function admissionText(wish: AdmissionWish, { changes, idle, failures }: AdmissionOutcome): string {
  if (wish.doors.length > 0 && wish.cidrs.length === 0)
    return `${style.warn("!")} admit: every source of the policy is 0.0.0.0/0 or ::/0; name this node's pods, and they are admitted\n`;
  const open = wish.doors.filter((door) => !idle.includes(door));
  const to = wish.cidrs.map((cidr) => style.address(cidr)).join(", ");
  return [
    ...(open.length > 0 && failures.length === 0
      ? [`${style.good("✓")} ${to} let through by ${open.join(", ")}`]
      : []),
    ...idle.map((door) => style.quiet(`    ${door}: its product does not run here and stops nothing`)),
    ...(wish.doors.length === 0 ? withdrawnLines(changes) : []),
    ...failures.map((failure) => `${style.bad("✗")} ${failure}`),
  ]
    .map((line) => `${line}\n`)
    .join("");
}

function withdrawnText({ changes, failures }: AdmissionOutcome): string {
  return [...withdrawnLines(changes), ...failures.map((failure) => `${style.bad("✗")} ${failure}`)]
    .map((line) => `${line}\n`)
    .join("");
}

function withdrawnLines(changes: AdmissionOutcome["changes"]): string[] {
  return changes.map(({ object }) => `${style.good("✓")} no more let through: ${object}`);
}

function flowLines({ forgotten, kept }: SettledFlows): string[] {
  return [
    ...(forgotten === 0
      ? []
      : [
          `${style.good("✓")} ${counted(forgotten)} began before these rules and ${forgotten === 1 ? "was" : "were"} forgotten: the next packet is translated`,
        ]),
    ...(kept === 0
      ? []
      : [
          `${style.warn("!")} ${counted(kept)} ${kept === 1 ? "keeps" : "keep"} another translation until the end; --cut forgets ${kept === 1 ? "it" : "them"}, and breaks ${kept === 1 ? "it" : "them"}`,
        ]),
  ];
}

function counted(flows: number): string {
  return `${flows} tracked flow${flows === 1 ? "" : "s"}`;
}

// ── remove ───────────────────────────────────────────────────────────────────────────────────────────────────────

function removeCommand(): Command {
  return new Command("remove")
    .description("remove the policy's rules, in every backend")
    .option("--owner <name>", "another owner of wayout's rules: attach/BRIDGE, cni/NETWORK", POLICY_OWNER)
    .option("--all", "the rules of all owners of wayout")
    .addOption(namespaceOption())
    .option("--json", "one JSON value")
    .action(async (options: Common & { readonly owner: string; readonly all?: boolean }) => {
      using namespace = openNamespace(options.netns);
      const owner = options.all === true ? undefined : options.owner;
      const removedFrom = await changing(namespace, "removing NAT rules", () =>
        removeAtWish(namespace, owner),
      );
      const withdrawn =
        owner === undefined || owner === POLICY_OWNER
          ? await new Admission(namespace).settleAll(NO_ADMISSION)
          : undefined;
      if ((withdrawn?.failures.length ?? 0) > 0) process.exitCode = 1;
      if (options.json === true) {
        printJson({
          removed: removedFrom.length > 0,
          removedFrom,
          owner: owner ?? null,
          withdrawn: withdrawn?.changes ?? [],
          failures: withdrawn?.failures ?? [],
        });
        return;
      }
      tell(removedText, owner, removedFrom);
      if (withdrawn !== undefined) tell(withdrawnText, withdrawn);
    });
}

function removedText(owner: string | undefined, removedFrom: readonly NatBackendName[]): string {
  const what = owner === undefined ? "our NAT rules" : `the NAT rules of ${owner}`;
  return removedFrom.length > 0
    ? `${style.good("✓")} ${what} are gone (${removedFrom.join(", ")}). Connections that exist keep their translation until they end.\n`
    : `${style.good("✓")} ${what}: there were none\n`;
}
