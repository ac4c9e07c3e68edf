/** Does a host answer for the pod's gateway, and with the MAC address that the pod uses? */
import { DEFAULT_CIDR, familyOf, hostCidr } from "../../address/ip.ts";
import { command } from "../../text/command.ts";
import { cidrContains, cidrOf } from "../../address/cidr.ts";
import { isLinkLocalAddress } from "../../address/special-purpose.ts";
import type { Link } from "../../linux/route/link.ts";
import { finding, sysctlEvidence, type Check, type CheckContext } from "../check.ts";
import type { Evidence, Finding, Fix } from "../finding.ts";
import { linkManager } from "../link-managers.ts";
import { forMac, vouchedGateway } from "../whose-word.ts";
import { routeText, type RouteResult } from "../predict/fib.ts";
import { hostRoute } from "./route-fix.ts";
import { neighbourAt } from "../predict/link-state.ts";
import { present } from "../../present.ts";

export const gateway: Check = {
  step: "gateway",
  codes: [
    "pod-gateway-unowned",
    "pod-gateway-silent",
    "pod-gateway-wrong-mac",
    "pod-gateway-unresolved",
    "bridge-address-missing",
    "bridge-other-subnet",
    "host-link-not-enslaved",
  ],
  run: (context) => [...unowned(context), ...silent(context), ...wrongMac(context), ...unresolved(context)],
};

function unowned(context: CheckContext): Finding[] {
  const enslaved = context.stops("not-enslaved").map((stop) => {
    const { name } = stop.bridge;
    return finding("host-link-not-enslaved", {
      text: `${stop.link.name}, the node's end of ${context.pod.name}'s veth, is in no bridge; ${stop.gateway} is ${name}'s`,
      owner: linkManager(context.snapshot, "took it out"),
      evidence: [
        { source: `links of the node: ${stop.link.name}`, value: "no master" },
        { source: `addresses of ${name}`, value: stop.gateway },
      ],
      consequence:
        "the pod's frames reach the node on the wrong interface, and answers go to the bridge, where the pod is not",
      fix: [
        context.fix("node", command`ip link set dev ${stop.link.name} master ${name}`, {
          kind: "enslave",
          link: stop.link.name,
          bridge: name,
        }),
      ],
    });
  });
  return [
    ...enslaved,
    ...context.stops("gateway-unowned").map((stop) => withoutOwner(context, stop.gateway, stop.link.name)),
  ];
}

/** The node has the address, and a setting keeps it from saying so where the pod asks. */
function silent(context: CheckContext): Finding[] {
  return context.stops("gateway-silent").map(({ gateway: address, link, by }) =>
    finding("pod-gateway-silent", {
      text: `${link.name} does not answer for ${context.pod.name}'s gateway ${address}, an address of ${by.holder}: arp_ignore is ${by.value}`,
      owner: "the node's settings",
      evidence: [
        { source: `addresses of ${by.holder}`, value: address },
        sysctlEvidence(by.sysctl, by.value),
      ],
      consequence: "the pod asks for its gateway's MAC address and gets no answer",
      fix: [context.setSysctl("node", by.sysctl, "0")],
    }),
  );
}

