/** containerd, asked over its CRI socket as a kubelet asks it: pods get their addresses from us, and give them back. */
import { afterEach, expect } from "bun:test";
import { credentials, loadPackageDefinition, type Client, type ServiceError } from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { isIp } from "../../src/address/ip.ts";
import { NetworkNamespace } from "../../src/kernel/namespace.ts";
import { ask, run, testWith } from "../support/witness.ts";
import { pluginProgram } from "./plugin.ts";
import { busyboxRoot, inNetwork, removeWorld, runtimeWorld, type RuntimeWorld } from "./runtime-world.ts";

const withContainerd = testWith([
  "real-root",
  "ip",
  "iptables",
  "containerd",
  "ctr",
  "podman",
  "runc",
  "busybox",
  "nsenter",
  "ping",
]);

const NETWORK = "cri-net";
const PAUSE = "localhost/pause:test";
/** A pod's sandbox goes through image unpacking, a shim and runc. */
const TIMEOUT_MS = 60_000;

const undo: (() => void | Promise<void>)[] = [];
afterEach(async () => {
  for (const step of undo.splice(0).toReversed()) await step();
});

type Call = (request: object, done: (error: ServiceError | null, answer: unknown) => void) => void;

/** The CRI as promises. */
class RuntimeService {
  readonly #client: Client & Readonly<Record<string, Call>>;

  constructor(socket: string) {
    const definition = loadSync(join(import.meta.dir, "cri.proto"), {
      keepCase: true,
      longs: Number,
      enums: String,
      defaults: true,
    });
    const api = loadPackageDefinition(definition) as unknown as {
      readonly runtime: {
        readonly v1: { readonly RuntimeService: new (address: string, ...rest: unknown[]) => Client };
      };
    };
    this.#client = new api.runtime.v1.RuntimeService(
      `unix://${socket}`,
      credentials.createInsecure(),
    ) as never;
  }

  async call<T>(method: string, request: object): Promise<T> {
    return await new Promise<T>((resolve, reject) => {
      this.#client[method]!(request, (error, answer) => {
        if (error === null) resolve(answer as T);
        else reject(error);
      });
    });
  }

  close(): void {
    this.#client.close();
  }
}

interface SandboxStatus {
  readonly status: {
    readonly state: string;
    readonly network: { readonly ip: string; readonly additional_ips: readonly { readonly ip: string }[] };
  };
  readonly info: Readonly<Record<string, string>>;
}

/** The pause image: busybox that sleeps, made without a registry. */
function makeImage({ directory }: RuntimeWorld): string {
  const root = busyboxRoot(directory);
  const storage = [
    "--root",
    join(directory, "p-root"),
    "--runroot",
    join(directory, "p-run"),
    "--storage-driver",
    "vfs",
  ];
  const podman = (...args: string[]): string =>
    ask(undefined, ["podman", ...storage, "--tmpdir", join(directory, "p-tmp"), ...args]);
  ask(undefined, ["tar", "-C", root, "-cf", join(directory, "rootfs.tar"), "."]);
  podman("import", "--change", 'ENTRYPOINT ["/bin/sleep","1000000"]', join(directory, "rootfs.tar"), PAUSE);
  podman("save", "--format", "oci-archive", "-o", join(directory, "pause.tar"), PAUSE);
  return join(directory, "pause.tar");
}

function configure({ directory, node }: RuntimeWorld): { readonly config: string; readonly socket: string } {
  const socket = join(directory, "containerd.sock");
  const config = join(directory, "config.toml");
  const [plugins, nets] = [join(directory, "bin"), join(directory, "net.d")];
  // On a bare node: no other plugin is there, loopback neither, without which no sandbox starts.
  const directories = ["--bin-dir", plugins, "--conf-dir", nets];
  const subnets = ["--subnet", "10.42.0.0/24", "--subnet", "fd00:42::/64"];
  const network = ["--name", NETWORK, "--bridge", "cni-cri7", ...subnets];
  ask(node, [pluginProgram(), "cni", "install", ...directories, ...network]);
  writeFileSync(
    config,
    `version = 2
root = "${join(directory, "c-root")}"
state = "${join(directory, "c-state")}"
[grpc]
  address = "${socket}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "${PAUSE}"
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "${plugins}"
    conf_dir = "${nets}"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "native"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
`,
  );
  return { config, socket };
}

async function startContainerd(world: RuntimeWorld): Promise<RuntimeService> {
  const image = makeImage(world);
  const { config, socket } = configure(world);
  const log = Bun.file(join(world.directory, "containerd.log"));
  const daemon = Bun.spawn(inNetwork(world.node, ["containerd", "--config", config]), {
    stdin: "ignore",
    stdout: log,
    stderr: log,
  });
  undo.push(async () => {
    daemon.kill("SIGTERM");
    await daemon.exited;
    removeWorld(world);
  });
  for (let waited = 0; !existsSync(socket); waited += 50) {
    if (waited > 20_000 || daemon.exitCode !== null) throw new Error(`containerd: ${await log.text()}`);
    await Bun.sleep(50);
  }
  ask(undefined, [
    "ctr",
    "--address",
    socket,
    "-n",
    "k8s.io",
    "images",
    "import",
    "--snapshotter",
    "native",
    image,
  ]);
  const service = new RuntimeService(socket);
  undo.push(() => service.close());
  return service;
}

async function untilNetworkReady(service: RuntimeService): Promise<void> {
  for (let waited = 0; waited < 20_000; waited += 100) {
    const { status } = await service.call<{
      status: { conditions: readonly { type: string; status: boolean }[] };
    }>("Status", {});
    if (status.conditions.find(({ type }) => type === "NetworkReady")?.status === true) return;
    await Bun.sleep(100);
  }
  throw new Error("containerd's network did not become ready");
}

