/**
 * Why it ended: from what was seen of the packet, what the rules said about it, what the kernel dropped, and what the
 * settings are. Pure. The stages follow the packet; the first one it did not pass is asked for its reason.
 */
import { cidrContains, parseCidr } from "../address/cidr.ts";
import type { KernelDrop } from "../kernel/bpf/drops.ts";
import { summaryOf } from "../kernel/packet/packet.ts";
import type { Link } from "../kernel/route/link.ts";
import { endLabel, type Correlation, type PlacedPacket } from "./correlate.ts";
import type { NodeSide, TraceEvidence } from "./evidence.ts";
import { isFatalDrop } from "./progress.ts";
import { dropReasonText } from "./reasons.ts";
import type { PlaceKind, StepEvidence, StepNumber, Stop } from "./report.ts";
import { baseOf, droppingRule, type MetRule } from "./rules.ts";

/** NF_IP_PRI_NAT_SRC, where sources are translated. */
const PRIORITY_SRCNAT = 100;

/** What diagnosing reads. */
export interface Case {
  readonly evidence: TraceEvidence;
  readonly correlation: Correlation;
  readonly outRules: readonly MetRule[];
  readonly backRules: readonly MetRule[];
}

type Verdict = Omit<Stop, "lastSeen" | "evidence"> & { readonly evidence?: readonly StepEvidence[] };

/** The stop of an exchange that was not answered. */
export function diagnose(of: Case): Stop {
  const verdict = verdictOf(of);
  return { evidence: [], ...verdict, lastSeen: lastSeen(of) };
}

function verdictOf(of: Case): Verdict {
  const { out, back } = of.correlation;
  const at = (list: readonly PlacedPacket[], place: string, way: string): boolean =>
    list.some((packet) => packet.place === place && packet.way === way);
  if (back.some((packet) => packet.place === "pod")) return stoppedInPodOnReturn(of);
  if (back.length > 0) return stoppedOnReturn(of);
  if (at(out, "uplink", "out")) return stoppedOutside(of);
  if (!at(out, "pod", "out")) return stoppedInPod(of);
  const { node } = of.evidence.survey;
  if (node === undefined) {
    return {
      step: 2,
      code: "node-unknown",
      reason: "it left the pod by an interface whose other end is not visible from here",
    };
  }
  if (!at(out, "veth", "in")) return stoppedOnCable(of);
  if (node.bridge !== undefined && !at(out, "bridge", "in")) return stoppedOnBridge(of);
  return stoppedAtNode(of);
}

// ── Last seen ────────────────────────────────────────────────────────────────────────────────────────────────────

function lastSeen({ correlation }: Case): string {
  const { out, back } = correlation;
  const last = back.length > 0 ? furthest(back, WAY_BACK) : furthest(out, WAY_OUT);
  if (last === undefined) return "in the socket of the pod";
  const where = last.where === "pod" ? "in the pod" : "on the node";
  const heading = back.includes(last) ? "the answer, " : "";
  return `${heading}${last.way === "in" ? "coming in at" : "leaving"} ${last.interface} ${where}`;
}

const WAY_OUT: readonly PlaceKind[] = ["pod", "veth", "bridge", "uplink"];
const WAY_BACK = WAY_OUT.toReversed();

function furthest(packets: readonly PlacedPacket[], way: readonly PlaceKind[]): PlacedPacket | undefined {
  return packets.toSorted((a, b) => way.indexOf(a.place) - way.indexOf(b.place)).at(-1);
}

// ── 1: in the pod ────────────────────────────────────────────────────────────────────────────────────────────────

