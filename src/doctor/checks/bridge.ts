/** The veth pair and the bridge that it is a port of. */
import { forMac } from "../whose-word.ts";
import { command } from "../../text/command.ts";
import {
  said,
  finding,
  anywhere,
  sysctlEvidence,
  type Check,
  type CheckContext,
  type Found,
  ruleEvidence,
} from "../check.ts";
import type { Finding } from "../finding.ts";
import { linkManager } from "../link-managers.ts";
import { decisionPlace, decisionText, linkText, textOfRule } from "../wording.ts";
import { neighbourAt } from "../predict/link-state.ts";
import { nextHopOf } from "../predict/next-hop.ts";
import { silencedBy } from "../predict/on-link.ts";
import { discoveryText, filterCure, linkFix, type Filtered } from "./filter-cure.ts";
import { ownerOfDecision, ruleOfOwner } from "../whose.ts";

export const bridge: Check = {
  step: "bridge",
  codes: [
    "host-link-missing",
    "host-link-down",
    "bridge-down",
    "bridge-port-blocked",
    "bridge-port-isolated",
    "bridge-port-locked",
    "bridge-port-deaf",
    "macvlan-deaf",
    "macvlan-own-host",
    "hairpin-off",
    "bridge-filter-drops",
    "bridge-netfilter-off",
    "pod-neighbour-unresolved",
    "node-neighbour-wrong-mac",
  ],
  run: (context) => [
    ...missing(context),
    ...down(context),
    ...ports(context),
    ...locked(context),
    ...lockedOut(context),
    ...deaf(context),
    ...silentPod(context),
    ...macvlan(context),
    ...hairpin(context),
    ...frames(context),
    ...netfilterOff(context),
  ],
  suspects: sourceMode,
};

/** A veth whose other end is not on this node. */
function missing(context: CheckContext): Finding[] {
  const { podLink } = context.path;
  if (podLink?.kind !== "veth" || hostOf(context) !== undefined) return [];
  return [
    finding("host-link-missing", {
      text: `the other end of ${podLink.name} in ${context.pod.name} is not on this node`,
      owner: "the program that moved it",
      evidence: [
        {
          source: `link ${podLink.name}`,
          value: `peer index ${podLink.link ?? "none"}, namespace ${podLink.linkNamespaceId ?? "unknown"}`,
        },
      ],
      consequence: "the pod's packets go where this node cannot see them",
      advice: ["run the doctor in the namespace that has the other end: wayout doctor --node NS"],
      confidence: "likely",
    }),
  ];
}

function down(context: CheckContext): Finding[] {
  const { hostLink, inLink } = context.path;
  const found: Finding[] = [];
  const host = hostLink ?? hostOf(context);
  if (host !== undefined && !host.up) {
    found.push(
      finding("host-link-down", {
        text: `${host.name}, the node's end of ${context.pod.name}'s veth, is down`,
        owner: linkManager(context.snapshot, "set it down"),
        evidence: [{ source: "links of the node", value: linkText(host) }],
        consequence: "nothing comes out of the pod",
        fix: [context.linkUp("node", host.name)],
      }),
    );
  }
  const master = inLink ?? context.node.view.linkAt(host?.master);
  if (master?.kind === "bridge" && !master.up) {
    found.push(
      finding("bridge-down", {
        text: `bridge ${master.name} is down`,
        owner: "the pod network's bridge",
        evidence: [{ source: "links of the node", value: linkText(master) }],
        consequence: "nothing passes between the pods and the node",
        fix: [context.linkUp("node", master.name)],
      }),
    );
  }
  return found;
}

/** The other end of the pod's first veth, also when the prediction ended before it. */
function hostOf(context: CheckContext) {
  const veth = context.inside?.view.state.links.find((link) => link.kind === "veth");
  return veth === undefined ? undefined : context.hostEndOf(veth);
}

