import { Command } from "commander";
import { flushCommand } from "./conntrack-flush.ts";
import { conntrackListCommand } from "./conntrack-list.ts";
import { statsCommand } from "./conntrack-stats.ts";
import { watchCommand } from "./conntrack-watch.ts";

/** `wayout conntrack`: the connection tracking table, made readable. */
export function conntrackCommand(): Command {
  return new Command("conntrack")
    .description(
      "the connections that the kernel tracks, each as a translation: source, outgoing address, destination",
    )
    .addCommand(conntrackListCommand())
    .addCommand(watchCommand())
    .addCommand(statsCommand())
    .addCommand(flushCommand())
    .addHelpText(
      "after",
      `
NAT depends on connection tracking: by its entry an answer is recognised and translated back.
The kernel tracks a namespace only while a rule with 'ct' or NAT in it asks for it there.

Examples:
  wayout conntrack list --state ESTABLISHED
  wayout conntrack watch --pod ns-blue
  wayout conntrack stats
  wayout conntrack flush --dst 198.51.100.80 --dry-run
  wayout conntrack list --netns wayout-node`,
    );
}
