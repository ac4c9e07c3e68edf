import { Command, Option } from "commander";
import type { PolicyAnswer } from "../agent/api/view.ts";
import type { PolicyText } from "../agent/policy-source.ts";
import type { NetworkNamespace } from "../kernel/namespace.ts";
import { explainNat, type NatExplanation } from "../examination/explain-nat.ts";
import { openNamespace } from "../pods/open-namespace.ts";
import { WrittenPolicy, type FilePlace } from "../policy/place-in-file.ts";
import { parsePolicy, readPolicyText } from "../policy/policy-file.ts";
import { agentSaid } from "./agent-said.ts";
import { namespaceOption } from "./namespace-option.ts";
import { printJson, tell } from "./output.ts";
import { style, table } from "./style.ts";
import { present } from "../present.ts";

const HELP = `
Nothing is sent. SRC is a pod or an address, DST an address. First what wayout's own rules are to do, by owner; then, where
SRC is a pod of this node, what all rules of the node do now. Where an agent runs ('wayout agent'), with the line of its policy.

Examples:
  sudo wayout nat explain ns-blue 198.51.100.80
  sudo wayout nat explain 10.244.1.7 10.96.0.1 --proto udp --port 53
  sudo wayout nat explain 10.244.1.7 192.0.2.4 -f policy.yaml    as if this policy were in force`;

interface Options {
  readonly proto: string;
  readonly port?: string;
  readonly file?: string;
  readonly netns?: string;
  readonly json?: true;
}

/** `wayout nat explain`. */
export function natExplainCommand(): Command {
  return new Command("explain")
    .description(
      "without sending anything: is a packet translated, to which address, by which line of which policy",
    )
    .argument("<src>", "a pod, or an address")
    .argument("<dst>", "an address")
    .addOption(
      new Option("--proto <protocol>", "of the packet").choices(["tcp", "udp", "icmp"]).default("tcp"),
    )
    .option("--port <port>", "destination port")
    .option("-f, --file <policy>", "as if this policy were in force, with the line that decides")
    .addOption(namespaceOption())
    .option("--json", "one JSON value")
    .addHelpText("after", HELP)
    .action(async (source: string, destination: string, options: Options) => {
      const { proto, port, file } = options;
      using node = openNamespace(options.netns);
      const own = file === undefined ? undefined : await readPolicyText(file);
      const files = own === undefined ? await filesInForce(node) : [own];
      const explanation = explainNat(
        present({
          source,
          destination,
          protocol: proto,
          node,
          port,
          policy: own === undefined ? undefined : (await parsePolicy(own.text, own.name)).intent,
          written: await WrittenPolicy.read(files),
        }),
      );
      if (options.json === true) printJson(explanation);
      else tell(explanationText, explanation);
    });
}

/** An agent knows in which lines the policy in force stands, also when its file says something else by now. */
async function filesInForce(node: NetworkNamespace): Promise<readonly PolicyText[]> {
  return (await agentSaid<PolicyAnswer>("/v1/policy", {}, node))?.files ?? [];
}

function explanationText({ source, destination, wanted, foreseen }: NatExplanation): string {
  const sign = { translated: style.good("✓"), kept: "–", dropped: style.bad("✗"), none: style.warn("!") }[
    wanted.decision
  ];
  const { by, kept, entersBy, leavesBy, fromNode } = wanted;
  const enters =
    fromNode === true ? "sent by the node itself" : `in by ${entersBy ?? "an unknown interface"}`;
  const rows = [
    ...(by === undefined
      ? []
      : [["  ", style.quiet("source"), `${by.cidr} of ${by.owner}${placed(by.written)}`]]),
    ...(kept === undefined
      ? []
      : [
          [
            "  ",
            style.quiet("destination"),
            `${kept.cidr}${kept.owner === undefined ? "" : ` of ${kept.owner}`}${placed(kept.written)}`,
          ],
        ]),
    ["  ", style.quiet("way"), `${enters}, out by ${leavesBy ?? "no route"}`],
  ];
  const lines = [style.strong(`${source} → ${destination}`), `${sign} ${wanted.text}`, table(rows)];
  if (foreseen !== undefined) lines.push("", ...foreseenLines(foreseen));
  return `${lines.join("\n")}\n`;
}

function placed(place: FilePlace | undefined): string {
  return place === undefined
    ? ""
    : style.quiet(` (${place.file}:${place.line}, ${place.path}: ${place.cidr})`);
}

function foreseenLines({
  pod,
  sent,
  left,
  by,
  answer,
  findings,
}: NonNullable<NatExplanation["foreseen"]>): string[] {
  const rows = [
    ...(sent === undefined ? [] : [["  ", style.quiet("sent"), sent]]),
    ...(left === undefined ? [] : [["  ", style.quiet("leaves"), left]]),
    ...(by === undefined ? [] : [["  ", style.quiet("by"), `${by.place}: ${by.owner}`]]),
    ...findings.map(({ text, owner }) => ["  ", style.warn("!"), `${text} (${owner})`]),
  ];
  return [`By the rules of this node, ${style.strong(pod)}: ${answer}`, table(rows)];
}
