/** `vlan`, `vlanTrunk`, `preserveDefaultVlan`: exactly what the kernel is asked for, and what a refusal leaves. */
import { expect, test } from "bun:test";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { portVlans } from "../../src/cni/vlan.ts";
import type { NetworkNamespace } from "../../src/kernel/namespace.ts";
import type { LinkState } from "../../src/linux/route/link-state.ts";
import { afterThisTest } from "../support/teardown.ts";
import { ask, askJson, run, testWith } from "../support/witness.ts";
import { freshNamespace } from "../support/world.ts";
import { addressesOn, linkNames, links, reserved, stateOf } from "./node.ts";
import {
  bridgeNetwork,
  call,
  environmentOf,
  freshPod,
  must,
  type Answer,
  type Attachment,
  type CniJson,
  type Configuration,
} from "./plugin.ts";

const withPrograms = testWith(["root", "ip", "nft", "ping", "sysctl"]);
const KERNEL = join(import.meta.dir, "..", "support", "vlan-kernel.ts");

/** A node on a kernel that filters VLANs, as far as messages go. */
class VlanNode {
  readonly node = freshNamespace("node");
  readonly #record: string;

  constructor() {
    const directory = mkdtempSync(join(tmpdir(), "wayout-vlan-"));
    afterThisTest(() => rmSync(directory, { recursive: true }));
    this.#record = join(directory, "record");
  }

  /** @param refused a request that contains this text is refused */
  call(command: string, conf: Configuration, attachment: Partial<Attachment>, refused = ""): Answer {
    const environment = {
      ...environmentOf(command, attachment),
      RECORD: this.#record,
      REFUSED: refused,
    };
    const ran = run(this.node, [process.execPath, KERNEL], JSON.stringify(conf), environment);
    return { ...ran, json: ran.stdout === "" ? undefined : (JSON.parse(ran.stdout) as CniJson) };
  }

