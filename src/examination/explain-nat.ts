/**
 * What will become of a packet's source address, before one is sent: what our owners want of it, by which prefix and from
 * which line of a file, and, for a pod of this node, what all the node's rules will do with it.
 */
import { familyOf, canonicalIp, ipFamily, isIp } from "../address/ip.ts";
import { ownerOfDecision } from "../doctor/whose.ts";
import { placeText } from "../linux/nftables/text/place.ts";
import { predictPath } from "../doctor/predict/predict.ts";
import type { Diagnosis } from "../doctor/diagnose.ts";
import { tupleText } from "../doctor/predict/packet.ts";
import { WayoutError } from "../error.ts";
import type { NetworkNamespace } from "../kernel/namespace.ts";
import { Rtnetlink } from "../kernel/route/rtnetlink.ts";
import { translationText } from "../nat/claim.ts";
import { decisionOf, type NatDecision } from "../nat/decision.ts";
import { allIntents } from "../nat/installed.ts";
import { NEVER_TRANSLATED, type NatIntent } from "../nat/intent.ts";
import { FROM_NODE } from "../nat/segment.ts";
import { findPod } from "../pods/find.ts";
import type { FilePlace, WrittenPolicy } from "../policy/place-in-file.ts";
import { POLICY_OWNER } from "../policy/policy.ts";
import { examine } from "./examine.ts";
import { present } from "../present.ts";

export interface NatQuestion {
  /** An address, or a pod as a person names it. */
  readonly source: string;
  readonly destination: string;
  /** tcp, udp or icmp; tcp when absent. */
  readonly protocol?: string;
  readonly port?: string;
  readonly node: NetworkNamespace;
  /** A policy that is to be judged instead of the one that is in force. */
  readonly policy?: NatIntent;
  /** The text in which the policy stands. */
  readonly written?: WrittenPolicy;
}

/** `translated`, `kept` (with its own address, as an owner wants it), `dropped`, or `none`: no owner of ours speaks of it. */
export interface WantedNat {
  readonly decision: "translated" | "kept" | "dropped" | "none";
  /** In one sentence. */
  readonly text: string;
  /** As whom: `masquerade fully-random`, `snat 203.0.113.9`. */
  readonly as?: string;
  /** The owner and the prefix around the source that decide. */
  readonly by?: { readonly owner: string; readonly cidr: string; readonly written?: FilePlace };
  /** What leaves the destination untranslated; without an owner nobody ever translates it (multicast, broadcast). */
  readonly kept?: { readonly owner?: string; readonly cidr: string; readonly written?: FilePlace };
  /** By which interface the source's packets come to the node. */
  readonly entersBy?: string;
  /** The source is an address of the node: it sends them itself. */
  readonly fromNode?: true;
  readonly leavesBy?: string;
}

/** What the rules of everybody will do, from a pod of this node. */
export interface ForeseenNat {
  readonly pod: string;
  readonly sent?: string;
  readonly left?: string;
  /** Who translates it. */
  readonly by?: { readonly place: string; readonly owner: string };
  readonly answer: string;
  readonly findings: readonly { readonly code: string; readonly text: string; readonly owner: string }[];
  readonly certain: boolean;
}

export interface NatExplanation {
  readonly source: string;
  readonly destination: string;
  readonly wanted: WantedNat;
  /** Absent where the source is no pod of this node. */
  readonly foreseen?: ForeseenNat;
}

/** @throws WayoutError `unknown-pod`, `not-an-address`, `no-privilege` */
export function explainNat(question: NatQuestion): NatExplanation {
  const destination = canonicalIp(question.destination);
  const seen = foreseen(question, destination);
  const source = isIp(question.source) ? canonicalIp(question.source) : seen?.source;
  if (source === undefined || ipFamily(source) !== ipFamily(destination)) {
    throw new WayoutError({
      code: "no-source-address",
      kind: "usage",
      doing: `explaining the translation of packets from ${question.source} to ${destination}`,
      said:
        source === undefined
          ? "it sends none there: it has no address of that family, or no route"
          : "one is IPv4 and the other IPv6",
      todo: "Name two addresses of one family.",
    });
  }
  const wanted = wantedOf(question, source, destination);
  return present({ source, destination, wanted, foreseen: seen?.foreseen });
}

