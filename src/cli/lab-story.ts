/** The lab's story on a terminal. */
import type { ChapterHead, StoryStep, StoryEvent, StoryReport } from "../lab/story.ts";
import { PLAN } from "../lab/plan.ts";
import { tell } from "./output.ts";
import { style, table } from "./style.ts";

const TEXT_WIDTH = 96;

/** Prints events as they come. */
export function showStory(event: StoryEvent): void {
  switch (event.type) {
    case "chapter":
      tell(chapterText, event);
      break;
    case "step":
      tell(stepText, event);
      break;
    case "impossible":
    case "done":
      break;
  }
}

/** The world, drawn: pods on the left, the node in the middle, the outside on the right. */
export function picture(): string {
  const { node, pods, internet } = PLAN;
  const { strong, address, quiet } = style;
  const cells = [
    [
      `${strong("ns-blue")}   ${address(pods.blue.ipv4)} ${quiet("── veth-blue ──┐")}`,
      "",
      `${quiet("┌")} router ${address(internet.routerIpv4)}`,
    ],
    [
      `${" ".repeat(34)}${quiet("├─")}`,
      `${strong(node.bridge)} ${quiet("──")} node ${quiet("──")} ${strong(node.uplink)} ${quiet("──")}`,
      `${quiet("┤")} ${internet.site} ${address(internet.httpIpv4)}`,
    ],
    [
      `${strong("ns-green")}  ${address(pods.green.ipv4)} ${quiet("── veth-green ─┘")}`,
      `${address(node.gatewayIpv4)}    ${address(node.uplinkIpv4)}`,
      `${quiet("└")} DNS ${address(internet.dnsIpv4)}`,
    ],
  ];
  return `${table(
    cells.map((row) => ["", ...row]),
    " ",
  )}\n`;
}

function chapterText(chapter: ChapterHead): string {
  const title = `${style.strong(String(chapter.number))}  ${style.strong(chapter.title)}`;
  return `\n${title}\n${wrap(chapter.intro, TEXT_WIDTH, "   ")}\n`;
}

function stepText(step: StoryStep): string {
  const mark = step.ok ? style.good("✓") : style.bad("✗");
  const lines = [
    "",
    `   ${style.quiet(step.where)} ${style.quiet("$")} ${style.command(step.command)}`,
    `     ${style.quiet("should")}  ${step.expected}`,
    `     ${style.quiet("did")}   ${mark} ${step.found}`,
  ];
  const evidence = step.evidence.flatMap(({ source, lines: said }) =>
    said.map((line, index) => (index === 0 ? `${line} ${style.quiet(`← ${source}`)}` : line)),
  );
  for (const [index, line] of evidence.entries()) {
    lines.push(`     ${index === 0 ? style.quiet("kernel") : "      "}  ${line}`);
  }
  return `${lines.join("\n")}\n`;
}

/** The last lines: what the story came to. */
export function storySummary(report: StoryReport): string {
  const steps = report.chapters.flatMap((chapter) => chapter.steps);
  const failed = steps.filter((step) => !step.ok).length;
  const seconds = (report.wallMs / 1000).toFixed(1);
  const chapters = `${report.chapters.length} chapters, ${steps.length} steps, ${seconds} s`;
  if (report.ok) {
    return `\n${style.good("✓")} ${chapters}: every step did what it should, and nothing is left.\n  ${style.quiet(
      "Try it yourself: wayout lab up, then wayout lab exec ns-blue -- curl -s http://api.github.com",
    )}\n`;
  }
  return `\n${style.bad("✗")} ${chapters}: ${failed === 0 ? "the story stopped before its end" : `${failed} steps did not do what they should`}.\n`;
}

function wrap(text: string, width: number, indent: string): string {
  const lines: string[] = [];
  let line = "";
  for (const word of text.split(/\s+/)) {
    if (line !== "" && line.length + 1 + word.length > width) {
      lines.push(line);
      line = word;
    } else line = line === "" ? word : `${line} ${word}`;
  }
  if (line !== "") lines.push(line);
  return lines.map((wrapped) => indent + wrapped).join("\n");
}
