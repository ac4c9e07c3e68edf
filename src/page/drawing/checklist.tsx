/** One pod's checklist as sentences: what is broken stands open in the middle, with its owner and what mends it. */
import type { JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import type { NodePicture } from "../../agent/picture/picture.ts";
import type { ChecklistLine, Diagnosis } from "../../doctor/diagnose.ts";
import type { Finding } from "../../doctor/finding.ts";
import { led } from "../state/keys.ts";
import { checklist, destination, pod } from "../state/looking.ts";
import { chosenPod, go, moment, addressBar } from "../state/address-bar.ts";
import { sendPacket, trace } from "../state/tracing.ts";
import { Command, Mark, Panel, Trouble, Waiting, type Sign } from "./parts.tsx";
import { Steps } from "./steps.tsx";

const SIGN_OF: Readonly<Record<ChecklistLine["status"], Sign>> = {
  ok: "good",
  broken: "bad",
  warned: "warn",
  skipped: "skipped",
};

export function Checklist({ picture }: { readonly picture: NodePicture }): JSX.Element {
  const { value, trouble, asking } = checklist.state.value;
  const { value: own } = pod;
  if (chosenPod.value === undefined) return <Overview picture={picture} />;
  if (own === undefined) {
    return (
      <Panel title={chosenPod.value} class="checklist">
        <p class="empty">
          {moment.value === undefined
            ? "No such pod lives on this node now."
            : "No such pod lived here then."}
        </p>
      </Panel>
    );
  }
  return (
    <Panel title={own.name} id="pod" class="checklist" aside={<Where key={own.name} name={own.ask} />}>
      <Steps />
      {trouble !== undefined && <Trouble trouble={trouble} />}
      {value === undefined ? (
        asking && <Waiting what={`Going through ${own.name}'s way out`} />
      ) : (
        <Lines diagnosis={value} />
      )}
    </Panel>
  );
}

/** Until a pod is chosen: every cause, with the pods that it concerns. */
function Overview({ picture: { findings } }: { readonly picture: NodePicture }): JSX.Element {
  // What mends it stands beside the verdict already.
  const worst = findings.find(({ stopsTraffic }) => stopsTraffic);
  return (
    <Panel title="Findings" class="checklist">
      {findings.length === 0 ? (
        <p class="empty">Nothing is wrong. Choose a pod to go through its way out step by step.</p>
      ) : (
        <ul class="findings">
          {findings.map((one) => (
            <li key={one.code + one.text} class={one.stopsTraffic ? "bad" : "warn"}>
              <Mark sign={one.stopsTraffic ? "bad" : one.severity === "note" ? "note" : "warn"} />
              <div>
                <p>{one.text}</p>
                <p class="quiet">
                  {one.owner} · {one.pods.join(", ")}
                  {one.count > one.pods.length && ` and ${one.count - one.pods.length} more`} · {one.code}
                </p>
                {one.fix.slice(one === worst ? 1 : 0).map(({ command, place: where }) => (
                  <Command key={command} text={command} place={where ?? "run"} />
                ))}
              </div>
            </li>
          ))}
        </ul>
      )}
      <p class="hint">
        <span>
          <kbd>b</kbd> {worst === undefined ? "goes through the next pod" : "leads to the cause"}
        </span>
        <span>
          <kbd>b</kbd> <kbd>t</kbd> sends a real packet from it
        </span>
        {worst !== undefined && (
          <span>
            <kbd>c</kbd> copies what mends it
          </span>
        )}
        <span>
          <kbd>?</kbd> all keys
        </span>
      </p>
    </Panel>
  );
}

/** Whom the pod shall reach: asked of the tables, or tried with one real packet. */
function Where({ name }: { readonly name: string }): JSX.Element {
  const [to, setTo] = useState(addressBar.value.of["to"] ?? "");
  const past = moment.value !== undefined;
  return (
    <form
      class="where"
      onSubmit={(event) => {
        event.preventDefault();
        go({ to });
      }}
    >
      <input
        aria-label="Destination"
        placeholder={destination.value}
        value={to}
        maxLength={300}
        spellcheck={false}
        onInput={(event) => setTo(event.currentTarget.value)}
      />
      <button type="submit">Check</button>
      <button
        type="button"
        class="primary"
        data-key="t"
        aria-keyshortcuts="t"
        disabled={past || trace.state.value.asking}
        title={past ? "Only the present can be traced" : "Sends one real packet from the pod"}
        onClick={() => void sendPacket(name, to === "" ? destination.value : to, "tcp")}
      >
        Trace
      </button>
    </form>
  );
}

function Lines({ diagnosis }: { readonly diagnosis: Diagnosis }): JSX.Element {
  const list = useRef<HTMLOListElement>(null);
  const leading = led.value;
  useEffect(() => {
    if (leading === 0) return;
    const broken = list.current?.querySelector<HTMLElement>(".broken, .warned") ?? list.current;
    broken?.scrollIntoView({ block: "center" });
    broken?.focus({ preventScroll: true });
  }, [leading, diagnosis.pod]);
  const { checklist: lines, findings, suspicions, gaps, path, answer, healthy } = diagnosis;
  const shown = new Set<Finding>();
  const ofStep = (step: string): Finding[] => {
    const own = findings.filter((one) => !shown.has(one) && stepOf(diagnosis, one) === step);
    for (const one of own) shown.add(one);
    return own;
  };
  return (
    <>
      <p class={`answer ${healthy ? "good" : "bad"}`}>{answer}</p>
      <ol ref={list} class="lines" tabIndex={-1}>
        {lines.map((line) => (
          <Line key={line.step} line={line} findings={ofStep(line.step)} />
        ))}
      </ol>
      {suspicions.length > 0 && (
        <details>
          <summary>If a real packet gets no answer: {suspicions.length} suspicions</summary>
          {suspicions.map((one) => (
            <FindingCard key={one.code} finding={one} />
          ))}
        </details>
      )}
      {[
        ...path.blindSpots.map((spot) => `cannot look into ${spot}`),
        ...gaps.map((gap) => `not looked at: ${gap}`),
      ].map((text) => (
        <p key={text} class="quiet">
          {text}
        </p>
      ))}
    </>
  );
}

/** The line that says what the finding says is the one that it belongs to. */
function stepOf({ checklist: lines }: Diagnosis, { text }: Finding): string | undefined {
  const line =
    lines.find((one) => one.status !== "ok" && one.text.includes(text)) ??
    lines.find((one) => one.status === "broken") ??
    lines.find((one) => one.status === "warned");
  return line?.step;
}

function Line({
  line,
  findings,
}: {
  readonly line: ChecklistLine;
  readonly findings: readonly Finding[];
}): JSX.Element {
  const open = findings.length > 0;
  return (
    <li class={line.status} tabIndex={open ? -1 : undefined}>
      <Mark sign={SIGN_OF[line.status]} />
      <div>
        <p>
          <strong>{line.title}</strong>
          {!open && line.text !== "" && <span class="found"> {line.text}</span>}
        </p>
        {findings.map((one, index) => (
          <FindingCard key={one.code} finding={one} shortcut={index === 0} />
        ))}
      </div>
    </li>
  );
}

export function FindingCard({
  finding,
  shortcut,
}: {
  readonly finding: Finding;
  readonly shortcut?: boolean;
}): JSX.Element {
  const { text, owner, consequence, evidence, fix, advice = [], code, confidence } = finding;
  return (
    <article class="finding">
      <p class="cause">{text}</p>
      <dl>
        <dt>whose</dt>
        <dd>{owner}</dd>
        <dt>so</dt>
        <dd>{consequence}</dd>
        {evidence.map(({ source, value }) => (
          <>
            <dt>evidence</dt>
            <dd>
              <code>
                {source}: {value}
              </code>
            </dd>
          </>
        ))}
        {confidence !== "certain" && (
          <>
            <dt>sure?</dt>
            <dd>{confidence}</dd>
          </>
        )}
        {advice.map((one) => (
          <>
            <dt>besides</dt>
            <dd>{one}</dd>
          </>
        ))}
      </dl>
      {fix.map(({ command, place: where }, index) => (
        <Command
          key={command}
          text={command}
          place={where ?? "run"}
          shortcut={shortcut === true && index === 0}
        />
      ))}
      <p class="code">{code}</p>
    </article>
  );
}
