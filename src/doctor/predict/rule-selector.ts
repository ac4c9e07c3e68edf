/** The selectors of a policy-routing rule (`ip rule`) that look into the transport header, and its text. */
import { routingTableText } from "../../linux/route/constants.ts";
import type { NumberRange, PolicyRule } from "../../linux/route/rule.ts";

/** Whether a rule's ipproto, uidrange, sport and dport accept the packet (fib_rule_match of net/ipv4/fib_rules.c). */
export function protocolMatches(
  rule: PolicyRule,
  packet: {
    readonly protocol?: number;
    readonly uid?: number;
    readonly sourcePort?: number;
    readonly destinationPort?: number;
  },
): boolean {
  if (rule.ipProtocol !== undefined && rule.ipProtocol !== packet.protocol) return false;
  if (!within(rule.uids, packet.uid ?? 0)) return false;
  return within(rule.sourcePorts, packet.sourcePort) && within(rule.destinationPorts, packet.destinationPort);
}

function within(range: NumberRange | undefined, port: number | undefined): boolean {
  if (range === undefined) return true;
  return port !== undefined && port >= range.first && port <= range.last;
}

/** `5270: from all fwmark 0x80000 lookup 52`, as `ip rule` prints it. */
export function policyRuleText(rule: PolicyRule): string {
  const parts = [`${rule.priority}:`];
  if (rule.invert === true) parts.push("not");
  parts.push("from", rule.source ?? "all");
  if (rule.destination !== undefined) parts.push("to", rule.destination);
  if (rule.inputInterface !== undefined) parts.push("iif", rule.inputInterface);
  if (rule.outputInterface !== undefined) parts.push("oif", rule.outputInterface);
  if (rule.tos !== undefined) parts.push("tos", `0x${rule.tos.toString(16)}`);
  if (rule.mark !== undefined) {
    const mask = rule.mask === undefined || rule.mask === 0xffff_ffff ? "" : `/0x${rule.mask.toString(16)}`;
    parts.push("fwmark", `0x${rule.mark.toString(16)}${mask}`);
  }
  if (rule.uids !== undefined) parts.push("uidrange", `${rule.uids.first}-${rule.uids.last}`);
  if (rule.ipProtocol !== undefined) parts.push("ipproto", String(rule.ipProtocol));
  if (rule.sourcePorts !== undefined) parts.push("sport", rangeText(rule.sourcePorts));
  if (rule.destinationPorts !== undefined) parts.push("dport", rangeText(rule.destinationPorts));
  if (rule.action === "table") {
    parts.push("lookup", routingTableText(rule.table));
  } else if (rule.action === "goto") parts.push("goto", String(rule.goto));
  else parts.push(rule.action);
  if (rule.suppressPrefixLength !== undefined) {
    parts.push("suppress_prefixlength", String(rule.suppressPrefixLength));
  }
  return parts.join(" ");
}

function rangeText({ first, last }: NumberRange): string {
  return first === last ? String(first) : `${first}-${last}`;
}
