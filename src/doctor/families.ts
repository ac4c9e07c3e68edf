/**
 * The way to "the internet" when nobody named a destination: over IPv4 and, where the pod was given one, over IPv6 as
 * well, told as one diagnosis.
 */
import { DEFAULT_CIDR, familyOf } from "../address/ip.ts";
import type { PodState, Snapshot } from "../snapshot/snapshot.ts";
import { ANYWHERE } from "./anywhere.ts";
import { diagnose, type ChecklistLine, type Diagnosis, type StepStatus } from "./diagnose.ts";
import type { Finding } from "./finding.ts";
import { hopsOf, isDefaultRoute } from "./predict/fib.ts";
import { predictPath } from "./predict/predict.ts";
import { linkRoute, withChanges } from "./remedy/change.ts";
import { preparedNamespace } from "./predict/walk.ts";
import { targetText } from "./wording.ts";

/** A pod's way out, whatever families it has. */
export function diagnoseAnywhere(snapshot: Snapshot, pod: PodState): Diagnosis {
  const global = pod.state?.addresses.filter((one) => one.scope === "global") ?? [];
  const has = (family: 4 | 6): boolean => global.some((one) => one.family === family);
  const first = ofEveryLeg(diagnose(snapshot, pod, ANYWHERE[4]));
  if (has(6) && !has(4) && !lostAddress(first)) return ofEveryLeg(diagnose(snapshot, pod, ANYWHERE[6]));
  // Without an own way out over IPv6 neither the pod, nor its record, nor its node promises one.
  const isGiven6 = has(6) ? hasDefault6(pod.state?.routes) : isPromised6(pod);
  if (!isGiven6 || !(nodeHas6(snapshot) || lacksOnlyRoute6(snapshot, pod))) return first;
  const second = ofEveryLeg(diagnose(snapshot, pod, ANYWHERE[6]));
  return merged(first, isInternalOnly(second) ? unimportant(second) : second);
}

/** The address that stands for all takes one leg of a multipath route; others that are asked for take the other ones. */
function ofEveryLeg(diagnosis: Diagnosis): Diagnosis {
  const leg = diagnosis.findings.find((one) => one.code === "leg-fails");
  if (leg === undefined || !diagnosis.healthy) return diagnosis;
  const failing: Finding = {
    ...leg,
    stopsTraffic: true,
    severity: "error",
    consequence: "some destinations are reached and others are not, by a hash of the addresses",
  };
  return {
    ...diagnosis,
    healthy: false,
    answer: `${diagnosis.pod} reaches some destinations and not others: ${leg.text}`,
    findings: [failing, ...diagnosis.findings.filter((one) => one !== leg)],
    checklist: diagnosis.checklist.map((line) =>
      line.step === "node-route" ? { ...line, status: "broken", text: leg.text } : line,
    ),
  };
}

/** The pod has no address of this family, and who knows which one it was given: it lost it. */
function lostAddress({ findings }: Diagnosis): boolean {
  return findings.some((one) => one.code === "pod-no-address" && one.fix.length > 0);
}

function isPromised6({ expected }: PodState): boolean {
  return expected?.addresses.some((cidr) => familyOf(cidr) === 6) === true;
}

const nodesWith6 = new WeakMap<Snapshot, boolean>();

/** Whether the node has a way out over IPv6, or lost it; the same for each of its pods. */
function nodeHas6(snapshot: Snapshot): boolean {
  let has = nodesWith6.get(snapshot);
  if (has === undefined) {
    // One that lost its own still has the address that came with it.
    has = hasDefault6(snapshot.node.routes) || hasGlobal6(snapshot) || isSwitchedOff6(snapshot);
    nodesWith6.set(snapshot, has);
  }
  return has;
}

function hasDefault6(routes: Snapshot["node"]["routes"] | undefined): boolean {
  return routes?.some((one) => one.family === 6 && one.type === "unicast" && isDefaultRoute(one)) === true;
}

/** The node has a global address (2000::/3) that a router advertised or DHCP gave, on a link that is up. */
function hasGlobal6({ node }: Snapshot): boolean {
  const up = new Set(node.links.filter((link) => link.up).map((link) => link.index));
  return node.addresses.some(
    (one) =>
      one.family === 6 &&
      one.scope === "global" &&
      /^[23]/.test(one.address) &&
      !one.flags.includes("permanent") &&
      up.has(one.interface),
  );
}

/**
 * A node that forwards IPv6 and has a global address, set by hand, where its IPv4 goes out: with a default route there the
 * pod's packets would get through, rules that translate included. Without one of these its IPv6 is for the inside.
 */
