/** The node as a picture. Where everything stands is layout's; here it gets its looks, and can be chosen. */
import type { JSX } from "preact";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import type { NodePicture } from "../../agent/picture/picture.ts";
import type { StageBox } from "../layout/boxes.ts";
import { shownFlows, type Destination, type ShownFlow } from "../layout/destinations.ts";
import { spanText, translationText } from "../layout/flow-text.ts";
import {
  layoutOf,
  tilePlace,
  type MovingFlow,
  type Placed,
  type PictureLayout,
  type Area,
} from "../layout/picture-layout.ts";
import type { Row } from "../layout/rows.ts";
import { choosePod } from "../state/keys.ts";
import { flows, pod } from "../state/looking.ts";
import { adjust, chosenPod, linkTo, place } from "../state/place.ts";
import { wantsStillness } from "../state/tracing.ts";
import { counted, Shape, type Sign } from "./parts.tsx";
import { SIGN_OF } from "./pods.tsx";
import { useRove } from "./rove.ts";
import { TracedPacket } from "./traced-packet.tsx";

export function NodePictureView({ picture }: { readonly picture: NodePicture }): JSX.Element {
  const frame = useRef<HTMLDivElement>(null);
  const width = useWidth(frame);
  const records = flows.state.value.value ?? [];
  const chosen = pod.value;
  const layout = useMemo(
    () => (width === 0 ? undefined : layoutOf(picture, shownFlows(records, picture.pods), chosen, width)),
    [picture, records, chosen, width],
  );
  return (
    <>
      <div ref={frame} class="picture">
        {layout !== undefined && <Drawing layout={layout} />}
      </div>
      {layout !== undefined && <FlowDetail layout={layout} />}
    </>
  );
}

function useWidth(frame: { readonly current: HTMLElement | null }): number {
  const [width, setWidth] = useState(0);
  useEffect(() => {
    const watched = new ResizeObserver(([entry]) => setWidth(Math.floor(entry?.contentRect.width ?? 0)));
    if (frame.current !== null) watched.observe(frame.current);
    return () => watched.disconnect();
  }, []);
  return width;
}

function Drawing({ layout }: { readonly layout: PictureLayout }): JSX.Element {
  const { width, height, rows, boxes, destinations, wires, breaks, flows: moving, narrow, joints } = layout;
  const { ref, onKeyDown } = useRove<SVGSVGElement>();
  return (
    <svg
      ref={ref}
      viewBox={`0 0 ${width} ${height}`}
      width={width}
      height={height}
      role="group"
      aria-label="Picture of the node: pods, bridge, routing and filters, translation, uplink, outside. Arrow keys move in it."
      onKeyDown={onKeyDown}
      class={narrow ? "narrow" : "wide"}
    >
      <g aria-hidden="true">
        {wires.map(({ key, path, alive, chosen, label }) => (
          <g key={key}>
            <path class={`wire ${alive ? "alive" : "dead"} ${chosen ? "chosen" : ""}`} d={path} />
            {label !== undefined && (
              <text class="veth" x={label.x} y={label.y}>
                {label.text}
              </text>
            )}
          </g>
        ))}
        {joints.map(({ key, x, y }) => (
          <circle key={key} class="joint" cx={x} cy={y} r={5} />
        ))}
      </g>
      {moving.map((one) => (
        <Flow key={one.flow.key} moving={one} />
      ))}
      {rows.map((row, index) => (
        <RowBox key={row.key} row={row} first={index === 0} />
      ))}
      {boxes.map((box) => (
        <Box key={box.key} box={box} />
      ))}
      {destinations.map((one) => (
        <Target key={one.key} target={one} />
      ))}
      <g aria-hidden="true">
        {breaks.map(({ key, x, y }) => (
          <g key={key} class="break" transform={`translate(${x - 10} ${y - 10}) scale(1.25)`}>
            <Shape sign="bad" />
          </g>
        ))}
      </g>
      <TracedPacket layout={layout} />
    </svg>
  );
}

/** Enter and Space choose, as with a button. */
function asButton(label: string, choose: () => void) {
  return {
    role: "button" as const,
    "data-item": true,
    "aria-label": label,
    onClick: choose,
    onKeyDown: (event: KeyboardEvent) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      choose();
    },
  };
}

