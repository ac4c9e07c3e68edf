/**
 * A network whose rules and routes an agent makes (`waitsFor`: a file that is there when it has). After a reboot the network's
 * configuration is still there and its rules are not: a pod that began then would leave untranslated.
 */
import { WayoutError } from "../error.ts";
import { fileKind } from "../kernel/file.ts";
import type { NetworkConfiguration } from "./configuration.ts";

/** @throws WayoutError with that code while the file is not there */
export function requireMade(
  { network, waitsFor }: NetworkConfiguration,
  code: "try-again" | "not-available",
): void {
  if (waitsFor === undefined || fileKind(waitsFor) !== undefined) return;
  throw new WayoutError({
    code,
    kind: "broken",
    doing: `looking after network ${network}`,
    said: `the agent has not made this node's network since the node started: there is no ${waitsFor}`,
    todo: "It comes by itself when `wayout agent --kubernetes` runs on this node; `wayout agent status` says what it waits for.",
  });
}
