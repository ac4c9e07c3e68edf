/** Who stands on the picture: each pod by itself while there is room, then those without a way out, and the others together. Pure. */
import type { PicturePod, PodCondition } from "../../agent/picture/picture.ts";

export type Row =
  | { readonly kind: "pod"; readonly key: string; readonly pod: PicturePod }
  | {
      readonly kind: "group";
      readonly key: string;
      readonly bridge: string | undefined;
      readonly condition: PodCondition;
      /** Each of them is a tile while there are not too many. */
      readonly pods: readonly PicturePod[];
      readonly tiles: boolean;
    };

/** So many rows for pods by themselves. */
const MOST_ALONE = 10;
/** When there are more, so many of those in trouble keep a row. */
const MOST_TROUBLED = 6;
/** Beyond this the picture only counts. */
export const MOST_TILES = 250;

/** @param pods the worst first */
export function rowsOf(pods: readonly PicturePod[], chosen: string | undefined): Row[] {
  if (pods.length <= MOST_ALONE) return pods.map(alone);
  const own = pods.filter(
    ({ name, condition }, index) =>
      name === chosen || ((condition === "broken" || condition === "blind") && index < MOST_TROUBLED),
  );
  const rest = pods.filter((one) => !own.includes(one));
  const groups = Map.groupBy(rest, ({ bridge, condition }) => `${bridge ?? ""} ${condition}`);
  return [
    ...own.map(alone),
    ...[...groups].map(([key, members]): Row => ({
      kind: "group",
      key: `group ${key}`,
      bridge: members[0]!.bridge,
      condition: members[0]!.condition,
      pods: members,
      tiles: pods.length <= MOST_TILES,
    })),
  ];
}

function alone(pod: PicturePod): Row {
  return { kind: "pod", key: `pod ${pod.name}`, pod };
}
