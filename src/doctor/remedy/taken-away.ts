/** What a change does to the reasons why a packet gets no further: several may stand in its way at once. */
import type { Stop } from "../predict/path.ts";
import { decisionPlace } from "../wording.ts";

/** The same reason at the same place. */
export function stopKey(stop: Stop): string {
  const at = "link" in stop && stop.link !== undefined ? stop.link.name : "";
  const by = stop.kind === "filtered" ? decisionPlace(stop.stop.by) : "";
  return [stop.kind, stop.place, stop.direction, at, by].join(" ");
}

/** The reasons that are gone afterwards; undefined where there are none, or a new one has come. */
export function takenAway(before: readonly Stop[], after: readonly Stop[]): readonly Stop[] | undefined {
  const known = new Set(before.map(stopKey));
  const left = new Set(after.map(stopKey));
  for (const key of left) if (!known.has(key)) return undefined;
  const gone = before.filter((stop) => !left.has(stopKey(stop)));
  return gone.length === 0 ? undefined : gone;
}
