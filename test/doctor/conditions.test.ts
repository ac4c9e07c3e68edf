/** Rules that drop on a condition: what is used up is raised and not taken away; what one packet cannot tell is told. */
import { describe, expect } from "bun:test";
import { diagnose, type Diagnosis } from "../../src/doctor/diagnose.ts";
import type { Target } from "../../src/doctor/predict/path.ts";
import { probed } from "../../src/examination/probe.ts";
import { ask, testWith } from "../support/witness.ts";
import { fetchFrom, healthyWorld, serveInternet, snapshotOf, PLAN, type World } from "./world.ts";

const WEB: Target = { address: PLAN.internet.httpIpv4, protocol: "tcp", port: 80 };
const BLUE = PLAN.pods.blue.ipv4;

/** With a real packet, as the command line does it. */
function look(world: World): Diagnosis {
  const snapshot = snapshotOf(world);
  const pod = snapshot.pods[0]!;
  return probed(snapshot, pod.name, diagnose(snapshot, pod, WEB));
}

function filter(world: World, rules: string, besides = ""): void {
  ask(
    world.node,
    ["nft", "-f", "-"],
    `table ip site { ${besides} chain f { type filter hook forward priority 0; ${rules}; }; }`,
  );
}

function iptables(world: World, rule: string): void {
  ask(world.node, ["iptables", "-A", "FORWARD", "-s", BLUE, ...rule.split(" ")]);
}

/** What is used up stops the pod; the printed line gives it more, and the rule stays. */
const USED_UP: Readonly<Record<string, { apply: (world: World) => void; says: RegExp; fix: RegExp }>> = {
  "a rate limit": {
    apply: (world) =>
      filter(world, `ip saddr ${BLUE} ct state new limit rate over 2/hour burst 2 packets drop`),
    says: /limit rate over 2\/hour burst 2 packets drop.*: its rate limit is used up/,
    fix: /nft 'replace rule ip site f handle \d+ .* limit rate over 20\/hour burst 20 packets drop'$/,
  },
  "a quota of a rule": {
    apply: (world) => filter(world, `ip saddr ${BLUE} quota over 200 bytes drop`),
    says: /quota over 200 bytes.*: its quota is used up/,
    fix: /nft 'replace rule ip site f handle \d+ .*quota over 2000 bytes drop'$/,
  },
  "a quota with a name": {
    apply: (world) =>
      filter(world, `ip saddr ${BLUE} quota name "month" drop`, "quota month { over 2 kbytes; };"),
    says: /quota name "month" drop.*: its quota is used up/,
    fix: /nft reset quota ip site month$/,
  },
  "a quota in front of a drop": {
    apply(world) {
      iptables(world, "-m quota --quota 200 -j ACCEPT");
      iptables(world, "-j DROP");
    },
    says: /--quota 200 .*ACCEPT” accepts it before, and its quota is used up/,
    fix: /iptables -R FORWARD 1 -s 10\.0\.0\.1\/32 -m quota --quota 2000 -j ACCEPT$/,
  },
};

describe("used up", () => {
  for (const [name, { apply, says, fix }] of Object.entries(USED_UP)) {
    testWith(["root", "ip", "nft", "iptables", "curl"])(name, async () => {
      const world = healthyWorld();
      await using _ = await serveInternet(world);
      apply(world);
      for (let more = 0; more < 6; more++) fetchFrom(world, 4, 0.3);
      const { findings, healthy } = look(world);
      expect(healthy).toBe(false);
      expect(findings[0]!.text).toMatch(says);
      const commands = findings[0]!.fix.map((one): string => one.command);
      expect(commands).toHaveLength(1);
      expect(commands[0]).toMatch(fix);
      expect(commands.join()).not.toMatch(/delete rule| -D /);
      expect(Bun.spawnSync(["sh", "-c", commands[0]!]).exitCode).toBe(0);
      expect(fetchFrom(world, 4, 2)).toBe(PLAN.node.uplinkIpv4);
    });
  }
});

