/** The page's style sheet: light and dark by the reader's own setting, nothing loaded from elsewhere. */
export const PAGE_STYLE = `
:root {
  color-scheme: light dark;
  --paper: #f7f6f3; --card: #ffffff; --ink: #1d2330; --soft: #667085; --line: #dfe3ea;
  --inside: #0f766e; --outside: #b45309; --good: #15803d; --bad: #c81e1e; --warn: #a16207;
  --good-soft: #e6f4ea; --bad-soft: #fdecec; --shade: 0 1px 2px #1d233014, 0 8px 28px #1d23300f;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #11151c; --card: #191f29; --ink: #e7eaf0; --soft: #94a0b3; --line: #2c3543;
    --inside: #2dd4bf; --outside: #f0a34a; --good: #4ade80; --bad: #f87171; --warn: #fbbf24;
    --good-soft: #12301f; --bad-soft: #3a1a1d; --shade: 0 1px 2px #0006, 0 8px 28px #0004;
  }
}
* { box-sizing: border-box; margin: 0; }
body { background: var(--paper); color: var(--ink); font: 16px/1.55 system-ui, sans-serif; padding: 40px 20px 80px; }
main { max-width: 1160px; margin: 0 auto; }
h1 { font-size: 26px; letter-spacing: -0.015em; font-weight: 650; }
h1 .to { color: var(--soft); font-weight: 400; }
.what { color: var(--soft); margin-top: 4px; }
.verdict { margin: 20px 0 26px; padding: 16px 20px; border-radius: 14px; border-left: 5px solid; }
.verdict.good { background: var(--good-soft); border-color: var(--good); }
.verdict.bad { background: var(--bad-soft); border-color: var(--bad); }
.verdict strong { display: block; font-size: 18px; }
.verdict p { margin-top: 4px; }
.verdict code { font-size: 14px; }
.picture, .steps li { background: var(--card); border-radius: 18px; box-shadow: var(--shade); }
.picture { padding: 10px 14px; overflow-x: auto; }
.picture svg { display: block; width: 100%; min-width: 860px; height: auto; font-family: inherit; }
.frame { fill: none; stroke: var(--line); stroke-width: 1.5; stroke-dasharray: 5 5; }
.frame-name { fill: var(--soft); font-size: 13px; }
.station rect { fill: var(--card); stroke: var(--line); stroke-width: 1.5; }
.station.pod rect { stroke: var(--inside); }
.station.node rect { stroke: var(--ink); stroke-opacity: 0.45; }
.station.uplink rect, .station.outside rect { stroke: var(--outside); }
.station text, .time, .tuple { text-anchor: middle; }
.station .name { fill: var(--ink); font-size: 15px; font-weight: 600; }
.station .address, .time, .tuple, pre, code { font-family: ui-monospace, "SF Mono", "DejaVu Sans Mono", monospace; }
.station .address { fill: var(--soft); font-size: 11px; }
.lane { fill: none; stroke: var(--good); stroke-width: 2.5; stroke-linecap: round; opacity: 0.75; }
.lane.lost { stroke: var(--bad); }
.dot { fill: var(--card); stroke: var(--good); stroke-width: 2.5; }
.time { fill: var(--soft); font-size: 11px; }
.tuple { font-size: 13px; font-weight: 600; }
.tuple.inside { fill: var(--inside); }
.tuple.outside { fill: var(--outside); }
.cross { stroke: var(--bad); stroke-width: 4.5; stroke-linecap: round; fill: none; }
.packet { fill: var(--inside); stroke: var(--card); stroke-width: 2; animation: travel 5s ease-in-out infinite; }
.packet.lost { animation-name: travel-lost; animation-duration: 3.5s; }
@keyframes travel {
  0% { offset-distance: 0%; opacity: 0; } 6% { opacity: 1; }
  32% { fill: var(--inside); } 38%, 62% { fill: var(--outside); } 68% { fill: var(--inside); }
  92% { opacity: 1; } 100% { offset-distance: 100%; opacity: 0; }
}
@keyframes travel-lost {
  0% { offset-distance: 0%; opacity: 0; } 8% { opacity: 1; fill: var(--inside); }
  80% { offset-distance: 100%; opacity: 1; fill: var(--bad); } 100% { offset-distance: 100%; opacity: 0; fill: var(--bad); }
}
@media (prefers-reduced-motion: reduce) { .packet { animation: none; opacity: 0; } }
.steps { list-style: none; padding: 0; margin-top: 28px; display: grid; gap: 12px; }
.steps li { display: grid; grid-template-columns: 44px 1fr auto; gap: 2px 12px; padding: 16px 20px; }
.steps .number { grid-row: span 2; width: 34px; height: 34px; border-radius: 50%; display: grid; place-items: center;
  font-weight: 650; background: var(--good-soft); color: var(--good); }
.steps .stopped .number { background: var(--bad); color: var(--card); }
.steps .not-reached, .steps .not-needed { opacity: 0.62; box-shadow: none; }
.steps .not-reached .number, .steps .not-needed .number { background: var(--line); color: var(--soft); }
.steps .unseen .number { background: var(--line); color: var(--warn); }
.steps h2 { font-size: 16px; font-weight: 620; }
.steps .at { color: var(--soft); font-size: 13px; white-space: nowrap; }
.steps .text { grid-column: 2 / -1; overflow-wrap: anywhere; }
.steps .stopped .text { color: var(--bad); font-weight: 550; }
details { grid-column: 2 / -1; margin-top: 6px; }
summary { cursor: pointer; color: var(--soft); font-size: 13.5px; }
details h3 { font-size: 12.5px; font-weight: 600; color: var(--soft); margin: 10px 0 2px; }
pre { font-size: 12.5px; line-height: 1.5; white-space: pre-wrap; overflow-wrap: anywhere; }
.notes { margin-top: 22px; color: var(--soft); font-size: 14px; }
.notes li { margin: 4px 0 0 18px; }
footer { margin-top: 28px; color: var(--soft); font-size: 13px; }
`;
