/** Predicts the path of a packet from a snapshot, and says how sure that is. */
import type { PodState, Snapshot } from "../../snapshot/snapshot.ts";
import { walkBack } from "./back.ts";
import { explore, type Doubt, type Oracle } from "./oracle.ts";
import { walkOut } from "./out.ts";
import { signature, type Prediction, type Target } from "./path.ts";
import { Walk } from "./walk.ts";

export interface PredictedPath {
  readonly path: Prediction;
  /** Questions whose answers would change the path. */
  readonly doubts: readonly Doubt[];
  /** What happens when they are answered the other way. */
  readonly otherwise: Prediction | undefined;
  /** False: nobody can tell from the snapshot what happens. */
  readonly certain: boolean;
}

/** Follows the first packet of a flow from the pod to the target, and the answer back to the pod. */
export function predictPath(snapshot: Snapshot, pod: PodState, target: Target): PredictedPath {
  const explored = explore((oracle) => followOnce(snapshot, pod, target, oracle), sameEnd);
  return {
    path: explored.result,
    doubts: explored.doubts,
    otherwise: explored.alternative,
    certain: explored.certain,
  };
}

function sameEnd(a: Prediction, b: Prediction): boolean {
  return signature(a) === signature(b);
}

function followOnce(snapshot: Snapshot, pod: PodState, target: Target, oracle: Oracle): Prediction {
  const walk = new Walk(snapshot, pod, target, oracle);
  const left = walkOut(walk);
  if (left !== undefined) walkBack(walk, left);
  return {
    target,
    family: target.address.includes(":") ? 6 : 4,
    end: walk.end,
    steps: walk.steps,
    stops: walk.stops,
    blindSpots: walk.blindSpots,
    ...defined({
      sent: walk.sent,
      left: walk.left,
      outLink: walk.outLink,
      gateway: walk.gateway,
      inLink: walk.inLink,
      hostLink: walk.hostLink,
      podLink: walk.podLink,
      translatedBy: walk.translatedBy,
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
