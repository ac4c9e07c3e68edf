/** Which address a namespace gets. */
import { cidrContains, cidrText, hostRange, type Cidr } from "../address/cidr.ts";
import { addressOf, ipFamily, type IpFamily, ipNumber } from "../address/ip.ts";
import { WayoutError } from "../error.ts";
import { addressesAfter } from "../ipam/range.ts";
import type { Rtnetlink } from "../kernel/route/rtnetlink.ts";
import type { NetworkRecord, NodeRecord } from "./record.ts";
import type { AttachRequest } from "./request.ts";
import { present } from "../present.ts";

/** The address that was asked for in a family. */
export function givenByHand(request: AttachRequest, family: IpFamily): string | undefined {
  return request.addresses?.find((address) => ipFamily(address) === family);
}

/**
 * The address that was asked for, checked, or the next free one of the subnet.
 * @throws WayoutError
 */
export function chooseAddress(
  request: AttachRequest,
  record: NodeRecord,
  network: NetworkRecord,
  node: Rtnetlink,
  subnet: Cidr,
  doing: string,
): string {
  const gateway = network.gateways
    .map((text) => addressOf(text))
    .find((address) => cidrContains(subnet, address))!;
  const holders = addressHolders(record, node);
  const wanted = givenByHand(request, subnet.family);
  if (wanted !== undefined) {
    checkAddress(wanted, subnet, network, holders, doing);
    return wanted;
  }
  if (network.before !== undefined) {
    throw new WayoutError({
      code: "address-needed",
      kind: "usage",
      doing,
      said: `the bridge ${network.bridge} was there before wayout, so only you know which addresses of ${cidrText(subnet)} are free`,
      todo: "Name one: --ip ADDRESS",
    });
  }
  const range = { subnet, ...hostRange(subnet), gateway };
  for (const { address } of addressesAfter([range], network.lastGiven[cidrText(subnet)])) {
    if (!holders.has(address)) return address;
  }
  throw new WayoutError({
    code: "subnet-full",
    kind: "broken",
    doing,
    said: `every address of ${cidrText(subnet)} is taken`,
    todo: "Detach what is not needed ('wayout list'), or take another bridge: --bridge wayout1",
  });
}

/** Who has which address, in words. */
function addressHolders(record: NodeRecord, node: Rtnetlink): Map<string, string> {
  const holders = new Map<string, string>();
  for (const neighbour of node.neighbours()) {
    if (neighbour.mac === undefined || neighbour.state === "failed") continue;
    holders.set(neighbour.address, `a neighbour with MAC ${neighbour.mac}`);
  }
  for (const { address } of node.addresses()) holders.set(address, "this node itself");
  for (const { label, addresses } of record.attachments) {
    for (const address of addresses) holders.set(addressOf(address), `the namespace ${label}`);
  }
  return holders;
}

function checkAddress(
  address: string,
  subnet: Cidr,
  network: NetworkRecord,
  holders: ReadonlyMap<string, string>,
  doing: string,
): void {
  const refuse = (code: string, said: string, todo?: string): never => {
    throw new WayoutError(
      present({
        code,
        kind: "usage",
        doing,
        said,
        todo,
        details: { address, subnet: cidrText(subnet) },
      }),
    );
  };
  if (!cidrContains(subnet, address)) {
    refuse(
      "address-outside-subnet",
      `${address} is not in ${cidrText(subnet)}, the subnet of ${network.bridge}`,
      "Name the subnet, too (--subnet), or leave --ip out.",
    );
  }
  const holder = holders.get(address);
  if (holder !== undefined) {
    refuse("address-taken", `${address} belongs to ${holder}`, "Leave --ip out: the next free one is taken.");
  }
  const range = hostRange(subnet);
  const number = ipNumber(address);
  if (number < range.first || number > range.last) {
    refuse("address-reserved", `${address} is the network or broadcast address of ${cidrText(subnet)}`);
  }
}

/** Refuses addresses of a family that the network does not have. @throws WayoutError family-missing */
export function checkAddressesUsed(
  request: AttachRequest,
  network: NetworkRecord,
  addresses: readonly string[],
  doing: string,
): void {
  const given = addresses.map((address) => addressOf(address));
  for (const [flag, asked] of [
    ["--ip", request.addresses ?? []],
    ["--snat", request.snat ?? []],
  ] as const) {
    for (const address of asked) {
      const families = given.map((other) => ipFamily(other));
      if (families.includes(ipFamily(address))) continue;
      throw new WayoutError({
        code: "family-missing",
        kind: "usage",
        doing,
        said: `${flag} ${address}: the network ${network.bridge} has only ${network.subnets.join(" and ")}`,
        todo: "The first attachment to a bridge decides; --subnet fd00:1::/64 or --ipv6 gives it IPv6.",
      });
    }
  }
}
