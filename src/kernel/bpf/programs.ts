/** Programs that others have loaded: which are attached to a link, and what they are called. */
import { closeSync } from "node:fs";
import { ERRNO, SystemError } from "../../linux/errno.ts";
import * as libc from "../libc.ts";
import type { NetworkNamespace } from "../namespace.ts";
import { TCX, type TcxSide } from "./link.ts";
import { attributes, bpf } from "./calls.ts";
import { BPF_OBJ_GET_INFO_BY_FD } from "./map.ts";

/** enum bpf_cmd */
const BPF_PROG_GET_FD_BY_ID = 13;
const BPF_PROG_QUERY = 16;

/** So many programs of one kind are told of a link; nobody chains more. */
const MOST_PROGRAMS = 64;
/** struct bpf_prog_info as far as it is read; the kernel fills in no more than there is room for. */
const INFO = { bytes: 80, name: 64, nameBytes: 16 } as const;

export interface AttachedProgram {
  /** Index of the link. */
  readonly link: number;
  readonly side: TcxSide;
  readonly id: number;
}

/**
 * The tcx programs of these links, in the order in which they run. Empty on a kernel before 6.6, which has no tcx, and
 * for a user who may not ask: links in a user namespace have none but their own user's.
 */
export function tcxPrograms(namespace: NetworkNamespace, links: readonly number[]): AttachedProgram[] {
  try {
    // The kernel looks the index up in the namespace of the caller.
    return namespace.run(() =>
      links.flatMap((link) => [...attachedTo(link, "ingress"), ...attachedTo(link, "egress")]),
    );
  } catch (error) {
    if (error instanceof SystemError && UNANSWERED.has(error.errno)) return [];
    throw error;
  }
}

const UNANSWERED: ReadonlySet<number> = new Set([ERRNO.EPERM, ERRNO.EINVAL, ERRNO.ENOSYS]);

function attachedTo(link: number, side: AttachedProgram["side"]): AttachedProgram[] {
  const ids = new Uint8Array(4 * MOST_PROGRAMS);
  const { bytes, view } = attributes();
  view.setUint32(0, link, true);
  view.setUint32(4, TCX[side], true);
  view.setBigUint64(16, libc.pointerTo(ids), true);
  view.setUint32(24, MOST_PROGRAMS, true);
  try {
    bpf(BPF_PROG_QUERY, bytes);
  } catch (error) {
    // The link has gone meanwhile, or never had a program.
    if (error instanceof SystemError && (error.errno === ERRNO.ENODEV || error.errno === ERRNO.ENOENT))
      return [];
    throw error;
  }
  const found = new DataView(ids.buffer);
  const count = Math.min(view.getUint32(24, true), MOST_PROGRAMS);
  return Array.from({ length: count }, (_, at) => ({ link, side, id: found.getUint32(at * 4, true) }));
}

/** The name under which a program was loaded, 15 letters at most; undefined when it has gone, or has none. */
export function programName(id: number): string | undefined {
  const asked = attributes();
  asked.view.setUint32(0, id, true);
  let fd: number;
  try {
    fd = bpf(BPF_PROG_GET_FD_BY_ID, asked.bytes);
  } catch (error) {
    if (error instanceof SystemError && (error.errno === ERRNO.ENOENT || UNANSWERED.has(error.errno))) {
      return undefined;
    }
    throw error;
  }
  try {
    const info = new Uint8Array(INFO.bytes);
    const { bytes, view } = attributes();
    view.setUint32(0, fd, true);
    view.setUint32(4, info.length, true);
    view.setBigUint64(8, libc.pointerTo(info), true);
    bpf(BPF_OBJ_GET_INFO_BY_FD, bytes);
    const name = Buffer.from(info.buffer, INFO.name, INFO.nameBytes).toString().replace(/\0.*$/s, "");
    return name === "" ? undefined : name;
  } finally {
    closeSync(fd);
  }
}
