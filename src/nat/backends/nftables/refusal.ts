import { WayoutError } from "../../../error.ts";
import { SystemError } from "../../../linux/errno.ts";

/**
 * Runs what speaks with nf_tables; what the kernel refuses becomes an error that a person can act on.
 * @throws WayoutError `no-privilege`, `no-nftables`, `nat-refused`
 */
export function explained<T>(doing: string, inside: () => T): T {
  try {
    return inside();
  } catch (error) {
    if (!(error instanceof SystemError)) throw error;
    const common = { doing, said: error.message, cause: error };
    switch (error.code) {
      case "EPERM":
      case "EACCES":
        throw new WayoutError({
          ...common,
          code: "no-privilege",
          kind: "machine",
          todo: "This needs CAP_NET_ADMIN over the network namespace: run it as root.",
        });
      case "ENOENT":
      case "EOPNOTSUPP":
      case "EPROTONOSUPPORT":
      case "EAFNOSUPPORT":
      case "EINVAL":
        throw new WayoutError({
          ...common,
          code: "no-nftables",
          kind: "machine",
          todo: "This kernel seems to lack a part of nf_tables (nf_tables, nft_chain_nat, nft_masq, nft_nat): load the modules, or choose the backend iptables.",
        });
      default:
        throw new WayoutError({ ...common, code: "nat-refused", kind: "broken" });
    }
  }
}
