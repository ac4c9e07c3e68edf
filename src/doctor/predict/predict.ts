/** Predicts the path of a packet from a snapshot, and says how sure that is. */
import { familyOf } from "../../address/ip.ts";
import type { Link } from "../../linux/route/link.ts";
import type { NextHop, Route } from "../../linux/route/route.ts";
import type { PodState, Snapshot } from "../../snapshot/snapshot.ts";
import { walkBack } from "./back.ts";
import { passesOverSilent } from "./fib.ts";
import { isSilent, neighbourAt } from "./link-state.ts";
import { explore, otherAnswer, type Doubt, type Explored, type Oracle } from "./oracle.ts";
import { walkOut } from "./out.ts";
import { signature, type Prediction, type Target } from "./path.ts";
import type { Side } from "./side.ts";
import type { NodeView } from "./view.ts";
import { Walk, preparedNamespace, type Fork } from "./walk.ts";

export interface PredictedPath {
  /** Of several legs the one that this flow takes, where the kernel has named it; else the first that fails, if one does. */
  readonly path: Prediction;
  /** Questions whose answers would change the path. */
  readonly doubts: readonly Doubt[];
  /** What happens when they are answered the other way: each something else. */
  readonly otherwise: readonly Otherwise[];
  /** What chance makes of it, where it chooses between several ways. */
  readonly branches: readonly PathBranch[];
  /** False: nobody can tell from the snapshot what happens. */
  readonly certain: boolean;
  /** One for each next hop of a multipath route on the way out; empty where there is one way only. */
  readonly legs: readonly Leg[];
}

/** The way of a share of all packets. */
export interface PathBranch {
  readonly path: Prediction;
  readonly share: number;
  readonly by: readonly Doubt[];
}

/** What happens when a question is answered the other way. */
export interface Otherwise {
  readonly path: Prediction;
  readonly by: Doubt;
}

/** What becomes of the flows that a multipath route sends by one of its next hops. */
export interface Leg {
  /** Where the multipath route is. */
  readonly place: Side;
  readonly route: Route;
  /** Undefined for a link that the snapshot lacks. */
  readonly link: Link | undefined;
  readonly gateway: string | undefined;
  /** Of this share of all flows: `weight` of the sum of all. */
  readonly weight: number;
  /** The kernel sends what goes between these two addresses this way; undefined when it chooses flow by flow. */
  readonly taken: boolean | undefined;
  /** Its neighbour does not answer, and the kernel sends nothing this way while that is so. */
  readonly passedOver: boolean;
  readonly path: Prediction;
  readonly certain: boolean;
}

/** More next hops than this are not followed one by one. */
const MOST_LEGS = 32;

/** Follows the first packet of a flow from the pod to the target, and the answer back to the pod. */
export function predictPath(snapshot: Snapshot, pod: PodState, target: Target): PredictedPath {
  const follow = (choices: ReadonlyMap<Route, number>): Explored<Followed> =>
    explore((oracle) => followOnce(snapshot, pod, target, oracle, choices), sameEnd);
  const first = follow(new Map());
  const branches = first.result.forks
    .flatMap((fork) => fork.hops.map((_, hop) => ({ fork, hop })))
    .slice(0, MOST_LEGS)
    .map(({ fork, hop }) => {
      const explored = hop === 0 ? first : follow(new Map([[fork.route, hop]]));
      return { explored, leg: legOf(snapshot, pod, fork, hop, explored) };
    });
  const chosen =
    branches.find(({ leg }) => leg.taken === true) ??
    branches.find(({ leg }) => leg.path.stops.length > 0 && !leg.passedOver) ??
    branches.find(({ leg }) => !leg.passedOver);
  const {
    result,
    doubts,
    alternatives,
    alike,
    branches: chances,
    certain,
  } = workingFirst(chosen?.explored ?? first);
  const legs = branches.map(({ leg }) => leg);
  const otherwise = alternatives.map(({ result: { prediction: path }, by }) => ({ path, by }));
  const byChance = chances.map((one) => ({ ...one, path: one.result.prediction }));
  const path = withPortsOf(result.prediction, alike);
  return { path, doubts, otherwise, branches: byChance, certain, legs };
}

