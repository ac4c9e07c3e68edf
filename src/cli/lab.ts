import { Command, Option } from "commander";
import { WayoutError } from "../error.ts";
import { execInLab } from "../lab/exec.ts";
import { labDown, labStatus, labUp, requireLab, type LabStatus } from "../lab/up-and-down.ts";
import { dismissKeeper, findKeeper, runBesideKeeper } from "../lab/keeper.ts";
import { LAB_NAMESPACES } from "../lab/plan.ts";
import { playStory } from "../lab/play.ts";
import { isRoot } from "../lab/realm.ts";
import { breakCommand, mendCommand } from "./lab-practice.ts";
import { delegated } from "./lab-realm.ts";
import { picture, showStory, storySummary } from "./lab-story.ts";
import { printJson, tell } from "./output.ts";
import { style, table } from "./style.ts";

const HELP = `
Without a sub-command it runs the whole story in throw-away namespaces, proves each step with what the kernel says, and
leaves nothing behind. It runs as root, and as an ordinary user where user namespaces are allowed.

Examples:
  wayout lab                                                the story, about three seconds
  wayout lab up                                             the same namespaces, to try things in
  wayout lab exec ns-blue -- curl -s http://api.github.com  a command in it
  wayout lab break --list                                   faults to practise on
  wayout lab up --page                                      the same in a browser: make faults there, and see what happens
  wayout lab down`;

/** `wayout lab` and its sub-commands. */
export function labCommand(): Command {
  const lab = new Command("lab")
    .description(
      "the way out, step by step, in throw-away namespaces: each step with proof, and a lab to practise in",
    )
    .enablePositionalOptions()
    .option("--json", "one JSON value instead of the story")
    .addHelpText("after", HELP)
    .action((options: { json?: boolean }) => runStory(options.json === true));
  lab.addCommand(upCommand());
  lab.addCommand(downCommand());
  lab.addCommand(statusCommand());
  lab.addCommand(execCommand());
  lab.addCommand(breakCommand());
  lab.addCommand(mendCommand());
  return lab;
}

function runStory(json: boolean): void {
  if (!json) tell(() => `${style.strong("How a namespace reaches the internet")}\n\n${picture()}`);
  const report = playStory(json ? () => {} : showStory);
  if (json) printJson(report);
  else tell(storySummary, report);
  if (!report.ok) process.exitCode = 1;
}

interface UpOptions {
  readonly wayOut: boolean;
  readonly page?: true;
  readonly listen: string;
  readonly pageIn?: string;
  readonly pageUrl?: string;
  readonly json?: true;
}

function upCommand(): Command {
  return new Command("up")
    .description("build the lab and keep it: ns-blue and ns-green behind wayout-node, and wayout-internet")
    .option("--no-way-out", "do not forward and masquerade yet: you do that")
    .option("--page", "and show it in a browser, as long as this command runs")
    .addOption(
      new Option("--listen <address:port>", "where the page is")
        .default("127.0.0.1:7070")
        .implies({ page: true }),
    )
    .addOption(
      new Option("--page-in <directory>", "started by wayout itself").implies({ page: true }).hideHelp(),
    )
    .addOption(new Option("--page-url <url>", "started by wayout itself").hideHelp())
    .option("--json", "one JSON value")
    .action(async (options: UpOptions) => {
      if (options.page === true) {
        const { showLabPage } = await import("./lab-page.ts");
        await showLabPage(options);
        return;
      }
      if (delegated(["lab", "up", ...process.argv.slice(4)], "make")) return;
      const raised = await labUp(options.wayOut);
      if (options.json === true) printJson({ ...raised, ...labStatus() });
      else tell(upText, raised.change, options.wayOut);
    });
}

