import { WayoutError } from "../error.ts";
import { INTERFACE_NAME_BYTES } from "../linux/link-layer.ts";
import { utf8Length } from "../platform/bytes.ts";

/**
 * Whether Linux takes the text as the name of an interface (net/core/dev.c, dev_valid_name), and as this name: one with "%d"
 * is a pattern, of which the kernel makes a name with a number.
 */
export function isInterfaceName(name: string): boolean {
  const bytes = utf8Length(name);
  return (
    bytes >= 1 && bytes <= INTERFACE_NAME_BYTES && name !== "." && name !== ".." && !/[/:%\s\0]/.test(name)
  );
}

/** @throws WayoutError bad-interface-name */
export function checkInterfaceName(name: string, doing: string): void {
  if (isInterfaceName(name)) return;
  throw new WayoutError({
    code: "bad-interface-name",
    kind: "usage",
    doing,
    said: `"${name}" is no name for an interface: 1 to ${INTERFACE_NAME_BYTES} bytes without "/", ":", "%" and white space`,
    todo: "Choose a shorter or plainer name.",
    details: { name },
  });
}
