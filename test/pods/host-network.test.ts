/** Pods in the node's own network, and pods that are elsewhere: told as what they are. */
import { expect } from "bun:test";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { WAYOUT } from "../attachment/world.ts";
import { afterThisTest } from "../support/teardown.ts";
import { ask, run, testWith, type Ran } from "../support/witness.ts";
import { freshNamespace } from "../support/world.ts";

const UID = "0f5c1a52-5a0e-4c3b-9a55-0a7b6d1f2e3c";
const CONTAINER = "4f6dd6c0a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c";
const HASH = "b1946ac92492d2347c6235b4d2611184";

/** Processes that the runtimes put into these cgroups, with kubelet's folders of logs beside; then wayout is asked. */
function kubernetesNode() {
  const [node, pod] = [freshNamespace("node"), freshNamespace("pod")];
  ask(node, ["ip", "address", "add", "192.0.2.7/24", "dev", "lo"]);
  const directory = mkdtempSync(join(tmpdir(), "wayout-kubelet-"));
  afterThisTest(() => rmSync(directory, { recursive: true, force: true }));
  for (const folder of [
    `kube-system_proxy-x_${UID}`,
    `kube-system_apiserver-a_${HASH}`,
    "shop_web-1_11111111-2222-3333-4444-555555555555",
    "shop_job-9_99999999-2222-3333-4444-555555555555",
    "shop_agent-1_33333333-2222-3333-4444-555555555555",
    "no-folder-of-a-pod",
  ])
    mkdirSync(join(directory, "log", "pods", folder), { recursive: true });
  const members = [
    [
      node,
      `0::/kubepods.slice/kubepods-pod${UID.replaceAll("-", "_")}.slice/cri-containerd-${CONTAINER}.scope`,
    ],
    [node, `4:memory:/kubepods/burstable/pod${HASH}/ab`],
    // As an agent in a pod of its own sees its neighbours.
    [node, "0::/../../pod33333333-2222-3333-4444-555555555555/ab"],
    [node, `0::/machine.slice/machine-libpod_pod_${CONTAINER}.slice/libpod-${CONTAINER}.scope`],
    [pod, "0::/kubepods/pod11111111-2222-3333-4444-555555555555/ab"],
    [node, "0::/system.slice/ssh.service"],
  ] as const;
  const binds = members.map(([namespace, text], index) => {
    const child = namespace.run(() => Bun.spawn(["sleep", "60"]));
    afterThisTest(() => child.kill(9));
    writeFileSync(join(directory, `cgroup${index}`), `${text}\n`);
    return `mount --bind ${directory}/cgroup${index} /proc/${child.pid}/cgroup`;
  });
  const script = [`mount --bind ${directory}/log /var/log`, ...binds, `exec ${WAYOUT} "$@"`].join(" && ");
  return (...words: string[]): Ran =>
    run(node, ["unshare", "-m", "--propagation", "private", "sh", "-c", script, "sh", ...words]);
}

const onNode = testWith(["root", "ip", "unshare", "mount"]);

onNode("list and doctor name pods with hostNetwork beside the others", () => {
  const wayout = kubernetesNode();
  const names = ["kube-system/apiserver-a", "kube-system/proxy-x", "shop/agent-1"];
  for (const command of ["list", "doctor"]) {
    expect(wayout(command).stdout).toContain(
      `3 pods use the node's own network (hostNetwork): ${names.join(", ")}\n`,
    );
    expect(JSON.parse(wayout(command, "--json").stdout)).toMatchObject({ hostNetwork: names });
  }
});

onNode(
  "a pod without a network of its own here, asked for by name, id or address, is told as what it is",
  () => {
    const wayout = kubernetesNode();
    const said = (name: string): string => {
      const { exitCode, stderr } = wayout("doctor", name);
      expect([name, exitCode]).toEqual([name, 2]);
      return stderr;
    };
    for (const name of [
      "kube-system/proxy-x",
      "proxy-x",
      CONTAINER.slice(0, 12),
      "kube-system/apiserver-a",
    ]) {
      expect(said(name)).toContain("uses the node's own network (hostNetwork)");
    }
    expect(said("shop/job-9")).toContain("it has ended, or waits to be started");
    expect(said("shop/elsewhere")).toContain("kubectl get pod --namespace shop elsewhere --output wide");
    expect(said("192.0.2.7")).toContain("it is an address of this node itself");
    expect(said("192.0.2.8")).toContain("no pod of this node has this address");
    expect(said("nobody")).not.toContain("kube");
  },
);
