/** A real Prometheus takes our rules, the dashboard's questions and our figures, and scrapes an agent. */
import { expect } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { stringify } from "yaml";
import { productRoot } from "../../scripts/products.ts";
import { socketPath } from "../../src/agent/socket.ts";
import { freshName, wayout, world } from "../attachment/world.ts";
import { testWithProduct } from "../support/products.ts";
import { afterThisTest } from "../support/teardown.ts";
import { ask, run } from "../support/witness.ts";
import { RunningAgent } from "./running-agent.ts";

const test = testWithProduct("prometheus");
const TIMEOUT_MS = 180_000;
const deployed = (name: string): string => join(import.meta.dir, "..", "..", "deploy", name);
const program = (name: string): string => join(productRoot("prometheus")!, "usr", "bin", name);

function freshDirectory(): string {
  const directory = mkdtempSync(join(tmpdir(), "wayout-prometheus-"));
  afterThisTest(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

test("promtool takes the alert rules, and every question of the dashboard", () => {
  expect(ask(undefined, [program("promtool"), "check", "rules", deployed("wayout-alerts.yaml")])).toMatch(
    /SUCCESS: \d+ rules found/,
  );
  const { panels } = JSON.parse(readFileSync(deployed("grafana-dashboard.json"), "utf8")) as {
    readonly panels: readonly { readonly targets: readonly { readonly expr: string }[] }[];
  };
  const rules = panels
    .flatMap(({ targets }) => targets)
    .map(({ expr }, index) => ({
      record: `panel:${index}`,
      // What Grafana fills in.
      expr: expr.replaceAll("$__rate_interval", "1m").replaceAll("$instance", ".*"),
    }));
  const path = join(freshDirectory(), "dashboard.yaml");
  writeFileSync(path, stringify({ groups: [{ name: "dashboard", rules }] }));
  expect(ask(undefined, [program("promtool"), "check", "rules", path])).toContain(
    `SUCCESS: ${rules.length} rules found`,
  );
});

test(
  "Prometheus scrapes the agent with its token, and promtool finds nothing wrong with the figures",
  async () => {
    const { node } = world();
    await wayout(node, "attach", freshName(), "--create");
    const directory = freshDirectory();
    const token = join(directory, "token");
    ask(node, ["ip", "link", "set", "lo", "up"]);
    const agent = await RunningAgent.on(node, "--listen", "127.0.0.1:7070", "--token-file", token, "--look");
    await agent.says("listening");
    const text = await (await fetch("http://agent/metrics", { unix: socketPath(node) })).text();
    const checked = run(undefined, [program("promtool"), "check", "metrics"], text);
    expect([checked.exitCode, checked.stdout, checked.stderr]).toEqual([0, "", ""]);
    const configuration = join(directory, "prometheus.yaml");
    writeFileSync(
      configuration,
      stringify({
        global: { scrape_interval: "1s" },
        scrape_configs: [
          {
            job_name: "wayout",
            authorization: { credentials_file: token },
            static_configs: [{ targets: ["127.0.0.1:7070"] }],
          },
        ],
        rule_files: [deployed("wayout-alerts.yaml")],
      }),
    );
    const words = [
      `--config.file=${configuration}`,
      `--storage.tsdb.path=${directory}/data`,
      "--web.listen-address=127.0.0.1:9090",
    ];
    const prometheus = node.run(() =>
      Bun.spawn([program("prometheus"), ...words], { stdout: "ignore", stderr: "ignore" }),
    );
    afterThisTest(async () => {
      prometheus.kill("SIGKILL");
      await prometheus.exited;
    });
    expect(await valueOf("wayout_ready")).toBe("1");
    expect(await valueOf('wayout_pods{state="healthy"}')).toBe("1");
    expect(await valueOf("count(ALERTS) or vector(0)")).toBe("0");

    async function valueOf(query: string): Promise<string> {
      const url = `http://127.0.0.1:9090/api/v1/query?query=${encodeURIComponent(query)}`;
      const deadline = performance.now() + 30_000;
      for (;;) {
        const { exitCode, stdout } = run(node, ["curl", "-sS", "--noproxy", "*", url]);
        const value = exitCode === 0 ? /"value":\[[^,]+,"([^"]+)"/.exec(stdout)?.[1] : undefined;
        if (value !== undefined && !(query.includes("pods") && value === "0")) return value;
        if (performance.now() > deadline) throw new Error(`${query} has no value: ${stdout}`);
        await Bun.sleep(250);
      }
    }
  },
  TIMEOUT_MS,
);
