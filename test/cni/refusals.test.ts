/** Bad input and bad luck: each error of the contract with its code, on standard output, and nothing changed. */
import { describe, expect } from "bun:test";
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import type { NetworkNamespace } from "../../src/kernel/namespace.ts";
import { afterThisTest } from "../support/teardown.ts";
import { ask, run, testWith } from "../support/witness.ts";
import { freshNamespace } from "../support/world.ts";
import { dataDirectory, linkNames, pings, reservations, reserved, stateOf } from "./node.ts";
import {
  bridgeNetwork,
  call,
  environmentOf,
  freshPod,
  must,
  pluginDirectory,
  rawCall,
  type Answer,
  type Attachment,
  type CniJson,
  type Configuration,
} from "./plugin.ts";

const withPrograms = testWith(["root", "ip", "nft", "iptables", "ping", "sysctl", "unshare", "mount"]);
const withRoot = testWith(["real-root", "ip", "nft", "ping", "sysctl", "unshare", "mount", "setpriv"]);

interface Scene {
  readonly node: NetworkNamespace;
  /** Of the call that is refused. */
  readonly pod: Attachment & { readonly namespace: NetworkNamespace };
  readonly conf: Configuration;
}

/** The refused ADD is asked for a pod of this name; the one that is there already is "served". */
const REFUSED = "refused";

/**
 * A call (an ADD, unless `act` is another) that is refused, on standard output, with all as it was.
 */
function refuses(
  scene: Scene,
  code: number,
  message: RegExp,
  act: (scene: Scene) => Answer = ({ node, conf, pod }) => call(node, "ADD", conf, pod),
): void {
  const { node, pod, conf } = scene;
  const before = { node: stateOf(node), pod: stateOf(pod.namespace), files: reservations(conf) };
  const answer = act(scene);
  expect(answer.json?.msg).toMatch(message);
  expect(answer.json?.code).toBe(code);
  expect(answer.json?.cniVersion).toBe(String(conf["cniVersion"]));
  expect(answer).toMatchObject({ exitCode: 1, stderr: "" });
  expect({ node: stateOf(node), pod: stateOf(pod.namespace), files: reservations(conf) }).toEqual(before);
}

/** @param served what the network's first pod is attached with; undefined: nobody is there */
function sceneOf(conf: Configuration, served?: Configuration): Scene {
  const node = freshNamespace("node");
  if (served !== undefined) must(call(node, "ADD", served, freshPod("served")));
  return { node, pod: freshPod(REFUSED), conf };
}

const RANGE = { type: "host-local", subnet: "10.42.0.0/24" };

