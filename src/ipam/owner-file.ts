/** What an address file of host-local says: `<container>\r\n<interface>`. */
import { readRegularIfThere } from "../kernel/file.ts";
import { SystemError } from "../linux/errno.ts";
import type { AddressOwner } from "./assignment.ts";

/** A container's id and an interface name are shorter. */
const MOST_BYTES = 4096;
/** Instead of the text of what is no file. It names nobody, as does one that makes no sense. */
export const NO_FILE = "?";

/** No regular file; a circle of links, or one into nothing; one that a disk or a mark of it does not let us read. */
const UNREADABLE: ReadonlySet<string> = new Set(["EINVAL", "ELOOP", "ENOTDIR", "EACCES", "EPERM", "EIO"]);

/** As host-local writes it. */
export function ownerText(owner: AddressOwner): string {
  return `${owner.container}\r\n${owner.interfaceName}`;
}

/**
 * What an address file says, or `NO_FILE`; undefined when there is none of that name. A directory, a device or a circle of
 * links among them keeps its one address taken, and no other pod from its own.
 */
export function readOwnerFile(path: string): string | undefined {
  try {
    return readRegularIfThere(path, MOST_BYTES)?.text;
  } catch (error) {
    if (error instanceof SystemError && UNREADABLE.has(error.code)) return NO_FILE;
    throw error;
  }
}

/**
 * Whom a file's text names; undefined when it is nobody. Files from before version 0.8 of the reference plugins name
 * the container only; then the interface name is "".
 */
export function parseOwner(text: string): AddressOwner | undefined {
  const match = /^([a-zA-Z0-9][a-zA-Z0-9_.-]*)(?:\r\n([^\s/:]{1,15}))?$/.exec(text.trim());
  return match === null ? undefined : { container: match[1]!, interfaceName: match[2] ?? "" };
}

/** Whether a file with this text belongs to the owner. */
export function isOwnedBy(text: string, owner: AddressOwner): boolean {
  const holder = parseOwner(text);
  if (holder === undefined || holder.container !== owner.container) return false;
  return holder.interfaceName === owner.interfaceName || holder.interfaceName === "";
}
