import { expect, test } from "bun:test";
import { join } from "node:path";
import { Btf } from "../../../src/kernel/bpf/btf.ts";
import { DropWatch } from "../../../src/kernel/bpf/drops.ts";
import { Assembler } from "../../../src/linux/bpf/instructions.ts";
import { VerifierError } from "../../../src/kernel/bpf/calls.ts";
import { attachRawTracepoint } from "../../../src/kernel/bpf/loader.ts";
import { ask, askJson, run, testWith } from "../../support/witness.ts";
import { freshNamespace } from "../../support/world.ts";

/** left 10.9.0.1 — 10.9.0.2 right, which forwards nothing and drops UDP to port 9. */
function pair() {
  const left = freshNamespace("left");
  const right = freshNamespace("right");
  ask(left, ["ip", "link", "add", "l0", "type", "veth", "peer", "name", "r0", "netns", right.name!]);
  for (const [namespace, link, last] of [
    [left, "l0", 1],
    [right, "r0", 2],
  ] as const) {
    ask(namespace, ["ip", "addr", "add", `10.9.0.${last}/24`, "dev", link]);
    ask(namespace, ["ip", "-6", "addr", "add", `fd09::${last}/64`, "dev", link, "nodad"]);
    ask(namespace, ["ip", "link", "set", link, "up"]);
  }
  return { left, right };
}

testWith(["real-root", "nft"])("the kernel's reason, the packet and the place of a drop", () => {
  const { left, right } = pair();
  ask(
    right,
    ["nft", "-f", "-"],
    "table inet t {\n chain in {\n type filter hook input priority 0\n meta l4proto udp th dport 9 drop\n }\n}",
  );
  const [{ ifindex }] = askJson<[{ ifindex: number }]>(right, ["ip", "-j", "link", "show", "r0"]);
  using watch = DropWatch.open(["10.9.0.1", "fd09::1"]);
  run(left, ["bash", "-c", "echo hi > /dev/udp/10.9.0.2/9"]);
  run(left, ["bash", "-c", "echo hi > /dev/udp/fd09::2/9"]);
  const drops = watch.read().filter((drop) => drop.reason === "NETFILTER_DROP");
  expect(drops.map((drop) => drop.summary.replace(/:\d{5}/, ":P"))).toEqual([
    "10.9.0.1:P → 10.9.0.2:9 udp 3 bytes",
    "[fd09::1]:P → [fd09::2]:9 udp 3 bytes",
  ]);
  for (const drop of drops) {
    expect(drop.namespaceInode).toBe(right.inode);
    expect(drop.interfaceIndex).toBe(ifindex);
    expect(Math.abs(drop.timeUs / 1000 - Date.now())).toBeLessThan(2000);
  }
});

testWith(["real-root"])("packets of other addresses are not noted", () => {
  const { left } = pair();
  using watch = DropWatch.open(["192.0.2.1"]);
  run(left, ["bash", "-c", "echo hi > /dev/udp/10.9.0.2/9"]);
  expect(watch.read()).toEqual([]);
});

testWith(["real-root"])("a program that the verifier refuses comes back with its reason", () => {
  const program = new Assembler().load(0, 0, 0, 8).exit().assemble();
  expect(() => attachRawTracepoint("kfree_skb", "wrong", program)).toThrow(VerifierError);
  expect(() => attachRawTracepoint("kfree_skb", "wrong", program)).toThrow(/R0 !read_ok/);
});

test("BTF knows fields inside anonymous members, and enums", () => {
  const btf = Btf.ofKernel(["skb_drop_reason", "sk_buff", "no_such_struct"]);
  expect(btf.enumNames("skb_drop_reason").get(2)).toBe("SKB_DROP_REASON_NOT_SPECIFIED");
  // `next` stands first, in an anonymous structure inside an anonymous union.
  expect(btf.offsetOf("sk_buff", "next")).toBe(0);
  expect(btf.offsetOf("sk_buff", "prev")).toBe(8);
  expect(() => btf.offsetOf("sk_buff", "nonsense")).toThrow(/has no field nonsense/);
  expect(() => btf.offsetOf("no_such_struct", "x")).toThrow(/has no struct no_such_struct/);
  expect(() => new Btf(new Uint8Array(64), [])).toThrow("this is no BTF");
});

testWith(["unshare"])("who may not load BPF is told so", () => {
  const code = `
    const { DropWatch } = await import(${JSON.stringify(join(import.meta.dir, "../../../src/kernel/bpf/drops.ts"))});
    try { DropWatch.open(["192.0.2.1"]) } catch (error) { console.log(error.name, error.code) }`;
  expect(ask(undefined, ["unshare", "-Ur", process.execPath, "-e", code])).toBe("SystemError EPERM\n");
});

testWith(["root", "unshare"])("a kernel without reasons is not taken for a user without rights", () => {
  const drops = join(import.meta.dir, "../../../src/kernel/bpf/drops.ts");
  const opens = `const { DropWatch } = await import("${drops}"); DropWatch.open(["10.9.0.1"]).close();`;
  const hidden = "mount --bind /dev/null /sys/kernel/btf/vmlinux && mount -t tmpfs tmpfs /run";
  // The second as an ordinary user's root: to become root would not help him here.
  for (const namespaces of ["-m", "-Urm"]) {
    const script = `${hidden} && exec ${process.execPath} -e '${opens}'`;
    const { exitCode, stderr } = run(undefined, ["unshare", namespaces, "sh", "-c", script]);
    expect([namespaces, exitCode]).toEqual([namespaces, 1]);
    expect(stderr).toContain("this kernel has none");
  }
});
