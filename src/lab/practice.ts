/** Breaking a lab that is up, and mending it: practice for people, and for the doctor. */
import { messageOf, WayoutError } from "../error.ts";
import { FAULTS, faultNamed } from "./faults/all.ts";
import type { Fault } from "./faults/fault.ts";
import { requireLab } from "./up-and-down.ts";
import { readState, withLabLock, writeState } from "./state.ts";
import { World } from "./world.ts";

/** @throws WayoutError no-such-fault with the nearest names */
export function requireFault(name: string): Fault {
  const fault = faultNamed(name);
  if (fault !== undefined) return fault;
  const near = FAULTS.map((known) => known.name).filter((known) =>
    name.split("-").some((word) => word.length > 2 && known.includes(word)),
  );
  throw new WayoutError({
    code: "no-such-fault",
    kind: "usage",
    doing: "breaking the lab",
    said: `there is no fault ${name}`,
    todo: `${near.length > 0 ? `Similar: ${near.join(", ")}. ` : ""}All of them: wayout lab break --list`,
  });
}

/** Makes a fault. It is remembered before it is made, so that a killed run can be mended. */
export function breakLab(name: string): Promise<Fault> {
  const fault = requireFault(name);
  const doing = `breaking the lab: ${fault.title}`;
  if (fault.needs !== undefined && Bun.which(fault.needs) === null) {
    throw new WayoutError({
      code: "no-program",
      kind: "machine",
      doing,
      said: `this fault needs ${fault.needs}, which this machine does not have`,
      todo: "Choose another: wayout lab break --list",
    });
  }
  return withLabLock(doing, () => {
    requireLab(doing);
    const state = readState()!;
    writeState({ ...state, faults: [...new Set([...state.faults, fault.name])] });
    using world = new World();
    fault.apply(world);
    return fault;
  });
}

/**
 * Takes faults back, the newest first: the one named, or all. Returns their names.
 * @throws WayoutError mend-failed when one resists; it stays remembered
 */
export function mendLab(name?: string): Promise<string[]> {
  const wanted = name === undefined ? undefined : requireFault(name).name;
  const doing = "mending the lab";
  return withLabLock(doing, () => {
    requireLab(doing);
    const state = readState()!;
    const made = state.faults.filter((fault) => wanted === undefined || fault === wanted);
    using world = new World();
    const left = new Set(state.faults);
    const problems: string[] = [];
    for (const fault of made.toReversed()) {
      try {
        requireFault(fault).mend(world);
        left.delete(fault);
      } catch (error) {
        problems.push(`${fault}: ${messageOf(error)}`);
      }
    }
    writeState({ ...state, faults: [...left] });
    if (problems.length === 0) return made;
    throw new WayoutError({
      code: "mend-failed",
      kind: "broken",
      doing,
      said: problems.join("; "),
      todo: "A fresh lab has no faults: wayout lab down, then wayout lab up",
    });
  });
}
