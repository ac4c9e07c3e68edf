/** Chapters 4 and 5: MASQUERADE, and the memory that makes it work both ways. */
import { IP_PROTOCOL } from "../../linux/ip-protocol.ts";
import { closeSync } from "node:fs";
import { Conntrack } from "../../kernel/conntrack/conntrack.ts";
import type { ConntrackEntry } from "../../linux/conntrack/entry.ts";
import { flowState, flowTranslationText } from "../../flows/flow.ts";
import { openConnection } from "../connection.ts";
import { captureEvidence, listening, visitSite, visitText } from "../instruments.ts";
import { PLAN } from "../plan.ts";
import type { Chapter } from "../story.ts";
import { installMasquerade, natRuleEvidence } from "../forwarding-and-nat.ts";
import type { World } from "../world.ts";

const { node, pods, internet } = PLAN;

export const masqueradeChapter: Chapter<World> = {
  number: 4,
  needed: true,
  title: "MASQUERADE: out under the node's address",
  intro:
    "One rule in POSTROUTING rewrites the source of what leaves to whatever address the out-interface has. Answers are " +
    "for the node now, and it knows whose they are. (By hand: iptables -t nat -A POSTROUTING -s 10.0.0.0/24 -o eth0 " +
    "-j MASQUERADE)",
  act(world, report) {
    const applied = installMasquerade(world.node, PLAN.podNetworkIpv4);
    report({
      where: node.namespace,
      command: `echo 'sources: [${PLAN.podNetworkIpv4}]' | wayout nat apply -f -`,
      expected: `a rule that translates ${PLAN.podNetworkIpv4}`,
      found: applied,
      ok: natRuleEvidence(world.node).lines.length > 0,
      evidence: [natRuleEvidence(world.node)],
    });
    const { result, seen } = listening(world.node, [node.bridge, node.uplink], { protocol: "tcp" }, () =>
      visitSite(world.blue, "shall succeed"),
    );
    report({
      where: pods.blue.namespace,
      command: `curl http://${internet.site}`,
      expected: `works; the server sees ${node.uplinkIpv4}`,
      found: visitText(result),
      ok: result.answer?.seen.address === node.uplinkIpv4,
      evidence: [
        captureEvidence(node.bridge, seen[node.bridge]?.slice(0, 1) ?? []),
        captureEvidence(node.uplink, seen[node.uplink]?.slice(0, 1) ?? []),
        natRuleEvidence(world.node),
      ],
    });
  },
};

export const conntrackChapter: Chapter<World> = {
  number: 5,
  title: "conntrack: how answers find their way back",
  intro:
    "For every connection the kernel keeps an entry with both views of it: how blue sees it, and how the outside does. " +
    "An answer is looked up there and rewritten back. Without it, NAT would be one-way.",
  act(world, report) {
    const connection = openConnection(world.blue, internet.httpIpv4, 80);
    try {
      using conntrack = Conntrack.open(world.node);
      const all = conntrack.entries();
      const established = all.filter((entry) => entry.state === "ESTABLISHED");
      const ours = all.find((entry) => isFrom(entry, pods.blue.ipv4, connection.localPort));
      report({
        where: node.namespace,
        command: "wayout conntrack list",
        expected: `${pods.blue.ipv4}:${connection.localPort} ↔ ${node.uplinkIpv4}:PORT`,
        found:
          ours === undefined
            ? "the connection is not in the table"
            : `${pods.blue.ipv4}:${ours.original.sourcePort} ↔ ${ours.reply.destination}:${ours.reply.destinationPort}`,
        ok: ours?.reply.destination === node.uplinkIpv4,
        evidence: [{ source: "conntrack table", lines: all.slice(0, 4).map(entryText) }],
      });
      report({
        where: node.namespace,
        command: "wayout conntrack list --state ESTABLISHED",
        expected: "only the connection that is open now",
        found: `${established.length} of ${all.length}`,
        ok: established.length === 1 && established[0]?.id === ours?.id,
        evidence: [{ source: "conntrack table", lines: established.map(entryText) }],
      });
    } finally {
      closeSync(connection.fd);
    }
  },
};

function isFrom(entry: ConntrackEntry, address: string, port: number): boolean {
  return (
    entry.protocol === IP_PROTOCOL.tcp &&
    entry.original.source === address &&
    entry.original.sourcePort === port
  );
}

function entryText(entry: ConntrackEntry): string {
  return `${entry.protocolName}  ${flowTranslationText(entry)}  ${flowState(entry)}`;
}
