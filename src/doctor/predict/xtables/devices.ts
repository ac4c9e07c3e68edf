/** Matches that ask for devices, addresses' types and routes. */
import type { Wanted } from "../../../linux/xtables/describe.ts";
import type { addrtype } from "../../../linux/xtables/matches/addrtype.ts";
import type { NamePattern, physdev, rpfilter } from "../../../linux/xtables/matches/devices.ts";
import { usesLink } from "../fib.ts";
import { addressType } from "../conntrack-loads.ts";
import { nameBytes } from "../loads.ts";
import type { Machine } from "../machine.ts";
import { present } from "../../../present.ts";
import { RTN } from "../../../linux/route/constants.ts";

type ValueOf<D extends { read: (...parameters: never) => unknown }> = ReturnType<D["read"]>;

export function addressTypeMatches(
  machine: Machine,
  { source, destination, limit }: ValueOf<typeof addrtype>,
): boolean {
  const { packet } = machine;
  const device = limit === "in" ? packet.iif : limit === "out" ? packet.oif : undefined;
  const is = (address: string, wanted: Wanted<number> | undefined): boolean => {
    if (wanted === undefined) return true;
    // XT_ADDRTYPE_* are the bits that RTN_* number; the match knows no type behind prohibit.
    const type: number = RTN[addressType(machine, address, device) as keyof typeof RTN] ?? RTN.unspec;
    const bit = 1 << (type > RTN.prohibit ? RTN.unspec : type);
    return ((bit & wanted.value) !== 0) !== wanted.not;
  };
  return is(packet.source, source) && is(packet.destination, destination);
}

export function physdevMatches({ packet }: Machine, wanted: ValueOf<typeof physdev>): boolean {
  const { physicalIn, physicalOut } = packet;
  const is = <T>(part: Wanted<T> | undefined, test: (value: T) => boolean): boolean =>
    part === undefined || test(part.value) !== part.not;
  return (
    is(wanted.isBridged, () => physicalIn !== undefined && physicalOut !== undefined) &&
    is(wanted.isIn, () => physicalIn !== undefined) &&
    is(wanted.isOut, () => physicalOut !== undefined) &&
    is(wanted.in, (pattern) => fits(pattern, physicalIn)) &&
    is(wanted.out, (pattern) => fits(pattern, physicalOut))
  );
}

function fits({ name, mask }: NamePattern, device: string | undefined): boolean {
  const bytes = nameBytes(device ?? "");
  return mask.every((bits, at) => ((bytes[at]! ^ name[at]!) & bits) === 0);
}

/** rpfilter_mt: any next hop of the way back may be the one the packet came by. */
export function reversePathMatches(
  { packet, view }: Machine,
  { loose, validMark, acceptLocal, not }: ValueOf<typeof rpfilter>,
): boolean {
  if (view.link(packet.iif)?.layer === "loopback") return !not;
  const result = view.fib.predict(
    present({
      destination: packet.source,
      source: packet.destination,
      mark: validMark ? packet.mark : undefined,
    }),
  );
  if (result.kind !== "route") return not;
  if (result.type !== "unicast" && !(result.type === "local" && acceptLocal)) return not;
  return (loose || usesLink(result, view.link(packet.iif))) !== not;
}
