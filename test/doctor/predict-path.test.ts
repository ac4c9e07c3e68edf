import { expect } from "bun:test";
import { predictPath } from "../../src/doctor/predict/predict.ts";
import { ask, testWith } from "../support/witness.ts";
import { fetchFrom, healthyWorld, serveInternet, snapshotOf, PLAN } from "./world.ts";

testWith(["root"])("a pod with a way out: the whole path, there and back", () => {
  const world = healthyWorld();
  const snapshot = snapshotOf(world);
  const { path, certain } = predictPath(snapshot, snapshot.pods[0]!, {
    address: PLAN.internet.httpIpv4,
    protocol: "tcp",
    port: 80,
  });
  expect(path.stops).toEqual([]);
  expect(certain).toBe(true);
  expect(path.sent?.source).toBe(PLAN.pods.blue.ipv4);
  expect(path.left?.source).toBe(PLAN.node.uplinkIpv4);
  expect(path.steps.map(({ place, direction, at }) => `${place} ${direction} ${at}`)).toEqual([
    "pod out route",
    "node out wire",
    "node out route",
    "node out postrouting",
    "node out postrouting",
    "node back route",
    "pod back input",
  ]);
});

/** A mark goes into the conntrack entry, is shifted or not, and comes back out: 0x12 at the end, or something else. */
const MARKS: readonly (readonly [rules: readonly string[], dropped: boolean])[] = [
  [["-j MARK --set-mark 0x12", "-j CONNMARK --save-mark"], true],
  [["-j MARK --set-mark 0x112", "-j CONNMARK --save-mark --nfmask 0xff --ctmask 0xff"], true],
  [["-j CONNMARK --set-mark 0x12"], true],
  [["-j MARK --set-mark 0x21", "-j CONNMARK --save-mark"], false],
  [["-j MARK --set-mark 0x120", "-j CONNMARK --save-mark --right-shift-mark 4"], true],
  [["-j MARK --set-mark 0x9", "-j CONNMARK --save-mark --left-shift-mark 1"], true],
  [["-j MARK --set-mark 0x12", "-j CONNMARK --save-mark --left-shift-mark 1"], false],
  [
    [
      "-j CONNMARK --set-mark 0x12",
      "-j CONNMARK --restore-mark",
      "-j CONNMARK --set-mark 0",
      "-j CONNMARK --save-mark",
    ],
    true,
  ],
];

testWith(["root", "nft", "iptables", "curl"])(
  "marks of connections are what the kernel makes of them",
  async () => {
    const world = healthyWorld();
    await using _ = await serveInternet(world);
    const drop =
      "table inet t { chain forward { type filter hook forward priority 0; ct mark 0x12 drop; }; }";
    ask(world.node, ["nft", "-f", "-"], drop);
    for (const [rules, dropped] of MARKS) {
      const mangle = rules.map((rule) => `-A PREROUTING -s ${PLAN.pods.blue.ipv4} ${rule}`).join("\n");
      ask(world.node, ["iptables-nft-restore"], `*mangle\n${mangle}\nCOMMIT\n`);
      const snapshot = snapshotOf(world);
      const target = { address: PLAN.internet.httpIpv4, protocol: "tcp", port: 80 } as const;
      const { path, certain } = predictPath(snapshot, snapshot.pods[0]!, target);
      expect([rules, certain, path.stops.some((stop) => stop.kind === "filtered")]).toEqual([
        rules,
        true,
        dropped,
      ]);
      expect([rules, fetchFrom(world, 4, dropped ? 1 : 5) === undefined]).toEqual([rules, dropped]);
    }
  },
);

testWith(["root", "iptables", "curl"])(
  "a mark that iptables saves with the connection and restores for its answers",
  async () => {
    const world = healthyWorld();
    await using _ = await serveInternet(world);
    const rules = (mask: string): string =>
      [
        "*mangle",
        "-A PREROUTING -i lan0 -j MARK --set-xmark 0x1/0xffffffff",
        "-A PREROUTING -i lan0 -j CONNMARK --save-mark --nfmask 0xff --ctmask 0xff",
        "-A PREROUTING -i up0 -j CONNMARK --restore-mark --nfmask 0xff --ctmask 0xff",
        "COMMIT",
        "*filter",
        `-A FORWARD -i up0 -m mark ! --mark ${mask} -j DROP`,
        "COMMIT",
        "",
      ].join("\n");
    for (const [mask, passes] of [
      ["0x1/0x3", true],
      ["0x2/0x3", false],
    ] as const) {
      ask(world.node, ["iptables-nft-restore"], rules(mask));
      expect(fetchFrom(world, 4, passes ? 5 : 0.5) !== undefined).toBe(passes);
      const snapshot = snapshotOf(world);
      const target = { address: PLAN.internet.httpIpv4, protocol: "tcp", port: 80 } as const;
      const { path, certain } = predictPath(snapshot, snapshot.pods[0]!, target);
      expect(path.stops.map((stop) => `${stop.kind} ${stop.direction}`)).toEqual(
        passes ? [] : ["filtered back"],
      );
      expect(certain).toBe(true);
    }
  },
);