function ports(context: CheckContext): Finding[] {
  const blocked = context.stops("port-blocked").map((stop) =>
    finding("bridge-port-blocked", {
      text: `port ${stop.link.name} of ${stop.bridge.name} is ${stop.state}, not forwarding`,
      owner: "the spanning tree protocol, or the program that set the state",
      evidence: [
        { source: `bridge link: ${stop.link.name}`, value: `state ${stop.state}` },
        {
          source: `bridge ${stop.bridge.name}`,
          value: `stp ${stop.bridge.bridge?.stp === true ? "on" : "off"}`,
        },
      ],
      consequence: `the bridge passes no frames by ${stop.link.name}`,
      fix: [
        ...(stop.bridge.bridge?.stp === true
          ? [context.fix("node", command`ip link set dev ${stop.bridge.name} type bridge stp_state 0`)]
          : []),
        context.fix("node", command`bridge link set dev ${stop.link.name} state 3`),
      ],
    }),
  );
  const isolated = context.stops("port-isolated").map((stop) =>
    finding("bridge-port-isolated", {
      text: `ports ${stop.link.name} and ${stop.other.name} are both isolated`,
      owner: "the pod network's bridge",
      evidence: [
        { source: "bridge -d link", value: `${stop.link.name} isolated on, ${stop.other.name} isolated on` },
      ],
      consequence: "the bridge does not pass frames between them",
      fix: [context.fix("node", command`bridge link set dev ${stop.link.name} isolated off`)],
    }),
  );
  return [...blocked, ...isolated];
}

const LOCKER = "the program that locked the port (802.1X, an anti-spoofing agent)";

/** A locked port takes only frames whose sender stands in the bridge's table behind that very port. */
function locked(context: CheckContext): Finding[] {
  const { hostLink, podLink } = context.path;
  const { view } = context.node;
  const master = view.linkAt(hostLink?.master);
  if (hostLink?.port?.locked !== true || podLink === undefined || master === undefined) return [];
  const known = (view.state.forwarding ?? []).filter((one) => one.mac === podLink.mac);
  const own = known.find((one) => one.interface === hostLink.index && !one.flags.includes("locked"));
  if (own !== undefined || view.state.forwarding === undefined) return [];
  const [other] = known;
  const behind =
    other === undefined ? "not in it" : `behind ${view.linkAt(other.interface)?.name ?? "another"}`;
  return [
    finding("bridge-port-locked", {
      text: `port ${hostLink.name} of ${master.name} is locked, and ${context.pod.name}'s MAC address ${podLink.mac} is not authorized there`,
      owner: LOCKER,
      evidence: [
        {
          source: `bridge -d link: ${hostLink.name}`,
          value: `locked on, learning ${hostLink.port.learning ? "on" : "off"}`,
        },
        { source: `bridge fdb: ${podLink.mac}`, value: behind },
      ],
      consequence: "the bridge drops all frames of the pod",
      advice: [
        `if ${podLink.mac} is the address that the pod was given, authorize it at ${hostLink.name} (bridge fdb, or the 802.1X agent)`,
        ...said(
          "or open the port to every sender: ",
          command`bridge link set dev ${hostLink.name} locked off`,
        ),
      ],
    }),
  ];
}

/** What comes back by a locked port is dropped as well, unless its sender stands in the table behind it. */
function lockedOut(context: CheckContext): Finding[] {
  const { outPort, outLink, podLink, gateway, left } = context.path;
  const { view } = context.node;
  const { forwarding } = view.state;
  const master = view.linkAt(outPort?.master);
  if (outPort?.port?.locked !== true || master === undefined || forwarding === undefined) return [];
  const [at, link] = outLink === undefined ? [context.inside!.view, podLink] : [view, outLink];
  const nextHop =
    outLink === undefined
      ? (gateway ?? context.target.address)
      : (nextHopOf(context.snapshot.node, context.path) ?? left?.destination);
  if (link === undefined || nextHop === undefined) return [];
  const mac = neighbourAt(at, link, nextHop)?.mac;
  const admitted = forwarding.filter(
    (one) => one.interface === outPort.index && one.state !== "permanent" && !one.flags.includes("locked"),
  );
  if (mac === undefined ? admitted.length > 0 : admitted.some((one) => one.mac === mac)) return [];
  return [
    finding("bridge-port-locked", {
      text: `port ${outPort.name} of ${master.name}, by which ${nextHop} is reached, is locked, and ${mac === undefined ? "no host is" : `its MAC address ${mac} is not`} authorized there`,
      owner: LOCKER,
      evidence: [
        {
          source: `bridge -d link: ${outPort.name}`,
          value: `locked on, learning ${outPort.port.learning ? "on" : "off"}`,
        },
        {
          source: `bridge fdb show dev ${outPort.name}`,
          value: admitted.map((one) => one.mac).join(", ") || "no host",
        },
      ],
      consequence: "the bridge drops what comes back by it",
      fix:
        mac === undefined
          ? []
          : [context.fix("node", command`bridge fdb replace ${mac} dev ${outPort.name} master static`)],
      advice: said(
        "or open the port to every sender: ",
        command`bridge link set dev ${outPort.name} locked off`,
      ),
    }),
  ];
}

