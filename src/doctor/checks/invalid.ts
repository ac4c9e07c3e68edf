/** What becomes of packets that conntrack calls invalid. */
import { finding, type CheckContext, ruleEvidence } from "../check.ts";
import type { Finding } from "../finding.ts";
import type { Decision } from "../predict/decision.ts";
import { Flow } from "../predict/flow.ts";
import { runHook } from "../predict/hooks.ts";
import { Machine } from "../predict/machine.ts";
import { Oracle } from "../predict/oracle.ts";
import { firstPacket } from "../predict/packet.ts";
import { decisionText } from "../wording.ts";
import { ownerOfDecision } from "../whose.ts";
import { counterEvidence } from "./filter-cure.ts";
import { TCP_FLAG } from "../../linux/tcp.ts";

/** Packets that conntrack calls invalid came while the doctor looked: a rule drops them, or they pass untranslated. */
export function invalid(context: CheckContext): Finding[] {
  const readings = context.snapshot.node.conntrack?.readings ?? [];
  const [first] = readings;
  const last = readings.at(-1);
  const growth = first === undefined || last === undefined ? 0 : last.invalid - first.invalid;
  // Also when the readings are no numbers.
  if (!(growth > 0)) return [];
  const by = dropsInvalid(context);
  if (by === undefined) return context.path.translatedBy === undefined ? [] : [leaking(context, growth)];
  const { chain } = by;
  return [
    finding("invalid-dropped", {
      text: `“${decisionText(by)}” in ${chain.name} drops packets that conntrack calls invalid; ${growth} came while the doctor looked`,
      owner: ownerOfDecision(by),
      evidence: [
        ...ruleEvidence(by),
        ...counterEvidence(by),
        { source: "conntrack invalid", value: `+${growth}` },
      ],
      consequence: "connections stall or break off now and then",
      fix: [context.setSysctl("node", "net.netfilter.nf_conntrack_tcp_be_liberal", "1")],
      confidence: "possible",
    }),
  ];
}

function leaking(context: CheckContext, growth: number): Finding {
  return finding("invalid-leaks", {
    text: `conntrack called ${growth} packets invalid while the doctor looked, and no rule drops such packets: they pass untranslated`,
    owner: "the node's rules",
    evidence: [
      { source: "conntrack invalid", value: `+${growth}` },
      { source: "rules with ct state invalid drop", value: "none" },
    ],
    consequence: "the other side sees packets from addresses it does not know, and resets connections",
    fix: [context.setSysctl("node", "net.netfilter.nf_conntrack_tcp_be_liberal", "1")],
    advice: ["or drop them in the forward chain: ct state invalid drop"],
    confidence: "possible",
  });
}

/**
 * The rule that drops what the pod sends when conntrack calls it invalid, and has seen some where it counts: a packet
 * from the middle of a connection is led through the chains once as one of a known connection, once as one of none.
 */
export function dropsInvalid(context: CheckContext): Decision | undefined {
  const known = new Set(dropped(context, true).map(({ rule }) => rule));
  return dropped(context, false).find(
    (by) => by.rule !== undefined && !known.has(by.rule) && hasDroppedSome(by.rule),
  );
}

function dropped({ path, node, family }: CheckContext, isKnown: boolean): Decision[] {
  const { sent, inLink, outLink } = path;
  if (sent === undefined || inLink === undefined || outLink === undefined) return [];
  const tuple = { ...sent, protocol: "tcp" } as const;
  const packet = { ...firstPacket(family, tuple), tcpFlags: TCP_FLAG.ack, reply: true, iif: inLink.name };
  const flow = isKnown ? new Flow(tuple) : undefined;
  const machine = new Machine(node.view, new Oracle(), packet, undefined, "", flow);
  const arrived = runHook(machine, node.hooks, "prerouting");
  machine.packet = { ...machine.packet, oif: outLink.name };
  const forwarded = runHook(machine, node.hooks, "forward");
  return [...arrived.stops, ...forwarded.stops].map(({ by }) => by);
}

function hasDroppedSome({ expressions }: NonNullable<Decision["rule"]>): boolean {
  const counter = expressions.find((one) => one.kind === "counter");
  return counter === undefined || counter.packets > 0;
}
