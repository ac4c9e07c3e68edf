/** What changed over the last hour, when, and by whom. */
import type { JSX } from "preact";
import { momentOf, newestFirst, past, pastTrouble, type PastEvent } from "../state/history.ts";
import { adjust, linkTo, addressBar } from "../state/address-bar.ts";
import { clock, Mark, Panel, type Sign } from "./parts.tsx";
import { VirtualRows } from "./virtual-rows.tsx";

export function eventSign({ kind, effects }: PastEvent): Sign {
  if (kind === "failure" || kind === "fight") return "bad";
  if (kind === "repair") return "good";
  if (kind !== "way-out") return "note";
  return effects?.some(({ became }) => became === "broken") === true ? "bad" : "good";
}

export function EventText({ event }: { readonly event: PastEvent }): JSX.Element {
  const { kind, text, who, effects = [] } = event;
  const said = kind === "repair" ? `put back: ${text}` : text;
  const [first, ...more] = effects;
  return (
    <p>
      {said}
      {who !== undefined && kind !== "rules" && <span class="who"> by {who}</span>}
      {first !== undefined && (
        <span class="quiet">
          {" "}
          {first.pod} {first.became}: {first.text}
          {more.length > 0 && ` and ${more.length} more`}
        </span>
      )}
    </p>
  );
}

const ROW_HEIGHT = 44;

export function History(): JSX.Element {
  const { search = "" } = addressBar.value.of;
  const wanted = search.toLowerCase();
  const rows = newestFirst.value.filter(
    (event) => wanted === "" || JSON.stringify(event).toLowerCase().includes(wanted),
  );
  return (
    <Panel
      title="What changed in the last hour"
      class="history"
      aside={
        <input
          type="search"
          data-search
          aria-label="Search history"
          placeholder="Pod, table, program"
          value={search}
          onInput={(event) => adjust({ search: event.currentTarget.value })}
        />
      }
    >
      {pastTrouble.value !== undefined && <p class="empty">{pastTrouble.value}</p>}
      {rows.length === 0 && pastTrouble.value === undefined && <p class="empty">Nothing happened.</p>}
      <VirtualRows
        label="Events, the newest first"
        count={rows.length}
        height={ROW_HEIGHT}
        keyOf={(index) => keyOf(rows[index]!)}
        draw={(index) => <Cells event={rows[index]!} />}
      />
    </Panel>
  );
}

function keyOf({ id, at, text }: PastEvent): string {
  return String(id ?? at + text);
}

function Cells({ event }: { readonly event: PastEvent }): JSX.Element {
  return (
    <>
      <span role="cell">
        <Mark sign={eventSign(event)} />
      </span>
      <time role="cell">{clock(event.at)}</time>
      <span role="cell" class="what" title={event.text}>
        <EventText event={event} />
      </span>
      <span role="cell">
        <a
          href={linkTo("", { at: momentOf(event, past.value), pod: addressBar.value.of["pod"] })}
          tabIndex={-1}
        >
          Look there
        </a>
      </span>
    </>
  );
}
