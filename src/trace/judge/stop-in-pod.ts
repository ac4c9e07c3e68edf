/** It ended in the pod: on its way out, or when the answer was back. */
import { command } from "../../text/command.ts";
import { endText } from "../../address/ip.ts";
import {
  type Case,
  type StopReason,
  ruleVerdict,
  dropIn,
  dropVerdict,
  growthEvidence,
  noCarrier,
  linkText,
  withCommand,
  stopFix,
} from "./case.ts";
import type { LocalPorts } from "../evidence.ts";
import { wrongPodMac } from "./shared-causes.ts";
import { deliveredFromElsewhere } from "./elsewhere.ts";
import { droppingRule } from "./rules.ts";
import { silentGateway } from "./silent-gateway.ts";

export function stoppedInPod(of: Case): StopReason {
  const { pod } = of.evidence.survey;
  const { link } = pod;
  const state = of.evidence.exchange?.state;
  if (link === undefined && pod.unread !== undefined) {
    return {
      step: 1,
      code: "pod-cannot-send",
      reason: `nothing was seen leaving, and by which interface it would is not known: there are more ${pod.unread.map(({ what }) => what).join(" and ")} than are read`,
      owner: "the pod",
    };
  }
  if (link === undefined) {
    return { step: 1, code: "pod-interface-missing", reason: "the pod has no interface besides loopback" };
  }
  if (!link.up) {
    return {
      step: 1,
      code: "pod-link-down",
      reason: `${link.name} in the pod is down, so no route leads out`,
      todo: withCommand("", command`ip link set dev ${link.name} up`, " (in the pod)"),
      evidence: [{ source: "link", lines: [linkText(link)] }],
    };
  }
  if (!pod.route.reachable) return noRouteInPod(of, pod.route.code, pod.route.said);
  if (state?.kind === "failed" && state.code === "EMSGSIZE") {
    return {
      step: 1,
      code: "mtu-too-large",
      reason: `the packet is larger than ${link.name} in the pod takes (mtu ${link.mtu})`,
    };
  }
  const rule = droppingRule(of.outRules.filter(({ event }) => event.where === "pod"));
  if (rule !== undefined) return ruleVerdict(1, rule, "in the pod itself");
  if (link.operState === "lowerlayerdown" || link.carrier === false) return noCarrier(1, link, "in the pod");
  const silent = silentGateway(of);
  if (silent !== undefined) return silent;
  const drop = dropIn(of, pod.inode);
  if (drop !== undefined) return dropVerdict(of, 1, drop, "in the pod");
  return cannotSend(of);
}

/** The socket's own error, as a program in the pod would see it. */
function cannotSend(of: Case): StopReason {
  const state = of.evidence.exchange?.state;
  if (state?.kind !== "failed") {
    return {
      step: 1,
      code: "pod-cannot-send",
      reason: "the socket sent nothing that could be seen",
      evidence: growthEvidence(of),
    };
  }
  const ports = portsUsedUp(of);
  if (ports !== undefined) return ports;
  return {
    step: 1,
    code: "pod-cannot-send",
    reason: `the pod's kernel refused to send it: ${state.said} (${state.code})`,
    owner: "the pod",
    ...sendTodo(of, state.code),
    evidence: [{ source: "the socket in the pod", lines: [`${state.said} (${state.code})`] }],
  };
}

/** What the socket's error mostly means. */
function sendTodo(of: Case, code: string): { readonly todo?: string } {
  const { route } = of.evidence.survey.pod;
  if (route.reachable && route.route.type === "broadcast")
    return {
      todo: "it is a broadcast address: a program must ask for that (SO_BROADCAST), and TCP may never",
    };
  switch (code) {
    case "EPERM":
      return {
        todo: "in the pod: nft list ruleset, and bpftool cgroup tree: what forbids its programs to send?",
      };
    case "EADDRNOTAVAIL":
      return {
        todo: "in the pod: ip addr, ip route: does it have the address that its route names as source?",
      };
    case "ENOBUFS":
    case "ENOMEM":
      return { todo: "in the pod: ss -m; sysctl net.core.wmem_max: the socket may hold no more" };
    default:
      return {};
  }
}