/** Frames for the pod go to another port, or to none: by the bridge's table, and by what its port is flooded with. */
function deaf(context: CheckContext): Finding[] {
  const { hostLink, podLink } = context.path;
  const { view } = context.node;
  const { forwarding } = view.state;
  const master = view.linkAt(hostLink?.master);
  const port = hostLink?.port;
  if (port === undefined || hostLink === undefined || podLink === undefined || master === undefined)
    return [];
  if (forwarding === undefined) return [];
  const known = forwarding.filter((one) => one.mac === podLink.mac);
  if (known.some((one) => one.interface === hostLink.index)) return [];
  const entry = known.find((one) => view.linkAt(one.interface)?.master === master.index);
  const other = view.linkAt(entry?.interface);
  if (entry === undefined && (port.flood || port.learning)) return [];
  const isFixed = entry?.state === "permanent" || entry?.state === "noarp";
  return [
    finding("bridge-port-deaf", {
      text:
        other === undefined
          ? `${master.name} gives frames for ${context.pod.name} (${podLink.mac}) to no port: ${hostLink.name} learns no addresses and is not flooded`
          : `${master.name} gives frames for ${context.pod.name} (${podLink.mac}) to port ${other.name}, and the pod is behind ${hostLink.name}`,
      owner:
        other === undefined
          ? "the program that set up the bridge port"
          : isFixed
            ? "the program that made the entry"
            : `the host behind ${other.name} that sends with the same MAC address`,
      evidence: [
        {
          source: `bridge -d link: ${hostLink.name}`,
          value: `learning ${port.learning ? "on" : "off"}, flood ${port.flood ? "on" : "off"}`,
        },
        {
          source: `bridge fdb: ${podLink.mac}`,
          value:
            other === undefined ? "not in it" : `behind ${other.name}${isFixed ? " (a fixed entry)" : ""}`,
        },
      ],
      consequence: "requests leave, answers do not reach the pod",
      ...(other === undefined
        ? {
            fix: [
              // Who asks for the pod's address does so by broadcast, or multicast over IPv6.
              context.fix(
                "node",
                command`bridge link set dev ${hostLink.name} learning on ${port.broadcastFlood ? [] : ["bcast_flood", "on"]} ${port.multicastFlood ? [] : ["mcast_flood", "on"]}`,
                undefined,
                {
                  kind: "port",
                  link: hostLink.name,
                  state: { learning: true, broadcastFlood: true, multicastFlood: true },
                },
              ),
            ],
          }
        : forMac(
            context,
            context.fix("node", command`bridge fdb del ${podLink.mac} dev ${other.name} master`),
            isFixed ? [] : [`give one of the two another MAC address: is a machine's image used twice?`],
          )),
    }),
  ];
}