describe("a configuration that makes no sense", () => {
  const cases: readonly (readonly [string, Configuration, RegExp])[] = [
    ["promisc with hairpin", { promiscMode: true, hairpinMode: true }, /hairpinMode and promiscMode/],
    ["vlan out of range", { vlan: 4095 }, /vlan must be a whole number from 0 to 4094, not 4095/],
    ["a negative vlan", { vlan: -1 }, /vlan must be a whole number from 0 to 4094, not -1/],
    ["half a trunk range", { vlanTrunk: [{ minID: 6 }] }, /vlanTrunk\[0\].maxID is missing/],
    ["a trunk range backwards", { vlanTrunk: [{ minID: 6, maxID: 5 }] }, /vlanTrunk\[0\].maxID is less/],
    ["VLAN 0 in a trunk", { vlanTrunk: [{ id: 0 }] }, /vlanTrunk\[0\].id must be .* from 1 to 4094/],
    ["a bridge name too long", { bridge: "a123456789012345" }, /bridge "a123456789012345"/],
    ["a bridge name that is a path", { bridge: "../br" }, /bridge "..\/br"/],
    ["a bridge name that the kernel takes for a pattern", { bridge: "br%d" }, /bridge "br%d"/],
    ["a bridge called ..", { bridge: ".." }, /bridge ".."/],
    ["an MTU beyond all", { mtu: 65536 }, /mtu must be a whole number from 0 to 65535/],
    ["a flag that is no flag", { ipMasq: "yes" }, /ipMasq must be true or false, not a string/],
    [
      "no interface but addresses",
      { disableContainerInterface: true },
      /disableContainerInterface cannot be true/,
    ],
    ["a MAC that is none", { runtimeConfig: { mac: "00:00" } }, /runtimeConfig.mac "00:00"/],
    ["a multicast MAC", { args: { cni: { mac: "01:00:00:00:00:01" } } }, /args.cni.mac .* multicast/],
    ["no subnet", { ipam: { type: "host-local" } }, /ipam.ranges is missing/],
    ["a subnet that is none", { ipam: { ...RANGE, subnet: "10.42.0.0" } }, /ipam.subnet .* too few/],
    ["a range start elsewhere", { ipam: { ...RANGE, rangeStart: "10.43.0.9" } }, /ipam.rangeStart/],
    [
      "ranges that overlap",
      { ipam: { type: "host-local", ranges: [[{ subnet: "10.42.0.0/24" }], [{ subnet: "10.42.0.0/16" }]] } },
      /overlap/,
    ],
    ["a state directory that is relative", { ipam: { ...RANGE, dataDir: "../x" } }, /ipam.dataDir "..\/x"/],
    ["a route into another family", { ipam: { ...RANGE, routes: [{ dst: "::/0", gw: "10.42.0.1" }] } }, /gw/],
    [
      "an address outside the range",
      { runtimeConfig: { ips: ["10.9.9.9"] } },
      /runtimeConfig.ips\[0\] asks for 10.9.9.9, which is not in/,
    ],
    ["the gateway's address", { args: { cni: { ips: ["10.42.0.1"] } } }, /args.cni.ips\[0\] .* gateway/],
    ["an IPAM plugin with a path", { ipam: { type: "../../bin/sh" } }, /is no name of a program/],
    ["a port range that is none", { portRange: "9-1" }, /portRange "9-1"/],
    ["an outgoing address that is none", { snat: "203.0.113" }, /snat "203.0.113"/],
    ["outgoing addresses backwards", { snat: "203.0.113.9-203.0.113.2" }, /ends before it begins/],
    ["two outgoing addresses", { snat: ["203.0.113.1", "203.0.113.2"] }, /snat\[1\] is a second IPv4/],
    ["a backend nobody has", { ipMasqBackend: "pf" }, /ipMasqBackend "pf"/],
    ["host bits in a destination", { nonMasqueradeCIDRs: ["10.0.0.1/8"] }, /nonMasqueradeCIDRs\[0\]/],
    ["a result that is a list", { prevResult: [] }, /prevResult must be an object/],
    ["a result with an address that is none", { prevResult: { ips: [{ address: "x" }] } }, /prevResult.ips/],
  ];
  for (const [name, extra, message] of cases) {
    withPrograms(`7: ${name}`, () => refuses(sceneOf(bridgeNetwork(extra)), 7, message));
  }
  withPrograms("1: a result of an unknown version", () => {
    const conf = bridgeNetwork({ prevResult: { cniVersion: "2.0.0", ips: [] } });
    refuses(sceneOf(conf), 1, /prevResult: it is of version 2.0.0; this plugin speaks 0.1.0/);
    const scene = sceneOf(conf);
    refuses(scene, 1, /version 2.0.0/, ({ node, pod }) => call(node, "CHECK", conf, pod));
  });
});

