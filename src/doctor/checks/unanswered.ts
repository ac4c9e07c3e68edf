/** Packets that leave as they should by every rule, and to which no answer can come: facts of the path itself. */
import { familyOf, endText } from "../../address/ip.ts";
import { command } from "../../text/command.ts";
import { sysctlWord } from "../../linux/sysctl-name.ts";
import { familyFlag, finding, said, sysctlEvidence, type CheckContext, ruleEvidence } from "../check.ts";
import type { Finding } from "../finding.ts";
import { pastRule } from "./filter-cure.ts";
import { decisionPlace, decisionText, quotedDecision } from "../wording.ts";
import { ownerOfDecision } from "../whose.ts";
import { present } from "../../present.ts";

/** The source lies in the uplink's own network: its neighbours ask for it, and the node does not answer for it. */
export function sourceUnanswered(context: CheckContext): Finding[] {
  return context.stops("source-unanswered").map(({ source, link, prefix }) => {
    const v6 = familyOf(source) === 6;
    const setting = v6 ? "proxy_ndp" : "proxy_arp";
    const name = `net.ipv${v6 ? 6 : 4}.conf.${link.name}.${setting}`;
    const flag = v6 ? "-6 " : "";
    const value = context.node.view.conf(v6 ? 6 : 4, link.name, setting);
    const entry = command`ip ${familyFlag(source)} neigh add proxy ${source} dev ${link.name}`;
    return finding("source-unanswered", {
      text: `packets leave ${link.name} with ${source}, out of ${link.name}'s own network ${prefix}: its neighbours ask for that address (${v6 ? "neighbour solicitation" : "ARP"}), and this node does not answer (${setting})`,
      owner: "the pod's network",
      evidence: [
        { source: `network of ${link.name}`, value: prefix },
        { source: "source of the packet as it leaves", value: source },
        sysctlEvidence(name, value),
        { source: `ip ${flag}neigh show proxy dev ${link.name}`, value: `none for ${source}` },
      ],
      consequence: "the router finds no MAC address to send the answer to",
      fix: [...(v6 ? [context.setSysctl("node", name, "1")] : []), context.fix("node", entry)],
      advice: [
        ...(v6
          ? [
              "for many addresses: a neighbour discovery proxy daemon (ndppd), or a prefix that is routed to this node",
            ]
          : said("for all that is routed through this node: ", command`sysctl -w ${sysctlWord(name)}=1`)),
      ],
    });
  });
}

/** The setting that gives the pod's packets their first TTL (hop limit in IPv6). */
function firstTtl({ family, path, inside }: CheckContext): {
  readonly name: string;
  readonly value: number | undefined;
} {
  if (family === 4) {
    const name = "net.ipv4.ip_default_ttl";
    return { name, value: inside?.view.sysctl(name) };
  }
  const link = path.podLink?.name ?? "default";
  return { name: `net.ipv6.conf.${link}.hop_limit`, value: inside?.view.conf(6, link, "hop_limit") };
}

export function ttlExceeded(context: CheckContext): Finding[] {
  const first = firstTtl(context);
  const word = context.family === 4 ? "TTL" : "hop limit";
  return context.stops("ttl-exceeded").map(({ ttl, link, by, place, direction }) =>
    finding("ttl-exceeded", {
      text: `the ${word} of ${direction === "out" ? `what ${context.pod.name} sends` : `the answers to ${context.pod.name}`} is ${ttl} at ${link.name}${by === undefined ? "" : `, set by “${decisionText(by)}”`}: ${direction === "out" ? "the next router" : "this node"} may not forward ${direction === "out" ? "it" : "them"}`,
      owner: by === undefined ? "the pod's settings" : ownerOfDecision(by),
      evidence: [
        ...ruleEvidence(by),
        ...(by === undefined ? [sysctlEvidence(first.name, first.value)] : []),
        {
          source: `${word} at ${link.name} ${place === "pod" ? "in the pod" : "on the node"}`,
          value: String(ttl),
        },
      ],
      consequence: "a router drops it (“time to live exceeded”)",
      ...(by === undefined
        ? { fix: [context.setSysctl("pod", first.name, "64")] }
        : {
            fix: pastRule(context, { by, place, direction }),
            advice: [`except the pods from the rule in ${decisionPlace(by)}`],
          }),
    }),
  );
}

