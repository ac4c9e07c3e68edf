/** IPsec stands beside routes and rules: what its policies select is encrypted, or dropped. */
import { prefixContains } from "../../address/cidr.ts";
import { command, type CommandLine } from "../../text/command.ts";
import { IP_PROTOCOL, protocolName } from "../../linux/ip-protocol.ts";
import { nftName } from "../../linux/nftables/spelling.ts";
import type { IpsecPolicy } from "../../linux/xfrm.ts";
import { finding, ruleEvidence, type CheckContext } from "../check.ts";
import type { Evidence, Finding, Fix } from "../finding.ts";
import type { Stop } from "../predict/path.ts";
import { decisionPlace, decisionText } from "../wording.ts";

type IpsecStop = Extract<Stop, { readonly kind: "ipsec" }>;

const OWNER = "the IPsec daemon (strongSwan, Libreswan), or the program that made the policy";

/** As `ip xfrm policy` writes it. */
function policyWords(policy: IpsecPolicy): readonly string[] {
  const { source, destination, direction, protocol, sourcePort, destinationPort, mark, mask } = policy;
  return [
    "src",
    source,
    "dst",
    destination,
    ...(protocol === 0 ? [] : ["proto", protocolName(protocol)]),
    ...(sourcePort === 0 ? [] : ["sport", String(sourcePort)]),
    ...(destinationPort === 0 ? [] : ["dport", String(destinationPort)]),
    "dir",
    direction,
    ...(mark === undefined ? [] : ["mark", String(mark), "mask", String(mask)]),
  ];
}

function policyText(policy: IpsecPolicy): string {
  const [template] = policy.templates;
  const what =
    policy.action === "block"
      ? "action block"
      : template === undefined
        ? "action allow"
        : `tmpl src ${template.source} dst ${template.destination} proto ${template.protocol === IP_PROTOCOL.esp ? "esp" : protocolName(template.protocol)} mode ${template.mode}`;
  return [...policyWords(policy), what, "priority", String(policy.priority)].join(" ");
}

function policyEvidence(context: CheckContext, { place }: IpsecStop, policy: IpsecPolicy): Evidence {
  const where = place === "pod" ? ` in ${context.pod.name}` : "";
  return { source: `ip xfrm policy${where}`, value: policyText(policy) };
}

/** An IPsec policy drops what the pod sends, or the answers to it. */
export function ipsecDrops(context: CheckContext): Finding[] {
  const stops = context.stops("ipsec");
  const [stop] = stops;
  if (stop === undefined) return [];
  const { policy, why } = stop;
  const { name } = context.pod;
  const where = stop.place === "pod" ? ` in ${name}` : "";
  const what = stop.direction === "out" ? `what ${name} sends` : `the answers to ${name}`;
  const said =
    why === "refused"
      ? `refuses ${what}`
      : why === "unprotected"
        ? `takes ${what} only encrypted, and it comes as it is`
        : `wants ${what} encrypted for ${policy.templates[0]!.destination}, and no IPsec connection is up that does it`;
  return [
    finding("ipsec-drops", {
      text: `the IPsec policy “${policyText(policy)}”${where} ${said}`,
      owner: OWNER,
      evidence: [policyEvidence(context, stop, policy), associations(context, stop)],
      consequence: "the kernel drops it, whatever routes and rules say",
      // One that lets it out and refuses the answer would mend nothing.
      fix: stops.some((one) => one.why === "no-association") ? [] : stops.map((one) => passFix(context, one)),
      advice: adviceFor(stop),
    }),
  ];
}

function associations(context: CheckContext, { place }: IpsecStop): Evidence {
  const state = place === "pod" ? context.pod.state : context.snapshot.node;
  const count = state?.ipsec?.associations.length ?? 0;
  return { source: "ip xfrm state", value: count === 0 ? "none" : `${count}, none for this policy` };
}

