/** Does rp_filter take the packet, or its answer, for forged? */
import { finding, sysctlEvidence, type Check, type CheckContext } from "../check.ts";
import type { Finding } from "../finding.ts";
import { routeText } from "../predict/fib.ts";
import { policyRuleText } from "../predict/rule-selector.ts";

export const reversePath: Check = {
  step: "reverse-path",
  codes: ["source-is-local", "reverse-path-filter"],
  run: (context) => [...sourceIsLocal(context), ...filtered(context)],
};

/** The kernel lets nothing in from an address that it has itself, or that a table calls local or a broadcast. */
function sourceIsLocal(context: CheckContext): Finding[] {
  return context.stops("martian-source").map(({ place, link, source, type, route, rule }) => {
    const { state } = (place === "node" ? context.node : context.inside!).view;
    const holder = state.addresses.find((one) => one.address === source);
    const holding = state.links.find((one) => one.index === holder?.interface)?.name;
    const where = place === "node" ? "the node" : context.pod.name;
    const text = route === undefined ? type : routeText(route, state.links);
    const reason =
      holding === undefined
        ? `“${text}”${rule === undefined ? "" : ` (rule “${policyRuleText(rule)}”)`} on ${where} calls ${source} ${type}`
        : `${holding} on ${where} has ${source} as an address of its own`;
    return finding("source-is-local", {
      text: `${reason}: ${where} takes packets from ${source} that come in by ${link.name} for forged`,
      owner:
        holding === undefined
          ? "the program that made the route"
          : `the program that gave ${holding} the address`,
      evidence: [
        ...(holder === undefined
          ? []
          : [{ source: `addresses of ${holding ?? "a link"}`, value: `${source}/${holder.prefixLength}` }]),
        ...(rule === undefined ? [] : [{ source: "ip rule", value: policyRuleText(rule) }]),
        { source: `ip route get ${source} on ${where}`, value: text },
      ],
      consequence: `what comes in from ${source} is dropped as a martian (log_martians shows them)`,
      advice: [
        holding === undefined
          ? `“${text}” must be changed by the program that made it`
          : `only one of the two may have ${source}: give ${holding}, or ${context.pod.name}, another address`,
      ],
    });
  });
}

function filtered(context: CheckContext): Finding[] {
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
      fix: stop.direction === "out" ? [loosen] : [loosen],
    });
  });
}
