/** The connection table: filtered and sorted by the agent, which hands it over page by page. */
import type { JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import type { FlowRecord } from "../../flows/flow-record.ts";
import { ask } from "../state/ask.ts";
import { Keeper } from "../state/kept.ts";
import { every, pods, budget } from "../state/looking.ts";
import { extentOf, PAGE_ROWS, pagesOf, rowAt, withPage, type Pages } from "../layout/row-pages.ts";
import { adjust, addressBar } from "../state/address-bar.ts";
import { endText, spanText } from "../layout/flow-text.ts";
import { counted, Panel, Trouble } from "./parts.tsx";
import { VirtualRows } from "./virtual-rows.tsx";

const AGAIN_MS = 5_000;
const TYPED_MS = 250;
const ROW_HEIGHT = 34;

const FILTERS = [
  { name: "dst", label: "Destination", hint: "198.51.100.0/24" },
  { name: "dport", label: "Port", hint: "443" },
  { name: "state", label: "State", hint: "ESTABLISHED" },
] as const;
const PROTOCOLS = ["", "tcp", "udp", "icmp"] as const;
const ORDERS = ["", "bytes", "age", "timeout", "destination", "state"] as const;
const FILTER_NAMES = ["pod", "proto", "dst", "dport", "state", "sort"] as const;

const table = new Keeper<Pages<FlowRecord>>();

/** Reads the pages on which rows are seen: at once where they are not known, and again every few seconds. */
function useTable(
  filters: Readonly<Record<string, string | undefined>>,
): (first: number, last: number) => void {
  const key = JSON.stringify(filters);
  const [seen, setSeen] = useState({ first: 0, last: 1 });
  const numbers = pagesOf(seen.first, seen.last).join(" ");
  const read = (): Promise<void> =>
    table.ask(async (signal) => {
      let pages = table.state.peek().value ?? new Map<number, readonly FlowRecord[]>();
      for (const number of numbers.split(" ").map(Number)) {
        const parameters = { ...filters, limit: String(PAGE_ROWS), offset: String(number * PAGE_ROWS) };
        pages = withPage(pages, number, await ask<FlowRecord[]>("/v1/flows", { parameters, signal }));
      }
      return pages;
    });
  useEffect(() => {
    table.forget();
    setSeen({ first: 0, last: 1 });
  }, [key]);
  useEffect(() => {
    const isNew = (number: string): boolean => table.state.peek().value?.has(Number(number)) !== true;
    const soon = setTimeout(
      () => numbers.split(" ").some(isNew) && void read().then(() => budget.pay(table.tookMs)),
      table.state.peek().value === undefined ? 0 : TYPED_MS,
    );
    const stop = every(
      table,
      () => AGAIN_MS,
      () => true,
      read,
    );
    return () => {
      clearTimeout(soon);
      stop();
    };
  }, [key, numbers]);
  return (first, last) => setSeen({ first, last });
}

export function Connections(): JSX.Element {
  const { of } = addressBar.value;
  const filters = Object.fromEntries(
    FILTER_NAMES.map((name) => [name, name === "pod" ? askable(of["pod"]) : of[name]]),
  );
  const look = useTable(filters);
  const { value: pages = new Map<number, readonly FlowRecord[]>(), trouble, asking } = table.state.value;
  const { rows, all } = extentOf(pages);
  // What was forgotten on the way is still below.
  const furthest = useRef(0);
  furthest.current = all || pages.size === 0 ? rows : Math.max(furthest.current, rows);
  const known = furthest.current;
  return (
    <Panel
      title="Connections"
      class="connections"
      aside={
        <span class="quiet" role="status">
          {asking && known === 0 ? "reading" : `${counted(known, "connection")}${all ? "" : " and more"}`}
        </span>
      }
    >
      <Filters />
      {trouble !== undefined && <Trouble trouble={trouble} />}
      <VirtualRows
        label="Tracked connections"
        key={JSON.stringify(filters)}
        count={all || pages.size === 0 ? known : known + PAGE_ROWS}
        height={ROW_HEIGHT}
        seen={look}
        head={["Pod", "Protocol", "Inside", "On the outside", "Destination", "State", "Forgotten in"].map(
          (text) => (
            <span key={text} role="columnheader">
              {text}
            </span>
          ),
        )}
        draw={(index) => {
          const flow = rowAt(pages, index);
          return flow === undefined ? <Unread /> : <Cells flow={flow} />;
        }}
      />
      {known === 0 && !asking && trouble === undefined && (
        <p class="empty">No connection is tracked that fits.</p>
      )}
    </Panel>
  );
}

/** A row whose page is under way. */
function Unread(): JSX.Element {
  return (
    <span role="cell" class="quiet">
      …
    </span>
  );
}

function askable(name: string | undefined): string | undefined {
  return pods.value.find((one) => one.name === name)?.ask ?? name;
}

function Filters(): JSX.Element {
  const { of } = addressBar.value;
  const choice = (name: string, label: string, choices: readonly string[], any: string): JSX.Element => (
    <label>
      {label}
      <select value={of[name] ?? ""} onChange={(event) => adjust({ [name]: event.currentTarget.value })}>
        {choices.map((one) => (
          <option key={one} value={one}>
            {one === "" ? any : one}
          </option>
        ))}
      </select>
    </label>
  );
  return (
    <form class="filters" role="search" onSubmit={(event) => event.preventDefault()}>
      <label>
        Pod
        <input
          data-search
          value={of["pod"] ?? ""}
          placeholder="any"
          list="pod-names"
          spellcheck={false}
          onInput={(event) => adjust({ pod: event.currentTarget.value })}
        />
        <datalist id="pod-names">
          {pods.value.slice(0, 300).map(({ name }) => (
            <option key={name} value={name} />
          ))}
        </datalist>
      </label>
      {choice("proto", "Protocol", PROTOCOLS, "any")}
      {FILTERS.map(({ name, label, hint }) => (
        <label key={name}>
          {label}
          <input
            value={of[name] ?? ""}
            placeholder={hint}
            spellcheck={false}
            onInput={(event) => adjust({ [name]: event.currentTarget.value })}
          />
        </label>
      ))}
      {choice("sort", "Order", ORDERS, "kernel's own")}
    </form>
  );
}

function Cells({ flow }: { readonly flow: FlowRecord }): JSX.Element {
  const { translation, pod, protocolName, state, timeoutSeconds } = flow;
  const { source, sourceOutside, destination, destinationReal } = translation;
  return (
    <>
      <span role="cell" class="pod">
        {pod ?? <span class="quiet">–</span>}
      </span>
      <span role="cell">{protocolName}</span>
      <code role="cell">{endText(source)}</code>
      <code role="cell">{sourceOutside === undefined ? "–" : `↔ ${endText(sourceOutside)}`}</code>
      <code role="cell">
        → {endText(destination)}
        {destinationReal !== undefined && ` ↔ ${endText(destinationReal)}`}
      </code>
      <span role="cell">{state}</span>
      <span role="cell" class="number">
        {timeoutSeconds === undefined ? "–" : spanText(timeoutSeconds)}
      </span>
    </>
  );
}