function stoppedInPod(of: Case): Verdict {
  const { pod, node } = of.evidence.survey;
  const { link } = pod;
  const state = of.evidence.exchange?.state;
  if (link === undefined) {
    return { step: 1, code: "pod-no-interface", reason: "the pod has no interface besides loopback" };
  }
  if (!link.up) {
    return {
      step: 1,
      code: "pod-link-down",
      reason: `${link.name} in the pod is down, so no route leads out`,
      todo: `ip link set ${link.name} up (in the pod)`,
      evidence: [{ source: "link", lines: [linkText(link)] }],
    };
  }
  if (!pod.route.reachable) return noRouteInPod(of, pod.route.code, pod.route.said);
  if (state?.kind === "failed" && state.code === "EMSGSIZE") {
    return {
      step: 1,
      code: "too-big-for-pod",
      reason: `the packet is larger than ${link.name} in the pod takes (mtu ${link.mtu})`,
    };
  }
  const rule = droppingRule(of.outRules.filter(({ event }) => event.where === "pod"));
  if (rule !== undefined) return ruleVerdict(1, rule, "in the pod itself");
  if (link.operState === "lowerlayerdown" || link.carrier === false) return noCarrier(1, link, "in the pod");
  const neighbour = silentNeighbour(of, "pod", pod.nextHop, link);
  if (neighbour !== undefined) {
    // The node also refuses to answer ARP for a source that fails this test.
    const filtered = node === undefined ? undefined : reversePath(of, 1, node.entry, of.evidence.flow.source);
    if (filtered !== undefined)
      return { ...filtered, evidence: [...(filtered.evidence ?? []), ...neighbour] };
    return {
      step: 1,
      code: "gateway-silent",
      reason: `the gateway ${pod.nextHop} does not answer ${arpName(of)}: the packet waits in the pod for its link-layer address`,
      todo: `ip addr show ${of.evidence.survey.node?.entry?.name ?? "BRIDGE"} (on the node): does it have ${pod.nextHop}?`,
      evidence: neighbour,
    };
  }
  const drop = dropIn(of, pod.inode);
  if (drop !== undefined) return dropVerdict(1, drop, "in the pod");
  return {
    step: 1,
    code: "never-left",
    reason:
      state?.kind === "failed"
        ? `the kernel refused to send it: ${state.said} (${state.code})`
        : "the socket sent nothing that could be seen",
  };
}

function noRouteInPod(of: Case, code: string, said: string): Verdict {
  const { pod } = of.evidence.survey;
  const { destination, family } = of.evidence.flow;
  const hasAddress = pod.addresses.some(
    (address) =>
      address.family === family && address.interface === pod.link?.index && address.scope === "global",
  );
  if (!hasAddress) {
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
      code: "no-route-in-pod",
      reason: `the pod has no route to ${destination}`,
      todo: "ip route add default via GATEWAY (in the pod); a CNI bridge network needs isDefaultGateway or ipam routes",
      evidence,
    };
  }
  return {
    step: 1,
    code: "route-forbids",
    reason: `a route in the pod forbids ${destination}: ${said} (${code})`,
    evidence,
  };
}

// ── 2: the cable and the bridge ──────────────────────────────────────────────────────────────────────────────────

function stoppedOnCable(of: Case): Verdict {
  const { hostLink } = of.evidence.survey.node!;
  if (hostLink === undefined) {
    return { step: 2, code: "no-host-veth", reason: "the pod's interface has no other end on the node" };
  }
  if (!hostLink.up) return linkDown(2, hostLink);
  const drop = dropIn(of, of.evidence.survey.node!.inode) ?? dropIn(of, of.evidence.survey.pod.inode);
  if (drop !== undefined) return dropVerdict(2, drop, `on the cable to ${hostLink.name}`);
  return { step: 2, code: "lost-on-cable", reason: `it left the pod and did not arrive at ${hostLink.name}` };
}

function stoppedOnBridge(of: Case): Verdict {
  const node = of.evidence.survey.node!;
  const { bridge, hostLink } = node as { bridge: Link; hostLink: Link };
  const rule = droppingRule(of.outRules);
  if (rule !== undefined) return ruleVerdict(2, rule, `on the bridge ${bridge.name}`);
  if (hostLink.port !== undefined && hostLink.port.state !== "forwarding") {
    return {
      step: 2,
      code: "port-not-forwarding",
      reason: `the port ${hostLink.name} of ${bridge.name} is ${hostLink.port.state}, not forwarding`,
      todo: `ip link set ${bridge.name} type bridge stp_state 0`,
    };
  }
  if (!bridge.up) return linkDown(2, bridge);
  const drop = dropIn(of, node.inode);
  if (drop !== undefined) return dropVerdict(2, drop, `on the bridge ${bridge.name}`);
  return {
    step: 2,
    code: "not-for-the-bridge",
    reason: `it came in at ${hostLink.name} and was not addressed to ${bridge.name}: the pod knows another link-layer address for its gateway`,
    evidence: [{ source: "neighbours in the pod", lines: neighbourLines(of, "pod") }],
    todo: `ip neigh flush dev ${of.evidence.survey.pod.link?.name ?? "eth0"} (in the pod); pin the bridge's address`,
  };
}

