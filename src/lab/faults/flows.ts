/** What tracked flows do to new packets. They are made with real packets of the pods, and kept by a longer timeout. */
import { HOOK_PRIORITY } from "../../linux/netfilter.ts";
import { IP_PROTOCOL } from "../../linux/ip-protocol.ts";
import { addChain, addRule, addTable, destroyTable } from "../../linux/nftables/commands.ts";
import { accept, masquerade as masqueradeStatement, match } from "../../linux/nftables/rule-builder.ts";
import { Conntrack } from "../../kernel/conntrack/conntrack.ts";
import { InetSocket } from "../../kernel/inet-socket.ts";
import type { NetworkNamespace } from "../../kernel/namespace.ts";
import { writeSysctl } from "../../kernel/sysctl.ts";
import type { Fault, FaultWorld } from "./fault.ts";
import { PLAN } from "../plan.ts";
import { LAB_TABLE, installMasquerade, installSnat } from "../forwarding-and-nat.ts";
import { gently, indexOf, changeRuleset } from "./change.ts";

const { uplink, uplinkIpv4 } = PLAN.node;
const { dnsIpv4, link } = PLAN.internet;
const LOST = PLAN.otherUplinkIpv4;
const NAT = { family: "ip", table: "nat" } as const;
const POSTROUTING = { ...NAT, chain: "POSTROUTING" } as const;
const TRACKING = { family: "inet", table: "tracking" } as const;
const UDP_TIMEOUT = "net.netfilter.nf_conntrack_udp_timeout";
/** Seconds: so long that a person has time to look. The kernel's own value is 30. */
const LONG = "3600";
const SHORT = "30";
/** What the pod sends from: a client with a socket of its own, as telephones and VPNs have. */
const CLIENT_PORT = 5300;
const FEW_PORTS = { first: 40_000, last: 40_009 } as const;

/** To the lab's name server, from a fixed port. */
const NAMES = { address: dnsIpv4, protocol: "udp", port: 53 } as const;

/** One datagram without an answer: it is no DNS. */
function sendFrom(namespace: NetworkNamespace, port: number): void {
  using socket = InetSocket.open(namespace, "udp", 4);
  socket.bindPort(port);
  socket.connect({ address: dnsIpv4, port: NAMES.port });
  socket.send(Buffer.from("keep-alive"));
}

/** Forgets what is tracked so far, and how long that is remembered from now on. */
function forgetFlows(world: FaultWorld, timeout = SHORT): void {
  using table = Conntrack.open(world.node);
  table.flush({ protocol: IP_PROTOCOL.udp, original: { destination: dnsIpv4 } });
  writeSysctl(world.node, UDP_TIMEOUT, timeout);
}

function uplinkAddress(world: FaultWorld, change: "add" | "delete"): void {
  gently(world.node, (route) => {
    const spec = { interface: indexOf(route, uplink), address: LOST, prefixLength: PLAN.uplinkPrefixIpv4 };
    if (change === "add") route.addAddress(spec);
    else route.deleteAddress(spec);
  });
}

/** Both families, as the lab has it when it is well. */
function masqueradeAll(world: FaultWorld): void {
  installMasquerade(world.node, PLAN.podNetworkIpv4, PLAN.podNetworkIpv6);
}

export const breakFlows: readonly Fault[] = [
  {
    name: "flow-keeps-lost-address",
    title: `a UDP flow of ns-blue was translated to ${LOST}; then the node's address and the rule changed`,
    finding: "flow-address-lost",
    target: { ...NAMES, sourcePort: CLIENT_PORT },
    apply(world) {
      forgetFlows(world, LONG);
      uplinkAddress(world, "add");
      installSnat(world.node, PLAN.podNetworkIpv4, LOST);
      sendFrom(world.blue, CLIENT_PORT);
      uplinkAddress(world, "delete");
      masqueradeAll(world);
      // What happens by itself within a minute: the router's entry for the address ends.
      gently(world.internet, (route) => {
        route.deleteNeighbour({ interface: indexOf(route, link), address: LOST });
      });
    },
    mend: (world) => forgetFlows(world),
  },
  {
    name: "flow-before-the-rule",
    title: "a UDP flow of ns-blue (or of a pod before it) is tracked since before there was a masquerade",
    finding: "flow-outdated",
    target: { ...NAMES, sourcePort: CLIENT_PORT },
    apply(world) {
      forgetFlows(world, LONG);
      // Without a rule that asks for it nothing is tracked.
      changeRuleset(world.node, "breaking the lab", [
        destroyTable(LAB_TABLE),
        addTable(TRACKING),
        addChain(
          { ...TRACKING, chain: "forward" },
          { base: { type: "filter", hook: "forward", priority: 0 } },
        ),
        addRule({ ...TRACKING, chain: "forward" }, { expressions: [match("ct state", "new"), accept()] }),
      ]);
      sendFrom(world.blue, CLIENT_PORT);
      masqueradeAll(world);
      changeRuleset(world.node, "breaking the lab", [destroyTable(TRACKING)]);
    },
    mend: (world) => forgetFlows(world),
  },
  {
    name: "source-ports-used-up",
    title: `UDP is masqueraded to ten ports of ${uplinkIpv4}, and ns-green holds all of them`,
    finding: "ports-exhausted",
    target: NAMES,
    apply(world) {
      const ports = `${FEW_PORTS.first}-${FEW_PORTS.last}`;
      forgetFlows(world, LONG);
      changeRuleset(world.node, "breaking the lab", [
        destroyTable(LAB_TABLE),
        addTable(NAT),
        addChain(POSTROUTING, { base: { type: "nat", hook: "postrouting", priority: HOOK_PRIORITY.srcnat } }),
        addRule(POSTROUTING, {
          expressions: [
            match("ip saddr", PLAN.podNetworkIpv4),
            match("meta l4proto", "udp"),
            masqueradeStatement({ ports }),
          ],
        }),
        addRule(POSTROUTING, {
          expressions: [match("ip saddr", PLAN.podNetworkIpv4), masqueradeStatement()],
        }),
      ]);
      for (let port = FEW_PORTS.first; port <= FEW_PORTS.last; port++) sendFrom(world.green, port);
    },
    mend(world) {
      changeRuleset(world.node, "mending the lab", [destroyTable(NAT)]);
      masqueradeAll(world);
      forgetFlows(world);
    },
  },
];
