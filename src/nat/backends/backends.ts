/**
 * The ways to carry out an intent: one folder and one row each. Nobody else knows a backend by its name. A row is read
 * without the backend's code, which is loaded where it is used: a plugin call must not pay for the others.
 */
import { codeOf } from "../../error.ts";
import type { BackendOptions, NatBackend, RuleMemory, RuleMark } from "../backend.ts";
import { HOOK_PRIORITY } from "../../linux/netfilter.ts";
import type { TableRef } from "../../linux/nftables/ruleset.ts";
import type { NetworkNamespace } from "../../kernel/namespace.ts";
import { DROPS as EBPF_DROPS, GUARD } from "./ebpf/names.ts";
import { DROPS as IPTABLES_DROPS } from "./iptables/names.ts";
import { CLAIMS, DROP_CHAIN, NAT_PRIORITY, TABLE, TWIN } from "./nftables/names.ts";
import { nftablesMemory } from "./nftables/memory.ts";

export interface BackendRow {
  /** Its code: what opens it. */
  readonly load: () => Promise<(options: BackendOptions) => NatBackend>;
  /** False for the one that leaves NAT to others. */
  readonly translates: boolean;
  /** Priority at which it translates at postrouting. Absent: nowhere. */
  readonly postrouting?: number;
  /** Of the errors that it throws, the one by which it says that this machine cannot have it. */
  readonly lack?: string;
  /** How rules that were found in order are known to be so still. Absent: they are read each time. */
  readonly memory?: RuleMemory;
  /** Whether it may hold rules of ours here, where that can be told for less than by asking it. Absent: ask it. */
  readonly mayHold?: () => Promise<(namespace: NetworkNamespace) => boolean>;
  /**
   * Asks this machine for what the backend stands on, before anything of it is needed, and throws its `lack` or
   * `no-privilege`. Absent: applying is the only way to know.
   */
  readonly require?: () => Promise<(namespace: NetworkNamespace, doing: string) => unknown>;
  /** The one table of nf_tables that holds all of its rules, and in it the set whose comments are claims (nat/claim.ts). */
  readonly table?: TableRef & { readonly claims: string };
  /** How its rules are recognised among all of a node's. */
  readonly marks: readonly RuleMark[];
}

const DROPS_DETAIL = "drops what an owner does not let out";

const ROWS = {
  nftables: {
    load: async () => {
      const { NftablesNat } = await import("./nftables/nftables.ts");
      return (options) => new NftablesNat(options);
    },
    translates: true,
    postrouting: NAT_PRIORITY,
    lack: "no-nftables",
    memory: nftablesMemory,
    table: { ...TABLE, claims: CLAIMS.set },
    marks: [
      {
        table: `${TWIN.family} ${TWIN.table}`,
        detail: "the agent's second table, which a flush does not delete",
      },
      { table: `${TABLE.family} ${TABLE.table}` },
    ],
  },
  iptables: {
    load: async () => {
      const { IptablesNat } = await import("./iptables/iptables.ts");
      return (options) => new IptablesNat(options);
    },
    translates: true,
    postrouting: HOOK_PRIORITY.srcnat,
    lack: "no-iptables",
    mayHold: async () => (await import("./iptables/traces.ts")).holdsRules,
    marks: [
      { chainPrefix: "WAYOUT-" },
      { table: `${IPTABLES_DROPS.family} ${IPTABLES_DROPS.table}`, detail: DROPS_DETAIL },
    ],
  },
  ebpf: {
    load: async () => {
      const { EbpfNat } = await import("./ebpf/ebpf.ts");
      return (options) => new EbpfNat(options);
    },
    translates: true,
    lack: "no-ebpf",
    mayHold: async () => (await import("./ebpf/bpf-directory.ts")).holdsPrograms,
    require: async () => (await import("./ebpf/required.ts")).requireEbpf,
    marks: [
      {
        table: `${GUARD.family} ${GUARD.table}`,
        detail: "lets no pod's packet leave by a link without our eBPF programs",
      },
      { table: `${EBPF_DROPS.family} ${EBPF_DROPS.table}`, detail: DROPS_DETAIL },
    ],
  },
  none: {
    load: async () => {
      const { NoNat } = await import("./none/none.ts");
      return () => new NoNat();
    },
    translates: false,
    marks: [],
  },
} satisfies Readonly<Record<string, BackendRow>>;

export type NatBackendName = keyof typeof ROWS;
export const BACKENDS: Readonly<Record<NatBackendName, BackendRow>> = ROWS;
export const NAT_BACKENDS = Object.keys(ROWS) as [NatBackendName, ...NatBackendName[]];
/** What is taken where nobody names one. */
export const DEFAULT_BACKEND: NatBackendName = NAT_BACKENDS[0];
/** Those that a CNI network may name. */
export function translating(): NatBackendName[] {
  return NAT_BACKENDS.filter((name) => ROWS[name].translates);
}

/** Whether a chain is where a backend of ours ends what an owner does not let out. */
export function isDropChain({ family, table }: TableRef, chain: string): boolean {
  const name = `${family} ${table}`;
  return (
    chain === DROP_CHAIN &&
    NAT_BACKENDS.some((one) => BACKENDS[one].marks.some((mark) => mark.table === name))
  );
}

export function isBackend(name: string): name is NatBackendName {
  return Object.hasOwn(ROWS, name);
}

/** Whether an error says that this machine cannot have a backend: then there are no rules of it either. */
export function isLack(error: unknown): boolean {
  const code = codeOf(error);
  return code !== undefined && NAT_BACKENDS.some((name) => BACKENDS[name].lack === code);
}

/** @throws WayoutError with the code of its `lack` */
export async function openBackend(name: NatBackendName, namespace: NetworkNamespace): Promise<NatBackend> {
  return (await BACKENDS[name].load())({ namespace });
}