function lacksOnlyRoute6(snapshot: Snapshot, pod: PodState): boolean {
  const { node } = snapshot;
  const { view } = preparedNamespace(node);
  if (view.sysctl("net.ipv6.conf.all.forwarding") !== 1) return false;
  const uplinks = uplinksOf(node);
  const uplink = node.links.find(
    ({ index, up }) =>
      up &&
      uplinks.has(index) &&
      node.addresses.some(
        (one) => one.interface === index && one.scope === "global" && /^[23].*:/.test(one.address),
      ),
  );
  if (uplink === undefined) return false;
  const route = linkRoute(uplink, DEFAULT_CIDR[6]);
  const changed = withChanges(snapshot, pod, [{ kind: "add-route", place: "node", route }]);
  if (changed === undefined) return false;
  const { path } = predictPath(changed.snapshot, changed.pod, ANYWHERE[6]);
  return path.stops.length === 0 && path.end === "outside";
}

/** A node that forwards IPv6, and whose way out has it switched off: with the switch its addresses and routes went. */
function isSwitchedOff6({ node }: Snapshot): boolean {
  const { view } = preparedNamespace(node);
  if (view.sysctl("net.ipv6.conf.all.forwarding") !== 1) return false;
  const uplinks = uplinksOf(node);
  return node.links.some(({ index, name }) => uplinks.has(index) && view.conf(6, name, "disable_ipv6") === 1);
}

/** Links by which its IPv4 default routes lead. */
function uplinksOf(node: Snapshot["node"]): ReadonlySet<number | undefined> {
  return new Set(
    node.routes
      .filter((one) => one.family === 4 && one.type === "unicast" && isDefaultRoute(one))
      .flatMap((route) => hopsOf(route).map((hop) => hop.interface)),
  );
}

/** A unique local source that no rule was ever meant to translate: its IPv6 is for the inside. */
function isInternalOnly({ findings }: Diagnosis): boolean {
  const stopping = findings.filter((one) => one.stopsTraffic);
  return stopping.length > 0 && stopping.every((one) => one.code === "nat-missing");
}

/** Programs prefer IPv4 to a unique local source with a global destination (RFC 6724). */
function unimportant(diagnosis: Diagnosis): Diagnosis {
  const demoted = (one: Finding): Finding =>
    one.stopsTraffic ? { ...one, stopsTraffic: false, severity: "warning" } : one;
  return {
    ...diagnosis,
    healthy: true,
    findings: diagnosis.findings.map(demoted),
    checklist: diagnosis.checklist.map((line) =>
      line.status === "broken" ? { ...line, status: "warned" } : line,
    ),
  };
}

function merged(first: Diagnosis, second: Diagnosis): Diagnosis {
  // The first one's word for "IPv6 does not work", which is now told with its cause.
  const own = first.findings.filter((one) => second.findings.length === 0 || one.code !== "ipv6-preferred");
  const known = new Set(own.map((one) => `${one.code} ${one.text}`));
  const added = second.findings.filter((one) => !known.has(`${one.code} ${one.text}`));
  const findings = [...own, ...added];
  return {
    ...first,
    healthy: first.healthy && second.healthy,
    certain: first.certain && second.certain,
    blind: first.blind || second.blind,
    answer: answerOf(first, second),
    checklist: first.checklist.map((line, index) => worse(line, second.checklist[index])),
    findings: [...findings.filter((one) => one.stopsTraffic), ...findings.filter((one) => !one.stopsTraffic)],
    path: {
      ...first.path,
      blindSpots: [...new Set([...first.path.blindSpots, ...second.path.blindSpots])],
    },
    gaps: [...new Set([...first.gaps, ...second.gaps])],
  };
}

function answerOf(first: Diagnosis, second: Diagnosis): string {
  const where = targetText(second.target);
  const cause = second.findings.find((one) => one.stopsTraffic)?.text ?? "";
  if (first.healthy && second.healthy) {
    if (!first.certain) return first.answer;
    if (!second.certain) return `${first.answer}; over IPv6 it cannot be told`;
    const left = second.findings.some((one) => one.code === "nat-missing")
      ? "over IPv6 only what is inside"
      : `and ${where} over IPv6`;
    return `${first.answer}; ${left}`;
  }
  if (first.healthy) return `${first.pod} reaches the outside over IPv4 and not over IPv6: ${cause}`;
  if (second.healthy) return `${first.answer}; over IPv6 it can reach ${where}`;
  return first.answer.includes(cause) ? first.answer : `${first.answer}; and over IPv6: ${cause}`;
}

const RANKS: readonly StepStatus[] = ["ok", "skipped", "warned", "broken"];

/** The worse of the two; where both are well, both values. */
function worse(line: ChecklistLine, other: ChecklistLine | undefined): ChecklistLine {
  if (other === undefined) return line;
  const difference = RANKS.indexOf(other.status) - RANKS.indexOf(line.status);
  if (difference > 0 && other.status !== "skipped") return other;
  if (line.status !== "ok" || other.status !== "ok" || other.text === line.text || other.text === "")
    return line;
  return { ...line, text: `${line.text}; ${other.text}` };
}
