/** What can be wrong with a way out that was once made: a code for programs, a sentence for people. */
import type { IpFamily } from "../address/ip.ts";
import type { FindingCode } from "../causes/catalogue/all.ts";
import { forwardingForbidden } from "../forwarding/forbidden.ts";
import type { NetworkNamespace } from "../kernel/namespace.ts";
import type { LinkState } from "../linux/route/link-state.ts";
import { driftText, MISSING, type NatDrift } from "../nat/backend.ts";

/** The doctor's name for it, wherever the doctor has one. */
export type ProblemCode =
  | Extract<
      FindingCode,
      | "pod-namespace-gone"
      | "pod-interface-missing"
      | "pod-link-down"
      | "pod-loopback-down"
      | "pod-no-address"
      | "duplicate-address"
      | "pod-no-route"
      | "host-link-missing"
      | "host-link-down"
      | "host-link-not-enslaved"
      | "bridge-down"
      | "bridge-address-missing"
      | "forwarding-off"
      | "forwarding-off-on-interface"
      | "router-advertisement-lost"
      | "nat-missing"
    >
  /** The pod's interface is not the one that was made: another kind, another MAC. */
  | "pod-interface-replaced"
  | "bridge-missing"
  /** An interface of another kind has the bridge's name. */
  | "not-a-bridge"
  /** The bridge's host does not take every frame, though promiscMode wants it. */
  | "bridge-not-promiscuous"
  /** The port has not the settings that the network gives it (hairpinMode, portIsolation). */
  | "host-link-settings"
  /** Nobody checks any more as whom the pod sends (macspoofchk). */
  | "senders-unchecked"
  /** A run that made it or took it away was killed. */
  | "half-made"
  /** An address of the pod stands in host-local's files as another's, or as nobody's. */
  | "reservation-lost"
  /** Our rules are there, but not as they should be. */
  | "nat-drift"
  /** The namespace holds more than is read of one: nothing is proven of it, good or bad. */
  | "pod-not-read";

export interface Problem {
  readonly code: ProblemCode;
  /** One short sentence without a full stop. */
  readonly text: string;
}

/** What is wrong with one thing of the node that can be put back without the pod. */
export interface NodeProblem {
  /** `bridge br0`, `address 10.0.0.254/24 on br0`, `port veth1 of br0`: always the same text for one thing. */
  readonly object: string;
  readonly problem: Problem;
}

export function problem(code: ProblemCode, text: string): Problem {
  return { code, text };
}

/** What a backend found, as problems. */
export function natProblems(drifts: readonly NatDrift[]): Problem[] {
  return drifts.map((drift) =>
    problem(drift.found === MISSING ? "nat-missing" : "nat-drift", driftText(drift)),
  );
}

export function bridgeDown(bridge: string): Problem {
  return problem("bridge-down", `the bridge ${bridge} is down`);
}

/** @param link what has its name, if anything has */
export function noBridge(name: string, link: LinkState | undefined): Problem {
  if (link === undefined) return problem("bridge-missing", `the bridge ${name} is missing`);
  return problem("not-a-bridge", `${name} is no bridge but ${link.kind ?? "another interface"}`);
}

/** @param holder the interface that should have the address */
export function noGateway(holder: string, address: string): Problem {
  return problem("bridge-address-missing", `${holder} lacks the gateway address ${address}`);
}

export function notPromiscuous(bridge: string): Problem {
  return problem(
    "bridge-not-promiscuous",
    `the bridge ${bridge} is not promiscuous, as promiscMode wants it`,
  );
}

export function notEnslaved(port: string, bridge: string): Problem {
  return problem("host-link-not-enslaved", `${port} is not a port of ${bridge}`);
}

/**
 * What keeps the node from forwarding what comes by an interface, and its answers.
 * @param entrance by which a network's packets come to the node: its bridge, or its gateway in a VLAN
 * @param namespace the node's; absent: the calling thread's
 * @param exits by which they leave, where that is known
 */
export function forwardingProblems(
  families: readonly IpFamily[],
  entrance: LinkState,
  namespace?: NetworkNamespace,
  exits?: ReadonlyMap<IpFamily, LinkState>,
): Problem[] {
  const problems: Problem[] = [];
  for (const { family, sysctl, interface: name } of forwardingForbidden(
    families,
    entrance,
    namespace,
    exits,
  )) {
    const where = name === undefined ? "" : ` for ${name} alone`;
    const said = `IPv${family} forwarding is off${where}: ${sysctl} is 0`;
    problems.push(problem(name === undefined ? "forwarding-off" : "forwarding-off-on-interface", said));
  }
  return problems;
}
