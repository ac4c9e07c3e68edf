/** Judgements of xtables matches and targets, each beside the description whose value it takes. */
import type { XtDescription } from "../../../linux/xtables/describe.ts";
import type { Machine, StepResult } from "../machine.ts";

export type Judge<V, R> = (machine: Machine, value: V) => R;
export type Judgement<R> = readonly [XtDescription<unknown>, Judge<unknown, R>];

/** With the value's type forgotten: what was decoded by the description is a value for the judge. */
export function match<V>(description: XtDescription<V>, judge: Judge<V, boolean>): Judgement<boolean> {
  return [description, (machine, value) => judge(machine, value as V)];
}

export function target<V>(description: XtDescription<V>, judge: Judge<V, StepResult>): Judgement<StepResult> {
  return [description, (machine, value) => judge(machine, value as V)];
}
