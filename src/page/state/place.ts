/** What is looked at, as the address bar holds it: `#/connections?pod=ns-blue`. */
import { computed, signal } from "@preact/signals";

export const VIEWS = {
  "": "Way out",
  connections: "Connections",
  history: "History",
  explain: "Explain",
  figures: "Figures",
  lab: "Lab",
} as const;

export type View = keyof typeof VIEWS;

export interface Place {
  readonly view: View;
  /** `pod`, `at`, `to`, `flow`, and the filters of tables. */
  readonly of: Readonly<Record<string, string>>;
}

export function parsePlace(hash: string): Place {
  const [path = "", query = ""] = hash.replace(/^#\/?/, "").split("?", 2);
  return {
    view: path in VIEWS ? (path as View) : "",
    of: Object.fromEntries([...new URLSearchParams(query)].filter(([, value]) => value !== "")),
  };
}

export function placeText({ view, of }: Place): string {
  const query = new URLSearchParams(Object.entries(of).filter(([, value]) => value !== "")).toString();
  return `#/${view}${query === "" ? "" : `?${query}`}`;
}

export const place = signal<Place>({ view: "", of: {} });
export const view = computed(() => place.value.view);
/** ISO 8601; undefined: now. */
export const moment = computed(() => place.value.of["at"]);
export const chosenPod = computed(() => place.value.of["pod"]);

export function followAddressBar(): void {
  const read = (): void => {
    place.value = parsePlace(location.hash);
  };
  read();
  addEventListener("hashchange", read);
}

/** Changes of what is looked at; undefined takes a word away. */
type Change = Readonly<Record<string, string | undefined>>;

function changed(change: Change, to: View): Place {
  const of = { ...place.peek().of, ...change };
  return {
    view: to,
    of: Object.fromEntries(
      Object.entries(of).filter((one): one is [string, string] => one[1] !== undefined && one[1] !== ""),
    ),
  };
}

/** Somewhere else: the browser's "back" leads here again. */
export function go(change: Change, to: View = place.peek().view): void {
  const next = placeText(changed(change, to));
  if (next !== location.hash) location.hash = next;
}

/** The same place, seen a little differently: typing in a filter, drawing the slider. */
export function adjust(change: Change): void {
  place.value = changed(change, place.peek().view);
  history.replaceState(null, "", placeText(place.value));
}

/** A link to another view; what is looked at (pod, moment) comes along, filters do not. */
export function linkTo(to: View, more: Change = {}): string {
  const { pod, at } = place.value.of;
  return placeText(changed({ ...emptied(), pod, at, ...more }, to));
}

function emptied(): Record<string, undefined> {
  return Object.fromEntries(Object.keys(place.value.of).map((name) => [name, undefined]));
}
