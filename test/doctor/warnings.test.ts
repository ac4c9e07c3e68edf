/** What does not stop the traffic and is worth knowing: told, with exit code 0, and only when it is so. */
import { expect } from "bun:test";
import { diagnose, type Diagnosis } from "../../src/doctor/diagnose.ts";
import { ask, testWith } from "../support/witness.ts";
import { fetchFrom, healthyWorld, serveInternet, snapshotOf, PLAN, type World } from "./world.ts";

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
      rules(`-A POSTROUTING -s ${PLAN.podNetworkIpv4} ! -o lan0 -j MASQUERADE`),
    );
    expect(fetchFrom(world, 4, 5, INTERNAL)).toBe(PLAN.node.uplinkIpv4);
    const { findings, healthy } = look(world, INTERNAL);
    expect(healthy).toBe(true);
    expect(findings.map((one) => one.code)).toEqual(["nat-against-exclusion"]);
    expect(findings[0]!.text).toContain("ip-masq-agent");
    expect(findings[0]!.evidence[1]!.value).toContain(PLAN.podNetworkIpv4);
  },
);

testWith(["root", "iptables"])("a rule for each container, as many as a crowded node has", () => {
  const world = healthyWorld();
  // An ordinary user's transactions may not be larger than what 200 rules need.
  const rules = (first: number): string =>
    [
      "*nat",
      ":POSTROUTING ACCEPT [0:0]",
      ...Array.from({ length: 200 }, (_, offset) => {
        const index = first + offset;
        const address = `10.4.${index >> 8}.${index & 255}`;
        return `-A POSTROUTING -s ${address}/32 -m comment --comment "name: \\"net\\" id: \\"${index}\\"" -j MASQUERADE`;
      }),
      "COMMIT",
      "",
    ].join("\n");
  const add = (first: number): string => ask(world.node, ["iptables-nft-restore", "--noflush"], rules(first));
  for (const first of [0, 200]) add(first);
  expect(look(world, PLAN.internet.httpIpv4).findings.map((one) => one.code)).not.toContain("nat-long-chain");
  add(400);
  const { findings } = look(world, PLAN.internet.httpIpv4);
  // Nobody here is a container of that plugin: that the rules' containers are gone cannot be told.
  expect(findings.map((one) => one.code)).toEqual(["nat-long-chain"]);
  const found = findings.find((one) => one.code === "nat-long-chain");
  expect(found!.text).toContain("POSTROUTING of ip nat has 600 rules");
  expect(found!.owner).toContain("CNI");
});

testWith(["root", "iptables"])("rules of containers that are gone, beside those that live", () => {
  const world = healthyWorld();
  const rule = (id: string): string =>
    `-A POSTROUTING -s 10.4.0.9/32 -m comment --comment "name: \\"net\\" id: \\"${id}\\"" -j MASQUERADE`;
  const ids = Array.from({ length: 30 }, (_, index) => `gone${index}`);
  const rules = ["*nat", ...[...ids, "alive1"].map(rule), "COMMIT", ""].join("\n");
  ask(world.node, ["iptables-nft-restore"], rules);
  const snapshot = snapshotOf(world);
  const judge = (containers?: readonly string[]): Diagnosis => {
    const { containers: _, ...rest } = snapshot;
    const one = containers === undefined ? rest : { ...rest, containers };
    return diagnose(one, one.pods[0]!, { address: PLAN.internet.httpIpv4, protocol: "tcp", port: 80 });
  };
  const { findings } = judge(["alive1", "other"]);
  expect(findings.map((one) => one.code)).toEqual(["rules-leaked"]);
  expect(findings[0]!.text).toContain("rules of 30 containers");
  for (const known of [undefined, [], ["other"], ["alive1", ...ids]])
    expect(judge(known).findings).toEqual([]);
});

for (const { rule, counts, codes } of [
  {
    rule: "nft add rule inet strict forward ct state invalid drop",
    counts: "nothing",
    codes: ["conntrack-not-loose"],
  },
  // A counter that has counted nothing has dropped nothing.
  { rule: "iptables -A FORWARD -m conntrack --ctstate INVALID -j DROP", counts: "none yet", codes: [] },
]) {
  testWith(["root", "nft", "iptables"])(
    `unknown connections that are not picked up, and a rule that drops them and counts ${counts}`,
    () => {
      const world = healthyWorld();
      ask(world.node, [
        "nft",
        "add table inet strict; add chain inet strict forward { type filter hook forward priority 0; }",
      ]);
      ask(world.node, ["sysctl", "-qw", "net.netfilter.nf_conntrack_tcp_loose=0"]);
      expect(look(world, PLAN.internet.httpIpv4).findings).toEqual([]);
      ask(world.node, rule.split(" "));
      const { findings, healthy } = look(world, PLAN.internet.httpIpv4);
      expect(healthy).toBe(true);
      expect<string[]>(findings.map((one) => one.code)).toEqual(codes);
    },
  );
}
