/**
 * `kubectl wayout`: which pod of ours is asked, with which words, and that its answer arrives as it was given. The cluster
 * is played by a kubectl of the test's own, which answers from files and runs on "the node" what it is told to.
 */
import { expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseAllDocuments } from "yaml";
import { AGENT_CONTAINER, AGENT_LABEL, AGENT_PROGRAM } from "../../src/cli/kubectl/cluster.ts";
import { createNamedNamespace, deleteNamedNamespace } from "../../src/kernel/named-namespace.ts";
import { CNI_CACHE_DIRECTORY } from "../../src/pods/cni-cache.ts";
import { buildNodeWorld } from "../support/node-world.ts";
import { visibleLines } from "../../src/text/visible.ts";
import { afterThisTest } from "../support/teardown.ts";
import { ask, run, testWith, type Ran } from "../support/witness.ts";

const ROOT = join(import.meta.dir, "..", "..");
const WAYOUT = join(ROOT, "bin", "wayout");

interface Cluster {
  readonly wayout: (...args: string[]) => Ran;
  /** The words of each call, but for those that every question has. */
  readonly calls: () => string[][];
}

interface ClusterPlan {
  readonly pod?: unknown;
  readonly pods?: unknown;
  readonly nodes?: unknown;
  /** What kubectl does instead of answering, in shell. */
  readonly instead?: string;
}

const ready = { conditions: [{ type: "Ready", status: "True" }], phase: "Running" };

function agent(name: string, nodeName: string, status: object = ready): object {
  const containers = [{ name: "proxy" }, { name: "agent" }];
  return { metadata: { name, namespace: "wayout" }, spec: { nodeName, containers }, status };
}

function pod(nodeName?: string): object {
  const spec = { containers: [{ name: "web" }], ...(nodeName === undefined ? {} : { nodeName }) };
  return { metadata: { name: "web-1", namespace: "shop" }, spec, status: { phase: "Pending" } };
}

function cluster({ pod: one, pods = [], nodes = [], instead = "" }: ClusterPlan): Cluster {
  const folder = mkdtempSync(join(tmpdir(), "wayout-kubectl-"));
  afterThisTest(() => rmSync(folder, { recursive: true }));
  const write = (name: string, value: unknown): void =>
    writeFileSync(join(folder, name), JSON.stringify(value));
  write("pod.json", one ?? null);
  write("pods.json", { items: pods });
  write("nodes.json", { items: nodes });
  writeFileSync(
    join(folder, "kubectl"),
    `#!/bin/sh
{ printf '%s\\t' "$@"; echo; } >> ${folder}/calls
${instead}
case " $* " in
  *" get pod "*) exec cat ${folder}/pod.json ;;
  *" get pods "*) exec cat ${folder}/pods.json ;;
  *" get nodes "*) exec cat ${folder}/nodes.json ;;
esac
while [ "$1" != -- ]; do shift; done
shift 2
${WAYOUT} "$@" || { code=$?; echo "command terminated with exit code $code" >&2; exit $code; }
`,
    { mode: 0o755 },
  );
  const environment = { ...process.env, PATH: `${folder}:${process.env["PATH"]}` };
  return {
    wayout: (...args) => run(undefined, [WAYOUT, "kubectl", ...args], undefined, environment),
    calls: () =>
      readFileSync(join(folder, "calls"), "utf8")
        .trimEnd()
        .split("\n")
        .map((line) =>
          line.split("\t").filter((word) => !/^(--output=json|--request-timeout=.*|)$/.test(word)),
        ),
  };
}

/** What the last call ran on the node; nothing that is run there finds anything in the tests that ask for this. */
function ranThere({ calls }: Cluster): string[] {
  return calls()
    .at(-1)!
    .slice(calls().at(-1)!.indexOf("--") + 1);
}

