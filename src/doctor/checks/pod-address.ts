/** Has the pod a usable address, and only the pod? */
import { IPV6_MIN_MTU } from "../../linux/link-layer.ts";
import { addressOf, familyOf } from "../../address/ip.ts";
import { command } from "../../text/command.ts";
import { cidrContains, cidrOf } from "../../address/cidr.ts";
import { isUniqueLocalAddress } from "../../address/special-purpose.ts";
import type { Address } from "../../linux/route/address.ts";
import type { Link } from "../../linux/route/link.ts";
import type { PodState, Snapshot } from "../../snapshot/snapshot.ts";
import { neighbourAt } from "../predict/link-state.ts";
import { finding, sysctlEvidence, type Check, type CheckContext } from "../check.ts";
import type { Finding } from "../finding.ts";

const OWNER = "the pod's runtime";

export const podAddress: Check = {
  step: "pod-address",
  codes: ["pod-no-address", "pod-address-unusable", "duplicate-address"],
  run(context) {
    const { snapshot, pod, inside } = context;
    if (inside === undefined) return [];
    // Nobody says that there is none when they were not read.
    if (snapshot.missing.some(({ where, what }) => where === pod.name && what === "addresses")) return [];
    return [...noAddress(context), ...passedOver(context), ...duplicates(context), ...gatewayTaken(context)];
  },
};

function noAddress(context: CheckContext): Finding[] {
  const { pod, family, inside } = context;
  const { state } = inside!.view;
  const links = new Map(state.links.map((link) => [link.index, link]));
  const own = state.addresses.filter(
    (one) =>
      one.family === family && links.get(one.interface)?.layer !== "loopback" && one.scope === "global",
  );
  const waiting = own.filter((one) => one.flags.includes("dadfailed") || one.flags.includes("tentative"));
  if (waiting.length > 0 && waiting.length === own.length) {
    const [first] = waiting;
    const link = links.get(first!.interface)?.name ?? "eth0";
    const cidr = `${first!.address}/${first!.prefixLength}`;
    return [
      finding("pod-address-unusable", {
        text: `${first!.address} in ${pod.name} is ${first!.flags.includes("dadfailed") ? "refused as a duplicate" : "still being checked for duplicates"}`,
        owner: OWNER,
        evidence: waiting.map((one) => ({
          source: `addresses of ${link}`,
          value: `${one.address}/${one.prefixLength} ${one.flags.join(" ")}`,
        })),
        consequence: "the address is not used as a source",
        // Only who takes the address off and gives it anew gets rid of the flag: whose it is has to be known first.
        advice: [
          `find the other host that has ${first!.address}, and delete it there; then make ${pod.name} anew: ${cidr} stays marked until it is given again`,
        ],
      }),
    ];
  }
  const interfaces = [...links.values()].filter((link) => link.layer !== "loopback" && link.up);
  if (own.length > 0 || interfaces.length === 0) return [];
  const link = context.path.podLink ?? interfaces[0]!;
  const promised =
    pod.expected?.addresses.find((one) => familyOf(one) === family) ??
    (family === 4 ? (rememberedAddress(context, link) ?? addressOfMac(context, link)) : undefined);
  const gateways =
    pod.expected?.gateways ?? (promised === undefined ? [] : bridgeAddresses(context, promised));
  const narrow = family === 6 && link.mtu < IPV6_MIN_MTU;
  const off = family === 6 && inside!.view.conf(6, link.name, "disable_ipv6") === 1;
  const name = `net.ipv6.conf.${link.name}.disable_ipv6`;
  return [
    finding("pod-no-address", {
      text: `${link.name} in ${pod.name} has no IPv${family} address${narrow ? `: its mtu is ${link.mtu}, and IPv6 needs ${IPV6_MIN_MTU}` : off ? ": IPv6 is switched off there (disable_ipv6 is 1)" : ""}`,
      owner: OWNER,
      evidence: [
        { source: `addresses of ${link.name}`, value: addressesText(context, link.index) },
        ...(off ? [sysctlEvidence(name, 1)] : []),
        ...(narrow ? [{ source: `mtu of ${link.name} in ${pod.name}`, value: String(link.mtu) }] : []),
        ...(promised === undefined
          ? []
          : [
              {
                source:
                  pod.expected === undefined
                    ? `MAC address ${link.mac}`
                    : (pod.expected.record ?? "CNI result"),
                value: promised,
              },
            ]),
      ],
      consequence: `nothing can be sent to IPv${family} addresses`,
      fix:
        promised === undefined
          ? []
          : [
              ...(narrow
                ? [context.fix("pod", command`ip link set dev ${link.name} mtu ${IPV6_MIN_MTU}`)]
                : []),
              ...(off ? [context.setSysctl("pod", name, "0")] : []),
              context.fix("pod", command`ip addr add ${promised} dev ${link.name}`),
              ...gateways
                .filter((one) => familyOf(one) === family)
                .map((gateway) => context.defaultRoute(gateway, link.name)),
            ],
      advice:
        promised === undefined
          ? [
              narrow
                ? `give ${link.name} a larger mtu in the network's configuration, then make the pod anew: the kernel took its IPv6 addresses away`
                : off
                  ? `the pod gets no address while ${name} is 1: find who set it (the pod's own sysctls, or its runtime), then make the pod anew`
                  : "delete the pod; its runtime makes it anew",
            ]
          : [],
    }),
  ];
}

