/** IPsec's policies stand beside routes and rules: what they do to a pod's packets, and to the answers. */
import { describe, expect } from "bun:test";
import { diagnose } from "../../src/doctor/diagnose.ts";
import type { Target } from "../../src/doctor/predict/path.ts";
import type { Snapshot } from "../../src/snapshot/snapshot.ts";
import { ask, testWith } from "../support/witness.ts";
import { fetchFrom, healthyWorld, serveInternet, snapshotOf, PLAN, type World } from "./world.ts";

const WEB: Target = { address: PLAN.internet.httpIpv4, protocol: "tcp", port: 80 };
const ELSEWHERE = "172.16.0.0/16";
const THERE = "198.51.100.0/24";
const { podNetworkIpv4: pods, node } = PLAN;
const own = `${node.uplinkIpv4}/32`;

interface Situation {
  readonly name: string;
  readonly inPod?: true;
  /** Of `ip xfrm policy add`, with DEST where the destination stands: that of others is the healthy neighbour. */
  readonly policies: readonly string[];
  readonly says: RegExp;
  readonly fix?: RegExp;
}

const TUNNEL = `tmpl src ${node.uplinkIpv4} dst ${PLAN.internet.routerIpv4} proto esp mode tunnel`;

const SITUATIONS: readonly Situation[] = [
  {
    name: "a connection that is down, with the pods' range among its selectors",
    policies: [`dir out src ${pods} dst DEST ${TUNNEL}`],
    says: /^the IPsec policy “src 10\.0\.0\.0\/24 dst 198\.51\.100\.0\/24 dir out tmpl .* mode tunnel priority 0” wants what ns-blue sends encrypted for 203\.0\.113\.1, and no IPsec connection is up/,
  },
  {
    name: "a policy that blocks, both ways",
    policies: [
      `dir out src ${pods} dst DEST priority 2000 action block`,
      `dir fwd src DEST dst ${own} proto tcp priority 2000 action block`,
    ],
    says: /dir out action block priority 2000” refuses what ns-blue sends$/,
    fix: /ip xfrm policy add src 10\.0\.0\.1 dst 198\.51\.100\.80 dir out priority 1999 action allow && .*ip xfrm policy add src 198\.51\.100\.80 dst 203\.0\.113\.5 dir fwd priority 1999 action allow$/,
  },
  {
    name: "one that blocks the node's own address, which the pods' packets get",
    policies: [`dir out src ${own} dst DEST action block`],
    says: /src 203\.0\.113\.5\/32 dst 198\.51\.100\.0\/24 dir out action block priority 0” refuses/,
    fix: /ip xfrm policy delete src 203\.0\.113\.5\/32 dst 198\.51\.100\.0\/24 dir out$/,
  },
  {
    name: "answers are taken encrypted alone",
    policies: [`dir fwd src DEST dst ${own} priority 9 ${TUNNEL}`],
    says: /takes the answers to ns-blue only encrypted, and it comes as it is$/,
    fix: /ip xfrm policy add src 198\.51\.100\.80 dst 203\.0\.113\.5 dir fwd priority 8 action allow$/,
  },
  {
    name: "a policy of the pod's own",
    inPod: true,
    policies: ["dir out src 0.0.0.0/0 dst DEST priority 5 action block"],
    says: /” in ns-blue refuses what ns-blue sends$/,
    fix: /netns exec ns-blue ip xfrm policy add src 10\.0\.0\.1 dst 198\.51\.100\.80 dir out priority 4 action allow$/,
  },
];

function addPolicy(world: World, { inPod, policies }: Situation, destination: string): void {
  for (const policy of policies) {
    const words = policy.replace("DEST", destination).split(" ");
    ask(inPod === true ? world.blue : world.node, ["ip", "xfrm", "policy", "add", ...words]);
  }
}

function judge(snapshot: Snapshot): ReturnType<typeof diagnose> {
  return diagnose(snapshot, snapshot.pods[0]!, WEB);
}

describe("a policy", () => {
  for (const situation of SITUATIONS) {
    testWith(["root", "ip", "curl"])(situation.name, async () => {
      const world = healthyWorld();
      await using _server = await serveInternet(world);
      addPolicy(world, situation, ELSEWHERE);
      expect(fetchFrom(world)).toBe(node.uplinkIpv4);
      expect(judge(snapshotOf(world)).findings).toEqual([]);
      addPolicy(world, situation, THERE);
      expect(fetchFrom(world, 4, 1)).toBeUndefined();
      const { findings, gaps } = judge(snapshotOf(world));
      expect(gaps).toEqual([]);
      const [found] = findings;
      expect([found?.code, found?.stopsTraffic]).toEqual(["ipsec-drops", true]);
      expect(found!.text).toMatch(situation.says);
      const fix = found!.fix[0]?.command;
      if (situation.fix === undefined) expect(fix).toBeUndefined();
      else expect(fix).toMatch(situation.fix);
      if (fix === undefined) return;
      ask(world.node, ["sh", "-c", fix]);
      expect(fetchFrom(world)).toBe(node.uplinkIpv4);
    });
  }
});

testWith(["root", "ip"])(
  "what is translated before IPsec sees it escapes the tunnel, and is told when no answer comes",
  () => {
    const world = healthyWorld();
    const policy = `dir out src ${pods} dst ${THERE} ${TUNNEL}`;
    ask(world.node, ["ip", "xfrm", "policy", "add", ...policy.split(" ")]);
    const snapshot = snapshotOf(world);
    // Not every kernel has ESP: the connection that is up is put in here.
    const { templates } = snapshot.node.ipsec!.policies[0]!;
    const associations = templates.map(({ source, destination, protocol, requestId, mode }) => ({
      source,
      destination,
      protocol,
      requestId,
      mode,
    }));
    const ipsec = { ...snapshot.node.ipsec!, associations };
    const { findings, suspicions } = judge({ ...snapshot, node: { ...snapshot.node, ipsec } });
    expect(findings).toEqual([]);
    expect(suspicions[0]?.code).toBe("ipsec-escaped");
    expect(suspicions[0]!.text).toMatch(/masquerade.* translates ns-blue's source before IPsec sees it/);
    expect(suspicions[0]!.fix[0]?.command).toMatch(
      /nft insert rule inet wayout \S+ ip saddr 10\.0\.0\.0\/24 ip daddr 198\.51\.100\.0\/24 rt ipsec exists accept$/,
    );
  },
);
