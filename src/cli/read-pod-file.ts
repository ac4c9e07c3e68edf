/** Not for people: reads one file of a pod, and may be given up while it waits. */
import { Command } from "commander";
import { answerReader } from "../pods/pod-file.ts";
import { POD_FILE_READER } from "../pods/reader-process.ts";

export function readPodFileCommand(): Command {
  return new Command(POD_FILE_READER)
    .description("started by wayout itself")
    .argument("<root>")
    .argument("<path>")
    .action(answerReader);
}
