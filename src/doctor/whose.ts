/** Whose a rule is, in words. */
import { UNKNOWN_OWNER, type Owner } from "../naming/products.ts";
import { ownerOf } from "../rules/owner.ts";
import { commentOf } from "../rules/rule-comment.ts";
import type { Decision } from "./predict/decision.ts";
import { decisionText, statelessText } from "./wording.ts";
import { present } from "../present.ts";

/** The product that made the deciding rule, or whose chain or table it stands in; undefined where no product is known. */
export function productOfDecision({ table, chain, rule }: Decision): Owner | undefined {
  const { family, name } = table;
  if (rule !== undefined) {
    const target = jumpTarget(rule.expressions);
    const comment = commentOf(rule);
    const owner = ownerOf(
      present({
        family,
        table: name,
        chain: chain.name,
        text: statelessText(rule, table),
        target,
        comment,
      }),
    );
    if (owner !== undefined) return owner;
  }
  const ofChain = ownerOf({ family, table: name, chain: chain.name, text: "" });
  return ofChain ?? (rule === undefined ? undefined : endOfFirewalld({ table, chain }));
}

/** firewalld ends the kernel's own chains with rules that nothing marks as its own, behind the jumps to its zones. */
function endOfFirewalld({ table, chain }: Pick<Decision, "table" | "chain">): Owner | undefined {
  const jumps = chain.base === undefined ? [] : chain.rules.map((one) => jumpTarget(one.expressions) ?? "");
  const owned = jumps.some(
    (target) =>
      target !== "" &&
      ownerOf({ family: table.family, table: table.name, chain: target, text: "" })?.product === "firewalld",
  );
  return owned ? { product: "firewalld", confidence: "likely" } : undefined;
}

/** The product that made the deciding rule; for a policy, the one whose chains fill the table. */
export function ownerOfDecision(by: Decision): string {
  const { table, rule } = by;
  const owner = productOfDecision(by);
  if (owner !== undefined) return ownerText(owner);
  if (rule !== undefined) return UNKNOWN_OWNER;
  const { family, name } = table;
  const products = new Set(
    table.chains.flatMap((one) => ownerOf({ family, table: name, chain: one.name, text: "" })?.product ?? []),
  );
  return products.size === 0 ? "the administrator" : `${[...products].join(" or ")}, or the administrator`;
}

/** `Docker's rule “…”`, `the rule “…”`. */
export function ruleOfOwner(by: Decision): string {
  return `${ruleOf(ownerOfDecision(by))} “${decisionText(by)}”`;
}

/** @param owner as ownerOfDecision has it */
export function ruleOf(owner: string): string {
  if (owner === UNKNOWN_OWNER) return "the rule";
  return owner.endsWith(")") || owner.includes(",") ? `${owner}: the rule` : `${owner}'s rule`;
}

function ownerText(owner: Owner): string {
  const detail = owner.detail === undefined ? "" : ` (${owner.detail})`;
  return `${owner.product}${detail}${owner.confidence === "likely" ? ", likely" : ""}`;
}

function jumpTarget(expressions: NonNullable<Decision["rule"]>["expressions"]): string | undefined {
  for (const expression of expressions) {
    if (expression.kind === "immediate" && "chain" in expression.data) return expression.data.chain;
  }
  return undefined;
}
