/** Whatever becomes of the links: no packet comes outside with a pod's address, though no agent runs. */
import { expect } from "bun:test";
import type { NetworkNamespace } from "../../src/kernel/namespace.ts";
import { EbpfNat } from "../../src/nat/backends/ebpf/ebpf.ts";
import { masqueradeIntent } from "../../src/nat/intent.ts";
import { afterThisTest } from "../support/teardown.ts";
import { ask, testWith } from "../support/witness.ts";
import { OUTSIDE, UPLINK, world } from "./three-namespaces.ts";

const INTENT = masqueradeIntent("cni/blue", ["10.9.0.0/16"]);
/** What comes outside: by whichever link, from a pod's address and from the node's. */
const WATCH = `table ip watch {
  counter leaked { }
  counter translated { }
  chain pre {
    type filter hook prerouting priority raw;
    ip saddr 10.9.0.0/16 counter name leaked
    ip saddr { 203.0.113.5, 192.0.2.2 } counter name translated
  }
}`;
/** One flow that goes on, and ever new ones; they end by themselves. */
const SENDER = `ping -q -i 0.005 -w 25 ${OUTSIDE.v4} >/dev/null & for port in $(seq 2000 9000); do echo x >/dev/udp/${OUTSIDE.v4}/$port; sleep 0.003; done; wait`;

function counted(outside: NetworkNamespace, name: string): number {
  const text = ask(outside, ["nft", "list", "counter", "ip", "watch", name]);
  return Number(/packets (\d+)/.exec(text)![1]);
}

testWith(["root", "real-root", "ip", "nft", "ping", "bash"])(
  "an uplink that is made anew, a route that moves and a tunnel that comes up let nothing out untranslated",
  async () => {
    const { node, client, outside } = world();
    using nat = new EbpfNat({ namespace: node });
    afterThisTest(() => nat.remove());
    nat.apply(INTENT);
    ask(outside, ["nft", "-f", "-"], WATCH);
    const sender = client.run(() => Bun.spawn(["bash", "-c", SENDER], { stderr: "ignore" }));
    afterThisTest(() => sender.kill());
    /** Packets that come outside translated from now on; none may come otherwise. */
    const passing = async (): Promise<number> => {
      const before = counted(outside, "translated");
      await Bun.sleep(400);
      expect(counted(outside, "leaked")).toBe(0);
      return counted(outside, "translated") - before;
    };
    const ip = (namespace: NetworkNamespace, ...lines: string[]): void =>
      void ask(namespace, ["ip", "-batch", "-"], lines.join("\n"));
    expect(await passing()).toBeGreaterThan(0);
    ip(
      node,
      `link delete ${UPLINK}`,
      `link add ${UPLINK} type veth peer name internet1 netns ${outside.name}`,
    );
    ip(outside, "address add 203.0.113.1/24 dev internet1", "link set internet1 up");
    ip(
      node,
      `address add 203.0.113.5/24 dev ${UPLINK}`,
      `link set ${UPLINK} up`,
      "route add default via 203.0.113.1",
    );
    expect(await passing()).toBe(0);
    expect(nat.apply(INTENT).changed).toBe(true);
    expect(await passing()).toBeGreaterThan(0);
    ip(node, `link add tun7 type veth peer name isp7 netns ${outside.name}`);
    ip(outside, "address add 192.0.2.1/24 dev isp7", "link set isp7 up");
    ip(node, "address add 192.0.2.2/24 dev tun7", "link set tun7 up", "route replace default via 192.0.2.1");
    expect(await passing()).toBe(0);
    nat.apply(INTENT);
    expect(await passing()).toBeGreaterThan(0);
    // And back: the flow that goes on leaves as somebody else there.
    ip(node, "route replace default via 203.0.113.1");
    expect(await passing()).toBeGreaterThan(0);
    ip(node, "link delete tun7");
    expect(await passing()).toBeGreaterThan(0);
  },
);
