/** The programs at the links by which packets leave: loaded once for each link layer, attached by an object with a name. */
import { ETH_HLEN } from "../../../linux/link-layer.ts";
import { closeFile, removeFile } from "../../../kernel/file.ts";
import {
  attachedTo,
  attachToLink,
  detachFromLink,
  isGone,
  replaceProgram,
  type TcxSide,
} from "../../../kernel/bpf/link.ts";
import { pinnedObject, pinObject } from "../../../kernel/bpf/map.ts";
import { Rtnetlink } from "../../../kernel/route/rtnetlink.ts";
import type { NetworkNamespace } from "../../../kernel/namespace.ts";
import type { Link } from "../../../linux/route/link.ts";
import type { IpFamily } from "../../../address/ip.ts";
import { WayoutError } from "../../../error.ts";
import type { NatDrift } from "../../backend.ts";
import { MISSING, THERE } from "../../backend.ts";
import { namesIn } from "./bpf-directory.ts";
import type { LoadedPrograms } from "./loaded-programs.ts";

const SIDES: readonly TcxSide[] = ["ingress", "egress"];
/** What stands before the IP header when a program sees a packet, by the link's layer. */
const FRAME_BYTES: Readonly<Record<string, number>> = {
  ether: ETH_HLEN,
  none: 0,
  ppp: 0,
  rawip: 0,
  ipip: 0,
  tunnel6: 0,
  sit: 0,
};

/** Of a link, what is to be attached where. */
export interface HookedLink {
  readonly index: number;
  readonly name: string;
  readonly frameBytes: number;
  readonly sides: readonly TcxSide[];
}

/**
 * The links that packets leave by: all but loopback, those that are part of another (ports of a bridge, of a bond), and the
 * head of a VRF, whose packets leave by its members. Where rules for IP are asked about what a bridge receives (br_netfilter),
 * they are before it comes to the bridge itself, so that arrival is at the ports of one that is an uplink.
 * @param filtered indexes of such bridges
 * @throws WayoutError `nat-refused` for one that is up and whose packets the programs could not read
 */
export function hookedLinksOf(
  links: readonly Link[],
  doing: string,
  filtered: ReadonlySet<number> = new Set(),
): HookedLink[] {
  const kinds = new Map(links.map(({ index, kind }) => [index, kind]));
  return links.flatMap(({ index, name, layer, kind, master, up }) => {
    if (layer === "loopback" || kind === "vrf") return [];
    const isPort = master !== undefined && filtered.has(master);
    if (master !== undefined && kinds.get(master) !== "vrf" && !isPort) return [];
    const frameBytes = FRAME_BYTES[layer];
    const sides = isPort ? (["ingress"] as const) : filtered.has(index) ? (["egress"] as const) : SIDES;
    if (frameBytes !== undefined) return [{ index, name, frameBytes, sides }];
    if (!up) return [];
    throw new WayoutError({
      code: "nat-refused",
      kind: "broken",
      doing,
      said: `the link ${name} has frames of a kind (${layer}) that the eBPF programs cannot read`,
      todo: "Choose the backend nftables, which sees packets without their frames.",
    });
  });
}

export function linksOf(namespace: NetworkNamespace): Link[] {
  using route = Rtnetlink.open(namespace);
  return route.links({ statistics: false });
}

/**
 * The address that a link has, for when the kernel cannot be asked by a program (before Linux 6.7; a next hop that is on no
 * subnet of the link): the first of each family, as nf_nat would take it then.
 */
export function firstAddresses(namespace: NetworkNamespace, hooked: readonly HookedLink[]): FirstAddress[] {
  using route = Rtnetlink.open(namespace);
  const all = route
    .addresses()
    .filter(({ scope, flags }) => scope === "global" && !flags.includes("secondary"));
  return hooked.flatMap(({ index }) =>
    ([4, 6] as const).flatMap((family) => {
      const found = all.find(
        (one) => one.interface === index && one.family === family && !isUnused(one.flags),
      );
      return found === undefined ? [] : [{ index, family, address: found.address }];
    }),
  );
}

export interface FirstAddress {
  readonly index: number;
  readonly family: IpFamily;
  readonly address: string;
}

function isUnused(flags: readonly string[]): boolean {
  return ["deprecated", "tentative", "dadfailed", "temporary"].some((flag) => flags.includes(flag));
}