/** What a macvlan or ipvlan sends to the host it sits on leaves by the wire, and the host does not get it back. */
function macvlan(context: CheckContext): Finding[] {
  const { podLink } = context.path;
  const { view } = context.node;
  if (podLink?.kind !== "macvlan" && podLink?.kind !== "ipvlan") return [];
  const parent = context.nodeLinkOf(podLink);
  const own = view.state.addresses.find((one) => one.address === context.target.address);
  const gateway = context.path.gateway;
  const viaHost =
    gateway === undefined ? undefined : view.state.addresses.find((one) => one.address === gateway);
  const address = own ?? viaHost;
  if (parent === undefined || podLink.linkNamespaceId === undefined || address === undefined) return [];
  // An address on a sibling, a macvlan of the node on the same parent, is reached.
  const holder = view.linkAt(address.interface);
  if (holder?.kind === podLink.kind && holder.link === parent.index) return [];
  return [
    finding("macvlan-own-host", {
      text: `${podLink.name} in ${context.pod.name} is a ${podLink.kind} on ${parent.name}, and ${address.address} is this node's own: the two cannot reach each other over ${parent.name}`,
      owner: `the ${podLink.kind} network`,
      evidence: [
        {
          source: `links of ${context.pod.name}`,
          value: `${podLink.name} ${podLink.kind} on ${parent.name}`,
        },
        {
          source: `addresses of ${holder?.name ?? "the node"}`,
          value: `${address.address}/${address.prefixLength}`,
        },
      ],
      consequence: `frames of a ${podLink.kind} go out by ${parent.name}; its own host does not see them`,
      advice: [
        `give the node a ${podLink.kind} of its own on ${parent.name}, with a route to the pod by it`,
        ...said("that is: ", command`ip link add host0 link ${parent.name} type ${podLink.kind}`),
      ],
    }),
  ];
}

/** The node asks for the pod's MAC address, and the pod says nothing. */
function silentPod(context: CheckContext): Finding[] {
  const { inLink, podLink } = context.path;
  const { inside, pod } = context;
  return context
    .stops("neighbour-failed")
    .filter((stop) => stop.direction === "back" && stop.link.index === inLink?.index)
    .map(({ link, address, state }) => {
      const by =
        inside === undefined || podLink === undefined
          ? undefined
          : silencedBy(inside.view, podLink, address, context.path.gateway ?? address);
      return finding("pod-neighbour-unresolved", {
        text: `${pod.name} does not answer when the node asks on ${link.name} for the MAC address of ${address}${by === undefined ? "" : `: arp_ignore is ${by.value} in the pod`}`,
        owner: by === undefined ? "the pod" : "the pod's settings",
        evidence: [
          { source: `ip neigh show ${address} dev ${link.name}`, value: state.toUpperCase() },
          ...(by === undefined ? [] : [sysctlEvidence(by.sysctl, by.value)]),
        ],
        consequence: "answers wait on the node, and are dropped",
        ...(by === undefined
          ? { advice: [`is ${address} still the pod's, and do rules in it drop ARP?`] }
          : { fix: [context.setSysctl("pod", by.sysctl, "0")] }),
        confidence: by === undefined ? "likely" : "certain",
      });
    });
}

/** A macvlan in source mode hears whom it was told to hear, and nobody else. */
function sourceMode(context: CheckContext): Finding[] {
  const { podLink, gateway } = context.path;
  if (podLink?.macvlan?.mode !== "source") return [];
  const parent = podLink.linkNamespaceId === undefined ? undefined : context.nodeLinkOf(podLink);
  return [
    finding("macvlan-deaf", {
      text: `${podLink.name} in ${context.pod.name} is a macvlan in mode source${parent === undefined ? "" : ` on ${parent.name}`}: it takes frames of the senders in its list only, and ${gateway ?? "the next hop"} must be one of them`,
      owner: "the macvlan network",
      evidence: [{ source: `ip -d link show dev ${podLink.name}`, value: "macvlan mode source" }],
      consequence: "what others send is not given to the pod",
      advice: [
        ...said("see the list: ", command`ip -d link show dev ${podLink.name}`),
        ...said(
          "a macvlan that hears everybody: ",
          command`ip link set dev ${podLink.name} type macvlan mode bridge`,
        ),
      ],
      confidence: "likely",
    }),
  ];
}

