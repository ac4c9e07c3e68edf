/** What is looked at: the address bar holds it, and nothing else does. */
import { computed, signal } from "@preact/signals";
import { parsePlace, placeText, type Place, type View } from "../layout/address.ts";

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