// ── 3 to 6: the node ─────────────────────────────────────────────────────────────────────────────────────────────

/** Forwarding, rules, route: asked in the order in which they explain the others away. */
function stoppedAtNode(of: Case): Verdict {
  const node = of.evidence.survey.node!;
  const rule = droppingRule(of.outRules.filter(({ event }) => event.where === "node"));
  if (rule !== undefined) {
    const base = baseOf(of.outRules, rule);
    // Chains of postrouting come before or after the source is translated.
    const step = base?.hook !== "postrouting" ? 3 : base.priority < PRIORITY_SRCNAT ? 4 : 6;
    return ruleVerdict(step, rule, `in ${base?.hook ?? "a chain"}`);
  }
  return (
    forwardingOff(of) ??
    tooBig(of) ??
    reversePath(of, 3, node.entry, of.evidence.flow.source) ??
    noRouteOnNode(of) ??
    silentNextHop(of) ??
    droppedByOthers(of, 3) ??
    outLinkDown(of) ??
    refusedByError(of, 3) ?? {
      step: 3,
      code: "vanished-at-node",
      reason: "it reached the node, and neither left it nor was reported as dropped",
      evidence: growthEvidence(of),
    }
  );
}

function forwardingOff({ evidence }: Case): Verdict | undefined {
  const node = evidence.survey.node!;
  const { sysctls, entry } = node;
  const v6 = evidence.flow.family === 6;
  const names = [
    v6 ? "net.ipv6.conf.all.forwarding" : "net.ipv4.ip_forward",
    `net.ipv${v6 ? 6 : 4}.conf.${entry?.name}.forwarding`,
  ];
  // IPv4 decides by the incoming interface's own setting; net.ipv4.ip_forward only presets it. IPv6 needs both.
  const off = (v6 ? names : names.slice(1)).find((name) => sysctls[name] === "0");
  if (off === undefined) return undefined;
  const everywhere = sysctls[names[0]!] === "0";
  const name = everywhere ? names[0]! : off;
  return {
    step: 3,
    code: "forwarding-off",
    reason: `the node does not forward: ${name} is 0`,
    todo: everywhere ? "wayout forwarding enable" : `sysctl -w ${name}=1`,
    evidence: [{ source: "sysctl", lines: names.flatMap((one) => settingLine(node, one)) }],
  };
}

/** The node said so itself, with an ICMP error, when the packet met a smaller MTU. */
function tooBig(of: Case): Verdict | undefined {
  const error = of.correlation.errors.find(({ packet }) => packet.icmp?.mtu !== undefined);
  if (error === undefined) return undefined;
  const { out } = of.evidence.survey.node ?? {};
  const isOurs = isNodeAddress(of, error.packet.ip!.source);
  const length = of.correlation.out[0]?.packet.ip?.length;
  return {
    step: isOurs ? 3 : 7,
    code: "packet-too-big",
    reason: isOurs
      ? `the packet has ${length} bytes, ${out?.name ?? "the way out"} takes ${error.packet.icmp!.mtu}, and it may not be cut`
      : `${error.packet.ip!.source} on the way says that the packet is too big: ${error.packet.icmp!.mtu} bytes would pass`,
    todo: `give the pod's interface mtu ${error.packet.icmp!.mtu}, or clamp TCP's segment size (tcp option maxseg size set rt mtu)`,
    evidence: [{ source: `capture on ${error.interface}`, lines: [error.summary] }],
  };
}