testWith(["root", "ip", "nft"])("the doctor's answer is the node's own, with its exit code", () => {
  afterThisTest(() => {
    deleteNamedNamespace("k8s-web");
    for (const path of ["/run/wayout", CNI_CACHE_DIRECTORY]) rmSync(path, { recursive: true, force: true });
  });
  const { node } = buildNodeWorld({
    uplink: {
      name: "wan7",
      outsideName: "isp7",
      addresses: ["203.0.113.5/24"],
      outsideAddresses: ["203.0.113.1/24"],
      gateways: ["203.0.113.1"],
    },
    servers: ["198.51.100.80/32"],
  });
  createNamedNamespace("k8s-web");
  ask(node, [WAYOUT, "attach", "k8s-web"]);
  const address = /inet ([\d.]+)/.exec(
    ask(undefined, ["ip", "-n", "k8s-web", "-4", "addr", "show", "scope", "global"]),
  )![1]!;
  mkdirSync(CNI_CACHE_DIRECTORY, { recursive: true });
  writeFileSync(
    join(CNI_CACHE_DIRECTORY, "net-web-eth0"),
    JSON.stringify({
      kind: "cniCacheV1",
      containerId: "0123456789ab",
      ifName: "eth0",
      networkName: "net",
      netns: "/run/netns/k8s-web",
      cniArgs: [
        ["K8S_POD_NAMESPACE", "shop"],
        ["K8S_POD_NAME", "web-1"],
      ],
      result: { ips: [{ address: `${address}/24` }] },
    }),
  );
  const there = cluster({ pod: pod("worker-1"), pods: [agent("wayout-b", "worker-1")] });
  const compare = (exitCode: number, ...args: string[]): void => {
    const direct = node.run(() => run(undefined, [WAYOUT, ...args]));
    const through = node.run(() => there.wayout(...args));
    // Connections of the namespaces themselves come and go in between.
    const stable = (text: string): string =>
      text.replace(/\d+ of \d+ entries|"(entries|count)": \d+/g, "N entries");
    expect([stable(through.stdout), through.exitCode, through.stderr]).toEqual([
      stable(direct.stdout),
      exitCode,
      direct.stderr,
    ]);
    expect(direct.exitCode).toBe(exitCode);
  };
  compare(0, "doctor", "shop/web-1");
  ask(node, ["sysctl", "-qw", "net.ipv4.ip_forward=0"]);
  compare(1, "doctor", "shop/web-1");
  compare(1, "doctor", "shop/web-1", "--to", "198.51.100.80:443", "--no-probe", "--json");
});

test("the agent of the pod's own node is asked, a ready one before another, in its own container", () => {
  const there = cluster({
    pod: pod("worker-2"),
    pods: [
      agent("wayout-a", "worker-1"),
      agent("wayout-b", "worker-2", { phase: "Running" }),
      agent("wayout-c", "worker-2"),
      agent("wayout-d", "worker-2", { phase: "Failed" }),
    ],
    instead: `case " $* " in *" exec "*) exit 0 ;; esac`,
  });
  const ran = there.wayout(
    "trace",
    "web-1",
    "198.51.100.80:443",
    "-n",
    "shop",
    "--context",
    "blue",
    "--size",
    "9",
    "--json",
  );
  expect([ran.stderr, ran.exitCode]).toEqual(["", 0]);
  expect(there.calls()).toEqual([
    ["--context=blue", "get", "pod", "web-1", "--namespace=shop"],
    ["--context=blue", "get", "pods", "--all-namespaces", "--selector=app.kubernetes.io/name=wayout"],
    [
      "--context=blue",
      "exec",
      "--namespace=wayout",
      "wayout-c",
      "--container=agent",
      "--",
      "/usr/local/bin/wayout",
      "trace",
      "shop/web-1",
      "198.51.100.80:443",
      "--size=9",
      "--json",
    ],
  ]);
});

test("each command arrives with its own words, and no value becomes an option", () => {
  const there = cluster({
    pod: pod("worker-1"),
    pods: [agent("wayout-a", "worker-1")],
    instead: `case " $* " in *" exec "*) exit 0 ;; esac`,
  });
  const words = (...args: string[]): string[] => {
    const ran = there.wayout(...args);
    expect([args, ran.stderr, ran.exitCode]).toEqual([args, "", 0]);
    return ranThere(there).slice(1);
  };
  expect(
    words("flows", "shop/web-1", "--state", "ESTABLISHED,replied", "--dport", "443", "--dport", "53"),
  ).toEqual([
    "conntrack",
    "list",
    "--pod=shop/web-1",
    "--state=ESTABLISHED",
    "--state=replied",
    "--dport=443",
    "--dport=53",
  ]);
  expect(words("flows", "node/worker-1", "--no-pods")).toEqual(["conntrack", "list", "--no-pods"]);
  expect(words("history", "node/worker-1", "--since", "14:00")).toEqual(["history", "--since=14:00"]);
  expect(words("history", "shop/web-1")).toEqual(["history", "shop/web-1"]);
  expect(words("doctor", "node/worker-1", "--no-probe")).toEqual(["doctor", "--no-probe"]);
  expect(words("doctor", "shop/web-1", "--to", "--fix")).toEqual(["doctor", "shop/web-1", "--to=--fix"]);
});

