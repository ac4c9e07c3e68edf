/** Chapter 8: the same for IPv6. */
import { readSysctl } from "../../kernel/sysctl.ts";
import { captureEvidence, listening, visitSite, visitText } from "../instruments.ts";
import { PLAN } from "../plan.ts";
import type { Chapter } from "../story.ts";
import { forwardPackets, installMasquerade, natRuleEvidence } from "../forwarding-and-nat.ts";
import type { World } from "../world.ts";

const { node, pods, internet } = PLAN;
const CURL = `curl -6 http://${internet.site}`;

export const ipv6Chapter: Chapter<World> = {
  number: 8,
  title: "IPv6: the same way out for a ULA",
  intro:
    "Blue also has fd00:10::1, a unique local address (RFC 4193): as private as 10.0.0.1. Forwarding has a switch of its " +
    "own in IPv6, and a rule for IPv4 says nothing about IPv6.",
  act(world, report) {
    const alone = visitSite(world.blue, "shall fail", 6);
    report({
      where: pods.blue.namespace,
      command: CURL,
      expected: "fails: IPv6 has neither forwarding nor NAT yet",
      found: visitText(alone),
      ok: alone.failure !== undefined,
      evidence: [],
    });
    const forwarding = forwardPackets(world.node, 6);
    const applied = installMasquerade(world.node, PLAN.podNetworkIpv4, PLAN.podNetworkIpv6);
    report({
      where: node.namespace,
      command: `wayout forwarding enable --ipv6; echo 'sources: [${PLAN.podNetworkIpv4}, "${PLAN.podNetworkIpv6}"]' | wayout nat apply -f -`,
      expected: "net.ipv6.conf.all.forwarding goes from 0 to 1, and a rule for fd00:10::/64",
      found: `${forwarding}; ${applied}`,
      ok: readSysctl(world.node, "net.ipv6.conf.all.forwarding") === "1",
      evidence: [natRuleEvidence(world.node)],
    });
    const { result, seen } = listening(
      world.node,
      [node.bridge, node.uplink],
      { family: 6, protocol: "tcp" },
      () => visitSite(world.blue, "shall succeed", 6),
    );
    report({
      where: pods.blue.namespace,
      command: CURL,
      expected: `works; the server sees ${node.uplinkIpv6}`,
      found: visitText(result),
      ok: result.answer?.seen.address === node.uplinkIpv6,
      evidence: [
        captureEvidence(node.bridge, seen[node.bridge]?.slice(0, 1) ?? []),
        captureEvidence(node.uplink, seen[node.uplink]?.slice(0, 1) ?? []),
      ],
    });
  },
};
