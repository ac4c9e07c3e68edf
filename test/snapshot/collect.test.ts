/** What is asked of a crowded node: other pods' addresses only where one of them may matter. */
import { expect } from "bun:test";
import { findPod } from "../../src/pods/find.ts";
import { takeSnapshot } from "../../src/snapshot/collect.ts";
import { healthyWorld, PLAN } from "../doctor/world.ts";
import { writeSysctl } from "../../src/kernel/sysctl.ts";
import { ask, testWith } from "../support/witness.ts";

testWith(["root"])("of many other pods only those are read that a check may ask for", () => {
  const world = healthyWorld();
  const green = findPod(PLAN.pods.green.namespace);
  const crowd = Array.from({ length: 40 }, () => green);
  const names = (destination: string, others = crowd): string[] =>
    takeSnapshot({
      node: world.node,
      pods: [findPod(PLAN.pods.blue.namespace)],
      others,
      destinations: [destination],
    }).pods.map((pod) => pod.name);
  const { blue } = PLAN.pods;
  expect(names(PLAN.internet.httpIpv4)).toEqual([blue.namespace]);
  // The destination lies in the range of a bridge: somebody there may have it.
  expect(names(PLAN.pods.green.ipv4)).toHaveLength(41);
  expect(names(PLAN.pods.green.ipv6)).toHaveLength(41);
  expect(names(PLAN.internet.httpIpv4, [green])).toEqual([blue.namespace, green.name]);
});

testWith(["root", "ip"])("of a pod is read whether marks count where one of its rules asks for them", () => {
  const world = healthyWorld();
  const { blue } = PLAN.pods;
  const settings = (): Record<string, string> =>
    takeSnapshot({
      node: world.node,
      pods: [findPod(blue.namespace)],
      destinations: [PLAN.internet.httpIpv4],
    }).pods[0]!.state!.sysctls;
  const always = { "net.ipv4.ip_default_ttl": "64", "net.ipv4.conf.all.rp_filter": "0" };
  expect(settings()).toEqual(always);
  ask(undefined, ["ip", "-n", blue.namespace, "rule", "add", "fwmark", "7", "lookup", "main"]);
  expect(settings()).toEqual({ ...always, "net.ipv4.conf.all.src_valid_mark": "0" });
});

testWith(["root", "ip"])("a pod's settings are those that it has, whichever way they are read", () => {
  const world = healthyWorld();
  const { blue } = PLAN.pods;
  const changed = { "net.ipv4.ip_default_ttl": "7", "net.ipv4.conf.all.rp_filter": "2" };
  for (const [name, value] of Object.entries(changed)) writeSysctl(world.blue, name, value);
  const [pod] = takeSnapshot({
    node: world.node,
    pods: [findPod(blue.namespace)],
    destinations: [PLAN.internet.httpIpv4],
  }).pods;
  expect(pod!.state!.sysctls).toEqual(changed);
});

testWith(["root", "ip"])("of many pods the next hops are known as they are", () => {
  const world = healthyWorld();
  const { blue, green } = PLAN.pods;
  const gateway = PLAN.node.gatewayIpv4;
  const pin = (address: string, mac: string): void => {
    ask(world.blue, [
      "ip",
      "neigh",
      "replace",
      address,
      "lladdr",
      mac,
      "nud",
      "permanent",
      "dev",
      PLAN.podInterface,
    ]);
  };
  pin(gateway, "02:00:00:00:00:77");
  pin(green.ipv4, "02:00:00:00:00:78");
  pin("10.0.0.77", "02:00:00:00:00:79");
  const pods = Array.from({ length: 40 }, () => findPod(blue.namespace));
  const snapshot = takeSnapshot({
    node: world.node,
    pods,
    destinations: [PLAN.internet.httpIpv4, green.ipv4],
  });
  const known = snapshot.pods[0]!.state!.neighbours.filter((one) => one.state === "permanent");
  expect(known.map(({ address, mac }) => `${address} ${mac}`).sort()).toEqual([
    `${green.ipv4} 02:00:00:00:00:78`,
    `${gateway} 02:00:00:00:00:77`,
  ]);
});