describe("what is in the way", () => {
  withPrograms("104: a taken interface name", () => {
    const conf = bridgeNetwork();
    for (const served of [undefined, conf]) {
      const scene = sceneOf(conf, served);
      ask(scene.pod.namespace, ["ip", "link", "add", "eth0", "type", "bridge"]);
      refuses(scene, 104, /there is an interface eth0 in refused already/);
    }
  });

  withPrograms("102: a second ADD of one interface", () => {
    const conf = bridgeNetwork();
    const scene = sceneOf(conf, conf);
    refuses(scene, 102, /already/, ({ node, pod }) =>
      call(node, "ADD", conf, { ...pod, container: "served" }),
    );
  });

  const kinds: Readonly<Record<string, string>> = {
    veth: "ip link add cni0 type veth peer name other",
    vxlan: "ip link add cni0 type vxlan id 7 dstport 4789",
    macvlan: "ip link add cni0 link below type macvlan",
  };
  for (const [kind, command] of Object.entries(kinds)) {
    withPrograms(`105: a bridge name that is another kind of link, ${kind}`, () => {
      const scene = sceneOf(bridgeNetwork());
      ask(scene.node, ["ip", "link", "add", "below", "type", "bridge"]);
      ask(scene.node, command.split(" "));
      refuses(scene, 105, new RegExp(`cni0 is a ${kind} interface, not a bridge`));
    });
  }

  withPrograms("105: loopback as the bridge", () => {
    refuses(sceneOf(bridgeNetwork({ bridge: "lo" })), 105, /lo is an interface, not a bridge/);
  });

  withPrograms("105: another subnet on the bridge, unless forceAddress", () => {
    const other = bridgeNetwork({ ipam: { type: "host-local", subnet: "10.99.0.0/24" } });
    const scene = sceneOf(other, bridgeNetwork());
    refuses(scene, 105, /it has the address 10.42.0.1\/24, and 10.99.0.1\/24 is wanted/);
    must(call(scene.node, "ADD", { ...other, forceAddress: true }, scene.pod));
  });

  withPrograms("7: a gateway that the pod cannot reach", () => {
    const routes = [{ dst: "198.51.100.0/24", gw: "192.0.2.99" }];
    const conf = bridgeNetwork({ ipam: { ...RANGE, routes } });
    for (const served of [undefined, { ...conf, ipam: RANGE }]) {
      refuses(sceneOf(conf, served), 7, /ENETUNREACH/);
    }
  });

  withPrograms("101: a full range; CHECK of those who have an address is content, STATUS is not", () => {
    const conf = bridgeNetwork({ ipam: { type: "host-local", subnet: "10.42.0.0/30" } });
    const node = freshNamespace("node");
    const served = freshPod("served");
    const result = must(call(node, "ADD", conf, served));
    refuses({ node, pod: freshPod(REFUSED), conf }, 101, /10.42.0/);
    must(call(node, "CHECK", { ...conf, prevResult: result }, served));
    expect(call(node, "STATUS", conf).json?.code).toBe(50);
  });

  withPrograms("103: a requested address that somebody has", () => {
    const conf = bridgeNetwork();
    const wish = { ...conf, runtimeConfig: { ips: ["10.42.0.2/24"] } };
    refuses(sceneOf(wish, conf), 103, /10.42.0.2.*served/);
  });
});

