/** From `"type": "bridge"` to `"type": "wayout"`, and nothing else: the same results, and pods keep what they have. */
import { describe, expect } from "bun:test";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { CNI_VERSIONS } from "../../src/cni/version.ts";
import type { NetworkNamespace } from "../../src/kernel/namespace.ts";
import { afterThisTest } from "../support/teardown.ts";
import { ask, askJson, testWith } from "../support/witness.ts";
import { freshNamespace } from "../support/world.ts";
import { addressesOn, linkNames, nodeWithOutside, pings, reservations, reserved } from "./node.ts";
import {
  bridgeNetwork,
  call,
  freshPod,
  must,
  rawCall,
  REFERENCE_DIRECTORY,
  type Attachment,
  type CniJson,
  type Configuration,
} from "./plugin.ts";

const withReference = testWith([
  "root",
  "ip",
  "nft",
  "iptables",
  "ping",
  ...(existsSync(REFERENCE_DIRECTORY) ? [] : ["containernetworking-plugins"]),
]);

const RANGE = { type: "host-local", subnet: "10.42.0.0/24" };
const DUAL = { type: "host-local", ranges: [[{ subnet: "10.42.0.0/24" }], [{ subnet: "fd00:42::/64" }]] };

interface Variant {
  readonly extra: Configuration;
  readonly args?: string;
  /** The oldest version that has words for it. */
  readonly since?: string;
}

const variants: Readonly<Record<string, Variant>> = {
  "plain, with ipMasq": { extra: { ipMasq: true } },
  "isGateway only": { extra: { isDefaultGateway: false, isGateway: true } },
  "no gateway": { extra: { isDefaultGateway: false } },
  "routes and dns": {
    extra: {
      dns: { nameservers: ["192.0.2.9"], domain: "example", search: ["a.example"], options: ["ndots:2"] },
      ipam: {
        ...RANGE,
        routes: [{ dst: "198.51.100.0/24" }, { dst: "203.0.113.0/24", gw: "10.42.0.9" }],
      },
    },
  },
  "a default route of its own": {
    extra: { ipam: { ...RANGE, routes: [{ dst: "0.0.0.0/0", gw: "10.42.0.7" }] } },
  },
  "a gateway of its own and a range": {
    extra: {
      ipam: { ...RANGE, gateway: "10.42.0.254", rangeStart: "10.42.0.50", rangeEnd: "10.42.0.60" },
    },
  },
  "dual stack": { extra: { ipam: DUAL } },
  "two addresses of one family": {
    extra: {
      ipam: {
        type: "host-local",
        ranges: [
          [{ subnet: "10.42.0.0/24", rangeEnd: "10.42.0.99" }],
          [{ subnet: "10.42.0.0/24", rangeStart: "10.42.0.100" }],
        ],
      },
    },
    since: "0.3.0",
  },
  "ranges of the runtime": {
    extra: { ipam: { type: "host-local" }, runtimeConfig: { ipRanges: [[{ subnet: "10.42.0.0/24" }]] } },
  },
  "a requested address and MAC": {
    extra: { args: { cni: { ips: ["10.42.0.77"] } }, runtimeConfig: { mac: "02:00:00:00:00:33" } },
  },
  "a requested address with a prefix, which need not be the subnet's": {
    extra: { args: { cni: { ips: ["10.42.0.77/16"] } } },
  },
  "an address with a prefix in CNI_ARGS": { extra: {}, args: "IgnoreUnknown=1;IP=10.42.0.78/24" },
  "keys in upper and lower case as somebody felt": {
    extra: {
      isDefaultGateway: undefined,
      isdefaultgateway: true,
      bridge: undefined,
      Bridge: "br7",
      MTU: 1400,
      HairPinMode: true,
      runtimeconfig: { MAC: "02:00:00:00:00:34" },
      ipam: { Type: "host-local", Subnet: "10.42.0.0/24", rangestart: "10.42.0.50", GateWay: "10.42.0.9" },
    },
  },
  "an address in CNI_ARGS": { extra: {}, args: "IgnoreUnknown=1;IP=10.42.0.78;K8S_POD_NAME=web" },
  "static addresses": {
    extra: {
      ipam: {
        type: "static",
        addresses: [{ address: "10.42.0.9/24", gateway: "10.42.0.1" }, { address: "fd00:42::9/64" }],
        routes: [{ dst: "198.51.100.0/24" }],
      },
    },
  },
  "IPv6 only": { extra: { ipam: { type: "host-local", ranges: [[{ subnet: "fd00:42::/64" }]] } } },
  "two IPv6 subnets": {
    extra: {
      ipam: { type: "host-local", ranges: [[{ subnet: "fd00:42::/64" }], [{ subnet: "fd00:43::/64" }]] },
    },
    since: "0.3.0",
  },
  "a set of two ranges, the first with one address, and a bridge that changes with it": {
    extra: {
      forceAddress: true,
      ipam: {
        type: "host-local",
        ranges: [
          [
            { subnet: "10.42.0.0/24", rangeStart: "10.42.0.5", rangeEnd: "10.42.0.5" },
            { subnet: "10.43.0.0/24" },
          ],
        ],
      },
    },
  },
  "the short form beside a list of ranges": {
    extra: { ipam: { ...RANGE, ranges: [[{ subnet: "fd00:42::/64" }]] } },
  },
  "routes that name no gateway, where there is one and where there is none": {
    extra: {
      isDefaultGateway: false,
      isGateway: true,
      ipam: { ...DUAL, routes: [{ dst: "0.0.0.0/0" }, { dst: "::/0" }] },
    },
  },
  "routes where the node is no gateway": {
    extra: { isDefaultGateway: false, ipam: { ...DUAL, routes: [{ dst: "0.0.0.0/0" }, { dst: "::/0" }] } },
  },
  "layer 2 only": { extra: { ipam: {}, isDefaultGateway: false }, since: "0.3.0" },
  "an MTU, hairpin": { extra: { mtu: 1400, hairpinMode: true } },
  "an MTU, promiscuous": { extra: { mtu: 1400, promiscMode: true } },
};

