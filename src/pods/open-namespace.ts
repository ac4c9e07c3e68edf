import { messageOf, WayoutError } from "../error.ts";
import { namedNamespaces } from "../kernel/named-namespace.ts";
import { NetworkNamespace } from "../kernel/namespace.ts";

/**
 * Opens the namespace that a person named, by its name or path; the calling thread's own namespace when nothing was said. The caller closes it.
 * @throws WayoutError `no-such-namespace`, `no-privilege`
 */
export function openNamespace(given: string | undefined): NetworkNamespace {
  if (given === undefined) return NetworkNamespace.current();
  try {
    return given.includes("/") ? NetworkNamespace.open(given) : NetworkNamespace.named(given);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    const denied = code === "EPERM" || code === "EACCES";
    const names = namedNamespaces();
    throw new WayoutError({
      code: denied ? "no-privilege" : "no-such-namespace",
      kind: denied ? "machine" : "usage",
      doing: `opening the network namespace ${given}`,
      said:
        code === "ENOENT"
          ? "there is no such namespace"
          : code === "EINVAL"
            ? "it is no network namespace"
            : messageOf(error),
      todo: denied
        ? "Entering a namespace needs CAP_SYS_ADMIN: run it as root."
        : names.length === 0
          ? "`ip netns` shows none at all; a path like /proc/PID/ns/net works too."
          : `There are: ${names.slice(0, 10).join(", ")}${names.length > 10 ? ", …" : ""}.`,
      cause: error,
    });
  }
}
