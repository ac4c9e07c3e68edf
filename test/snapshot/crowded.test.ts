/** A pod may put any number of things into its own namespace: they are not all read, and that is said. */
import { expect } from "bun:test";
import type { NetworkNamespace } from "../../src/kernel/namespace.ts";
import { Rtnetlink } from "../../src/kernel/route/rtnetlink.ts";
import { podRoute } from "../../src/pods/pod-socket.ts";
import { linkProblems } from "../../src/ways-out/expected.ts";
import { diagnose } from "../../src/doctor/diagnose.ts";
import { healthyWorld, snapshotOf, PLAN } from "../doctor/world.ts";
import { ask, testWith } from "../support/witness.ts";

const WEB = { address: PLAN.internet.httpIpv4, protocol: "tcp", port: 80 } as const;

function address(number: number): string {
  return `100.${64 + (number >> 16)}.${(number >> 8) & 255}.${number & 255}`;
}

function crowd(length: number, line: (address: string) => string, from = 0): string {
  return Array.from({ length }, (_, number) => line(address(from + number))).join("");
}

const AT_ONCE = 4_000;

/** Each is more than is read of a pod. */
const CROWDS: readonly { readonly what: string; readonly fill: (pod: NetworkNamespace) => void }[] = [
  {
    what: "routes",
    fill: (pod) =>
      ask(
        pod,
        ["ip", "-batch", "-"],
        crowd(100_000, (one) => `route add blackhole ${one}/32\n`),
      ),
  },
  {
    what: "ruleset",
    fill(pod) {
      ask(pod, ["nft", "add table inet many; add set inet many s { type ipv4_addr; }"]);
      // An ordinary user's transaction has to fit into his socket's buffer.
      for (let from = 0; from < 200_000; from += AT_ONCE) {
        const elements = crowd(AT_ONCE, (one) => `${one}, `, from);
        ask(pod, ["nft", "-f", "-"], `add element inet many s { ${elements} }`);
      }
    },
  },
  {
    what: "iptables-legacy",
    fill: (pod) =>
      ask(
        pod,
        ["iptables-legacy-restore"],
        `*filter\n${crowd(40_000, (one) => `-A INPUT -s ${one}\n`)}COMMIT\n`,
      ),
  },
];

/** Nor is its way out called broken or whole where what was promised may be among them. */
function expectUnproven({ node, blue }: ReturnType<typeof healthyWorld>): void {
  using outside = Rtnetlink.open(node);
  using inside = podRoute(blue);
  const routes = [{ destination: "0.0.0.0/0" }];
  const found = linkProblems(outside, inside, {
    interface: PLAN.podInterface,
    addresses: [],
    routes,
    gateways: [],
  });
  expect(found.map(({ code }) => code)).toEqual(["pod-not-read"]);
}

for (const { what, fill } of CROWDS) {
  testWith(["root", "ip", "nft", "iptables-legacy"])(
    `too much: ${what}`,
    () => {
      const world = healthyWorld();
      fill(world.blue);
      const snapshot = snapshotOf(world);
      const [blue] = snapshot.pods;
      expect(snapshot.missing.map((one) => [one.where, one.what])).toEqual([[blue!.name, what]]);
      expect(snapshot.missing[0]!.why).toContain("which was given up");
      expect(blue!.state!.rules.length).toBeGreaterThan(0);
      if (what === "routes") expectUnproven(world);
      const { blind, findings } = diagnose(snapshot, blue!, WEB);
      expect([blind, findings]).toEqual([true, []]);
    },
    240_000,
  );
}
