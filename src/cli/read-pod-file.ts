/** Not for people: reads one file of a pod, and may be given up while it waits. */
import { Command } from "commander";
import { writeSync } from "node:fs";
import { answerOf } from "../pods/pod-file.ts";
import { BEGINS, POD_FILE_READER } from "../pods/reader-process.ts";

const STDOUT = 1;

export function readPodFileCommand(): Command {
  return new Command(POD_FILE_READER)
    .description("started by wayout itself")
    .argument("<root>")
    .argument("<path>")
    .action((root: string, path: string) => {
      writeSync(STDOUT, BEGINS);
      writeSync(STDOUT, JSON.stringify(answerOf(root, path)));
    });
}
