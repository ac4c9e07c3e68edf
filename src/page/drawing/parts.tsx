/** The small pieces of which everything is made. */
import type { ComponentChildren, JSX } from "preact";
import { useState } from "preact/hooks";
import type { Refused } from "../state/ask.ts";

/** What a mark says; its shape differs, so that nothing depends on its colour. */
export type Sign = "good" | "bad" | "warn" | "unknown" | "skipped" | "note";

const WORDS: Readonly<Record<Sign, string>> = {
  good: "in order",
  bad: "broken",
  warn: "warning",
  unknown: "not known",
  skipped: "not looked at",
  note: "note",
};

const DISC = "m8 1a7 7 0 0 1 0 14a7 7 0 0 1 0-14z";

/** Of 16 by 16, from their upper left corner on: relative, so that many may stand in one path. */
export const SIGN_PATHS: Readonly<Record<Sign, { readonly ground: string; readonly stroke: string }>> = {
  good: { ground: DISC, stroke: "m4.6 8.3 2.3 2.3 4.5-5" },
  bad: {
    ground: "m5 1h6a4 4 0 0 1 4 4v6a4 4 0 0 1-4 4h-6a4 4 0 0 1-4-4v-6a4 4 0 0 1 4-4z",
    stroke: "m5.2 5.2 5.6 5.6m0-5.6-5.6 5.6",
  },
  warn: { ground: "m8 1.2 7.2 12.8h-14.4z", stroke: "m8 5.4v4.2m0 2.6v.1" },
  unknown: {
    ground: DISC,
    stroke: "m6.2 6.3a1.9 1.9 0 1 1 2.6 1.8c-.5.2-.8.5-.8 1v.3m0 1.9v.1",
  },
  skipped: { ground: DISC, stroke: "m5 8h6" },
  note: { ground: DISC, stroke: "m8 7.4v3.6m0-6v.1" },
};

/** The shape alone, for drawing inside another picture: 16 by 16. */
export function Shape({ sign }: { readonly sign: Sign }): JSX.Element {
  const { ground, stroke } = SIGN_PATHS[sign];
  return (
    <g class={`mark ${sign}`}>
      <path class="ground" d={`M0 0${ground}`} />
      <path class="stroke" d={`M0 0${stroke}`} />
    </g>
  );
}

export function Mark({ sign, silent }: { readonly sign: Sign; readonly silent?: boolean }): JSX.Element {
  const said =
    silent === true ? { "aria-hidden": true } : ({ role: "img", "aria-label": WORDS[sign] } as const);
  return (
    <svg class="sign" viewBox="0 0 16 16" {...said}>
      <Shape sign={sign} />
    </svg>
  );
}

/** A command that can be pasted. `shortcut`: the key `c` copies this one. */
export function Command({
  text,
  place,
  shortcut,
}: {
  readonly text: string;
  readonly place?: string;
  readonly shortcut?: boolean;
}): JSX.Element {
  const [said, setSaid] = useState("Copy");
  const copy = (): void => {
    navigator.clipboard.writeText(text).then(
      () => setSaid("Copied"),
      () => setSaid("Select it"),
    );
    setTimeout(() => setSaid("Copy"), 1500);
  };
  return (
    <div class="command">
      {place !== undefined && <span class="place">{place}</span>}
      <code tabIndex={0}>{text}</code>
      <button
        type="button"
        onClick={copy}
        aria-label={`Copy ${text}`}
        {...(shortcut === true ? { "data-key": "c" } : {})}
      >
        <span aria-live="polite">{said}</span>
      </button>
    </div>
  );
}

/** What went wrong, and what to do. */
export function Trouble({ trouble }: { readonly trouble: Refused }): JSX.Element {
  return (
    <div class="trouble" role="alert">
      <Mark sign="warn" />
      <p>
        {trouble.message}
        {trouble.todo !== undefined && <span class="quiet"> {trouble.todo}</span>}
      </p>
    </div>
  );
}

export function Panel({
  title,
  aside,
  children,
  ...more
}: {
  readonly title: string;
  readonly aside?: ComponentChildren;
  readonly children: ComponentChildren;
  readonly class?: string;
  readonly id?: string;
}): JSX.Element {
  const id = `${more.id ?? title.replaceAll(/\W+/g, "-").toLowerCase()}-title`;
  return (
    <section {...more} class={`panel ${more.class ?? ""}`} aria-labelledby={id}>
      <header>
        <h2 id={id}>{title}</h2>
        {aside}
      </header>
      {children}
    </section>
  );
}

export function Waiting({ what }: { readonly what: string }): JSX.Element {
  return (
    <p class="waiting" role="status">
      <span class="pulse" aria-hidden="true" />
      {what}
    </p>
  );
}

export function clock(iso: string): string {
  return new Date(iso).toLocaleTimeString("en-GB");
}

/** `262,144`. A browser's own way to say it is loaded when it is first asked: for longer than drawing a picture takes. */
export function grouped(number: number): string {
  return String(number).replaceAll(/\B(?=(\d{3})+$)/g, ",");
}

export function counted(number: number, one: string, many = `${one}s`): string {
  return `${grouped(number)} ${number === 1 ? one : many}`;
}
