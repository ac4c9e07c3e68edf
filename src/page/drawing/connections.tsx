/** The connection table: filtered and cut by the agent, page after page, and never more rows than a browser bears. */
import type { JSX } from "preact";
import { useEffect, useState } from "preact/hooks";
import type { FlowRecord } from "../../flows/flow-record.ts";
import { ask } from "../state/ask.ts";
import { MOST_ROWS } from "../state/history.ts";
import { Keeper } from "../state/kept.ts";
import { pods } from "../state/looking.ts";
import { adjust, place } from "../state/place.ts";
import { endText } from "../layout/flow-text.ts";
import { counted, Panel, Trouble } from "./parts.tsx";
import { VirtualRows } from "./virtual-rows.tsx";

const PAGE = 100;
const AGAIN_MS = 5_000;
const TYPED_MS = 250;
const ROW_HEIGHT = 34;
/** Between two questions so many times as long as the last answer took. */
const REST = 40;

const FILTERS = [
  { name: "dst", label: "Destination", hint: "198.51.100.0/24" },
  { name: "dport", label: "Port", hint: "443" },
  { name: "state", label: "State", hint: "ESTABLISHED" },
] as const;
const PROTOCOLS = ["", "tcp", "udp", "icmp"] as const;
const ORDERS = ["", "bytes", "age", "timeout", "destination", "state"] as const;
const FILTER_NAMES = ["pod", "proto", "dst", "dport", "state", "sort"] as const;

const table = new Keeper<readonly FlowRecord[]>();

export function Connections(): JSX.Element {
  const { of } = place.value;
  const [limit, setLimit] = useState(PAGE);
  const filters = Object.fromEntries(
    FILTER_NAMES.map((name) => [name, name === "pod" ? askable(of["pod"]) : of[name]]),
  );
  const key = JSON.stringify(filters);
  useEffect(() => setLimit(PAGE), [key]);
  useEffect(() => {
    let timer: ReturnType<typeof setTimeout>;
    const read = async (): Promise<void> => {
      if (document.visibilityState === "visible")
        await table.ask((signal) =>
          ask("/v1/flows", { parameters: { ...filters, limit: String(limit) }, signal }),
        );
      timer = setTimeout(() => void read(), Math.max(AGAIN_MS, table.tookMs * REST));
    };
    timer = setTimeout(() => void read(), table.state.peek().value === undefined ? 0 : TYPED_MS);
    return () => clearTimeout(timer);
  }, [key, limit]);
  const { value: rows = [], trouble, asking } = table.state.value;
  const full = rows.length >= limit;
  return (
    <Panel
      title="Connections"
      class="connections"
      aside={
        <span class="quiet" role="status">
          {asking && rows.length === 0
            ? "reading"
            : full && limit >= MOST_ROWS
              ? `the first ${MOST_ROWS}: filter for others`
              : `${counted(rows.length, "connection")}${full ? " and more" : ""}`}
        </span>
      }
    >
      <Filters />
      {trouble !== undefined && <Trouble trouble={trouble} />}
      <VirtualRows
        label="Tracked connections"
        rows={rows}
        height={ROW_HEIGHT}
        keyOf={(one) => String(one.id)}
        nearEnd={() => full && limit < MOST_ROWS && setLimit(Math.min(MOST_ROWS, limit * 2))}
        head={["Pod", "", "Inside", "On the outside", "Destination", "State", "Forgotten in"].map((text) => (
          <span key={text} role="columnheader">
            {text}
          </span>
        ))}
        draw={(one) => <Cells flow={one} />}
      />
      {rows.length === 0 && !asking && trouble === undefined && (
        <p class="empty">No connection is tracked that fits.</p>
      )}
    </Panel>
  );
}

function askable(name: string | undefined): string | undefined {
  return pods.value.find((one) => one.name === name)?.ask ?? name;
}

function Filters(): JSX.Element {
  const { of } = place.value;
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
      {choice("sort", "Order", ORDERS, "as the kernel has it")}
    </form>
  );
}

function Cells({ flow }: { readonly flow: FlowRecord }): JSX.Element {
  const { translation, pod, protocolName, state, timeoutSeconds } = flow;
  const { source, sourceOutside, destination, destinationReal } = translation;
  return (
    <>
      <span role="cell" class="pod">
        {pod ?? ""}
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
        {timeoutSeconds === undefined ? "–" : `${timeoutSeconds} s`}
      </span>
    </>
  );
}
