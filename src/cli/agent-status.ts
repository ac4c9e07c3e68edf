import { Command } from "commander";
import { askAgent } from "../agent/ask.ts";
import type { NodeAnswer } from "../agent/api/view.ts";
import { openNamespace } from "../pods/open-namespace.ts";
import { noAgent } from "./agent-said.ts";
import { momentText } from "./moment.ts";
import { namespaceOption } from "./namespace-option.ts";
import { printJson, tell } from "./output.ts";
import { style, table } from "./style.ts";

const HELP = `
Exit code 0: everything is as configured. 1: something is not, and could not be mended. 3: no agent answers.`;

/** The last ones; 'wayout history' has the others. */
const MOST_REPAIRS = 5;

/** `wayout agent status`. */
export function agentStatusCommand(): Command {
  return new Command("status")
    .description("the agent that runs on this node: its policy, what it cannot mend, its last repairs")
    .addOption(namespaceOption())
    .option("--json", "one JSON value")
    .addHelpText("after", HELP)
    .action(async ({ netns, json }: { readonly netns?: string; readonly json?: true }) => {
      using node = openNamespace(netns);
      const said = await askAgent<NodeAnswer>(node, "/v1/node");
      if (said.kind === "refusal") throw said.error;
      if (said.kind !== "answer") throw noAgent("asking the agent how it is", said, "sudo wayout agent");
      if (json === true) printJson(said.value);
      else tell(statusText, said.value);
      if (said.value.troubles.length > 0) process.exitCode = 1;
    });
}

function statusText({ wayout, pid, since, troubles, policy, journal, url, lastRepairs }: NodeAnswer): string {
  const head =
    troubles.length === 0
      ? `${style.good("✓")} ${style.strong("everything is as configured")}`
      : `${style.bad("✗")} ${style.strong("not everything is as configured")}`;
  const rows = [
    ["agent", `wayout ${wayout}, process ${pid}, since ${momentText(Date.parse(since))}`],
    ["policy", policyText(policy)],
    ...policy.warnings.map((text) => ["", `${style.warn("!")} ${text}`]),
    ...troubles.map(({ step, message }) => [step, `${style.bad("✗")} ${message}`]),
    ["journal", journalText(journal)],
    ["page", url ?? "none: it answers over its socket only"],
    ...lastRepairs
      .slice(-MOST_REPAIRS)
      .map(({ at, found }, index) => [
        index === 0 ? "repairs" : "",
        `${momentText(Date.parse(at))} ${found}`,
      ]),
  ];
  return `${head}\n${table(rows.map(([label = "", text = ""]) => ["", style.quiet(label), text]))}\n`;
}

function policyText({ place, inForce }: NodeAnswer["policy"]): string {
  if (place === undefined) return "none: what attach and the plugin made is kept";
  if (inForce === undefined) return `${place.path} is not in force`;
  const { sources, untranslated } = inForce.intent;
  return `${place.path} is in force: ${sources.length} source${sources.length === 1 ? "" : "s"}, ${untranslated.length} destinations left untranslated`;
}

function journalText(journal: NodeAnswer["journal"]): string {
  if (journal === undefined) return "none";
  const { path, bytes, beginsAt } = journal;
  const from = beginsAt === undefined ? "no snapshot yet" : `from ${momentText(Date.parse(beginsAt))} on`;
  return `${path}, ${from}, ${(bytes / 1024 / 1024).toFixed(1)} MB`;
}
