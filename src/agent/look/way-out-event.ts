/** What became of the pods between two looks, as one event of the journal. Pure. */
import { transitions, type Verdict } from "../../doctor/transitions.ts";
import type { Culprit, JournalEvent } from "../journal/journal.ts";
import type { NodeEvent } from "../node-events.ts";
import { present } from "../../present.ts";

/** So many effects stand in one event; its text counts all pods. */
const MOST_EFFECTS = 500;

/** What was heard between the two looks. */
export interface Heard {
  readonly kinds: ReadonlySet<NodeEvent["kind"]>;
  /** Who, besides the agent, changed the rules last. */
  readonly by?: Culprit;
}

/** undefined when nothing became different. */
export function wayOutEvent(
  at: number,
  before: readonly Verdict[],
  now: readonly Verdict[],
  heard: Heard,
): JournalEvent | undefined {
  const changes = transitions(before, now);
  const [first] = changes;
  if (first === undefined) return undefined;
  const pods = new Set(changes.map(({ pod }) => pod));
  const by = blamed(heard);
  return present({
    at,
    kind: "way-out",
    object: pods.size === 1 ? first.pod : "pods",
    text: `${countsText(before, now, pods)}${by === undefined ? causeText(heard.kinds) : ""}`,
    effects: changes.slice(0, MOST_EFFECTS).map(({ pod, kind, text }) => ({ pod, became: kind, text })),
    by,
  });
}

/** Where something else changed as well, who changed the rules is only the likeliest. */
function blamed({ kinds, by }: Heard): Culprit | undefined {
  if (by === undefined) return undefined;
  const alone =
    !kinds.has("network") &&
    !kinds.has("setting") &&
    !kinds.has("sysctl") &&
    !kinds.has("legacy") &&
    !kinds.has("lost");
  return alone || by.certainty === "unknown" ? by : { ...by, certainty: "guessed" };
}

function causeText(kinds: Heard["kinds"]): string {
  const known = [
    ...(kinds.has("rules") || kinds.has("legacy") ? ["rules"] : []),
    ...(kinds.has("network") ? ["links, addresses or routes"] : []),
    ...(kinds.has("setting") || kinds.has("sysctl") ? ["a network setting"] : []),
  ];
  if (kinds.has("lost") || known.length === 0) return "";
  return `, after a change of ${known.join(" and ")}`;
}

/** `2 pods lost their way out, 1 pod came`. */
function countsText(
  before: readonly Verdict[],
  now: readonly Verdict[],
  changed: ReadonlySet<string>,
): string {
  const last = new Map(before.map((one) => [one.pod, one.healthy]));
  const next = new Map(now.map((one) => [one.pod, one.healthy]));
  const counts = { lost: 0, gained: 0, came: 0, went: 0, other: 0 };
  for (const pod of changed) {
    const [was, is] = [last.get(pod), next.get(pod)];
    if (was === undefined) counts.came++;
    else if (is === undefined) counts.went++;
    else if (was !== is) counts[is ? "gained" : "lost"]++;
    else counts.other++;
  }
  const said = (count: number, one: string, many: string): string[] =>
    count === 0 ? [] : [count === 1 ? `1 pod ${one}` : `${count} pods ${many}`];
  return [
    ...said(counts.lost, "lost its way out", "lost their way out"),
    ...said(counts.gained, "has its way out again", "have their way out again"),
    ...said(counts.came, "came", "came"),
    ...said(counts.went, "went", "went"),
    ...said(counts.other, "has other findings", "have other findings"),
  ].join(", ");
}
