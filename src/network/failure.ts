import { messageOf, WayoutError, type ErrorParts } from "../error.ts";
import { AddressError } from "../address/ip.ts";
import { SystemError } from "../linux/errno.ts";
import { NetlinkError } from "../linux/netlink/netlink-error.ts";
import { present } from "../present.ts";

/** What people can do about the errno that the kernel gave. */
const HINTS: Readonly<Record<string, Pick<ErrorParts, "code" | "kind" | "todo">>> = {
  EPERM: {
    code: "no-privilege",
    kind: "machine",
    todo: "This needs CAP_NET_ADMIN over both namespaces: run it as root.",
  },
  EOPNOTSUPP: {
    code: "kernel-lacks-feature",
    kind: "machine",
    todo: "This kernel lacks what was asked for: see the named attribute, and load its module or leave it out.",
  },
  ENODEV: {
    code: "interface-missing",
    kind: "broken",
    todo: "Another program removed the interface meanwhile: try again.",
  },
  ENETUNREACH: {
    code: "gateway-unreachable",
    kind: "usage",
    todo: "The gateway must be in the subnet of one of the pod's addresses, or the route must be marked as onlink.",
  },
  ENOSPC: {
    code: "bridge-full",
    kind: "machine",
    todo: "A bridge has at most 1024 ports: use a second network.",
  },
};

/** A kernel without a kind of link refuses it as a whole, without naming an attribute. */
function lackedLink(error: unknown): Pick<ErrorParts, "code" | "kind" | "todo"> | undefined {
  if (!(error instanceof NetlinkError) || error.code !== "EOPNOTSUPP" || error.attribute !== undefined)
    return;
  const [, kind] = /^creating (veth|bridge) /.exec(error.doing) ?? [];
  if (kind === undefined) return;
  const option = kind.toUpperCase();
  return {
    code: "kernel-lacks-feature",
    kind: "machine",
    todo: `This kernel has no ${kind}: load its module (modprobe ${kind}), or run a kernel with CONFIG_${option}.`,
  };
}

/**
 * Any failure of a step as an error that a person can act on.
 * @param left what could not be undone
 */
export function networkFailure(doing: string, error: unknown, left: readonly string[] = []): WayoutError {
  const remains = left.length === 0 ? undefined : `Left over, remove it by hand: ${left.join(", ")}`;
  if (error instanceof WayoutError) {
    if (remains === undefined) return error;
    const { code, kind, said, details, todo } = error;
    return new WayoutError(
      present({
        code,
        kind,
        doing: error.doing,
        said,
        todo: todo === undefined ? remains : `${todo} ${remains}`,
        details,
        cause: error,
      }),
    );
  }
  const hint = lackedLink(error) ?? (error instanceof SystemError ? HINTS[error.code] : undefined);
  const usage = error instanceof AddressError;
  const todo = [hint?.todo, remains].filter((text) => text !== undefined).join(" ");
  return new WayoutError(
    present({
      code: hint?.code ?? (usage ? "bad-address" : "network-failed"),
      kind: hint?.kind ?? (usage ? "usage" : "broken"),
      doing,
      said: messageOf(error),
      todo: todo === "" ? undefined : todo,
      details: error instanceof SystemError ? { errno: error.code } : undefined,
      cause: error,
    }),
  );
}
