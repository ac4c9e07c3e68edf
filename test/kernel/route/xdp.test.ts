/** XDP programs on a link: seen with their mode and number, as ip sees them. */
import { expect } from "bun:test";
import { closeSync } from "node:fs";
import * as libc from "../../../src/kernel/libc.ts";
import { request } from "../../../src/linux/netlink/message.ts";
import { RTM_NEWLINK } from "../../../src/linux/route/link-attributes.ts";
import { Rtnetlink } from "../../../src/kernel/route/rtnetlink.ts";
import { askJson, testWith } from "../../support/witness.ts";
import { freshNamespace } from "../../support/world.ts";

const BPF_PROG_LOAD = 5;
const BPF_PROG_TYPE_XDP = 6;
const BPF_SYSCALL = process.arch === "arm64" ? 280 : 321;
/** IFLA_XDP_FLAGS (include/uapi/linux/if_link.h). */
const XDP_FLAGS_SKB_MODE = 2;
const XDP_FLAGS_DRV_MODE = 4;

/** r0 = XDP_PASS; exit */
function loadPass(): number {
  const program = BigUint64Array.of(0x0000_0002_0000_00b7n, 0x95n);
  const license = Buffer.from("GPL\0");
  const attributes = new Uint8Array(128);
  const view = new DataView(attributes.buffer);
  view.setUint32(0, BPF_PROG_TYPE_XDP, true);
  view.setUint32(4, program.length, true);
  view.setBigUint64(8, libc.pointerTo(program), true);
  view.setBigUint64(16, libc.pointerTo(license), true);
  return libc.syscallWithBuffer("bpf", BPF_SYSCALL, BPF_PROG_LOAD, attributes);
}

function attach(route: Rtnetlink, index: number, fd: number, flags: number): void {
  route.connection.request(
    request(RTM_NEWLINK, "attaching an XDP program", { index }, { xdp: { fd, flags } }),
  );
}

testWith(["real-root", "ip"])("a program is seen with its mode and number, and gone when it is gone", () => {
  const namespace = freshNamespace();
  using route = Rtnetlink.open(namespace);
  route.createVeth({ name: "v0", peer: { name: "v1" } });
  const index = route.link("v0")!.index;
  expect(route.link("v0")!.xdp).toBeUndefined();
  const fd = loadPass();
  try {
    for (const [flags, mode] of [
      [XDP_FLAGS_SKB_MODE, "generic"],
      [XDP_FLAGS_DRV_MODE, "driver"],
    ] as const) {
      attach(route, index, fd, flags);
      const [told] = askJson<{ xdp: { prog: { id: number } } }[]>(namespace, [
        "ip",
        "-j",
        "-d",
        "link",
        "show",
        "v0",
      ]);
      expect(route.link("v0")!.xdp).toEqual({ mode, programIds: [told!.xdp.prog.id] });
      expect(route.link("v1")!.xdp).toBeUndefined();
      attach(route, index, -1, flags);
      expect(route.link("v0")!.xdp).toBeUndefined();
    }
  } finally {
    closeSync(fd);
  }
});