test("what cannot be asked is told with its cause and what to do", () => {
  const told = (plan: ClusterPlan, ...args: string[]): [string, number] => {
    const { stderr, exitCode } = cluster(plan).wayout(...args);
    return [stderr, exitCode];
  };
  const nowhere = told({ pod: pod() }, "doctor", "shop/web-1");
  expect(nowhere).toEqual([
    "✗ looking for the node of pod shop/web-1: it is on no node yet (Pending)\n" +
      "  → See why: kubectl describe pod --namespace=shop web-1\n",
    1,
  ]);
  const [bare, bareCode] = told({ pod: pod("worker-1") }, "doctor", "shop/web-1");
  expect(bare).toContain("no pod of this cluster has the label app.kubernetes.io/name=wayout");
  expect(bareCode).toBe(3);
  const [elsewhere] = told(
    { pod: pod("worker-9"), pods: [agent("a", "worker-1")] },
    "trace",
    "shop/web-1",
    "x",
  );
  expect(elsewhere).toContain("none runs there, though 1 run on other nodes");
  const refused = `echo 'E1129 07:13:38.594938 1 memcache.go:265] "Unhandled"' >&2; echo 'Error from server (Forbidden): nodes is \u001b[7mforbidden' >&2; exit 1`;
  const [forbidden, code] = told({ instead: refused }, "nodes");
  expect(forbidden).toBe("✗ reading the nodes: Error from server (Forbidden): nodes is \\x1b[7mforbidden\n");
  expect(code).toBe(3);
  expect(told({ instead: "echo no json; exit 0" }, "nodes")[0]).toContain(
    "kubectl answered what we cannot read",
  );
  for (const name of ["a/b/c", "--all", "Shop/web", "shop/", ""]) {
    expect([name, told({}, "doctor", "--", name)[1]]).toEqual([name, 2]);
  }
  expect(told({ pods: [agent("a", "worker-1")] }, "trace", "node/worker-1", "x")[1]).toBe(2);
  for (const option of [
    ["--snapshot", "x"],
    ["--node", "x"],
    ["--journal", "x"],
  ]) {
    expect([option, told({}, "doctor", "shop/web-1", ...option)[1]]).toEqual([option, 2]);
  }
});

test("without kubectl it says so", () => {
  const empty = mkdtempSync(join(tmpdir(), "wayout-kubectl-"));
  afterThisTest(() => rmSync(empty, { recursive: true }));
  const bun = [process.execPath, join(ROOT, "src", "main.ts")];
  const ran = run(undefined, [...bun, "kubectl", "nodes"], undefined, { ...process.env, PATH: empty });
  expect([ran.exitCode, ran.stderr]).toEqual([
    3,
    "✗ asking the cluster: there is no kubectl on the PATH\n" +
      "  → Install kubectl; this command asks the cluster through it, with your credentials.\n",
  ]);
});

test("nodes: those without a way out are told, and make the exit code", () => {
  const node = (name: string, podCIDRs: string[] | undefined, status?: string, message = ""): object => ({
    metadata: { name },
    spec: podCIDRs === undefined ? {} : { podCIDRs },
    status: {
      conditions:
        status === undefined
          ? []
          : [{ type: "WayoutReady", status, message, lastTransitionTime: "2026-01-01T00:00:00Z" }],
    },
  });
  const fine = {
    nodes: [node("worker-1", ["10.7.1.0/24", "2001:db8:7:1::/64"], "True")],
    pods: [agent("wayout-a", "worker-1")],
  };
  const healthy = cluster(fine).wayout("nodes");
  expect([healthy.stdout, healthy.exitCode]).toEqual([
    "node      pods' addresses                wayout           way out\n" +
      "worker-1  10.7.1.0/24 2001:db8:7:1::/64  wayout/wayout-a  ✓ stands\n",
    0,
  ]);
  const broken = cluster({
    nodes: [
      ...fine.nodes,
      node("worker-2", ["10.7.2.0/24"], "False", "forwarding is off"),
      node("worker-3", undefined),
      node("worker-4", ["10.7.4.0/24"]),
      node("worker-5", ["10.7.5.0/24"]),
    ],
    pods: [
      ...fine.pods,
      agent("wayout-b", "worker-2"),
      agent("wayout-d", "worker-4", { phase: "Running" }),
      agent("wayout-e", "worker-5"),
    ],
  });
  const { stdout, exitCode } = broken.wayout("nodes");
  expect(exitCode).toBe(1);
  expect(stdout.split("\n").slice(2, -1)).toEqual([
    "worker-2  10.7.2.0/24                    wayout/wayout-b  ✗ forwarding is off",
    "worker-3  none yet                       –                ✗ no pod of wayout",
    "worker-4  10.7.4.0/24                    wayout/wayout-d  ✗ wayout's pod is not ready",
    "worker-5  10.7.5.0/24                    wayout/wayout-e  ? not said",
  ]);
  const json = JSON.parse(broken.wayout("nodes", "--json").stdout) as { nodes: { name: string }[] };
  expect(json.nodes[1]).toEqual({
    name: "worker-2",
    podCidrs: ["10.7.2.0/24"],
    agent: "wayout/wayout-b",
    agentReady: true,
    wayOut: { stands: false, text: "forwarding is off", since: "2026-01-01T00:00:00Z" },
  } as never);
});

