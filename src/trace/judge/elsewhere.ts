/** An answer that comes from another address than the one that was asked. Pure. */
import { command } from "../../text/command.ts";
import { cidrContains, cidrText, parseCidr } from "../../address/cidr.ts";
import { type Case, type StopReason, realDestination, stopFix } from "./case.ts";
import { endLabel, endsOf, type PlacedPacket } from "./correlate.ts";
import type { StopFix } from "../report.ts";
import { translatingRule } from "./rules.ts";
import { present } from "../../present.ts";

/** An answer on its way to the pod whose sender is not the one that the pod asked: nothing translated it back. */
export function untranslatedAnswer({ evidence, correlation }: Case): PlacedPacket | undefined {
  const { flow } = evidence;
  return correlation.back.find(({ packet, place, way }) => {
    const isDelivered = (place === "pod" && way === "in") || (place === "veth" && way === "out");
    const ends = endsOf(packet);
    if (!isDelivered || ends?.destination.address !== flow.source) return false;
    return (
      ends.source.address !== flow.destination ||
      (flow.destinationPort !== undefined && ends.source.port !== flow.destinationPort)
    );
  });
}

/** The pod has it, and none of its sockets asked that address. */
export function deliveredFromElsewhere(of: Case): StopReason | undefined {
  const answer = untranslatedAnswer(of);
  if (answer === undefined) return undefined;
  const { flow, survey } = of.evidence;
  const asked = endLabel(ends(flow.destination, flow.destinationPort), flow);
  const from = endLabel(endsOf(answer.packet)!.source, flow);
  const evidence = [{ source: `capture on ${answer.interface}`, lines: [answer.summary] }];
  const { bridge } = survey.node ?? {};
  const wasTranslated =
    realDestination(of) !== flow.destination || from.startsWith(`${realDestination(of)}:`);
  const isPastTheNode = !of.correlation.back.some(({ place }) => place === "bridge");
  if (bridge !== undefined && wasTranslated && isPastTheNode) {
    return {
      step: 8,
      code: "answer-from-elsewhere",
      reason: `it is answered, but from ${from}: a rule translated ${asked} to it, both pods are on ${bridge.name}, and its answer crosses the bridge without passing connection tracking, which would translate it back (hairpin)`,
      owner: "the rule that publishes the port: it lacks a masquerade for the bridge's own network",
      todo: `or let iptables see bridged packets: modprobe br_netfilter; sysctl -w net.bridge.bridge-nf-call-${flow.family === 4 ? "iptables" : "ip6tables"}=1`,
      fix: masquerade(of),
      evidence,
    };
  }
  return {
    step: 8,
    code: "answer-from-elsewhere",
    reason: `it is answered, but from ${from}: the pod asked ${asked}, and no socket of the pod accepts that`,
    owner: `the program at ${from}, or what translated it there`,
    todo: `the program must answer from the address that it was asked at (bind to it)`,
    evidence,
  };
}

function ends(address: string, port: number | undefined): { address: string; port?: number } {
  return present({ address, port });
}

/** What the pods of the bridge send to the server must come back by the node. */
function masquerade(of: Case): StopFix[] {
  const { flow, survey, rulesets } = of.evidence;
  const { destination } = of.correlation.outside ?? {};
  const own = survey.pod.addresses.find(({ address }) => address === flow.source);
  if (destination?.port === undefined || own === undefined || flow.destinationPort === undefined) return [];
  const network = cidrText(parseCidr(`${own.address}/${own.prefixLength}`, "keep"));
  if (!cidrContains(parseCidr(network), destination.address)) return [];
  const rule = translatingRule(of.outRules, rulesets, "destination")?.report;
  const isNft = rule !== undefined && !/^[A-Z]/.test(rule.chain);
  const v4 = flow.family === 4;
  const { protocol, destinationPort } = flow;
  if (!isNft) {
    const program = v4 ? "iptables" : "ip6tables";
    return stopFix(
      "node",
      command`${program} -t nat -A POSTROUTING -s ${network} -d ${destination.address} -p ${protocol} --dport ${destination.port} -m conntrack --ctorigdstport ${destinationPort} -j MASQUERADE`,
    );
  }
  const family = v4 ? "ip" : "ip6";
  const chain = `${family} hairpin post`;
  const ruleset = `add table ${family} hairpin; add chain ${chain} { type nat hook postrouting priority srcnat; }; add rule ${chain} ${family} saddr ${network} ${family} daddr ${destination.address} ${protocol} dport ${destination.port} ct original proto-dst ${destinationPort} masquerade`;
  return stopFix("node", command`nft ${ruleset}`);
}
