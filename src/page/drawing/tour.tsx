/** The lab's chapters as a guided tour: each step with its command, what should happen and what did. */
import type { JSX } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { playStory, story } from "../state/lab.ts";
import { adjust, addressBar } from "../state/address-bar.ts";
import { Mark, Panel, Trouble, Waiting } from "./parts.tsx";

export function Tour(): JSX.Element {
  const { value, trouble, asking } = story.state.value;
  const chapters = value?.chapters ?? [];
  const at = Math.min(chapters.length, Math.max(1, Number(addressBar.value.of["chapter"] ?? 1)));
  const chapter = chapters[at - 1];
  const heading = useRef<HTMLHeadingElement>(null);
  useEffect(() => heading.current?.focus({ preventScroll: true }), [at]);
  const turn = (by: number): void => adjust({ chapter: String(at + by) });
  return (
    <Panel
      title="How a namespace reaches the internet"
      class="tour"
      aside={
        chapter !== undefined && (
          <span class="quiet">
            {at} of {chapters.length}
          </span>
        )
      }
    >
      {trouble !== undefined && <Trouble trouble={trouble} />}
      {chapter === undefined ? (
        <>
          <p>
            The story runs now, in namespaces of its own that are thrown away: two pods, a bridge, a node that
            becomes a router, masquerade, connection tracking. Each step is tried, and the kernel says what
            happened.
          </p>
          <p class="buttons">
            <button type="button" class="primary" disabled={asking} onClick={() => void playStory()}>
              Play the story
            </button>
          </p>
          {asking && <Waiting what="About four seconds" />}
        </>
      ) : (
        <article>
          <h3 ref={heading} tabIndex={-1}>
            {chapter.number}. {chapter.title}
          </h3>
          <p>{chapter.intro}</p>
          <ol>
            {chapter.steps.map(({ where, command, expected, found, ok, evidence }) => (
              <li key={where + command}>
                <Mark sign={ok ? "good" : "bad"} />
                <div>
                  <p class="shell">
                    <span>{where} $</span> <code tabIndex={0}>{command}</code>
                  </p>
                  <dl>
                    <dt>should</dt>
                    <dd>{expected}</dd>
                    <dt>did</dt>
                    <dd>{found}</dd>
                  </dl>
                  {evidence.length > 0 && (
                    <details>
                      <summary>What the kernel says</summary>
                      {evidence.map(({ source, lines }) => (
                        <pre key={source} tabIndex={0}>
                          {`${source}\n`}
                          {lines.map((line) => `  ${line}`).join("\n")}
                        </pre>
                      ))}
                    </details>
                  )}
                </div>
              </li>
            ))}
          </ol>
          <p class="buttons">
            <button type="button" disabled={at <= 1} onClick={() => turn(-1)}>
              Back
            </button>
            <button type="button" class="primary" disabled={at >= chapters.length} onClick={() => turn(1)}>
              Next
            </button>
          </p>
        </article>
      )}
    </Panel>
  );
}
