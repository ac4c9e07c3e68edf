/** `wayout detach`: takes a way out away, and with the last one everything that the first one made. */
import { WayoutError } from "../error.ts";
import { namespaceInode } from "../kernel/namespace.ts";
import type { AttachmentNode } from "./node.ts";
import type { AttachmentRecord } from "./record.ts";
import { pathOfLabel } from "./request.ts";
import { recover, takeBack, type TakeBackOptions } from "./take-back.ts";

export interface Detached {
  /** What it had; undefined when it was not attached. */
  readonly attachment: AttachmentRecord | undefined;
  /** What was left on purpose. */
  readonly notes: readonly string[];
}

/**
 * Works also when the namespace is gone by now. A namespace that exists and is not attached is left as it is.
 * @param signal ends it while it waits for another command
 * @throws WayoutError unknown-namespace, detach-incomplete
 */
export async function detach(
  node: AttachmentNode,
  label: string,
  options: TakeBackOptions = {},
  signal?: AbortSignal,
): Promise<Detached> {
  const doing = `detaching ${label}`;
  const work = (): Detached => {
    const before = node.store.read();
    const attachment = before.attachments.find((other) => other.label === label);
    // The one that is asked for is taken back below, with the options, also when it is half-made.
    const record = recover(node, before, attachment);
    if (attachment === undefined) {
      if (namespaceInode(pathOfLabel(label)) === undefined) throw unknown(label, doing, record.attachments);
      return { attachment: undefined, notes: [] };
    }
    return { attachment, notes: takeBack(node, record, attachment, options).notes };
  };
  return node.store.locked(doing, work, signal);
}

function unknown(label: string, doing: string, attachments: readonly AttachmentRecord[]): WayoutError {
  const names = attachments.map((attachment) => attachment.label);
  return new WayoutError({
    code: "unknown-namespace",
    kind: "usage",
    doing,
    said: `nothing of this name is attached; ${names.length === 0 ? "nothing is" : `attached are ${names.join(", ")}`}`,
    details: { namespace: label, attached: names },
  });
}
