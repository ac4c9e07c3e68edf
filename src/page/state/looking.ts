/**
 * What the page knows of the node, and when it asks again: at once after an event, else after a while, and never more than
 * may be asked of the agent. Nothing is asked for while nobody looks.
 */
import { computed, effect, signal } from "@preact/signals";
import type { NodePicture, PicturePod } from "../../agent/picture/picture.ts";
import type { Diagnosis } from "../../doctor/diagnose.ts";
import type { FlowRecord } from "../../flows/flow-record.ts";
import { likeBefore } from "../layout/like-before.ts";
import type { AgentAnswer } from "./agent-answer.ts";
import { ask } from "./ask.ts";
import { entrance } from "./sign-in.ts";
import { whenPainted, type first } from "./first.ts";
import { followHistory } from "./history.ts";
import { Keeper } from "./kept.ts";
import { chosenPod, moment, addressBar, view } from "./address-bar.ts";
import { Budget } from "./budget.ts";

/** The agent says when something changed; what announces nothing at all is found by asking. */
const PICTURE_MS = { node: 15_000, lab: 3_000 } as const;
const FLOWS_MS = { node: 4_000, lab: 1_500 } as const;
const AGENT_MS = 15_000;
/** A page open costs little; over a lab it may cost more than on a real node. */
const REST = { node: 80, lab: 0.2 } as const;
/** A change is let come to its end. */
const SETTLE_MS = 120;
/** On the picture; the table of connections asks for its own. */
const MOST_FLOWS = "60";
/** The first picture is the last that the agent has, however old: in seconds. */
const ANY_AGE = "999999";

export const agent = new Keeper<AgentAnswer>();
export const picture = new Keeper<NodePicture>();
export const checklist = new Keeper<Diagnosis>();
export const flows = new Keeper<readonly FlowRecord[]>();

/** The moment of which a picture is; undefined: the present. */
const momentOfPicture = new WeakMap<NodePicture, string | undefined>();

/** Whether what is drawn is of the moment that is looked at: until another one's is there, the last is still drawn. */
export const isOfMoment = computed(() => {
  const { value } = picture.state.value;
  return value !== undefined && momentOfPicture.get(value) === moment.value;
});

export const isLab = computed(() => agent.state.value.value?.lab === true);
export const destination = computed(() => agent.state.value.value?.destination ?? "");
export const pods = computed(() => picture.state.value.value?.pods ?? []);

/** The pod that is looked at. */
export const pod = computed<PicturePod | undefined>(() =>
  pods.value.find(({ name }) => name === chosenPod.value),
);

/** Until it is known what the node is, nothing waits. */
const kind = (): "lab" | "node" => (agent.state.peek().value?.lab === false ? "node" : "lab");

/** For all that is asked for again and again. */
export const budget = new Budget(() => REST[kind()]);

/** Counted up: look again, something happened. */
const looks = signal(0);
let settling: ReturnType<typeof setTimeout> | undefined;

/** Something happened, or was done: the node is looked at again soon. */
export function lookAgain(): void {
  settling ??= setTimeout(
    () => {
      settling = undefined;
      looks.value++;
    },
    Math.max(SETTLE_MS, budget.waitMs),
  );
}

/**
 * Asks again and again while the page is looked at.
 * @param paid whose answer is paid for; undefined when the question pays itself
 * @returns what ends it
 */
export function every(
  paid: Keeper<unknown> | undefined,
  leastMs: () => number,
  wantedNow: () => boolean,
  question: () => Promise<void>,
): () => void {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const wait = (): void => {
    timer = setTimeout(() => void again(), Math.max(leastMs(), budget.idleMs));
  };
  const again = async (): Promise<void> => {
    if (document.visibilityState === "visible" && wantedNow()) {
      await question();
      budget.pay(paid?.tookMs ?? 0);
    }
    if (timer !== undefined) wait();
  };
  wait();
  return () => {
    clearTimeout(timer);
    timer = undefined;
  };
}

const askAgent = (): Promise<void> => agent.ask((signal) => ask("/v1/node", { signal }));

/** Whether the present is being asked for, and has changed meanwhile: it is asked for again, never given up for a newer one. */
let present: "known" | "asked" | "changed" = "known";

/** Whether the picture of the present was taken since the page was opened; the first one may be older. */
export const isFresh = signal(false);

async function askPicture(at: string | undefined, age?: string): Promise<void> {
  if (at === undefined && present !== "known") {
    present = "changed";
    return;
  }
  if (at === undefined) present = "asked";
  await drawn(at, age);
  if (at !== undefined) return;
  budget.pay(picture.tookMs);
  const again = present === "changed" || age !== undefined;
  if (age === undefined && picture.state.peek().trouble === undefined) isFresh.value = true;
  present = "known";
  if (again) lookAgain();
}

/** The agent has looked by itself: its picture is there, and one that is still being drawn for us is not waited for. */
async function takeLook(): Promise<void> {
  if (moment.peek() !== undefined) return;
  await drawn(undefined, ANY_AGE);
  if (picture.state.peek().trouble === undefined) isFresh.value = true;
}

async function drawn(at: string | undefined, age: string | undefined): Promise<void> {
  const before = picture.state.peek().value;
  await picture.ask(async (signal) => {
    const asked = await ask<NodePicture>("/v1/picture", { parameters: { at, age }, signal });
    const value = likeBefore(before, asked);
    momentOfPicture.set(value, at);
    return value;
  });
}

const askFlows = (): Promise<void> =>
  flows.ask((signal) => ask("/v1/flows", { parameters: { of: "pods", limit: MOST_FLOWS }, signal }));

/** What came with the page is drawn before anything is asked for. */
export function beginWith(known: typeof first): void {
  if (known === undefined) return;
  agent.begin(known.node);
  if (known.picture !== undefined && moment.peek() === undefined) picture.begin(known.picture);
}

export function startLooking(): void {
  if (entrance.value !== "in") return;
  if (picture.state.peek().value === undefined) return askAll();
  whenPainted(askAll);
}

function askAll(): void {
  if (agent.state.peek().value === undefined) void askAgent();
  // An old picture is there sooner than a new one; what came with the page is one already.
  let age = picture.state.peek().value === undefined ? ANY_AGE : undefined;
  effect(() => {
    void looks.value;
    void askPicture(moment.value, age);
    age = undefined;
  });
  effect(() => {
    if (moment.value === undefined) void askFlows();
    else flows.forget();
  });
  effect(followPod);
  const atNow = (): boolean => moment.peek() === undefined;
  const onPicture = (): boolean => atNow() && view.peek() === "";
  every(
    undefined,
    () => PICTURE_MS[kind()],
    atNow,
    () => askPicture(undefined),
  );
  every(flows, () => FLOWS_MS[kind()], onPicture, askFlows);
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
    if (kind === "looked") void takeLook();
    else if (kind === "reset" || agent.state.peek().value?.looks !== true) lookAgain();
  });
}

let last = "";

/** What decides that the chosen pod's checklist is another one: its pod, its moment, its state. */
const podKey = computed(() => {
  const { ask: name, condition, answer, code } = pod.value ?? {};
  const { at = "", to = "" } = addressBar.value.of;
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