/** Where a question decides only which port a packet gets (by another rule that translates to the same address), all count. */
function withPortsOf(path: Prediction, alike: readonly Followed[]): Prediction {
  const ranges = [path, ...alike.map((one) => one.prediction)].flatMap(({ translatedPorts, left }) => {
    if (translatedPorts !== undefined) return [translatedPorts];
    return left === undefined ? [] : [{ first: left.sourcePort, last: left.sourcePort }];
  });
  const translatedPorts = {
    first: Math.min(...ranges.map((one) => one.first)),
    last: Math.max(...ranges.map((one) => one.last)),
  };
  const isOne = ranges.every(
    ({ first, last }) => first === translatedPorts.first && last === translatedPorts.last,
  );
  return isOne ? path : { ...path, translatedPorts };
}

/** Of two ways between which chance decides, the one that works comes first, unless most packets go the other one. */
function workingFirst(explored: Explored<Followed>): Explored<Followed> {
  const { result, doubts, alternatives } = explored;
  const isTossUp = (one: Doubt): boolean => one.share !== undefined && one.share <= 0.5;
  if (result.prediction.stops.length === 0 || !doubts.some(isTossUp)) return explored;
  const works = alternatives.find((one) => one.result.prediction.stops.length === 0);
  if (works === undefined) return explored;
  const turned = doubts.map((one) => (isTossUp(one) ? otherAnswer(one) : one));
  const others = alternatives.filter((one) => one !== works);
  const back = { result, by: otherAnswer(works.by) };
  return { ...explored, result: works.result, doubts: turned, alternatives: [back, ...others], alike: [] };
}

function legOf(
  snapshot: Snapshot,
  pod: PodState,
  { place, route, hops, taken }: Fork,
  hop: number,
  { result, certain }: Explored<Followed>,
): Leg {
  const { view } = preparedNamespace(place === "node" ? snapshot.node : pod.state!);
  const { interface: index, gateway, weight } = hops[hop]!;
  return {
    place,
    route,
    link: view.linkAt(index),
    gateway,
    weight,
    taken: taken === undefined ? undefined : taken === hop,
    passedOver:
      passesOverSilent(view.state, route) &&
      leadsToSilent(view, hops[hop]!) &&
      !hops.every((one) => leadsToSilent(view, one)),
    path: result.prediction,
    certain,
  };
}

function leadsToSilent(view: NodeView, { interface: index, gateway }: NextHop): boolean {
  const link = view.linkAt(index);
  return link !== undefined && gateway !== undefined && isSilent(neighbourAt(view, link, gateway));
}

interface Followed {
  readonly prediction: Prediction;
  readonly forks: readonly Fork[];
}

function sameEnd(a: Followed, b: Followed): boolean {
  return signature(a.prediction) === signature(b.prediction);
}

function followOnce(
  snapshot: Snapshot,
  pod: PodState,
  target: Target,
  oracle: Oracle,
  choices: ReadonlyMap<Route, number>,
): Followed {
  const walk = new Walk(snapshot, pod, target, oracle, choices);
  const left = walkOut(walk);
  if (left !== undefined) walkBack(walk, left);
  return { prediction: predictionOf(walk), forks: walk.forks };
}

function predictionOf(walk: Walk): Prediction {
  const { target } = walk;
  return {
    target,
    family: familyOf(target.address),
    end: walk.end,
    steps: walk.steps,
    stops: walk.stops,
    blindSpots: walk.blindSpots,
    ...defined({
      sent: walk.sent,
      left: walk.left,
      outLink: walk.outLink,
      outPort: walk.outPort,
      gateway: walk.gateway,
      inLink: walk.inLink,
      hostLink: walk.hostLink,
      podLink: walk.podLink,
      localEnd: walk.localEnd,
      answerLink: walk.answerLink,
      source: walk.source,
      untrackedBy: walk.untrackedBy,
      balancedBy: walk.balancedBy,
      timeouts: walk.nodeFlow?.timeouts,
      encryptedBy: walk.encryptedBy,
      escaped: walk.escaped,
      routed: walk.routed,
      marks: walk.marks,
      redirected: walk.redirected,
      translatedBy: walk.translatedBy,
      atLink: walk.atLink,
      translatedToOneOf: walk.translatedToOneOf,
      translatedPorts: walk.nodeFlow?.binding("source")?.ports,
      allowedPorts: walk.nodeFlow?.binding("source")?.allowed,
      pathMtu: walk.pathMtu,
    }),
  };
}

type Defined<T> = { [K in keyof T]?: Exclude<T[K], undefined> };

function defined<T extends Record<string, unknown>>(fields: T): Defined<T> {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as Defined<T>;
}
