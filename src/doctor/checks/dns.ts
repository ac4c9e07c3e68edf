/** Can the pod resolve names? Each name server is a destination of its own. */
import { askedNameservers, type ResolvConf } from "../../linux/resolv-conf.ts";
import { command } from "../../text/command.ts";
import { familyOf, endText } from "../../address/ip.ts";
import {
  isCloudServiceAddress,
  isLinkLocalAddress,
  isLoopbackAddress,
  isPrivateAddress,
  isUnspecifiedAddress,
} from "../../address/special-purpose.ts";
import { anywhere, CheckContext, finding, type Check } from "../check.ts";
import type { Finding } from "../finding.ts";
import { predictPath } from "../predict/predict.ts";
import { isDefaultRoute, routeText } from "../predict/fib.ts";
import { stopText } from "../stop-text.ts";
import { bridge } from "./bridge.ts";
import { filter } from "./filter.ts";
import { forwarding } from "./forwarding.ts";
import { gateway } from "./gateway.ts";
import { nat } from "./nat.ts";
import { nodeRoute } from "./node-route.ts";
import { podRoute } from "./pod-route.ts";
import { reversePath } from "./reverse-path.ts";
import { present } from "../../present.ts";

export const dns: Check = {
  step: "dns",
  codes: ["resolver-loopback", "resolver-unreachable", "resolver-missing", "ipv6-preferred"],
  run: (context) => [...resolvers(context), ...ipv6Preferred(context)],
};

function resolvers(context: CheckContext): Finding[] {
  const { resolvConf, dnsListeners = [] } = context.pod;
  if (resolvConf === undefined || context.inside === undefined) return [];
  const servers = askedNameservers(resolvConf);
  const listed = {
    source: "resolv.conf of the pod",
    value: servers.map((one) => `nameserver ${one}`).join("; "),
  };
  if (servers.length === 0) return [withoutServer(context, resolvConf)];
  const found: Finding[] = [];
  for (const server of servers) {
    if (isLoopbackAddress(server)) {
      const answered = dnsListeners.some((one) => one === server || isUnspecifiedAddress(one));
      if (!answered) found.push(loopback(context, server, listed));
    } else {
      found.push(
        ...nobodys(context, server, listed),
        ...clusterDns(context, server, listed),
        ...unreachable(context, server, listed),
      );
    }
  }
  // One server that works is enough; with several broken ones, the first says it.
  return found.length === servers.length ? found.slice(0, 1) : [];
}

/** What is no address the C library passes over, and then asks 127.0.0.1. */
function withoutServer({ pod }: CheckContext, { nameservers }: ResolvConf): Finding {
  const found = finding("resolver-missing", {
    text:
      nameservers.length === 0
        ? `${pod.name} has a resolv.conf without a name server`
        : `${pod.name}'s resolv.conf names no address as its name server: “${nameservers.join("”, “")}”`,
    owner: "the pod's runtime",
    evidence: [
      {
        source: "resolv.conf of the pod",
        value:
          nameservers.length === 0
            ? "it has no nameserver line"
            : nameservers.map((one) => `nameserver ${one}`).join("; "),
      },
    ],
    consequence: "the C library asks 127.0.0.1",
    advice: ["write the address of a name server into the pod's resolv.conf"],
  });
  // A line that was meant, and nobody at the address that is asked instead: no name is resolved.
  const isAnswered = pod.dnsListeners?.some((one) => ["127.0.0.1", "0.0.0.0", "::"].includes(one)) !== false;
  return nameservers.length === 0 || isAnswered ? found : { ...found, severity: "error", stopsTraffic: true };
}

