/** It left the node, and no answer came. */
import { command } from "../../text/command.ts";
import { cidrContains, parseCidr } from "../../address/cidr.ts";
import { summaryOf } from "../../linux/packet/packet.ts";
import { type Case, type Verdict, isNodeAddress } from "./case.ts";
import { tooBig } from "./causes.ts";

export function stoppedOutside(of: Case): Verdict {
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

function isPrivate(address: string): boolean {
  return PRIVATE.some((cidr) => cidrContains(cidr, address));
}

/** The connection stands, and the request over it was not answered: small packets pass, perhaps larger ones do not. */
export function requestUnanswered(of: Case): Verdict {
  const { exchange, flow, survey } = of.evidence;
  const big = tooBig(of);
  if (big !== undefined) return big;
  const mtu = survey.pod.link?.mtu ?? 1500;
  const header = flow.family === 4 ? 28 : 48;
  const said = exchange?.state.kind === "failed" ? `: ${exchange.state.said}` : "";
  const whole = command`wayout trace ${survey.pod.name} ${flow.destination} --proto icmp --size ${mtu - header}`;
  return {
    step: 7,
    code: "request-unanswered",
    reason: `the connection was made, and ${flow.destination} did not answer the request within ${exchange?.timeoutMs} ms${said}`,
    todo: `is the server slow (--timeout)? Do full packets pass?${whole === undefined ? "" : ` ${whole}`}`,
  };
}
