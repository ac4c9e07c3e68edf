/** Connections that our eBPF programs track are shown beside the kernel's, by the same commands and filters. */
import { expect } from "bun:test";
import { join } from "node:path";
import { echo } from "../../src/kernel/echo.ts";
import { masqueradeIntent } from "../../src/nat/intent.ts";
import { EbpfNat } from "../../src/nat/backends/ebpf/ebpf.ts";
import { CLIENT, NODE, OUTSIDE, world } from "../nat/three-namespaces.ts";
import { afterThisTest } from "../support/teardown.ts";
import { ask, run, testWith } from "../support/witness.ts";

const WAYOUT = join(import.meta.dir, "..", "..", "bin", "wayout");

testWith(["root", "real-root", "ip", "curl"])(
  "are listed, filtered and counted like the kernel's",
  async () => {
    const { node, client, fetch } = world();
    const nat = new EbpfNat({ namespace: node });
    afterThisTest(() => {
      nat.remove();
      nat[Symbol.dispose]();
    });
    nat.apply(masqueradeIntent("cni/blue", ["10.9.0.0/24", "fd00:9::/64"]));
    const { port } = await fetch(OUTSIDE.v4);
    expect(echo(client, OUTSIDE.v4, 1000)).toBeDefined();
    const list = (...args: string[]): string =>
      ask(node, [WAYOUT, "conntrack", "list", "--no-pods", ...args]);
    const lines = list().trimEnd().split("\n");
    expect(lines).toHaveLength(2);
    const tcp = lines.find((line) => line.startsWith("tcp"))!;
    expect(tcp).toMatch(/^tcp +TIME_WAIT +\d+s  /);
    expect(tcp).toContain(`↔ ${NODE.v4}:${port} → ${OUTSIDE.v4}:8080`);
    expect(tcp).toMatch(/↑\d+\/\d+B ↓\d+\/\d+B.* eBPF$/);
    const icmp = lines.find((line) => line.startsWith("icmp"))!;
    expect(icmp).toMatch(
      new RegExp(`${CLIENT.v4}#(\\d+) ↔ ${NODE.v4}#\\d+ → ${OUTSIDE.v4} type 8 code 0 .* eBPF$`),
    );
    expect(list("--proto", "icmp", "--snat").trimEnd()).toContain("icmp");
    expect(list("--dst", "192.0.2.0/24")).toBe("");
    const [flow] = JSON.parse(list("--json", "--proto", "tcp")) as { flags: string[]; translation: object }[];
    expect(flow!.flags).toEqual(["seen-reply", "confirmed", "src-nat", "src-nat-done", "ebpf"]);
    expect(flow!.translation).toMatchObject({
      source: { address: CLIENT.v4 },
      sourceOutside: { address: NODE.v4, port },
    });
    expect(ask(node, ["conntrack", "-L"])).toBe("");
    const { stderr } = run(node, [WAYOUT, "conntrack", "list", "--no-pods"]);
    expect(stderr).toBe("2 flows\n");
    const stats = JSON.parse(ask(node, [WAYOUT, "conntrack", "stats", "--json"])) as {
      kinds: { protocol: string }[];
    };
    expect(stats.kinds.map(({ protocol }) => protocol).sort()).toEqual(["icmp", "tcp"]);
  },
);
