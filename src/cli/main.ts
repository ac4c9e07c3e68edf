/**
 * Room `cli/`: the command line: one file a command; it parses, calls, prints, and decides nothing.
 *
 * In: arguments, standard input, a terminal.
 * Out: text or one JSON value on standard output, errors on standard error, the exit code.
 * Touches: nothing by itself. Names and texts of others go out only through `tell` (output.ts), commands only as
 *   `command` makes them.
 */
import { Command, CommanderError } from "commander";
import { leaveRunDirectory, settleRunDirectory } from "../kernel/own-run-directory.ts";
import { VERSION } from "../version.ts";
import { COMMANDS } from "./commands.ts";
import { reportFailure } from "./failure.ts";
import { mindLostOutput } from "./lost-output.ts";
import { HELP_OUTPUT } from "./output.ts";

/**
 * Runs one command. Returns the process's exit code: 0 done or healthy, 1 broken, 2 wrong usage, 3 this machine or
 * user cannot. A command that found something broken without failing sets process.exitCode itself.
 */
export async function runCommandLine(given: readonly string[]): Promise<number> {
  mindLostOutput();
  // Only the command that is asked for is loaded; `help COMMAND` asks for it, too.
  const args = given[0] === "help" && given[1] !== undefined ? [...given.slice(1), "--help"] : given;
  const program = new Command("wayout")
    .description(
      "Gives Linux namespaces and Kubernetes pods a way out to the internet, and explains why they have none.",
    )
    .version(`wayout ${VERSION}`, "-V, --version", "print the version")
    .helpOption("-h, --help", "print this help; `wayout COMMAND --help` says more")
    .enablePositionalOptions()
    .showSuggestionAfterError(true)
    .addHelpText("after", EPILOGUE);
  const wanted = COMMANDS.find((entry) => entry.name === args[0]);
  for (const entry of COMMANDS) {
    if (entry === wanted) program.addCommand(await entry.load(), { hidden: entry.hidden === true });
    else if (entry.hidden !== true) program.command(entry.name).description(entry.summary);
  }
  forEveryCommand(program, (command) => command.exitOverride().configureOutput(HELP_OUTPUT));
  try {
    await settleRunDirectory();
    await program.parseAsync(["node", "wayout", ...args]);
    return Number(process.exitCode ?? 0);
  } catch (error) {
    if (error instanceof CommanderError && error.exitCode === 0) return 0;
    // Nothing was asked for, or only a family of commands: the help has been printed.
    if (error instanceof CommanderError && error.code === "commander.help") return 2;
    return reportFailure(error, args.includes("--json"), args);
  } finally {
    leaveRunDirectory();
  }
}

function forEveryCommand(command: Command, visit: (command: Command) => void): void {
  visit(command);
  for (const child of command.commands) forEveryCommand(child, visit);
}

const EPILOGUE = `
To begin: 'wayout lab' shows in throw-away namespaces how a namespace reaches the internet, and proves every step.

Exit codes: 0 done or healthy, 1 the thing asked about is broken, 2 wrong usage, 3 this machine or user cannot do it.
Every command that reports takes --json and then prints one JSON value on stdout and nothing else.`;
