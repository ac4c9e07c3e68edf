/** A Kubernetes Service without endpoints: kube-proxy refuses its packets, rightly. */
import { familyOf, endText, ipNumber } from "../../address/ip.ts";
import { isPrivateAddress } from "../../address/special-purpose.ts";
import { routeText } from "../predict/fib.ts";
import type { SetElement } from "../../linux/nftables/ruleset.ts";
import { finding } from "../check.ts";
import type { Finding } from "../finding.ts";
import { targetText } from "../wording.ts";
import { commentOf } from "../../rules/rule-comment.ts";
import type { CheckContext } from "../check.ts";
import type { Decision } from "../predict/decision.ts";
import { PROTOCOL_NUMBER } from "../predict/packet.ts";

export interface EmptyService {
  /** `namespace/name:port`, as kube-proxy calls it. */
  readonly name: string;
  /** kube-proxy's own words. */
  readonly said: string;
  /** It has endpoints, and none on this node, where its traffic policy wants them. */
  readonly elsewhere: boolean;
}

/** The Service for which a rule chooses, as kube-proxy calls it: `namespace/name:port`. */
export function serviceOf(by: Decision | undefined): string | undefined {
  if (by === undefined) return undefined;
  const comment = by.rule === undefined ? undefined : commentOf(by.rule);
  const named = /^([\w.-]+\/[\w.-]+(?::[\w.-]*)?)(?: -> | cluster IP| external IP| loadbalancer IP|$)/.exec(
    comment ?? "",
  )?.[1];
  if (named !== undefined && by.chain.name.startsWith("KUBE-")) return named;
  // nftables mode: service-ULMVA6XW-ns2/svc2/tcp/p80
  const chain = /^(?:service|endpoint|external)-[A-Z0-9]+-([^/]+)\/([^/]+)\/[a-z]+\/([^/_]*)/.exec(
    by.chain.name,
  );
  return chain === null ? undefined : `${chain[1]}/${chain[2]}${chain[3] === "" ? "" : `:${chain[3]}`}`;
}

/** Asks for the endpoints of a Service called `namespace/name` or `namespace/name:port`. */
export function askForEndpoints(service: string): string {
  const [namespace, name] = service.replace(/:[^:]*$/, "").split("/");
  return `kubectl -n ${namespace} get endpointslices -l kubernetes.io/service-name=${name}`;
}

/**
 * Who decided about what a rule drops by its mark (kube-proxy of old: KUBE-MARK-DROP, and KUBE-FIREWALL later): the rule
 * that led to the marking. The one that dropped it where no such mark was given.
 */
export function deciderOf({ path }: CheckContext, by: Decision): Decision {
  const marked = path.marks?.find((one) => one.by.chain.name === "KUBE-MARK-DROP")?.by;
  if (by.chain.name !== "KUBE-FIREWALL" || marked?.from === undefined) return by;
  const { chain, rule } = marked.from;
  return { table: marked.table, base: marked.base, chain, rule };
}

/** The Service for whose lack of endpoints kube-proxy stops the packet; undefined when that is not why. */
export function emptyService(context: CheckContext, stopping: Decision): EmptyService | undefined {
  const by = deciderOf(context, stopping);
  const comment = by.rule === undefined ? undefined : commentOf(by.rule);
  const named = /^(?<name>\S+\/\S+) has no (?<local>local )?endpoints$/.exec(comment ?? "")?.groups;
  if (named !== undefined) {
    return { name: named["name"]!, said: comment!, elsewhere: named["local"] !== undefined };
  }
  if (by.table.name !== "kube-proxy") return undefined;
  const set = by.table.sets.find((one) => one.name === "no-endpoint-services");
  const element = set?.elements.find((one) => isKey(context, one));
  if (element?.comment === undefined) return undefined;
  return { name: element.comment, said: `no-endpoint-services: ${element.comment}`, elsewhere: false };
}

