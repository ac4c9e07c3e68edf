/** What shall be true on this node: what the policy says, what `attach` and the plugin wrote down. */
import type { NetworkNamespace } from "../kernel/namespace.ts";
import type { NatBackendName } from "../nat/backends/backends.ts";
import type { NatIntent } from "../nat/intent.ts";
import { Gaps } from "../snapshot/namespace.ts";
import { readNatRecords } from "../snapshot/nat-record.ts";

/** One owner's wish, and who carries it out. */
export interface DesiredNat {
  readonly backend: NatBackendName;
  readonly intent: NatIntent;
}

export interface Desired {
  readonly nat: readonly DesiredNat[];
  /** Families of which the node must forward packets. */
  readonly forwarding: { readonly ipv4: boolean; readonly ipv6: boolean };
}

/** @param policy what the agent's own configuration wants; undefined without one */
export function desiredOf(node: NetworkNamespace, policy: DesiredNat | undefined): Desired {
  const recorded = readNatRecords(node, new Gaps()).map(({ backend, intent }) => ({ backend, intent }));
  const nat = [...recorded, ...(policy === undefined ? [] : [policy])];
  const has = (family: 4 | 6): boolean =>
    nat.some(({ intent }) => intent.sources.some(({ cidr }) => cidr.includes(":") === (family === 6)));
  return { nat, forwarding: { ipv4: has(4), ipv6: has(6) } };
}
