/** The pod's rules ask who sends: what root's packet shows does not hold for the program that runs as somebody else. */
import type { PodState } from "../../snapshot/snapshot.ts";
import { predictPath } from "../predict/predict.ts";
import { policyRuleText } from "../predict/rule-selector.ts";
import { preparedNamespace } from "../predict/walk.ts";
import type { Sender } from "../predict/machine.ts";
import { finding, ruleEvidence, type CheckContext } from "../check.ts";
import type { Evidence, Finding } from "../finding.ts";
import { stopText } from "../stop-text.ts";
import { statelessText } from "../wording.ts";
import { ownerOfDecision } from "../whose.ts";

/** So many users are followed. */
const MOST_SENDERS = 6;

/** Only where root's packet gets through: what stops that one is told by itself, and stops most others as well. */
export function otherSenders(context: CheckContext): Finding[] {
  const { snapshot, pod, target, path, inside } = context;
  if (target.sender !== undefined || path.stops.length > 0 || path.end === "unknown") return [];
  if (inside === undefined) return [];
  for (const sender of sendersIn(pod)) {
    const { path: theirs } = predictPath(snapshot, pod, { ...target, sender });
    const [stop] = theirs.stops;
    if (stop === undefined) continue;
    const by = stop.kind === "filtered" ? stop.stop.by : undefined;
    const who = `a process of user ${sender.uid}`;
    return [
      finding("other-senders-fail", {
        text: `rules of ${pod.name} ask who sends: root's packets pass, and what ${who} sends there does not: ${stopText(stop)}`,
        owner: by === undefined ? "the rules of the pod" : ownerOfDecision(by),
        evidence: [...ruleEvidence(by), ...askingRules(context, sender)],
        consequence: "what a person tries as root works, and the program fails",
        advice: [
          `as which user does the program run (id -u)? Except that one in the rule, or run the program as one that may`,
        ],
        confidence: "possible",
      }),
    ];
  }
  return [];
}

/** Where a rule's text names users or groups: `--uid-owner 1000-1999`, `meta skuid != { 0, 1337 }`. */
const WHO = /(?:--[ug]id-owner|\bsk[ug]id)\s+(?:!=\s+|==\s+)?(\{[^}]*\}|[\d-]+)/g;
const IDS = /(\d+)(?:-(\d+))?/g;

/** Every user or group that the pod's rules name, and one that they do not. */
function sendersIn({ state }: PodState): Sender[] {
  if (state === undefined) return [];
  const named = preparedNamespace(state).hooks.tables.flatMap((table) =>
    table.chains.flatMap((chain) =>
      chain.rules.flatMap((rule) =>
        [...statelessText(rule, table).matchAll(WHO)]
          .flatMap(([, who = ""]) => [...who.matchAll(IDS)])
          .flatMap(([, first, last = first]) => [Number(first), Number(last) + 1]),
      ),
    ),
  );
  const routed = state.rules.flatMap(({ uids }) => (uids === undefined ? [] : [uids.first, uids.last + 1]));
  const ids = new Set([...named, ...routed].filter((id) => id > 0 && id < 0xffff_ffff));
  return [...ids].slice(0, MOST_SENDERS).map((id) => ({ uid: id, gid: id }));
}

/** The rules that make the difference. */
function askingRules({ pod, inside }: CheckContext, { uid }: Sender): Evidence[] {
  const rules = inside!.view.state.rules.filter(
    ({ uids }) => uids !== undefined && uid >= uids.first && uid <= uids.last,
  );
  return rules.map((rule) => ({ source: `ip rule in ${pod.name}`, value: policyRuleText(rule) }));
}
