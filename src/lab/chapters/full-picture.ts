/** Chapter 9: the nine steps of one packet, each with its evidence. */
import { trace } from "../../trace/trace.ts";
import { PLAN } from "../plan.ts";
import type { Chapter } from "../story.ts";
import type { World } from "../world.ts";

const { pods, internet } = PLAN;
const STEPS = 9;

export const fullPicture: Chapter<World> = {
  number: 9,
  title: "The full picture: nine steps of one packet",
  intro:
    "From blue's socket over the veth and the bridge through forwarding, MASQUERADE and conntrack out to the server, and " +
    "all the way back: one real connection, followed through the kernel.",
  act(_world, report) {
    const destination = `${internet.httpIpv4}:80`;
    const { report: traced } = trace({ pod: pods.blue.namespace, destination });
    const proven = traced.steps.filter((step) => step.status === "proven").length;
    const microseconds = traced.roundTripUs === undefined ? "" : ` in ${Math.round(traced.roundTripUs)} µs`;
    report({
      where: "anywhere",
      command: `wayout trace ${pods.blue.namespace} ${destination}`,
      expected: "all nine steps, each with what the kernel says",
      found: `${traced.answer ?? traced.outcome}${microseconds}; ${proven} of ${STEPS} steps proven`,
      ok: traced.outcome === "answered" && proven === STEPS,
      evidence: traced.steps.map((step) => ({
        source: step.evidence[0]?.source ?? step.status,
        lines: [`${step.number}  ${step.text}`],
      })),
    });
  },
};
