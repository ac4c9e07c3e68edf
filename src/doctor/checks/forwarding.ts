/** Is the node a router, and will it stay one? */
import { command } from "../../text/command.ts";
import { anywhere, finding, sysctlEvidence, type Check, type CheckContext } from "../check.ts";
import type { Finding } from "../finding.ts";
import { isDefaultRoute, routeText } from "../predict/fib.ts";
import { forwardingFiles } from "../sysctl-files.ts";

const OWNER = "the node's settings";

export const forwarding: Check = {
  step: "forwarding",
  codes: [
    "forwarding-off",
    "forwarding-off-on-interface",
    "forwarding-not-persistent",
    "router-advertisement-lost",
  ],
  run: (context) => [...off(context), ...files(context), ...advertisements(context)],
};

function off(context: CheckContext): Finding[] {
  const stops = context.stops("forwarding-off");
  const found: Finding[] = [];
  for (const sysctl of new Set(stops.map((stop) => stop.sysctl))) {
    const stop = stops.find((one) => one.sysctl === sysctl)!;
    const whole = sysctl === "net.ipv4.ip_forward" || sysctl.includes(".all.");
    const counters = context.snapshot.node.counters.at(-1)?.values ?? {};
    found.push(
      finding(whole ? "forwarding-off" : "forwarding-off-on-interface", {
        text: whole
          ? `${sysctl} is 0: the node forwards nothing`
          : `${sysctl} is 0: the node forwards nothing that arrives on ${stop.link.name}`,
        owner: OWNER,
        evidence: [
          sysctlEvidence(sysctl, 0),
          ...(whole && stop.family === 4 && counters["Ip.Forwarding"] !== undefined
            ? [{ source: "/proc/net/snmp Ip: Forwarding", value: String(counters["Ip.Forwarding"]) }]
            : []),
        ],
        consequence: `packets from ${context.pod.name} end at ${stop.link.name}`,
        fix: [context.setSysctl("node", sysctl, "1")],
      }),
    );
  }
  return found;
}

/** What sysctl.d says about the sysctl that decides. */
function files(context: CheckContext): Finding[] {
  const name = context.family === 4 ? "net.ipv4.ip_forward" : "net.ipv6.conf.all.forwarding";
  if (context.node.view.sysctl(name) !== 1) return [];
  const last = forwardingFiles(context.snapshot.files, context.family).at(-1);
  if (last?.value !== "0") return [];
  return [
    finding("forwarding-not-persistent", {
      text: `${last.path} sets ${last.name} to 0: the next sysctl --system switches forwarding off`,
      owner: `the program that wrote ${last.path}`,
      evidence: [{ source: last.path, value: `${last.name} = ${last.value}` }, sysctlEvidence(name, 1)],
      consequence: "all pods lose their way out at the next boot, or when a package reloads the settings",
      fix: [anywhere(command`wayout forwarding enable --persist`)],
    }),
  ];
}

/** A default route that is fed by router advertisements, on an interface that no longer listens to them. */
function advertisements(context: CheckContext): Finding[] {
  const { view } = context.node;
  if (view.sysctl("net.ipv6.conf.all.forwarding") !== 1) return [];
  return view.state.routes
    .filter((route) => route.family === 6 && isDefaultRoute(route) && route.protocol === "ra")
    .flatMap((route) => {
      const link = view.linkAt(route.interface);
      if (link === undefined || view.conf(6, link.name, "accept_ra") !== 1) return [];
      const name = `net.ipv6.conf.${link.name}.accept_ra`;
      return [
        finding("router-advertisement-lost", {
          text: `the IPv6 default route by ${link.name} came by router advertisement and expires: ${name} is 1 while the node forwards`,
          owner: OWNER,
          evidence: [
            {
              source: "ip -6 route",
              value: `${routeText(route, view.state.links)}${route.expiresSeconds === undefined ? "" : ` expires ${route.expiresSeconds}sec`}`,
            },
            sysctlEvidence(name, 1),
          ],
          consequence: "the node and its pods lose IPv6 when the route expires",
          fix: [context.setSysctl("node", name, "2")],
        }),
      ];
    });
}
