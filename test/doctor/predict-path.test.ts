import { expect } from "bun:test";
import { predictPath } from "../../src/doctor/predict/predict.ts";
import { PLAN } from "../../src/lab/plan.ts";
import { ask, testWith } from "../support/witness.ts";
import { fetchFrom, healthyWorld, serveInternet, snapshotOf } from "./world.ts";

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

testWith(["root", "iptables", "curl"])(
  "a mark that iptables saves with the connection and restores for its answers",
  async () => {
    const world = healthyWorld();
    await using _ = await serveInternet(world);
    const rules = (mask: string): string =>
      [
        "*mangle",
        "-A PREROUTING -i br0 -j MARK --set-xmark 0x1/0xffffffff",
        "-A PREROUTING -i br0 -j CONNMARK --save-mark --nfmask 0xff --ctmask 0xff",
        "-A PREROUTING -i eth0 -j CONNMARK --restore-mark --nfmask 0xff --ctmask 0xff",
        "COMMIT",
        "*filter",
        `-A FORWARD -i eth0 -m mark ! --mark ${mask} -j DROP`,
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
