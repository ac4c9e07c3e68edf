/** What a node has of its own, as far as advice on a policy depends on it. */
import { Rtnetlink } from "../kernel/route/rtnetlink.ts";
import type { NetworkNamespace } from "../kernel/namespace.ts";

/** Every address of the node, without prefix; and every interface. */
export function nodeAddresses(namespace: NetworkNamespace) {
  using rtnetlink = Rtnetlink.open(namespace);
  return {
    addresses: new Set(rtnetlink.addresses().map(({ address }) => address)),
    interfaces: new Set(rtnetlink.links({ statistics: false }).map((link) => link.name)),
  };
}
