/** Does rp_filter take the packet, or its answer, for forged? */
import { forAddress } from "../vouched.ts";
import { finding, sysctlEvidence, type Check } from "../check.ts";

export const reversePath: Check = {
  step: "reverse-path",
  codes: ["reverse-path-filter"],
  run(context) {
    return context.stops("reverse-path").map((stop) => {
      const counters = context.snapshot.node.counters.map(
        (reading) => reading.values["TcpExt.IPReversePathFilter"] ?? 0,
      );
      const mode = stop.value === 1 ? "strict" : "loose";
      const instead = stop.instead === undefined ? "nowhere" : `by ${stop.instead}`;
      const loosen = context.setSysctl("node", stop.sysctl, stop.instead === undefined ? "0" : "2");
      return finding("reverse-path-filter", {
        text: `rp_filter is ${mode} on ${stop.link.name}, and the way to ${stop.source} leads ${instead}`,
        owner: "the node's settings",
        evidence: [
          sysctlEvidence(stop.sysctl, stop.value),
          {
            source: `ip route get ${stop.source}`,
            value: stop.instead === undefined ? "no route" : `dev ${stop.instead}`,
          },
          { source: "TcpExt IPReversePathFilter", value: String(counters.at(-1) ?? "unknown") },
        ],
        consequence: `${stop.direction === "out" ? "the pod's packets" : "answers"} from ${stop.source} are dropped at ${stop.link.name} silently`,
        fix: stop.direction === "out" ? forAddress(context, stop.source, () => [loosen]) : [loosen],
      });
    });
  },
};
