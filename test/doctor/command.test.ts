/** `wayout doctor` and `wayout snapshot` as processes: the answer first, exit codes, --json, --fix, a snapshot elsewhere. */
import { expect } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Diagnosis } from "../../src/doctor/diagnose.ts";
import { Rtnetlink } from "../../src/kernel/route/rtnetlink.ts";
import { Conntrack } from "../../src/kernel/conntrack/conntrack.ts";
import { faultNamed } from "../../src/lab/faults/all.ts";
import { PLAN } from "../../src/lab/plan.ts";
import { attachProgram } from "../support/bpf.ts";
import { run, testWith, type Ran } from "../support/witness.ts";
import { askFrom, fetchFrom, labWorld, serveInternet } from "./world.ts";

const MAIN = join(import.meta.dir, "..", "..", "src", "main.ts");
const BLUE = PLAN.pods.blue.namespace;

function wayout(...args: readonly string[]): Ran {
  return run(undefined, [process.execPath, MAIN, ...args], undefined, { ...process.env, NO_COLOR: "1" });
}

testWith(["root"])("a healthy pod: one sentence, a checklist of ticks, exit code 0", () => {
  labWorld();
  const { exitCode, stdout } = wayout("doctor", BLUE);
  expect(exitCode).toBe(0);
  const [answer, , ...lines] = stdout.trimEnd().split("\n");
  expect(answer).toStartWith(`✓ ${BLUE} can reach 1.1.1.1:443`);
  // Each line says what was judged, with values; what was not judged has no tick.
  const steps = lines.map((line) => line.trim().split(/ {2,}/));
  expect(steps.filter(([sign, , text]) => !["✓", "–"].includes(sign!) || (text ?? "") === "")).toEqual([]);
  expect(steps.filter(([sign]) => sign === "–").map(([, title]) => title)).toEqual(["name resolution"]);
});

testWith(["root"])("a broken pod: the cause in the first line, exit code 1, the same in JSON", () => {
  const world = labWorld();
  faultNamed("docker-user-drop")!.apply(world);
  const said = wayout("doctor", BLUE, "--to", `${PLAN.internet.httpIpv4}:80`, "--no-probe");
  expect(said.exitCode).toBe(1);
  expect(said.stdout.split("\n")[0]).toMatch(
    /^✗ ns-blue cannot reach 198\.51\.100\.80:80 because Docker's rule “-i br0 -j DROP” in ip filter DOCKER-USER drops/,
  );
  const json = wayout("doctor", BLUE, "--to", `${PLAN.internet.httpIpv4}:80`, "--no-probe", "--json");
  expect(json.exitCode).toBe(1);
  const diagnosis = JSON.parse(json.stdout) as Diagnosis;
  expect(diagnosis.findings.map((one) => one.code)).toEqual(["filter-rule-drops"]);
  expect(diagnosis.findings[0]!.owner).toBe("Docker");
});

testWith(["root", "curl"])("--fix --yes mends what is ours, one cause behind the other", async () => {
  const world = labWorld();
  await using _ = await serveInternet(world);
  for (const name of ["forwarding-off", "no-masquerade", "veth-down"]) faultNamed(name)!.apply(world);
  expect(wayout("doctor", BLUE, "--no-probe").exitCode).toBe(1);
  const fixed = wayout("doctor", BLUE, "--no-probe", "--fix", "--yes");
  expect(fixed.stderr).not.toContain("✗");
  expect(fixed.exitCode).toBe(0);
  expect(fetchFrom(world)).toBe(PLAN.node.uplinkIpv4);
});

testWith(["root"])("--fix forgets a flow that keeps an old decision, and nothing else", async () => {
  const world = labWorld();
  await using _ = await serveInternet(world);
  faultNamed("flow-before-the-rule")!.apply(world);
  expect(askFrom(world)).toBe(true);
  expect(askFrom(world, 5300, 0.5)).toBe(false);
  using table = Conntrack.open(world.node);
  const before = table.entries().length;
  const about = ["--to", `${PLAN.internet.dnsIpv4}:53`, "--proto", "udp", "--no-probe"];
  const ran = wayout("doctor", BLUE, ...about, "--fix", "--yes");
  expect(ran.stdout).toContain("wayout conntrack flush --proto udp");
  expect(ran.exitCode).toBe(0);
  expect(askFrom(world, 5300)).toBe(true);
  expect(before).toBeGreaterThan(1);
});

testWith(["root"])("--fix without --yes and without a person changes nothing", () => {
  const world = labWorld();
  faultNamed("forwarding-off")!.apply(world);
  expect(wayout("doctor", BLUE, "--no-probe", "--fix").exitCode).toBe(1);
  expect(wayout("doctor", BLUE, "--no-probe").exitCode).toBe(1);
});

