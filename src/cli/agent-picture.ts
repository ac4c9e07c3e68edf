/** Not for people: the node's picture for the agent's page, drawn up beside the agent. */
import { Command } from "commander";
import { JOURNAL_PATH } from "../agent/journal/path.ts";
import { PAINTER } from "../agent/picture/name.ts";
import { pictureOf } from "../agent/picture/picture.ts";
import { examine } from "../examination/examine.ts";
import { printJsonLine } from "./output.ts";

export function agentPictureCommand(): Command {
  return new Command(PAINTER)
    .description("started by wayout itself")
    .option("--at <time>")
    .option("--journal <file>", "", JOURNAL_PATH)
    .option("--json")
    .action(async ({ at, journal }: { readonly at?: string; readonly journal: string }) => {
      const past =
        at === undefined
          ? {}
          : { snapshot: await (await import("./doctor-at.ts")).snapshotThen(at, journal) };
      printJsonLine(pictureOf(examine({ silent: true, ...past })));
    });
}
