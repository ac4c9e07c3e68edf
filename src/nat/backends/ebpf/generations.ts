/**
 * Another number of flows, while they go on. Maps cannot grow: new ones are made, the programs are replaced by some that also
 * look into the old ones and move each flow that they find there, then all others are moved, and at last the programs are
 * replaced by some that know the new maps alone. Who is killed at any point is gone on for by the next who writes.
 *
 *     flows, places, freed, cursor_map    those in use; NAME-new: made, not yet in use
 *     older_flows, older_places           where flows move from
 */
import { BpfMap, pinObject } from "../../../kernel/bpf/map.ts";
import { removeFile, renameFile } from "../../../kernel/file.ts";
import type { BpfObject } from "../../../linux/bpf/object.ts";
import { WayoutError } from "../../../error.ts";
import { namesIn } from "./bpf-directory.ts";
import { isLivingFlow } from "./layout.ts";
import type { LoadedPrograms } from "./loaded-programs.ts";
import { FLOW_MAPS, hasShape, programClock, sizedFor } from "./maps.ts";
import { OLDER_MAPS } from "./names.ts";

/** Of each map that flows move from, the name of the one that they move to. */
const NEWER: Readonly<Record<string, (typeof FLOW_MAPS)[number]>> = {
  older_flows: "flows",
  older_places: "places",
};
const LAST = FLOW_MAPS.at(-1)!;

/** What flows move from; undefined when there is no such thing: their number is as wanted. */
export type OlderGeneration = ReadonlyMap<string, BpfMap>;

/** Whether another number of flows is wanted, or a change to another has begun. */
export function mustMove(directory: string, flows: number | undefined): boolean {
  const names = namesIn(directory) ?? [];
  if (names.some((name) => OLDER_MAPS.includes(name))) return true;
  using current = BpfMap.pinned(`${directory}/flows`, "flows");
  return flows !== undefined && current !== undefined && current.definition.entries !== flows;
}

/**
 * Puts new maps in the place of those that flows are in, under whose names the old ones are kept.
 * @throws WayoutError `nat-refused` when more flows live than there would be room for
 */
export function beginMove(
  directory: string,
  object: BpfObject,
  flows: number | undefined,
  doing: string,
): OlderGeneration | undefined {
  goOn(directory);
  if (!(namesIn(directory) ?? []).includes("older_flows")) {
    if (flows === undefined || !mustMove(directory, flows)) return undefined;
    if (!isOfThisShape(directory, object)) return undefined;
    refuseTooFew(directory, flows, doing);
    for (const name of OLDER_MAPS) pinAgain(`${directory}/${NEWER[name]}`, `${directory}/${name}`);
    for (const name of FLOW_MAPS) {
      using made = BpfMap.create(
        sizedFor(
          flows,
          object.maps.find((one) => one.name === name)!,
        ),
      );
      pinObject(made.fd, `${directory}/${name}-new`);
    }
    goOn(directory);
  }
  const found = OLDER_MAPS.flatMap((name) => {
    const map = BpfMap.pinned(`${directory}/${name}`, name);
    return map === undefined ? [] : [[name, map] as const];
  });
  return new Map(found);
}

/** Moves all flows that no packet has moved; the programs at the links are those that do it by themselves already. */
export function moveAll(programs: LoadedPrograms, older: OlderGeneration): void {
  const flows = older.get("older_flows")!;
  const now = programClock();
  // What an old program was about to write down when it was replaced is there at the second look.
  for (let round = 0; round < 2; round++) {
    let slot = 0;
    for (const record of flows.values(flows.definition.entries)) {
      if (isLivingFlow(record, now)) programs.ask("move", slot);
      slot++;
    }
  }
}

/** The programs at the links know the new maps alone. */
export function endMove(directory: string, older: OlderGeneration): void {
  for (const [name, map] of older) {
    removeFile(`${directory}/${name}`);
    map[Symbol.dispose]();
  }
}

/** Names are changed in the order in which the maps were made: while the last is there, all were, and some may wait. */
function goOn(directory: string): void {
  const names = new Set(namesIn(directory));
  const wait = FLOW_MAPS.filter((name) => names.has(`${name}-new`));
  if (wait.length === 0) return;
  if (wait.includes(LAST)) {
    for (const name of wait) renameFile(`${directory}/${name}-new`, `${directory}/${name}`);
    return;
  }
  for (const name of wait) removeFile(`${directory}/${name}-new`);
  for (const name of OLDER_MAPS) removeFile(`${directory}/${name}`);
}

function isOfThisShape(directory: string, object: BpfObject): boolean {
  return FLOW_MAPS.every((name) => {
    using map = BpfMap.pinned(`${directory}/${name}`, name);
    return (
      map !== undefined &&
      hasShape(
        map,
        object.maps.find((one) => one.name === name)!,
      )
    );
  });
}

function refuseTooFew(directory: string, flows: number, doing: string): void {
  using current = BpfMap.pinned(`${directory}/flows`, "flows")!;
  const now = programClock();
  let living = 0;
  for (const record of current.values(current.definition.entries)) if (isLivingFlow(record, now)) living++;
  if (living <= flows) return;
  throw new WayoutError({
    code: "nat-refused",
    kind: "broken",
    doing,
    said: `${living} connections live, and there would be room for ${flows}`,
    todo: "Give them more room, or end some first (wayout conntrack flush).",
  });
}

function pinAgain(path: string, name: string): void {
  removeFile(name);
  using map = BpfMap.pinned(path, name)!;
  pinObject(map.fd, name);
}
