import type { Command } from "commander";
import { LOOKER } from "../agent/look/name.ts";
import { PAINTER } from "../agent/picture/name.ts";
import { POD_FILE_READER } from "../pods/reader-process.ts";
import { LAB_PROCESSES } from "../lab/processes.ts";

/** A command as the overview lists it. Its file is loaded only when it runs. */
export interface CommandEntry {
  readonly name: string;
  /** One line for `wayout --help`. */
  readonly summary: string;
  readonly load: () => Promise<Command>;
  /** Not for people: processes that wayout starts of itself. */
  readonly hidden?: boolean;
}

/** Every command, in the order in which the overview shows them. */
export const COMMANDS: readonly CommandEntry[] = [
  {
    name: "lab",
    summary: "the way out, step by step, in throw-away namespaces; and a lab to practise in",
    load: async () => (await import("./lab.ts")).labCommand(),
  },
  {
    name: "attach",
    summary: "give a network namespace of this machine a way out",
    load: async () => (await import("./attach.ts")).attachCommand(),
  },
  {
    name: "detach",
    summary: "undo attach",
    load: async () => (await import("./detach.ts")).detachCommand(),
  },
  {
    name: "list",
    summary: "the namespaces with a way out on this machine, and whether it works",
    load: async () => (await import("./list.ts")).listCommand(),
  },
  {
    name: "forwarding",
    summary: "does this node route packets for others? show it, switch it on",
    load: async () => (await import("./forwarding.ts")).forwardingCommand(),
  },
  {
    name: "nat",
    summary: "every NAT rule and whose it is; apply and remove a policy",
    load: async () => (await import("./nat.ts")).natCommand(),
  },
  {
    name: "conntrack",
    summary: "the connection tracking table: list, watch, stats, flush",
    load: async () => (await import("./conntrack.ts")).conntrackCommand(),
  },
  {
    name: "trace",
    summary: "the nine steps of one real packet, or where and why it ends",
    load: async () => (await import("./trace.ts")).traceCommand(),
  },
  {
    name: "doctor",
    summary: "why can this pod not reach the outside? the checklist, with evidence and fix",
    load: async () => (await import("./doctor.ts")).doctorCommand(),
  },
  {
    name: "snapshot",
    summary: "everything the doctor needs of this node, as JSON to take elsewhere",
    load: async () => (await import("./snapshot.ts")).snapshotCommand(),
  },
  {
    name: "agent",
    summary: "keeps all of it in place for as long as it runs",
    load: async () => (await import("./agent.ts")).agentCommand(),
  },
  {
    name: "page",
    summary: "the agent's page in a browser: prints the address that lets you in",
    load: async () => (await import("./page.ts")).pageCommand(),
  },
  {
    name: "history",
    summary: "what changed on this node, when, and by which program: the agent's journal",
    load: async () => (await import("./history.ts")).historyCommand(),
  },
  {
    name: "cni",
    summary: "this program as a CNI plugin: install, uninstall, collect garbage",
    load: async () => (await import("./cni.ts")).cniCommand(),
  },
  {
    name: "kubectl",
    summary: "the same questions about pods of a cluster, asked through kubectl",
    load: async () => (await import("./kubectl/main.ts")).kubectlCommand(),
  },
  {
    name: POD_FILE_READER,
    summary: "started by wayout itself",
    load: async () => (await import("./read-pod-file.ts")).readPodFileCommand(),
    hidden: true,
  },
  {
    name: LOOKER,
    summary: "started by wayout itself",
    load: async () => (await import("./agent-look.ts")).agentLookCommand(),
    hidden: true,
  },
  {
    name: PAINTER,
    summary: "started by wayout itself",
    load: async () => (await import("./agent-picture.ts")).agentPictureCommand(),
    hidden: true,
  },
  ...Object.values(LAB_PROCESSES).map((name) => ({
    name,
    summary: "started by wayout itself",
    load: async () => (await import("./lab-processes.ts")).labProcess(name),
    hidden: true,
  })),
];
