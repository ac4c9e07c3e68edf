import { Command, Option } from "commander";
import { JOURNAL_PATH } from "../agent/journal/path.ts";
import type { Diagnosis } from "../doctor/diagnose.ts";
import type { Finding } from "../doctor/finding.ts";
import { examine, type Examination, type ExaminationRequest } from "../examination/examine.ts";
import { groupFindings } from "../examination/group-findings.ts";
import { diagnosisText, findingText, manyText } from "./doctor-report.ts";
import { hostNetworkPods } from "../pods/host-network.ts";
import { hostNetworkText } from "./host-network-text.ts";
import { printJson, tell } from "./output.ts";
import { present } from "../present.ts";

const HELP = `
Without --to nothing is sent: the path of a packet to a public address is predicted from the node's own tables, over
IPv4 and, where the pod and the node have a default route for it, over IPv6. With --to the doctor then sends one real
packet from inside the pod (as 'wayout trace' does) and, when that comes through, a few pings of several sizes; unless
--no-probe.

Examples:
  sudo wayout doctor                              every pod of this node, equal findings together
  sudo wayout doctor ns-blue --to api.github.com  one pod, one destination
  sudo wayout doctor ns-blue --fix                repair what wayout may repair, after asking
  sudo wayout doctor --watch                      look again when something changes, and print what is different
  sudo wayout doctor --at 14:03 blue              judge what the agent saw then ('wayout history' shows what changed)
  wayout doctor --snapshot node.json              judge a snapshot from another machine
  wayout snapshot > node.json                     take one

Where an agent runs ('wayout agent'), a pod without a way out is told with the time since when, and who changed what then.

A POD is named by its ip netns name, a path, pid:N, a container id, namespace/pod or its IP address.
Exit code 0: healthy, or only warnings. 1: a finding stops the traffic; or, of the whole node, new pods from starting. 3: something that decides could not be read.`;

interface DoctorOptions {
  readonly to?: string;
  readonly proto?: string;
  readonly fix?: true;
  readonly yes?: true;
  readonly watch?: true;
  readonly snapshot?: string;
  readonly at?: string;
  readonly journal?: string;
  readonly probe: boolean;
  readonly node?: string;
  readonly json?: true;
}

/** `wayout doctor`. */
export function doctorCommand(): Command {
  return new Command("doctor")
    .description("why can this pod not reach the outside? The checklist, with evidence and fix")
    .argument("[pod]", "the pod; all pods of this node when absent")
    .option("--to <destination>", "the destination: HOST, HOST:PORT or [V6]:PORT")
    .option("--proto <protocol>", "tcp, udp or icmp", "tcp")
    .option("--fix", "repair what wayout may repair, after asking")
    .option("--yes", "do not ask")
    .option("--watch", "look again and again, and print what changes")
    .option("--snapshot <file>", "judge a snapshot instead of this machine; - reads standard input")
    .addOption(
      new Option(
        "--at <time>",
        "judge the node as it was: 14:03, 10m (so long ago), 2026-11-28T14:03",
      ).conflicts(["snapshot", "watch", "fix", "node"]),
    )
    .option(
      "--journal <file>",
      `for --at: a journal to read instead of asking the agent; default where no agent runs: ${JOURNAL_PATH}`,
    )
    .option("--no-probe", "send nothing, predict only")
    .option(
      "--node <netns|path>",
      "the network namespace to take as the node; default: the one that has the other end of the pod's veth",
    )
    .option("--json", "one JSON value")
    .addHelpText("after", HELP)
    .action(async (pod: string | undefined, options: DoctorOptions) => {
      const request = { ...requestOf(pod, options), ...(await past(options)) };
      // Most runs only predict: the rest is loaded where it is asked for.
      if (options.watch === true) {
        const { showWatch } = await import("./doctor-watch.ts");
        await showWatch(request, options.json === true);
        return;
      }
      const examination = examine(request);
      const diagnoses = await withProbe(examination, request);
      report({ ...examination, diagnoses }, request, options.json === true);
      const healed =
        options.fix === true ? await fixed({ ...examination, diagnoses }, request, options) : undefined;
      const last = healed ?? diagnoses;
      if (tellsSince(last, request, options)) {
        const { noteSince } = await import("./doctor-since.ts");
        await noteSince(last);
      }
      const isHindered = pod === undefined && keepsPodsOut(examination);
      if (isHindered || last.some((one) => !one.healthy)) process.exitCode = 1;
      else if (last.some((one) => one.blind)) process.exitCode = 3;
    });
}

