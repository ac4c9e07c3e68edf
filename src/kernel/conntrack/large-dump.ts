import type { NetworkNamespace } from "../namespace.ts";
import { openReadAhead } from "../netlink/read-ahead.ts";
import { NETLINK_NETFILTER } from "../netlink/transport.ts";
import { Conntrack } from "./conntrack.ts";
import { present } from "../../present.ts";

/**
 * For one `scan`, `visit` or `entries` of a large table: a second thread reads while this one works. For nothing else,
 * and not again.
 */
export function openForDump(namespace?: NetworkNamespace): Conntrack {
  return new Conntrack(openReadAhead(NETLINK_NETFILTER, present({ namespace })));
}