/**
 * RFC 6724 prefers an address that may be used to one that may not: the pod has one that routers outside know, and sends
 * with its unique local one.
 */
function passedOver(context: CheckContext): Finding[] {
  const { pod, inside, path } = context;
  const { source } = path;
  if (source?.local !== true || context.stops("untranslated").length === 0) return [];
  const { view } = inside!;
  const better = view.state.addresses.find(
    (one) =>
      one.family === 6 &&
      one.scope === "global" &&
      !isUniqueLocalAddress(one.address) &&
      one.flags.some((flag) => UNUSED.has(flag)),
  );
  const link = view.linkAt(better?.interface);
  if (better === undefined || link === undefined) return [];
  const isOld = better.flags.includes("deprecated");
  const why = isOld
    ? "deprecated (its preferred lifetime is over)"
    : better.flags.includes("dadfailed")
      ? "refused as a duplicate"
      : "still being checked for duplicates";
  const cidr = `${better.address}/${better.prefixLength}`;
  const isOfRouter = better.protocol === "kernel_ra";
  return [
    finding("pod-address-unusable", {
      text: `${better.address} in ${pod.name} is ${why}: new connections get the source ${source.address.address}, a unique local address, which nothing translates`,
      owner: isOfRouter ? "the router that advertises the prefix" : OWNER,
      evidence: [
        { source: `addresses of ${link.name}`, value: `${cidr} ${better.flags.join(" ")}` },
        { source: "source that the kernel chooses", value: source.address.address },
      ],
      consequence: "no router outside has a route back to a unique local address",
      fix:
        isOld && !isOfRouter
          ? [
              context.fix(
                "pod",
                command`ip addr change ${cidr} dev ${link.name} preferred_lft forever valid_lft forever`,
              ),
            ]
          : [],
      advice: isOfRouter
        ? [
            "see why the router advertises the prefix with a preferred lifetime of 0: the prefix is being replaced",
          ]
        : isOld
          ? ["if the prefix is being replaced: give the pod an address out of the new one"]
          : [`find the other host that has ${better.address}`],
    }),
  ];
}

/** What keeps an address from being the source of new connections. */
const UNUSED: ReadonlySet<string> = new Set(["deprecated", "tentative", "dadfailed"]);

/** The address at which the node's neighbour table last saw this MAC address. */
function rememberedAddress(context: CheckContext, link: Link): string | undefined {
  const { view } = context.node;
  const known = view.state.neighbours.find((one) => one.family === 4 && one.mac === link.mac);
  if (known === undefined) return undefined;
  const on = view.state.addresses.find(
    (one) =>
      one.interface === known.interface && cidrContains(cidrOf(one.address, one.prefixLength), known.address),
  );
  return on === undefined ? undefined : `${known.address}/${on.prefixLength}`;
}

/** CNI plugins (and we) derive a MAC address from the IPv4 address: 0a:58 and its four bytes. */
function addressOfMac(context: CheckContext, link: Link): string | undefined {
  const bytes = /^0a:58:((?:[0-9a-f]{2}:){3}[0-9a-f]{2})$/.exec(link.mac)?.[1]?.split(":");
  if (bytes === undefined) return undefined;
  const address = bytes.map((byte) => Number.parseInt(byte, 16)).join(".");
  const [gateway] = bridgeAddresses(context, address);
  const on = context.node.view.state.addresses.find((one) => one.address === gateway);
  return on === undefined ? undefined : `${address}/${on.prefixLength}`;
}

/** Addresses of the node whose network holds this address. */
function bridgeAddresses(context: CheckContext, text: string): string[] {
  const address = addressOf(text);
  return context.node.view.state.addresses
    .filter(
      (one) =>
        one.scope === "global" &&
        one.family === 4 &&
        one.prefixLength < 32 &&
        cidrContains(cidrOf(one.address, one.prefixLength), address),
    )
    .map((one) => one.address);
}

function addressesText({ inside }: CheckContext, link: number): string {
  const all = inside!.view.state.addresses.filter((one) => one.interface === link);
  return all.length === 0 ? "none" : all.map((one) => `${one.address}/${one.prefixLength}`).join(", ");
}

function isPromised({ expected }: PodState, address: string): boolean {
  return expected?.addresses.some((cidr) => addressOf(cidr) === address) === true;
}

/** An address of a pod that is attached to the node. */
interface Holder {
  readonly pod: PodState;
  readonly inode: number;
  readonly address: Address;
  readonly link: Link;
}

/** So many others with the same address are named: what is to be done is the same for the first and the last. */
const MOST_OTHERS = 4;

const bySegment = new WeakMap<Snapshot, ReadonlyMap<string, readonly Holder[]>>();

