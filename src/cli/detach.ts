import { addressOf } from "../address/ip.ts";
import { Command } from "commander";
import { detach, type Detached } from "../attachment/detach.ts";
import { AttachmentNode } from "../attachment/node.ts";
import { Interruption } from "./interruption.ts";
import { printJson, tell } from "./output.ts";
import { style } from "./style.ts";

const HELP = `
Takes away what 'wayout attach' made for the namespace, also when the namespace itself is gone. With the last one go the
bridge and the rules, and forwarding becomes what it was before the first. A namespace made by --create goes, too.

Examples:
  wayout detach blue
  wayout detach blue --keep-namespace`;

interface DetachOptions {
  /** commander: true unless --keep-namespace is given. */
  readonly keepNamespace?: true;
  readonly json?: true;
}

/** `wayout detach NS`. */
export function detachCommand(): Command {
  return new Command("detach")
    .description("undo what attach made for a namespace")
    .argument("<namespace>", "as it was attached: 'wayout list' shows it")
    .option("--keep-namespace", "keep a namespace that attach made")
    .option("--json", "one JSON value")
    .addHelpText("after", HELP)
    .action(async (namespace: string, options: DetachOptions) => {
      using node = AttachmentNode.open();
      // Half a detach would be finished by the next command anyway; it is only spared the detour.
      using interruption = new Interruption();
      const keepNamespace = options.keepNamespace === true;
      const detached = await detach(node, namespace, { keepNamespace }, interruption.signal);
      if (options.json === true) printJson(jsonOf(namespace, detached));
      else tell(detachedText, namespace, detached);
    });
}

function jsonOf(namespace: string, { attachment, notes }: Detached) {
  return {
    namespace,
    changed: attachment !== undefined,
    ...(attachment === undefined ? {} : { addresses: attachment.addresses, bridge: attachment.bridge }),
    notes,
  };
}

function detachedText(namespace: string, { attachment, notes }: Detached): string {
  const name = style.strong(namespace);
  const head =
    attachment === undefined
      ? `${name} is not attached; nothing was changed.`
      : `${name} is detached; ${freedText(attachment.addresses)} free again.`;
  return `${style.good("✓")} ${head}\n${notes.map((note) => `${style.warn("!")} ${note}\n`).join("")}`;
}

function freedText(addresses: readonly string[]): string {
  const bare = addresses.map((text) => style.address(addressOf(text)));
  return `${bare.join(" and ")} ${bare.length === 1 ? "is" : "are"}`;
}
