/** Every iptables match that can be foreseen, alone in a rule that drops: the kernel's verdict is the predicted one. */
import { expect } from "bun:test";
import { predictPath } from "../../src/doctor/predict/predict.ts";
import { SystemError } from "../../src/linux/errno.ts";
import { MATCH_SAMPLES, type XtablesSample } from "../linux/xtables-rules.ts";
import { ask, testWith } from "../support/witness.ts";
import { KernelOracle } from "./kernel-oracle.ts";
import { DOUBTED, type RandomRuleset } from "./random-ruleset.ts";
import { askFrom, healthyWorld, serveInternet, snapshotOf, PLAN, type World } from "./world.ts";

/** What follows in the same chain, so that the rule's opposite is seen as well. */
function rulesetOf({ table, chain }: XtablesSample, rule: string): RandomRuleset {
  const iptables = `*${table}\n-A ${chain} ${rule} -j DROP\nCOMMIT\n`;
  return { nft: "", iptables, routing: [], sysctls: {} };
}

function isForwarded({ name, family, chain, mayLack }: XtablesSample): boolean {
  return family === undefined && mayLack === undefined && chain !== "OUTPUT" && !DOUBTED.has(name);
}

testWith(["root", "nft", "iptables", "ipset", "ip"])(
  "a forwarded packet meets every match",
  () => {
    using oracle = new KernelOracle(healthyWorld());
    let compared = 0;
    for (const sample of MATCH_SAMPLES.filter(isForwarded)) {
      for (const [at, rule] of sample.rules.entries()) {
        const result = oracle.runWith(at + 1, rulesetOf(sample, rule));
        expect([rule, result === undefined]).toEqual([rule, false]);
        const wrong = result!.differences.map((one) => `${one.packet} ${one.way}: ${one.observed}`);
        expect([rule, wrong]).toEqual([rule, []]);
        compared += result!.compared;
      }
    }
    expect(compared).toBeGreaterThan(500);
  },
  { timeout: 180_000 },
);

const OWNERS: readonly (readonly [match: string, passes: boolean])[] = [
  ["--uid-owner 0", false],
  ["! --uid-owner 0", true],
  ["! --uid-owner 1000", false],
  ["--uid-owner 5-9 --gid-owner 0", true],
  ["--socket-exists", false],
  ["! --socket-exists", true],
];

/** A drop in OUTPUT is told to who sends: EPERM. */
function isAnswered(world: World, seconds: number): boolean {
  try {
    return askFrom(world, 0, seconds);
  } catch (error) {
    if (error instanceof SystemError && error.code === "EPERM") return false;
    throw error;
  }
}

// A user namespace that maps one user has no name for the others, so that the kernel refuses rules about them.
testWith(["real-root", "iptables"])("whose socket sends, in the pod and through the node", async () => {
  const world = healthyWorld();
  await using _ = await serveInternet(world);
  const target = { address: PLAN.internet.dnsIpv4, protocol: "udp", port: 53 } as const;
  const stops = (): readonly string[] => {
    const snapshot = snapshotOf(world, [target.address]);
    const { path, certain } = predictPath(snapshot, snapshot.pods[0]!, target);
    return [certain ? "certain" : "unsure", ...path.stops.map((stop) => stop.kind)];
  };
  for (const [match, passes] of OWNERS) {
    const rule = ["OUTPUT", "-p", "udp", "-m", "owner", ...match.split(" "), "-j", "DROP"];
    ask(world.blue, ["iptables-nft", "-A", ...rule]);
    expect([match, stops()]).toEqual([match, passes ? ["certain"] : ["certain", "filtered"]]);
    expect([match, isAnswered(world, passes ? 5 : 0.3)]).toEqual([match, passes]);
    ask(world.blue, ["iptables-nft", "-D", ...rule]);
  }
  // On the node a forwarded packet has no socket: only what is asked for the other way round matches.
  ask(world.node, ["nft", "delete", "table", "inet", "wayout"]);
  for (const [match, passes] of [
    ["! --uid-owner 1000", true],
    ["--uid-owner 0", false],
  ] as const) {
    const rule = ["POSTROUTING", "-m", "owner", ...match.split(" "), "-j", "MASQUERADE"];
    ask(world.node, ["iptables-nft", "-t", "nat", "-A", ...rule]);
    expect([match, stops()]).toEqual([match, passes ? ["certain"] : ["certain", "untranslated"]]);
    expect([match, isAnswered(world, passes ? 5 : 0.3)]).toEqual([match, passes]);
    ask(world.node, ["iptables-nft", "-t", "nat", "-D", ...rule]);
  }
});

testWith(["root", "iptables"])(
  "an exemption for IPsec exempts nothing that IPsec does not protect",
  async () => {
    const world = healthyWorld();
    await using _ = await serveInternet(world);
    ask(world.node, ["nft", "delete", "table", "inet", "wayout"]);
    for (const rule of ["-m policy --dir out --pol ipsec -j ACCEPT", "-j MASQUERADE"]) {
      ask(world.node, ["iptables-nft", "-t", "nat", "-A", "POSTROUTING", ...rule.split(" ")]);
    }
    const target = { address: PLAN.internet.dnsIpv4, protocol: "udp", port: 53 } as const;
    const snapshot = snapshotOf(world, [target.address]);
    const { path, certain } = predictPath(snapshot, snapshot.pods[0]!, target);
    expect([certain, path.stops, path.left?.source]).toEqual([true, [], PLAN.node.uplinkIpv4]);
    expect(askFrom(world)).toBe(true);
  },
);

testWith(["root", "iptables"])("a limit that is reached now, and what the kernel says of it", async () => {
  const world = healthyWorld();
  await using _ = await serveInternet(world);
  const limit =
    "--hashlimit-above 2/hour --hashlimit-burst 2 --hashlimit-mode dstip,dstport --hashlimit-name few";
  ask(world.node, [
    "iptables-nft",
    "-A",
    "FORWARD",
    "-p",
    "udp",
    "-m",
    "hashlimit",
    ...limit.split(" "),
    "-j",
    "DROP",
  ]);
  const target = { address: PLAN.internet.dnsIpv4, protocol: "udp", port: 53 } as const;
  const predict = () => {
    const snapshot = snapshotOf(world, [target.address]);
    const { path, doubts } = predictPath(snapshot, snapshot.pods[0]!, target);
    return { stops: path.stops.map((stop) => `${stop.kind} ${stop.direction}`), doubts };
  };
  expect(predict().stops).toEqual([]);
  for (let question = 0; question < 2; question++) expect(askFrom(world)).toBe(true);
  expect(askFrom(world, 0, 0.3)).toBe(false);
  const { stops, doubts } = predict();
  expect(stops).toEqual(["filtered out"]);
  expect(doubts[0]!.about).toContain("now with room for 0 packets");
});