/** Versions that the installed reference plugin speaks. */
function referenceVersions(): string[] {
  const ran = rawCall(freshNamespace("node"), "bridge", "{}", { CNI_COMMAND: "VERSION" });
  return [...ran.json!.supportedVersions!];
}

type Pod = ReturnType<typeof freshPod>;

/** What differs from run to run, checked and masked: MACs, the name that each gives the host's end, the namespace. */
function comparable(result: CniJson, pod: Attachment): unknown {
  const mac = /^([0-9a-f]{2}:){5}[0-9a-f]{2}$/;
  const interfaces = result.interfaces?.map((link) => {
    expect(link.mac).toMatch(mac);
    if (link.sandbox !== undefined) expect(link.sandbox).toBe(pod.netns!);
    const { sandbox, ...rest } = link;
    const name = link.name.replace(/^(veth[0-9a-f]+|wout[a-z2-7]+)$/, "HOST");
    return { ...rest, name, mac: "*", ...(sandbox === undefined ? {} : { sandbox: "*" }) };
  });
  return { ...result, ...(interfaces === undefined ? {} : { interfaces }) };
}

/** Addresses and routes in the pod. Link-local ones appear in their own time. */
function inside({ namespace }: { readonly namespace: NetworkNamespace }): object {
  const routes = ["-4", "-6"]
    .flatMap((family) =>
      askJson<{ dst: string; gateway?: string }[]>(namespace, ["ip", family, "-j", "route"]),
    )
    .filter(({ dst }) => !dst.startsWith("fe80") && !dst.startsWith("ff00"))
    .map(({ dst, gateway }) => `${dst} ${gateway ?? ""}`);
  return { addresses: addressesOn(namespace, "eth0").sort(), routes: routes.sort() };
}

describe("the same result, field by field, and the same pod", () => {
  for (const [name, { extra, args, since = "" }] of Object.entries(variants)) {
    withReference(`in every version: ${name}`, () => {
      const versions = referenceVersions().filter((version) => version >= since);
      expect(versions.length).toBeGreaterThan(3);
      const [reference, ours] = ["bridge", "wayout"].map((type) => {
        const node = freshNamespace("node");
        return versions.map((cniVersion) => {
          const pod = { ...freshPod(), ...(args === undefined ? {} : { args }) };
          const conf = bridgeNetwork({ cniVersion, type, ipMasq: false, ...extra });
          const result = must(call(node, "ADD", conf, pod));
          const seen = { result: comparable(result, pod), inside: inside(pod) };
          must(call(node, "DEL", { ...conf, prevResult: result }, pod));
          return seen;
        });
      });
      expect(ours).toEqual(reference);
    });
  }

  withReference(
    "in 1.1.0, which the installed reference may not speak: as in 1.0.0, with the MTU of each link",
    () => {
      const node = freshNamespace("node");
      const [older, newer] = ["1.0.0", "1.1.0"].map((cniVersion) => {
        const pod = freshPod();
        const conf = bridgeNetwork({ cniVersion, ipam: DUAL });
        const result = must(call(node, "ADD", conf, pod));
        must(call(node, "DEL", conf, pod));
        return comparable(result, pod) as { readonly interfaces: readonly object[] };
      });
      expect(newer).toEqual({
        ...older!,
        cniVersion: "1.1.0",
        interfaces: older!.interfaces.map((link) => ({ ...link, mtu: 1500 })),
      } as never);
      expect(CNI_VERSIONS.at(-1)).toBe("1.1.0");
    },
  );
});

