/** `doctor --watch` beside a world that changes: what it says, in the order in which it happens. */
import { expect, test } from "bun:test";
import { join } from "node:path";
import type { Diagnosis } from "../../src/doctor/diagnose.ts";
import { finding } from "../../src/doctor/check.ts";
import type { Finding } from "../../src/doctor/finding.ts";
import { transitions, type Transition } from "../../src/doctor/transitions.ts";
import { createNamedNamespace, deleteNamedNamespace } from "../../src/kernel/named-namespace.ts";
import { faultNamed } from "../../src/lab/faults/all.ts";
import { PLAN } from "../../src/lab/plan.ts";
import { afterThisTest } from "../support/teardown.ts";
import { ask, testWith } from "../support/witness.ts";
import { labWorld } from "./world.ts";

const WAYOUT = join(import.meta.dir, "..", "..", "bin", "wayout");
const BLUE = PLAN.pods.blue.namespace;

/** The command's lines, one by one. */
class Watch implements AsyncDisposable {
  readonly #child;
  readonly #reader;
  #rest = "";

  constructor(...words: readonly string[]) {
    this.#child = Bun.spawn([WAYOUT, "doctor", ...words, "--watch", "--json"], {
      stdout: "pipe",
      stderr: "inherit",
    });
    this.#reader = this.#child.stdout.getReader();
  }

  async line(): Promise<Record<string, unknown>> {
    for (;;) {
      const end = this.#rest.indexOf("\n");
      if (end >= 0) {
        const line = this.#rest.slice(0, end);
        this.#rest = this.#rest.slice(end + 1);
        return JSON.parse(line) as Record<string, unknown>;
      }
      const { value, done } = await this.#reader.read();
      if (done) throw new Error("the watch has ended");
      this.#rest += Buffer.from(value).toString();
    }
  }

  /** Lines up to one of this kind that says this. */
  async until(kind: Transition["kind"], text = ""): Promise<Record<string, unknown>[]> {
    const lines = [];
    for (;;) {
      const line = await this.line();
      lines.push(line);
      if (line["kind"] === kind && String(line["text"]).includes(text)) return lines;
    }
  }

  /** Ctrl-C, and how it ends then. */
  async interrupt(): Promise<number> {
    this.#child.kill("SIGINT");
    return this.#child.exited;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.#child.exited;
  }
}

testWith(["root"])("one pod: causes that come and go, and a namespace that goes", async () => {
  const world = labWorld();
  await using watch = new Watch(BLUE);
  expect(((await watch.line())["pods"] as Diagnosis[])[0]!.healthy).toBe(true);

  // Rules, links and settings: only the first two announce themselves.
  for (const name of ["no-masquerade", "pod-link-down", "forwarding-off"]) {
    const fault = faultNamed(name)!;
    fault.apply(world);
    const broken = await watch.until("broken");
    expect(broken.at(-1)).toMatchObject({ pod: BLUE });
    fault.mend(world);
    // A look may fall into the middle of the mending; what was broken is told to be mended in any case.
    const mended = await watch.until("mended", "can reach");
    expect(mended.map(({ text }) => text)).toContain(`no more: ${String(broken.at(-1)!["text"])}`);
  }

  deleteNamedNamespace(BLUE);
  expect(await watch.line()).toMatchObject({ kind: "gone", pod: BLUE });
  expect(await watch.interrupt()).toBe(0);
});

testWith(["root", "ip"])("the whole node: pods that come and go", async () => {
  const world = labWorld();
  await using watch = new Watch("--node", PLAN.node.namespace);
  const pods = (await watch.line())["pods"] as Diagnosis[];
  expect(pods.map((one) => one.pod).sort()).toEqual([BLUE, PLAN.pods.green.namespace]);

  const name = "ns-new";
  afterThisTest(() => deleteNamedNamespace(name));
  createNamedNamespace(name);
  ask(world.node, ["ip", "link", "add", "veth-new", "type", "veth", "peer", "name", "eth0", "netns", name]);
  const came = await watch.line();
  expect(came).toMatchObject({ kind: "came", pod: name });
  expect(came["text"]).toContain("cannot reach");
  ask(world.node, ["ip", "link", "del", "veth-new"]);
  expect(await watch.line()).toMatchObject({ kind: "gone", pod: name });
});

const found = (code: Finding["code"], text: string): Finding =>
  finding(code, { text, owner: "", consequence: "", evidence: [] });

function said(before: readonly Finding[], now: readonly Finding[]): Transition[] {
  const diagnosis = (findings: readonly Finding[]): Diagnosis => ({
    pod: "a",
    target: { address: "192.0.2.1", protocol: "tcp", port: 443 },
    healthy: findings.every((one) => !one.stopsTraffic),
    certain: true,
    blind: false,
    answer: "a can reach 192.0.2.1:443",
    checklist: [],
    findings,
    suspicions: [],
    path: { blindSpots: [] },
    gaps: [],
  });
  return transitions([diagnosis(before)], [diagnosis(now)]);
}

test("a finding whose numbers count on is the same one", () => {
  const full = (count: number): Finding => found("conntrack-nearly-full", `it holds ${count} of 100`);
  expect(said([full(81)], [full(82)])).toEqual([]);
  expect(said([full(81)], [])).toEqual([{ kind: "mended", pod: "a", text: "no more: it holds 81 of 100" }]);
});

test("what is only hidden is not said to be better", () => {
  const nat = found("nat-missing", "no rule");
  const link = found("pod-link-down", "eth0 is down");
  expect(said([nat], [link])).toEqual([{ kind: "broken", pod: "a", text: "eth0 is down" }]);
  expect(said([link], [nat]).map(({ kind, text }) => `${kind} ${text}`)).toEqual([
    "mended no more: eth0 is down",
    "broken no rule",
  ]);
});