describe("damaged and closed state", () => {
  withPrograms(
    "a corrupt address file is given to nobody, fails the CHECK of its pod, and GC removes it",
    () => {
      const conf = bridgeNetwork();
      const node = freshNamespace("node");
      const pod = freshPod("one");
      const result = must(call(node, "ADD", conf, pod));
      writeFileSync(join(dataDirectory(conf), "10.42.0.2"), "\0\xff\0rubbish\n\n\n");
      writeFileSync(join(dataDirectory(conf), "10.42.0.3"), "\0");
      expect(must(call(node, "ADD", conf, freshPod("two"))).ips![0]!.address).toBe("10.42.0.4/24");
      const wish = { ...conf, runtimeConfig: { ips: ["10.42.0.3"] } };
      refuses({ node, pod: freshPod(REFUSED), conf: wish }, 103, /10.42.0.3/);
      const broken = call(node, "CHECK", { ...conf, prevResult: result }, pod);
      expect(broken.json).toMatchObject({ code: 110, msg: expect.stringContaining("10.42.0.2") });
      const valid = ["one", "two"].map((containerID) => ({ containerID, ifname: "eth0" }));
      must(call(node, "GC", { ...conf, "cni.dev/valid-attachments": valid }));
      expect(reserved(conf)).toEqual(["10.42.0.4"]);
      must(call(node, "DEL", conf, pod));
      must(call(node, "DEL", conf, { container: "two" }));
      expect(reserved(conf)).toEqual([]);
    },
  );

  function dataDir(): string {
    const directory = mkdtempSync(join(tmpdir(), "wayout-state-"));
    afterThisTest(() => rmSync(directory, { recursive: true, force: true }));
    return directory;
  }

  withPrograms(
    "5: a state directory that is a file; DEL goes as far as it gets, STATUS says 50, GC 111",
    () => {
      const directory = dataDir();
      const conf = bridgeNetwork({ ipam: { ...RANGE, dataDir: join(directory, "state") } });
      const node = freshNamespace("node");
      const pod = freshPod("one");
      must(call(node, "ADD", conf, pod));
      rmSync(join(directory, "state"), { recursive: true });
      writeFileSync(join(directory, "state"), "");
      expect(call(node, "ADD", conf, freshPod(REFUSED))).toMatchObject({ exitCode: 1, json: { code: 5 } });
      expect(call(node, "STATUS", conf).json?.code).toBe(50);
      expect(call(node, "GC", { ...conf, "cni.dev/valid-attachments": [] }).json?.code).toBe(111);
      expect(linkNames(pod.namespace)).toEqual(["lo"]);
      const del = call(node, "DEL", conf, pod);
      expect(del.json?.code).toBe(5);
      rmSync(join(directory, "state"));
      must(call(node, "DEL", conf, pod));
    },
  );

  /** The plugin, started by other programs that take something away from it. */
  function through(prefix: readonly string[], verb = "ADD") {
    return ({ node, conf, pod }: Scene): Answer => {
      const command = [...prefix, join(pluginDirectory(), "wayout")];
      const ran = run(node, command, JSON.stringify(conf), environmentOf(verb, pod));
      return { ...ran, json: ran.stdout === "" ? undefined : (JSON.parse(ran.stdout) as CniJson) };
    };
  }

  withRoot("5: a state directory that may not be read", () => {
    const directory = dataDir();
    const conf = bridgeNetwork({ ipam: { ...RANGE, dataDir: directory } });
    for (const served of [undefined, conf]) {
      const scene = sceneOf(conf, served);
      mkdirSync(dataDirectory(conf), { recursive: true });
      chmodSync(dataDirectory(conf), 0);
      refuses(
        scene,
        5,
        /EACCES/,
        through(["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all"]),
      );
      chmodSync(dataDirectory(conf), 0o755);
    }
  });

  const readOnly = (directory: string): string[] => [
    "unshare",
    "-m",
    "sh",
    "-c",
    `mount --bind ${directory} ${directory} && mount -o remount,ro,bind ${directory} && exec "$0"`,
  ];

  withRoot("5: a state directory on a read-only file system", () => {
    const directory = dataDir();
    refuses(
      sceneOf(bridgeNetwork({ ipam: { ...RANGE, dataDir: directory } })),
      5,
      /EROFS/,
      through(readOnly(directory)),
    );
  });

  withRoot("5: a full disk; who is served can still be released", () => {
    const directory = dataDir();
    ask(undefined, ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", directory]);
    afterThisTest(() => ask(undefined, ["umount", directory]));
    const conf = bridgeNetwork({ ipam: { ...RANGE, dataDir: directory } });
    const scene = sceneOf(conf, conf);
    run(undefined, ["sh", "-c", `cat /dev/zero > ${directory}/filler`]);
    refuses(scene, 5, /ENOSPC/);
    must(call(scene.node, "DEL", conf, { container: "served" }));
    expect(reserved(conf)).toEqual([]);
  });

  withRoot("5: no room for what is kept until the next boot, whatever there is still room for", () => {
    const conf = bridgeNetwork();
    const scene = sceneOf(conf);
    // The directory itself, the lock, the list of used addresses, this address.
    for (let files = 1; files <= 5; files++) {
      const small = `mkdir -p /run/wayout && mount -t tmpfs -o nr_inodes=${files},mode=755 tmpfs /run/wayout && exec "$0"`;
      refuses(scene, 5, /ENOSPC/, through(["unshare", "-m", "sh", "-c", small]));
    }
    must(call(scene.node, "ADD", conf, scene.pod));
  });

  withPrograms(
    "5: a network whose name is too long for a directory; a long container id is no trouble",
    () => {
      const node = freshNamespace("node");
      refuses(
        { node, pod: freshPod(REFUSED), conf: bridgeNetwork({ name: "n".repeat(300) }) },
        5,
        /ENAMETOOLONG/,
      );
      const conf = bridgeNetwork();
      const pod = freshPod("c".repeat(400));
      const result = must(call(node, "ADD", conf, pod));
      must(call(node, "CHECK", { ...conf, prevResult: result }, pod));
      expect(call(node, "ADD", conf, pod).json?.code).toBe(102);
      must(call(node, "DEL", conf, pod));
      expect([linkNames(pod.namespace), reserved(conf)]).toEqual([["lo"], []]);
    },
  );

  withRoot("107: without the privilege, and where settings are read-only", () => {
    const conf = bridgeNetwork();
    refuses(
      sceneOf(conf),
      107,
      /EPERM|not permitted/,
      through(["setpriv", "--bounding-set=-net_admin", "--inh-caps=-all"]),
    );
    refuses(sceneOf(conf), 107, /read-only/i, through(readOnly("/proc/sys")));
  });

  withPrograms("106: a kernel without nf_tables, a node without iptables; DEL finds nothing to do", () => {
    const bare = [process.execPath, join(import.meta.dir, "..", "support", "without-netfilter.ts")];
    const hide = `mount -t tmpfs tmpfs ${dirname(Bun.which("iptables")!)} && exec "$0"`;
    const nowhere = ["unshare", "-m", "sh", "-c", hide];
    for (const [prefix, extra, message] of [
      [bare, {}, /nf_tables/],
      [nowhere, { ipMasqBackend: "iptables" }, /iptables/],
    ] as const) {
      const scene = sceneOf(bridgeNetwork(extra));
      refuses(scene, 106, message, through(prefix));
      must(through(prefix, "DEL")(scene));
    }
    // Without NAT such a node serves its pods.
    const scene = sceneOf(bridgeNetwork({ ipMasq: false }));
    const result = must(through(bare)(scene));
    expect(pings(scene.pod.namespace, "10.42.0.1")).toBe(true);
    must(through(bare, "CHECK")({ ...scene, conf: { ...scene.conf, prevResult: result } }));
    must(through(bare, "STATUS")(scene));
    must(through(bare, "DEL")(scene));
    must(through(bare, "GC")({ ...scene, conf: { ...scene.conf, "cni.dev/valid-attachments": [] } }));
  });

  withPrograms("5: standard input that cannot be read", () => {
    refuses(sceneOf(bridgeNetwork({ cniVersion: "1.1.0" })), 5, /EISDIR/, ({ node, pod }) => {
      const command = ["sh", "-c", `exec ${join(pluginDirectory(), "wayout")} < /`];
      const ran = run(node, command, undefined, environmentOf("ADD", pod));
      return { ...ran, json: JSON.parse(ran.stdout) as CniJson };
    });
  });

  withPrograms("5: a resolvConf that is not there", () => {
    const conf = bridgeNetwork({ ipam: { ...RANGE, resolvConf: "/nowhere/resolv.conf" } });
    refuses(sceneOf(conf), 5, /\/nowhere\/resolv.conf/);
  });
});

describe("without CNI_PATH", () => {
  withPrograms("host-local is built in; of any other plugin it is said that it cannot be found", () => {
    const conf = bridgeNetwork();
    const node = freshNamespace("node");
    const without = (command: string, pod: Attachment, conf: Configuration): Answer => {
      const { CNI_PATH: _, ...environment } = environmentOf(command, pod);
      return rawCall(node, "wayout", JSON.stringify(conf), environment);
    };
    const pod = freshPod("one");
    const result = must(without("ADD", pod, conf));
    must(without("CHECK", pod, { ...conf, prevResult: result }));
    expect(pings(pod.namespace, "10.42.0.1")).toBe(true);
    must(without("DEL", pod, conf));
    const scene = { node, pod: freshPod(REFUSED), conf: { ...conf, ipam: { type: "static" } } };
    refuses(scene, 108, /CNI_PATH is not set/, () => without("ADD", scene.pod, scene.conf));
  });
});
