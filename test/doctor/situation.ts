/** A situation from a public report, its healthy neighbour, and what the doctor says first. */
import { expect } from "bun:test";
import { diagnose, type Diagnosis } from "../../src/doctor/diagnose.ts";
import type { FindingCode } from "../../src/causes/catalogue/all.ts";
import type { Target } from "../../src/doctor/predict/path.ts";
import { ask, run, testWith } from "../support/witness.ts";
import { healthyWorld, PLAN, snapshotOf, type World } from "./world.ts";

export const WEB: Target = { address: PLAN.internet.httpIpv4, protocol: "tcp", port: 80 };
const { uplink, bridge } = PLAN.node;

export interface Situation {
  readonly name: string;
  readonly needs?: readonly string[];
  readonly target?: Target;
  /** The same in working order. */
  readonly healthy?: (world: World) => void;
  readonly fault: (world: World) => void;
  readonly code: FindingCode;
  /** Its first sentence. */
  readonly says: RegExp;
  readonly owner?: RegExp;
  /** What is printed as a fix, its commands joined by ` && `; none may be when absent, unless it has to heal. */
  readonly fix?: RegExp;
  /** How many commands these are, where that matters. */
  readonly lines?: number;
  /** What is told instead of one. */
  readonly advice?: RegExp;
  /** Its evidence holds this. */
  readonly evidence?: RegExp;
  /** By the tables all is well, and this is the reason when a real packet gets no answer. */
  readonly suspicion?: true;
  /** What is printed is executed, and nothing is left that stops the packet. */
  readonly heals?: true;
}

export function node(world: World, line: string): void {
  ask(world.node, line.split(" "));
}

export function pod(world: World, line: string): void {
  ask(world.blue, line.split(" "));
}

export function nft(world: World, text: string): void {
  ask(world.node, ["nft", "-f", "-"], text);
}

export function deadEnd(world: World, name: string, address: string): void {
  node(world, `ip link add ${name} type veth peer name ${name}-end`);
  node(world, `ip addr add ${address} dev ${name}`);
  for (const end of [name, `${name}-end`]) node(world, `ip link set ${end} up`);
}

/** Nobody knows a MAC address any more. */
export function forgetNeighbours(world: World): void {
  node(world, `ip neigh flush dev ${uplink}`);
  node(world, `ip neigh flush dev ${bridge}`);
  pod(world, `ip neigh flush dev ${PLAN.podInterface}`);
}

/** The MAC address of the pod's interface. */
export function macOf(world: World): string {
  return /link\/ether (\S+)/.exec(ask(world.blue, ["ip", "link", "show", PLAN.podInterface]))![1]!;
}

/** What no command of ours may do, whatever stands in the way. */
const FORBIDDEN =
  /rule del (?:priority |pref )?(?:0|32766|32767)\b|route del default|addr(?:ess)? del|netns del/;

export function look(world: World, target: Target): Diagnosis {
  const snapshot = snapshotOf(world, [target.address]);
  const diagnosis = diagnose(snapshot, snapshot.pods[0]!, target);
  const commands = [...diagnosis.findings, ...diagnosis.suspicions].flatMap((one) => [
    ...one.fix.map(({ command }) => command),
    ...(one.advice ?? []),
  ]);
  for (const command of commands) expect(command).not.toMatch(FORBIDDEN);
  // The change that a command makes is for whoever judges it, and not told.
  expect(JSON.stringify(diagnosis)).not.toContain('"change"');
  return diagnosis;
}

export function testSituations(situations: readonly Situation[]): void {
  for (const one of situations)
    testWith(["root", "ip", "nft", ...(one.needs ?? [])])(one.name, () => {
      const world = healthyWorld();
      one.healthy?.(world);
      const target = one.target ?? WEB;
      expect(look(world, target).findings).toEqual([]);
      one.fault(world);
      judge(look(world, target), one);
      if (one.heals === true) heal(world, target, one);
    });
}

function judge({ findings, suspicions, gaps }: Diagnosis, one: Situation): void {
  expect(gaps).toEqual([]);
  if (one.suspicion === true) expect(findings.filter(({ stopsTraffic }) => stopsTraffic)).toEqual([]);
  const [found] = one.suspicion === true ? suspicions : findings;
  expect([found?.code, found?.stopsTraffic]).toEqual([one.code, true]);
  expect(found!.text).toMatch(one.says);
  if (one.owner !== undefined) expect(found!.owner).toMatch(one.owner);
  const commands = found!.fix.map(({ command }) => command).join(" && ");
  if (one.fix !== undefined) expect(commands).toMatch(one.fix);
  else if (one.heals !== true) expect(commands).toBe("");
  if (one.lines !== undefined) expect(found!.fix).toHaveLength(one.lines);
  if (one.advice !== undefined) expect((found!.advice ?? []).join("\n")).toMatch(one.advice);
  const evidence = found!.evidence.map(({ source, value }) => `${source}: ${value}`).join("\n");
  if (one.evidence !== undefined) expect(evidence).toMatch(one.evidence);
}

/** As a person does: one finding's commands, then the next look. */
function heal(world: World, target: Target, { suspicion }: Situation): void {
  for (let round = 0; round < 4; round++) {
    const { findings, suspicions } = look(world, target);
    const [found] = suspicion === true ? suspicions : findings.filter(({ stopsTraffic }) => stopsTraffic);
    if (found === undefined) return;
    expect(found.fix.length).toBeGreaterThan(0);
    for (const { command } of found.fix) {
      const { exitCode, stderr } = run(undefined, ["sh", "-c", command]);
      expect([command, exitCode, stderr]).toEqual([command, 0, ""]);
    }
  }
  expect(look(world, target).findings.filter(({ stopsTraffic }) => stopsTraffic)).toEqual([]);
}