function loopback(context: CheckContext, server: string, listed: { source: string; value: string }): Finding {
  return finding("resolver-loopback", {
    text: `${context.pod.name}'s name server is ${server}, its own loopback, and nothing listens there`,
    owner:
      server === DOCKERS_DNS
        ? "Docker, whose own name server has this address inside containers"
        : "the pod's runtime: it copied the node's resolv.conf",
    evidence: [
      listed,
      {
        source: "UDP port 53 in the pod",
        value: (context.pod.dnsListeners ?? []).join(", ") || "none",
      },
    ],
    consequence: "addresses work, names do not",
    advice: [
      "write the address of a name server that the pod can reach into its resolv.conf",
      ...usedByAnother(context),
      server === DOCKERS_DNS
        ? "for good: start the container again: Docker's daemon makes the rules and the socket for it"
        : "for good: kubelet --resolv-conf=/run/systemd/resolve/resolv.conf",
    ],
  });
}

/** Docker's daemon answers there for containers on networks that have a name, by rules in the container's namespace. */
const DOCKERS_DNS = "127.0.0.11";

/** A name server of another pod of this node: worth knowing, but a pod's word, by which no other pod's file is changed. */
function usedByAnother({ snapshot, pod }: CheckContext): string[] {
  for (const other of snapshot.pods) {
    if (other === pod || other.resolvConf === undefined) continue;
    const server = askedNameservers(other.resolvConf).find((one) => !isLoopbackAddress(one));
    if (server !== undefined) return [`${other.name} on this node uses ${server}`];
  }
  return [];
}

/**
 * A link-local address that is no address of this node and leaves by a router: node-local DNS whose interface is gone.
 * Clouds answer for theirs behind the router; an on-link address may belong to any host on that link.
 */
function nobodys(
  context: CheckContext,
  server: string,
  listed: { source: string; value: string },
): Finding[] {
  if (!isLinkLocalAddress(server) || isCloudServiceAddress(server) || familyOf(server) === 6) return [];
  const { snapshot, pod } = context;
  const { path, certain } = predictPath(snapshot, pod, { address: server, protocol: "udp", port: 53 });
  if (!certain || path.end !== "outside" || path.stops.length > 0 || path.outLink === undefined) return [];
  const way = context.node.view.fib.predict({ destination: server });
  if (way.kind !== "route" || way.gateway === undefined) return [];
  const nodeLocal = server === NODE_LOCAL_DNS;
  return [
    finding("resolver-unreachable", {
      text: `${pod.name}'s name server ${server} is no address of this node: queries leave by ${path.outLink.name} as ${path.left?.source ?? "it is"}, and no router forwards a link-local address`,
      owner: nodeLocal
        ? "node-local DNS (node-local-dns), whose address it is"
        : "the program that wrote the pod's resolv.conf",
      evidence: [
        listed,
        { source: "addresses of the node", value: `none is ${server}` },
        { source: `ip route get ${server}`, value: routeText(way.route!, context.node.view.state.links) },
      ],
      consequence: "addresses work, names do not",
      advice: [
        nodeLocal
          ? "start node-local-dns on this node again (kubectl -n kube-system get pods -l k8s-app=node-local-dns -o wide): it makes the interface nodelocaldns"
          : "write the address of a working name server into the pod's resolv.conf",
      ],
      confidence: "likely",
    }),
  ];
}

/**
 * A Service's address, as the search list says (kubelet writes svc.DOMAIN), that no rule, no route and no program of this node
 * knows: it is asked of the routers outside.
 */
function clusterDns(
  context: CheckContext,
  server: string,
  listed: { source: string; value: string },
): Finding[] {
  const { snapshot, pod, node } = context;
  const cluster = pod.resolvConf?.search.find((one) => one.startsWith("svc."));
  if (cluster === undefined || !isPrivateAddress(server)) return [];
  // Cilium's programs may translate in the pod's own socket calls, where no packet shows it.
  if (node.view.state.links.some(({ name }) => name.startsWith("cilium_"))) return [];
  const { path, certain } = predictPath(snapshot, pod, { address: server, protocol: "udp", port: 53 });
  if (!certain || path.end !== "outside" || path.stops.length > 0 || path.blindSpots.length > 0) return [];
  if (path.redirected !== undefined || path.balancedBy !== undefined) return [];
  const used = node.view.fib.onlyDefaultTo(server);
  if (used === undefined) return [];
  return [
    finding("resolver-unreachable", {
      text: `${pod.name}'s name server ${server} is a Service's address of its cluster (search ${cluster}), and no rule of this node knows it: queries leave by ${path.outLink?.name ?? "the default route"} as ${path.left?.source ?? "they are"}`,
      owner: "kube-proxy, or what stands for it",
      evidence: [
        listed,
        { source: "search list of the pod", value: pod.resolvConf!.search.join(" ") },
        { source: "rules that change its destination", value: "none" },
        { source: `ip route get ${server}`, value: routeText(used, node.view.state.links) },
      ],
      consequence: "routers outside know no such address: addresses work, names do not",
      advice: [
        "kube-proxy does not run on this node, or its rules were flushed: kubectl -n kube-system get pods -o wide -l k8s-app=kube-proxy",
      ],
      confidence: "likely",
    }),
  ];
}

