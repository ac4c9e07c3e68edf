/**
 * One look at the whole node: what it is like, and what that means for every pod. It is taken by a process of its own,
 * which hands it over as one JSON value: the snapshot in parts, so that the agent can keep it and never reads it.
 */
import { hostEndOf } from "../../snapshot/host-end.ts";
import type { Verdict } from "../../doctor/transitions.ts";
import type { Examination } from "../../examination/examine.ts";
import { pictureOf, type NodePicture } from "../picture/picture.ts";
import { cutValue, type CutValue } from "../journal/parts.ts";

export interface LookVerdict extends Verdict {
  /** Something that decides could not be read. */
  readonly blind: boolean;
}

/** The node's end of a pod's veth pair. */
export interface PodEnd {
  readonly pod: string;
  /** Its index on the node. */
  readonly link: number;
}

export interface Look {
  readonly snapshot: CutValue;
  readonly ends: readonly PodEnd[];
  readonly verdicts: readonly LookVerdict[];
  /** For the page. */
  readonly picture: NodePicture;
}

export function lookOf(examination: Examination): Look {
  const { snapshot, diagnoses } = examination;
  return {
    picture: pictureOf(examination),
    // Rules are decoded when they are asked for: as JSON has them they are plain values.
    snapshot: cutValue(JSON.parse(JSON.stringify(snapshot))),
    ends: endsIn(snapshot),
    verdicts: diagnoses.map(({ pod, healthy, blind, answer, findings }) => ({
      pod,
      healthy,
      blind,
      answer,
      findings: findings.map(({ code, text, stopsTraffic }) => ({ code, text, stopsTraffic })),
    })),
  };
}

function endsIn({ node, pods }: Examination["snapshot"]): PodEnd[] {
  const hosts = new Map(node.links.map((link) => [link.index, link]));
  return pods.flatMap(({ name, state }) =>
    (state?.links ?? []).flatMap((link) => {
      const host = hostEndOf((index) => hosts.get(index), state!, link);
      return host === undefined ? [] : [{ pod: name, link: host.index }];
    }),
  );
}