/** The packet that is sent gets through; the rule is told all the same, and is no fault. */
const OTHER_PACKETS: Readonly<Record<string, { apply: (world: World) => void; code: string; says: RegExp }>> =
  {
    "by what it carries": {
      apply: (world) => iptables(world, "-p tcp -m string --string PUT --algo bm -j DROP"),
      code: "filter-by-content",
      says: /--string "PUT".* drops what ns-blue sends by what a packet carries/,
    },
    "by raw bytes": {
      apply: (world) => filter(world, `ip saddr ${BLUE} tcp dport 80 @th,256,32 0x50555420 drop`),
      code: "filter-by-content",
      says: /0x50555420 drop/,
    },
    "by its length": {
      apply: (world) => filter(world, `ip saddr ${BLUE} ip protocol tcp ip length > 1000 drop`),
      code: "filter-by-content",
      says: /ip length > 1000 drop/,
    },
    "by iptables' length": {
      apply: (world) => iptables(world, "-p tcp -m length --length 1000:65535 -j DROP"),
      code: "filter-by-content",
      says: /--length 1000/,
    },
    "by the year": {
      apply: (world) => iptables(world, "-m time --datestop 2020-01-01 -j REJECT"),
      code: "filter-by-time",
      says: /at certain times, and not now/,
    },
  };

describe("this packet passes, and another one would be dropped", () => {
  for (const [name, { apply, code, says }] of Object.entries(OTHER_PACKETS)) {
    testWith(["root", "ip", "nft", "iptables", "curl"])(name, async () => {
      const world = healthyWorld();
      await using _ = await serveInternet(world);
      apply(world);
      const { findings, healthy, certain, answer } = look(world);
      expect([healthy, certain]).toEqual([true, true]);
      expect(findings.map((one): string => one.code)).toEqual([code]);
      expect(findings[0]!.text).toMatch(says);
      expect(answer).toContain(findings[0]!.text);
      expect(findings[0]!.fix).toEqual([]);
    });
  }
});

testWith(["root", "nft", "curl"])("a request that the rule drops proves it", async () => {
  const world = healthyWorld();
  await using _ = await serveInternet(world);
  filter(world, `ip saddr ${BLUE} tcp dport 80 @th,256,32 0x47455420 drop`);
  const { findings, healthy } = look(world);
  expect([healthy, findings[0]?.code, findings[0]?.stopsTraffic]).toEqual([false, "filter-by-content", true]);
});

describe("the time now", () => {
  const RULES: Readonly<Record<string, (world: World) => void>> = {
    iptables: (world) => iptables(world, "-m time --datestart 2020-01-01 -j DROP"),
    nft: (world) =>
      ask(
        world.node,
        ["env", "TZ=UTC", "nft", "-f", "-"],
        `table ip site { chain f { type filter hook forward priority 0; ip saddr ${BLUE} meta hour < "23:59:59" drop; }; }`,
      ),
  };
  for (const [name, apply] of Object.entries(RULES)) {
    testWith(["root", "ip", "nft", "iptables"])(`is within what a rule of ${name} drops`, () => {
      const world = healthyWorld();
      apply(world);
      const snapshot = snapshotOf(world);
      const { findings, healthy, certain } = diagnose(snapshot, snapshot.pods[0]!, WEB);
      expect([healthy, certain]).toEqual([false, true]);
      expect(findings[0]?.code).toBe("filter-rule-drops");
    });
  }
});

testWith(["root", "ip", "nft"])("pings count where a rule asks for no protocol", () => {
  const world = healthyWorld();
  filter(
    world,
    `ip saddr ${BLUE} ct state new add @c { ip saddr ct count over 1 } drop`,
    "set c { type ipv4_addr; flags dynamic; };",
  );
  ask(world.blue, ["ping", "-c1", "-W5", PLAN.internet.httpIpv4]);
  const snapshot = snapshotOf(world);
  const { findings } = diagnose(snapshot, snapshot.pods[0]!, WEB);
  expect(findings[0]?.text).toContain("its limit of connections is reached");
  expect(findings[0]?.evidence.map(({ value }) => value).join()).toContain("now 1 open");
  expect(findings[0]?.fix).toEqual([]);
});
