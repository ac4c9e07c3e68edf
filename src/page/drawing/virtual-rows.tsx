/** A long table of which only what is seen is in the document. */
import type { ComponentChildren, JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";

const BEYOND = 8;

interface Props {
  readonly label: string;
  readonly count: number;
  /** Of one row, in pixels. */
  readonly height: number;
  /** Of a row, by its number. A row that comes before others, and shall stay what it is, needs a key; its number otherwise. */
  readonly keyOf?: (index: number) => string;
  readonly draw: (index: number) => ComponentChildren;
  readonly head?: ComponentChildren;
  /** Told which rows are in sight: from the first up to before the last. */
  readonly seen?: (first: number, last: number) => void;
}

export function VirtualRows({ label, count, height, keyOf, draw, head, seen: told }: Props): JSX.Element {
  const frame = useRef<HTMLDivElement>(null);
  const [seen, setSeen] = useState({ top: 0, height: 600 });
  const [current, setCurrent] = useState(0);
  const measure = (): void => {
    const own = frame.current;
    if (own !== null) setSeen({ top: own.scrollTop, height: own.clientHeight });
  };
  // The frame grows with what is in it.
  useEffect(measure, [count]);
  const first = Math.max(0, Math.floor(seen.top / height) - BEYOND);
  const last = Math.min(count, Math.ceil((seen.top + seen.height) / height) + BEYOND);
  useEffect(() => told?.(first, last), [first, last]);
  const move = (to: number): void => {
    const next = Math.max(0, Math.min(count - 1, to));
    setCurrent(next);
    const own = frame.current;
    if (own === null) return;
    if (next * height < own.scrollTop) own.scrollTop = next * height;
    if ((next + 1) * height > own.scrollTop + own.clientHeight - 40)
      own.scrollTop = (next + 1) * height - own.clientHeight + 40;
  };
  const onKeyDown = (event: KeyboardEvent): void => {
    const page = Math.floor(seen.height / height) - 1;
    const to = {
      ArrowDown: current + 1,
      ArrowUp: current - 1,
      PageDown: current + page,
      PageUp: current - page,
      Home: 0,
      End: count - 1,
    }[event.key];
    if (event.key === "Enter") frame.current?.querySelector<HTMLElement>(".current a")?.click();
    if (to === undefined) return;
    event.preventDefault();
    move(to);
  };
  return (
    <div
      ref={frame}
      class="virtual"
      role="table"
      aria-label={label}
      aria-rowcount={count}
      tabIndex={0}
      onScroll={measure}
      onKeyDown={onKeyDown}
    >
      {head !== undefined && (
        <div role="row" class="head">
          {head}
        </div>
      )}
      <div role="rowgroup" style={{ height: `${count * height}px` }}>
        {Array.from({ length: Math.max(0, last - first) }, (_, index) => (
          <div
            key={keyOf?.(first + index) ?? first + index}
            role="row"
            aria-rowindex={first + index + 1}
            class={first + index === current ? "current" : ""}
            style={{ transform: `translateY(${(first + index) * height}px)`, height: `${height}px` }}
            onClick={() => setCurrent(first + index)}
          >
            {draw(first + index)}
          </div>
        ))}
      </div>
    </div>
  );
}
