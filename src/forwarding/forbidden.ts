/** Whether what comes by one interface is forwarded: one small file a family is read, however many interfaces there are. */
import type { IpFamily } from "../address/ip.ts";
import type { NetworkNamespace } from "../kernel/namespace.ts";
import { readSysctl } from "../kernel/sysctl.ts";
import type { LinkState } from "../linux/route/link-state.ts";
import { FORWARDING_SYSCTL, forwardingForbiddenBy } from "./switches.ts";

export interface ForbiddenFamily {
  readonly family: IpFamily;
  /** The switch that is off. */
  readonly sysctl: string;
  /** The interface whose own switch it is; absent: that of the family. */
  readonly interface?: string;
}

/**
 * The families that are not forwarded, of those that should be.
 * @param entrance by which packets come
 * @param exits by which they leave and their answers come, a family each. Where that is not known, the family's own
 *   switch stands for it
 */
export function forwardingForbidden(
  families: readonly IpFamily[],
  entrance: LinkState,
  namespace?: NetworkNamespace,
  exits?: ReadonlyMap<IpFamily, LinkState>,
): ForbiddenFamily[] {
  const forbidden: ForbiddenFamily[] = [];
  for (const family of families) {
    const text = readSysctl(namespace, FORWARDING_SYSCTL[family]);
    const all = text === undefined ? undefined : Number(text);
    const exit = exits?.get(family);
    const found =
      forbiddenAt(family, entrance, all, namespace) ??
      (exit === undefined ? undefined : forbiddenAt(family, exit, all, namespace));
    if (found !== undefined) forbidden.push(found);
    // IPv4 asks the interface alone, and nobody knows by which one the answers come.
    else if (family === 4 && exit === undefined && all === 0) {
      forbidden.push({ family, sysctl: FORWARDING_SYSCTL[4] });
    }
  }
  return forbidden;
}

function forbiddenAt(
  family: IpFamily,
  { name, ipv4 }: LinkState,
  all: number | undefined,
  namespace: NetworkNamespace | undefined,
): ForbiddenFamily | undefined {
  const own = family === 4 ? ipv4?.forwarding : undefined;
  const force =
    family === 6 && all === 0 ? readSysctl(namespace, `net.ipv6.conf.${name}.force_forwarding`) : undefined;
  const sysctl = forwardingForbiddenBy(family, name, { all, own, forced: force === "1" ? 1 : undefined });
  if (sysctl === undefined) return undefined;
  return sysctl === FORWARDING_SYSCTL[family] ? { family, sysctl } : { family, sysctl, interface: name };
}
