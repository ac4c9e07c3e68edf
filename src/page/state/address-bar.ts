/** What is looked at: the address bar holds it, and nothing else does. */
import { computed, signal } from "@preact/signals";
import { parseAddressBar, addressBarText, type AddressBar, type View } from "../layout/address-bar.ts";

export const addressBar = signal<AddressBar>({ view: "", of: {} });
export const view = computed(() => addressBar.value.view);
/** ISO 8601; undefined: now. */
export const moment = computed(() => addressBar.value.of["at"]);
export const chosenPod = computed(() => addressBar.value.of["pod"]);

export function followAddressBar(): void {
  const read = (): void => {
    addressBar.value = parseAddressBar(location.hash);
  };
  read();
  addEventListener("hashchange", read);
}

/** Changes of what is looked at; undefined takes a word away. */
type Change = Readonly<Record<string, string | undefined>>;

function changed(change: Change, to: View): AddressBar {
  const of = { ...addressBar.peek().of, ...change };
  return {
    view: to,
    of: Object.fromEntries(
      Object.entries(of).filter((one): one is [string, string] => one[1] !== undefined && one[1] !== ""),
    ),
  };
}

/** Somewhere else: the browser's "back" leads here again. */
export function go(change: Change, to: View = addressBar.peek().view): void {
  const next = addressBarText(changed(change, to));
  if (next !== location.hash) location.hash = next;
}

/** The same place, seen a little differently: typing in a filter, drawing the slider. */
export function adjust(change: Change): void {
  addressBar.value = changed(change, addressBar.peek().view);
  history.replaceState(null, "", addressBarText(addressBar.value));
}

/** A link to another view; what is looked at (pod, moment) comes along, filters do not. */
export function linkTo(to: View, more: Change = {}): string {
  const { pod, at } = addressBar.value.of;
  return addressBarText(changed({ ...emptied(), pod, at, ...more }, to));
}

function emptied(): Record<string, undefined> {
  return Object.fromEntries(Object.keys(addressBar.value.of).map((name) => [name, undefined]));
}