testWith(["root"])("the whole node: pods that are well are counted, equal findings told once", () => {
  const world = labWorld();
  const well = wayout("doctor", "--node", PLAN.node.namespace);
  expect(well.exitCode).toBe(0);
  expect(well.stdout).toStartWith("✓ 2 of 2 pods can reach the outside");
  faultNamed("forwarding-off")!.apply(world);
  const broken = wayout("doctor", "--node", PLAN.node.namespace);
  expect(broken.exitCode).toBe(1);
  expect(broken.stdout).toStartWith("✗ 0 of 2 pods can reach the outside");
  expect(broken.stdout.match(/net\.ipv4\.ip_forward is 0/g)).toHaveLength(1);
  expect(broken.stdout).toContain("ns-blue, ns-green");
});

testWith(["root"])("a snapshot says the same elsewhere", () => {
  const world = labWorld();
  faultNamed("no-masquerade")!.apply(world);
  const directory = mkdtempSync(join(tmpdir(), "wayout-snapshot-"));
  try {
    const file = join(directory, "node.json");
    const taken = wayout(
      "snapshot",
      "--node",
      PLAN.node.namespace,
      "--to",
      PLAN.internet.httpIpv4,
      "-o",
      file,
    );
    expect(taken.stderr).toBe("");
    expect(taken.exitCode).toBe(0);
    const said = wayout("doctor", BLUE, "--snapshot", file, "--to", `${PLAN.internet.httpIpv4}:80`);
    expect(said.exitCode).toBe(1);
    expect(said.stdout).toContain("[nat-missing]");
    const nobody = wayout("doctor", "ns-red", "--snapshot", file);
    expect(nobody.exitCode).toBe(2);
    writeFileSync(file, "{}");
    expect(wayout("doctor", BLUE, "--snapshot", file).exitCode).toBe(2);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
});

testWith(["root"])("with --to a real packet confirms, and finds what no table tells", async () => {
  const world = labWorld();
  const target = `${PLAN.internet.httpIpv4}:80`;
  {
    await using _ = await serveInternet(world);
    const confirmed = wayout("doctor", BLUE, "--to", target);
    expect(confirmed.stdout).toContain("(a real packet: ");
    expect(confirmed.exitCode).toBe(0);
  }
  // Behind the router, where this node cannot look: nobody answers any more.
  run(world.internet, ["ip", "addr", "del", `${PLAN.internet.httpIpv4}/32`, "dev", "lo"]);
  const silent = wayout("doctor", BLUE, "--to", target, "--json");
  expect(silent.exitCode).toBe(1);
  const diagnosis = JSON.parse(silent.stdout) as Diagnosis;
  expect(diagnosis.findings.map((one) => one.code)).toEqual(["no-answer"]);
});

testWith(["root"])("with --to pings of several sizes find the black hole that no table shows", async () => {
  const world = labWorld();
  await using _ = await serveInternet(world);
  faultNamed("narrow-tunnel")!.apply(world);
  const target = `${PLAN.internet.httpIpv4}:80`;
  expect(wayout("doctor", BLUE, "--to", target, "--no-probe").exitCode).toBe(0);
  const { exitCode, stdout } = wayout("doctor", BLUE, "--to", target);
  expect(exitCode).toBe(1);
  expect(stdout).toContain("only with small packets");
  expect(stdout).toContain("[mtu-black-hole]");
  expect(stdout).toContain("lost, and no message came back: 1420, 1440, 1460, 1480, 1492, 1500");
  expect(stdout).toContain(`ip netns exec ${BLUE} ip link set dev eth0 mtu 1400`);
});

testWith(["real-root"])(
  "a cause on nobody's list: where the packet was last seen, and what the kernel said",
  async () => {
    const world = labWorld();
    await using _ = await serveInternet(world);
    using route = Rtnetlink.open(world.node);
    using _program = attachProgram(
      world.node,
      route.link("veth-blue")!.index,
      "tcx ingress",
      "mystery",
      "drop-ipv4",
    );
    const target = `${PLAN.internet.httpIpv4}:80`;
    const predicted = wayout("doctor", BLUE, "--to", target, "--no-probe");
    expect(predicted.stdout).toContain("cannot look into program mystery at tcx ingress of veth-blue");
    const { exitCode, stdout } = wayout("doctor", BLUE, "--to", target);
    expect(exitCode).toBe(1);
    expect(stdout).toContain("[kernel-drops]");
    expect(stdout.split("\n")[0]).toContain(
      "the kernel dropped it at veth-blue on the node: a traffic control (tc) filter dropped it on its way in (TC_INGRESS)",
    );
    expect(stdout).toContain("tc filter show dev veth-blue; bpftool net");
    expect(stdout).toContain("unknown; perhaps of program mystery at tcx ingress of veth-blue");
    expect(stdout).not.toContain("wayout trace");
  },
);

testWith(["root"])("an unknown pod is wrong usage", () => {
  labWorld();
  const { exitCode, stderr } = wayout("doctor", "ns-bleu");
  expect(exitCode).toBe(2);
  expect(stderr).toContain(BLUE);
});
