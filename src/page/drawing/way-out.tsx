/** The first view: the verdict, the picture, the pods at a glance, and the checklist of the one that is chosen. */
import type { JSX } from "preact";
import type { NodePicture } from "../../agent/picture/picture.ts";
import { choosePod } from "../state/keys.ts";
import { isOfMoment, picture } from "../state/looking.ts";
import { moment } from "../state/address-bar.ts";
import { Checklist } from "./checklist.tsx";
import { clock, Command, counted, Mark, Trouble, Waiting } from "./parts.tsx";
import { NodePictureView } from "./picture.tsx";
import { Pods } from "./pods.tsx";
import { TimeBar } from "./time-bar.tsx";

export function WayOut(): JSX.Element {
  const { value, trouble, asking } = picture.state.value;
  return (
    <>
      {trouble !== undefined && <Trouble trouble={trouble} />}
      {value === undefined ? (
        asking && <Waiting what="Looking at the node" />
      ) : (
        <>
          {isOfMoment.value ? (
            <Verdict picture={value} />
          ) : (
            <NotYet moment={moment.value} isKnown={trouble === undefined} />
          )}
          <section
            class={`panel stage ${isOfMoment.value ? "" : "of-another-moment"}`}
            aria-label="The node"
            aria-busy={!isOfMoment.value}
          >
            <NodePictureView picture={value} />
            <TimeBar />
          </section>
          <div class={`columns ${isOfMoment.value ? "" : "of-another-moment"}`}>
            <Pods picture={value} />
            <Checklist picture={value} />
          </div>
        </>
      )}
    </>
  );
}

/** In the place of the verdict, while what is drawn is of another moment. */
function NotYet({
  moment: at,
  isKnown,
}: {
  readonly moment: string | undefined;
  readonly isKnown: boolean;
}): JSX.Element {
  const then = at === undefined ? "is now" : `was at ${clock(at)}`;
  return (
    <section class="verdict unknown" aria-labelledby="verdict-title">
      <Mark sign="unknown" />
      <div>
        <h1 id="verdict-title" aria-live="polite">
          {isKnown ? `Reading how the node ${then}` : `How the node ${then} is not known`}
        </h1>
        <p class="quiet">Below is another moment.</p>
      </div>
    </section>
  );
}

/** A command of so many letters stands beside the sentence; a longer one below it. */
const SHORT = 60;

/** One sentence for the whole node, the worst cause, whose it is, and what mends it. */
function Verdict({ picture: { pods, findings } }: { readonly picture: NodePicture }): JSX.Element {
  const well = pods.filter(({ condition }) => condition === "well" || condition === "warned").length;
  const blind = pods.filter(({ condition }) => condition === "blind").length;
  const worst = findings.find(({ stopsTraffic }) => stopsTraffic);
  const more = findings.filter(({ stopsTraffic }) => stopsTraffic).length - 1;
  const sign = worst !== undefined ? "bad" : blind > 0 || pods.length === 0 ? "unknown" : "good";
  const tense = moment.value === undefined ? "can" : "could";
  return (
    <section
      class={`verdict ${sign} ${(worst?.fix[0]?.command.length ?? 0) > SHORT ? "long" : ""}`}
      aria-labelledby="verdict-title"
    >
      <Mark sign={sign} />
      <div>
        <h1 id="verdict-title" aria-live="polite">
          {pods.length === 0
            ? "No pod lives on this node"
            : `${well} of ${counted(pods.length, "pod")} ${tense} reach the outside`}
        </h1>
        {worst === undefined ? (
          <p class="quiet">
            {pods.length === 0
              ? "Nothing is attached to its bridges or veths."
              : blind > 0
                ? `Of ${blind} it cannot be told: something that decides could not be read.`
                : "Every step of every pod's way stands."}
          </p>
        ) : (
          <>
            <p class="cause">{worst.text}</p>
            <p class="quiet">
              {worst.owner}
              {" · "}
              {worst.pods.map((name, index) => (
                <>
                  {index > 0 && ", "}
                  <button type="button" class="link" onClick={() => choosePod(name)}>
                    {name}
                  </button>
                </>
              ))}
              {worst.count > worst.pods.length && ` and ${worst.count - worst.pods.length} more`}
              {more > 0 && ` · and ${counted(more, "other cause")}`}
            </p>
          </>
        )}
      </div>
      {worst?.fix[0] !== undefined && (
        <Command text={worst.fix[0].command} place={worst.fix[0].place ?? "run"} shortcut />
      )}
    </section>
  );
}