/** Others than this pod that have an address on a bridge, or at a link of the node's without one; some of many. */
function othersWith(context: CheckContext, segment: Link | undefined, address: string): Holder[] {
  const { snapshot, pod } = context;
  if (segment === undefined) return [];
  let known = bySegment.get(snapshot);
  if (known === undefined) {
    const all = snapshot.pods.flatMap((one) => holdersOf(context, one));
    const grouped = Map.groupBy(all, ({ key }) => key);
    // A namespace may be in a snapshot any number of times.
    const once = (found: typeof all): Holder[] => [
      ...new Map(found.map(({ holder }) => [holder.inode, holder])).values(),
    ];
    known = new Map([...grouped].map(([key, found]) => [key, once(found)]));
    bySegment.set(snapshot, known);
  }
  const others: Holder[] = [];
  for (const holder of known.get(placeOf(segment.index, address)) ?? []) {
    if (holder.inode === pod.state?.inode || holder.pod.name === pod.name) continue;
    others.push(holder);
    if (others.length === MOST_OTHERS) break;
  }
  return others;
}

function holdersOf(
  context: CheckContext,
  pod: PodState,
): { readonly key: string; readonly holder: Holder }[] {
  const { state } = pod;
  if (state === undefined) return [];
  const links = new Map(state.links.map((link) => [link.index, link]));
  return state.addresses.flatMap((address) => {
    const link = links.get(address.interface);
    const host = link === undefined ? undefined : context.hostEndOf(link, state);
    if (link === undefined || host === undefined) return [];
    const key = placeOf(host.master ?? host.index, address.address);
    return [{ key, holder: { pod, inode: state.inode, address, link } }];
  });
}

function placeOf(segment: number, address: string): string {
  return `${segment} ${address}`;
}

/** Another host on the same segment has the same address. */
function duplicates(context: CheckContext): Finding[] {
  const { pod, inside, node } = context;
  const bridge = context.path.inLink;
  const found: Finding[] = [];
  for (const mine of inside!.view.state.addresses) {
    if (mine.scope !== "global") continue;
    for (const { pod: other, address: same } of othersWith(context, bridge, mine.address)) {
      const known = node.view.state.neighbours.find((one) => one.address === mine.address);
      // Whose it is, a record says; without one nobody's address is taken away.
      const owned = { mine: isPromised(pod, mine.address), other: isPromised(other, mine.address) };
      found.push(
        finding("duplicate-address", {
          text: `${mine.address} belongs to ${pod.name} and to ${other.name}`,
          owner: "the IPAM that gave the address twice",
          evidence: [
            { source: `addresses of ${pod.name}`, value: `${mine.address}/${mine.prefixLength}` },
            { source: `addresses of ${other.name}`, value: `${same.address}/${same.prefixLength}` },
            ...(known === undefined
              ? []
              : [
                  {
                    source: "the node's neighbour entry",
                    value: `${known.address} ${known.mac ?? ""} ${known.state}`,
                  },
                ]),
          ],
          consequence: "answers reach one of the two, now this one, now the other",
          advice: [
            owned.mine === owned.other
              ? "delete the pod that has it without a lease of the IPAM; its runtime makes it anew with another address"
              : `by the record it belongs to ${owned.mine ? pod.name : other.name}: delete the pod ${owned.mine ? other.name : pod.name}; its runtime makes it anew with another address`,
          ],
        }),
      );
    }
  }
  return found;
}

/** Another pod of the same bridge has the gateway's address: both answer who is asked for it. */
function gatewayTaken(context: CheckContext): Finding[] {
  const { pod, inside, node, path } = context;
  const { gateway, podLink, inLink } = path;
  if (gateway === undefined || podLink === undefined || inLink === undefined) return [];
  if (!node.view.fib.isLocal(gateway)) return [];
  const known = neighbourAt(inside!.view, podLink, gateway);
  return othersWith(context, inLink, gateway).flatMap(({ pod: other, address: same, link }) => {
    const isBelieved = known?.mac !== undefined && known.mac === link.mac;
    const found = finding("duplicate-address", {
      text: `${gateway}, ${pod.name}'s gateway on ${inLink.name}, is an address of ${other.name} as well${isBelieved ? `, and ${pod.name} sends its packets there (${link.mac})` : ""}`,
      owner: "the IPAM that gave the address twice, or the pod that took it",
      evidence: [
        { source: `addresses of ${other.name}`, value: `${same.address}/${same.prefixLength}` },
        { source: `MAC address of ${link.name} in ${other.name}`, value: link.mac },
        {
          source: `ip neigh of ${pod.name}`,
          value: known === undefined ? `none for ${gateway}` : `${gateway} ${known.mac ?? ""} ${known.state}`,
        },
      ],
      consequence: "pods of this bridge send their packets to whichever of the two answered last",
      fix: isBelieved ? [context.fix("pod", command`ip neigh del ${gateway} dev ${podLink.name}`)] : [],
      advice: [`for good: delete ${other.name}; its runtime makes it anew with an address of its own`],
    });
    return isBelieved ? [found] : [{ ...found, stopsTraffic: false, severity: "warning" as const }];
  });
}
