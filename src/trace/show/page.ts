/** A trace as one self-contained HTML page: the picture of the path and the packet on it, the nine steps below. */
import { VERSION } from "../../version.ts";
import { PAGE_STYLE } from "./page-style.ts";
import { durationText, escapeText, pictureOf } from "./picture.ts";
import type { StepReport, TraceStepStatus, TraceReport } from "../report.ts";

/** The whole document. Nothing in it is loaded from elsewhere, and it runs no script. */
export function tracePage(report: TraceReport): string {
  const { destination } = report;
  const isInbound = report.begunBy === "outside";
  const [from, to] = isInbound ? [destination.host, report.pod] : [report.pod, destination.host];
  const title = `${from} → ${to}`;
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escapeText(title)} · wayout trace</title>
<style>${PAGE_STYLE}</style>
</head>
<body>
<main>
<h1>${escapeText(from)} <span class="to">→</span> ${escapeText(to)}</h1>
<p class="what">${escapeText(whatWasSent(report))}</p>
${verdict(report)}
<section class="picture">
${pictureOf(report)}
</section>
<ol class="steps">
${report.steps.map(stepItem).join("\n")}
</ol>
${notes(report)}
<footer>wayout ${VERSION} trace</footer>
</main>
</body>
</html>
`;
}

function whatWasSent({ destination, begunBy, destinationTranslation }: TraceReport): string {
  const { host, address, port, protocol, nameserver } = destination;
  const resolved =
    host === address ? "" : ` (${address}${nameserver === undefined ? "" : `, says ${nameserver}`})`;
  if (begunBy === "outside") {
    const asked = destinationTranslation === undefined ? "" : `, who asked ${destinationTranslation.before}`;
    return `One ${protocol.toUpperCase()} exchange that was begun outside, by ${host}${resolved}${asked}`;
  }
  return `One real ${protocol.toUpperCase()} exchange with ${host}${resolved}${port === undefined ? "" : `, port ${port}`}`;
}

function verdict(report: TraceReport): string {
  const { stop } = report;
  if (stop === undefined) {
    const after = report.roundTripUs === undefined ? "" : ` after ${durationText(report.roundTripUs)}`;
    const reached =
      report.begunBy === "outside" ? "the pod's answer left the node" : "the answer reached the pod";
    const who = report.begunBy === "outside" ? "the pod" : "the destination";
    const word = report.outcome === "refused" ? `The way is open; ${who} refused` : "Answered";
    return `<div class="verdict good"><strong>${word}${after}</strong><p>${escapeText(report.answer ?? reached)}</p></div>`;
  }
  const todo = stop.todo === undefined ? "" : `<p>→ <code>${escapeText(stop.todo)}</code></p>`;
  return `<div class="verdict bad"><strong>It ends at step ${stop.step}</strong><p>${escapeText(capital(stop.reason))}.</p>
<p>Last seen ${escapeText(stop.lastSeen)}.</p>${todo}</div>`;
}

function capital(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

const MARKS: Readonly<Record<TraceStepStatus, string>> = {
  proven: "",
  stopped: "",
  "not-reached": "",
  "not-needed": "not needed here",
  unseen: "not seen",
};

function stepItem(step: StepReport): string {
  const at = step.atUs === undefined ? MARKS[step.status] : `at ${durationText(step.atUs)}`;
  const groups = step.evidence.map(
    ({ source, lines }) => `<h3>${escapeText(source)}</h3><pre>${lines.map(escapeText).join("\n")}</pre>`,
  );
  const open = step.status === "stopped" ? " open" : "";
  const evidence =
    groups.length === 0 || step.status === "not-reached"
      ? ""
      : `<details${open}><summary>Evidence</summary>${groups.join("")}</details>`;
  return `<li class="${step.status}"><span class="number">${step.number}</span><h2>${escapeText(capital(step.title))}</h2><span class="at">${at}</span>
<p class="text">${escapeText(step.text)}</p>${evidence}</li>`;
}

function notes({ notes, missing }: TraceReport): string {
  const lines = [...notes, ...missing.map(({ what, why }) => `Not looked at: ${what} (${why})`)];
  if (lines.length === 0) return "";
  return `<ul class="notes">${lines.map((line) => `<li>${escapeText(line)}</li>`).join("")}</ul>`;
}