/** @param link where packets from `source` come in */
function reversePath(
  of: Case,
  step: StepNumber,
  link: Link | undefined,
  source: string,
): Verdict | undefined {
  const node = of.evidence.survey.node!;
  const drop = nodeDrops(of).find(({ reason }) => reason === "IP_RPFILTER");
  const grown = of.evidence.growth.node["TcpExt.IPReversePathFilter"] ?? 0;
  if (drop === undefined && grown === 0 && !(source === of.evidence.flow.source && failsReversePath(node))) {
    return undefined;
  }
  const names = ["all", link?.name].map((name) => `net.ipv4.conf.${name}.rp_filter`);
  const strict = names.find((name) => node.sysctls[name] === "1") ?? names[1]!;
  return {
    step,
    code: "rp-filter",
    reason: `reverse path filtering (${strict} = ${node.sysctls[strict] ?? "1"}) refuses it at ${link?.name}: the node's route to ${source} leaves by another interface`,
    todo: `sysctl -w net.ipv4.conf.${link?.name}.rp_filter=2, with net.ipv4.conf.all.rp_filter not 1; or mend the route to ${source}`,
    evidence: [
      { source: "sysctl", lines: names.flatMap((name) => settingLine(node, name)) },
      ...(drop === undefined ? [] : [dropEvidence(drop)]),
      ...(grown === 0 ? [] : [{ source: "counters", lines: [`TcpExt.IPReversePathFilter + ${grown}`] }]),
    ],
  };
}

/** Whether the pod's packets must fail the strict test, as the settings and the route back to the pod are. */
function failsReversePath({ sysctls, entry, routeBack }: NodeSide): boolean {
  const values = ["all", entry?.name].map((name) => Number(sysctls[`net.ipv4.conf.${name}.rp_filter`] ?? 0));
  const back = routeBack?.reachable === true ? routeBack.route.interface : undefined;
  return Math.max(...values) === 1 && back !== entry?.index;
}

function settingLine({ sysctls }: NodeSide, name: string): string[] {
  const value = sysctls[name];
  return value === undefined ? [] : [`${name} = ${value}`];
}

function noRouteOnNode(of: Case): Verdict | undefined {
  const node = of.evidence.survey.node!;
  if (node.route === undefined || node.route.reachable) return undefined;
  const { destination } = of.evidence.flow;
  const down = node.links.filter((link) => !link.up && link.layer !== "loopback").map((link) => link.name);
  const downText = down.length === 0 ? "" : `; down on the node: ${down.join(", ")}`;
  const forbids = node.route.code !== "ENETUNREACH" && node.route.code !== "EHOSTUNREACH";
  return {
    step: 3,
    code: forbids ? "route-forbids-on-node" : "no-route-on-node",
    reason: forbids
      ? `a route of the node refuses ${destination}: ${node.route.said} (${node.route.code})`
      : `the node has no route to ${destination}${downText}`,
    todo: down.length > 0 ? `ip link set ${down[0]} up` : "ip route (on the node): is there a default route?",
    evidence: [
      {
        source: "route on the node",
        lines: [
          `from ${of.evidence.flow.source} iif ${node.entry?.name} to ${destination}: ${node.route.said} (${node.route.code})`,
        ],
      },
      ...errorEvidence(of),
    ],
  };
}

function silentNextHop(of: Case): Verdict | undefined {
  const { out, nextHop } = of.evidence.survey.node!;
  if (out === undefined) return undefined;
  const evidence = silentNeighbour(of, "node", nextHop, out);
  if (evidence === undefined) return undefined;
  if (!out.up || out.operState === "lowerlayerdown" || out.carrier === false) return outLinkDown(of);
  return {
    step: 6,
    code: "next-hop-silent",
    reason: `the next hop ${nextHop} does not answer ${arpName(of)} on ${out.name}: the packet waits on the node for its link-layer address`,
    todo: `ip neigh show dev ${out.name}; is ${nextHop} the right gateway, and is it up?`,
    evidence,
  };
}

function outLinkDown(of: Case): Verdict | undefined {
  const { out } = of.evidence.survey.node!;
  if (out === undefined) return undefined;
  if (!out.up) return linkDown(6, out);
  if (out.operState === "lowerlayerdown" || out.carrier === false) return noCarrier(6, out, "on the node");
  return undefined;
}

