/**
 * What the page knows of the node, and when it asks again: at once after an event, else after a while, and the longer the
 * more an answer costs the agent. Nothing is asked for while nobody looks.
 */
import { computed, effect, signal } from "@preact/signals";
import type { NodePicture, PicturePod } from "../../agent/picture/picture.ts";
import type { Diagnosis } from "../../doctor/diagnose.ts";
import type { FlowRecord } from "../../flows/flow-record.ts";
import { ask } from "./ask.ts";
import { entrance } from "./entrance.ts";
import { followHistory } from "./history.ts";
import { Keeper } from "./kept.ts";
import { chosenPod, moment, place, view } from "./place.ts";

export interface AgentAnswer {
  readonly wayout: string;
  readonly since: string;
  readonly lab: boolean;
  /** Where a traced packet goes to, unless somebody says otherwise. */
  readonly destination: string;
  readonly troubles: readonly { readonly step: string; readonly message: string }[];
}

/** What announces nothing is found by asking; over a lab the page may cost more than on a real node. */
const PICTURE_MS = { node: 5_000, lab: 1_500 } as const;
const FLOWS_MS = 2_000;
const AGENT_MS = 15_000;
/** Between two questions so many times as long as the last answer took: a page open costs little. */
const REST = { node: 40, lab: 4 } as const;
/** A change is let come to its end. */
const SETTLE_MS = 120;
/** On the picture; the table of connections asks for its own. */
const MOST_FLOWS = 60;

export const agent = new Keeper<AgentAnswer>();
export const picture = new Keeper<NodePicture>();
export const checklist = new Keeper<Diagnosis>();
export const flows = new Keeper<readonly FlowRecord[]>();

export const isLab = computed(() => agent.state.value.value?.lab === true);
export const destination = computed(() => agent.state.value.value?.destination ?? "");
export const pods = computed(() => picture.state.value.value?.pods ?? []);

/** The pod that is looked at. */
export const pod = computed<PicturePod | undefined>(() =>
  pods.value.find(({ name }) => name === chosenPod.value),
);

function pausedFor(keeper: Keeper<unknown>, leastMs: number): number {
  return Math.max(leastMs, keeper.tookMs * REST[isLab.peek() ? "lab" : "node"]);
}

/** Counted up: look again, something happened. */
const looks = signal(0);
let settling: ReturnType<typeof setTimeout> | undefined;

/** Something happened, or was done: the node is looked at again soon. */
export function lookAgain(): void {
  clearTimeout(settling);
  settling = setTimeout(() => looks.value++, SETTLE_MS);
}

/** Asks again and again while somebody looks. */
function every(
  keeper: Keeper<unknown>,
  leastMs: () => number,
  wantedNow: () => boolean,
  question: () => Promise<void>,
): void {
  const again = async (): Promise<void> => {
    if (document.visibilityState === "visible" && wantedNow()) await question();
    wait();
  };
  const wait = (): void => void setTimeout(() => void again(), pausedFor(keeper, leastMs()));
  wait();
}

const askAgent = (): Promise<void> => agent.ask((signal) => ask("/v1/node", { signal }));

function askPicture(at: string | undefined, fresh: boolean): Promise<void> {
  return picture.ask((signal) => ask("/v1/picture", { parameters: { at }, signal }), fresh);
}

const askFlows = (): Promise<void> =>
  flows.ask((signal) => ask("/v1/flows", { parameters: { limit: String(MOST_FLOWS) }, signal }));

export function startLooking(): void {
  if (entrance.value !== "in") return;
  void askAgent();
  effect(() => {
    void looks.value;
    void askPicture(moment.value, false);
  });
  effect(() => {
    if (moment.value === undefined) void askFlows();
    else flows.forget();
  });
  effect(followPod);
  const present = (): boolean => moment.peek() === undefined;
  const onPicture = (): boolean => present() && view.peek() === "";
  every(
    picture,
    () => PICTURE_MS[isLab.peek() ? "lab" : "node"],
    present,
    () => askPicture(undefined, false),
  );
  every(flows, () => FLOWS_MS, onPicture, askFlows);
  every(
    agent,
    () => AGENT_MS,
    () => true,
    askAgent,
  );
  document.addEventListener("visibilitychange", () => {
    if (document.visibilityState === "visible") lookAgain();
  });
  void followHistory((kind) => {
    if (kind !== "agent" && kind !== "policy") lookAgain();
  });
}

let last = "";

/** What decides that the chosen pod's checklist is another one: its pod, its moment, its state. */
const podKey = computed(() => {
  const { ask: name, condition, answer, code } = pod.value ?? {};
  const { at = "", to = "" } = place.value.of;
  return name === undefined ? "" : JSON.stringify([name, at, to, condition, answer, code]);
});

function followPod(): void {
  const key = podKey.value;
  if (key === "") {
    last = "";
    return checklist.forget();
  }
  const [name, at, to] = JSON.parse(key) as [string, string, string];
  const who = JSON.stringify([name, at, to]);
  const fresh = who !== last;
  last = who;
  void checklist.ask(
    (signal) => ask(`/v1/pods/${encodeURIComponent(name)}/doctor`, { parameters: { at, to }, signal }),
    fresh,
  );
}
