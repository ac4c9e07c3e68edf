/** Whether a way out that was once made still stands: read from the kernel, link by link, from the pod outwards. */
import { ipFamily } from "../address/ip.ts";
import type { NetworkNamespace } from "../kernel/namespace.ts";
import type { Link } from "../linux/route/link.ts";
import { Rtnetlink } from "../kernel/route/rtnetlink.ts";
import { problem, type Problem } from "./problem.ts";

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

/** Everything that is wrong inside the pod; empty when nothing is. */
export function podProblems(pod: NetworkNamespace, expected: ExpectedLink): Problem[] {
  using inside = Rtnetlink.open(pod);
  const link = inside.link(expected.interface);
  if (link === undefined)
    return [problem("pod-interface-missing", `${expected.interface} is missing in the namespace`)];
  const problems: Problem[] = [];
  if (!link.up) problems.push(problem("pod-link-down", `${expected.interface} is down in the namespace`));
  const there = inside.addresses({ interface: link.index });
  for (const text of expected.addresses) {
    const address = text.split("/")[0]!;
    const found = there.find((other) => other.address === address);
    if (found === undefined)
      problems.push(problem("pod-no-address", `${address} is not on ${expected.interface}`));
    else if (found.flags.includes("dadfailed"))
      problems.push(
        problem("duplicate-address", `${address} is used twice (its check for duplicates failed)`),
      );
  }
  const routes = inside.routes();
  for (const text of expected.gateways) {
    const gateway = text.split("/")[0]!;
    const everything = ipFamily(gateway) === 4 ? "0.0.0.0/0" : "::/0";
    const leads = routes.some((route) => route.destination === everything && route.gateway === gateway);
    if (!leads)
      problems.push(problem("pod-no-route", `the namespace has no default route through ${gateway}`));
  }
  return problems;
}

/** Everything that is wrong with the pod's link on the node's side. */
export function nodeProblems(node: Rtnetlink, expected: ExpectedLink): Problem[] {
  const bridge = expected.bridge === undefined ? undefined : node.link(expected.bridge);
  const problems: Problem[] = [];
  if (expected.bridge !== undefined) problems.push(...bridgeProblems(node, bridge, expected));
  if (expected.hostInterface === undefined) return problems;
  const host = node.link(expected.hostInterface);
  if (host === undefined)
    problems.push(problem("host-link-missing", `${expected.hostInterface} is missing on the node`));
  else if (!host.up) problems.push(problem("host-link-down", `${expected.hostInterface} is down`));
  else if (bridge !== undefined && host.master !== bridge.index) {
    problems.push(
      problem("host-link-not-enslaved", `${expected.hostInterface} is not a port of ${bridge.name}`),
    );
  }
  return problems;
}

function bridgeProblems(node: Rtnetlink, bridge: Link | undefined, expected: ExpectedLink): Problem[] {
  if (bridge === undefined) return [problem("bridge-missing", `the bridge ${expected.bridge} is missing`)];
  const problems = bridge.up ? [] : [problem("bridge-down", `the bridge ${bridge.name} is down`)];
  const there = new Set(node.addresses({ interface: bridge.index }).map(({ address }) => address));
  for (const text of expected.gateways) {
    const gateway = text.split("/")[0]!;
    if (!there.has(gateway))
      problems.push(problem("bridge-address-missing", `${bridge.name} lacks the gateway address ${gateway}`));
  }
  return problems;
}
