/** Does the pod know a way to the target? */
import { familyOf } from "../../address/ip.ts";
import { RT_TABLE } from "../../linux/route/constants.ts";
import { finding, type Check, type CheckContext } from "../check.ts";
import type { Finding } from "../finding.ts";
import { routeText } from "../predict/fib.ts";
import { policyRuleText } from "../predict/rule-selector.ts";
import { deletePolicyRule } from "./captured.ts";
import { capturedInPod, intoPodTunnel } from "./captured-in-pod.ts";
import { capturedByPodRoute } from "./dead-route.ts";
import { likelyGateway } from "./likely-gateway.ts";
import { deleteRoute } from "./route-fix.ts";
import { mainInterface } from "./pod-link.ts";
import { secondNetwork } from "./second-network.ts";

const OWNER = "the pod's runtime";

/** What a program in the pod sees for each errno. */
const SEEN: Readonly<Record<string, string>> = {
  ENETUNREACH: "Network is unreachable",
  EHOSTUNREACH: "No route to host",
  EACCES: "Permission denied",
  EINVAL: "Invalid argument",
};

export const podRoute: Check = {
  step: "pod-route",
  suspects: intoPodTunnel,
  codes: ["pod-rule-captures", "pod-route-captures", "pod-no-route", "pod-route-refused"],
  run(context) {
    return [
      ...capturedInPod(context),
      ...capturedByPodRoute(context),
      ...secondNetwork(context),
      ...context
        .stops("no-route")
        .filter((stop) => stop.place === "pod")
        .map((stop) =>
          stop.route === undefined && stop.rule === undefined
            ? noRoute(context, stop)
            : refused(context, stop),
        ),
    ];
  },
};

type NoRoute = ReturnType<CheckContext["stops"]>[number] & { readonly kind: "no-route" };

function noRoute(context: CheckContext, stop: NoRoute): Finding {
  const { pod } = context;
  const { state } = context.inside!.view;
  const links = state.links.filter((link) => link.layer !== "loopback");
  const link = links.length === 0 ? undefined : mainInterface(context, links);
  const gateways = link === undefined ? [] : likelyGateway(context, link);
  const wanted = gateways.filter((one) => familyOf(one) === context.family);
  const routes = state.routes.filter(
    (route) => route.family === context.family && route.table === RT_TABLE.main,
  );
  return finding("pod-no-route", {
    text: `${pod.name} has no route to ${stop.destination}: “${SEEN[stop.error] ?? stop.error}”`,
    owner: OWNER,
    evidence: [
      { source: `ip route get ${stop.destination} in ${pod.name}`, value: stop.error },
      {
        source: `routes of ${pod.name}`,
        value: routes.length === 0 ? "none" : routes.map((route) => routeText(route, state.links)).join("; "),
      },
    ],
    consequence: "programs in the pod fail at once, nothing is sent",
    ...(link === undefined || wanted.length === 0
      ? { advice: ["name a default route in the network's IPAM (isDefaultGateway, or routes)"] }
      : { fix: wanted.map((gateway) => context.defaultRoute(gateway, link.name)) }),
  });
}

function refused(context: CheckContext, stop: NoRoute): Finding {
  const { pod } = context;
  const { links } = context.inside!.view.state;
  const { route } = stop;
  const what = route === undefined ? "rule" : "route";
  const text = route === undefined ? policyRuleText(stop.rule!) : routeText(route, links);
  return finding("pod-route-refused", {
    text: `the ${what} “${text}” in ${pod.name} refuses ${stop.destination}`,
    owner: OWNER,
    evidence: [
      { source: `ip route get ${stop.destination} in ${pod.name}`, value: stop.error },
      { source: `${what}s of ${pod.name}`, value: text },
    ],
    consequence: `programs in the pod see “${SEEN[stop.error] ?? stop.error}”`,
    ...(route === undefined
      ? { fix: deletePolicyRule(context, stop.rule!, "pod") }
      : deleteRoute(context, "pod", route)),
  });
}
