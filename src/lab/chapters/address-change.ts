/** Chapters 6 and 7: what MASQUERADE and SNAT do when the node's address changes. */
import { closeSync } from "node:fs";
import { Conntrack } from "../../kernel/conntrack/conntrack.ts";
import { Rtnetlink } from "../../kernel/route/rtnetlink.ts";
import { openConnection } from "../connection.ts";
import { captureEvidence, listening, visitSite, visitText } from "../instruments.ts";
import { PLAN } from "../plan.ts";
import type { Chapter } from "../story.ts";
import { installMasquerade, natRuleEvidence, installSnat } from "../forwarding-and-nat.ts";
import { giveUplinkAddress, takeUplinkAddress, type World } from "../world.ts";

const { node, pods, internet, otherUplinkIpv4 } = PLAN;
const CURL = `curl http://${internet.site}`;

export const masqueradeFollows: Chapter<World> = {
  number: 6,
  needed: true,
  title: "eth0 gets another address: MASQUERADE follows",
  intro:
    "DHCP gives the node another address. MASQUERADE asks the interface anew for each connection, and the kernel " +
    "forgets the connections that used the old address.",
  act(world, report) {
    const connection = openConnection(world.blue, internet.httpIpv4, 80);
    try {
      const before = countTranslatedTo(world, node.uplinkIpv4);
      changeAddress(world, node.uplinkIpv4, otherUplinkIpv4);
      const after = waitForNone(() => countTranslatedTo(world, node.uplinkIpv4));
      report({
        where: node.namespace,
        command: `ip addr del ${node.uplinkIpv4}/24 dev eth0; ip addr add ${otherUplinkIpv4}/24 dev eth0`,
        expected: `connections that were translated to ${node.uplinkIpv4} are forgotten`,
        found: `${before} before, ${after} after`,
        ok: before > 0 && after === 0,
        evidence: [uplinkEvidence(world)],
      });
    } finally {
      closeSync(connection.fd);
    }
    const visit = visitSite(world.blue, "shall succeed");
    report({
      where: pods.blue.namespace,
      command: CURL,
      expected: `works at once; the server sees ${otherUplinkIpv4}`,
      found: visitText(visit),
      ok: visit.answer?.seen.address === otherUplinkIpv4,
      evidence: [],
    });
  },
};

export const snatStays: Chapter<World> = {
  number: 7,
  needed: true,
  title: "SNAT: a fixed address, and its drawback",
  intro:
    "SNAT writes the address that the rule names. It needs no look-up and stays the same for firewalls outside; but it " +
    "stays the same, too, when the node has lost that address.",
  act(world, report) {
    const applied = installSnat(world.node, PLAN.podNetworkIpv4, otherUplinkIpv4);
    const fixed = visitSite(world.blue, "shall succeed");
    report({
      where: pods.blue.namespace,
      command: CURL,
      expected: `with snat to ${otherUplinkIpv4}: works; the server sees ${otherUplinkIpv4}`,
      found: `${applied}; ${visitText(fixed)}`,
      ok: fixed.answer?.seen.address === otherUplinkIpv4,
      evidence: [natRuleEvidence(world.node)],
    });
    changeAddress(world, otherUplinkIpv4, node.uplinkIpv4);
    forgetNeighbour(world, otherUplinkIpv4);
    const { result: lost, seen } = listening(
      world.internet,
      [internet.link],
      [{ source: otherUplinkIpv4 }, { protocol: "arp", host: otherUplinkIpv4 }],
      () => visitSite(world.blue, "shall fail"),
    );
    const packets = seen[internet.link] ?? [];
    report({
      where: pods.blue.namespace,
      command: CURL,
      expected: `after eth0 went back to ${node.uplinkIpv4}: fails; no host takes answers to ${otherUplinkIpv4}`,
      found: visitText(lost),
      ok: lost.failure !== undefined && packets.some((seen) => seen.packet.ip?.source === otherUplinkIpv4),
      evidence: [
        captureEvidence(
          "the router, out",
          packets.filter((seen) => seen.packet.ip !== undefined),
          1,
        ),
        captureEvidence(
          "the router, its question",
          packets.filter((seen) => seen.packet.arp !== undefined),
          1,
        ),
      ],
    });
    const back = installMasquerade(world.node, PLAN.podNetworkIpv4);
    const mended = visitSite(world.blue, "shall succeed");
    report({
      where: pods.blue.namespace,
      command: CURL,
      expected: `with MASQUERADE again: works; the server sees ${node.uplinkIpv4}`,
      found: `${back}; ${visitText(mended)}`,
      ok: mended.answer?.seen.address === node.uplinkIpv4,
      evidence: [],
    });
  },
};

function changeAddress(world: World, from: string, to: string): void {
  using route = Rtnetlink.open(world.node);
  takeUplinkAddress(route, from);
  giveUplinkAddress(route, to);
}

/** What happens by itself within a minute: the router's ARP entry for an address ends. */
function forgetNeighbour(world: World, address: string): void {
  using route = Rtnetlink.open(world.internet);
  route.deleteNeighbour({ interface: route.link(internet.link)!.index, address });
}

function countTranslatedTo(world: World, address: string): number {
  using conntrack = Conntrack.open(world.node);
  return conntrack
    .entries()
    .filter((entry) => entry.original.source === pods.blue.ipv4 && entry.reply.destination === address)
    .length;
}

/** The kernel forgets in the background (nf_nat_masquerade.c, iterate_cleanup_work); within moments it is done. */
function waitForNone(count: () => number): number {
  const TIMEOUT_MS = 15_000;
  const deadline = performance.now() + TIMEOUT_MS;
  let left = count();
  while (left > 0 && performance.now() < deadline) {
    Bun.sleepSync(2);
    left = count();
  }
  return left;
}

function uplinkEvidence(world: World): { source: string; lines: string[] } {
  using route = Rtnetlink.open(world.node);
  const addresses = route.addresses({ family: 4, interface: route.link(node.uplink)!.index });
  return {
    source: "ip addr show dev eth0",
    lines: addresses.map((address) => `${node.uplink} has ${address.address}/${address.prefixLength}`),
  };
}
