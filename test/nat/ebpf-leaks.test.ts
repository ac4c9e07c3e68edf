/** Whatever becomes of the links: no packet comes outside with a pod's address, whether an agent runs or not. */
import { expect } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { NetworkNamespace } from "../../src/kernel/namespace.ts";
import { EbpfNat } from "../../src/nat/backends/ebpf/ebpf.ts";
import { masqueradeIntent } from "../../src/nat/intent.ts";
import { RunningAgent } from "../agent/running-agent.ts";
import { afterThisTest } from "../support/teardown.ts";
import { until } from "../support/until.ts";
import { ask, testWith } from "../support/witness.ts";
import { OUTSIDE, UPLINK, world } from "./three-namespaces.ts";

const PODS = "10.9.0.0/16";
const INTENT = masqueradeIntent("cni/blue", [PODS]);
/** What comes outside: by whichever link, from a pod's address and from the node's. */
const WATCH = `table ip watch {
  counter leaked { }
  counter translated { }
  chain pre {
    type filter hook prerouting priority raw;
    ip saddr ${PODS} counter name leaked
    ip saddr { 203.0.113.5, 192.0.2.2 } counter name translated
  }
}`;
/** One flow that goes on, and ever new ones, until it is killed. */
const SENDER = `trap 'kill $(jobs -p)' EXIT; ping -q -i 0.005 -w 300 ${OUTSIDE.v4} >/dev/null & while :; do for port in $(seq 2000 9000); do echo x >/dev/udp/${OUTSIDE.v4}/$port; sleep 0.003; done; done`;
/** So many packets that try it tell whether they get through. */
const SEVERAL = 10;

function packetsIn(text: string): number {
  return Number(/packets (\d+)/.exec(text)![1]);
}

function watched() {
  const { node, client, outside } = world();
  ask(outside, ["nft", "-f", "-"], WATCH);
  const counted = (name: string): number =>
    packetsIn(ask(outside, ["nft", "list", "counter", "ip", "watch", name]));
  const held = (): number =>
    packetsIn(ask(node, ["nft", "list", "chain", "inet", "wayout-guard", "unhooked"]));
  const more = async (count: () => number): Promise<void> => {
    const before = count();
    await until(() => count() >= before + SEVERAL, "more comes");
  };
  const ip = (namespace: NetworkNamespace, ...lines: string[]): void =>
    void ask(namespace, ["ip", "-batch", "-"], lines.join("\n"));
  return {
    node,
    sends: (): void => {
      const sender = client.run(() => Bun.spawn(["bash", "-c", SENDER], { stderr: "ignore" }));
      afterThisTest(() => sender.kill());
    },
    /** What comes outside is translated, and only that comes. */
    passes: async (): Promise<void> => {
      await more(() => counted("translated"));
      expect(counted("leaked")).toBe(0);
    },
    /** Packets try to leave, and none comes outside. */
    isHeld: async (): Promise<void> => {
      const before = counted("translated");
      await more(held);
      expect([counted("leaked"), counted("translated")]).toEqual([0, before]);
    },
    /** The uplink is taken away, and another is there in its place. */
    renewUplink: (): void => {
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
        "route replace default via 203.0.113.1",
      );
    },
    /** As a VPN that comes up, and takes the default route. */
    raiseTunnel: (): void => {
      ip(node, `link add tun7 type veth peer name isp7 netns ${outside.name}`);
      ip(outside, "address add 192.0.2.1/24 dev isp7", "link set isp7 up");
      ip(
        node,
        "address add 192.0.2.2/24 dev tun7",
        "link set tun7 up",
        "route replace default via 192.0.2.1",
      );
    },
    routeBack: (): void => ip(node, "route replace default via 203.0.113.1"),
    dropTunnel: (): void => ip(node, "link delete tun7"),
  };
}

const test = testWith(["root", "real-root", "ip", "nft", "ping", "bash"]);

test("an uplink that is made anew, a route that moves and a tunnel that comes up let nothing out untranslated", async () => {
  const { node, sends, passes, isHeld, renewUplink, raiseTunnel, routeBack, dropTunnel } = watched();
  using nat = new EbpfNat({ namespace: node });
  afterThisTest(() => nat.remove());
  nat.apply(INTENT);
  sends();
  await passes();
  renewUplink();
  await isHeld();
  expect(nat.apply(INTENT).changed).toBe(true);
  await passes();
  raiseTunnel();
  await isHeld();
  nat.apply(INTENT);
  await passes();
  // And back: the flow that goes on leaves as somebody else there.
  routeBack();
  await passes();
  dropTunnel();
  await passes();
});

test("with an agent they are ours in a moment, and nothing leaves untranslated meanwhile", async () => {
  const { node, sends, passes, renewUplink, raiseTunnel, routeBack, dropTunnel } = watched();
  const directory = mkdtempSync(join(tmpdir(), "wayout-leaks-"));
  afterThisTest(() => rmSync(directory, { recursive: true }));
  const path = join(directory, "policy.yaml");
  writeFileSync(path, `sources: [${PODS}]\nbackend: ebpf\n`);
  afterThisTest(() => {
    using nat = new EbpfNat({ namespace: node });
    nat.remove();
  });
  const agent = await RunningAgent.on(node, "--config", path);
  await agent.says("policy", { level: "info" });
  sends();
  await passes();
  for (const change of [renewUplink, raiseTunnel, routeBack, dropTunnel, raiseTunnel, renewUplink]) {
    change();
    await passes();
  }
  // Nobody looks after it any more: what comes now is held, and what was there goes on.
  await agent.stop("SIGKILL");
  await passes();
});
