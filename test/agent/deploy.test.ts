/** What lies in deploy/ fits the agent: its unit leaves it what it needs, and its rules ask for figures that it has. */
import { expect } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { parse } from "yaml";
import { AgentMetrics } from "../../src/agent/metrics.ts";
import { socketPath } from "../../src/agent/socket.ts";
import { freshName, SERVER, wayout, world } from "../attachment/world.ts";
import { until } from "../support/until.ts";
import { ask, testWith } from "../support/witness.ts";
import { RunningAgent } from "./running-agent.ts";

const test = testWith([]);
const rootTest = testWith(["real-root", "nft", "setpriv"]);
const TIMEOUT_MS = 180_000;

function deployed(name: string): string {
  return readFileSync(join(import.meta.dir, "..", "..", "deploy", name), "utf8");
}

rootTest(
  "with the capabilities that the unit leaves, the agent repairs, looks and traces",
  async () => {
    const { node } = world();
    const blue = freshName();
    await wayout(node, "attach", blue, "--create");
    const [, set = ""] = /^CapabilityBoundingSet=(.+)$/m.exec(deployed("wayout-agent.service")) ?? [];
    const bounding = set
      .split(" ")
      .map((name) => `+${name.replace("CAP_", "").toLowerCase()}`)
      .join(",");
    const wrapper = ["setpriv", `--bounding-set=-all,${bounding}`, "--no-new-privs", "--"];
    const agent = await RunningAgent.within(wrapper, node, "--look");
    await agent.says("listening");
    ask(node, ["nft", "flush", "ruleset"]);
    await agent.says("repaired", { step: "nat" });
    ask(node, ["sysctl", "-qw", "net.ipv4.ip_forward=0"]);
    await agent.says("repaired", { step: "forwarding" });
    const about = (path: string, method = "GET"): Promise<Response> =>
      fetch(`http://agent${path}`, { unix: socketPath(node), method });
    const trace = await about(`/v1/pods/${blue}/trace?to=${SERVER.v4}:8080`, "POST");
    expect(trace.status).toBe(200);
    const doctor = (await (await about(`/v1/pods/${blue}/doctor`)).json()) as object;
    expect(doctor).toMatchObject({ healthy: true, blind: false, gaps: [] });
    await until(
      async () => /^wayout_pods\{state="healthy"\} 1$/m.test(await (await about("/metrics")).text()),
      "it has looked",
    );
  },
  TIMEOUT_MS,
);

interface AlertFile {
  readonly groups: readonly {
    readonly rules: readonly {
      readonly alert: string;
      readonly expr: string;
      readonly annotations: { readonly summary: string };
    }[];
  }[];
}

interface Dashboard {
  readonly panels: readonly {
    readonly title: string;
    readonly targets: readonly { readonly expr: string }[];
  }[];
}

test("alert rules and dashboard ask for figures that the agent has", async () => {
  const metrics = new AgentMetrics(
    async () => undefined,
    () => true,
  );
  const known = new Set(
    [...(await metrics.text()).text.matchAll(/^# TYPE (\S+) (\S+)$/gm)].flatMap(([, name = "", type]) =>
      type === "histogram" ? [name, `${name}_bucket`] : [name],
    ),
  );
  const rules = (parse(deployed("wayout-alerts.yaml")) as AlertFile).groups.flatMap((group) => group.rules);
  expect(new Set(rules.map(({ alert }) => alert)).size).toBe(rules.length);
  const { panels } = JSON.parse(deployed("grafana-dashboard.json")) as Dashboard;
  const asked = [
    ...rules.map(({ alert, expr }) => ({ from: alert, expr })),
    ...panels.flatMap(({ title, targets }) => targets.map(({ expr }) => ({ from: title, expr }))),
  ];
  for (const { from, expr } of asked) {
    const names = expr.match(/wayout_\w+/g) ?? [];
    expect([from, names.length > 0, names.filter((name) => !known.has(name))]).toEqual([from, true, []]);
  }
});
