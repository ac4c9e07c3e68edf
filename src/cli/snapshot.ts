import { printJsonLine } from "./output.ts";
import { jsonText } from "../text/json.ts";
import { writeFileSync } from "node:fs";
import { Command } from "commander";
import { canonicalIp } from "../address/ip.ts";
import { findPod } from "../pods/find.ts";
import { listPods } from "../pods/inventory.ts";
import { asCaller } from "../kernel/umask.ts";
import { takeSnapshot } from "../snapshot/collect.ts";
import { openNamespace } from "../pods/open-namespace.ts";

const HELP = `
Everything the doctor needs of this node and its pods, as one JSON document: links, addresses, routes of all tables,
rules, neighbours, settings, the whole ruleset, counters, resolv.conf and sysctl.d. No payload, no process, no secret;
addresses and names of pods are in it.

  wayout snapshot > node.json        on the node
  wayout doctor --snapshot node.json anywhere, without privilege`;

interface Options {
  readonly to: readonly string[];
  readonly output?: string;
  readonly node?: string;
}

/** `wayout snapshot`. */
export function snapshotCommand(): Command {
  return new Command("snapshot")
    .description("everything that the doctor needs of this node, as JSON")
    .argument("[pod]", "only this pod; all of this node when absent")
    .option("--to <address...>", "also record the kernel's own route answers for these", [
      "1.1.1.1",
      "2606:4700:4700::1111",
    ])
    .option("-o, --output <file>", "write here instead of to standard output")
    .option("--node <netns|path>", "the network namespace to take as the node; default: the current one")
    .addHelpText("after", HELP)
    .action((pod: string | undefined, options: Options) => {
      using node = openNamespace(options.node);
      const everybody = listPods().filter((one) => one.inode !== node.inode);
      const pods = pod === undefined ? everybody : [findPod(pod)];
      const destinations = options.to.map(canonicalIp);
      const others = pod === undefined ? [] : everybody.filter((one) => one.inode !== pods[0]!.inode);
      const snapshot = takeSnapshot({ node, pods, onlyOfNode: pod === undefined, others, destinations });
      const { output } = options;
      if (output === undefined) printJsonLine(snapshot);
      else asCaller(() => writeFileSync(output, `${jsonText(snapshot)}\n`));
    });
}