/** Nobody has the gateway's address, and nobody needs to: the node would answer for it by proxy_arp. */
function unproxied(
  context: CheckContext,
  address: string,
  link: Link,
  evidence: Evidence[],
): Finding | undefined {
  const { view } = context.node;
  if (link.kind === "bridge" || familyOf(address) === 6 || context.path.gateway === undefined)
    return undefined;
  const name = `net.ipv4.conf.${link.name}.proxy_arp`;
  const value = view.conf(4, link.name, "proxy_arp");
  if (value === undefined) return undefined;
  const base = {
    owner: "the network's plugin, or the node's settings",
    evidence: [...evidence, sysctlEvidence(name, value)],
    consequence: "the pod asks for its gateway's MAC address and gets no answer",
  };
  if (value === 1) {
    const way = view.fib.predict({ destination: address });
    const { links } = view.state;
    const said =
      way.route !== undefined
        ? routeText(way.route, links)
        : way.kind === "route"
          ? `dev ${way.link.name}`
          : way.error;
    const leadsBack = way.kind === "route" && way.link.index === link.index;
    return finding("pod-gateway-unowned", {
      ...base,
      text: `${link.name} answers (proxy_arp) only for what the node has a route to by another link, and for ${context.pod.name}'s gateway ${address} it has none`,
      evidence: [...base.evidence, { source: `ip route get ${address}`, value: said }],
      advice: [
        leadsBack
          ? `“${said}” leads back to ${link.name}: the address there that made it has to go (programs that give link-local addresses, as dhcpcd and NetworkManager do, must leave the pods' links alone)`
          : "give the node its default route back",
      ],
    });
  }
  const on = context.setSysctl("node", name, "1");
  // A link-local gateway is a placeholder (Calico's 169.254.1.1): the link itself is what stands behind it.
  const known = isLinkLocalAddress(address) || vouchedGateway(context, address) !== undefined;
  return finding("pod-gateway-unowned", {
    ...base,
    text: `${context.pod.name}'s gateway ${address} gets no answer on ${link.name}: it is no address of this node, and proxy_arp is 0 there`,
    ...(known
      ? { fix: [on] }
      : { advice: [`correct the pod's gateway, or, if ${address} is meant: ${on?.command ?? ""}`] }),
  });
}

/** As it was read: a destination that lies in one of the pod's own networks has no gateway. */
export function routeInPod(context: CheckContext): string {
  const way = wayInPod(context);
  if (way.route !== undefined) return routeText(way.route, context.inside!.view.state.links);
  return `dev ${context.path.podLink?.name ?? "none"}`;
}

function wayInPod({ inside, path, target }: CheckContext): RouteResult {
  const query = { destination: target.address, source: path.sent?.source };
  return inside!.view.fib.predict(present(query));
}

/** The gateway is nobody's: the bridge lost its address, has another network's, or the pod's route is wrong. */
function withoutOwner(context: CheckContext, address: string, taker: string): Finding {
  const { node, inside, pod } = context;
  const link = node.view.link(taker)!;
  const family = familyOf(address);
  const onTaker = node.view.state.addresses.filter(
    (one) => one.interface === link.index && one.family === family && one.scope === "global",
  );
  const podLink = context.path.podLink;
  const mine = inside!.view.state.addresses.find(
    (one) => one.interface === podLink?.index && one.family === family && one.scope === "global",
  );
  const evidence = [
    { source: `route of ${pod.name} to ${context.target.address}`, value: routeInPod(context) },
    {
      source: `addresses of ${taker}`,
      value:
        onTaker.length === 0 ? "none" : onTaker.map((one) => `${one.address}/${one.prefixLength}`).join(", "),
    },
  ];
  const shared = onTaker.find(
    (one) => mine !== undefined && cidrContains(cidrOf(one.address, one.prefixLength), mine.address),
  );
  if (family === 6 && view6Off(context, taker)) return switchedOff(context, address, taker, evidence);
  const proxy = shared === undefined ? unproxied(context, address, link, evidence) : undefined;
  if (proxy !== undefined) return proxy;
  if (link.kind === "bridge" && shared === undefined && mine !== undefined) {
    const code = onTaker.length === 0 ? "bridge-address-missing" : "bridge-other-subnet";
    return finding(code, {
      text:
        code === "bridge-address-missing"
          ? `${taker} has no address, so that ${pod.name}'s gateway ${address} does not answer`
          : `${taker} has ${onTaker[0]!.address}/${onTaker[0]!.prefixLength}, ${pod.name} has ${mine.address}/${mine.prefixLength} and expects ${address}`,
      owner: "the pod network's bridge",
      evidence,
      consequence: "pods cannot resolve their gateway, and the node has no route back to them",
      fix: [addAddress(context, taker, asOwn(context, address))],
    });
  }
  const right = shared?.address;
  if (context.path.gateway === undefined) {
    const isAll = wayInPod(context).route?.destination === DEFAULT_CIDR[family];
    return finding("pod-gateway-unowned", {
      text: `route “${routeInPod(context)}” in ${pod.name} takes ${address} for a neighbour on ${podLink?.name ?? "its link"}, and no interface there has it`,
      owner: "the pod's addresses and routes",
      evidence,
      consequence: "the pod asks for the MAC address of the destination itself and gets no answer",
      ...(isAll && right !== undefined && podLink !== undefined
        ? { fix: [context.defaultRoute(right, podLink.name)] }
        : { fix: hostRoute(context, "pod") }),
      advice: [
        isAll
          ? `a default route needs a gateway where nobody answers for every address (proxy_arp on ${taker} would)`
          : `for good: give ${pod.name} the prefix length of its network, so that ${address} goes to its gateway`,
      ],
    });
  }
  return finding("pod-gateway-unowned", {
    text: `${pod.name}'s gateway ${address} is no interface's address${right === undefined ? "" : `; ${taker} has ${right}`}`,
    owner: "the pod's IPAM",
    evidence,
    consequence: "the pod asks for its gateway's MAC address and gets no answer",
    fix: right === undefined || podLink === undefined ? [] : [context.defaultRoute(right, podLink.name)],
    advice: ["for good: correct the gateway in the network's IPAM"],
  });
}