/** What of the attachments is not as it shall be. */
export function attachmentDrifts(directory: string, hooked: readonly HookedLink[]): NatDrift[] {
  const strays = othersIn(directory, hooked).map(({ name }): NatDrift => ({
    object: `the eBPF program ${name}`,
    expected: MISSING,
    found: THERE,
  }));
  const lacking = hooked.flatMap((at) =>
    at.sides.flatMap((side) => {
      const fd = pinnedObject(pathOf(directory, at.index, side));
      const found = fd === undefined ? undefined : attachedTo(fd);
      if (fd !== undefined) closeFile(fd);
      if (found?.index === at.index && found.side === side) return [];
      const object = `the eBPF program at the ${side} of ${at.name}`;
      return [{ object, expected: THERE, found: fd === undefined ? MISSING : "detached" }];
    }),
  );
  return [...strays, ...lacking];
}

/**
 * Attaches what is missing; with `renew`, the programs of all are replaced by these. Nothing passes in between. Arrival comes
 * first everywhere: what has left by a new program is never met by an old one, which does not know of it.
 */
export function attachAll(
  programs: LoadedPrograms,
  namespace: NetworkNamespace,
  hooked: readonly HookedLink[],
  renew: boolean,
): void {
  const { directory } = programs.maps;
  for (const side of SIDES) {
    for (const at of hooked)
      if (at.sides.includes(side)) attachOne(directory, at, side, namespace, programs, renew);
  }
  forgetOthers(directory, hooked);
}

function attachOne(
  directory: string,
  at: HookedLink,
  side: TcxSide,
  namespace: NetworkNamespace,
  programs: LoadedPrograms,
  renew: boolean,
): void {
  const path = pathOf(directory, at.index, side);
  const known = pinnedObject(path);
  if (known !== undefined) {
    try {
      if (attachedTo(known).index === at.index) {
        if (renew) replaceProgram(known, programs.atLink(side, at.frameBytes));
        return;
      }
    } finally {
      closeFile(known);
    }
    // Its link has gone, and another has its number; or it was detached.
    removeFile(path);
  }
  const program = programs.atLink(side, at.frameBytes);
  let link: number;
  try {
    link = namespace.run(() => attachToLink(program, at.index, side));
  } catch (error) {
    // It went while we were at it.
    if (isGone(error)) return;
    throw error;
  }
  try {
    pinObject(link, path);
  } finally {
    closeFile(link);
  }
}

/** Detaches everything at once: to take a name away does so a little later. */
export function detachAll(directory: string): void {
  for (const name of attachmentNames(directory)) {
    const fd = pinnedObject(`${directory}/${name}`);
    if (fd === undefined) continue;
    try {
      detachFromLink(fd);
    } finally {
      closeFile(fd);
    }
  }
}

/** Of links that have gone, and of hooks that are none any more: a link that became the port of a bridge. */
function forgetOthers(directory: string, hooked: readonly HookedLink[]): void {
  for (const { path } of [...othersIn(directory, hooked), ...goneFrom(directory)]) {
    const fd = pinnedObject(path);
    if (fd === undefined) continue;
    detachFromLink(fd);
    closeFile(fd);
    removeFile(path);
  }
}

interface Pinned {
  readonly path: string;
  readonly name: string;
}

/** Attachments where none should be. */
function othersIn(directory: string, hooked: readonly HookedLink[]): Pinned[] {
  const wanted = new Set(hooked.flatMap(({ index, sides }) => sides.map((side) => `${side}-${index}`)));
  return pinnedIn(directory, (index) => index !== 0).filter(({ name }) => !wanted.has(name));
}

function goneFrom(directory: string): Pinned[] {
  return pinnedIn(directory, (index) => index === 0);
}

/** @param isWanted asked with the index of the link that it is attached to; 0: none */
function pinnedIn(directory: string, isWanted: (index: number) => boolean): Pinned[] {
  return attachmentNames(directory).flatMap((name) => {
    const path = `${directory}/${name}`;
    const fd = pinnedObject(path);
    if (fd === undefined) return [];
    try {
      return isWanted(attachedTo(fd).index) ? [{ path, name }] : [];
    } finally {
      closeFile(fd);
    }
  });
}

/** Whether there were attachments, and none is attached any more. Who is about to attach the first has none yet. */
export function hasLostItsLinks(directory: string): boolean {
  return attachmentNames(directory).length > 0 && pinnedIn(directory, (index) => index !== 0).length === 0;
}

function attachmentNames(directory: string): string[] {
  return (namesIn(directory) ?? []).filter((name) => /^(in|e)gress-\d+$/.test(name));
}

function pathOf(directory: string, index: number, side: TcxSide): string {
  return `${directory}/${side}-${index}`;
}
