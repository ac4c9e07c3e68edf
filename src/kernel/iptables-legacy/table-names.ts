/** Which tables of iptables-legacy exist. Only their names are read: asking for a table's rules makes the kernel create it. */
import { readTextIfThere } from "../file.ts";
import type { NetworkNamespace } from "../namespace.ts";
import type { XtFamily } from "../../linux/xtables/extension.ts";

/**
 * `filter`, `nat`, … of the namespace (the calling thread's own when absent); none where the kernel has no
 * iptables-legacy, or has not loaded it.
 * @throws SystemError EACCES as an ordinary user
 */
export function legacyTableNames(family: XtFamily, namespace: NetworkNamespace | undefined): string[] {
  const read = (): string => readTextIfThere(`/proc/thread-self/net/${family}_tables_names`) ?? "";
  const text = namespace === undefined ? read() : namespace.run(read);
  return text.split("\n").filter((name) => name !== "");
}
