/** What our own rules drop, because the policy prefers that to another address. */
import { BACKENDS, isDropChain, NAT_BACKENDS } from "../../nat/backends/backends.ts";
import { intentsOfClaims } from "../../nat/claim.ts";
import { decisionOf } from "../../nat/decision.ts";
import { finding, ruleEvidence, type CheckContext } from "../check.ts";
import type { Evidence, Finding } from "../finding.ts";
import type { Decision } from "../predict/decision.ts";
import { ownerOfDecision } from "../whose.ts";

export function isOwnDrop({ table, chain, rule }: Decision): boolean {
  return rule !== undefined && isDropChain({ family: table.family, table: table.name }, chain.name);
}

export function dropped(context: CheckContext): Finding[] {
  const [stop] = context.stops("filtered").filter(({ stop: { by } }) => isOwnDrop(by));
  if (stop === undefined) return [];
  const { by } = stop.stop;
  const { sent } = context.path;
  const decision =
    sent === undefined
      ? undefined
      : decisionOf(claimed(by))(sent.source, sent.destination, () => context.path.outLink?.name);
  const wanted: readonly Evidence[] =
    decision === undefined
      ? []
      : [{ source: `what ${decision.owner} wants of ${decision.source.cidr}`, value: "drop" }];
  const whose = decision === undefined ? "an owner" : decision.owner;
  return [
    finding("nat-dropped", {
      text: `wayout drops what ${context.pod.name} sends outside, as ${whose} wants it${decision === undefined ? "" : ` of ${decision.source.cidr}`}`,
      owner: decision === undefined ? ownerOfDecision(by) : `wayout (${decision.owner})`,
      evidence: [...ruleEvidence(by), ...wanted],
      consequence: "it does not leave at all, for it would leave under another address than it shall",
      advice: [
        "`wayout nat explain` says whose wish it is; for a policy, its file says `drop: true`",
        "in a cluster, the address that the namespace asks for (wayout.dev/egress-address) must be granted to it and be on this node: `wayout history` says which of both is missing",
      ],
    }),
  ];
}

/** The intents that the table's own claims spell; none where they are kept elsewhere. */
function claimed({ table }: Decision) {
  const row = NAT_BACKENDS.map((name) => BACKENDS[name].table).find(
    (one) => one?.family === table.family && one.table === table.name,
  );
  const elements = table.sets.find(({ name }) => name === row?.claims)?.elements ?? [];
  return intentsOfClaims(elements.flatMap(({ comment }) => comment ?? []));
}