/** iptables-legacy by its counters, everything else by the kernel's own reason. */
function droppedByOthers(of: Case, step: StepNumber): Verdict | undefined {
  const drop = nodeDrops(of)[0];
  const isFilter = drop === undefined || drop.reason === "NETFILTER_DROP";
  const legacy = of.evidence.legacyGrowth.find(({ verdict }) => verdict === "DROP" || verdict === "REJECT");
  if (isFilter && legacy !== undefined) {
    return {
      step,
      code: "dropped-by-iptables-legacy",
      reason: `iptables-legacy dropped it: ${legacy.table} ${legacy.chain}: ${legacy.rule} (${legacy.packets} packets meanwhile)`,
      todo: `iptables-legacy -t ${legacy.table} -vnL ${legacy.chain}`,
      rule: {
        family: of.evidence.flow.family === 4 ? "ip" : "ip6",
        table: legacy.table,
        chain: legacy.chain,
        text: legacy.rule,
      },
      evidence: [
        {
          source: "iptables-legacy counters",
          lines: [`${legacy.table} ${legacy.chain} ${legacy.rule}: + ${legacy.packets}`],
        },
        ...(drop === undefined ? [] : [dropEvidence(drop)]),
      ],
    };
  }
  if (drop !== undefined) return dropVerdict(drop.reason === "NEIGH_FAILED" ? 6 : step, drop, "on the node");
  return undefined;
}

function refusedByError(of: Case, step: StepNumber): Verdict | undefined {
  const error = of.correlation.errors[0];
  if (error === undefined) return undefined;
  return {
    step,
    code: "refused",
    reason: `${error.packet.ip!.source} answers: ${error.packet.icmp!.name}`,
    evidence: errorEvidence(of),
  };
}

// ── 4 and 7: outside ─────────────────────────────────────────────────────────────────────────────────────────────

function stoppedOutside(of: Case): Verdict {
  const { flow, survey } = of.evidence;
  const leaving = of.correlation.out.find((packet) => packet.place === "uplink" && packet.way === "out")!;
  const big = tooBig(of);
  if (big !== undefined) return big;
  const source = leaving.packet.ip!.source;
  if (source === flow.source && isPrivate(source)) {
    return {
      step: 4,
      code: "not-translated",
      reason: `it left by ${leaving.interface} with the pod's own address ${source}, which nobody outside can answer to: no rule translated it`,
      todo: "wayout nat show, then 'wayout nat apply' or a masquerade rule for the pods' network",
      evidence: [{ source: `capture on ${leaving.interface}`, lines: [leaving.summary] }],
    };
  }
  const error = of.correlation.errors.find(({ packet }) => !isNodeAddress(of, packet.ip!.source));
  if (error !== undefined) {
    return {
      step: 7,
      code: "refused-outside",
      reason: `it left the node correctly, and ${error.packet.ip!.source} outside answers: ${error.packet.icmp!.name}`,
      evidence: [{ source: `capture on ${error.interface}`, lines: [error.summary] }],
    };
  }
  const foreign = source !== flow.source && !isNodeAddress(of, source);
  const waited = of.evidence.exchange?.timeoutMs;
  const within = waited === undefined ? "" : ` within ${waited} ms`;
  return {
    step: 7,
    code: foreign ? "foreign-source" : "nobody-answered",
    reason: foreign
      ? `it left by ${leaving.interface} with the source ${source}, which is no address of this node, and nobody answered${within}`
      : `it left the node correctly by ${leaving.interface} as ${summaryOf(leaving.packet)}, and nobody answered${within}`,
    todo: foreign
      ? `does the network route ${source} to this node? Otherwise give it to ${survey.node?.out?.name ?? leaving.interface}, or masquerade`
      : "look outside this node: the destination, its firewall, a security group, a provider's filter",
    evidence: [{ source: `capture on ${leaving.interface}`, lines: [leaving.summary] }],
  };
}

// ── 8 and 9: the answer ──────────────────────────────────────────────────────────────────────────────────────────