function upText(change: "built" | "was up" | "repaired", wayOut: boolean): string {
  const said = {
    built: "The lab is up.",
    "was up": "The lab was up already.",
    repaired: "The lab was incomplete; it has been rebuilt.",
  }[change];
  const next =
    wayOut || change === "was up"
      ? [["wayout lab exec ns-blue -- curl -s http://api.github.com", "a command in it"]]
      : [
          ["wayout lab exec wayout-node -- wayout forwarding enable", "step 1"],
          ["echo 'sources: [10.0.0.0/24]' | wayout lab exec wayout-node -- wayout nat apply -f -", "step 2"],
        ];
  const rows = [...next, ["wayout lab status", "its state"], ["wayout lab down", "remove it"]];
  return `${style.good("✓")} ${said}\n\n${picture()}\n${table(rows.map(([command, why]) => [`  ${style.command(command!)}`, style.quiet(why!)]))}\n`;
}

function downCommand(): Command {
  return new Command("down")
    .description("remove the lab, also when it is incomplete")
    .option("--json", "one JSON value")
    .action(async (options: { json?: boolean }) => {
      const keeper = isRoot() ? undefined : findKeeper();
      if (keeper !== undefined) {
        process.exitCode = runBesideKeeper(keeper, ["lab", "down", ...process.argv.slice(4)]);
        dismissKeeper();
        return;
      }
      if (!isRoot()) dismissKeeper();
      const removed = isRoot() && (await labDown());
      if (options.json === true) printJson({ removed });
      else tell(() => `${style.good("✓")} ${removed ? "The lab is gone." : "There was no lab."}\n`);
    });
}

function statusCommand(): Command {
  return new Command("status")
    .description("whether the lab is up and whole")
    .option("--json", "one JSON value")
    .action((options: { json?: boolean }) => {
      if (delegated(["lab", "status", ...process.argv.slice(4)], "find")) return;
      const status = isRoot() ? labStatus() : NO_LAB;
      if (options.json === true) printJson(status);
      else tell(statusText, status);
      if (status.state !== "up") process.exitCode = 1;
    });
}

const NO_LAB: LabStatus = { state: "down", namespaces: [], servers: "gone", faults: [] };

function statusText(status: LabStatus): string {
  if (status.state === "down") return `The lab is not up. Build it: ${style.command("wayout lab up")}\n`;
  const mark = (good: boolean): string => (good ? style.good("✓") : style.bad("✗"));
  const rows = [
    ...status.namespaces.map(({ name, present }) => [mark(present), name, present ? "" : "missing"]),
    [mark(status.servers === "running"), "HTTP and DNS servers", status.servers],
    ...status.faults.map((fault) => [style.warn("!"), `fault: ${fault}`, "in place"]),
  ];
  const head =
    status.state === "up"
      ? `${style.good("✓")} The lab is up.`
      : `${style.bad("✗")} The lab is incomplete. Rebuild it: ${style.command("wayout lab up")}`;
  return `${head}\n${table(rows.map((row) => ["", ...row]))}\n`;
}

function execCommand(): Command {
  return new Command("exec")
    .description("run a command in one of the lab's namespaces, with working DNS")
    .argument("<namespace>", LAB_NAMESPACES.join(", "))
    .argument("<command...>", "the command, after --")
    .passThroughOptions()
    .action((namespace: string, words: string[]) => {
      // With options passed through, the separator is passed through, too.
      const command = (words[0] === "--" ? words.slice(1) : words) as [string, ...string[]];
      if (command.length === 0) throw noCommand(namespace);
      if (delegated(["lab", "exec", namespace, "--", ...command], "need")) return;
      if (!(LAB_NAMESPACES as readonly string[]).includes(namespace)) {
        throw new WayoutError({
          code: "no-such-namespace",
          kind: "usage",
          doing: `running ${command[0]} in the lab`,
          said: `the lab has no namespace ${namespace}`,
          todo: `It has ${LAB_NAMESPACES.join(", ")}.`,
        });
      }
      requireLab(`running ${command[0]} in ${namespace}`);
      execInLab(namespace, command);
    });
}

function noCommand(namespace: string): WayoutError {
  return new WayoutError({
    code: "no-command",
    kind: "usage",
    doing: `running a command in ${namespace}`,
    said: "no command was given",
    todo: `For a shell: wayout lab exec ${namespace} -- sh`,
  });
}
