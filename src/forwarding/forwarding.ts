/**
 * Room `forwarding/`: whether the node routes packets for others: `net.ipv4.ip_forward`, its IPv6 counterpart, and
 * each interface's own. IPv6 has a trap: as soon as an interface forwards, the kernel ignores router advertisements on
 * it unless accept_ra is 2, and a default route that came by advertisement expires
 * (Documentation/networking/ip-sysctl.rst, accept_ra). So accept_ra is raised first, on every interface that would
 * lose a route.
 *
 * In: families, a namespace.
 * Out: the switches now and after the next boot, and what was changed.
 * Touches: sysctls of the namespace; with --persist /etc/sysctl.d/90-wayout.conf.
 */
import type { IpFamily } from "../address/ip.ts";
import { listDirectory } from "../kernel/file.ts";
import type { NetworkNamespace } from "../kernel/namespace.ts";
import { Rtnetlink } from "../kernel/route/rtnetlink.ts";
import { NETCONFA_IFINDEX_ALL, NETCONFA_IFINDEX_DEFAULT } from "../linux/route/netconf.ts";
import { readSysctl, writeSysctl } from "../kernel/sysctl.ts";
import { FORWARDING_SYSCTL, forwardingForbiddenBy } from "./switches.ts";
import { LOOPBACK_INDEX } from "../linux/link-layer.ts";
import { isDefaultCidr } from "../address/ip.ts";

/** One interface's own switches; which of them decides: forwardingForbiddenBy. */
export interface InterfaceForwarding {
  readonly name: string;
  /** undefined: the family is switched off on this interface. */
  readonly ipv4: boolean | undefined;
  readonly ipv6: boolean | undefined;
  /** force_forwarding (Linux 6.17): forwards although the family's switch is off. */
  readonly ipv6Forced?: boolean | undefined;
  /** 0 never, 1 unless it forwards, 2 always; undefined without IPv6. */
  readonly acceptRa: number | undefined;
  /** Routes on this interface that came by router advertisement: `default`, `2001:db8::/64`. */
  readonly advertisedRoutes: readonly string[];
}

export interface Forwarding {
  readonly ipv4: boolean;
  /** undefined: this kernel or namespace has no IPv6. */
  readonly ipv6: boolean | undefined;
  readonly interfaces: readonly InterfaceForwarding[];
}

/** Reads everything there is to say about forwarding. The calling thread's namespace when undefined. */
export function readForwarding(namespace: NetworkNamespace | undefined): Forwarding {
  const advertised = advertisedRoutes(namespace);
  const isOn = (name: string): boolean | undefined => {
    const value = readSysctl(namespace, name);
    return value === undefined ? undefined : value !== "0";
  };
  const interfaces = interfaceNames(namespace).map((name): InterfaceForwarding => {
    const acceptRa = readSysctl(namespace, `net.ipv6.conf.${name}.accept_ra`);
    return {
      name,
      ipv4: isOn(`net.ipv4.conf.${name}.forwarding`),
      ipv6: isOn(`net.ipv6.conf.${name}.forwarding`),
      ipv6Forced: isOn(`net.ipv6.conf.${name}.force_forwarding`),
      acceptRa: acceptRa === undefined ? undefined : Number(acceptRa),
      advertisedRoutes: advertised.get(name) ?? [],
    };
  });
  return { ipv4: isOn(FORWARDING_SYSCTL[4]) ?? false, ipv6: isOn(FORWARDING_SYSCTL[6]), interfaces };
}

/** Interfaces other than loopback, as the kernel keeps settings for them. */
function interfaceNames(namespace: NetworkNamespace | undefined): string[] {
  const list = (): string[] => listDirectory("/proc/sys/net/ipv4/conf");
  const names = namespace === undefined ? list() : namespace.run(list);
  return names.filter((name) => !["all", "default", "lo"].includes(name)).sort();
}

/** Destinations learned from router advertisements, by interface. */
function advertisedRoutes(namespace: NetworkNamespace | undefined): Map<string, string[]> {
  using rtnetlink = Rtnetlink.open(namespace);
  const learned = rtnetlink.routes({ family: 6, advertised: true });
  const routes = new Map<string, string[]>();
  if (learned.length === 0) return routes;
  const names = new Map(rtnetlink.links().map(({ index, name }) => [index, name]));
  for (const { destination, interface: single, nextHops } of learned) {
    for (const index of nextHops?.map((hop) => hop.interface) ?? [single]) {
      const name = index === undefined ? undefined : names.get(index);
      if (name === undefined) continue;
      const known = routes.get(name) ?? [];
      known.push(isDefaultCidr(destination) ? "default" : destination);
      routes.set(name, known);
    }
  }
  return routes;
}

