import { logLine } from "./output.ts";
import { Command, Option } from "commander";
import { Agent } from "../agent/agent.ts";
import { Historian } from "../agent/historian.ts";
import { Journal, JOURNAL_PATH } from "../agent/journal/journal.ts";
import { agentLog, type AgentLog, type LogFormat } from "../agent/log.ts";
import { messageOf } from "../error.ts";
import { Interruption } from "./interruption.ts";
import { openNamespace } from "./namespace-option.ts";

const HELP = `
It listens to the kernel, and puts back what somebody took away: our rules after a flush, forwarding that was switched off.
While it runs, a flush of the ruleset cuts no translated connection (Linux 5.12 and later). Other people's rules stay as they
are. Ends with SIGTERM or Ctrl-C; rules and pods stay then.

Examples:
  sudo wayout agent                        in the foreground, one JSON line an event on stderr
  sudo wayout agent --log-format text      the same for people
  sudo wayout history                      what it saw and did`;

interface AgentCommandOptions {
  readonly journal: string;
  readonly logFormat: LogFormat;
  readonly netns?: string;
}

/** `wayout agent`. */
export function agentCommand(): Command {
  return new Command("agent")
    .description("keeps the way out of this node's pods true, as long as it runs")
    .option("--netns <netns|path>", "the namespace that plays the node; default: the own one")
    .option("--journal <file>", "where to remember what changed; none: nowhere", JOURNAL_PATH)
    .addOption(
      new Option("--log-format <format>", "one line an event").choices(["json", "text"]).default("json"),
    )
    .addHelpText("after", HELP)
    .action(async (options: AgentCommandOptions) => {
      using stop = new Interruption();
      using node = openNamespace(options.netns);
      const log = agentLog(options.logFormat, logLine);
      using journal = openJournal(options.journal, log);
      using historian = new Historian(journal);
      const agent = new Agent({ node, log }, [historian]);
      await new Promise((resolve) => stop.signal.addEventListener("abort", resolve, { once: true }));
      await agent.stop();
    });
}

/** An agent without a journal still does its work: what is wrong with the file is told, and no more. */
function openJournal(path: string, log: AgentLog): Journal | undefined {
  if (path === "none") return undefined;
  try {
    return Journal.write(path, (trouble) =>
      log.write(trouble === "" ? "info" : "error", "journal", {
        message: trouble === "" ? "is written again" : trouble,
      }),
    );
  } catch (error) {
    log.write("error", "journal", { message: messageOf(error) });
    return undefined;
  }
}