function stoppedOnReturn(of: Case): Verdict {
  const { evidence, correlation } = of;
  const matched = isReplyMatched(of);
  const step = matched ? 9 : 8;
  const arrived = correlation.back.find((packet) => packet.place === "uplink" && packet.way === "in");
  const rule = droppingRule(of.backRules.filter(({ event }) => event.where === "node"));
  if (rule !== undefined)
    return ruleVerdict(step, rule, `the answer, in ${baseOf(of.backRules, rule)?.hook ?? "a chain"}`);
  const entry =
    arrived === undefined
      ? undefined
      : evidence.survey.node?.links.find((link) => link.index === arrived.interfaceIndex);
  const known =
    reversePath(of, step, entry, correlation.outside?.destination.address ?? evidence.flow.destination) ??
    droppedByOthers(of, step);
  if (known !== undefined) return { ...known, step };
  const elsewhere = fromElsewhere(of, arrived);
  if (!matched && elsewhere !== undefined) return elsewhere;
  const translated =
    correlation.outside !== undefined && correlation.outside.source.address !== evidence.flow.source;
  if (!matched && translated) {
    return {
      step: 8,
      code: "answer-not-matched",
      reason: `the answer came to ${endLabel(correlation.outside.source, evidence.flow)} and no tracked connection claims it`,
      evidence: growthEvidence(of),
    };
  }
  const veth = correlation.back.find((packet) => packet.place === "veth" && packet.way === "out");
  return {
    step: 9,
    code: "answer-lost",
    reason:
      veth === undefined
        ? "the answer reached the node and was not handed on to the pod"
        : `the answer left ${veth.interface} and did not arrive in the pod`,
    evidence: growthEvidence(of),
  };
}

/** An answer from another address than was asked is no answer to conntrack, nor to a connected socket. */
function fromElsewhere(
  { correlation, evidence }: Case,
  arrived: PlacedPacket | undefined,
): Verdict | undefined {
  const asked = correlation.outside?.destination.address;
  const source = arrived?.packet.ip?.source;
  if (arrived === undefined || asked === undefined || source === undefined || source === asked)
    return undefined;
  return {
    step: 8,
    code: "answer-from-elsewhere",
    reason: `${asked} was asked and ${source} answers: no tracked connection claims that`,
    todo: `the program at ${evidence.flow.destination} must answer from the address that it was asked at (bind to it)`,
    evidence: [{ source: `capture on ${arrived.interface}`, lines: [arrived.summary] }],
  };
}

function stoppedInPodOnReturn(of: Case): Verdict {
  const { pod } = of.evidence.survey;
  const rule = droppingRule(of.backRules.filter(({ event }) => event.where === "pod"));
  if (rule !== undefined) return ruleVerdict(9, rule, "the answer, in the pod itself");
  const drop = dropIn(of, pod.inode);
  if (drop !== undefined) return dropVerdict(9, drop, "the answer, in the pod");
  return {
    step: 9,
    code: "answer-not-delivered",
    reason: "the answer arrived in the pod and did not reach the socket",
    evidence: growthEvidence(of),
  };
}

/** Whether conntrack recognised the answer as one to this connection. */
export function isReplyMatched({ evidence }: Pick<Case, "evidence">): boolean {
  const entries = [
    ...evidence.flowEvents.map(({ entry }) => entry),
    ...(evidence.entry === undefined ? [] : [evidence.entry]),
  ];
  return entries.some((entry) => entry.flags.includes("seen-reply"));
}

// ── Pieces ───────────────────────────────────────────────────────────────────────────────────────────────────────

function ruleVerdict(step: StepNumber, rule: MetRule, where: string): Verdict {
  const { family, table, chain, text, handle, owner } = rule.report;
  const whose = owner === undefined ? "" : ` (${owner}'s)`;
  const what = handle === undefined ? `the ${text} of` : `rule "${text}" (handle ${handle}) of`;
  return {
    step,
    code: "dropped-by-rule",
    reason: `dropped ${where}: ${what} chain ${chain} in table ${family} ${table}${whose}`,
    todo: `nft -a list chain ${family} ${table} ${chain}`,
    rule: rule.report,
    evidence: [{ source: "nf_tables trace", lines: [`${family} ${table} ${chain}: ${text}`] }],
  };
}

function nodeDrops(of: Case): KernelDrop[] {
  return of.evidence.drops.filter(
    (drop) =>
      isFatalDrop(drop, of.evidence.flow) &&
      (drop.namespaceInode === of.evidence.survey.node?.inode || drop.namespaceInode === 0),
  );
}

function dropIn(of: Case, inode: number): KernelDrop | undefined {
  return of.evidence.drops.find(
    (drop) => isFatalDrop(drop, of.evidence.flow) && drop.namespaceInode === inode,
  );
}

