/** A trace for people: the packet's way as a ladder between the stations, then the nine steps. */
import { stripVTControlCharacters } from "node:util";
import type { Station, Sighting, StepReport, TraceStepStatus, TraceReport } from "../trace/report.ts";
import { durationText, firstHeading, legsOf } from "../trace/show/picture.ts";
import { style } from "./style.ts";

const INDENT = "  ";
const NARROWEST_COLUMN = 11;
const MOST_LINES_OF_EVIDENCE = 8;

/** The whole text, with a line break at its end. */
export function traceText(report: TraceReport): string {
  return [
    heading(report),
    "",
    ...ladder(report),
    "",
    ...report.steps.flatMap(stepLines),
    "",
    ...conclusion(report),
    "",
  ].join("\n");
}

function heading({ pod, destination, begunBy }: TraceReport): string {
  const { host, address, port, protocol } = destination;
  const name = host === address ? "" : ` (${address})`;
  if (begunBy === "outside") {
    return `${style.strong(host)}${name} → ${style.strong(pod)}, ${protocol}: begun outside`;
  }
  return `${style.strong(pod)} → ${style.strong(host)}${name}, ${protocol}${port === undefined ? "" : ` port ${port}`}`;
}

// ── The ladder ───────────────────────────────────────────────────────────────────────────────────────────────────

function ladder(report: TraceReport): string[] {
  const rails = new Rails(report.path);
  const lines = [rails.names(), rails.addresses(), rails.row()];
  const legs = legsOf(report);
  for (const [index, sightings] of legs.entries()) {
    if (index > 0) lines.push(rails.row());
    lines.push(...leg(report, rails, sightings, index === legs.length - 1));
  }
  return lines.map((line) => INDENT + line);
}

/** One direction: an arrow from each place to the next, with the time it took, and what the packet looked like. */
function leg(report: TraceReport, rails: Rails, sightings: readonly Sighting[], isLast: boolean): string[] {
  const lines: string[] = [];
  const isOut = (sightings[0]?.heading ?? firstHeading(report)) === "out";
  let before: Sighting | undefined;
  let shown: string | undefined;
  if (!isOut && sightings[0]?.place === "uplink") lines.push(rails.arrow("outside", "uplink", ""));
  for (const sighting of sightings) {
    if (before !== undefined && before.place !== sighting.place) {
      lines.push(rails.arrow(before.place, sighting.place, durationText(sighting.atUs - before.atUs)));
    }
    if (sighting.summary !== shown) lines.push(rails.note(sighting.place, style.address(sighting.summary)));
    shown = sighting.summary;
    before = sighting;
  }
  const { stop } = report;
  if (isOut && before?.place === "uplink") lines.push(rails.arrow("uplink", "outside", ""));
  const isUnanswered = isOut && report.begunBy !== "outside" && stop !== undefined && stop.step >= 7;
  if (isLast && stop !== undefined) lines.push(rails.end(before, isUnanswered, isOut));
  return lines;
}

/** The stations side by side, a rail below each. */
class Rails {
  readonly #columns: readonly number[];
  readonly #width: number;

  constructor(readonly path: readonly Station[]) {
    const columns: number[] = [];
    let x = 0;
    for (const place of path) {
      columns.push(x);
      x += Math.max(NARROWEST_COLUMN, place.name.length + 2, (place.address?.length ?? 0) + 2);
    }
    this.#columns = columns;
    this.#width = columns.at(-1)! + 1;
  }

  names(): string {
    return this.#labels((place) => style.strong(place.name));
  }

  addresses(): string {
    return this.#labels((place) => style.quiet(place.address ?? ""));
  }

  /** Rails alone. */
  row(): string {
    return this.#draw(this.#rails());
  }

