import { Command, Option } from "commander";
import { Agent } from "../agent/agent.ts";
import { agentLog, type LogFormat } from "../agent/log.ts";
import { Interruption } from "./interruption.ts";
import { openNamespace } from "./namespace-option.ts";

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
    .action(async (options: AgentCommandOptions) => {
      using stop = new Interruption();
      using node = openNamespace(options.netns);
      const log = agentLog(options.logFormat, (line) => console.error(line));
      const agent = new Agent({ node, log });
      await new Promise((resolve) => stop.signal.addEventListener("abort", resolve, { once: true }));
      await agent.stop();
    });
}
