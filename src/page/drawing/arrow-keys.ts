/** One tab stop for a list, arrow keys inside. */
import { useRef } from "preact/hooks";

interface Roving<E extends HTMLElement | SVGElement> {
  readonly ref: { current: E | null };
  readonly onKeyDown: (event: KeyboardEvent) => void;
}

const STEP: Readonly<Record<string, number>> = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 };

/** For the element around the list; its items have the attribute `data-item`, and the tab stop is one of them. */
export function useRove<E extends HTMLElement | SVGElement>(): Roving<E> {
  const ref = useRef<E>(null);
  const onKeyDown = (event: KeyboardEvent): void => {
    const items = [...(ref.current?.querySelectorAll<HTMLElement>("[data-item]") ?? [])];
    const at = items.indexOf(document.activeElement as HTMLElement);
    if (at < 0) return;
    const edge = event.key === "Home" ? 0 : event.key === "End" ? items.length - 1 : undefined;
    const next = items[edge ?? at + (STEP[event.key] ?? 0)];
    if (next === undefined || next === items[at]) return;
    event.preventDefault();
    next.focus();
  };
  return { ref, onKeyDown };
}
