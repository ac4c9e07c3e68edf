/** CHECK: whether an attachment is still what its ADD reported. Fails on a proven break, never on a forecast. */
import { WayoutError } from "../error.ts";
import { namespaceInode } from "../kernel/namespace.ts";
import { addressOf } from "../address/ip.ts";
import { podRoute } from "../pods/pod-socket.ts";
import { hostVethName } from "../naming/names.ts";
import { linkProblems, type ExpectedLink } from "../ways-out/expected.ts";
import { forwardingProblems, natProblems, problem, type Problem } from "../ways-out/problem.ts";
import type { AddressManagement } from "./address-management.ts";
import { answering } from "./answer.ts";
import { readConfiguration, type NetworkConfiguration } from "./configuration.ts";
import type { CniContext } from "./context.ts";
import { entryInterfaces } from "./entry-interfaces.ts";
import { checkFailed } from "./failure.ts";
import { MacSpoofing } from "./mac-spoofing.ts";
import { natDrifts } from "./network-nat.ts";
import { planAdd, subnetOf, type AttachmentPlan } from "./plan.ts";
import { openPodNamespace } from "./pod-namespace.ts";
import { readResult, type Result, type ResultInterface } from "./result.ts";
import { vlanGatewayName } from "./vlan.ts";

export const answer = answering(check);

/** @throws WayoutError `check-failed` with everything that is wrong; what a delegate says */
async function check(context: CniContext): Promise<void> {
  const { call, header } = context;
  const configuration = readConfiguration(header, call.args);
  const ipam = context.addresses();
  const previous = header.fields.raw("prevResult");
  if (previous === undefined)
    header.fields.refuse("prevResult", "is missing: there is nothing to check against");
  const result = ownPart(readResult(previous, "prevResult", header.version), context, ipam !== undefined);
  using pod = openPodNamespace(call.netns!, context.namespace);
  using inside = podRoute(pod);
  const plan = planAdd(configuration, {
    addresses: result.ips.map(({ address, gateway }) => ({
      address,
      ...(gateway === undefined ? {} : { gateway }),
    })),
    routes: [],
    dns: {},
  });
  using spoofing = configuration.checkMacSpoofing ? new MacSpoofing(context.namespace) : undefined;
  const expected = expectedLink(context, configuration, plan, result, spoofing);
  // Of what the pod has too much of to be read nothing is proven.
  const problems = linkProblems(context.node, inside, expected).filter(({ code }) => code !== "pod-not-read");
  problems.push(...reservationProblems(ipam, result));
  const holder = context.node.linkState(expected.gatewayInterface ?? configuration.bridge);
  if (holder !== undefined) {
    const subnets = [...(ipam?.subnets ?? []), ...plan.ips.map(({ address }) => subnetOf(address))];
    const { network, nat } = configuration;
    const from = entryInterfaces(configuration, holder, context.node);
    const wanted = { network, ...nat, subnets: [...new Set(subnets)], from };
    problems.push(...forwardingProblems(plan.forwarded, holder));
    problems.push(...natProblems(await natDrifts(wanted, context.namespace)));
  }
  if (problems.length === 0) return;
  throw checkFailed(
    `checking ${call.interfaceName} of ${call.container} on network ${header.network}`,
    problems,
    "What belongs to the network is repaired by the next ADD; for the rest, recreate the pod.",
  );
}

function reservationProblems(ipam: AddressManagement | undefined, { ips }: Result): Problem[] {
  try {
    ipam?.check(ips.map(({ address }) => addressOf(address)));
    return [];
  } catch (error) {
    if (!(error instanceof WayoutError) || error.code !== LOST) throw error;
    return [problem(LOST, error.message)];
  }
}

const LOST = "reservation-lost";

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

/** What our ADD promised: its result, and what its configuration says beside it. */
function expectedLink(
  { call, header }: CniContext,
  configuration: NetworkConfiguration,
  { gateways }: AttachmentPlan,
  result: Result,
  spoofing: MacSpoofing | undefined,
): ExpectedLink {
  const { bridge, vlan, disableContainerInterface, promiscuous, hairpin } = configuration;
  const mac = result.interfaces[0]?.mac;
  return {
    interface: call.interfaceName,
    kind: "veth",
    ...(mac === undefined ? {} : { mac }),
    leftDown: disableContainerInterface,
    addresses: result.ips.map(({ address }) => address),
    routes: result.routes.map(({ dst, gw }) => ({
      destination: dst,
      ...(gw === undefined ? {} : { gateway: gw }),
    })),
    hostInterface: hostVethName(header.network, call.container, call.interfaceName),
    bridge,
    promiscuous,
    port: { hairpin, isolated: configuration.portIsolation },
    gateways,
    ...(vlan > 0 && gateways.length > 0 ? { gatewayInterface: vlanGatewayName(configuration) } : {}),
    ...(spoofing === undefined ? {} : { isGuarded: (port, own) => spoofing.isGuarded(port, own) }),
  };
}
