/** CHECK: whether an attachment is still what its ADD reported. Fails on a proven break, never on a forecast. */
import { parseCidr } from "../address/cidr.ts";
import { WayoutError } from "../error.ts";
import type { LinkState } from "../linux/route/link-state.ts";
import { namespaceInode } from "../kernel/namespace.ts";
import { Rtnetlink } from "../kernel/route/rtnetlink.ts";
import { answering } from "./answer.ts";
import { readConfiguration, type NetworkConfiguration } from "./configuration.ts";
import type { CniContext } from "./context.ts";
import { entrances } from "./entrance.ts";
import { MacSpoofing } from "./mac-spoofing.ts";
import { natProblems } from "./network-nat.ts";
import { notForwarded } from "./network-state.ts";
import { planAttachment, subnetOf, type AttachmentPlan } from "./plan.ts";
import { openPodNamespace } from "./pod-namespace.ts";
import { readResult, type Result, type ResultInterface } from "./result.ts";
import { vlanGatewayName } from "./vlan.ts";
import { hostVethName } from "../naming/names.ts";

export const answer = answering(check);

/** @throws WayoutError `check-failed` with everything that is wrong; `reservation-lost`; what a delegate says */
async function check(context: CniContext): Promise<void> {
  const { call, header } = context;
  const configuration = readConfiguration(header, call.args);
  const ipam = context.addresses();
  const previous = header.fields.raw("prevResult");
  if (previous === undefined)
    header.fields.refuse("prevResult", "is missing: there is nothing to check against");
  const result = ownPart(readResult(previous, "prevResult", header.version), context, ipam !== undefined);
  using pod = openPodNamespace(call.netns!, context.namespace);
  ipam?.check(result.ips.map(({ address }) => address.split("/")[0]!));
  using inside = Rtnetlink.open(pod);
  const plan = planAttachment(configuration, {
    addresses: result.ips.map(({ address, gateway }) => ({
      address,
      ...(gateway === undefined ? {} : { gateway }),
    })),
    routes: [],
    dns: {},
  });
  const problems = [
    ...podProblems(inside, result, context, configuration),
    ...nodeProblems(context, configuration, plan, inside),
  ];
  const subnets = [...(ipam?.subnets ?? []), ...plan.ips.map(({ address }) => subnetOf(address))];
  const { network, nat } = configuration;
  const holder = gatewayHolder(context, configuration, plan);
  if (holder !== undefined) {
    const from = entrances(configuration, holder, context.node);
    const wanted = { network, ...nat, subnets: [...new Set(subnets)], from };
    problems.push(...(await natProblems(wanted, context.namespace)));
  }
  if (problems.length === 0) return;
  throw new WayoutError({
    code: "check-failed",
    kind: "broken",
    doing: `checking ${call.interfaceName} of ${call.container} on network ${header.network}`,
    said: problems.join("; "),
    todo: "What belongs to the network is repaired by the next ADD; for the rest, recreate the pod.",
  });
}

/**
 * A chain's result holds what other plugins made, too; only our interface and its addresses are ours to check.
 * @throws FieldError where it says nothing of them: of an attachment that was never reported nothing can be said
 */
function ownPart(result: Result, { call, header }: CniContext, hasAddresses: boolean): Result {
  const isOwn = ({ name, sandbox }: ResultInterface): boolean =>
    name === call.interfaceName && (sandbox === call.netns || isSameNamespace(sandbox, call.netns));
  const own = result.interfaces.findIndex(isOwn);
  if (own < 0) {
    header.fields.refuse("prevResult", `names no interface ${call.interfaceName} in ${call.netns}`);
  }
  const ips = result.ips.filter(({ interface: index }) => index === undefined || index === own);
  if (hasAddresses && ips.length === 0) {
    header.fields.refuse(
      "prevResult",
      `has no address of ${call.interfaceName}, though the network gives one`,
    );
  }
  return { ...result, interfaces: [result.interfaces[own]!], ips };
}

/** One namespace by two paths: /run/netns and /var/run/netns. */
function isSameNamespace(path: string | undefined, other: string | undefined): boolean {
  if (path === undefined || other === undefined) return false;
  const inode = namespaceInode(path);
  return inode !== undefined && inode === namespaceInode(other);
}

