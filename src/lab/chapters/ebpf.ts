/** Chapter 10: the same by eBPF programs. */
import { flowState, flowTranslationText } from "../../flows/flow.ts";
import { connectionsAtLinks } from "../../nat/backends/at-links.ts";
import { readNatListing } from "../../rules/read-listing.ts";
import { installPrograms, removePrograms } from "../forwarding-and-nat.ts";
import { captureEvidence, listening, visitSite, visitText } from "../instruments.ts";
import { PLAN } from "../plan.ts";
import type { Chapter } from "../story.ts";
import type { World } from "../world.ts";

const { node, pods, internet } = PLAN;
const APPLY = `echo 'sources: [${PLAN.podNetworkIpv4}]' | wayout nat apply --backend ebpf -f -`;

export const programsChapter: Chapter<World> = {
  number: 10,
  title: "eBPF: the same without a rule",
  intro:
    "A program of ours at the uplink rewrites what leaves, and another what arrives. No rule translates, and the kernel's " +
    "table of connections is not needed: the programs keep one of their own.",
  act(world, report) {
    const lack = installPrograms(world.node, PLAN.podNetworkIpv4);
    if (lack !== undefined) {
      report({
        where: node.namespace,
        command: APPLY,
        expected: "programs at the uplink, where this user may load some",
        found: `skipped: ${lack}`,
        ok: true,
        evidence: [],
      });
      return;
    }
    try {
      tell(world, report);
    } finally {
      removePrograms(world.node);
    }
  },
};

function tell(world: World, report: Parameters<Chapter<World>["act"]>[1]): void {
  const rules = readNatListing(world.node).chains.flatMap(({ rules: of }) => of);
  report({
    where: node.namespace,
    command: `${APPLY}; wayout nat show`,
    expected: "the nat table is empty",
    found: rules.length === 0 ? "no rule translates" : `${rules.length} rules translate`,
    ok: rules.length === 0,
    evidence: [],
  });
  const { result, seen } = listening(world.node, [node.bridge, node.uplink], { protocol: "tcp" }, () =>
    visitSite(world.blue, "shall succeed"),
  );
  report({
    where: pods.blue.namespace,
    command: `curl http://${internet.site}`,
    expected: `works all the same; the server sees ${node.uplinkIpv4}`,
    found: visitText(result),
    ok: result.answer?.seen.address === node.uplinkIpv4,
    evidence: [
      captureEvidence(node.bridge, seen[node.bridge]?.slice(0, 1) ?? []),
      captureEvidence(node.uplink, seen[node.uplink]?.slice(0, 1) ?? []),
    ],
  });
  const entries = connectionsAtLinks(world.node).filter(
    ({ protocolName, original }) => protocolName === "tcp" && original.source === pods.blue.ipv4,
  );
  report({
    where: node.namespace,
    command: "wayout conntrack list",
    expected: `here is the entry: ${pods.blue.ipv4}:PORT ↔ ${node.uplinkIpv4}:PORT, in the programs' own table`,
    found: entries.length === 0 ? "the connection is not there" : flowTranslationText(entries[0]!),
    ok: entries.some(({ reply }) => reply.destination === node.uplinkIpv4),
    evidence: [
      {
        source: "table of the programs",
        lines: entries.map((one) => `${one.protocolName}  ${flowTranslationText(one)}  ${flowState(one)}`),
      },
    ],
  });
}
