/** A containerd of the test's own, asked over its CRI socket as a kubelet asks it. */
import { credentials, loadPackageDefinition, type Client, type ServiceError } from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { NetworkNamespace } from "../../src/kernel/namespace.ts";
import { busyboxRoot, inNetwork } from "../cni/runtime-world.ts";
import { afterThisTest } from "./teardown.ts";
import { ask, testWith } from "./witness.ts";

export const testWithContainerd = testWith([
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

const PAUSE = "localhost/pause:test";

export interface ContainerdPlace {
  /** The network namespace that it runs in. */
  readonly node: NetworkNamespace;
  /** For everything that it keeps; it has to be gone by itself. */
  readonly directory: string;
  readonly binDirectory: string;
  readonly configurationDirectory: string;
}

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

export class Containerd {
  readonly #socket: string;
  #daemon: Bun.Subprocess | undefined;
  #service: RuntimeService | undefined;

  private constructor(private readonly place: ContainerdPlace) {
    this.#socket = join(place.directory, "containerd.sock");
  }

  /** Listens, and has the image that every pod begins with. */
  static async start(place: ContainerdPlace): Promise<Containerd> {
    const containerd = new Containerd(place);
    writeFileSync(containerd.#configPath, containerd.#config());
    const image = makeImage(place.directory);
    await containerd.listen();
    const words = ["ctr", "--address", containerd.#socket, "-n", "k8s.io", "images", "import"];
    ask(undefined, [...words, "--snapshotter", "native", image]);
    return containerd;
  }

  /** Starts it, again after `end`. */
  async listen(): Promise<void> {
    const log = Bun.file(join(this.place.directory, "containerd.log"));
    const command = ["containerd", "--config", this.#configPath];
    const daemon = Bun.spawn(inNetwork(this.place.node, command), {
      stdin: "ignore",
      stdout: log,
      stderr: log,
    });
    this.#daemon = daemon;
    afterThisTest(() => this.end("SIGTERM"));
    for (let waited = 0; !(await this.#answers()); waited += 50) {
      if (waited > 30_000 || daemon.exitCode !== null) throw new Error(`containerd: ${await log.text()}`);
      await Bun.sleep(50);
    }
  }

  async end(signal: NodeJS.Signals): Promise<void> {
    this.#service?.close();
    this.#service = undefined;
    this.#daemon?.kill(signal);
    await this.#daemon?.exited;
    this.#daemon = undefined;
  }

  async call<T>(method: string, request: object): Promise<T> {
    this.#service ??= new RuntimeService(this.#socket);
    return await this.#service.call<T>(method, request);
  }

  /** What a kubelet asks before it lets pods come. */
  async isNetworkReady(): Promise<boolean> {
    const { status } = await this.call<{
      status: { conditions: readonly { type: string; status: boolean }[] };
    }>("Status", {});
    return status.conditions.find(({ type }) => type === "NetworkReady")?.status === true;
  }

  async untilNetworkReady(): Promise<void> {
    for (let waited = 0; !(await this.isNetworkReady()); waited += 100) {
      if (waited > 20_000) throw new Error("containerd's network did not become ready");
      await Bun.sleep(100);
    }
  }

  /** A pod as a kubelet makes it; its id. @param more of its configuration */
  async runPod(name: string, more: object = {}): Promise<string> {
    const config = {
      metadata: { name, uid: `uid-${name}`, namespace: "default", attempt: 0 },
      hostname: name,
      log_directory: this.place.directory,
      linux: {},
      ...more,
    };
    const { pod_sandbox_id: id } = await this.call<{ pod_sandbox_id: string }>("RunPodSandbox", { config });
    // Also when the test fails: a sandbox outlives its containerd. Once removed it is not known any more.
    afterThisTest(() => this.removePod(id).catch(() => undefined));
    return id;
  }

  /** As a kubelet does it. */
  async removePod(id: string): Promise<void> {
    await this.call("StopPodSandbox", { pod_sandbox_id: id });
    await this.call("RemovePodSandbox", { pod_sandbox_id: id });
  }

  async status(id: string): Promise<SandboxStatus> {
    return await this.call<SandboxStatus>("PodSandboxStatus", { pod_sandbox_id: id, verbose: true });
  }

  async #answers(): Promise<boolean> {
    if (!existsSync(this.#socket)) return false;
    try {
      await this.call("Version", {});
      return true;
    } catch {
      // Left by one that was killed: a client that was refused waits longer and longer before it tries again.
      this.#service?.close();
      this.#service = undefined;
      return false;
    }
  }

  get #configPath(): string {
    return join(this.place.directory, "config.toml");
  }

  #config(): string {
    const { directory, binDirectory, configurationDirectory } = this.place;
    return `version = 2
root = "${join(directory, "c-root")}"
state = "${join(directory, "c-state")}"
[grpc]
  address = "${this.#socket}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "${PAUSE}"
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "${binDirectory}"
    conf_dir = "${configurationDirectory}"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "native"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
`;
  }
}

export interface SandboxStatus {
  readonly status: {
    readonly state: string;
    readonly network: { readonly ip: string; readonly additional_ips: readonly { readonly ip: string }[] };
  };
  readonly info: Readonly<Record<string, string>>;
}

/** The process of a pod's sandbox, whose network namespace is the pod's. */
export function sandboxPid({ info }: SandboxStatus): number {
  return (JSON.parse(info["info"]!) as { readonly pid: number }).pid;
}

/** The pause image: busybox that sleeps, made without a registry. */
function makeImage(directory: string): string {
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