function view6Off({ node }: CheckContext, link: string): boolean {
  return node.view.conf(6, link, "disable_ipv6") === 1;
}

/** With the switch its addresses went, and do not come back with it. */
function switchedOff(context: CheckContext, gateway: string, taker: string, evidence: Evidence[]): Finding {
  const name = `net.ipv6.conf.${taker}.disable_ipv6`;
  const on = context.setSysctl("node", name, "0");
  return finding("bridge-address-missing", {
    text: `IPv6 is switched off on ${taker} (disable_ipv6 is 1), so that ${context.pod.name}'s gateway ${gateway} does not answer`,
    owner: "the node's settings",
    evidence: [...evidence, sysctlEvidence(name, 1)],
    consequence: "pods cannot resolve their gateway, and the node has no route back to them",
    fix: [on, addAddress(context, taker, asOwn(context, gateway))],
  });
}

function addAddress(context: CheckContext, link: string, cidr: string): Fix | undefined {
  const change = { kind: "add-address", place: "node", link, address: cidr } as const;
  return context.fix("node", command`ip addr add ${cidr} dev ${link}`, change);
}

/** The gateway as an address of the node's: with the prefix length of the pod's network where somebody says that. */
function asOwn(context: CheckContext, gateway: string): string {
  return vouchedGateway(context, gateway) ?? hostCidr(gateway);
}

function wrongMac(context: CheckContext): Finding[] {
  return context.stops("wrong-neighbour").map((stop) => {
    const inPod = stop.place === "pod";
    const code = inPod ? "pod-gateway-wrong-mac" : "node-neighbour-wrong-mac";
    const where = inPod ? context.pod.name : "the node";
    const forget = context.fix(stop.place, command`ip neigh del ${stop.address} dev ${stop.link.name}`);
    return finding(code, {
      text: `${where} has ${stop.address} fixed at ${stop.mac}, but it is ${stop.real}`,
      owner: inPod ? "the pod's runtime" : "the program that fixed the entry",
      evidence: [
        { source: `ip neigh of ${where}`, value: `${stop.address} lladdr ${stop.mac} PERMANENT` },
        { source: "the real interface", value: stop.real },
      ],
      consequence: "frames are sent to a MAC address that no interface has",
      ...(inPod ? { fix: [forget] } : forMac(context, forget)),
    });
  });
}

/** A failed entry is a symptom more often than a cause, and mends itself. */
function unresolved(context: CheckContext): Finding[] {
  const { gateway: address, podLink } = context.path;
  if (address === undefined || podLink === undefined || context.inside === undefined) return [];
  const known = neighbourAt(context.inside.view, podLink, address);
  if (known?.state !== "failed") return [];
  return [
    finding("pod-gateway-unresolved", {
      text: `${address} did not answer ${context.pod.name} when it was last asked for its MAC address`,
      owner: "the network between pod and bridge",
      evidence: [{ source: `ip neigh of ${context.pod.name}`, value: `${address} FAILED` }],
      consequence: "the next packet asks again",
      fix: [context.fix("pod", command`ip neigh flush dev ${podLink.name}`)],
      confidence: "possible",
    }),
  ];
}