function dropVerdict(step: StepNumber, drop: KernelDrop, where: string): Verdict {
  return {
    step,
    code: "dropped-by-kernel",
    reason: `the kernel dropped it ${where}: ${dropReasonText(drop.reason)} (${drop.reason})`,
    evidence: [dropEvidence(drop)],
  };
}

function dropEvidence(drop: KernelDrop): StepEvidence {
  return { source: "kfree_skb", lines: [`${drop.reason}: ${drop.summary}`] };
}

function errorEvidence(of: Case): StepEvidence[] {
  const error = of.correlation.errors[0];
  return error === undefined ? [] : [{ source: `capture on ${error.interface}`, lines: [error.summary] }];
}

/** Counters that tell of trouble and moved meanwhile: by any traffic of the node, so a hint only. */
function growthEvidence(of: Case): StepEvidence[] {
  const telling = /NoRoutes|Discards|Errors|Drop|Filter|Fails|Invalid|ReasmFails/;
  const lines = Object.entries(of.evidence.growth.node)
    .filter(([name]) => telling.test(name))
    .map(([name, grown]) => `${name} + ${grown}`);
  return lines.length === 0 ? [] : [{ source: "counters of the node", lines }];
}

/** Asked for, and not answered: requests in the capture, an entry that is incomplete or failed. */
function silentNeighbour(
  of: Case,
  where: "pod" | "node",
  address: string | undefined,
  link: Link,
): StepEvidence[] | undefined {
  const entry = of.evidence.neighbours[where].find(
    (neighbour) => neighbour.interface === link.index && neighbour.address === address,
  );
  const isKnown = entry?.mac !== undefined && entry.state !== "failed" && entry.state !== "incomplete";
  const asked = of.correlation.neighbours.filter(
    (packet) =>
      packet.where === where &&
      packet.interfaceIndex === link.index &&
      packet.way === "out" &&
      (packet.packet.arp?.targetIp ?? packet.packet.icmp?.target) === address,
  );
  const failed = entry?.state === "failed" || entry?.state === "incomplete";
  if (isKnown || (!failed && asked.length === 0)) return undefined;
  return [
    {
      source: `neighbours ${where === "pod" ? "in the pod" : "on the node"}`,
      lines: [`${address} dev ${link.name}: ${entry?.state ?? "none"}`],
    },
    ...(asked[0] === undefined
      ? []
      : [
          {
            source: `capture on ${link.name}`,
            lines: [`${asked[0].summary} (${asked.length} times, no answer)`],
          },
        ]),
  ];
}

function neighbourLines(of: Case, where: "pod" | "node"): string[] {
  return of.evidence.neighbours[where].map(
    (neighbour) => `${neighbour.address} ${neighbour.mac ?? "?"} ${neighbour.state}`,
  );
}

function arpName(of: Case): string {
  return of.evidence.flow.family === 4 ? "ARP" : "neighbour discovery";
}

function linkDown(step: StepNumber, link: Link): Verdict {
  return {
    step,
    code: "link-down",
    reason: `${link.name} on the node is down`,
    todo: `ip link set ${link.name} up`,
    evidence: [{ source: "link", lines: [linkText(link)] }],
  };
}

function noCarrier(step: StepNumber, link: Link, where: string): Verdict {
  return {
    step,
    code: "no-carrier",
    reason: `${link.name} ${where} has no carrier: the other end of its cable is down`,
    todo: "set the other end up",
    evidence: [{ source: "link", lines: [linkText(link)] }],
  };
}

export function linkText(link: Link): string {
  return `${link.name} ${link.up ? "up" : "down"}, state ${link.operState}, mtu ${link.mtu}`;
}

function isNodeAddress(of: Case, address: string): boolean {
  return of.evidence.survey.node?.addresses.some((one) => one.address === address) === true;
}

/** RFC 1918, RFC 6598, link-local, RFC 4193: addresses that the internet does not route. */
const PRIVATE = [
  "10.0.0.0/8",
  "172.16.0.0/12",
  "192.168.0.0/16",
  "100.64.0.0/10",
  "169.254.0.0/16",
  "fc00::/7",
  "fe80::/10",
].map((cidr) => parseCidr(cidr));

export function isPrivate(address: string): boolean {
  return PRIVATE.some((cidr) => cidrContains(cidr, address));
}
