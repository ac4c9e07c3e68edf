/** The frame: who this is, where one can go, and how the node is doing. */
import type { JSX } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { Refused } from "../state/ask.ts";
import { entrance } from "../state/sign-in.ts";
import { stream } from "../state/history.ts";
import { helpIsOpen, KEYS } from "../state/keys.ts";
import { agent, isFresh, isLab, picture } from "../state/looking.ts";
import { VIEWS, type View } from "../layout/address-bar.ts";
import { linkTo, moment, view } from "../state/address-bar.ts";
import { Connections } from "./connections.tsx";
import { Entrance } from "./sign-in.tsx";
import { Explain } from "./explain.tsx";
import { Figures } from "./figures.tsx";
import { History } from "./history.tsx";
import { Lab } from "./lab.tsx";
import { Trouble } from "./parts.tsx";
import { WayOut } from "./way-out.tsx";

const SCREENS: Readonly<Record<View, () => JSX.Element>> = {
  "": WayOut,
  connections: Connections,
  history: History,
  explain: Explain,
  figures: Figures,
  lab: Lab,
};

export function App(): JSX.Element {
  if (entrance.value !== "in") return <Entrance />;
  const Screen = SCREENS[view.value];
  return (
    <>
      <a class="skip" href="#main" onClick={skip}>
        To the content
      </a>
      <Top />
      <Help />
      <main id="main" tabIndex={-1} class={view.value === "" ? "way-out" : view.value}>
        <Away />
        <Screen />
      </main>
    </>
  );
}

function skip(event: Event): void {
  event.preventDefault();
  document.getElementById("main")?.focus();
}

function Top(): JSX.Element {
  const views = (Object.keys(VIEWS) as View[]).filter((one) => one !== "lab" || isLab.value);
  return (
    <header class="top">
      <a class="brand" href={linkTo("")}>
        <svg viewBox="0 0 32 32" aria-hidden="true">
          <rect width="32" height="32" rx="8" />
          <path d="M7 11v10h7M14 16h9m-4-5 5 5-5 5" />
        </svg>
        wayout
      </a>
      <nav aria-label="Views">
        {views.map((one) => (
          <a key={one} href={linkTo(one)} aria-current={one === view.value ? "page" : undefined}>
            {VIEWS[one]}
          </a>
        ))}
      </nav>
      <Liveness />
      <button
        type="button"
        class="plain"
        aria-label="Keys"
        aria-haspopup="dialog"
        onClick={() => (helpIsOpen.value = true)}
      >
        <kbd>?</kbd>
      </button>
    </header>
  );
}

/** Whether what is seen is true now. */
function Liveness(): JSX.Element {
  const past = moment.value !== undefined;
  const state = past ? "past" : stream.value === "live" && !isFresh.value ? "opening" : stream.value;
  const words = { past: "the past", live: "live", opening: "looking", lost: "reconnecting" }[state];
  return (
    <span class={`liveness ${state}`} role="status">
      <span aria-hidden="true" />
      {words}
    </span>
  );
}

/** The agent does not answer, or cannot do all of its work. */
function Away(): JSX.Element | null {
  const { trouble } = picture.state.value;
  const own = agent.state.value.value?.troubles ?? [];
  if (trouble?.code === "no-token")
    return <Trouble trouble={new Refused("", "This browser's twelve hours are over.", "sudo wayout page")} />;
  if (own.length === 0) return null;
  return (
    <>
      {own.map(({ step, message }) => (
        <Trouble key={step} trouble={new Refused(step, `The agent cannot keep ${step} true: ${message}`)} />
      ))}
    </>
  );
}

function Help(): JSX.Element {
  const dialog = useRef<HTMLDialogElement>(null);
  const open = helpIsOpen.value;
  useEffect(() => {
    if (open) dialog.current?.showModal();
    else dialog.current?.close();
  }, [open]);
  return (
    <dialog ref={dialog} aria-labelledby="keys-title" onClose={() => (helpIsOpen.value = false)}>
      <h2 id="keys-title">Keys</h2>
      <dl>
        {KEYS.map(({ keys, does }) => (
          <div key={does}>
            <dt>{keys.map((key) => (key === "–" ? " – " : <kbd key={key}>{key}</kbd>))}</dt>
            <dd>{does}</dd>
          </div>
        ))}
      </dl>
      <button type="button" onClick={() => (helpIsOpen.value = false)}>
        Close
      </button>
    </dialog>
  );
}