function podProblems(
  inside: Rtnetlink,
  result: Result,
  { call }: CniContext,
  configuration: NetworkConfiguration,
): string[] {
  const name = call.interfaceName;
  const link = inside.linkState(name);
  if (link === undefined) return [`${name} is missing in the pod`];
  const problems: string[] = [];
  const mac = result.interfaces[0]?.mac;
  if (link.kind !== "veth")
    problems.push(`${name} in the pod is no veth but ${link.kind ?? "another interface"}`);
  if (mac !== undefined && link.mac !== mac.toLowerCase()) {
    problems.push(`${name} has the MAC ${link.mac}, not ${mac}`);
  }
  if (!link.up && !configuration.disableContainerInterface) problems.push(`${name} in the pod is down`);
  const there = inside.addresses({ interface: link.index });
  for (const ip of result.ips) {
    const { address, prefixLength } = parseCidr(ip.address, "keep");
    if (!there.some((own) => own.address === address && own.prefixLength === prefixLength)) {
      problems.push(`${ip.address} is not on ${name}`);
    }
  }
  const routes = result.routes.length === 0 ? [] : inside.routes();
  for (const { dst, gw } of result.routes) {
    const found = routes.some(
      (route) => route.destination === dst && (gw === undefined || route.gateway === gw),
    );
    if (!found) problems.push(`the pod has no route to ${dst}${gw === undefined ? "" : ` through ${gw}`}`);
  }
  return problems;
}

function nodeProblems(
  context: CniContext,
  configuration: NetworkConfiguration,
  plan: AttachmentPlan,
  inside: Rtnetlink,
): string[] {
  const { node } = context;
  const bridge = node.linkState(configuration.bridge);
  if (bridge?.kind !== "bridge") {
    return [
      `the bridge ${configuration.bridge} is ${bridge === undefined ? "missing" : "another interface"}`,
    ];
  }
  const problems = bridge.up ? [] : [`the bridge ${bridge.name} is down`];
  problems.push(...portProblems(context, configuration, bridge, inside));
  const holder = gatewayHolder(context, configuration, plan);
  const there = holder === undefined ? [] : node.addresses({ interface: holder.index });
  for (const text of plan.gateways) {
    const { address, prefixLength } = parseCidr(text, "keep");
    if (!there.some((own) => own.address === address && own.prefixLength === prefixLength)) {
      problems.push(`${holder?.name ?? vlanGatewayName(configuration)} lacks the gateway address ${text}`);
    }
  }
  const closed = notForwarded(plan.forwarded, holder ?? bridge);
  return [...problems, ...closed.map((family) => `IPv${family} forwarding is off`)];
}

/** The interface that has the gateway's addresses; undefined when it is missing. */
function gatewayHolder(
  { node }: CniContext,
  configuration: NetworkConfiguration,
  { gateways }: AttachmentPlan,
): LinkState | undefined {
  const { vlan, bridge } = configuration;
  return node.linkState(vlan > 0 && gateways.length > 0 ? vlanGatewayName(configuration) : bridge);
}

/** The host's end: ours by its name, or, of a pod that another plugin attached, the peer of the pod's interface. */
function portProblems(
  { node, call, header, namespace }: CniContext,
  configuration: NetworkConfiguration,
  bridge: LinkState,
  inside: Rtnetlink,
): string[] {
  const name = hostVethName(header.network, call.container, call.interfaceName);
  const peer = inside.linkState(call.interfaceName)?.link;
  const host = node.linkState(name) ?? (peer === undefined ? undefined : node.linkState(peer));
  if (host === undefined) return [`the host's end ${name} is missing`];
  const problems = host.up ? [] : [`the host's end ${host.name} is down`];
  if (host.master !== bridge.index) problems.push(`${host.name} is not a port of ${bridge.name}`);
  if (configuration.checkMacSpoofing) {
    const mac = inside.linkState(call.interfaceName)?.mac;
    using spoofing = new MacSpoofing(namespace);
    if (mac !== undefined && !spoofing.isGuarded(host.name, mac)) {
      problems.push(`the senders on ${host.name} are not checked (macspoofchk)`);
    }
  }
  return problems;
}
