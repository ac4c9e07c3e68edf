import { Command, Option } from "commander";
import { Agent } from "../agent/agent.ts";
import { agentLog, type LogFormat } from "../agent/log.ts";
import { Interruption } from "./interruption.ts";
import { openNamespace } from "./namespace-option.ts";

const HELP = `
It listens to the kernel, and puts back what somebody took away: our rules after a flush, forwarding that was switched off.
While it runs, a flush of the ruleset cuts no translated connection (Linux 5.12 and later). Other people's rules stay as they
are. Ends with SIGTERM or Ctrl-C; rules and pods stay then.

Examples:
  sudo wayout agent                        in the foreground, one JSON line an event on stderr
  sudo wayout agent --log-format text      the same for people`;

interface AgentCommandOptions {
  readonly logFormat: LogFormat;
  readonly netns?: string;
}

/** `wayout agent`. */
export function agentCommand(): Command {
  return new Command("agent")
    .description("keeps the way out of this node's pods true, as long as it runs")
    .option("--netns <netns|path>", "the namespace that plays the node; default: the own one")
    .addOption(
      new Option("--log-format <format>", "one line an event").choices(["json", "text"]).default("json"),
    )
    .addHelpText("after", HELP)
    .action(async (options: AgentCommandOptions) => {
      using stop = new Interruption();
      using node = openNamespace(options.netns);
      const log = agentLog(options.logFormat, (line) => console.error(line));
      const agent = new Agent({ node, log });
      await new Promise((resolve) => stop.signal.addEventListener("abort", resolve, { once: true }));
      await agent.stop();
    });
}
