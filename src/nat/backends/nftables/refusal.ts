import { orRefused, type RefusalWords } from "../refusal.ts";

/** Sets of our table count what each element does. Intervals of two addresses are a little older (5.6). */
const OLDEST_KERNEL = "5.7";

/** What to do where the kernel lacks something that nf_tables should have. @param release as uname(2) has it */
export function lackTodo(release: string): string {
  const [major = 0, minor = 0] = release.split(".").map((part) => Number.parseInt(part, 10));
  const [oldestMajor = 0, oldestMinor = 0] = OLDEST_KERNEL.split(".").map(Number);
  if (major < oldestMajor || (major === oldestMajor && minor < oldestMinor)) {
    return `This is Linux ${release}, and the backend nftables needs ${OLDEST_KERNEL}: choose the backend iptables.`;
  }
  return "This kernel seems to lack a part of nf_tables (nf_tables, nft_chain_nat, nft_masq, nft_nat): load the modules, or choose the backend iptables.";
}

const WORDS: RefusalWords = {
  lack: "no-nftables",
  // Tables and expressions of modules that are not there: ENOENT; the family of netlink itself: the others.
  lackSaid: ["ENOENT", "EPROTONOSUPPORT", "EAFNOSUPPORT"],
  lackTodo,
  privilegeTodo: "This needs CAP_NET_ADMIN over the network namespace: run it as root.",
};

/**
 * Runs what speaks with nf_tables; what the kernel refuses becomes an error that a person can act on.
 * @throws WayoutError `no-privilege`, `no-nftables`, `nat-refused`
 */
export function explained<T>(doing: string, inside: () => T): T {
  return orRefused(WORDS, doing, inside);
}