/** A person who sees this node of today broken wants to know since when. */
function tellsSince(
  diagnoses: readonly Diagnosis[],
  { node, snapshot }: ExaminationRequest,
  { json }: DoctorOptions,
): boolean {
  const isHere = node === undefined && snapshot === undefined;
  return json !== true && isHere && diagnoses.some(({ healthy }) => !healthy);
}

function requestOf(pod: string | undefined, options: DoctorOptions): ExaminationRequest {
  const { to, proto, node, snapshot } = options;
  return present({
    pod,
    to,
    protocol: proto,
    node,
    snapshot,
    silent: options.probe ? undefined : true,
  });
}

/** What is to be judged when it is not the present. */
async function past({ at, journal }: DoctorOptions): Promise<Pick<ExaminationRequest, "snapshot">> {
  if (at === undefined) return {};
  const { snapshotThen } = await import("./doctor-at.ts");
  return { snapshot: await snapshotThen(at, journal) };
}

/** The diagnosis of one pod together with what real packets did; unchanged when nothing is to be sent. */
async function withProbe(
  { snapshot, diagnoses }: Examination,
  { pod, to, silent, snapshot: file }: ExaminationRequest,
): Promise<readonly Diagnosis[]> {
  const [only] = diagnoses;
  if (pod === undefined || only === undefined || to === undefined) return diagnoses;
  if (silent === true || file !== undefined) return diagnoses;
  const { probed } = await import("../examination/probe.ts");
  return [probed(snapshot, pod, only)];
}

/** What became of it; undefined when nothing was changed. */
async function fixed(
  examination: Examination,
  request: ExaminationRequest,
  { yes, json }: DoctorOptions,
): Promise<readonly Diagnosis[] | undefined> {
  if (request.snapshot !== undefined) return undefined;
  const { applyFixes } = await import("../examination/fixes.ts");
  const { askAndTell } = await import("./doctor-fix.ts");
  const healed = await applyFixes(examination, askAndTell(yes === true, json === true), () =>
    examine(request),
  );
  if (healed === undefined) return undefined;
  report(healed, request, json === true);
  return healed.diagnoses;
}

function findingLines(finding: Finding): string {
  return `\n${findingText(finding)}\n`;
}

function keepsPodsOut({ node }: Pick<Examination, "node">): boolean {
  return node.some(({ severity }) => severity === "error");
}

function report(
  examination: Pick<Examination, "diagnoses" | "node">,
  { pod, node, snapshot }: ExaminationRequest,
  json: boolean,
): void {
  const { diagnoses, node: ofNode } = examination;
  const [only] = diagnoses;
  const one = pod === undefined ? undefined : only;
  // A snapshot and another node's namespace hold nothing of the pods that live in ours.
  const isHere = node === undefined && snapshot === undefined && one === undefined;
  const hostNetwork = isHere ? hostNetworkPods().map(({ name }) => name) : [];
  if (json) {
    const healthy = diagnoses.every((each) => each.healthy && !each.blind) && !keepsPodsOut(examination);
    printJson(
      one ?? { healthy, groups: groupFindings(diagnoses), pods: diagnoses, node: ofNode, hostNetwork },
    );
  } else if (one !== undefined) tell(diagnosisText, one);
  else {
    tell(manyText, diagnoses);
    // Where there are pods these stand among their findings.
    if (diagnoses.length === 0) for (const finding of ofNode) tell(findingLines, finding);
    tell(hostNetworkText, hostNetwork);
  }
}
