/** What can be wrong with: conntrack. */
import type { CatalogueEntry } from "../steps.ts";

export const CONNTRACK = {
  "conntrack-full": {
    step: "conntrack",
    title: "the connection tracking table is full",
    severity: "error",
    stopsTraffic: true,
    dependsOn: [],
    about: "New connections are dropped (“nf_conntrack: table full, dropping packet”).",
  },
  "conntrack-nearly-full": {
    step: "conntrack",
    title: "the connection tracking table is nearly full",
    severity: "warning",
    stopsTraffic: false,
    dependsOn: ["conntrack-full"],
    about: "Above 80 % of nf_conntrack_max.",
  },
  "conntrack-missing": {
    step: "conntrack",
    title: "this kernel tracks no connections",
    severity: "error",
    stopsTraffic: true,
    dependsOn: [],
    about:
      "Translation needs conntrack. The modules are missing, or the machine (gVisor, a minimal kernel) refuses them.",
  },
  "flow-address-lost": {
    step: "conntrack",
    title: "a flow of the pod is still translated to an address that the node no longer has",
    severity: "error",
    stopsTraffic: true,
    dependsOn: ["nat-foreign-address"],
    about:
      "The address of a flow is decided with its first packet. SNAT keeps it when the node's address changes (MASQUERADE's flows are forgotten then), and a UDP socket that goes on sending keeps the flow alive.",
  },
  "flow-outdated": {
    step: "conntrack",
    title: "a flow of the pod is tracked since before the rules, or since an earlier pod with its address",
    severity: "error",
    stopsTraffic: true,
    dependsOn: ["flow-address-lost"],
    about:
      "What the rules say now does not reach a flow that is tracked already: it stays untranslated, or goes on to a backend that is gone. It happens with UDP: its flows live for as long as packets are sent.",
  },
  "conntrack-stale-translation": {
    step: "conntrack",
    title: "other connections are still translated to an address that the node no longer has",
    severity: "warning",
    stopsTraffic: false,
    dependsOn: ["flow-address-lost", "nat-foreign-address"],
    about: "SNAT keeps a flow's address for as long as the flow lives; their answers go nowhere.",
  },
  "conntrack-insert-failed": {
    step: "conntrack",
    title: "connections fail to be recorded while the doctor looks",
    severity: "warning",
    stopsTraffic: false,
    dependsOn: [],
    about:
      "Two packets raced for one entry: A and AAAA queries from one socket, or two flows for one port. Seen as DNS that takes five seconds.",
  },
  "conntrack-dropping": {
    step: "conntrack",
    title: "conntrack drops packets while the doctor looks",
    severity: "warning",
    stopsTraffic: false,
    dependsOn: ["conntrack-full"],
    about: "Entries could not be made, or existing connections were removed early to make room (early_drop).",
  },
  "ports-exhausted": {
    step: "conntrack",
    title: "the source ports toward one destination are used up",
    severity: "error",
    stopsTraffic: true,
    dependsOn: [],
    about: "Each translated flow to one destination and port needs a source port of its own.",
  },
  "ports-nearly-exhausted": {
    step: "conntrack",
    title: "the source ports toward one destination are nearly used up",
    severity: "warning",
    stopsTraffic: false,
    dependsOn: ["ports-exhausted"],
    about: "Above 80 % of the range.",
  },
} as const satisfies Readonly<Record<string, CatalogueEntry>>;