function adviceFor({ why }: IpsecStop): string[] {
  if (why === "no-association") {
    return [
      "if it is to be encrypted: bring the connection up (swanctl --initiate, ipsec up NAME), and see why it is down (swanctl --list-sas, ipsec status)",
      "if it is not: take the pods' range, or the destination's, out of the connection's traffic selectors (local_ts, remote_ts; leftsubnet, rightsubnet)",
    ];
  }
  return why === "refused"
    ? ["for good: except the pods in the configuration of the program that made the policy"]
    : [
        "for good: a connection that encrypts both directions, or traffic selectors that leave these addresses out",
      ];
}

/** A policy in front of it that lets this one destination through as it is: only in front of one that refuses. */
function passFix(context: CheckContext, stop: IpsecStop): Fix | undefined {
  const { place, policy } = stop;
  const line = passLine(context, stop);
  return context.fix(place, line, undefined, { kind: "pass-ipsec", place, policy });
}

function passLine({ path }: CheckContext, { policy, direction, place }: IpsecStop): CommandLine | undefined {
  // Before the first there is no place: then it is the one that has to go.
  if (policy.priority === 0) return command`ip xfrm policy delete ${policyWords(policy)}`;
  const isOut = direction === "out";
  const { left, sent } = path;
  const own = isOut ? policy.source : policy.destination;
  // What was translated is asked about again, and its answer has the addresses of the wire.
  const isTranslated = place === "node" && left !== undefined;
  const flow = isTranslated && prefixContains(own, left.source) ? left : sent;
  if (flow === undefined) return undefined;
  const [from, to] = isOut ? [flow.source, flow.destination] : [flow.destination, flow.source];
  return command`ip xfrm policy add src ${from} dst ${to} dir ${policy.direction} priority ${policy.priority - 1} action allow`;
}

/** The translated source is none that IPsec would encrypt: the packet leaves in clear text, for where only the tunnel leads. */
export function ipsecEscaped(context: CheckContext): Finding[] {
  const { escaped, translatedBy, left, outLink } = context.path;
  if (escaped === undefined || translatedBy === undefined || left === undefined) return [];
  return [
    finding("ipsec-escaped", {
      text: `“${decisionText(translatedBy)}” in ${decisionPlace(translatedBy)} translates ${context.pod.name}'s source before IPsec sees it: the policy “${policyText(escaped)}” no longer selects the packet, and it leaves by ${outLink?.name ?? "the node"} unencrypted`,
      owner: OWNER,
      evidence: [
        { source: "ip xfrm policy", value: policyText(escaped) },
        ...ruleEvidence(translatedBy),
        { source: "source of the packet as it leaves", value: left.source },
      ],
      consequence: "the other end of the tunnel never gets it",
      fix: [exceptFix(context, escaped)],
      advice: [
        "or except in the rule itself what IPsec takes: -m policy --dir out --pol none (iptables), rt ipsec missing (nft)",
      ],
      confidence: "likely",
    }),
  ];
}

function exceptFix(context: CheckContext, { source, destination }: IpsecPolicy): Fix | undefined {
  const { translatedBy } = context.path;
  if (translatedBy === undefined) return undefined;
  const { table, chain, base } = translatedBy;
  const isV4 = context.family === 4;
  if (table.name === "nat" && base.name === "POSTROUTING") {
    const tool = isV4 ? "iptables" : "ip6tables";
    const what = ["-s", source, "-d", destination];
    return context.fix(
      "node",
      command`${tool} -t nat -I POSTROUTING ${what} -m policy --dir out --pol ipsec -j ACCEPT`,
    );
  }
  const where = [table.family, nftName(table.name), nftName(chain.name)].filter((one) => one !== undefined);
  const word = isV4 ? "ip" : "ip6";
  return context.fix(
    "node",
    command`nft insert rule ${where} ${word} saddr ${source} ${word} daddr ${destination} rt ipsec exists accept`,
  );
}
