/** The last hour as a slider: what the node was like, and who changed what. */
import type { JSX } from "preact";
import { useEffect, useState } from "preact/hooks";
import { momentOf, past, pastTrouble, type PastEvent } from "../state/history.ts";
import { picture } from "../state/looking.ts";
import { adjust, go, moment } from "../state/address-bar.ts";
import { clock } from "./parts.tsx";
import { eventSign, EventText } from "./history.tsx";
import { Mark } from "./parts.tsx";

const HOUR_S = 3600;
const STEP_S = 5;
/** The present is drawn anew so often. */
const TICK_MS = 5_000;

export function TimeBar(): JSX.Element {
  const now = useNow();
  const at = moment.value === undefined ? now : Date.parse(moment.value);
  const ago = Math.max(0, Math.min(HOUR_S, Math.round((now - at) / 1000)));
  const marks = past.value.filter(
    ({ kind, at: then }) => kind !== "agent" && now - Date.parse(then) < HOUR_S * 1000,
  );
  const seen = picture.state.value.value?.takenAt;
  const text = moment.value === undefined ? "" : `${clock(moment.value)}, ${agoText(ago)}`;
  const set = (seconds: number): void =>
    adjust({
      at: seconds < STEP_S ? undefined : new Date(now - seconds * 1000).toISOString().replace(/\.\d+Z$/, "Z"),
    });
  return (
    <div class={`time-bar ${moment.value === undefined ? "" : "past"}`}>
      <div class="line">
        <button
          type="button"
          data-key="before"
          aria-label="The change before"
          aria-keyshortcuts="["
          onClick={() => jump(marks, at, -1)}
        >
          ‹
        </button>
        <div class="track">
          <div class="marks" aria-hidden="true">
            {groupedMarks(marks, now).map(({ left, sign, count }) => (
              <span key={left} class={sign} style={{ left: `${left}%` }} title={`${count}`} />
            ))}
          </div>
          <input
            type="range"
            min={-HOUR_S}
            max={0}
            step={STEP_S}
            value={-ago}
            aria-label="Moment that is shown, within the last hour"
            aria-valuetext={text === "" ? "now" : text}
            onInput={(event) => set(-Number(event.currentTarget.value))}
          />
          <div class="scale" aria-hidden="true">
            {[60, 45, 30, 15, 0].map((minutes) => (
              <span key={minutes}>{minutes === 0 ? "now" : `${minutes} min ago`}</span>
            ))}
          </div>
        </div>
        <button
          type="button"
          data-key="after"
          aria-label="The change after"
          aria-keyshortcuts="]"
          onClick={() => jump(marks, at, 1)}
        >
          ›
        </button>
        <output aria-live="polite">{text}</output>
        {moment.value !== undefined && (
          <button type="button" class="primary" onClick={() => go({ at: undefined })}>
            Back to now
          </button>
        )}
      </div>
      {pastTrouble.value !== undefined && <p class="quiet">No history: {pastTrouble.value}</p>}
      {moment.value !== undefined && <Changed marks={marks} at={at} seen={seen} />}
    </div>
  );
}

function useNow(): number {
  const [now, setNow] = useState(Date.now());
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), TICK_MS);
    return () => clearInterval(timer);
  }, []);
  return now;
}

export function agoText(seconds: number): string {
  if (seconds < 60) return `${seconds} s ago`;
  const minutes = Math.round(seconds / 60);
  return minutes === 60 ? "an hour ago" : `${minutes} min ago`;
}

/** Marks that would lie on each other are one: the worst of them. */
function groupedMarks(
  marks: readonly PastEvent[],
  now: number,
): { left: number; sign: string; count: number }[] {
  const places = Map.groupBy(
    marks,
    ({ at }) => Math.round((1 - (now - Date.parse(at)) / (HOUR_S * 1000)) * 200) / 2,
  );
  return [...places].map(([left, own]) => ({
    left,
    count: own.length,
    sign:
      own.map(eventSign).find((sign) => sign === "bad") ??
      own.map(eventSign).find((sign) => sign === "good") ??
      "note",
  }));
}

function jump(marks: readonly PastEvent[], at: number, direction: 1 | -1): void {
  const moments = [...new Set(marks.map((event) => momentOf(event, marks)))].toSorted();
  const next =
    direction < 0
      ? moments.findLast((one) => Date.parse(one) < at)
      : moments.find((one) => Date.parse(one) > at);
  // Before the first change there is nothing to see; after the last comes the present.
  if (next !== undefined || direction > 0) go({ at: next });
}

const MOST_CHANGED = 4;

/** What had just changed then, and who did it. */
function Changed({
  marks,
  at,
  seen,
}: {
  readonly marks: readonly PastEvent[];
  readonly at: number;
  /** When the picture was taken. */
  readonly seen: string | undefined;
}): JSX.Element {
  const before = marks.filter((one) => Date.parse(one.at) <= at).slice(-MOST_CHANGED);
  if (before.length === 0) return <p class="quiet">Nothing had changed yet in this hour.</p>;
  // What the agent tells of the pods is what it saw on this picture.
  const behind =
    seen !== undefined &&
    before.some(({ kind, at: then }) => kind !== "way-out" && Date.parse(then) > Date.parse(seen));
  const rows = [
    ...before.map((event) => ({
      key: String(event.id ?? event.at),
      at: event.at,
      sign: eventSign(event),
      what: <EventText event={event} />,
    })),
    ...(seen === undefined
      ? []
      : [
          {
            key: "seen",
            at: seen,
            sign: "note" as const,
            what: (
              <p class="quiet">The agent took this picture{behind ? ": what is above it came later" : ""}.</p>
            ),
          },
        ]),
  ];
  return (
    <ul class="changed" aria-label="What had changed by then">
      {rows
        .toSorted((a, b) => Date.parse(b.at) - Date.parse(a.at))
        .map((row) => (
          <li key={row.key}>
            <Mark sign={row.sign} />
            <time>{clock(row.at)}</time>
            {row.what}
          </li>
        ))}
    </ul>
  );
}