  /** What was asked for about VLANs since the last time, ports by their names. */
  requests(): string[] {
    const text = existsSync(this.#record) ? readFileSync(this.#record, "utf8") : "";
    const names = new Map(links(this.node).map(({ ifindex, ifname }) => [String(ifindex), ifname]));
    const lines = text.split("\n").slice(this.#seen, -1);
    this.#seen += lines.length;
    return lines.map((line) =>
      line.replace(/(?<=dev |set )\d+/, (index) => names.get(index) ?? `index ${index}`),
    );
  }
  #seen = 0;
}

/** The host's end of the gateway's pair: what is in the bridge and no pod's. */
function gatewayPort(node: NetworkNamespace, result: CniJson): string {
  const ports = links(node).filter(({ master }) => master === "cni0");
  return ports.find(({ ifname }) => ifname !== result.interfaces![1]!.name)!.ifname;
}

withPrograms(
  "vlan: the bridge filters, the pod's port and the gateway's are access ports, the gateway is cni0.100",
  () => {
    const world = new VlanNode();
    const { node } = world;
    const ranges = [[{ subnet: "10.42.0.0/24" }], [{ subnet: "fd00:42::/64" }]];
    const conf = bridgeNetwork({ vlan: 100, ipam: { type: "host-local", ranges } });
    const pod = freshPod("one");
    const result = must(world.call("ADD", conf, pod));
    const port = result.interfaces![1]!.name;
    const gateway = gatewayPort(node, result);
    expect(world.requests()).toEqual([
      "ip link set cni0 type bridge vlan_filtering 1",
      `bridge vlan del dev ${gateway} vid 1`,
      `bridge vlan add dev ${gateway} vid 100 pvid untagged`,
      `bridge vlan del dev ${port} vid 1`,
      `bridge vlan add dev ${port} vid 100 pvid untagged`,
    ]);
    expect(result.interfaces!.map(({ name }) => name)).toEqual(["cni0", port, "eth0", "cni0.100"]);
    expect(result.interfaces![3]!.mac).toBe(
      askJson<{ address: string }[]>(node, ["ip", "-j", "link", "show", "cni0.100"])[0]!.address,
    );
    expect(addressesOn(node, "cni0.100")).toEqual(["10.42.0.1/24", "fd00:42::1/64"]);
    expect(addressesOn(node, "cni0")).toEqual([]);
    for (const name of [gateway, "cni0.100", port, "cni0"]) {
      expect(links(node).find(({ ifname }) => ifname === name)!.flags).toContain("UP");
    }
    // The real bridge filters nothing: the way from the pod over the bridge to cni0.100 is there.
    expect(run(pod.namespace, ["ping", "-c1", "-W5", "10.42.0.1"]).exitCode).toBe(0);
    must(world.call("CHECK", { ...conf, prevResult: result }, pod));

    const second = must(world.call("ADD", conf, freshPod("two")));
    expect(world.requests()).toEqual([
      `bridge vlan del dev ${second.interfaces![1]!.name} vid 1`,
      `bridge vlan add dev ${second.interfaces![1]!.name} vid 100 pvid untagged`,
    ]);
    // As a run leaves it that was killed between making the pair and its VLAN.
    ask(node, ["ip", "link", "set", "cni0.100", "down"]);
    const third = must(world.call("ADD", conf, freshPod("three")));
    expect(world.requests()).toEqual([
      `bridge vlan del dev ${gateway} vid 1`,
      `bridge vlan add dev ${gateway} vid 100 pvid untagged`,
      `bridge vlan del dev ${third.interfaces![1]!.name} vid 1`,
      `bridge vlan add dev ${third.interfaces![1]!.name} vid 100 pvid untagged`,
    ]);
    must(world.call("CHECK", { ...conf, prevResult: result }, pod));
    ask(node, ["ip", "address", "flush", "dev", "cni0.100"]);
    const broken = world.call("CHECK", { ...conf, prevResult: result }, pod);
    expect(broken.json).toMatchObject({ code: 110 });
    expect(broken.json!.msg).toContain("cni0.100 lacks the gateway address 10.42.0.1/24");
    must(world.call("DEL", conf, pod));
    for (const container of ["two", "three"]) must(world.call("DEL", conf, { container }));
    expect(world.requests()).toEqual([]);
    expect(reserved(conf)).toEqual([]);
  },
);

withPrograms("preserveDefaultVlan: every port of ours stays in VLAN 1, the gateway's too", () => {
  const world = new VlanNode();
  const result = must(world.call("ADD", bridgeNetwork({ vlan: 7, preserveDefaultVlan: true }), freshPod()));
  const [port, gateway] = [result.interfaces![1]!.name, gatewayPort(world.node, result)];
  expect(world.requests()).toEqual([
    "ip link set cni0 type bridge vlan_filtering 1",
    `bridge vlan add dev ${gateway} vid 7 pvid untagged`,
    `bridge vlan add dev ${port} vid 7 pvid untagged`,
  ]);
});

const TRUNK = [{ minID: 100, maxID: 110 }, { id: 105 }, { id: 111 }, { minID: 300, maxID: 300, id: 42 }];

withPrograms(
  "vlanTrunk: tagged, ranges joined, no VLAN twice, VLAN 1 without a tag; the gateway's address is the bridge's own",
  () => {
    const world = new VlanNode();
    for (const preserveDefaultVlan of [true, false]) {
      const conf = bridgeNetwork({ vlanTrunk: TRUNK, preserveDefaultVlan });
      const result = must(world.call("ADD", conf, freshPod()));
      const port = result.interfaces![1]!.name;
      expect(world.requests()).toEqual([
        ...(preserveDefaultVlan
          ? ["ip link set cni0 type bridge vlan_filtering 1"]
          : [`bridge vlan del dev ${port} vid 1`]),
        `bridge vlan add dev ${port} vid 42`,
        `bridge vlan add dev ${port} vid 100-111`,
        `bridge vlan add dev ${port} vid 300`,
        `bridge vlan add dev ${port} vid 1 pvid untagged`,
      ]);
      expect(result.interfaces).toHaveLength(3);
      expect(addressesOn(world.node, "cni0")).toEqual(["10.42.0.1/24"]);
    }
  },
);

withPrograms("vlanTrunk with vlan: the pod's frames without a tag are of vlan, and so is the gateway", () => {
  const world = new VlanNode();
  const conf = bridgeNetwork({ vlan: 105, vlanTrunk: TRUNK });
  const result = must(world.call("ADD", conf, freshPod()));
  const [port, gateway] = [result.interfaces![1]!.name, gatewayPort(world.node, result)];
  expect(world.requests()).toEqual([
    "ip link set cni0 type bridge vlan_filtering 1",
    `bridge vlan del dev ${gateway} vid 1`,
    `bridge vlan add dev ${gateway} vid 105 pvid untagged`,
    `bridge vlan del dev ${port} vid 1`,
    `bridge vlan add dev ${port} vid 42`,
    `bridge vlan add dev ${port} vid 100-111`,
    `bridge vlan add dev ${port} vid 300`,
    `bridge vlan add dev ${port} vid 105 pvid untagged`,
  ]);
  expect(addressesOn(world.node, "cni0.105")).toEqual(["10.42.0.1/24"]);
});

test("a port leaves the VLAN that its bridge has given it, whichever that is", () => {
  const wanted = { vlan: 7, vlanTrunk: [], preserveDefaultVlan: false };
  const bridge = (defaultVlan: number) => ({ bridge: { vlanFiltering: true, defaultVlan } }) as LinkState;
  const vlans = [{ first: 7, last: 7, pvid: true, untagged: true }];
  expect(portVlans(wanted, bridge(10))).toEqual({ vlans, dropDefaultVlan: 10 });
  expect(portVlans(wanted, bridge(0))).toEqual({ vlans });
  expect(portVlans({ ...wanted, preserveDefaultVlan: true }, bridge(10))).toEqual({ vlans });
});

withPrograms("a layer 2 network with vlan has no gateway; without VLANs nothing about them is asked", () => {
  const world = new VlanNode();
  const layer2 = { ipam: {}, isDefaultGateway: false, ipMasq: false };
  const result = must(world.call("ADD", bridgeNetwork({ vlan: 4094, ...layer2 }), freshPod()));
  expect(world.requests()).toEqual([
    "ip link set cni0 type bridge vlan_filtering 1",
    `bridge vlan del dev ${result.interfaces![1]!.name} vid 1`,
    `bridge vlan add dev ${result.interfaces![1]!.name} vid 4094 pvid untagged`,
  ]);
  expect(links(world.node)).toHaveLength(3);
  // A bridge that filters already, on which a network without VLANs is put.
  must(world.call("ADD", bridgeNetwork({ vlan: 0, vlanTrunk: [], preserveDefaultVlan: false }), freshPod()));
  expect(world.requests()).toEqual([]);
});

const refusals: readonly (readonly [string, Configuration, string])[] = [
  ["the bridge's filtering", { vlan: 100 }, "vlan_filtering"],
  ["the gateway's VLAN", { vlan: 100 }, "vid 100"],
  ["a trunk's VLANs", { vlanTrunk: [{ minID: 5, maxID: 9 }] }, "vid 5-9"],
  ["leaving VLAN 1", { vlanTrunk: [{ id: 5 }], preserveDefaultVlan: false }, "vlan del"],
];
for (const [what, extra, refused] of refusals) {
  withPrograms(`a kernel that refuses ${what} is named, and nothing is left`, () => {
    const world = new VlanNode();
    const conf = bridgeNetwork(extra);
    const pod = freshPod();
    const answer = world.call("ADD", conf, pod, refused);
    expect(answer).toMatchObject({ exitCode: 1, json: { code: 106 } });
    expect(answer.json!.msg).toContain("EOPNOTSUPP");
    expect(linkNames(world.node)).toEqual(["lo"]);
    expect(linkNames(pod.namespace)).toEqual(["lo"]);
    expect(reserved(conf)).toEqual([]);
    expect(ask(world.node, ["nft", "list", "ruleset"])).toBe("");
  });
}

withPrograms("a bridge whose name leaves no room for a VLAN's number is refused, and not made", () => {
  const world = new VlanNode();
  const conf = bridgeNetwork({ vlan: 4094, bridge: "cni-kitchen" });
  expect(world.call("ADD", conf, freshPod()).json).toMatchObject({
    code: 7,
    msg: expect.stringContaining("cni-kitchen.4094"),
  });
  expect(linkNames(world.node)).toEqual(["lo"]);
  expect(reserved(conf)).toEqual([]);
});

withPrograms("another subnet on the gateway of a VLAN is refused, unless forceAddress", () => {
  const world = new VlanNode();
  must(world.call("ADD", bridgeNetwork({ vlan: 100 }), freshPod("one")));
  const other = bridgeNetwork({ vlan: 100, ipam: { type: "host-local", subnet: "10.99.0.0/24" } });
  const refused = world.call("ADD", other, freshPod("two"));
  expect(refused.json).toMatchObject({ code: 105, msg: expect.stringContaining("the gateway cni0.100") });
  expect(reserved(other)).toEqual([]);
  expect(addressesOn(world.node, "cni0.100")).toEqual(["10.42.0.1/24"]);
  must(world.call("ADD", { ...other, forceAddress: true }, freshPod("two")));
  expect(addressesOn(world.node, "cni0.100")).toEqual(["10.99.0.1/24"]);
});

withPrograms("an interface that has the gateway's name and is no pair of ours is left alone", () => {
  const world = new VlanNode();
  ask(world.node, ["ip", "link", "add", "cni0.100", "type", "bridge"]);
  expect(world.call("ADD", bridgeNetwork({ vlan: 100 }), freshPod()).json).toMatchObject({ code: 105 });
  expect(linkNames(world.node)).toEqual(["lo", "cni0.100"]);
});

withPrograms(
  "a pod that cannot be connected takes the gateway of its VLAN away again, if it is the first",
  () => {
    const world = new VlanNode();
    const conf = bridgeNetwork({ vlan: 100 });
    const pod = freshPod("one");
    ask(pod.namespace, ["ip", "link", "add", "eth0", "type", "bridge"]);
    expect(world.call("ADD", conf, pod).json?.code).toBe(104);
    expect(linkNames(world.node)).toEqual(["lo"]);
    const result = must(world.call("ADD", conf, freshPod("two")));
    expect(world.call("ADD", conf, pod).json?.code).toBe(104);
    expect(addressesOn(world.node, "cni0.100")).toEqual(["10.42.0.1/24"]);
    expect(linkNames(world.node)).toContain(result.interfaces![1]!.name);
  },
);

for (const [name, extra] of [
  ["vlan", { vlan: 100 }],
  ["vlanTrunk", { vlanTrunk: [{ id: 100 }] }],
] as const) {
  withPrograms(
    `the real kernel does ${name}, or says that it lacks it and leaves everything as it was`,
    () => {
      const node = freshNamespace("node");
      const can =
        run(node, ["ip", "link", "add", "probe", "type", "bridge", "vlan_filtering", "1"]).exitCode === 0;
      if (can) ask(node, ["ip", "link", "delete", "probe"]);
      // On a bridge of its own, and on one that serves pods without VLANs.
      for (const served of [false, true]) {
        const earlier = freshPod("earlier");
        if (served) must(call(node, "ADD", bridgeNetwork(), earlier));
        const before = stateOf(node);
        const conf = bridgeNetwork({ ...extra, ipam: { type: "host-local", subnet: "10.42.0.0/24" } });
        const answer = call(node, "ADD", conf, freshPod());
        if (can) {
          must(answer);
          expect(ask(node, ["bridge", "vlan"])).toMatch(/\b100\b/);
          must(call(node, "DEL", conf, { container: "pod1" }));
          continue;
        }
        expect(answer).toMatchObject({ exitCode: 1, json: { code: 106 } });
        expect(answer.json!.msg).toContain(`${name} needs bridge VLAN filtering, and the kernel refused it`);
        expect(stateOf(node)).toEqual(before);
        expect(reserved(conf)).toEqual([]);
        if (served) expect(run(earlier.namespace, ["ping", "-c1", "-W5", "10.42.0.1"]).exitCode).toBe(0);
      }
    },
  );
}