function wantedOf({ node, policy, written }: NatQuestion, source: string, destination: string): WantedNat {
  using route = Rtnetlink.open(node);
  const interfaceTo = (address: string): string | undefined => {
    const answer = route.routeTo({ destination: address });
    const index = answer.reachable ? answer.route.interface : undefined;
    return index === undefined ? undefined : route.link(index)?.name;
  };
  const installed = allIntents(node);
  const intents =
    policy === undefined ? installed : [...installed.filter(({ owner }) => owner !== POLICY_OWNER), policy];
  const isOwn = route.addresses().some(({ address }) => address === source);
  // Where its answers are sent, there its packets come from.
  const entersBy = isOwn ? undefined : interfaceTo(source);
  const leavesBy = interfaceTo(destination);
  const decision = decisionOf(intents)(source, destination, () => (isOwn ? FROM_NODE : entersBy));
  return {
    ...judged(decision, leavesBy, source, destination, written),
    ...present({ entersBy, fromNode: isOwn ? (true as const) : undefined, leavesBy }),
  };
}

function judged(
  decision: NatDecision | undefined,
  leavesBy: string | undefined,
  source: string,
  destination: string,
  written: WrittenPolicy | undefined,
): WantedNat {
  if (decision === undefined) {
    return {
      decision: "none",
      text: `none of wayout's rules is about packets from ${source}`,
    };
  }
  const { owner, source: deciding, kept } = decision;
  const at = (whose: string, place: () => FilePlace | undefined): { readonly written?: FilePlace } => {
    const found = whose === POLICY_OWNER ? place() : undefined;
    return present({ written: found });
  };
  const by = { owner, cidr: deciding.cidr, ...at(owner, () => written?.around(source, "sources")) };
  if (kept !== undefined) {
    const always = [...NEVER_TRANSLATED[4], ...NEVER_TRANSLATED[6]].includes(kept.cidr as never);
    const text = always
      ? `${kept.cidr} is never translated`
      : `${kept.owner} leaves ${kept.cidr} untranslated`;
    const place = at(kept.owner, () => written?.around(destination, "nonMasqueradeCIDRs"));
    return {
      decision: "kept",
      text: `it keeps its own address: ${text}`,
      by,
      kept: { cidr: kept.cidr, ...(always ? {} : { owner: kept.owner, ...place }) },
    };
  }
  const { outInterfaces } = deciding;
  if (outInterfaces !== undefined && (leavesBy === undefined || !outInterfaces.includes(leavesBy))) {
    const way = leavesBy === undefined ? "and there is no route" : `and it leaves by ${leavesBy}`;
    const does = decision.dropped === true ? "drops" : "translates";
    return {
      decision: "kept",
      text: `it keeps its own address: ${owner} ${does} ${deciding.cidr} by ${outInterfaces.join(", ")} only, ${way}`,
      by,
    };
  }
  if (decision.dropped === true)
    return { decision: "dropped", text: `it is dropped, as ${owner} wants of ${deciding.cidr}`, by };
  const as = translationText(deciding.translation);
  return {
    decision: "translated",
    text: `it is translated: ${as}, as ${owner} wants of ${deciding.cidr}`,
    as,
    by,
  };
}

/** undefined where the source is an address that no pod of this node has. */
function foreseen(
  { source, protocol = "tcp", port, node }: NatQuestion,
  destination: string,
): { readonly foreseen: ForeseenNat; readonly source: string | undefined } | undefined {
  if (isIp(source) && !isPods(source)) return undefined;
  const host = familyOf(destination) === 6 ? `[${destination}]` : destination;
  const { snapshot, diagnoses } = examine({
    pod: source,
    to: port === undefined ? host : `${host}:${port}`,
    protocol,
    node: node.path,
    silent: true,
  });
  const diagnosis = diagnoses[0]!;
  const pod = snapshot.pods.find(({ name }) => name === diagnosis.pod)!;
  const { path } = predictPath(snapshot, pod, diagnosis.target);
  return { foreseen: foreseenOf(diagnosis, path), source: path.sent?.source };
}

function foreseenOf(
  { pod, answer, findings, certain }: Diagnosis,
  { sent, left, translatedBy }: ReturnType<typeof predictPath>["path"],
): ForeseenNat {
  return present({
    pod,
    sent: sent === undefined ? undefined : tupleText(sent),
    left: left === undefined ? undefined : tupleText(left),
    by:
      translatedBy === undefined
        ? undefined
        : {
            place: placeText(translatedBy.table, translatedBy.chain, translatedBy.rule),
            owner: ownerOfDecision(translatedBy),
          },
    answer,
    findings: findings.map(({ code, text, owner }) => ({ code, text, owner })),
    certain,
  });
}

function isPods(address: string): boolean {
  try {
    findPod(address);
    return true;
  } catch (error) {
    if (error instanceof WayoutError && error.code === "unknown-pod") return false;
    throw error;
  }
}