describe("pods that the reference plugin attached", () => {
  withReference(
    "keep their addresses and their way out beside ours, and are checked and taken down by us",
    async () => {
      const { node } = nodeWithOutside();
      const conf = bridgeNetwork({ cniVersion: "1.0.0", ipam: DUAL });
      const old = ["old1", "old2", "old3"].map((name) => freshPod(name));
      const results = old.map((pod) => must(call(node, "ADD", { ...conf, type: "bridge" }, pod)));
      // The reference plugin lets the kernel make sure for a second or two that nobody else is fd00:42::1.
      const tentative = ["ip", "-6", "address", "show", "dev", "cni0", "tentative"];
      for (let waited = 0; ask(node, tentative) !== "" && waited < 10_000; waited += 50) await Bun.sleep(50);
      const before = { pods: old.map(inside), files: reservations(conf), gateway: addressesOn(node, "cni0") };
      const young = ["new1", "new2"].map((name) => freshPod(name));
      const added = young.map((pod) => must(call(node, "ADD", conf, pod)));
      expect(added.map(({ ips }) => ips!.map(({ address }) => address))).toEqual([
        ["10.42.0.5/24", "fd00:42::5/64"],
        ["10.42.0.6/24", "fd00:42::6/64"],
      ]);
      expect({ pods: old.map(inside), gateway: addressesOn(node, "cni0") }).toEqual({
        pods: before.pods,
        gateway: before.gateway,
      });
      expect(reservations(conf)).toMatchObject(before.files);
      for (const pod of [...old, ...young]) {
        expect(pings(pod.namespace, "198.51.100.1")).toBe(true);
        expect(pings(pod.namespace, "10.42.0.2") && pings(pod.namespace, "10.42.0.5")).toBe(true);
        expect(pings(pod.namespace, "2001:db8:1::1")).toBe(true);
      }
      for (const [index, pod] of old.entries()) {
        must(call(node, "CHECK", { ...conf, prevResult: results[index] }, pod));
        // Whoever holds an address is not given a second one.
        expect(call(node, "ADD", conf, pod).json?.code).toBe(102);
      }
      const [first, second, third] = old as [Pod, Pod, Pod];
      must(call(node, "DEL", { ...conf, prevResult: results[0] }, first));
      must(call(node, "DEL", conf, { container: second.container }));
      expect(linkNames(first.namespace)).toEqual(["lo"]);
      expect(reserved(conf)).toEqual([
        "10.42.0.4",
        "10.42.0.5",
        "10.42.0.6",
        "fd00:42::4",
        "fd00:42::5",
        "fd00:42::6",
      ]);
      // Round robin goes on: an address just freed is given last.
      expect(must(call(node, "ADD", conf, freshPod("new3"))).ips![0]!.address).toBe("10.42.0.7/24");
      expect(pings(third.namespace, "198.51.100.1")).toBe(true);
    },
  );

  withReference(
    "and the way back: the reference plugin takes down what we attached, and goes on counting",
    () => {
      const node = freshNamespace("node");
      const conf = bridgeNetwork({ cniVersion: "1.0.0", ipMasq: false });
      const pod = freshPod("ours");
      const result = must(call(node, "ADD", conf, pod));
      const back = { ...conf, type: "bridge" };
      expect(must(call(node, "ADD", back, freshPod("theirs"))).ips![0]!.address).toBe("10.42.0.3/24");
      must(call(node, "CHECK", { ...back, prevResult: result }, pod));
      must(call(node, "DEL", { ...back, prevResult: result }, pod));
      expect(linkNames(pod.namespace)).toEqual(["lo"]);
      expect(reserved(conf)).toEqual(["10.42.0.3"]);
    },
  );

  withReference("resolvConf and dataDir are read as host-local reads them", () => {
    const directory = mkdtempSync(join(tmpdir(), "wayout-migration-"));
    afterThisTest(() => rmSync(directory, { recursive: true }));
    const resolvConf = join(directory, "resolv.conf");
    writeFileSync(resolvConf, "# ours\nnameserver 192.0.2.53\nsearch a.example b.example\noptions ndots:3\n");
    const node = freshNamespace("node");
    const dataDir = join(directory, "data");
    const conf = bridgeNetwork({ cniVersion: "1.0.0", ipam: { ...RANGE, resolvConf, dataDir } });
    // Asked by itself: the bridge plugin of 1.1.1 loses what it says of DNS, later ones do not.
    const theirs = must(call(node, "ADD", { ...conf, type: "host-local" }, freshPod("a")));
    const ours = must(call(node, "ADD", conf, freshPod("b")));
    expect(ours.dns).toEqual(theirs.dns as Configuration);
    expect(reserved(conf)).toEqual(["10.42.0.2", "10.42.0.3"]);
  });
});
