/** Translation that works, and will surprise its users. */
import { chainText } from "../../linux/nftables/text/place.ts";
import { command } from "../../text/command.ts";
import { isPrivateAddress } from "../../address/special-purpose.ts";
import type { Expression } from "../../linux/nftables/expressions.ts";
import type { Table } from "../../linux/nftables/ruleset.ts";
import { ownerOf } from "../../rules/owner.ts";
import { decisionPlace } from "../wording.ts";
import { ownerOfDecision } from "../whose.ts";
import { nearest } from "./nat-candidates.ts";
import { anywhere, finding, ofNode, type CheckContext, ruleEvidence } from "../check.ts";
import type { Finding } from "../finding.ts";

export function natWarnings(context: CheckContext): Finding[] {
  return [...twice(context), ...againstExclusion(context), ...ofTheNode(context)];
}

const ofTheNode = ofNode((context) => [...marks(context), ...backends(context), ...longChains(context)]);

/** The pod's own namespace translated already. */
function twice(context: CheckContext): Finding[] {
  const inPod = context.path.steps.find(
    (step) => step.place === "pod" && step.at === "postrouting" && step.by !== undefined,
  );
  if (inPod === undefined || context.path.translatedBy === undefined) return [];
  return [
    finding("nat-double", {
      text: `the source is translated in ${context.pod.name} and again on the node`,
      owner: "both",
      evidence: [
        { source: `in ${context.pod.name}`, value: inPod.tuple.source },
        { source: "on the node", value: context.path.left?.source ?? "" },
      ],
      consequence: "what the node sees is no longer the pod's address",
      advice: ["remove one of the two"],
    }),
  ];
}

/**
 * One agent leaves an internal destination alone, another translates it all the same: an accept or return ends only the
 * agent's own chain.
 */
function againstExclusion(context: CheckContext): Finding[] {
  const { path } = context;
  const { translatedBy, left } = path;
  if (translatedBy?.rule === undefined || left === undefined || path.end !== "outside") return [];
  if (!isPrivateAddress(left.destination)) return [];
  const translator = ownerOfDecision(translatedBy);
  for (const { misses, unreachable, before, table, rule } of nearest(context)) {
    if (misses.length > 0 || unreachable !== undefined || before === undefined) continue;
    if (rule === translatedBy.rule || !/\b(?:daddr|dst)\b|(?:^| )-d /.test(before.text)) continue;
    const excluding = { table, chain: before.chain, base: before.chain as never, rule: before.rule };
    const owner = ownerOfDecision(excluding);
    if (owner === translator) continue;
    return [
      finding("nat-against-exclusion", {
        text: `${owner} leaves ${left.destination} untranslated, and ${translator} translates it all the same`,
        owner: translator,
        evidence: [
          { source: decisionPlace(excluding), value: before.text },
          ...ruleEvidence(translatedBy),
          { source: "source of the packet as it leaves", value: left.source },
        ],
        consequence: `${left.destination} sees ${left.source} instead of the pod's address`,
        advice: [`exclude ${left.destination} from ${translator}'s translation, too`],
        confidence: "likely",
      }),
    ];
  }
  return [];
}

/** Bits that a product sets in the packet mark to ask for translation. */
function marks(context: CheckContext): Finding[] {
  const users = new Map<number, Set<string>>();
  for (const table of context.node.hooks.tables) {
    for (const chain of table.chains) {
      // Whose chain it is says the chain alone: rules of nobody's chains need not be looked at.
      const place = { family: table.family, table: table.name, chain: chain.name, text: "" };
      const product = ownerOf(place)?.product;
      if (product === undefined) continue;
      for (const rule of chain.rules) {
        const bit = singleBit(rule.expressions);
        if (bit === undefined) continue;
        const set = users.get(bit) ?? new Set();
        set.add(product);
        users.set(bit, set);
      }
    }
  }
  return [...users].flatMap(([bit, products]) =>
    products.size < 2
      ? []
      : [
          finding("nat-mark-collision", {
            text: `${[...products].join(" and ")} both use bit 0x${bit.toString(16)} of the packet mark`,
            owner: [...products].join(", "),
            evidence: [
              { source: "ruleset", value: `mark 0x${bit.toString(16)}: ${[...products].join(", ")}` },
            ],
            consequence: "packets that one product marks are translated by the other",
            advice: ["give one of them another bit in its configuration"],
            confidence: "likely",
          }),
        ],
  );
}

/** `meta mark & 0x2000 == 0x2000`: the bit, when the rule asks for exactly one. */
function singleBit(expressions: readonly Expression[]): number | undefined {
  for (const [index, one] of expressions.entries()) {
    const mask = expressions[index + 1];
    if (one.kind !== "meta" || one.key !== "mark" || one.dreg === undefined || mask?.kind !== "bitwise")
      continue;
    const bytes = Buffer.from(mask.mask ?? "", "hex");
    if (bytes.length !== 4) continue;
    const value = bytes.readUInt32LE();
    if (value !== 0 && (value & (value - 1)) === 0) return value;
  }
  return undefined;
}

function backends(context: CheckContext): Finding[] {
  const holds = (table: Table): boolean =>
    table.chains.some((chain) => chain.rules.length > 0 || chain.base?.policy === "drop");
  // Listing an empty table of iptables-legacy makes it: that alone is nobody's rule.
  const legacy = context.snapshot.node.legacy.filter(holds);
  const others = (context.snapshot.node.ruleset?.tables ?? []).filter(holds);
  if (legacy.length === 0 || others.length === 0) return [];
  return [
    finding("nat-two-backends", {
      text: "iptables-legacy and nf_tables both hold rules on this node",
      owner: "the node's administrator",
      evidence: [
        {
          source: "iptables-legacy",
          value: legacy.map((table) => `${table.family} ${table.name}`).join(", "),
        },
        { source: "nf_tables", value: others.map((table) => `${table.family} ${table.name}`).join(", ") },
      ],
      consequence: "both decide about every packet; the tools of one do not show the other's rules",
      fix: [anywhere(command`update-alternatives --config iptables`)],
    }),
  ];
}

/** With so many rules in front of it a new flow costs about twice as much as with one. */
const LONG_CHAIN = 500;

/** Chains hooked to postrouting themselves: those that they jump to are seldom gone through as a whole. */
function longChains(context: CheckContext): Finding[] {
  return context.node.hooks.tables.flatMap((table) =>
    table.chains.flatMap((chain) => {
      const { base, rules } = chain;
      if (base?.type !== "nat" || base.hook !== "postrouting" || rules.length < LONG_CHAIN) return [];
      const last = { table, chain, base: chain as never, rule: rules.at(-1)! };
      return [
        finding("nat-long-chain", {
          text: `${chain.name} of ${table.family} ${table.name} has ${rules.length} rules, and each new connection meets them one by one`,
          owner: ownerOfDecision(last),
          evidence: [
            { source: `rules of ${chainText(table, chain)}`, value: String(rules.length) },
            ...ruleEvidence(last),
          ],
          consequence: "new connections and changes of the rules take longer with each container",
          advice: [
            "a plugin that keeps addresses in sets and maps; the plugin's GC, when containers are gone",
          ],
          confidence: "likely",
        }),
      ];
    }),
  );
}
