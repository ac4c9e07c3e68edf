/** The steps of the checklist, and the shape of an entry of the catalogue. Pure. */

/** The steps of the checklist, as a person would go through them. */
export const STEPS = {
  "pod-link": "the pod's interface",
  "pod-address": "the pod's address",
  "pod-route": "the pod's route",
  gateway: "the pod's gateway",
  bridge: "the veth and the bridge",
  forwarding: "forwarding on the node",
  "node-route": "the node's route",
  "reverse-path": "the reverse path",
  filter: "filters, there and back",
  nat: "translation of the source",
  conntrack: "connection tracking",
  mtu: "packet sizes",
  dns: "name resolution",
  housekeeping: "agents and settings",
} as const;

export type StepName = keyof typeof STEPS;

/**
 * What must have been read (Missing.what) for a step to be judged at all: nothing that was not read is called healthy.
 */
export const READ_FOR: Readonly<Record<StepName, readonly string[]>> = {
  "pod-link": ["namespace", "links"],
  "pod-address": ["namespace", "addresses"],
  "pod-route": ["namespace", "routes", "rules"],
  gateway: ["namespace", "addresses", "neighbours"],
  bridge: ["links"],
  forwarding: ["sysctl net.ipv4.ip_forward", "sysctl net.ipv6.conf.all.forwarding"],
  "node-route": ["routes", "rules"],
  "reverse-path": ["routes", "rules"],
  filter: ["ruleset", "ipset", "iptables-legacy", "ipsec"],
  nat: ["ruleset", "iptables-legacy"],
  conntrack: ["conntrack", "tracked flows"],
  mtu: ["links", "routes"],
  dns: ["resolv.conf"],
  housekeeping: ["ruleset"],
};

/** Steps of the packet's own way: when one of them was not read, nobody can say that the packet gets through. */
export const ON_THE_WAY: ReadonlySet<StepName> = new Set<StepName>([
  "pod-link",
  "pod-address",
  "pod-route",
  "gateway",
  "bridge",
  "forwarding",
  "node-route",
  "reverse-path",
  "filter",
  "nat",
]);

/** `error`: broken now. `warning`: will bite, or bites sometimes. `note`: worth knowing. */
export type Severity = "error" | "warning" | "note";

/** One kind of finding. */
export interface CatalogueEntry {
  readonly step: StepName;
  /** What is wrong, in one line, without names. */
  readonly title: string;
  readonly severity: Severity;
  /** Whether the pod's traffic cannot pass while it stands. */
  readonly stopsTraffic: boolean;
  /** Causes that make this one appear: it is hidden while one of them stands. */
  readonly dependsOn: readonly string[];
  /** Why it happens and what it does, for docs/findings.md. */
  readonly about: string;
}
