/** A fix is judged like a packet: the change is made in the snapshot, and the same questions are asked again. */
import { predictPath, type PredictedPath } from "../predict/predict.ts";
import { CheckContext } from "../check.ts";
import { inOrder } from "../../text/command.ts";
import type { Finding, Fix } from "../finding.ts";
import { withChanges, type Change, type Changed } from "./change.ts";
import { takenAway } from "./taken-away.ts";

/**
 * The finding with those fixes that heal and take nothing away; others are told as what they would do. What a fix
 * changes is known for most; one that is not modelled is printed as it is.
 * @param raise what the checks find in a changed world
 */
export function judged(
  context: CheckContext,
  found: Finding,
  raise: (context: CheckContext) => readonly Finding[],
): Finding {
  const fix = found.fix.map(printed);
  const changes = found.fix.flatMap((one) => one.change ?? one.repair ?? []);
  if (changes.length === 0 || changes.length < found.fix.length) return { ...found, fix };
  const changed = withChanges(context.snapshot, context.pod, changes);
  if (changed === undefined) return { ...found, fix };
  const commands = fix.map((one) => one.command).join(" && ");
  const lost = lossOf(context, changed);
  if (lost !== undefined) return instead(found, `not by “${commands}”: ${lost}`);
  const { target } = context;
  const predicted = predictPath(changed.snapshot, changed.pod, target);
  const stays = (now: Changed, path: PredictedPath): boolean =>
    raise(new CheckContext(now.snapshot, now.pod, target, path)).some(
      (one) => one.code === found.code && one.text === found.text,
    );
  if (stays(changed, predicted)) return instead(found, `“${commands}” alone changes nothing here`);
  const rest = predicted.path.stops.length === 0 ? [] : restOf(context, found, changes, raise);
  const all = [...found.fix, ...rest];
  return { ...found, fix: inOneLine(needed(context, all, stays)) };
}

/** What shows only when the first is mended, and is the work of the same rules: an answer that is not tracked either. */
const SHOWS_BEHIND: Readonly<Record<string, string>> = { "flow-untracked": "answer-unrecognized" };

/** So many fixes are put together until the packet gets through. */
const MOST_FIXES = 4;

/**
 * What is left is of the same kind (the answers are dropped in the same chain, or go astray by the same rule) or shows behind
 * it, and its own fix heals the rest: then they belong together. What stood in the way besides has a finding of its own.
 * Nothing where that is not so.
 */
function restOf(
  context: CheckContext,
  found: Finding,
  changes: readonly Change[],
  raise: (context: CheckContext) => readonly Finding[],
): readonly Fix[] {
  const { snapshot, pod, target, path } = context;
  const fixes: Fix[] = [];
  for (let round = 0; round < MOST_FIXES; round++) {
    const more = fixes.flatMap((one) => one.change ?? one.repair ?? []);
    const changed = withChanges(snapshot, pod, [...changes, ...more]);
    if (changed === undefined) return [];
    const predicted = predictPath(changed.snapshot, changed.pod, target);
    const after = predicted.path.stops;
    if (after.length === 0) return fixes;
    const isOthers = takenAway(path.stops, after) !== undefined;
    const next = raise(new CheckContext(changed.snapshot, changed.pod, target, predicted)).find(
      (one) => one.stopsTraffic && (one.code === found.code || one.code === SHOWS_BEHIND[found.code]),
    );
    const fix = next?.fix.filter((one) => one.change !== undefined || one.repair !== undefined) ?? [];
    if (next === undefined || fix.length === 0 || fix.length < next.fix.length) return isOthers ? fixes : [];
    fixes.push(...fix);
  }
  return [];
}

/** Without those that change nothing beside the others. @param stays whether the finding is there in a changed world */
function needed(
  context: CheckContext,
  fixes: readonly Fix[],
  stays: (changed: Changed, path: PredictedPath) => boolean,
): readonly Fix[] {
  let kept = fixes;
  if (fixes.length < 2) return kept;
  const stops = after(context, fixes)?.predicted.path.stops.length ?? Infinity;
  for (const fix of fixes) {
    const others = kept.filter((one) => one !== fix);
    const then = others.length === 0 ? undefined : after(context, others);
    if (then === undefined || then.predicted.path.stops.length > stops) continue;
    // What is only suspected stops nothing by the tables: there the finding itself says whether it is mended.
    if (!stays(then.changed, then.predicted)) kept = others;
  }
  return kept;
}

function after(
  { snapshot, pod, target }: CheckContext,
  fixes: readonly Fix[],
): { readonly changed: Changed; readonly predicted: PredictedPath } | undefined {
  const changes = fixes.flatMap((one) => one.change ?? one.repair ?? []);
  const changed = withChanges(snapshot, pod, changes);
  if (changed === undefined) return undefined;
  return { changed, predicted: predictPath(changed.snapshot, changed.pod, target) };
}

/** What heals only together is one line: people paste the first that they see. What `--fix` does itself stays apart. */
function inOneLine(fixes: readonly Fix[]): Fix[] {
  const [first, ...others] = fixes.map(printed);
  if (first === undefined) return [];
  const isOne = [first, ...others].every((one) => one.repair === undefined && one.place === first.place);
  if (!isOne) return [first, ...others];
  return [{ ...first, command: inOrder([first, ...others].map((one) => one.command)) }];
}

/** What it changes is for judging alone. */
function printed(fix: Fix): Fix {
  const shown: { -readonly [K in keyof Fix]: Fix[K] } = { ...fix };
  delete shown.change;
  return shown;
}

function instead(found: Finding, advice: string): Finding {
  return { ...found, fix: [], advice: [...(found.advice ?? []), advice] };
}

/** What the pod has now, and would not have any more. */
function lossOf({ pod }: CheckContext, { pod: after }: Changed): string | undefined {
  const kept = new Set(after.state?.addresses.map((one) => one.address));
  const gone = pod.state?.addresses.filter((one) => !kept.has(one.address)) ?? [];
  if (gone.length === 0) return undefined;
  return `it would take ${gone.map((one) => one.address).join(", ")} away from ${pod.name}`;
}
