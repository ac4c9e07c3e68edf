/** Programs of a link's traffic control, attached by a link object of the kernel (tcx, Linux 6.6). */
import { SystemError } from "../../linux/errno.ts";
import type { BpfProgram } from "../../linux/bpf/object.ts";
import type { BpfMap } from "./map.ts";
import { objectInfo } from "./map.ts";
import { attributes, bpf, BPF_LINK_CREATE, loadProgram } from "./calls.ts";

/** enum bpf_attach_type */
export const TCX = { ingress: 46, egress: 47 } as const;
export type TcxSide = keyof typeof TCX;

/** Before those that are there. */
const BPF_F_BEFORE = 8;
/** enum bpf_cmd */
const BPF_LINK_UPDATE = 29;
const BPF_LINK_DETACH = 34;
const PSEUDO_MAP_FD = 1;
const PSEUDO_MAP_VALUE = 2;
const PSEUDO_FUNCTION = 4;

/**
 * Loads a program of traffic control with these maps in the place of their names. Constants are the first value of a
 * map of one, under their section's name.
 * @throws SystemError EPERM; VerifierError; Error when a map is missing
 */
export function loadTrafficProgram(
  name: string,
  program: BpfProgram,
  maps: ReadonlyMap<string, BpfMap>,
  license: string,
): number {
  const instructions = program.instructions.slice();
  const view = new DataView(instructions.buffer);
  const load = (instruction: number, kind: number, number: number, offset: number): void => {
    const at = instruction * 8;
    view.setUint8(at + 1, (view.getUint8(at + 1) & 15) | (kind << 4));
    view.setInt32(at + 4, number, true);
    view.setUint32(at + 12, offset, true);
  };
  const fdOf = (map: string): number => {
    const found = maps.get(map);
    if (found === undefined) throw new Error(`the program ${name} needs the map ${map}`);
    return found.fd;
  };
  for (const one of program.relocations) {
    if ("map" in one) load(one.instruction, PSEUDO_MAP_FD, fdOf(one.map), 0);
    else if ("data" in one) load(one.instruction, PSEUDO_MAP_VALUE, fdOf(one.data), one.offset);
    else load(one.instruction, PSEUDO_FUNCTION, one.target - one.instruction - 1, 0);
  }
  return loadProgram(name, instructions, "trafficControl", { license, functions: program.functions });
}

/**
 * Attaches a program behind those that are there, or before them, and returns the descriptor of the link object; the caller
 * must be in the namespace of the network link.
 * @throws SystemError EINVAL before Linux 6.6; ENODEV
 */
export function attachToLink(
  program: number,
  index: number,
  side: TcxSide,
  place: "last" | "first" = "last",
): number {
  const { bytes, view } = attributes();
  view.setUint32(0, program, true);
  view.setUint32(4, index, true);
  view.setUint32(8, TCX[side], true);
  if (place === "first") view.setUint32(12, BPF_F_BEFORE, true);
  return bpf(BPF_LINK_CREATE, bytes);
}

/** Puts another program in the place of the one that a link object holds, with no packet between them. */
export function replaceProgram(link: number, program: number): void {
  const { bytes, view } = attributes();
  view.setUint32(0, link, true);
  view.setUint32(4, program, true);
  bpf(BPF_LINK_UPDATE, bytes);
}

/** Which network link an object is attached to; 0 when that has gone, or it was detached. */
export interface AttachedTo {
  readonly index: number;
  readonly side: TcxSide | undefined;
  readonly program: number;
}

/** @throws SystemError EINVAL when it is no link object */
export function attachedTo(link: number): AttachedTo {
  // struct bpf_link_info: type, id, prog_id, then at 16 of tcx: ifindex, attach_type.
  const info = objectInfo(link, 24);
  const type = info.getUint32(20, true);
  return {
    index: info.getUint32(16, true),
    side: type === TCX.ingress ? "ingress" : type === TCX.egress ? "egress" : undefined,
    program: info.getUint32(8, true),
  };
}

/** Whether an error says that there is no such thing (any more). */
export function isGone(error: unknown): boolean {
  return error instanceof SystemError && (error.code === "ENODEV" || error.code === "ENOENT");
}

/** Detaches it at once; the object stays. Nothing happens where it is detached already. */
export function detachFromLink(link: number): void {
  const { bytes, view } = attributes();
  view.setUint32(0, link, true);
  try {
    bpf(BPF_LINK_DETACH, bytes);
  } catch (error) {
    if (!(error instanceof SystemError && error.code === "ENOLINK")) throw error;
  }
}
