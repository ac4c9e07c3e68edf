/** What shall be true on this node: what the policy says, what `attach` and the plugin wrote down. */
import { familyOf } from "../address/ip.ts";
import { admissionOf, type AdmissionWish } from "../admission/admission.ts";
import type { AdmissionDoor } from "../admission/doors.ts";
import type { NetworkNamespace } from "../kernel/namespace.ts";
import type { NatBackendName } from "../nat/backends/backends.ts";
import type { FastPathWish } from "../policy/policy.ts";
import { podSources, type NatIntent } from "../nat/intent.ts";
import { Gaps } from "../snapshot/namespace.ts";
import { natRecordsVersion, readNatRecords } from "../snapshot/nat-record.ts";
import type { RecordedNat } from "../snapshot/snapshot.ts";

/** One owner's wish, and who carries it out. */
export interface DesiredNat {
  readonly backend: NatBackendName;
  readonly intent: NatIntent;
  /** Set when the wish itself has changed: only what differs from what was in force before is a repair. */
  readonly tellsChanges?: true;
}

/** What a policy wants. */
export interface PolicyWish extends DesiredNat {
  readonly admit: readonly AdmissionDoor[];
  /** Whether the eBPF programs may take their short way while nobody is left out by it. */
  readonly fastPath?: FastPathWish;
}

export interface Desired {
  readonly nat: readonly DesiredNat[];
  /** Families of which the node must forward packets. */
  readonly forwarding: { readonly ipv4: boolean; readonly ipv6: boolean };
  /** Who is let through which other product's filter. */
  readonly admission: AdmissionWish;
}

/** What shall be true, made again only when what it is made of is other than before. */
export class DesiredSource {
  #last:
    | { readonly version: string; readonly given: readonly unknown[]; readonly desired: Desired }
    | undefined;

  /**
   * @param policy what the agent's own configuration wants; undefined without one
   * @param cluster what follows from the cluster's nodes; undefined outside of one
   */
  constructor(
    private readonly node: NetworkNamespace,
    private readonly policy: () => PolicyWish | undefined,
    private readonly cluster: (policy: PolicyWish | undefined) => DesiredNat | undefined = () => undefined,
  ) {}

  readonly read = (): Desired => {
    const policy = this.policy();
    const cluster = this.cluster(policy);
    const given = [policy, cluster?.intent, cluster?.backend];
    // Asked for before it is read: what changes in between is read again.
    const version = natRecordsVersion(this.node);
    const last = this.#last;
    if (last?.version === version && last.given.every((one, index) => one === given[index]))
      return last.desired;
    const gaps = new Gaps();
    const desired = desiredOf(readNatRecords(this.node, gaps), policy, cluster);
    this.#last = gaps.missing.length === 0 ? { version, given, desired } : undefined;
    return desired;
  };
}

function desiredOf(
  records: readonly RecordedNat[],
  policy: PolicyWish | undefined,
  cluster: DesiredNat | undefined,
): Desired {
  const recorded = records.map(({ backend, intent }) => ({ backend, intent }));
  const nat: DesiredNat[] = [
    ...recorded,
    ...(policy === undefined
      ? []
      : [{ backend: policy.backend, intent: policy.intent, tellsChanges: true } as const]),
    ...(cluster === undefined ? [] : [cluster]),
  ];
  const has = (family: 4 | 6): boolean =>
    nat.some(({ intent }) => podSources(intent).some(({ cidr }) => familyOf(cidr) === family));
  const intents = nat.map(({ intent }) => intent);
  return {
    nat,
    forwarding: { ipv4: has(4), ipv6: has(6) },
    admission: admissionOf(policy?.admit ?? [], intents),
  };
}
