/** Not for people: the agent's look at its node, taken beside it. */
import { Command } from "commander";
import { lookOf } from "../agent/look/look.ts";
import { LOOKER } from "../agent/look/name.ts";
import { examine } from "../examination/examine.ts";
import { printJsonLine } from "./output.ts";

export function agentLookCommand(): Command {
  return new Command(LOOKER)
    .description("started by wayout itself")
    .action(() => printJsonLine(lookOf(examine({ silent: true }))));
}
