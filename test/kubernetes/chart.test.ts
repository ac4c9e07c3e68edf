/** deploy/helm/wayout: made from deploy/kubernetes, and with its own values the same. */
import { expect, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { parse, parseAllDocuments } from "yaml";
import { agentCommand } from "../../src/cli/agent.ts";
import { helmProgram } from "../../scripts/kubernetes-server.ts";
import { ask, run, type Ran } from "../support/witness.ts";

const ROOT = join(import.meta.dir, "..", "..");
const CHART = join(ROOT, "deploy", "helm", "wayout");
const TEMPLATES = join(CHART, "templates");

type Values = Readonly<Record<string, unknown>>;
interface Manifest {
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly namespace?: string };
  readonly spec?: {
    readonly template?: { readonly spec: { readonly containers: readonly { args: string[] }[] } };
  };
}

const templates = readdirSync(TEMPLATES).filter((name) => name.endsWith(".yaml"));
const defaults = parse(readFileSync(join(CHART, "values.yaml"), "utf8")) as Values;
const schema = JSON.parse(readFileSync(join(CHART, "values.schema.json"), "utf8")) as { properties: Values };

/** `.Values.image.tag` of the values; `.` is the value that a `range` or `with` is at. */
function valueAt(path: string, values: Values, here: unknown): unknown {
  if (path === ".") return here;
  if (path === ".Release.Namespace") return "wayout";
  const found = path
    .replace(/^\.Values\./, "")
    .split(".")
    .reduce<unknown>((at, key) => (at as Values)[key], values);
  expect([path, found === undefined]).toEqual([path, false]);
  return found;
}

const isEmpty = (value: unknown): boolean =>
  value === "" || value === false || (Array.isArray(value) && value.length === 0);

/** The part of Helm's language that the chart uses; anything else is an error. */
function rendered(text: string, values: Values, here?: unknown): string {
  const block = /^\{\{- (if|range) (\S+) \}\}\n(.*?)^\{\{- end \}\}\n/gms;
  const inside = text.replace(block, (_, word: string, path: string, body: string) => {
    const value = valueAt(path, values, here);
    if (word === "range") return (value as unknown[]).map((one) => rendered(body, values, one)).join("");
    return isEmpty(value) ? "" : rendered(body, values, here);
  });
  return inside
    .replaceAll(/\{\{- \/\*.*?\*\/ -\}\}\n/g, "")
    .replaceAll(/\{\{ with (\S+) \}\}(.*?)\{\{ end \}\}/g, (_, path: string, body: string) => {
      const value = valueAt(path, values, here);
      return isEmpty(value) ? "" : rendered(body, values, value);
    })
    .replaceAll(/\{\{ (?:(toJson) )?(\S+?)(?: \| (quote))? \}\}/g, (_, json, path: string, quote) => {
      const value = valueAt(path, values, here);
      return json === undefined && quote === undefined ? String(value) : JSON.stringify(value);
    });
}

function chart(values: Values = {}): Manifest[] {
  const all = { ...defaults, ...values };
  return templates.flatMap((name) => {
    const text = rendered(readFileSync(join(TEMPLATES, name), "utf8"), all);
    expect(text).not.toContain("{{");
    return parseAllDocuments(text).flatMap((document) => (document.toJS() as Manifest | null) ?? []);
  });
}

test("its files are what the script makes of deploy/kubernetes", () => {
  ask(undefined, [process.execPath, join(ROOT, "scripts", "helm-chart.ts"), "--check"]);
});

test("with its own values it is the kustomization, but for the namespace that helm makes", () => {
  const plain = (name: string): Manifest[] =>
    parseAllDocuments(readFileSync(join(ROOT, "deploy", "kubernetes", name), "utf8")).map(
      (document) => document.toJS() as Manifest,
    );
  const expected = [...plain("daemonset.yaml"), ...plain("role.yaml")];
  const made = chart().map(({ metadata, ...rest }) => ({
    ...rest,
    metadata: Object.fromEntries(Object.entries(metadata).filter(([key]) => key !== "namespace")),
  }));
  expect(made.map(({ kind }) => kind)).toEqual(expected.map(({ kind }) => kind));
  for (const [index, manifest] of expected.entries()) {
    const set = made[index] as { spec?: { template?: { spec: Record<string, unknown> } } };
    if (manifest.kind === "DaemonSet") {
      expect(set.spec!.template!.spec["nodeSelector"]).toEqual({});
      delete set.spec!.template!.spec["nodeSelector"];
    }
    expect(set).toEqual(manifest as never);
  }
});

