/** What the programs that manage a node's links may delete: from their files on the machine to the finding. */
import { expect } from "bun:test";
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { diagnose } from "../../src/doctor/diagnose.ts";
import type { Finding } from "../../src/doctor/finding.ts";
import { PLAN } from "../../src/lab/plan.ts";
import type { World } from "../../src/lab/world.ts";
import { parseNetworkdConf } from "../../src/linux/networkd-conf.ts";
import { afterThisTest } from "../support/teardown.ts";
import { ask, testWith } from "../support/witness.ts";
import { labWorld, snapshotOf } from "./world.ts";

const STATE = "/run/systemd/netif/state";
const CONF = "/etc/systemd/networkd.conf";
const PART = "/run/systemd/networkd.conf.d/10-routes.conf";

/** /etc and /run are the tests' own. */
function has(files: Readonly<Record<string, string>>): void {
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, text);
    afterThisTest(() => rmSync(path));
  }
}

function headline(world: World, destination: string): Finding | undefined {
  const snapshot = snapshotOf(world, [destination]);
  const target = { address: destination, protocol: "tcp", port: 80 } as const;
  const { findings, suspicions } = diagnose(snapshot, snapshot.pods[0]!, target);
  return [...findings, ...suspicions][0];
}

function missingRoute(): World {
  const world = labWorld();
  ask(world.node, ["ip", "route", "add", "10.0.5.0/24", "via", PLAN.internet.routerIpv4, "proto", "119"]);
  return world;
}

function withoutMainRule(): World {
  const world = labWorld();
  ask(world.node, ["ip", "rule", "del", "priority", "32766"]);
  return world;
}

testWith(["root"])("a route of others that networkd may delete: said, and how it is kept from that", () => {
  has({ [STATE]: "OPER_STATE=routable\n" });
  const found = headline(missingRoute(), "10.0.7.9");
  expect(found?.code).toBe("pod-network-unrouted");
  expect(found?.evidence.at(-1)?.value).toContain("nothing says ManageForeignRoutes=no");
  expect(found?.advice?.at(-1)).toContain(
    "ManageForeignRoutes=no under [Network] in /etc/systemd/networkd.conf",
  );
});

testWith(["root"])("networkd that leaves others' routes alone, or is not there, is not blamed", () => {
  has({ [CONF]: "[Network]\nManageForeignRoutes=yes\n", [PART]: "[Network]\nManageForeignRoutes=no\n" });
  const world = missingRoute();
  expect(JSON.stringify(headline(world, "10.0.7.9"))).not.toContain("networkd");
  has({ [STATE]: "OPER_STATE=routable\n" });
  expect(JSON.stringify(headline(world, "10.0.7.9"))).not.toContain("networkd");
});

testWith(["root"])("a rule of the kernel's that is gone: who may have done it", () => {
  const world = withoutMainRule();
  expect(headline(world, PLAN.internet.httpIpv4)?.owner).toContain("often NetworkManager or");
  has({ [STATE]: "OPER_STATE=routable\n", [CONF]: "[Network]\nManageForeignRoutes=no\n" });
  const found = headline(world, PLAN.internet.httpIpv4);
  expect(found?.code).toBe("node-rules-missing");
  expect(found?.owner).toBe(
    "the program that deleted it (likely systemd-networkd, which manages links here)",
  );
  expect(found?.advice?.[0]).toContain("ManageForeignRoutingPolicyRules=no");
});

testWith(["root"])("a link set down where NetworkManager runs is likely its doing", () => {
  has({ "/run/NetworkManager/NetworkManager.pid": "412\n" });
  const world = labWorld();
  ask(world.node, ["ip", "link", "set", PLAN.pods.blue.veth, "down"]);
  const found = headline(world, PLAN.internet.httpIpv4);
  expect(found?.code).toBe("host-link-down");
  expect(found?.owner).toBe("the program that set it down (likely NetworkManager, which manages links here)");
});

testWith([])(
  "networkd.conf: sections, comments, later files, words for yes and no, what cannot be read",
  () => {
    const routes = (...texts: string[]): boolean => parseNetworkdConf(texts).foreignRoutes;
    expect(routes()).toBe(true);
    expect(routes("ManageForeignRoutes=no")).toBe(true);
    expect(routes("[DHCPv4]\nManageForeignRoutes=no")).toBe(true);
    expect(routes("[Network]\n# ManageForeignRoutes=no\n;ManageForeignRoutes=no")).toBe(true);
    for (const no of ["no", "0", "Off", " false ", "n"])
      expect(routes(`[Network]\nManageForeignRoutes = ${no}`)).toBe(false);
    expect(routes("[Network]\nManageForeignRoutes=no", "[Network]\nManageForeignRoutes=yes")).toBe(true);
    expect(routes("[Network]\nManageForeignRoutes=no", "[Network]\nManageForeignRoutes=")).toBe(true);
    expect(routes("[Network]\nManageForeignRoutes=no\nManageForeignRoutes=perhaps")).toBe(false);
    expect(parseNetworkdConf(["[Network]\nManageForeignRoutingPolicyRules=no"])).toEqual({
      foreignRoutes: true,
      foreignRules: false,
    });
  },
);
