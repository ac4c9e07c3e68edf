/** What the kernel does not tell: announcements that it dropped (ENOBUFS), and rules of iptables-legacy. */
import { expect } from "bun:test";
import { Agent, type AgentOptions } from "../../src/agent/agent.ts";
import type { NodeEvent } from "../../src/agent/node-events.ts";
import type { Round } from "../../src/agent/reconcile/reconciler.ts";
import type { NetworkNamespace } from "../../src/kernel/namespace.ts";
import type { NatBackendName } from "../../src/nat/backends/backends.ts";
import { Nftables } from "../../src/kernel/nftables/nftables.ts";
import { masqueradeIntent } from "../../src/nat/intent.ts";
import { afterThisTest } from "../support/teardown.ts";
import { until } from "../support/until.ts";
import { ask, testWith } from "../support/witness.ts";
import { freshNamespace } from "../support/world.ts";

/** Only what is under test can find the change: nobody looks by the clock. */
const NEVER_MS = 2 ** 31 - 1;
const LIMIT_MS = 50_000;

// Of a user namespace's root nft sends no transaction of that size.
testWith(["real-root", "nft"])(
  "announcements that the kernel dropped mean that everything is compared",
  async () => {
    const node = freshNamespace();
    const agent = watched(node, "nftables", { eventBufferBytes: 64 * 1024 });
    expect(agent.tables()).toContain("table inet wayout");
    await agent.hasHeardItself();
    const elements = Array.from({ length: 20_000 }, (_, at) => `10.${at >> 8}.${at & 255}.1`).join(",");
    agent.forget();
    // This process stands still meanwhile and reads nothing. Of the first transaction the room holds the beginning and not the
    // end, by which a change is known; of the second it holds nothing.
    ask(
      node,
      [
        "sh",
        "-c",
        `kill -STOP ${process.pid}; nft -f - && nft delete table inet wayout; said=$?; kill -CONT ${process.pid}; exit $said`,
      ],
      `add table ip burst\nadd set ip burst many { type ipv4_addr; }\nadd element ip burst many { ${elements} }\n`,
    );
    await agent.until(() => agent.repaired().includes("table inet wayout"));
    expect(agent.kinds()[0]).toBe("lost");
    expect(agent.tables()).toContain("table inet wayout");
  },
);

const legacy = testWith(["root", "iptables-legacy", "iptables-legacy-restore"]);

legacy("rules of iptables-legacy, of which nobody tells, are compared by themselves", async () => {
  const node = freshNamespace();
  // The kind of iptables that holds a node's rules is the one that is used.
  ask(node, ["iptables-legacy", "-t", "nat", "-A", "POSTROUTING", "-s", "192.0.2.0/24", "-j", "ACCEPT"]);
  const agent = watched(node, "iptables");
  const saved = (): string => ask(node, ["iptables-legacy-save", "-t", "nat"]);
  const wanted = saved();
  expect(wanted).toContain("-s 10.77.0.0/16");
  // The twin is of nf_tables, and its making is announced.
  await agent.hasHeardItself();
  for (const undo of [
    ["iptables-legacy", "-t", "nat", "-F"],
    ["iptables-legacy", "-t", "nat", "-D", "POSTROUTING", "1"],
  ]) {
    agent.forget();
    ask(node, undo);
    expect(saved()).not.toBe(wanted);
    await agent.until(() => agent.repaired().length > 0);
    expect(agent.kinds()).toEqual(["legacy"]);
    expect(ours(saved())).toEqual(ours(wanted));
  }
});

function ours(saved: string): string[] {
  return saved.split("\n").filter((line) => line.startsWith("-A") && /wayout/i.test(line));
}

/** An agent in this process that wants one network translated, and what it heard and did. */
function watched(
  node: NetworkNamespace,
  backend: NatBackendName,
  options: Pick<AgentOptions, "eventBufferBytes"> = {},
) {
  const intent = masqueradeIntent("policy", ["10.77.0.0/16"]);
  const heard: { readonly event: NodeEvent; readonly rounds: number }[] = [];
  // What is so already, the agent does not change, and nothing is announced of it.
  for (const setting of ["net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"])
    ask(node, ["sysctl", "-qw", setting]);
  const rounds: Round[] = [];
  const agent = new Agent(
    {
      node,
      log: { write: () => {} },
      policy: { wanted: () => ({ backend, intent, admit: [] }), trouble: () => undefined },
      lookEveryMs: NEVER_MS,
      ...options,
    },
    [
      {
        event: (event) => void heard.push({ event, rounds: rounds.length }),
        round: (round) => void rounds.push(round),
      },
    ],
  );
  afterThisTest(() => agent.stop());
  const becomes = (isSo: () => boolean): Promise<void> =>
    until(isSo, () => `heard ${heard.map(({ event }) => event.kind).join(", ")}`, LIMIT_MS);
  return {
    until: becomes,
    kinds: () => [...new Set(heard.map(({ event }) => event.kind))],
    /** Its own changes are announced, too, and compared with what is wanted. */
    hasHeardItself: async () => {
      using nftables = Nftables.open(node);
      const last = nftables.generation();
      await becomes(() => {
        const own = heard.find(({ event }) => event.kind === "rules" && event.generation === last);
        return own !== undefined && rounds.length > own.rounds;
      });
    },
    repaired: () => rounds.flatMap(({ repairs }) => repairs.map(({ object }) => object)),
    tables: () => ask(node, ["nft", "list", "tables"]),
    forget: () => {
      heard.length = rounds.length = 0;
    },
  };
}
