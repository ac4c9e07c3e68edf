/** Whether a way out that was once made still stands: read from the kernel, link by link, from the pod outwards. */
import { ipFamily } from "../address/ip.ts";
import type { NetworkNamespace } from "../kernel/namespace.ts";
import type { Link } from "../linux/route/link.ts";
import { Rtnetlink } from "../kernel/route/rtnetlink.ts";

/** What is expected between a pod and its bridge. */
export interface ExpectedLink {
  /** The pod's interface and the host's end of it. */
  readonly interface: string;
  readonly hostInterface?: string;
  readonly bridge?: string;
  /** The pod's addresses, with prefix. */
  readonly addresses: readonly string[];
  /** The node's addresses on the bridge, with or without prefix. */
  readonly gateways: readonly string[];
}

/** Everything that is wrong inside the pod, as short sentences; empty when nothing is. */
export function podProblems(pod: NetworkNamespace, expected: ExpectedLink): string[] {
  using inside = Rtnetlink.open(pod);
  const link = inside.link(expected.interface);
  if (link === undefined) return [`${expected.interface} is missing in the namespace`];
  const problems: string[] = [];
  if (!link.up) problems.push(`${expected.interface} is down in the namespace`);
  const there = inside.addresses({ interface: link.index });
  for (const text of expected.addresses) {
    const address = text.split("/")[0]!;
    const found = there.find((other) => other.address === address);
    if (found === undefined) problems.push(`${address} is not on ${expected.interface}`);
    else if (found.flags.includes("dadfailed"))
      problems.push(`${address} is used twice (its check for duplicates failed)`);
  }
  const routes = inside.routes();
  for (const text of expected.gateways) {
    const gateway = text.split("/")[0]!;
    const everything = ipFamily(gateway) === 4 ? "0.0.0.0/0" : "::/0";
    const leads = routes.some((route) => route.destination === everything && route.gateway === gateway);
    if (!leads) problems.push(`the namespace has no default route through ${gateway}`);
  }
  return problems;
}

/** Everything that is wrong with the pod's link on the node's side. */
export function nodeProblems(node: Rtnetlink, expected: ExpectedLink): string[] {
  const bridge = expected.bridge === undefined ? undefined : node.link(expected.bridge);
  const problems: string[] = [];
  if (expected.bridge !== undefined) problems.push(...bridgeProblems(node, bridge, expected));
  if (expected.hostInterface === undefined) return problems;
  const host = node.link(expected.hostInterface);
  if (host === undefined) problems.push(`${expected.hostInterface} is missing on the node`);
  else if (!host.up) problems.push(`${expected.hostInterface} is down`);
  else if (bridge !== undefined && host.master !== bridge.index) {
    problems.push(`${expected.hostInterface} is not a port of ${bridge.name}`);
  }
  return problems;
}

function bridgeProblems(node: Rtnetlink, bridge: Link | undefined, expected: ExpectedLink): string[] {
  if (bridge === undefined) return [`the bridge ${expected.bridge} is missing`];
  const problems = bridge.up ? [] : [`the bridge ${bridge.name} is down`];
  const there = new Set(node.addresses({ interface: bridge.index }).map(({ address }) => address));
  for (const text of expected.gateways) {
    const gateway = text.split("/")[0]!;
    if (!there.has(gateway)) problems.push(`${bridge.name} lacks the gateway address ${gateway}`);
  }
  return problems;
}
