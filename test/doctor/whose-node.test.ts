/** Which namespace plays the node: the one that the pod's own way out leads to, whatever its interface is called. */
import { expect } from "bun:test";
import { join } from "node:path";
import type { Diagnosis } from "../../src/doctor/diagnose.ts";
import { ask, run, testWith } from "../support/witness.ts";
import { freshNamespace } from "../support/world.ts";
import { makeWorld, type PodWorld } from "../trace/world.ts";

const MAIN = join(import.meta.dir, "..", "..", "src", "main.ts");

function doctor(world: PodWorld, ...options: string[]): Diagnosis {
  const ran = run(undefined, [process.execPath, MAIN, "doctor", world.pod.name!, "--json", ...options]);
  return JSON.parse(ran.stdout) as Diagnosis;
}

testWith(["root", "nft"])("an interface that is not called eth0", async () => {
  await using world = await makeWorld();
  const diagnosis = doctor(world);
  expect([diagnosis.healthy, diagnosis.findings]).toEqual([true, []]);
  expect(diagnosis.answer).toContain("leave by ens4 as 203.0.113.2");
});

testWith(["root", "nft"])(
  "an eth0 that leads elsewhere beside the interface of the default route",
  async () => {
    await using world = await makeWorld();
    const elsewhere = freshNamespace("other");
    ask(elsewhere, [
      "ip",
      "link",
      "add",
      "veth-x",
      "type",
      "veth",
      "peer",
      "name",
      "eth0",
      "netns",
      world.pod.name!,
    ]);
    ask(elsewhere, ["ip", "link", "set", "veth-x", "up"]);
    world.in("pod", "ip", "link", "set", "eth0", "up");
    expect(doctor(world).answer).toContain("leave by ens4 as 203.0.113.2");
  },
);

testWith(["root", "nft"])("a pod without a route still finds its node", async () => {
  await using world = await makeWorld();
  world.in("pod", "ip", "route", "del", "default");
  expect(doctor(world).findings.map((one) => one.code)).toEqual(["pod-no-route"]);
});
