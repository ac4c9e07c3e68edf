import { WayoutError } from "../error.ts";
import { utf8Length } from "../linux/utf8.ts";

/** IFNAMSIZ less the NUL (include/uapi/linux/if.h). */
export const INTERFACE_NAME_BYTES = 15;

/** Whether Linux takes the text as the name of an interface (net/core/dev.c, dev_valid_name). */
export function isInterfaceName(name: string): boolean {
  const bytes = utf8Length(name);
  return (
    bytes >= 1 && bytes <= INTERFACE_NAME_BYTES && name !== "." && name !== ".." && !/[/:\s\0]/.test(name)
  );
}

/** @throws WayoutError bad-interface-name */
export function checkInterfaceName(name: string, doing: string): void {
  if (isInterfaceName(name)) return;
  throw new WayoutError({
    code: "bad-interface-name",
    kind: "usage",
    doing,
    said: `"${name}" is no name for an interface: 1 to ${INTERFACE_NAME_BYTES} bytes without "/", ":" and white space`,
    todo: "Choose a shorter or plainer name.",
    details: { name },
  });
}

const PREFIX = "wout";
/** RFC 4648 base32, lower case: letters and digits that are safe in an interface name. */
const LETTERS = "abcdefghijklmnopqrstuvwxyz234567";

/**
 * The host's end of a pod's link: the same for the same network, container and interface, 15 bytes. The 55 bits of
 * hash in it make two alike on one node as unlikely as one in 10^10, with a thousand pods. Nobody gains by making two
 * alike on purpose, so the hash need not resist it.
 */
export function hostVethName(network: string, container: string, interfaceName: string): string {
  let rest = Bun.hash.xxHash64(`${network}\0${container}\0${interfaceName}`);
  let name = PREFIX;
  while (name.length < INTERFACE_NAME_BYTES) {
    name += LETTERS[Number(rest & 31n)];
    rest >>= 5n;
  }
  return name;
}
