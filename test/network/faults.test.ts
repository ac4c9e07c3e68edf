/** A fault at every message of building a pod's link: an error, and nothing left behind. */
import { describe, expect } from "bun:test";
import { WayoutError } from "../../src/error.ts";
import type { NetworkNamespace } from "../../src/kernel/namespace.ts";
import { Rtnetlink } from "../../src/kernel/route/rtnetlink.ts";
import { writeSysctl } from "../../src/kernel/sysctl.ts";
import { connectPod, ensureBridge, type PodLinkIntent } from "../../src/network/network.ts";
import { FaultPlan, type Fault } from "../support/faulty-transport.ts";
import { testWith } from "../support/witness.ts";
import { freshNamespace } from "../support/world.ts";

const test = testWith(["root"]);

/** Everything in a namespace that a link of a pod could leave behind. Link-local addresses come and go by themselves. */
function contents(namespace: NetworkNamespace): unknown {
  using route = Rtnetlink.open(namespace);
  return {
    links: route.links({ statistics: false }).map(({ name, up, master, mac, flags, ipv6 }) => {
      const promiscuous = flags.includes("PROMISC");
      const { accept_ra, disable_ipv6 } = ipv6 ?? {};
      return { name, up, master, mac, promiscuous, accept_ra, disable_ipv6 };
    }),
    addresses: route
      .addresses()
      .filter(({ scope }) => scope !== "link")
      .map(({ address, interface: index }) => `${address} on ${index}`)
      .sort(),
    routes: route
      .routes()
      .filter(({ table, destination }) => table === 254 && !destination.startsWith("fe80"))
      .map(({ destination, interface: index }) => `${destination} on ${index}`)
      .sort(),
    neighbours: route.neighbours().filter(({ state }) => state === "permanent"),
  };
}

const INTENT: Omit<PodLinkIntent, "bridge"> = {
  network: "net",
  container: "pod",
  interfaceName: "eth0",
  mac: "02:00:00:00:00:07",
  mtu: 1400,
  alias: "a label",
  addresses: ["10.0.0.1/24", "fd00::1/64"],
  routes: [
    { destination: "0.0.0.0/0", gateway: "10.0.0.254" },
    { destination: "::/0", gateway: "fd00::fe" },
  ],
  hairpin: true,
  isolated: true,
};

interface Case {
  readonly name: string;
  /** Before the fault is armed. */
  prepare?(node: NetworkNamespace, pod: NetworkNamespace): void;
  build(node: Rtnetlink, pod: NetworkNamespace, podRoute: Rtnetlink): void;
}

const BRIDGE = { name: "br0", gateways: ["10.0.0.254/24", "fd00::fe/64"], promiscuous: true } as const;

const CASES: readonly Case[] = [
  {
    name: "bridge and pod from nothing",
    build(node, pod, podRoute) {
      const { link, created } = ensureBridge(node, BRIDGE);
      try {
        connectPod(node, pod, { ...INTENT, bridge: link.index }, podRoute);
      } catch (error) {
        // Who made the bridge takes it away again: that is one level up, in attachment and cni.
        if (created) node.deleteLink(link.index);
        throw error;
      }
    },
  },
  {
    name: "a pod on a bridge that is there",
    prepare(node) {
      using route = Rtnetlink.open(node);
      ensureBridge(route, BRIDGE);
    },
    build(node, pod, podRoute) {
      connectPod(node, pod, { ...INTENT, bridge: node.link("br0")!.index }, podRoute);
    },
  },
  {
    name: "a gateway added by force to a bridge that is there",
    prepare(node) {
      using route = Rtnetlink.open(node);
      ensureBridge(route, { name: "br0", gateways: ["10.9.0.1/24", "10.9.1.1/24"] });
    },
    build(node) {
      ensureBridge(node, { ...BRIDGE, promiscuous: false, force: true });
    },
  },
  {
    name: "a bare bridge, down and without IPv6, completed",
    prepare(node) {
      using route = Rtnetlink.open(node);
      writeSysctl(node, "net.ipv6.conf.default.disable_ipv6", "1");
      route.createBridge({ name: "br0" });
    },
    build(node) {
      const { added } = ensureBridge(node, BRIDGE);
      expect(added.length).toBe(2);
    },
  },
  {
    name: "a pod without a bridge",
    build(node, pod, podRoute) {
      const routed = { gateways: ["10.0.0.254", "fd00::fe"], addresses: ["10.0.0.1/32", "fd00::1/128"] };
      connectPod(node, pod, { ...INTENT, ...routed }, podRoute);
    },
  },
];

const FAULTS: readonly Fault[] = ["refused", "unsent", "answer lost"];

for (const scene of CASES) {
  describe(scene.name, () => {
    for (const fault of FAULTS) {
      test(`every message ${fault}`, () => {
        let faults = 0;
        for (let nth = 1; ; nth++) {
          const [node, pod] = [freshNamespace(), freshNamespace()];
          // Loopback down, so that raising it is undone, too.
          for (const namespace of [node, pod]) {
            using route = Rtnetlink.open(namespace);
            route.setLink("lo", { up: false });
          }
          scene.prepare?.(node, pod);
          const before = { node: contents(node), pod: contents(pod) };
          const plan = new FaultPlan(nth, fault);
          using nodeRoute = plan.open(node);
          using podRoute = plan.open(pod);
          let failure: unknown;
          try {
            scene.build(nodeRoute, pod, podRoute);
          } catch (error) {
            failure = error;
          }
          if (!plan.happened) {
            expect(failure).toBeUndefined();
            break;
          }
          expect({ nth, failure }).toEqual({ nth, failure: expect.any(Error) });
          if (failure instanceof WayoutError)
            expect(failure.message).toMatch(/^(connecting|preparing|reading) /);
          expect({ nth, node: contents(node), pod: contents(pod) }).toEqual({ nth, ...before });
          faults++;
        }
        expect(faults).toBeGreaterThan(4);
      });
    }
  });
}
