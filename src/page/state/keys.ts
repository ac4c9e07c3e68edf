/** Keys that work anywhere but in a field. What they do is what a click would do. */
import { signal } from "@preact/signals";
import { VIEWS, type View } from "../layout/address-bar.ts";
import { go, moment, chosenPod, addressBar } from "./address-bar.ts";
import { isLab, pods } from "./looking.ts";

export const helpIsOpen = signal(false);

export interface KeyHelp {
  readonly keys: readonly string[];
  readonly does: string;
}

export const KEYS: readonly KeyHelp[] = [
  { keys: ["b"], does: "the next pod without a way out, and why; where all have one, the next pod" },
  { keys: ["↑", "↓"], does: "move in a list" },
  { keys: ["Enter"], does: "open what is chosen" },
  { keys: ["/"], does: "search" },
  { keys: ["t"], does: "trace: send a real packet from this pod" },
  { keys: ["c"], does: "copy the command that mends it" },
  { keys: ["[", "]"], does: "the change before, the change after" },
  { keys: ["1", "–", "6"], does: "Way out, Connections, History, Explain, Figures, Lab" },
  { keys: ["Esc"], does: "back: close, return to now, leave the pod" },
  { keys: ["?"], does: "this list" },
];

export function listenToKeys(): void {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    const field =
      event.target instanceof Element
        ? event.target.closest("input:not([type=range]), select, textarea")
        : null;
    if (event.key === "Escape") return leave(field);
    if (field !== null) return;
    if (handle(event.key)) event.preventDefault();
  });
}

function leave(field: Element | null): void {
  if (helpIsOpen.value) helpIsOpen.value = false;
  else if (field instanceof HTMLElement && field.matches("input") && document.activeElement === field)
    field.blur();
  else if (addressBar.value.of["flow"] !== undefined) go({ flow: undefined });
  else if (moment.value !== undefined) go({ at: undefined });
  else if (chosenPod.value !== undefined) go({ pod: undefined, to: undefined });
}

function handle(key: string): boolean {
  const view = (Object.keys(VIEWS) as View[]).filter((one) => one !== "lab" || isLab.value)[Number(key) - 1];
  if (view !== undefined) {
    go({}, view);
    return true;
  }
  switch (key) {
    case "?":
      helpIsOpen.value = !helpIsOpen.value;
      return true;
    case "/":
      return focusOn("[data-search]");
    case "b":
      return nextBroken();
    case "t":
      return press("[data-key=t]");
    case "c":
      return press("[data-key=c]");
    case "[":
      return press("[data-key=before]");
    case "]":
      return press("[data-key=after]");
    default:
      return false;
  }
}

function focusOn(selector: string): boolean {
  const found = document.querySelector<HTMLElement>(selector);
  found?.focus();
  if (found instanceof HTMLInputElement) found.select();
  return found !== null;
}

function press(selector: string): boolean {
  const found = document.querySelector<HTMLElement>(selector);
  found?.click();
  return found !== null;
}

function nextBroken(): boolean {
  const without = pods.value.filter(({ condition }) => condition === "broken");
  const broken = without.length > 0 ? without : pods.value;
  const at = broken.findIndex(({ name }) => name === chosenPod.value);
  const next = broken[(at + 1) % broken.length];
  if (next !== undefined) choosePod(next.name);
  return true;
}

/** Counted up when the reader is to be led to the chosen pod's checklist. */
export const led = signal(0);

export function choosePod(name: string): void {
  go({ pod: name, to: undefined, flow: undefined }, "");
  led.value++;
}