/** As many as the kernel's own range has: 32768 to 60999. */
const USUAL_PORTS = 28_232;

function portsUsedUp({ evidence }: Case): StopReason | undefined {
  const { localPorts: ports, exchange, flow } = evidence;
  if (ports === undefined || exchange?.state.kind !== "failed") return undefined;
  const { size, withheld } = ports;
  if (ports.used === 0 && withheld < size) return undefined;
  const where = endText(flow.destination, flow.destinationPort ?? 0);
  const wider = size < USUAL_PORTS ? "32768 60999" : "1024 65535";
  const lines = [
    `net.ipv4.ip_local_port_range = ${ports.range}`,
    ...(ports.reserved === undefined ? [] : [`net.ipv4.ip_local_reserved_ports = ${ports.reserved}`]),
  ];
  return {
    step: 1,
    code: "pod-ports-exhausted",
    reason: `the pod has no local port left for ${where}: net.ipv4.ip_local_port_range in it has ${size} ports, ${takenText(ports)}`,
    owner: "the pod's settings, and its programs' connections",
    todo: "in the pod: ss -tan; keep fewer connections open, or set a wider range in the pod's sysctls",
    fix: stopFix("pod", command`sysctl -w net.ipv4.ip_local_port_range=${wider}`),
    evidence: [
      { source: "sysctl in the pod", lines },
      {
        source: "sockets in the pod",
        lines: [
          `${ports.used} local ports of that range in use${flow.protocol === "tcp" ? ` toward port ${flow.destinationPort}` : ""}`,
        ],
      },
      { source: "the socket in the pod", lines: [`${exchange.state.said} (${exchange.state.code})`] },
    ],
  };
}

function takenText({ withheld, used }: LocalPorts): string {
  if (withheld === 0) return `and ${used} of them are in use`;
  const rest = used === 0 ? "" : `, and ${used} are in use`;
  return `net.ipv4.ip_local_reserved_ports withholds ${withheld} of them${rest}`;
}

function noRouteInPod(of: Case, code: string, said: string): StopReason {
  const { pod } = of.evidence.survey;
  const { destination, family } = of.evidence.flow;
  const hasAddress = pod.addresses.some(
    (address) =>
      address.family === family && address.interface === pod.link?.index && address.scope === "global",
  );
  // Of what was not read nobody knows whether it is missing.
  if (!hasAddress && pod.unread === undefined) {
    return {
      step: 1,
      code: "pod-no-address",
      reason: `${pod.link!.name} in the pod has no IPv${family} address`,
    };
  }
  const evidence = [{ source: "route in the pod", lines: [`to ${destination}: ${said} (${code})`] }];
  if (code === "ENETUNREACH") {
    return {
      step: 1,
      code: "pod-no-route",
      reason: `the pod has no route to ${destination}`,
      todo: "ip route add default via GATEWAY (in the pod); a CNI bridge network needs isDefaultGateway or ipam routes",
      evidence,
    };
  }
  return {
    step: 1,
    code: "pod-route-refused",
    reason: `a route in the pod forbids ${destination}: ${said} (${code})`,
    evidence,
  };
}

export function stoppedInPodOnReturn(of: Case): StopReason {
  const { pod } = of.evidence.survey;
  const rule = droppingRule(of.backRules.filter(({ event }) => event.where === "pod"));
  if (rule !== undefined) return ruleVerdict(9, rule, "the answer, in the pod itself");
  const elsewhere = deliveredFromElsewhere(of);
  if (elsewhere !== undefined) return elsewhere;
  const drop = dropIn(of, pod.inode);
  if (drop !== undefined) return dropVerdict(of, 9, drop, "with the answer, in the pod");
  const wrongMac = wrongPodMac(of);
  if (wrongMac !== undefined) return wrongMac;
  return {
    step: 9,
    code: "stopped-elsewhere",
    reason: "the answer arrived in the pod and did not reach the socket",
    evidence: growthEvidence(of),
  };
}
