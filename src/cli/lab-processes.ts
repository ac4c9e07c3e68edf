/** Commands that are not for people: the processes which the lab starts of itself, in its namespaces. */
import { printJsonLine } from "./output.ts";
import { Command } from "commander";
import { LAB_PROCESSES } from "../lab/processes.ts";

type Process = (argument: string) => Promise<unknown>;

/** Each loads only what it needs: a visitor is started a dozen times in a story. */
const PROCESSES: Readonly<Record<(typeof LAB_PROCESSES)[keyof typeof LAB_PROCESSES], Process>> = {
  [LAB_PROCESSES.story]: async (pipe) => (await import("../lab/actor.ts")).actStory(Number(pipe)),
  [LAB_PROCESSES.keeper]: async (pipes) => (await import("../lab/keeper.ts")).keep(pipes),
  [LAB_PROCESSES.internet]: async (pipes) => (await import("../lab/internet.ts")).serveInternet(pipes),
  [LAB_PROCESSES.visit]: async (options) => {
    const { visit } = await import("../lab/visit.ts");
    const made = await visit(JSON.parse(options) as Parameters<typeof visit>[0]);
    printJsonLine(made);
  },
};

/** The one whose name is given. */
export function labProcess(name: keyof typeof PROCESSES): Command {
  return new Command(name)
    .description("started by wayout itself")
    .argument("<argument>")
    .action(async (argument: string) => {
      await PROCESSES[name](argument);
    });
}
