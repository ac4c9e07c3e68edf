/** The namespace that CNI_NETNS names. */
import { messageOf, WayoutError } from "../error.ts";
import { NetworkNamespace } from "../kernel/namespace.ts";

/** @throws WayoutError `bad-namespace` when it is none, or the node's own */
export function openPodNamespace(path: string, node: NetworkNamespace): NetworkNamespace {
  let pod: NetworkNamespace;
  try {
    pod = NetworkNamespace.open(path);
  } catch (error) {
    throw new WayoutError({
      code: "bad-namespace",
      kind: "broken",
      doing: `opening the network namespace ${path}`,
      said: messageOf(error),
      cause: error,
    });
  }
  if (pod.inode !== node.inode) return pod;
  pod.close();
  throw new WayoutError({
    code: "bad-namespace",
    kind: "usage",
    doing: `opening the network namespace ${path}`,
    said: "it is the node's own",
    todo: "A pod with hostNetwork needs no CNI call.",
  });
}

/**
 * The same for DEL: undefined when it is gone, or when the path leads to the node itself by now, as /proc/PID/ns/net
 * does once the process's number belongs to one of the node's. Neither is anything to complain about there.
 */
export function openPodIfThere(
  path: string | undefined,
  node: NetworkNamespace,
): NetworkNamespace | undefined {
  if (path === undefined) return undefined;
  try {
    return openPodNamespace(path, node);
  } catch (error) {
    if (!(error instanceof WayoutError) || error.code === "bad-namespace") return undefined;
    throw error;
  }
}