/** What is chosen by a click or a key: it lies over the drawing, which says nothing to a screen reader. */
function Face({
  area,
  ...button
}: { readonly area: Area; readonly tabIndex: number } & ReturnType<typeof asButton>): JSX.Element {
  return <rect class="face" width={area.width} height={area.height} rx="9" {...button} />;
}

function cut(text: string, most: number): string {
  return text.length > most ? `${text.slice(0, most - 1)}…` : text;
}

/** So many letters of a name, or of an address, fit into a box of this width. */
function lettersIn(width: number, size: number): number {
  return Math.max(6, Math.floor(width / size));
}

function RowBox({ row, first }: { readonly row: Placed<Row>; readonly first: boolean }): JSX.Element {
  const { x, y, width, height } = row;
  const condition = row.kind === "pod" ? row.pod.condition : row.condition;
  const name = row.kind === "pod" ? row.pod.name : groupText(row.pods.length, condition);
  const about = row.kind === "pod" ? (row.pod.addresses[0] ?? "no address") : (row.bridge ?? "no bridge");
  const chosen = row.kind === "pod" && row.pod.name === chosenPod.value;
  const choose = (): void => {
    if (row.kind === "pod") choosePod(row.pod.name);
    else adjust({ search: row.condition });
  };
  const label = row.kind === "pod" ? `${name}, ${condition}: ${row.pod.answer}` : `${name} on ${about}`;
  return (
    <g class={`box row ${condition} ${chosen ? "chosen" : ""}`} transform={`translate(${x} ${y})`}>
      <g aria-hidden="true">
        <rect width={width} height={height} rx="9" />
        <g transform="translate(11 15)">
          <Shape sign={SIGN_OF[condition]} />
        </g>
        <text class="name" x="36" y="20">
          {cut(name, lettersIn(width - 46, 7.4))}
        </text>
        <text class="address" x="36" y="36">
          {cut(about, lettersIn(width - 46, 7.2))}
        </text>
      </g>
      <Face area={row} tabIndex={chosen || first ? 0 : -1} {...asButton(label, choose)} />
      <g aria-hidden="true">
        {row.kind === "group" &&
          row.tiles &&
          row.pods.map((one, index) => {
            const { size, ...at } = tilePlace(index, row.pods.length, width);
            return (
              <g
                key={one.name}
                class="tile"
                transform={`translate(${at.x} ${at.y}) scale(${size / 16})`}
                onClick={(event) => {
                  event.stopPropagation();
                  choosePod(one.name);
                }}
              >
                <title>{one.name}</title>
                <Shape sign={SIGN_OF[one.condition]} />
              </g>
            );
          })}
      </g>
    </g>
  );
}

function groupText(count: number, condition: string): string {
  return `${counted(count, "pod")} ${condition}`;
}

const BOX_SIGN: Readonly<Record<StageBox["state"], Sign>> = {
  open: "good",
  shut: "bad",
  warned: "warn",
  missing: "unknown",
};

function Box({ box }: { readonly box: Placed<StageBox> }): JSX.Element {
  const { x, y, width, height, title, name, lines, state, findings } = box;
  const said = findings.map(({ text }) => text).join("; ");
  const choose = (): void => {
    const [first] = findings.flatMap(({ pods }) => pods);
    if (first !== undefined) choosePod(first);
  };
  return (
    <g class={`box stage-box ${state}`} transform={`translate(${x} ${y})`}>
      <g aria-hidden="true">
        <rect width={width} height={height} rx="9" />
        <text class="title" x="12" y="20">
          {cut(title, lettersIn(width - 34, 5.9))}
        </text>
        <g transform={`translate(${width - 22} 9) scale(0.8)`}>
          <Shape sign={BOX_SIGN[state]} />
        </g>
        <text class="name" x="12" y="40">
          {cut(name, lettersIn(width - 20, 7.6))}
        </text>
        <text class="address" x="12" y={Math.min(58, height - 7)}>
          {cut(lines.filter((one) => one !== "up").join(" · "), lettersIn(width - 20, 6.9))}
        </text>
      </g>
      <Face
        area={box}
        tabIndex={-1}
        {...asButton(`${title}: ${name}, ${lines.join(", ")}${said === "" ? "" : `. ${said}`}`, choose)}
      />
    </g>
  );
}