export function proxyWithoutRoute(context: CheckContext): Finding[] {
  return context.stops("proxy-without-route").map(({ by, link }) =>
    finding("proxy-without-route", {
      text: `“${decisionText(by)}” gives what ${context.pod.name} sends to a transparent proxy, and no route brings it there: it would leave by ${link.name}`,
      owner: ownerOfDecision(by),
      evidence: [...ruleEvidence(by), { source: "route of the marked packet", value: `dev ${link.name}` }],
      consequence: "the kernel forwards no packet that belongs to a socket",
      advice: [
        "TPROXY needs both: ip rule add fwmark MARK lookup 100, and ip route add local default dev lo table 100",
      ],
    }),
  );
}

export function answerUnrecognized(context: CheckContext): Finding[] {
  return context.stops("answer-unrecognized").map(({ why, flowZone, answerZone, link, by, chose }) => {
    const rule = by === undefined ? undefined : quotedDecision(by);
    const zones = `the answer at ${link.name} is looked up in conntrack zone ${answerZone}, the flow was recorded in zone ${flowZone}`;
    return finding(
      "answer-unrecognized",
      present({
        text:
          why === "zone"
            ? `${zones}${rule === undefined ? "" : ` by ${rule}`}: it is not translated back`
            : `${rule ?? "a rule"} keeps the answer at ${link.name} out of connection tracking (untracked): it is not translated back`,
        owner: by === undefined ? "the rules that set zones" : ownerOfDecision(by),
        evidence: [
          ...ruleEvidence(by),
          { source: "conntrack zone of the flow", value: String(flowZone) },
          {
            source: "conntrack zone of the answer",
            value: why === "zone" ? String(answerZone) : "untracked",
          },
        ],
        consequence: "the node takes the answer for its own, and no socket of the node waits for it",
        fix: by === undefined ? undefined : pastRule(context, { by, place: "node", direction: chose }),
        advice: [
          why === "zone"
            ? "or set the same zone for both directions, or give --ctdir / “ct original zone” where only one is meant"
            : "or except the answers from the rule in the raw table",
        ],
      }),
    );
  });
}

/** “Is conntrack tracking it?”: no, by a rule. */
export function flowUntracked(context: CheckContext): Finding[] {
  const [stop] = context.stops("untranslated");
  const by = context.path.untrackedBy;
  if (stop === undefined) return [];
  if (by === undefined) return untrackedByIpvs(context, stop.source);
  return [
    finding("flow-untracked", {
      text: `${quotedDecision(by)} keeps what ${context.pod.name} sends out of connection tracking: nothing can translate ${stop.source}`,
      owner: ownerOfDecision(by),
      evidence: [
        ...ruleEvidence(by),
        { source: `source of the packet as it leaves by ${stop.link.name}`, value: stop.source },
      ],
      consequence: "it leaves untranslated, and no router outside has a route back to it",
      ...(by.rule === undefined
        ? {}
        : {
            fix: pastRule(context, { by, place: "node", direction: "out" }),
            advice: [
              `or except the pods from the rule in ${decisionPlace(by)}, so that their flows are tracked`,
            ],
          }),
    }),
  ];
}

/** The setting that makes IPVS leave what it sends on in connection tracking; kube-proxy sets it. */
const IPVS_CONNTRACK = "net.ipv4.vs.conntrack";

function untrackedByIpvs(context: CheckContext, source: string): Finding[] {
  const { balancedBy: service, outLink } = context.path;
  if (service === undefined || context.node.view.sysctl(IPVS_CONNTRACK) !== 0) return [];
  const end = endText(service.address, service.port);
  return [
    finding("flow-untracked", {
      text: `IPVS sends what ${context.pod.name} sends to ${end} on without connection tracking (${IPVS_CONNTRACK} is 0): nothing can translate ${source}`,
      owner: "the node's settings",
      evidence: [
        sysctlEvidence(IPVS_CONNTRACK, 0),
        { source: "/proc/net/ip_vs", value: `${service.protocol.toUpperCase()} ${end}` },
        { source: `source of the packet as it leaves by ${outLink?.name ?? "the node"}`, value: source },
      ],
      consequence: "it leaves untranslated, and no router outside has a route back to it",
      fix: [context.setSysctl("node", IPVS_CONNTRACK, "1")],
      advice: ["kube-proxy sets it when it starts: find the program that changed it since"],
    }),
  ];
}
