/** What runs out: the connection table, the source ports; and how often something had to be put back. */
import type { JSX } from "preact";
import { useEffect, useMemo } from "preact/hooks";
import type { PortFigure } from "../../agent/port-history.ts";
import type { TableFigure } from "../../agent/table-history.ts";
import type { ExplainedCounter, OutgoingPortUse } from "../../flows/flow-statistics.ts";
import { ask } from "../state/ask.ts";
import { past } from "../state/history.ts";
import { Keeper } from "../state/kept.ts";
import { every, budget } from "../state/looking.ts";
import { endText } from "../layout/flow-text.ts";
import { Chart, type Point } from "./chart.tsx";
import { counted, grouped, Mark, Panel, Trouble, Waiting } from "./parts.tsx";

interface Statistics {
  readonly table: { readonly entries: number; readonly maximum: number };
  readonly counters: readonly ExplainedCounter[];
  readonly portUse: readonly OutgoingPortUse[];
}

const table = new Keeper<readonly TableFigure[]>();
const ports = new Keeper<readonly PortFigure[]>();
const statistics = new Keeper<Statistics>();
const ASKED: readonly (readonly [Keeper<unknown>, string])[] = [
  [table, "/v1/figures"],
  [ports, "/v1/figures/ports"],
  [statistics, "/v1/flows/statistics"],
];
const AGAIN_MS = 10_000;
const MINUTE_S = 60;
const MOST_PORTS = 12;

export function Figures(): JSX.Element {
  useEffect(() => {
    const ends = ASKED.map(([keeper, path]) => {
      const read = (): Promise<void> => keeper.ask((signal) => ask(path, { signal }));
      void read().then(() => budget.pay(keeper.tookMs));
      return every(
        keeper,
        () => AGAIN_MS,
        () => true,
        read,
      );
    });
    return () => ends.forEach((end) => end());
  }, []);
  const { value, trouble } = statistics.state.value;
  return (
    <>
      {trouble !== undefined && <Trouble trouble={trouble} />}
      <Panel title="The last hour" class="figures">
        <div class="curves">
          <TableChart figures={table.state.value.value} />
          <PortChart figures={ports.state.value.value} />
          <RepairChart />
        </div>
      </Panel>
      <Panel title="Now" id="now" class="figures">
        {value === undefined ? <Waiting what="Counting" /> : <Ports statistics={value} />}
      </Panel>
    </>
  );
}

function TableChart({ figures }: { readonly figures: readonly TableFigure[] | undefined }): JSX.Element {
  const points = useMemo(
    () => (figures ?? []).map(({ at, entries }): Point => ({ at: Date.parse(at) / 1000, value: entries })),
    [figures],
  );
  const last = figures?.at(-1);
  const comesTo =
    last === undefined
      ? "Not counted yet."
      : `${grouped(last.entries)} of ${grouped(last.maximum)} entries, ${share(last.entries, last.maximum)} full.`;
  return <Chart title="Connection table" points={points} comesTo={comesTo} />;
}

function PortChart({ figures }: { readonly figures: readonly PortFigure[] | undefined }): JSX.Element {
  const points = useMemo(
    () =>
      (figures ?? []).map(({ at, uses }): Point => ({
        at: Date.parse(at) / 1000,
        value: uses[0]?.used ?? 0,
      })),
    [figures],
  );
  const fullest = figures?.at(-1)?.uses[0];
  const comesTo =
    figures === undefined || figures.length === 0
      ? "Not counted yet."
      : fullest === undefined
        ? "No translated connection needs one."
        : `${fullest.outgoing} → ${endText({ address: fullest.destination, port: fullest.port })} ${fullest.protocol}: ${grouped(fullest.used)} of ${grouped(fullest.of)}, ${share(fullest.used, fullest.of)}.`;
  return <Chart title="Source ports of the fullest destination" points={points} comesTo={comesTo} />;
}

function share(part: number, whole: number): string {
  const percent = (part / whole) * 100;
  return percent > 0 && percent < 1 ? "less than 1 %" : `${Math.round(percent)} %`;
}

function RepairChart(): JSX.Element {
  const events = past.value;
  const points = useMemo(() => {
    const repairs = events
      .filter(({ kind }) => kind === "repair")
      .map(({ at }) => Math.floor(Date.parse(at) / 1000 / MINUTE_S));
    const now = Math.floor(Date.now() / 1000 / MINUTE_S);
    return Array.from({ length: 61 }, (_, index): Point => {
      const minute = now - 60 + index;
      return { at: minute * MINUTE_S, value: repairs.filter((one) => one === minute).length };
    });
  }, [events]);
  const repairs = events.filter(({ kind }) => kind === "repair");
  const culprits = [...Map.groupBy(repairs, ({ by }) => by?.process ?? "unknown")]
    .toSorted(([, a], [, b]) => b.length - a.length)
    .slice(0, 3)
    .map(([name, own]) => `${name} (${own.length})`);
  const comesTo =
    repairs.length === 0
      ? "Nothing had to be put back."
      : `${counted(repairs.length, "repair")}, made necessary by ${culprits.join(", ")}.`;
  return <Chart title="Repairs a minute" points={points} bars comesTo={comesTo} />;
}

function Ports({ statistics: { portUse, counters } }: { readonly statistics: Statistics }): JSX.Element {
  const lost = counters.filter(({ costsPackets, value }) => costsPackets && value > 0);
  return (
    <div class="now">
      <section>
        <h3>Source ports, the fullest first</h3>
        {portUse.length === 0 && <p class="empty">No translated connection needs one.</p>}
        <ul class="meters">
          {portUse.slice(0, MOST_PORTS).map(({ protocol, outgoing, destination, port, used, of }) => (
            <li key={`${protocol} ${outgoing} ${destination} ${port}`}>
              <code>
                {outgoing} → {endText({ address: destination, port })} {protocol}
              </code>
              <meter
                min={0}
                max={of}
                low={of * 0.7}
                high={of * 0.9}
                optimum={0}
                value={used}
                aria-label={`${used} of ${of} ports`}
              />
              <span>
                {grouped(used)} of {grouped(of)}
              </span>
            </li>
          ))}
        </ul>
      </section>
      <section>
        <h3>Lost since the node started</h3>
        {lost.length === 0 ? (
          <p class="quiet">
            <Mark sign="good" /> Connection tracking lost no packet.
          </p>
        ) : (
          <dl>
            {lost.map(({ kernelName, value, meaning }) => (
              <div key={kernelName}>
                <dt>
                  <Mark sign="warn" /> {grouped(value)} {kernelName}
                </dt>
                <dd class="quiet">{meaning}</dd>
              </div>
            ))}
          </dl>
        )}
      </section>
    </div>
  );
}