function Target({ target }: { readonly target: Placed<Destination> }): JSX.Element {
  const { x, y, width, height, text, about, flows: own } = target;
  const [first] = own;
  return (
    <g class="box target" transform={`translate(${x} ${y})`}>
      <g aria-hidden="true">
        <rect width={width} height={height} rx="9" />
        <text class="name" x="12" y="17">
          {cut(text, lettersIn(width - 20, 7.2))}
        </text>
        <text class="about" x="12" y="31">
          {about}
        </text>
      </g>
      <Face
        area={target}
        tabIndex={-1}
        {...asButton(`${text}, ${about}`, () => first !== undefined && adjust({ flow: first.key }))}
      />
    </g>
  );
}

/** A packet's way there and back again takes so long to watch. */
const LAP_S = 3.2;

function Flow({ moving: { flow, path, x, y, moves } }: { readonly moving: MovingFlow }): JSX.Element {
  const chosen = place.value.of["flow"] === flow.key;
  const still = !moves || wantsStillness();
  // Each has its own place on the way, and keeps it when the picture is drawn anew.
  const delay = -((flow.record.id % 100) / 100) * LAP_S;
  return (
    <g
      class={`flow ${moves ? "moving" : "over"} ${chosen ? "chosen" : ""}`}
      tabIndex={-1}
      {...asButton(translationText(flow.record), () => adjust({ flow: flow.key }))}
    >
      {chosen && <path class="way" d={path} />}
      <g transform={still ? `translate(${x} ${y})` : undefined}>
        <circle class="reach" r="12" />
        <circle class="dot" r="4.5" />
        {!still && <animateMotion {...lap(path, delay)} />}
      </g>
    </g>
  );
}

/** SMIL, since it needs no script while it runs. `path` is an attribute that the types of JSX lack. */
function lap(path: string, beginS: number): object {
  return { path, dur: `${LAP_S}s`, begin: `${beginS}s`, repeatCount: "indefinite", calcMode: "linear" };
}

/** The translation of the connection that was chosen, as conntrack has it. */
function FlowDetail({ layout }: { readonly layout: PictureLayout }): JSX.Element | null {
  const key = place.value.of["flow"];
  if (key === undefined) return null;
  const found = layout.destinations.flatMap(({ flows: own }) => own).find((one) => one.key === key);
  const target = layout.destinations.find(({ flows: own }) => own.some((one) => one.key === key));
  return (
    <div class="flow-detail" role="status">
      {found === undefined ? (
        <p class="quiet">That connection is over: conntrack has forgotten it.</p>
      ) : (
        <FlowWords flow={found} others={target?.flows ?? []} />
      )}
      <button type="button" aria-label="Close the connection" onClick={() => adjust({ flow: undefined })}>
        Close
      </button>
    </div>
  );
}

function FlowWords({
  flow,
  others,
}: {
  readonly flow: ShownFlow;
  readonly others: readonly ShownFlow[];
}): JSX.Element {
  const { record, pod: owner } = flow;
  const at = others.indexOf(flow);
  const next = others[(at + 1) % others.length];
  const translated = record.translation.sourceOutside !== undefined;
  return (
    <>
      <p>
        <code class="translation">{translationText(record)}</code>
        <span class="quiet">
          {owner.name} · {record.protocolName} {record.state} ·{" "}
          {translated ? "the answer is translated back" : "it leaves with its own address"}
          {record.timeoutSeconds !== undefined && ` · forgotten in ${spanText(record.timeoutSeconds)}`}
        </span>
      </p>
      {others.length > 1 && next !== undefined && (
        <button type="button" onClick={() => adjust({ flow: next.key })}>
          {at + 1} of {others.length}: next
        </button>
      )}
      <a href={linkTo("connections", { pod: owner.name })}>All of {owner.name}</a>
    </>
  );
}
