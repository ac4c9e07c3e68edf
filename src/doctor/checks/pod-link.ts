/** Does the pod have an interface, and is it up? */
import { command } from "../../text/command.ts";
import { likelyLinkOut, linksOut } from "../../causes/facts.ts";
import type { Link } from "../../linux/route/link.ts";
import { isForbidden } from "../../snapshot/snapshot.ts";
import { finding, type Check, type CheckContext } from "../check.ts";
import type { Finding } from "../finding.ts";
import { linkText } from "../wording.ts";
import { likelyGateway } from "./likely-gateway.ts";

const OWNER = "the pod's runtime";

export const podLink: Check = {
  step: "pod-link",
  codes: [
    "pod-namespace-gone",
    "pod-interface-missing",
    "pod-link-down",
    "pod-no-carrier",
    "pod-loopback-down",
  ],
  run(context) {
    const { pod, snapshot, inside } = context;
    if (inside === undefined) {
      const missed = snapshot.missing.find((one) => one.where === pod.name && one.what === "namespace");
      // Who may not look has seen nothing: the gap says so.
      if (isForbidden(missed)) return [];
      const why = missed?.why;
      return [
        finding("pod-namespace-gone", {
          text: `${pod.name} has no network namespace that can be entered${why === undefined ? "" : `: ${why}`}`,
          owner: OWNER,
          evidence: [{ source: `namespace of ${pod.name}`, value: why ?? "not there" }],
          consequence: "nothing in the pod can send anything",
          advice: ["delete the pod; its runtime makes it anew"],
        }),
      ];
    }
    const { links } = inside.view.state;
    const found: Finding[] = [];
    const loopback = links.find((link) => link.layer === "loopback");
    if (loopback !== undefined && !loopback.up) found.push(loopbackDown(context));
    const interfaces = linksOut(links);
    if (interfaces.length === 0) return [...found, missing(context)];
    const main = mainInterface(context, interfaces);
    if (!main.up) found.push(down(context, main));
    else if (main.carrier === false && main.operState !== "unknown") found.push(noCarrier(context, main));
    return found;
  },
};

/** The interface that leads out: the promised one, that of the default route, or the first. */
export function mainInterface(context: CheckContext, interfaces: readonly Link[]): Link {
  const { expected } = context.pod;
  const { podLink } = context.path;
  return (
    interfaces.find((link) => link.name === expected?.name) ??
    interfaces.find((link) => link.index === podLink?.index) ??
    likelyLinkOut(interfaces, undefined)!
  );
}

function missing(context: CheckContext): Finding {
  const { pod } = context;
  const promised = pod.expected;
  return finding("pod-interface-missing", {
    text: `${pod.name} has no interface besides loopback`,
    owner: OWNER,
    evidence: [
      { source: `links of ${pod.name}`, value: "lo" },
      ...(promised === undefined
        ? []
        : [
            {
              source: promised.record ?? "CNI result",
              value: `${promised.name} ${promised.addresses.join(" ")}`,
            },
          ]),
    ],
    consequence: "nothing can leave the pod",
    ...(pod.source === "netns" && (promised === undefined || promised.record !== undefined)
      ? { fix: [context.fix("node", command`wayout attach ${pod.name}`)] }
      : { advice: ["delete the pod; its runtime makes it anew"] }),
    confidence: "certain",
  });
}

function down(context: CheckContext, link: Link): Finding {
  const fixes = [context.linkUp("pod", link.name)];
  const gateways = likelyGateway(context, link);
  for (const gateway of gateways) fixes.push(context.defaultRoute(gateway, link.name));
  return finding("pod-link-down", {
    text: `${link.name} in ${context.pod.name} is down`,
    owner: OWNER,
    evidence: [{ source: `links of ${context.pod.name}`, value: linkText(link) }],
    consequence: "nothing can leave the pod, and the routes over the interface are gone",
    fix: fixes,
  });
}

function noCarrier(context: CheckContext, link: Link): Finding {
  const { pod } = context;
  const found = {
    owner: OWNER,
    evidence: [{ source: "links of the pod", value: linkText(link) }],
    consequence: "nothing can leave the pod",
  };
  // What sits on a link of the node (macvlan, ipvlan, VLAN) has no carrier where that has none.
  const below =
    link.kind === "veth" || link.linkNamespaceId === undefined ? undefined : context.nodeLinkOf(link);
  if (below === undefined || (below.up && below.carrier !== false)) {
    return finding("pod-no-carrier", {
      ...found,
      text: `${link.name} in the pod has no carrier: its other end is down`,
      advice: ["set the other end up, in the namespace that has it"],
    });
  }
  return finding("pod-no-carrier", {
    ...found,
    text: `${link.name} in ${pod.name} is a ${link.kind ?? "link"} on ${below.name} of the node, which ${below.up ? "has no carrier" : "is down"}`,
    owner: `the program that manages ${below.name}`,
    evidence: [...found.evidence, { source: "links of the node", value: linkText(below) }],
    ...(below.up
      ? { advice: [`look at the other end of ${below.name} (switch port, veth peer): it is down or gone`] }
      : { fix: [context.linkUp("node", below.name)] }),
  });
}

function loopbackDown(context: CheckContext): Finding {
  return finding("pod-loopback-down", {
    text: `loopback in ${context.pod.name} is down`,
    owner: OWNER,
    evidence: [{ source: `links of ${context.pod.name}`, value: "lo: down" }],
    consequence: "programs in the pod cannot reach each other over 127.0.0.1",
    fix: [context.linkUp("pod", "lo")],
  });
}
