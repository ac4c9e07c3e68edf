/** The catalogue as a document: docs/findings.md. */
import {
  CATALOGUE,
  catalogueEntry,
  STEPS,
  type FindingCode,
  type StepName,
} from "../causes/catalogue/all.ts";

const HEAD = `# What the doctor can find

\`wayout doctor\` goes through these steps in order. A finding marked ✗ stops the traffic and makes the exit code 1; one
marked ! is worth knowing. A finding is hidden while one of its causes stands: it would only be its symptom.

This file is made from src/causes/catalogue/all.ts: \`bin/bun scripts/findings-doc.ts\`.
`;

/** Markdown, one section a step, one paragraph a finding. */
export function findingsDocument(): string {
  const codes = Object.keys(CATALOGUE) as FindingCode[];
  const sections = (Object.keys(STEPS) as StepName[]).map((step) => {
    const own = codes.filter((code) => catalogueEntry(code).step === step);
    const title = STEPS[step];
    return `## ${title[0]!.toUpperCase()}${title.slice(1)}\n\n${own.map(paragraph).join("\n\n")}\n`;
  });
  return `${HEAD}\n${sections.join("\n")}`;
}

function paragraph(code: FindingCode): string {
  const { title, stopsTraffic, about, dependsOn } = catalogueEntry(code);
  const hidden =
    dependsOn.length === 0 ? "" : `\n\nHidden by ${dependsOn.map((cause) => `\`${cause}\``).join(", ")}.`;
  return `### \`${code}\`\n\n${stopsTraffic ? "✗" : "!"} ${title[0]!.toUpperCase()}${title.slice(1)}. ${about}${hidden}`;
}
