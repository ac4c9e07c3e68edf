/**
 * Which subnet a new bridge gets: one that overlaps nothing this node knows a way to. A private subnet that exists
 * elsewhere behind a route (a VPN, another bridge) would make those hosts unreachable, from the pods and back.
 */
import { isLinkLocalAddress, isMulticastAddress } from "../address/special-purpose.ts";
import { cidrOf, cidrsOverlap, cidrText, parseCidr, type Cidr } from "../address/cidr.ts";
import { ipFromNumber, ipText, type IpFamily } from "../address/ip.ts";
import { WayoutError } from "../error.ts";
import { RT_TABLE } from "../linux/route/constants.ts";
import type { Rtnetlink } from "../kernel/route/rtnetlink.ts";

/**
 * IPv4 subnets are /24s cut from these blocks, first to last. They lie in private space (RFC 1918) and in shared
 * address space (RFC 6598), away from what others take by default: Docker 172.17.0.0/16 and up, podman 10.88.0.0/16,
 * kubeadm and flannel 10.96.0.0/12 and 10.244.0.0/16, K3s 10.42.0.0/15, libvirt 192.168.122.0/24, home routers
 * 192.168.0.0/23.
 */
export const IPV4_BLOCKS = ["10.213.0.0/16", "172.30.192.0/18", "100.71.0.0/16", "192.168.224.0/20"] as const;
const IPV4_LENGTH = 24;
/** A unique local address (RFC 4193): fd, 40 bits of its own, 16 bits of subnet. */
const IPV6_LENGTH = 64;
const IPV6_ATTEMPTS = 64;

/** A prefix in use, and how we know: "route 10.0.0.0/8 via 192.0.2.1 (main)", "address 10.0.0.1 on eth0". */
export interface Occupied {
  readonly cidr: Cidr;
  readonly by: string;
}

/** Every prefix that a node has a route to or an address in, default routes apart. */
export function occupiedPrefixes(node: Rtnetlink, exceptInterface?: number): Occupied[] {
  const names = new Map(node.links({ statistics: false }).map((link) => [link.index, link.name]));
  const nameOf = (index: number | undefined): string =>
    index === undefined ? "" : (names.get(index) ?? `#${index}`);
  const occupied: Occupied[] = [];
  for (const route of node.routes()) {
    const cidr = parseCidr(route.destination);
    const own = route.interface !== undefined && route.interface === exceptInterface;
    // The local table repeats the addresses and adds multicast and broadcast, which are nobody's subnet.
    if (cidr.prefixLength === 0 || route.table === RT_TABLE.local || own || isLinkLocal(cidr)) continue;
    if (cidr.family === 6 && isMulticastAddress(cidr.network)) continue;
    const via = route.gateway === undefined ? "" : ` via ${route.gateway}`;
    const device = route.interface === undefined ? ` (${route.type})` : ` dev ${nameOf(route.interface)}`;
    const table = route.table === RT_TABLE.main ? "" : ` table ${route.table}`;
    occupied.push({ cidr, by: `the route to ${route.destination}${via}${device}${table}` });
  }
  for (const address of node.addresses()) {
    if (address.interface === exceptInterface) continue;
    const cidr = cidrOf(address.address, address.prefixLength);
    if (isLinkLocal(cidr)) continue;
    occupied.push({ cidr, by: `the address ${address.address} of ${nameOf(address.interface)}` });
  }
  return occupied;
}

/** fe80::/10 is on every link and collides with nothing. */
function isLinkLocal(cidr: Cidr): boolean {
  return cidr.family === 6 && isLinkLocalAddress(cidr.network);
}

/** What a subnet collides with; undefined when it is free. */
function collision(cidr: Cidr, occupied: readonly Occupied[]): Occupied | undefined {
  return occupied.find((other) => cidrsOverlap(cidr, other.cidr));
}

/** @throws WayoutError subnet-overlaps-route */
export function requireFree(subnet: Cidr, occupied: readonly Occupied[], doing: string): void {
  const hit = collision(subnet, occupied);
  if (hit === undefined) return;
  throw new WayoutError({
    code: "subnet-overlaps-route",
    kind: "usage",
    doing,
    said: `the subnet ${cidrText(subnet)} overlaps ${hit.by}`,
    todo: "Name a subnet that overlaps no route of this node, or none: a free one is then chosen.",
    details: { subnet: cidrText(subnet), overlaps: cidrText(hit.cidr), by: hit.by },
  });
}

/**
 * The first free subnet of the family.
 * @param seed for IPv6: the same seed gives the same prefix on a node where it is free
 * @throws WayoutError no-free-subnet
 */
export function freeSubnet(family: IpFamily, occupied: readonly Occupied[], seed: string): string {
  for (const candidate of family === 4 ? ipv4Candidates() : ipv6Candidates(seed)) {
    if (collision(candidate, occupied) === undefined) return cidrText(candidate);
  }
  const blocks = family === 4 ? IPV4_BLOCKS.join(", ") : "fd00::/8";
  throw new WayoutError({
    code: "no-free-subnet",
    kind: "machine",
    doing: `looking for a free IPv${family} subnet`,
    said: `every candidate in ${blocks} overlaps a route or an address of this node`,
    todo: `Name one yourself: --subnet ${family === 4 ? "10.0.0.0/24" : "fd00:1::/64"}`,
  });
}

function* ipv4Candidates(): Generator<Cidr> {
  const step = 1n << BigInt(32 - IPV4_LENGTH);
  for (const text of IPV4_BLOCKS) {
    const block = parseCidr(text);
    for (let first = block.first; first <= block.last; first += step) {
      yield cidrOf(ipFromNumber(4, first), IPV4_LENGTH);
    }
  }
}

/** RFC 4193 3.2.2 wants the 40 bits of the global id to be as good as random; a hash of the seed is. */
function* ipv6Candidates(seed: string): Generator<Cidr> {
  for (let attempt = 0; attempt < IPV6_ATTEMPTS; attempt++) {
    const digest = new Bun.CryptoHasher("sha256").update(`wayout ${seed} ${attempt}`).digest();
    const bytes = new Uint8Array(16);
    bytes[0] = 0xfd;
    bytes.set(digest.subarray(0, 5), 1);
    yield cidrOf(ipText(bytes), IPV6_LENGTH);
  }
}
