import { WayoutError } from "../../../error.ts";
import { VerifierError } from "../../../kernel/bpf/calls.ts";
import { readText } from "../../../kernel/file.ts";
import { SystemError } from "../../../linux/errno.ts";

/** Programs are attached as link objects of traffic control (tcx). */
const OLDEST_KERNEL = "6.6";
const INSTEAD = "choose the backend nftables";

/**
 * Runs what speaks with the kernel's BPF; what it refuses becomes an error that a person can act on.
 * @throws WayoutError `no-privilege`, `no-ebpf`, `nat-refused`
 */
export function explained<T>(doing: string, inside: () => T): T {
  try {
    return inside();
  } catch (error) {
    if (error instanceof VerifierError) throw lack(doing, error);
    if (!(error instanceof SystemError)) throw error;
    const common = { doing, said: error.message, cause: error };
    switch (error.code) {
      case "EPERM":
      case "EACCES":
        throw new WayoutError({
          ...common,
          code: "no-privilege",
          kind: "machine",
          todo: `Loading eBPF programs needs CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON on the machine itself: run it as root, or ${INSTEAD}, which needs CAP_NET_ADMIN over the network namespace alone.`,
        });
      case "EINVAL":
      case "ENOSYS":
      case "ENODEV":
      case "EOPNOTSUPP":
        throw lack(doing, error);
      case "ENOMEM":
        throw new WayoutError({
          ...common,
          code: "nat-refused",
          kind: "broken",
          todo: `The table of flows takes memory of the kernel's: free some, or ${INSTEAD}.`,
        });
      default:
        throw new WayoutError({ ...common, code: "nat-refused", kind: "broken" });
    }
  }
}

function lack(doing: string, error: Error): WayoutError {
  const release = readText("/proc/sys/kernel/osrelease").trim();
  return new WayoutError({
    code: "no-ebpf",
    kind: "machine",
    doing,
    said: error.message,
    todo: `This is Linux ${release}; the backend ebpf needs ${OLDEST_KERNEL} or newer with BPF switched on: ${INSTEAD}.`,
    cause: error,
  });
}
