/** Over the lab only: break something, watch the way turn red, mend it; and the story, step by step. */
import type { JSX } from "preact";
import { useEffect, useState } from "preact/hooks";
import type { LabStatus } from "../../lab/up-and-down.ts";
import { act, faults, lab, readLab } from "../state/lab.ts";
import { adjust, linkTo, addressBar } from "../state/address-bar.ts";
import { Mark, Panel, Trouble, Waiting } from "./parts.tsx";
import { Tour } from "./tour.tsx";

export function Lab(): JSX.Element {
  useEffect(() => void readLab(), []);
  const { value: status, trouble } = lab.state.value;
  return (
    <>
      {trouble !== undefined && <Trouble trouble={trouble} />}
      <div class="columns lab">
        <Break status={status} />
        <Tour />
      </div>
    </>
  );
}

function Break({ status }: { readonly status: LabStatus | undefined }): JSX.Element {
  const [doing, setDoing] = useState<string>();
  const { value: known = [], trouble } = faults.state.value;
  const search = (addressBar.value.of["search"] ?? "").toLowerCase();
  const run = async (word: "break" | "mend", fault?: string): Promise<void> => {
    setDoing(fault ?? word);
    await act(word, fault);
    setDoing(undefined);
  };
  const broken = new Set(status?.faults ?? []);
  return (
    <Panel
      title="Break it"
      class="break-it"
      aside={
        <input
          type="search"
          data-search
          aria-label="Search faults"
          placeholder="Search"
          value={addressBar.value.of["search"] ?? ""}
          onInput={(event) => adjust({ search: event.currentTarget.value })}
        />
      }
    >
      {trouble !== undefined && <Trouble trouble={trouble} />}
      <p class="in-place" role="status">
        {broken.size === 0 ? (
          <>
            <Mark sign="good" /> Nothing is broken.
          </>
        ) : (
          <>
            <Mark sign="warn" /> In place: {[...broken].join(", ")}.
          </>
        )}
      </p>
      <p class="buttons">
        <button
          type="button"
          class="primary"
          disabled={doing !== undefined}
          onClick={() => void run("break")}
        >
          Surprise me
        </button>
        <button
          type="button"
          disabled={doing !== undefined || broken.size === 0}
          onClick={() => void run("mend")}
        >
          Mend everything
        </button>
        <a href={linkTo("")}>Look for the cause</a>
      </p>
      {doing !== undefined && <Waiting what="A moment" />}
      <ul class="faults">
        {known
          .filter(({ name, title }) => search === "" || `${name} ${title}`.toLowerCase().includes(search))
          .map(({ name, title }) => (
            <li key={name}>
              <div>
                <strong>{name}</strong>
                <span class="quiet">{title}</span>
              </div>
              <button
                type="button"
                disabled={doing !== undefined}
                aria-label={`${broken.has(name) ? "Mend" : "Break"}: ${title}`}
                onClick={() => void run(broken.has(name) ? "mend" : "break", name)}
              >
                {broken.has(name) ? "Mend" : "Break"}
              </button>
            </li>
          ))}
      </ul>
    </Panel>
  );
}