test("each value does what it says", () => {
  const all = chart({
    apiServer: "https://192.0.2.1:6443",
    ipMasqAgentConfigMap: "masq",
    egressGrantsConfigMap: "grants",
    masqueradeToNodes: true,
    startupTaint: "wayout.dev/starting",
    extraArgs: ["--pod-bridge=br7"],
    cniBinDir: "/opt/k3s/bin",
    roles: { status: true, events: true, taint: true, egress: true },
    image: { repository: "registry.example.org/wayout", tag: "1.2.3" },
  });
  const [set] = all.filter(({ kind }) => kind === "DaemonSet");
  const [container] = set!.spec!.template!.spec.containers;
  expect(container!.args).toEqual([
    "--kubernetes",
    "--api-server=https://192.0.2.1:6443",
    "--ip-masq-agent-config=/etc/config/config",
    "--masquerade-to-nodes",
    "--egress-grants=/etc/egress/grants.yaml",
    "--startup-taint=wayout.dev/starting",
    "--pod-bridge=br7",
  ]);
  const known = agentCommand().options.map(({ long }) => long);
  for (const option of container!.args) expect(known).toContain(option.split("=")[0]);
  const text = JSON.stringify(set);
  expect(text).toContain('"image":"registry.example.org/wayout:1.2.3"');
  expect(text).toContain('"path":"/opt/k3s/bin"');
  expect(text).toContain('{"name":"ip-masq-agent","configMap":{"name":"masq","optional":true}}');
  expect(text).toContain('{"name":"egress-grants","configMap":{"name":"grants"}}');
  expect(
    all
      .filter(({ kind }) => kind.endsWith("Role"))
      .map(({ metadata }) => metadata.name)
      .toSorted(),
  ).toEqual(["wayout", "wayout-egress", "wayout-events", "wayout-status", "wayout-taint"]);
});

const helm = helmProgram();
// It is fetched by `npm run test:kubernetes`.
const testWithHelm = typeof helm === "string" ? test.skip : test;

testWithHelm(
  "helm makes the same of it, and holds values against the schema [needs the product helm]",
  () => {
    const program = (helm as { readonly helm: string }).helm;
    const template = (...set: string[]): Ran => {
      const words = set.flatMap((one) => ["--set", one]);
      return run(undefined, [program, "template", "wayout", CHART, "--namespace", "wayout", ...words]);
    };
    const roles = { status: true, events: true, taint: true, egress: true };
    const told = template(
      ...Object.keys(roles).map((role) => `roles.${role}=true`),
      "startupTaint=wayout.dev/starting",
      "egressGrantsConfigMap=grants",
      "extraArgs={--pod-bridge=br7}",
      "image.tag=v1",
    );
    expect([told.exitCode, told.stderr]).toEqual([0, ""]);
    const made = parseAllDocuments(told.stdout).flatMap(
      (document) => (document.toJS() as Manifest | null) ?? [],
    );
    const ours = chart({
      roles,
      startupTaint: "wayout.dev/starting",
      egressGrantsConfigMap: "grants",
      extraArgs: ["--pod-bridge=br7"],
      image: { repository: "wayout", tag: "v1" },
    });
    const sorted = (all: readonly Manifest[]): Manifest[] =>
      all.toSorted((a, b) => `${a.kind} ${a.metadata.name}`.localeCompare(`${b.kind} ${b.metadata.name}`));
    expect(sorted(made)).toEqual(sorted(ours));
    expect(template("roles=7").stderr).toContain("roles: Invalid type");
    expect(template("unknown=7").stderr).toContain("unknown");
  },
);

test("the schema knows every value, and the templates no other", () => {
  expect(Object.keys(schema.properties).filter((key) => key !== "global")).toEqual(Object.keys(defaults));
  const used = templates.flatMap((name) =>
    [...readFileSync(join(TEMPLATES, name), "utf8").matchAll(/\.Values\.(\w+)/g)].map(([, key]) => key!),
  );
  expect([...new Set(used)].toSorted()).toEqual(Object.keys(defaults).toSorted());
});
