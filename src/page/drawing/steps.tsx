/** The nine steps of one real packet, shown one after the other. */
import type { JSX } from "preact";
import type { StepReport, TraceReport } from "../../trace/report.ts";
import { checklist, pod } from "../state/looking.ts";
import { forgetTrace, play, shown, trace } from "../state/tracing.ts";
import { Command, Mark, Trouble, Waiting, type Sign } from "./parts.tsx";

const SIGN_OF: Readonly<Record<StepReport["status"], Sign>> = {
  proven: "good",
  stopped: "bad",
  "not-reached": "skipped",
  unseen: "unknown",
} as Readonly<Record<StepReport["status"], Sign>>;

export function Steps(): JSX.Element | null {
  const { value, trouble, asking } = trace.state.value;
  if (asking) return <Waiting what="A packet is under way" />;
  if (trouble !== undefined) return <Trouble trouble={trouble} />;
  if (value === undefined || value.pod !== pod.value?.name) return null;
  return <Report report={value} />;
}

function Report({ report }: { readonly report: TraceReport }): JSX.Element {
  const { destination, steps, stop, answer } = report;
  // What the trace saw has a cause in the tables, which know whose it is and what mends it.
  const known = checklist.state.value.value?.findings.find(({ code }) => code === stop?.code);
  const owner = stop?.owner ?? known?.owner;
  const fix = stop?.fix ?? known?.fix ?? [];
  const done = shown.value >= steps.length;
  const to = destination.port === undefined ? destination.host : `${destination.host}:${destination.port}`;
  return (
    <section class="steps" aria-label={`One packet to ${to}`}>
      <header>
        <h3>One packet to {to}</h3>
        <button type="button" onClick={play}>
          Play again
        </button>
        <button type="button" onClick={forgetTrace}>
          Close
        </button>
      </header>
      <ol>
        {steps.map((step, index) => (
          <li
            key={step.number}
            class={index < shown.value ? step.status : "waiting"}
            aria-hidden={index >= shown.value}
          >
            <Mark sign={SIGN_OF[step.status] ?? "unknown"} />
            <p>
              <strong>{step.title}</strong> <span class="found">{step.text}</span>
            </p>
            <span class="time">{step.atUs === undefined ? "" : `${step.atUs} µs`}</span>
          </li>
        ))}
      </ol>
      <div aria-live="polite">
        {done && stop === undefined && answer !== undefined && <p class="answer good">{answer}</p>}
        {done && stop !== undefined && (
          <article class="finding">
            <p class="cause">{stop.reason}</p>
            <dl>
              {owner !== undefined && (
                <>
                  <dt>whose</dt>
                  <dd>{owner}</dd>
                </>
              )}
              <dt>last seen</dt>
              <dd>{stop.lastSeen}</dd>
            </dl>
            {fix.map(({ command, place = "run" }) => (
              <Command key={command} text={command} place={place} />
            ))}
            <p class="code">{stop.code}</p>
          </article>
        )}
      </div>
    </section>
  );
}
