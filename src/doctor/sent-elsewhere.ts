/** A rule of the node gave the packet another destination: what befalls it on the way there is told as that. */
import { UNKNOWN_OWNER } from "../naming/products.ts";
import { catalogueEntry } from "../causes/catalogue/all.ts";
import type { Evidence, Finding } from "./finding.ts";
import type { Prediction } from "./predict/path.ts";
import { decisionPlace, decisionText } from "./wording.ts";
import { serviceOf } from "./checks/service.ts";
import { ownerOfDecision } from "./whose.ts";
import { present } from "../present.ts";

/** What is asked for, and where a rule sends it instead. As plain data: it stands in the diagnosis. */
export interface SentElsewhere {
  /** `203.0.113.55:3128`; where several are possible, one of them. */
  readonly to: string;
  readonly place: string;
  readonly rule: string;
  readonly chain: string;
  readonly owner: string;
  /** The Kubernetes Service for which the rule stands. */
  readonly service?: string;
}

export function sentElsewhere({ redirected }: Prediction): SentElsewhere | undefined {
  if (redirected === undefined) return undefined;
  const { by, to } = redirected;
  const service = serviceOf(by);
  return present({
    service,
    to,
    place: decisionPlace(by),
    rule: decisionText(by),
    chain: by.chain.name,
    owner: ownerOfDecision(by),
  });
}

/** The finding of the tables, with the rule because of which the packet got there at all. */
export function withRule(
  found: Finding,
  elsewhere: SentElsewhere | undefined,
  { stops, left }: Pick<Prediction, "stops" | "left">,
): Finding {
  const isSilent = stops.some(
    (stop) => stop.kind === "neighbour-failed" && stop.address === left?.destination,
  );
  if (elsewhere !== undefined && isSilent && found.code === "uplink-gateway-unresolved") {
    return metElsewhere(found, elsewhere, undefined);
  }
  if (elsewhere === undefined || !found.stopsTraffic || catalogueEntry(found.code).step === "dns")
    return found;
  if (found.evidence.some((one) => one.source === elsewhere.place)) return found;
  return { ...found, evidence: [...found.evidence, evidence(elsewhere, elsewhere.to)] };
}

/**
 * What a real packet met behind the rule.
 * @param seen where that packet really went, where it was seen: of several destinations the rules choose one at random
 */
export function metElsewhere(found: Finding, elsewhere: SentElsewhere, seen: string | undefined): Finding {
  const to = seen ?? elsewhere.to;
  const same = to === elsewhere.to;
  const { service, owner } = elsewhere;
  const known = owner === UNKNOWN_OWNER ? [] : [owner];
  const whose = [...known, ...(service === undefined ? [] : [`for Service ${service}`])].join(", ");
  const by = `${same ? `“${elsewhere.rule}”` : `rules like ${elsewhere.chain}'s`}${whose === "" ? "" : ` (${whose})`}`;
  return {
    ...found,
    owner: owner === UNKNOWN_OWNER ? found.owner : owner,
    text: `${by} ${same ? "sends" : "send"} it to ${to}, and ${found.text}`,
    evidence: [...found.evidence, evidence(elsewhere, same ? to : `${elsewhere.to} and others`)],
    advice: [
      `see whether ${to} is up and whether the rule should send it there; or except the pod from the rule`,
    ],
  };
}

function evidence({ place, rule }: SentElsewhere, to: string): Evidence {
  return { source: `sent to ${to} by ${place}`, value: rule };
}
