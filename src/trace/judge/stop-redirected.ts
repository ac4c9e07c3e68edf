/** A rule gave the packet to a port of this very host, where nobody listens: its own kernel refused it. Pure. */
import { UNKNOWN_OWNER } from "../../naming/products.ts";
import { isLocal, staysInPod, type Case, type StopReason } from "./case.ts";
import { translationsOf, type SeenTranslation } from "./translation.ts";

/** What was asked for has refused nothing: the packet never was on its way there. */
export function isRefusedHere(of: Case): boolean {
  return redirection(of) !== undefined;
}

/** The stop of such a packet; undefined of any other. */
export function refusedHere(of: Case): StopReason | undefined {
  const found = redirection(of);
  if (found === undefined) return undefined;
  const { rule, after, evidence } = found;
  const [code, where] = staysInPod(of)
    ? (["ends-in-pod", "the pod itself"] as const)
    : (["ends-on-node", "the node itself"] as const);
  const whose = rule?.owner === undefined ? "" : ` (${rule.owner}'s)`;
  const by =
    rule === undefined
      ? "a rule"
      : `rule "${rule.text}" (handle ${rule.handle}) of chain ${rule.chain} in table ${rule.family} ${rule.table}${whose}`;
  return {
    step: 4,
    code,
    reason: `${by} redirects it to ${after}, ${where}, and nothing listens there: the connection is refused here`,
    todo: `start the program that is to listen at ${after} on ${where}, or except the pod from the rule`,
    owner: rule?.owner ?? UNKNOWN_OWNER,
    evidence,
    ...(rule === undefined ? {} : { rule }),
  };
}

/** The translation that led it to this host, where the host then refused it. */
function redirection(of: Case): SeenTranslation | undefined {
  const { exchange } = of.evidence;
  if (exchange?.state.kind !== "refused" || exchange.connected) return undefined;
  if (!isLocal(of) && !staysInPod(of)) return undefined;
  return translationsOf(of).find(({ end }) => end === "destination");
}
