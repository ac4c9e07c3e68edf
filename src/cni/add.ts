/** ADD: a pod's interface, its addresses and its way out; or an error, and nothing. */
import { isMistake } from "../error.ts";
import { addressOf } from "../address/ip.ts";
import type { NetworkNamespace } from "../kernel/namespace.ts";
import type { LinkState } from "../linux/route/link-state.ts";
import type { Assignment } from "../ipam/assignment.ts";
import { connectPod, disconnectPod, type PodLink } from "../network/network.ts";
import type { AddressManagement } from "./address-management.ts";
import { answering } from "./answer.ts";
import { readConfiguration, type NetworkConfiguration } from "./configuration.ts";
import type { CniContext } from "./context.ts";
import { entryInterfaces } from "./entry-interfaces.ts";
import { hostVethName, labelOf } from "../naming/names.ts";
import { lockNetwork } from "./network-lock.ts";
import { ensureNat } from "./network-nat.ts";
import { ensureForwarding, ensureGatewaySide, leaveNetwork } from "./network-state.ts";
import { planAdd, subnetOf, type AttachmentPlan } from "./plan.ts";
import { openPodNamespace } from "./pod-namespace.ts";
import {
  appendResult,
  EMPTY_RESULT,
  readResult,
  resultJson,
  type Result,
  type ResultInterface,
} from "./result.ts";
import { print } from "./standard-streams.ts";
import { forgetEarlierOwners, noteOwner, unmark, type AddressSpace } from "./used-addresses.ts";
import { portVlans } from "./vlan.ts";
import { requireMade } from "./waits-for.ts";

export const answer = answering(add);

const NO_ADDRESSES: Assignment = { addresses: [], routes: [], dns: {} };

/** What was made so far, to be taken away when a later step fails. */
interface Progress {
  readonly undo: (() => unknown)[];
  /** Links of the whole network that this call made, the bridge last. */
  readonly links: string[];
  /** Whether the pod's link is there already, without addresses. */
  connected?: boolean;
}

/** @throws whatever went wrong, after everything was taken back */
async function add(context: CniContext): Promise<void> {
  const { call, header } = context;
  const configuration = readConfiguration(header, call.args);
  requireMade(configuration, "try-again");
  const ipam = context.addresses();
  const earlier = readEarlier(context);
  using pod = openPodNamespace(call.netns!, context.namespace);
  const progress: Progress = { undo: [], links: [] };
  try {
    using _lock = lockNetwork(header.network, context.namespace, "shared");
    if (ipam?.wantsLink === true) connectAhead(context, configuration, pod, progress);
    const assignment = ipam?.add() ?? NO_ADDRESSES;
    if (ipam !== undefined) progress.undo.push(() => ipam.del());
    const result = appendResult(
      earlier,
      await attach(context, configuration, ipam, assignment, pod, progress),
    );
    // Of what cannot be told nobody would know that it is there.
    print(resultJson(result, header.version));
  } catch (error) {
    throw (await takeBack(context, configuration, ipam, progress)) ?? error;
  }
}

function readEarlier({ header }: CniContext): Result {
  const value = header.fields.raw("prevResult");
  return value === undefined ? EMPTY_RESULT : readResult(value, "prevResult", header.version);
}

async function attach(
  context: CniContext,
  configuration: NetworkConfiguration,
  ipam: AddressManagement | undefined,
  assignment: Assignment,
  pod: NetworkNamespace,
  progress: Progress,
): Promise<Result> {
  const { node, namespace } = context;
  const plan = planAdd(configuration, assignment);
  const { bridge, gateway } = ensureGatewaySide(node, configuration, plan, progress.links);
  const holder = gateway ?? bridge;
  const { network, nat } = configuration;
  const subnets = subnetsOf(ipam, plan);
  const from = entryInterfaces(configuration, holder, node);
  await ensureNat({ network, ...nat, subnets, from }, namespace);
  const addresses = plan.ips.map(({ address }) => addressOf(address));
  if (addresses.length > 0)
    await use(context, { subnets, gateways: plan.gateways }, addresses, ipam, progress);
  const link = connect(context, configuration, plan, pod, bridge, progress);
  if (configuration.checkMacSpoofing) await guardSender(link, namespace, progress);
  // Last: it is not undone, for others may have begun to rely on it meanwhile.
  await ensureForwarding(plan.forwarded, holder);
  return {
    interfaces: [
      resultInterface(bridge),
      resultInterface(link.host),
      { ...resultInterface(link.pod), sandbox: context.call.netns! },
      ...(gateway === undefined ? [] : [resultInterface(gateway)]),
    ],
    ips: plan.ips.map((ip) => ({ ...ip, interface: POD_INTERFACE })),
    routes: plan.routes,
    dns: Object.keys(configuration.dns).length > 0 ? configuration.dns : assignment.dns,
  };
}

