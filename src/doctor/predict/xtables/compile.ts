/** Matches and targets made ready to run: the structure is read once a family, its value judged for every packet. */
import type { ExpressionKinded } from "../../../linux/nftables/expressions.ts";
import type { XtDescription } from "../../../linux/xtables/describe.ts";
import { decodeExtension } from "../../../linux/xtables/extension.ts";
import { decide } from "../comparisons.ts";
import { BREAK, CONTINUE, type Step, type StepResult } from "../machine.ts";
import type { Judge } from "./judge.ts";
import * as matches from "./matches.ts";
import * as targets from "./targets.ts";

type Compat = ExpressionKinded<"match"> | ExpressionKinded<"target">;

export function compileMatch(expression: ExpressionKinded<"match">): Step {
  return compile(expression, matches.judgeOf, (matched) => (matched ? CONTINUE : BREAK));
}

export function compileTarget(expression: ExpressionKinded<"target">): Step {
  // The targets that every iptables has built in.
  if (expression.name === "DROP") return () => ({ verdict: "drop" });
  return compile(expression, targets.judgeOf, (result) => result);
}

/** Equal structures of both families are one expression, and are not read alike. */
function compile<R>(
  expression: Compat,
  judgeOf: (description: XtDescription<unknown>) => Judge<unknown, R> | undefined,
  outcome: (result: R) => StepResult,
): Step {
  const { kind, name, revision } = expression;
  const prepared: Partial<Record<4 | 6, Step>> = {};
  const prepare = (family: 4 | 6): Step => {
    const bytes = Uint8Array.from(Buffer.from(expression.info, "hex"));
    const context = { family: family === 4 ? "ip" : "ip6" } as const;
    const { understood } = decodeExtension(kind, name, revision, bytes, context);
    const judge = understood === undefined ? undefined : judgeOf(understood.description);
    if (understood === undefined || judge === undefined) {
      const about = `xtables ${kind} ${name} (revision ${revision}), which this version does not know`;
      return (machine) => decide(machine, about);
    }
    return (machine) => outcome(judge(machine, understood.value));
  };
  return (machine) => (prepared[machine.packet.family] ??= prepare(machine.packet.family))(machine);
}
