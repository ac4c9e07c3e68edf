/** What need not be drawn again, and what need not be drawn at once. */
import { Component, h, type JSX } from "preact";
import { useEffect, useState } from "preact/hooks";

/** A component that is drawn again only when one of its properties is another one. */
export function steady<P extends object>(Inner: (properties: P) => JSX.Element) {
  return class extends Component<P> {
    override shouldComponentUpdate(next: P): boolean {
      const names = new Set([...Object.keys(this.props), ...Object.keys(next)]) as Set<keyof P>;
      return [...names].some((name) => this.props[name] !== next[name]);
    }

    render(): JSX.Element {
      return h(Inner, this.props as P);
    }
  };
}

/** What is in sight when the page is opened, and for what there is time between two frames. */
const ROWS_AT_FIRST = 14;
const ROWS_AT_ONCE = 30;
const BETWEEN_MS = 40;

/** How many of so many rows are drawn: what is seen first at once, the others little by little. */
export function useGrowing(count: number, least: number): number {
  const [shown, setShown] = useState(ROWS_AT_FIRST);
  useEffect(() => {
    if (shown >= count) return undefined;
    const timer = setTimeout(() => setShown(shown + ROWS_AT_ONCE), BETWEEN_MS);
    return () => clearTimeout(timer);
  }, [shown, count]);
  return Math.min(count, Math.max(shown, least));
}