/** One setting that is (to be) changed. */
export interface SettingChange {
  readonly name: string;
  readonly before: string;
  readonly after: string;
  /** Why, where it is not plain. */
  readonly reason?: string;
}

export interface EnableOptions {
  readonly ipv4: boolean;
  readonly ipv6: boolean;
}

/**
 * What enabling would change, in the order in which it must happen; empty when all is on already. An interface whose
 * own switch is off although the family's is on counts where it decides (IPv4). So does one that
 * forwards already and is about to lose an advertised route.
 */
export function planForwarding(current: Forwarding, options: EnableOptions): SettingChange[] {
  const changes: SettingChange[] = [];
  if (options.ipv4) changes.push(...familyChanges(current, 4));
  if (options.ipv6) changes.push(...advertisementChanges(current), ...familyChanges(current, 6));
  return changes;
}

function familyChanges(current: Forwarding, family: IpFamily): SettingChange[] {
  const isOn = family === 4 ? current.ipv4 : current.ipv6;
  if (isOn !== true) return [{ name: FORWARDING_SYSCTL[family], before: "0", after: "1" }];
  return notForwarded(current, family).map(({ link, sysctl }) => ({
    name: sysctl,
    before: "0",
    after: "1",
    reason: `off for ${link} alone`,
  }));
}

/** Interfaces of which nothing is forwarded that arrives there, and by which setting. */
export function notForwarded(
  current: Forwarding,
  family: IpFamily,
): { readonly link: string; readonly sysctl: string }[] {
  const number = (on: boolean | undefined): number | undefined => (on === undefined ? undefined : Number(on));
  const all = number(family === 4 ? current.ipv4 : current.ipv6);
  return current.interfaces.flatMap(({ name: link, ipv4, ipv6, ipv6Forced }) => {
    const own = number(family === 4 ? ipv4 : ipv6);
    if (own === undefined) return [];
    const sysctl = forwardingForbiddenBy(family, link, { all, own, forced: number(ipv6Forced) });
    return sysctl === undefined ? [] : [{ link, sysctl }];
  });
}

function advertisementChanges(current: Forwarding): SettingChange[] {
  return current.interfaces
    .filter((one) => one.acceptRa === 1 && one.advertisedRoutes.length > 0)
    .filter((one) => current.ipv6 !== true || one.ipv6 === true)
    .map((one) => ({
      name: `net.ipv6.conf.${one.name}.accept_ra`,
      before: "1",
      after: "2",
      reason: `keeps the route ${one.advertisedRoutes.join(", ")}, which came by router advertisement`,
    }));
}

/**
 * Whether `enableForwarding` has nothing to do, in a question or two: the way through /proc/sys costs four files for each
 * interface. False where it must be looked at closely.
 */
export function isForwardingOn(route: Rtnetlink, { ipv4, ipv6 }: EnableOptions): boolean {
  const families: readonly IpFamily[] = [...(ipv4 ? ([4] as const) : []), ...(ipv6 ? ([6] as const) : [])];
  const isOn = (family: IpFamily): boolean => {
    const switches = route.forwardingSwitches(family);
    if (switches.get(NETCONFA_IFINDEX_ALL) !== true) return false;
    switches.delete(NETCONFA_IFINDEX_DEFAULT);
    // Over IPv6 only `all` decides about a packet; an interface's own says what it makes of router advertisements.
    return family === 6 || [...switches].every(([index, on]) => on || index === LOOPBACK_INDEX);
  };
  if (!families.every(isOn)) return false;
  return !ipv6 || route.routes({ family: 6, advertised: true }).length === 0;
}

/** Of every namespace's own loopback. */

/**
 * Switches forwarding on and returns what was changed. When a step fails, the steps before it are taken back.
 * @throws WayoutError `no-privilege`, `sysctl-read-only`, `sysctl-missing` (a kernel without IPv6)
 */
export function enableForwarding(
  namespace: NetworkNamespace | undefined,
  options: EnableOptions,
): SettingChange[] {
  const plan = planForwarding(readForwarding(namespace), options);
  const done: SettingChange[] = [];
  try {
    for (const change of plan) {
      const before = writeSysctl(namespace, change.name, change.after);
      if (before !== change.after) done.push({ ...change, before });
    }
  } catch (error) {
    undoForwarding(namespace, done);
    throw error;
  }
  return done;
}

/** Puts back what enableForwarding changed, in reverse order; goes on past errors and returns them. */
export function undoForwarding(
  namespace: NetworkNamespace | undefined,
  changes: readonly SettingChange[],
): Error[] {
  const errors: Error[] = [];
  for (const change of changes.toReversed()) {
    try {
      writeSysctl(namespace, change.name, change.before);
    } catch (error) {
      errors.push(error as Error);
    }
  }
  return errors;
}
