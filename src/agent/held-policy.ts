/**
 * The policy that an agent before this one left in force, in the kernel's own words: it holds until the file has been read, and
 * where the file cannot be used. Without it a restart would shut doors for a moment, and beside a bad file nothing of the
 * policy would be repaired any more.
 */
import { Admission } from "../admission/admission.ts";
import { ADMISSION_DOORS, type AdmissionDoor } from "../admission/doors.ts";
import { rethrowMistake } from "../error.ts";
import type { NetworkNamespace } from "../kernel/namespace.ts";
import { intentsElsewhere } from "../nat/installed.ts";
import { POLICY_OWNER } from "../policy/policy.ts";
import type { PolicyWish } from "./desired.ts";

/** undefined: none is in force, or it cannot be read. */
export function heldPolicy(node: NetworkNamespace): PolicyWish | undefined {
  try {
    for (const { backend, intents } of intentsElsewhere(node)) {
      const intent = intents.find(({ owner }) => owner === POLICY_OWNER);
      if (intent !== undefined) return { backend, intent, admit: openDoors(node) };
    }
  } catch (error) {
    // The agent's first comparison tells what is wrong with the rules.
    rethrowMistake(error);
  }
  return undefined;
}

function openDoors(node: NetworkNamespace): AdmissionDoor[] {
  const admission = new Admission(node);
  return ADMISSION_DOORS.filter((door) => admission.isOpen(door));
}