  /** `├────▶│` from one station to another, a remark behind the last rail. */
  arrow(from: Station["kind"], to: Station["kind"], remark: string): string {
    const cells = this.#rails();
    const [start, end] = [this.#columnOf(from), this.#columnOf(to)];
    const [low, high] = [Math.min(start, end), Math.max(start, end)];
    for (let x = low + 1; x < high; x++) cells[x] = this.#columns.includes(x) ? "┼" : "─";
    cells[start] = start < end ? "├" : "┤";
    if (start < end) cells[high - 1] = "▶";
    else cells[low + 1] = "◀";
    return this.#draw(cells, remark);
  }

  /** Text that begins behind a station's rail; it covers the rails that it needs. */
  note(at: Station["kind"], text: string): string {
    const length = stripVTControlCharacters(text).length;
    const start = Math.max(2, Math.min(this.#columnOf(at) + 2, this.#width - length));
    const cells = this.#rails();
    const left = style.quiet(cells.slice(0, start).join(""));
    const right = style.quiet(cells.slice(start + length + 1).join(""));
    return `${left}${text} ${right}`.trimEnd();
  }

  /** Where it ended: a cross behind the last place, in the direction it went. */
  end(last: Sighting | undefined, isOutside: boolean, isOut: boolean): string {
    const cells = this.#rails();
    const at = isOutside ? this.#width - 1 : this.#columnOf(last?.place ?? "pod");
    const step = isOut ? 1 : -1;
    const cross = at + 6 * step;
    if (!isOutside && cross >= 0) {
      for (let x = at + step; x !== cross; x += step) cells[x] = "╌";
      cells[cross] = "✗";
    } else cells[at] = "✗";
    return this.#draw(cells).replace("✗", style.bad("✗"));
  }

  #columnOf(kind: Station["kind"]): number {
    const index = this.path.findIndex((place) => place.kind === kind);
    return this.#columns[Math.max(0, index)]!;
  }

  #rails(): string[] {
    const cells = Array.from({ length: this.#width + 6 }, () => " ");
    for (const x of this.#columns) cells[x] = "│";
    return cells;
  }

  #draw(cells: readonly string[], remark = ""): string {
    return `${style.quiet(cells.join(""))}${remark}`.trimEnd();
  }

  #labels(text: (place: Station) => string): string {
    let line = "";
    for (const [index, place] of this.path.entries()) {
      const used = stripVTControlCharacters(line).length;
      line += " ".repeat(Math.max(0, this.#columns[index]! - used)) + text(place);
    }
    return line.trimEnd();
  }
}

// ── The steps ────────────────────────────────────────────────────────────────────────────────────────────────────

const MARKS: Readonly<Record<TraceStepStatus, string>> = {
  proven: "✓",
  stopped: "✗",
  "not-reached": "·",
  "not-needed": "–",
  unseen: "?",
};

function markOf(status: TraceStepStatus): string {
  const mark = MARKS[status];
  if (status === "proven") return style.good(mark);
  if (status === "stopped") return style.bad(mark);
  return status === "unseen" ? style.warn(mark) : style.quiet(mark);
}

function stepLines(step: StepReport): string[] {
  const time = step.atUs === undefined ? "" : style.quiet(`  at ${durationText(step.atUs)}`);
  if (step.status === "not-reached")
    return [`${markOf(step.status)} ${style.quiet(`${step.number} ${step.title}`)}`];
  const evidence = step.evidence.flatMap(({ source, lines }) => {
    const shown = lines.slice(0, MOST_LINES_OF_EVIDENCE);
    const more = lines.length > shown.length ? [`… and ${lines.length - shown.length} more`] : [];
    return [...shown, ...more].map((line, index) =>
      style.quiet(`      ${index === 0 ? `${source}: ` : "  "}${line}`),
    );
  });
  return [
    `${markOf(step.status)} ${style.strong(`${step.number} ${step.title}`)}${time}`,
    `    ${step.text}`,
    ...evidence,
  ];
}

function conclusion(report: TraceReport): string[] {
  const lines = report.notes.map((note) => `${style.warn("!")} ${note}`);
  if (report.missing.length > 0) {
    const what = report.missing.map((missing) => `${missing.what} (${missing.why})`).join(", ");
    lines.push(style.quiet(`Not looked at: ${what}.`));
  }
  const { stop } = report;
  if (stop === undefined) {
    const after = report.roundTripUs === undefined ? "" : ` after ${durationText(report.roundTripUs)}`;
    const answer = report.answer === undefined ? "" : `: ${report.answer}`;
    const who = report.begunBy === "outside" ? "the pod" : "the destination";
    lines.push(
      report.outcome === "refused"
        ? `${style.good("✓")} The way is open; ${who} refused${after}${answer}`
        : `${style.good("✓")} Answered${after}${answer}`,
    );
  } else {
    lines.push(`${style.bad("✗")} Step ${stop.step}: ${stop.reason}`);
    lines.push(`  Last seen ${stop.lastSeen}.`);
    for (const { place, command } of stop.fix ?? [])
      lines.push(
        `  ${style.hint("→")} ${place === "node" ? "on the node" : "in the pod"}: ${style.command(command)}`,
      );
    if (stop.todo !== undefined && !stop.fix?.some(({ command }) => command === stop.todo))
      lines.push(`  ${style.hint("→")} ${stop.todo}`);
  }
  return lines;
}
