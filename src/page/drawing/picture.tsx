/** The node as a picture. Where everything stands is layout's; here it gets its looks, and can be chosen. */
import type { JSX } from "preact";
import { useLayoutEffect, useMemo, useState } from "preact/hooks";
import type { NodePicture } from "../../agent/picture/picture.ts";
import type { StageBox } from "../layout/boxes.ts";
import { shownFlows, type Destination, type ShownFlow } from "../layout/destinations.ts";
import { spanText, translationText } from "../layout/flow-text.ts";
import type { Area, Placed } from "../layout/geometry.ts";
import { layoutOf, type PictureLayout } from "../layout/picture-layout.ts";
import type { Row } from "../layout/rows.ts";
import { choosePod } from "../state/keys.ts";
import { flows, pod } from "../state/looking.ts";
import { adjust, chosenPod, linkTo, addressBar } from "../state/address-bar.ts";
import { Flows } from "./flows.tsx";
import { counted, Shape, type Sign } from "./parts.tsx";
import { SIGN_OF } from "./pods.tsx";
import { useRove } from "./arrow-keys.ts";
import { Tiles } from "./tiles.tsx";
import { TracedPacket } from "./traced-packet.tsx";

export function NodePictureView({ picture }: { readonly picture: NodePicture }): JSX.Element {
  const { ref: frame, onKeyDown } = useRove<HTMLDivElement>();
  const width = useWidth(frame);
  const records = flows.state.value.value ?? [];
  const chosen = pod.value;
  const { pods, findings, bridges, uplinks, forwarding } = picture;
  // When it was taken, and other things that are not drawn, draw nothing anew.
  const drawn = useMemo(() => picture, [pods, findings, bridges, uplinks, forwarding]);
  const layout = useMemo(
    () => (width === 0 ? undefined : layoutOf(drawn, shownFlows(records, drawn.pods), chosen, width)),
    [drawn, records, chosen, width],
  );
  return (
    <>
      <div
        ref={frame}
        class="picture"
        role="group"
        aria-label="Picture of the node: pods, bridge, routing and filters, translation, uplink, outside. Arrow keys move in it."
        onKeyDown={onKeyDown}
      >
        {layout !== undefined && (
          <>
            <Drawing layout={layout} />
            <Flows flows={layout.flows} />
          </>
        )}
      </div>
      {layout !== undefined && <FlowDetail layout={layout} />}
    </>
  );
}

function useWidth(frame: { readonly current: HTMLElement | null }): number {
  const [width, setWidth] = useState(0);
  // Before the first painting, which shows the picture already.
  useLayoutEffect(() => {
    const own = frame.current;
    if (own === null) return undefined;
    setWidth(Math.floor(own.clientWidth));
    const watched = new ResizeObserver(() => setWidth(Math.floor(own.clientWidth)));
    watched.observe(own);
    return () => watched.disconnect();
  }, []);
  return width;
}

function Drawing({ layout }: { readonly layout: PictureLayout }): JSX.Element {
  const { width, height, rows, boxes, destinations, wires, breaks, flows: moving, narrow, joints } = layout;
  const way = moving.find(({ flow }) => flow.key === addressBar.value.of["flow"]);
  return (
    <svg viewBox={`0 0 ${width} ${height}`} width={width} height={height} class={narrow ? "narrow" : "wide"}>
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
      {way !== undefined && <path class="flow-way" d={way.path} aria-hidden="true" />}
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
      {row.kind === "group" && row.tiles && <Tiles pods={row.pods} sign={SIGN_OF[condition]} width={width} />}
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

/** The translation of the connection that was chosen, as conntrack has it. */
function FlowDetail({ layout }: { readonly layout: PictureLayout }): JSX.Element | null {
  const key = addressBar.value.of["flow"];
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
