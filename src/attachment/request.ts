/** What a person asks of `wayout attach`, checked as far as it can be without looking at the node. */
import { cidrText, parseCidr } from "../address/cidr.ts";
import { familyOf, AddressError, canonicalIp, prefixFamily } from "../address/ip.ts";
import { WayoutError } from "../error.ts";
import { NETNS_DIRECTORY } from "../kernel/namespace.ts";
import type { NatBackendName } from "../nat/backends/backends.ts";
import { isPlainInterfaceName } from "../nat/intent.ts";
import { present } from "../present.ts";

export const DEFAULT_BRIDGE = "wayout0";
export const DEFAULT_INTERFACE = "eth0";

export interface AttachRequest {
  /** A name under /run/netns or an absolute path. */
  readonly namespace: string;
  /** Make the namespace when it is missing; detach then removes it again. */
  readonly create?: boolean;
  readonly bridge?: string;
  /** At most one of each family. Absent: the bridge's own, or a free one. */
  readonly subnets?: readonly string[];
  /** Addresses for the namespace, at most one of each family, without prefix. Absent: the next free one. */
  readonly addresses?: readonly string[];
  readonly interfaceName?: string;
  /** Absent: when the node itself has a way out over IPv6. */
  readonly ipv6?: boolean;
  readonly backend?: NatBackendName;
  /** Fixed outgoing addresses, at most one of each family. Absent: MASQUERADE. */
  readonly snat?: readonly string[];
  /** Name servers for /etc/netns/NAME/resolv.conf. Absent: written only when the node's own cannot be reached. */
  readonly nameServers?: readonly string[];
}

/** Refuses what no node could carry out. @throws WayoutError of kind usage, naming the option */
export function checkRequest(request: AttachRequest): AttachRequest {
  const doing = `attaching ${request.namespace}`;
  checkLabel(request.namespace, doing);
  checkInterface(request.bridge, "--bridge", doing);
  checkInterface(request.interfaceName, "--interface", doing);
  const subnets = request.subnets?.map((text) => option("--subnet", doing, () => cidrText(parseCidr(text))));
  const canonical = (name: string, texts: readonly string[] | undefined): string[] | undefined =>
    texts?.map((text) => option(name, doing, () => canonicalIp(text)));
  const addresses = canonical("--ip", request.addresses);
  const snat = canonical("--snat", request.snat);
  const nameServers = canonical("--dns", request.nameServers);
  oneOfEachFamily("--subnet", subnets, doing);
  oneOfEachFamily("--ip", addresses, doing);
  oneOfEachFamily("--snat", snat, doing);
  if (
    request.ipv6 === false &&
    [...(subnets ?? []), ...(addresses ?? [])].some((text) => familyOf(text) === 6)
  ) {
    refuse("--no-ipv6", doing, "contradicts an IPv6 --subnet or --ip");
  }
  return {
    ...request,
    ...present({ subnets, addresses, snat, nameServers }),
  };
}

/** Where the namespace that a person named is found. */
export function pathOfLabel(label: string): string {
  return label.startsWith("/") ? label : `${NETNS_DIRECTORY}/${label}`;
}

function checkLabel(label: string, doing: string): void {
  const isName = /^[^/\s]{1,255}$/.test(label) && label !== "." && label !== "..";
  if (isName || label.startsWith("/")) return;
  throw new WayoutError({
    code: "bad-namespace-name",
    kind: "usage",
    doing,
    said: `"${label}" is neither a name for 'ip netns' nor an absolute path`,
  });
}

function checkInterface(name: string | undefined, flag: string, doing: string): void {
  if (name === undefined || isPlainInterfaceName(name)) return;
  const bytes = Buffer.byteLength(name);
  const why =
    bytes > 15
      ? `has ${bytes} bytes; the kernel takes at most 15`
      : "is no interface name (no white space, no / : % * + \\ or quotes)";
  refuse(flag, doing, `"${name}" ${why}`);
}

function oneOfEachFamily(flag: string, texts: readonly string[] | undefined, doing: string): void {
  const families = (texts ?? []).map((text) => prefixFamily(text));
  if (new Set(families).size < families.length) {
    refuse(flag, doing, `${texts!.join(" and ")} are of one family; it takes one of IPv4 and one of IPv6`);
  }
}

function option<T>(flag: string, doing: string, parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    if (error instanceof AddressError) return refuse(flag, doing, error.message);
    throw error;
  }
}

function refuse(flag: string, doing: string, said: string): never {
  throw new WayoutError({
    code: "bad-option",
    kind: "usage",
    doing,
    said: `${flag}: ${said}`,
    details: { option: flag },
  });
}