/** `ip daddr . meta l4proto . th dport`: each part begins at a four-byte word. */
function isKey({ target, path }: CheckContext, { key }: SetElement): boolean {
  const destination = path.left?.destination ?? target.address;
  const size = familyOf(target.address) === 6 ? 32 : 8;
  return [...new Set([target.address, destination])].some((address) => {
    const address16 = ipNumber(address).toString(16).padStart(size, "0");
    const protocol = PROTOCOL_NUMBER[target.protocol].toString(16).padStart(2, "0");
    const port = target.port.toString(16).padStart(4, "0");
    return key === `${address16}${protocol}000000${port}0000`;
  });
}

/** The same in IPVS mode: the virtual service stands, and none of its servers gets connections. */
export function withoutServers(context: CheckContext): Finding[] {
  return context.stops("no-server").map(({ service }) => {
    const { protocol, address, port, mark, servers = [] } = service;
    const end = mark === undefined ? endText(address, port) : `fwmark ${mark}`;
    const drained =
      servers.length === 0 ? "has no servers" : `has ${servers.length} servers, all with weight 0`;
    const view = context.node.view;
    const isOfKubernetes = view.state.addresses.some(
      (one) => one.address === address && view.linkAt(one.interface)?.name === "kube-ipvs0",
    );
    return finding("service-no-endpoints", {
      text: `the Service at ${end}${mark === undefined ? ` (${protocol})` : ""} has no ready endpoints: its virtual service in IPVS ${drained}, and what ${context.pod.name} sends to ${targetText(context.target)} is refused`,
      owner: isOfKubernetes
        ? "kube-proxy (IPVS), for the Service"
        : "the program that made the virtual service",
      evidence: [
        {
          source: "/proc/net/ip_vs",
          value: `${mark === undefined ? `${protocol.toUpperCase()} ` : ""}${end}: ${drained}`,
        },
      ],
      consequence: "connections to the Service's address are refused at once (ICMP port unreachable)",
      advice: isOfKubernetes
        ? [
            `find the Service: kubectl get services -A -o wide | grep -F ${address}; start pods that match its selector, and are ready`,
          ]
        : ["see its servers: ipvsadm -Ln"],
    });
  });
}

/**
 * A private address that only the default route leads to, and that no rule takes: a Service's, where kube-proxy's rules
 * are not there (any more), or a network that was never here.
 */
export function unknownService(context: CheckContext): Finding[] {
  const { path, target, node } = context;
  const { outLink, redirected } = path;
  if (path.end !== "outside" || redirected !== undefined || outLink === undefined) return [];
  if (!isPrivateAddress(target.address)) return [];
  const used = node.view.fib.onlyDefaultTo(target.address);
  if (used === undefined) return [];
  const proxy = kubeProxy(context);
  return [
    finding("private-destination-outside", {
      text: `${target.address} is a private address that this node does not know: no rule takes it, and only the default route leads there, out by ${outLink.name}${proxy === undefined ? "" : `; ${proxy} knows no Service at ${targetText(target)}`}`,
      owner:
        proxy === undefined
          ? "the network outside, or kube-proxy"
          : "kube-proxy, or the program that uses the address",
      evidence: [
        { source: "ip route", value: routeText(used, node.view.state.links) },
        { source: "rules that change its destination", value: "none" },
        { source: "kube-proxy on this node", value: proxy ?? "neither rules nor IPVS" },
      ],
      consequence: "what has such an address is not on the internet: routers outside drop it",
      advice: [
        proxy === undefined
          ? "if it is a Service's address: kube-proxy does not run on this node, or its rules were flushed; see its pod: kubectl -n kube-system get pods -o wide -l k8s-app=kube-proxy"
          : "if it is a Service's address: see whether the Service still has it: kubectl get services -A -o wide",
        "if it is another network's: a route to it is missing on this node",
      ],
      confidence: "likely",
    }),
  ];
}

/** By what kube-proxy is known to be at work here. */
function kubeProxy({ node }: CheckContext): string | undefined {
  if (node.hooks.tables.some((table) => table.name === "kube-proxy")) return "table kube-proxy";
  const hasChain = node.hooks.tables.some((table) =>
    table.chains.some((chain) => chain.name === "KUBE-SERVICES" && chain.rules.length > 0),
  );
  if (hasChain) return "chain KUBE-SERVICES";
  return (node.view.state.virtualServices?.length ?? 0) > 0 ? "IPVS" : undefined;
}