function hairpin(context: CheckContext): Finding[] {
  const name = context.family === 4 ? "iptables" : "ip6tables";
  return context.stops("hairpin-off").map(({ link, bridge: master, target }) =>
    finding("hairpin-off", {
      text: `${target} leads back to ${context.pod.name} itself, and port ${link.name} of ${master.name} sends no frame back (hairpin is off)`,
      owner: "the pod network's bridge",
      evidence: [
        { source: `bridge -d link: ${link.name}`, value: "hairpin off" },
        sysctlEvidence(
          `net.bridge.bridge-nf-call-${name}`,
          context.node.view.sysctl(`net.bridge.bridge-nf-call-${name}`),
        ),
        { source: `translation of ${target}`, value: context.path.left?.destination ?? "" },
      ],
      consequence: "others reach the published port, the pod itself does not",
      fix: [context.fix("node", command`bridge link set dev ${link.name} hairpin on`)],
      advice: ["for good: hairpinMode in the network's configuration"],
    }),
  );
}

function frames(context: CheckContext): Finding[] {
  const told = new Set<string>();
  return context
    .stops("filtered")
    .filter((stop) => stop.family === "bridge")
    .flatMap((stop) => {
      const { by } = stop.stop;
      const key = `${decisionPlace(by)} ${decisionText(by)}`;
      if (told.has(key)) return [];
      told.add(key);
      return finding("bridge-filter-drops", {
        text: `${by.rule === undefined ? "the policy" : ruleOfOwner(by)} in ${decisionPlace(by)} drops ${stop.about === undefined ? `${context.pod.name}'s frames` : discoveryText(context, stop)}`,
        owner: ownerOfDecision(by),
        evidence: ruleEvidence(by),
        consequence: "the frames do not get through the bridge",
        ...(by.rule === undefined ? policyCure(context, stop) : frameCure(context, stop)),
      });
    });
}

function policyCure(context: CheckContext, stop: Filtered): Pick<Found, "fix" | "advice"> {
  const { port } = stop;
  if (port === undefined) return { advice: [`accept the pod's frames in ${decisionPlace(stop.stop.by)}`] };
  return { fix: linkFix(context, stop, port) };
}

/** What checks the pod's MAC address names the one that it wants. */
function frameCure(context: CheckContext, stop: Filtered): Pick<Found, "fix" | "advice"> {
  const { by } = stop.stop;
  const { podLink } = context.path;
  const wanted = by.chain.rules.flatMap(
    (rule) =>
      /ether saddr (?<mac>[0-9a-f:]{17}) return/.exec(textOfRule(rule, by.table))?.groups?.["mac"] ?? [],
  );
  if (wanted.length === 1 && podLink !== undefined && podLink.mac !== wanted[0]) {
    return {
      fix: [context.fix("pod", command`ip link set dev ${podLink.name} address ${wanted[0]}`)],
      advice: [`${podLink.name} has ${podLink.mac}; the rule lets ${wanted[0]} through`],
    };
  }
  const cure = filterCure(context, stop);
  return {
    fix: cure.fix,
    advice: cure.advice,
  };
}

/** Services are translated on this node, and answers from the same bridge would pass by the translation. */
function netfilterOff(context: CheckContext): Finding[] {
  const { view, hooks } = context.node;
  if (context.path.inLink?.kind !== "bridge") return [];
  const name = context.family === 4 ? "iptables" : "ip6tables";
  const value = view.sysctl(`net.bridge.bridge-nf-call-${name}`);
  if (value === 1) return [];
  const service = hooks.tables.find((table) =>
    table.chains.some(
      (chain) => chain.name === "KUBE-SERVICES" || (table.name === "kube-proxy" && chain.name === "services"),
    ),
  );
  if (service === undefined) return [];
  return [
    finding("bridge-netfilter-off", {
      text: `net.bridge.bridge-nf-call-${name} is ${value ?? "not there"}, and kube-proxy translates services on this node`,
      owner: "the node's settings",
      evidence: [
        { source: `sysctl net.bridge.bridge-nf-call-${name}`, value: String(value ?? "not there") },
        { source: "ruleset", value: `table ${service.family} ${service.name}` },
      ],
      consequence:
        "an answer from a backend on the same bridge keeps the wrong source, and the client drops it",
      fix: [
        anywhere(command`modprobe br_netfilter`),
        context.fix("node", command`sysctl -w net.bridge.bridge-nf-call-${name}=1`),
      ],
      confidence: "likely",
    }),
  ];
}