/** The address that Kubernetes' node-local DNS takes unless it is told another one. */
const NODE_LOCAL_DNS = "169.254.20.10";

/** The checks that follow a packet: what stops the one to the name server has a name there, and a cure. */
const OF_THE_PATH = [podRoute, gateway, bridge, forwarding, nodeRoute, reversePath, filter, nat];

function unreachable(
  context: CheckContext,
  server: string,
  listed: { source: string; value: string },
): Finding[] {
  const { snapshot, pod } = context;
  const target = { address: server, protocol: "udp", port: 53 } as const;
  const predicted = predictPath(snapshot, pod, target);
  const [stop] = predicted.path.stops;
  // What stops the pod's other traffic the same way is told there.
  if (!predicted.certain || context.path.stops.some((one) => one.kind === stop?.kind)) return [];
  if (stop === undefined && predicted.path.localEnd?.listener !== "none") return [];
  const there = new CheckContext(snapshot, pod, target, predicted);
  const cause = OF_THE_PATH.flatMap((check) => check.run(there)).find((one) => one.stopsTraffic);
  if (cause === undefined && stop === undefined) return [];
  const why = cause?.text ?? stopText(stop!);
  return [
    finding(
      "resolver-unreachable",
      present({
        text: `${pod.name} cannot reach its name server ${server}: ${why}`,
        owner: cause?.owner ?? "see the reason",
        evidence: [listed, ...(cause?.evidence ?? [{ source: `path to ${server}:53`, value: why }])],
        consequence: "addresses work, names do not",
        fix: cause?.fix ?? [
          anywhere(command`wayout doctor ${pod.name} --to ${endText(server, 53)} --proto udp`),
        ],
        confidence: cause?.confidence,
      }),
    ),
  ];
}

/** A default route for IPv6 whose path is broken, while IPv4 is what was asked about. */
function ipv6Preferred(context: CheckContext): Finding[] {
  const { inside, pod, snapshot } = context;
  if (context.family === 6 || inside === undefined) return [];
  const { state } = inside.view;
  const route = state.routes.find((one) => one.family === 6 && isDefaultRoute(one) && one.type === "unicast");
  const global = state.addresses.some((one) => one.family === 6 && one.scope === "global");
  if (route === undefined || !global) return [];
  // RFC 6724 prefers IPv4 to a unique local source with a global destination: only global addresses mislead.
  if (!state.addresses.some((one) => one.family === 6 && /^[23]/.test(one.address))) return [];
  const target = { address: "2001:4860:4860::8888", protocol: "tcp", port: 443 } as const;
  const { path, certain } = predictPath(snapshot, pod, target);
  const [stop] = path.stops;
  if (stop === undefined || !certain) return [];
  return [
    finding("ipv6-preferred", {
      text: `${pod.name} has an IPv6 default route, but ${stopText(stop)}`,
      owner: "the pod's network",
      evidence: [{ source: "path to an IPv6 address outside", value: stopText(stop) }],
      consequence: "programs try IPv6 first and wait until it fails",
      fix: [anywhere(command`wayout doctor ${pod.name} --to ${"[2001:4860:4860::8888]:443"}`)],
      confidence: "likely",
    }),
  ];
}
