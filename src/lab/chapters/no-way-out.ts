/** Chapters 1 to 3: neighbours, no forwarding, no way back. */
import { echo } from "../../kernel/echo.ts";
import { counterGrowth, networkCounters } from "../../kernel/procfs.ts";
import { Rtnetlink } from "../../kernel/route/rtnetlink.ts";
import { readSysctl } from "../../kernel/sysctl.ts";
import { captureEvidence, listening, TIMEOUT_MS, visitSite, visitText } from "../instruments.ts";
import { PLAN } from "../plan.ts";
import type { Chapter } from "../story.ts";
import { forwardPackets } from "../forwarding-and-nat.ts";
import type { World } from "../world.ts";

const { node, pods, internet } = PLAN;
const CURL = `curl http://${internet.site}`;

export const neighbours: Chapter<World> = {
  number: 1,
  needed: true,
  title: "Blue and green talk over br0",
  intro:
    "Two namespaces, each with one end of a veth pair; the other ends are ports of the bridge br0. Neighbours on one " +
    "bridge need neither forwarding nor NAT.",
  act(world, report) {
    const { result: roundTripUs, seen } = listening(
      world.node,
      [pods.blue.veth, pods.green.veth],
      { protocol: "icmp" },
      () => echo(world.blue, pods.green.ipv4, TIMEOUT_MS["shall succeed"]),
    );
    using route = Rtnetlink.open(world.node);
    const ports = route
      .links({ statistics: false })
      .filter((link) => link.master === route.link(node.bridge)?.index)
      .map((link) => link.name);
    report({
      where: pods.blue.namespace,
      command: `ping -c 1 ${pods.green.ipv4}`,
      expected: "green answers",
      found: roundTripUs === undefined ? "no answer" : `an answer after ${roundTripUs} µs`,
      ok: roundTripUs !== undefined,
      evidence: [
        { source: `ports of ${node.bridge}`, lines: [ports.join(", ")] },
        captureEvidence(pods.blue.veth, seen[pods.blue.veth] ?? [], 1),
        captureEvidence(pods.green.veth, seen[pods.green.veth] ?? [], 1),
      ],
    });
  },
};

export const forwardingOff: Chapter<World> = {
  number: 2,
  title: "The outside is out of reach: forwarding is off",
  intro:
    "Blue's packets for the outside go to its default gateway, the bridge. A Linux host is no router by default: " +
    "with ip_forward = 0 it silently drops what is not for itself.",
  act(world, report) {
    const forward = readSysctl(world.node, "net.ipv4.ip_forward");
    report({
      where: node.namespace,
      command: "sysctl net.ipv4.ip_forward",
      expected: "0: a host, not a router",
      found: `net.ipv4.ip_forward = ${forward}`,
      ok: forward === "0",
      evidence: [],
    });
    const before = networkCounters(world.node);
    const { result, seen } = listening(
      world.node,
      [node.bridge, node.uplink],
      { source: pods.blue.ipv4 },
      () => visitSite(world.blue, "shall fail"),
    );
    const after = networkCounters(world.node);
    const grown = counterGrowth(before, after);
    const [onBridge, onUplink] = [seen[node.bridge] ?? [], seen[node.uplink] ?? []];
    report({
      where: pods.blue.namespace,
      command: CURL,
      expected: `fails; its packets reach ${node.bridge} and never ${node.uplink}`,
      found: `${visitText(result)}; ${onBridge.length} seen on ${node.bridge}, ${onUplink.length} on ${node.uplink}`,
      ok: result.failure !== undefined && onBridge.length > 0 && onUplink.length === 0,
      evidence: [
        captureEvidence(node.bridge, onBridge, 1),
        captureEvidence(node.uplink, onUplink),
        {
          source: "/proc/net/snmp on the node",
          lines: [
            `Ip: Forwarding ${after["Ip.Forwarding"]} (2 is off), InAddrErrors +${grown["Ip.InAddrErrors"] ?? 0}, ForwDatagrams +${grown["Ip.ForwDatagrams"] ?? 0}`,
          ],
        },
      ],
    });
  },
};

export const noWayBack: Chapter<World> = {
  number: 3,
  needed: true,
  title: "Forwarding on: the packet leaves, no answer can come back",
  intro:
    "Now the node is a router, and blue's packet leaves through eth0. But it leaves with blue's private address as its " +
    "source, and no router outside has a route to 10.0.0.0/24. (By hand: sysctl -w net.ipv4.ip_forward=1)",
  act(world, report) {
    const change = forwardPackets(world.node, 4);
    report({
      where: node.namespace,
      command: "wayout forwarding enable --ipv4",
      expected: "net.ipv4.ip_forward goes from 0 to 1",
      found: change,
      ok: readSysctl(world.node, "net.ipv4.ip_forward") === "1",
      evidence: [],
    });
    const { result, seen } = listening(world.node, [node.uplink], { source: pods.blue.ipv4 }, () =>
      visitSite(world.blue, "shall fail"),
    );
    const onUplink = seen[node.uplink] ?? [];
    using outside = Rtnetlink.open(world.internet);
    const back = outside.routeTo({ destination: pods.blue.ipv4 });
    report({
      where: pods.blue.namespace,
      command: CURL,
      expected: `still fails; packets leave ${node.uplink} with source ${pods.blue.ipv4}`,
      found: `${visitText(result)}; ${onUplink.length} left ${node.uplink} with source ${pods.blue.ipv4}`,
      ok: result.failure !== undefined && onUplink.length > 0 && !back.reachable,
      evidence: [
        captureEvidence(node.uplink, onUplink, 1),
        {
          source: `ip route get ${pods.blue.ipv4} in ${internet.namespace}`,
          lines: [back.reachable ? "a route back exists" : `no route back: ${back.said}`],
        },
      ],
    });
  },
};