test("every DaemonSet that we ship is found by it, and holds the program where it is looked for", () => {
  const manifests = [...new Bun.Glob("deploy/**/*.yaml").scanSync(ROOT)].flatMap((path) =>
    parseAllDocuments(readFileSync(join(ROOT, path), "utf8")).map((document) => document.toJS() as Manifest),
  );
  const daemonSets = manifests.filter((manifest) => manifest?.kind === "DaemonSet");
  expect(daemonSets.length).toBeGreaterThan(0);
  const [key, value] = AGENT_LABEL.split("=");
  for (const { spec } of daemonSets) {
    expect(spec.template.metadata.labels[key!]).toBe(value);
    expect(spec.template.spec.containers.map(({ name }) => name)).toContain(AGENT_CONTAINER);
  }
  expect(readFileSync(join(ROOT, "deploy", "Containerfile"), "utf8")).toContain(
    `ENTRYPOINT ["${AGENT_PROGRAM}"`,
  );
});

interface Manifest {
  readonly kind: string;
  readonly spec: {
    readonly template: {
      readonly metadata: { readonly labels: Readonly<Record<string, string>> };
      readonly spec: { readonly containers: readonly { readonly name: string }[] };
    };
  };
}

test("a program called kubectl-wayout is this command", () => {
  const command = `exec -a /opt/bin/kubectl-wayout "$0" "$@"`;
  const main = join(ROOT, "src", "main.ts");
  const help = ask(undefined, ["bash", "-c", command, process.execPath, main, "--help"]);
  expect(help).toContain("kubectl wayout doctor shop/web-1 --to api.github.com");
});

const NOTHING_RUN = `case " $* " in *" exec "*) echo ran; exit 0 ;; esac`;

test("an answer of the cluster with a name that is none runs nothing, and is shown as it is", () => {
  const hostile = [
    "-x",
    "--all",
    "a;reboot",
    "$(reboot)",
    "a/../b",
    "a\nb",
    "a\u001b[2J",
    "\u202eb",
    "",
    "A",
    "a b",
  ];
  for (const name of hostile) {
    const answers: ClusterPlan[] = [
      { pod: pod(name), pods: [agent("wayout-a", name)] },
      { pod: pod("worker-1"), pods: [agent(name, "worker-1")] },
      {
        pod: pod("worker-1"),
        pods: [{ ...agent("wayout-a", "worker-1"), metadata: { name: "wayout-a", namespace: name } }],
      },
      {
        pod: pod("worker-1"),
        pods: [{ ...agent("wayout-a", "worker-1"), spec: { nodeName: "worker-1", containers: [{ name }] } }],
      },
    ];
    for (const [index, answer] of answers.entries()) {
      const there = cluster({ ...answer, instead: NOTHING_RUN });
      const { exitCode, stdout, stderr } = there.wayout("doctor", "shop/web-1");
      expect([name, index, exitCode, stdout]).toEqual([name, index, 3, ""]);
      expect([name, index, visibleLines(stderr)]).toEqual([name, index, stderr]);
      expect(stderr).toContain("kubectl answered what we cannot read");
    }
  }
});

test("a pod of another namespace with our label is not asked", () => {
  const planted = { ...agent("wayout-b", "worker-1"), metadata: { name: "wayout-b", namespace: "tenant" } };
  const there = cluster({
    pod: pod("worker-1"),
    pods: [planted, agent("wayout-a", "worker-1")],
    instead: NOTHING_RUN,
  });
  for (const args of [["doctor", "shop/web-1"], ["doctor", "node/worker-1"], ["nodes"]]) {
    const { exitCode, stdout, stderr } = there.wayout(...args);
    expect([args, exitCode, stdout]).toEqual([args, 2, ""]);
    expect(stderr).toContain("are in 2 namespaces (tenant, wayout)");
    expect(stderr).toContain("--agent-namespace");
  }
});

test("what a person names is a name, or refused before kubectl is asked", () => {
  const there = cluster({
    pod: pod("worker-1"),
    pods: [agent("wayout-a", "worker-1")],
    instead: NOTHING_RUN,
  });
  const given = [
    "node/-x",
    "a/b/c",
    "shop/$(reboot)",
    "shop/web 1",
    "../web",
    "shop/",
    "/web",
    "Shop/web",
    "shop/web\n",
    "-",
  ];
  for (const name of given) {
    const { exitCode, stdout, stderr } = there.wayout("doctor", "--", name);
    expect([name, exitCode, stdout]).toEqual([name, 2, ""]);
    expect([name, visibleLines(stderr)]).toEqual([name, stderr]);
  }
  expect(() => there.calls()).toThrow("ENOENT");
});