/** Whatever earlier owners of its addresses left is forgotten, and it is noted that they are in use now. */
async function use(
  { header: { network }, namespace, call }: CniContext,
  space: AddressSpace,
  addresses: readonly string[],
  ipam: AddressManagement | undefined,
  progress: Progress,
): Promise<void> {
  await forgetEarlierOwners(network, space, addresses, namespace);
  progress.undo.push(() => unmark(network, namespace, addresses));
  // Only then does nobody but the other plugin know at the end whose addresses they were.
  if (ipam?.wantsLink === true)
    noteOwner(network, namespace, hostVethName(network, call.container, call.interfaceName), addresses);
}

/** Where the pod's interface stands in the result: behind the bridge and the host's end, as everybody expects. */
const POD_INTERFACE = 2;

function resultInterface({ name, mac, mtu }: LinkState): ResultInterface {
  return { name, ...(mac === undefined ? {} : { mac }), mtu };
}

/** The subnets whose pods are translated: those that the configuration names, and this pod's own. */
function subnetsOf(ipam: AddressManagement | undefined, plan: AttachmentPlan): string[] {
  return [...new Set([...(ipam?.subnets ?? []), ...plan.ips.map(({ address }) => subnetOf(address))])];
}

/** Who asks for an address over the pod's own interface, as DHCP does, must find it there, and up. */
function connectAhead(
  context: CniContext,
  configuration: NetworkConfiguration,
  pod: NetworkNamespace,
  progress: Progress,
): void {
  const plan = planAdd(configuration, NO_ADDRESSES);
  const { bridge } = ensureGatewaySide(context.node, configuration, plan, progress.links);
  connect(context, configuration, plan, pod, bridge, progress);
}

/** Makes the pod's link, or completes the one that this call has made ahead. */
function connect(
  { node, header, owner, linkNames }: CniContext,
  configuration: NetworkConfiguration,
  plan: AttachmentPlan,
  pod: NetworkNamespace,
  bridge: LinkState,
  progress: Progress,
): PodLink {
  const { mtu, mac, hairpin, portIsolation, duplicateAddressDetection } = configuration;
  const link = connectPod(node, pod, {
    ...linkNames,
    ...(progress.connected === true ? { adopt: true } : {}),
    alias: labelOf(header.network, owner),
    addresses: plan.ips.map(({ address }) => address),
    routes: plan.podRoutes,
    bridge: bridge.index,
    ...(mtu === undefined ? {} : { mtu }),
    ...(mac === undefined ? {} : { mac }),
    ...(hairpin ? { hairpin } : {}),
    ...(portIsolation ? { isolated: true } : {}),
    ...portVlans(configuration, bridge),
    ...(duplicateAddressDetection ? { duplicateAddressDetection } : {}),
    ...(configuration.disableContainerInterface ? { leaveDown: true } : {}),
  });
  if (progress.connected !== true) progress.undo.push(() => disconnectPod(node, pod, linkNames));
  progress.connected = true;
  return link;
}

async function guardSender(link: PodLink, namespace: NetworkNamespace, progress: Progress): Promise<void> {
  const { MacSpoofing } = await import("./mac-spoofing.ts");
  using spoofing = new MacSpoofing(namespace);
  progress.undo.push(() => {
    using again = new MacSpoofing(namespace);
    again.release([link.host.name]);
  });
  spoofing.guard(link.host.name, link.pod.mac);
}

/**
 * The last thing made goes first. What cannot be taken away is left to DEL, which runtimes call after a failed ADD.
 * Returns what was a mistake of ours in it.
 */
async function takeBack(
  context: CniContext,
  configuration: NetworkConfiguration,
  ipam: AddressManagement | undefined,
  { undo, links }: Progress,
): Promise<unknown> {
  let mistake: unknown;
  for (const step of [
    ...undo.toReversed(),
    () => leaveNetwork(context, configuration.nat.backend, ipam, links),
  ]) {
    try {
      await step();
    } catch (error) {
      // The failure that brought us here is the one to tell.
      if (isMistake(error)) mistake ??= error;
    }
  }
  return mistake;
}
