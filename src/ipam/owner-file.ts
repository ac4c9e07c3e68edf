/** What an address file of host-local says: `<container>\r\n<interface>`. */
import type { Owner } from "./assignment.ts";

/** As host-local writes it. */
export function ownerText(owner: Owner): string {
  return `${owner.container}\r\n${owner.interfaceName}`;
}

/**
 * Whom a file's text names; undefined when it is nobody. Files from before version 0.8 of the reference plugins name
 * the container only; then the interface name is "".
 */
export function parseOwner(text: string): Owner | undefined {
  const match = /^([a-zA-Z0-9][a-zA-Z0-9_.-]*)(?:\r\n([^\s/:]{1,15}))?$/.exec(text.trim());
  return match === null ? undefined : { container: match[1]!, interfaceName: match[2] ?? "" };
}

/** Whether a file with this text belongs to the owner. */
export function isOwnedBy(text: string, owner: Owner): boolean {
  const holder = parseOwner(text);
  if (holder === undefined || holder.container !== owner.container) return false;
  return holder.interfaceName === owner.interfaceName || holder.interfaceName === "";
}