/** As a kubelet does it. */
async function removeSandbox(service: RuntimeService, id: string): Promise<void> {
  await service.call("StopPodSandbox", { pod_sandbox_id: id });
  await service.call("RemovePodSandbox", { pod_sandbox_id: id });
}

function reserved(): string[] {
  const directory = `/var/lib/cni/networks/${NETWORK}`;
  return existsSync(directory) ? readdirSync(directory).filter(isIp) : [];
}

interface ListJson {
  readonly namespaces: readonly { readonly name: string; readonly kind: string; readonly state: string }[];
  readonly hostNetwork: readonly string[];
}

interface GcJson {
  readonly networks: readonly {
    readonly links: readonly unknown[];
    readonly addresses: readonly unknown[];
    readonly doubts: readonly { readonly why: string }[];
  }[];
}

/** What containerd leaves behind is read as it really names it: namespaces, bundles, results, cgroups. */
async function asTheyAreNamed(world: RuntimeWorld, service: RuntimeService): Promise<void> {
  const { node, directory } = world;
  const json = <T>(...words: string[]): T =>
    JSON.parse(run(node, [pluginProgram(), ...words, "--json"]).stdout) as T;
  const uid = "5d0fb1f4-0000-4000-8000-00000000aaaa";
  const log = `/var/log/pods/default_host_${uid}`;
  const isNew = !existsSync("/var/log/pods");
  mkdirSync(log, { recursive: true });
  undo.push(() => rmSync(isNew ? "/var/log/pods" : log, { recursive: true }));
  const NODE = 2;
  const config = {
    metadata: { name: "host", uid, namespace: "default", attempt: 0 },
    log_directory: log,
    linux: {
      cgroup_parent: `/kubepods/burstable/pod${uid}`,
      security_context: { namespace_options: { network: NODE } },
    },
  };
  const { pod_sandbox_id: id } = await service.call<{ pod_sandbox_id: string }>("RunPodSandbox", { config });
  undo.push(() => removeSandbox(service, id).catch(() => undefined));
  const listed = json<ListJson>("list");
  expect(listed.namespaces.map(({ name, kind, state }) => [name, kind, state])).toEqual([
    ["default/db", "cni", "ok"],
    ["default/web", "cni", "ok"],
  ]);
  expect(listed.hostNetwork).toEqual(["default/host"]);
  expect(run(node, [pluginProgram(), "doctor", "default/host"]).stderr).toContain("hostNetwork");
  await removeSandbox(service, id);
  expect(json<ListJson>("list").hostNetwork).toEqual([]);
  // One cache file is lost: the namespace has a name, which is evidence enough.
  const results = "/var/lib/cni/results";
  const lost = readdirSync(results).find((name) => name.startsWith(NETWORK))!;
  const text = readFileSync(join(results, lost));
  rmSync(join(results, lost));
  const hourAgo = Date.now() / 1000 - 3600;
  for (const address of reserved())
    utimesSync(`/var/lib/cni/networks/${NETWORK}/${address}`, hourAgo, hourAgo);
  const { networks } = json<GcJson>("cni", "gc", "--conf-dir", join(directory, "net.d"));
  expect(networks).toMatchObject([
    { links: [], addresses: [], doubts: [{ why: expect.stringContaining("/run/netns/cni-") }] },
  ]);
  writeFileSync(join(results, lost), text, { mode: 0o600 });
}

withContainerd(
  "pods of a kubelet: ready, with our addresses, a way out and a name in the cache; nothing stays",
  async () => {
    const world = runtimeWorld();
    const service = await startContainerd(world);
    await untilNetworkReady(service);
    const runPod = async (name: string): Promise<string> => {
      const config = {
        metadata: { name, uid: `uid-${name}`, namespace: "default", attempt: 0 },
        hostname: name,
        log_directory: world.directory,
        linux: {},
      };
      const answer = await service.call<{ pod_sandbox_id: string }>("RunPodSandbox", { config });
      // Also when the test fails: a sandbox outlives its containerd. Once removed it is not known any more.
      undo.push(() => removeSandbox(service, answer.pod_sandbox_id).catch(() => undefined));
      return answer.pod_sandbox_id;
    };
    const ids = await Promise.all(["web", "db"].map(runPod));
    for (const id of ids) {
      const { status, info } = await service.call<SandboxStatus>("PodSandboxStatus", {
        pod_sandbox_id: id,
        verbose: true,
      });
      expect(status.state).toBe("SANDBOX_READY");
      expect(status.network.ip).toStartWith("10.42.0.");
      expect(status.network.additional_ips[0]!.ip).toStartWith("fd00:42::");
      const { pid } = JSON.parse(info["info"]!) as { pid: number };
      using pod = NetworkNamespace.ofProcess(pid);
      expect(run(pod, ["ping", "-c1", "-W2", "203.0.113.1"]).exitCode).toBe(0);
      expect(run(pod, ["ping", "-c1", "-W2", "2001:db8:1::1"]).exitCode).toBe(0);
    }
    expect(reserved()).toHaveLength(4);
    await asTheyAreNamed(world, service);
    const cache = readdirSync("/var/lib/cni/results").filter((name) => name.startsWith(NETWORK));
    expect(cache.map((name) => readFileSync(`/var/lib/cni/results/${name}`, "utf8")).join("")).toContain(
      "K8S_POD_NAME",
    );
    for (const id of ids) await removeSandbox(service, id);
    expect(reserved()).toEqual([]);
    expect(ask(world.node, ["ip", "-br", "link"])).not.toContain("wout");
    expect(ask(world.node, ["nft", "list", "ruleset"])).toBe("");
  },
  TIMEOUT_MS * 2,
);
