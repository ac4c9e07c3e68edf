/** A rule chooses by chance (one of a Service's endpoints), and some of its choices lead nowhere. */
import { endText } from "../../address/ip.ts";
import { CheckContext, finding } from "../check.ts";
import type { Finding } from "../finding.ts";
import type { Prediction } from "../predict/path.ts";
import type { PathBranch } from "../predict/predict.ts";
import { stopText } from "../stop-text.ts";
import { targetText } from "../wording.ts";
import { unroutedNetwork } from "./pod-network.ts";
import { askForEndpoints, serviceOf } from "./service.ts";

export function failingBranches(context: CheckContext): Finding[] {
  const { branches, path } = { ...context.predicted, path: context.path };
  const failing = branches.flatMap((branch): Failing[] => {
    const why = whyFailing(context, branch);
    return why === undefined ? [] : [{ ...branch, why }];
  });
  if (failing.length === 0 || failing.length === branches.length) return [];
  const ends = new Set(branches.map((one) => endOf(one.path)));
  if (ends.size > 1) return [endpoints(context, failing, ends.size)];
  const stopped = failing.filter((one) => one.path.stops.length > 0);
  return path.stops.length > 0 ? [] : stopped.slice(0, 1).map((one) => share(context, one));
}

interface Failing extends PathBranch {
  readonly why: string;
}

/** What stops the branch, or that its end is a pod of another node to which no route leads. */
function whyFailing(context: CheckContext, { path }: PathBranch): string | undefined {
  const [stop] = path.stops;
  if (stop !== undefined) return stopText(stop);
  const { snapshot, pod, target, predicted } = context;
  return unroutedNetwork(new CheckContext(snapshot, pod, target, { ...predicted, path }))[0]?.text;
}

/** Where it was led, at last: its answer comes back to the pod, from whichever it was. */
function endOf({ steps, target }: Prediction): string {
  const last = steps.findLast(({ direction }) => direction === "out");
  const { destination, destinationPort } = last?.tuple ?? {
    destination: target.address,
    destinationPort: target.port,
  };
  return endText(destination, destinationPort === 0 ? undefined : destinationPort);
}

function endpoints({ pod, target, path }: CheckContext, failing: readonly Failing[], of: number): Finding {
  const reasons = new Map(failing.map((one) => [endOf(one.path), one.why]));
  const service = failing
    .flatMap(({ by }) => by.map(({ at }) => serviceOf(at)))
    .find((name) => name !== undefined);
  const whose = service === undefined ? `behind ${targetText(target)}` : `of Service ${service}`;
  const told = [...reasons].map(([end, why]) => `${end} (${why})`).join(", ");
  return finding("branch-fails", {
    text: `${reasons.size} of ${of} endpoints ${whose} ${reasons.size === 1 ? "fails" : "fail"}: ${told}; some of ${pod.name}'s connections to ${targetText(target)} stop there`,
    owner: service === undefined ? "the rules named" : "kube-proxy, for the Service",
    evidence: failing.map((one) => ({
      source: one.by.at(-1)?.about ?? "by chance",
      value: `${endOf(one.path)}: ${one.why}`,
    })),
    consequence: `a share of the connections (${percent(failing)}) fails, the others work`,
    share: shareOf(failing),
    advice: [
      service === undefined
        ? "repair the path to that endpoint, or remove it at its owner (an endpoint that is gone)"
        : `see whether that endpoint is still there: ${askForEndpoints(service)}`,
    ],
    ...(path.stops.length > 0 ? { confidence: "certain" as const } : { confidence: "likely" as const }),
  });
}

/** A rule that drops some packets, wherever they go. */
function share({ pod, target }: CheckContext, one: Failing): Finding {
  const { why } = one;
  const about = one.by.at(-1)?.about ?? "chance";
  const found = finding("branch-fails", {
    text: `some of ${pod.name}'s connections to ${targetText(target)} fail (${percent([one])}): those that ${about} chooses stop: ${why}`,
    owner: "the rules named",
    evidence: [{ source: about, value: why }],
    consequence: "a share of the connections fails, the others work",
    advice: ["repair that path, or remove the rule at its owner"],
    confidence: "likely",
  });
  // Chance is asked for each packet, and what is lost is sent again: it costs time.
  return { ...found, severity: "warning", stopsTraffic: false };
}

function percent(branches: readonly PathBranch[]): string {
  return `${Math.round(shareOf(branches) * 100)} %`;
}

function shareOf(branches: readonly PathBranch[]): number {
  return branches.reduce((all, one) => all + one.share, 0);
}
