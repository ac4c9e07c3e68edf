/** Unix sockets as the kernel lists them (include/uapi/linux/unix_diag.h). */
import { attribute, AttributeSet } from "./netlink/attributes.ts";
import { string, struct } from "./netlink/codec.ts";
import { request, type MessageSpec } from "./netlink/message.ts";
import { AF_UNIX } from "./socket.ts";
import { SOCK_DIAG_BY_FAMILY } from "./socket-diag.ts";

/** UDIAG_SHOW_NAME, UDIAG_SHOW_VFS */
const NAME_AND_FILE = 0x1 | 0x2;
/** The bit of TCP_LISTEN, which Unix sockets use as well. */
const LISTENING = 1 << 10;

/** What is asked and how it is answered. A function: few runs need it, and each plugin call would pay for building it. */
export function unixListeners() {
  const unixDiagVfs = struct("unix_diag_vfs", { inode: "u32", device: "u32" });
  const question = {
    name: "SOCK_DIAG_BY_FAMILY",
    type: SOCK_DIAG_BY_FAMILY,
    header: struct("unix_diag_req", {
      family: "u8",
      protocol: "u8",
      pad: "u16",
      states: "u32",
      inode: "u32",
      show: "u32",
      cookie0: "u32",
      cookie1: "u32",
    }),
    attributes: new AttributeSet(() => ({})),
  } as const satisfies MessageSpec;
  const answer = {
    name: "SOCK_DIAG_BY_FAMILY",
    type: SOCK_DIAG_BY_FAMILY,
    header: struct("unix_diag_msg", {
      family: "u8",
      type: "u8",
      state: "u8",
      pad: "u8",
      inode: "u32",
      cookie0: "u32",
      cookie1: "u32",
    }),
    attributes: new AttributeSet(() => ({
      /** As it was bound; an abstract name begins with NUL and reads as "". */
      path: attribute("UNIX_DIAG_NAME", 0, string),
      file: attribute("UNIX_DIAG_VFS", 1, unixDiagVfs),
    })),
  } as const satisfies MessageSpec;
  const asked = { family: AF_UNIX, states: LISTENING, show: NAME_AND_FILE };
  return { request: request(question, "listing the Unix sockets that listen", asked, {}), answer };
}

/** `major:minor`, as mountinfo writes the kernel's own number of a device (MINORBITS of include/linux/kdev_t.h). */
export function deviceText(device: number): string {
  return `${device >>> 20}:${device & 0xf_ff_ff}`;
}
