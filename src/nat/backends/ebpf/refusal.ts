import { VerifierError } from "../../../kernel/bpf/calls.ts";
import { lack, orRefused, type RefusalWords } from "../refusal.ts";

/** Programs are attached as link objects of traffic control (tcx). */
const OLDEST_KERNEL = "6.6";
const INSTEAD = "choose the backend nftables";

const WORDS: RefusalWords = {
  lack: "no-ebpf",
  lackSaid: ["ENOSYS", "ENODEV"],
  lackTodo: (release) =>
    `This is Linux ${release}; the backend ebpf needs ${OLDEST_KERNEL} or newer with BPF switched on: ${INSTEAD}.`,
  privilegeTodo: `Loading eBPF programs needs CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON on the machine itself: run it as root, or ${INSTEAD}, which needs CAP_NET_ADMIN over the network namespace alone.`,
  memoryTodo: `The table of flows takes memory of the kernel's: free some, or ${INSTEAD}.`,
};

/**
 * Runs what speaks with the kernel's BPF; what it refuses becomes an error that a person can act on.
 * @throws WayoutError `no-privilege`, `no-ebpf`, `nat-refused`
 */
export function explained<T>(doing: string, inside: () => T): T {
  try {
    return orRefused(WORDS, doing, inside);
  } catch (error) {
    throw error instanceof VerifierError ? lack(WORDS, doing, error) : error;
  }
}
