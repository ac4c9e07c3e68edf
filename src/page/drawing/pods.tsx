/** All pods at a glance: the worst first, found by a part of their name, address or state. */
import type { JSX } from "preact";
import { useEffect, useRef } from "preact/hooks";
import type { NodePicture, PicturePod, PodCondition } from "../../agent/picture/picture.ts";
import { choosePod } from "../state/keys.ts";
import { adjust, chosenPod, addressBar } from "../state/address-bar.ts";
import { Mark, Panel, type Sign } from "./parts.tsx";
import { useRove } from "./arrow-keys.ts";
import { steady, useGrowing } from "./steady.ts";

export const SIGN_OF: Readonly<Record<PodCondition, Sign>> = {
  well: "good",
  warned: "warn",
  broken: "bad",
  blind: "unknown",
};

/** Rows in the document; more are found by searching. */
const MOST_SHOWN = 300;

export function Pods({ picture }: { readonly picture: NodePicture }): JSX.Element {
  const wanted = (addressBar.value.of["search"] ?? "").toLowerCase();
  const found = picture.pods.filter((pod) => wanted === "" || textOf(pod).includes(wanted));
  const shown = found.slice(0, MOST_SHOWN);
  const drawn = useGrowing(shown.length, 1 + shown.findIndex(({ name }) => name === chosenPod.value));
  const { ref, onKeyDown } = useRove<HTMLUListElement>();
  const stop = shown.some(({ name }) => name === chosenPod.value) ? chosenPod.value : shown[0]?.name;
  const search = useRef<HTMLInputElement>(null);
  return (
    <Panel
      title="Pods"
      class="pods"
      aside={
        <input
          ref={search}
          type="search"
          placeholder="Name, address, state"
          aria-label="Search pods"
          aria-keyshortcuts="/"
          data-search
          value={addressBar.value.of["search"] ?? ""}
          onInput={(event) => adjust({ search: event.currentTarget.value })}
          onKeyDown={(event) => {
            if (event.key !== "ArrowDown" && event.key !== "Enter") return;
            event.preventDefault();
            if (event.key === "Enter" && shown[0] !== undefined) choosePod(shown[0].name);
            else ref.current?.querySelector<HTMLElement>("[data-item]")?.focus();
          }}
        />
      }
    >
      {shown.length === 0 && <p class="empty">{wanted === "" ? "There is none." : "No pod is called so."}</p>}
      <ul ref={ref} onKeyDown={onKeyDown}>
        {shown.slice(0, drawn).map((pod) => (
          <PodRow
            key={pod.name}
            pod={pod}
            chosen={pod.name === chosenPod.value}
            tabStop={pod.name === stop}
          />
        ))}
      </ul>
      {found.length > shown.length && (
        <p class="empty">{found.length - shown.length} more: search for them.</p>
      )}
    </Panel>
  );
}

function textOf({ name, addresses, condition, step, code }: PicturePod): string {
  return [name, ...addresses, condition, step ?? "", code ?? ""].join(" ").toLowerCase();
}

interface PodRowProperties {
  readonly pod: PicturePod;
  readonly chosen: boolean;
  readonly tabStop: boolean;
}

const PodRow = steady(({ pod, chosen, tabStop }: PodRowProperties): JSX.Element => {
  const row = useRef<HTMLButtonElement>(null);
  useEffect(() => {
    if (chosen) row.current?.scrollIntoView({ block: "nearest" });
  }, [chosen]);
  return (
    <li>
      <button
        ref={row}
        type="button"
        data-item
        tabIndex={tabStop ? 0 : -1}
        aria-current={chosen ? "true" : undefined}
        onClick={() => choosePod(pod.name)}
      >
        <Mark sign={SIGN_OF[pod.condition]} />
        <span class="name">{pod.name}</span>
        <span class="address">{pod.addresses[0] ?? "no address"}</span>
        {pod.code !== undefined && <span class="code">{pod.code}</span>}
      </button>
    </li>
  );
});
