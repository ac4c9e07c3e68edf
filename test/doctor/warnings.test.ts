/** What does not stop the traffic and is worth knowing: told, with exit code 0, and only when it is so. */
import { expect } from "bun:test";
import { diagnose, type Diagnosis } from "../../src/doctor/diagnose.ts";
import { PLAN } from "../../src/lab/plan.ts";
import type { World } from "../../src/lab/world.ts";
import { ask, testWith } from "../support/witness.ts";
import { fetchFrom, healthyWorld, serveInternet, snapshotOf } from "./world.ts";

const INTERNAL = "10.200.0.80";

function look(world: World, address: string): Diagnosis {
  const snapshot = snapshotOf(world, [address]);
  return diagnose(snapshot, snapshot.pods[0]!, { address, protocol: "tcp", port: 80 });
}

testWith(["root", "ip", "iptables", "curl"])(
  "an agent's exclusion that another one's rule overrules",
  async () => {
    const world = healthyWorld();
    await using _ = await serveInternet(world);
    ask(world.internet, ["ip", "addr", "add", `${INTERNAL}/32`, "dev", "lo"]);
    ask(world.internet, ["ip", "route", "add", PLAN.podNetworkIpv4, "via", PLAN.node.uplinkIpv4]);
    ask(world.node, ["nft", "delete", "table", "inet", "wayout"]);
    const rules = (...last: string[]): string =>
      [
        "*nat",
        ":POSTROUTING ACCEPT [0:0]",
        ":IP-MASQ-AGENT - [0:0]",
        '-A POSTROUTING -m comment --comment "ip-masq-agent: ensure nat POSTROUTING directs all non-LOCAL destination traffic to our custom IP-MASQ-AGENT chain" -m addrtype ! --dst-type LOCAL -j IP-MASQ-AGENT',
        '-A IP-MASQ-AGENT -d 10.0.0.0/8 -m comment --comment "ip-masq-agent: local traffic is not subject to MASQUERADE" -j RETURN',
        '-A IP-MASQ-AGENT -m comment --comment "ip-masq-agent: outbound traffic is subject to MASQUERADE (must be last in chain)" -j MASQUERADE --random-fully',
        ...last,
        "COMMIT",
        "",
      ].join("\n");
    ask(world.node, ["iptables-nft-restore"], rules());
    expect(fetchFrom(world, 4, 5, INTERNAL)).toBe(PLAN.pods.blue.ipv4);
    expect(look(world, INTERNAL).findings).toEqual([]);

    ask(
      world.node,
      ["iptables-nft-restore"],
      rules(`-A POSTROUTING -s ${PLAN.podNetworkIpv4} ! -o br0 -j MASQUERADE`),
    );
    expect(fetchFrom(world, 4, 5, INTERNAL)).toBe(PLAN.node.uplinkIpv4);
    const { findings, healthy } = look(world, INTERNAL);
    expect(healthy).toBe(true);
    expect(findings.map((one) => one.code)).toEqual(["nat-against-exclusion"]);
    expect(findings[0]!.text).toContain("ip-masq-agent");
    expect(findings[0]!.evidence[1]!.value).toContain(PLAN.podNetworkIpv4);
  },
);
