/**
 * What the image of the small program (scripts/engine/) holds beyond its modules: tables that are otherwise made when they
 * are first asked for. A call that makes one pays for it each time anew; the build of the image pays once for all calls.
 * Nothing here may depend on where and when it is executed.
 */
import { prepareErrnoNames } from "../linux/errno.ts";
import { prepareAttributeSets } from "../linux/netlink/attributes.ts";

export function prepareImage(): void {
  prepareAttributeSets();
  prepareErrnoNames();
}
