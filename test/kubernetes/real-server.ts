/** A real kube-apiserver with etcd (scripts/kubernetes-server.ts), and kubectl as who sets the cluster up. */
import { test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { kubernetesPrograms, type KubernetesPrograms } from "../../scripts/kubernetes-server.ts";
import type { NetworkNamespace } from "../../src/kernel/namespace.ts";
import { afterThisTest } from "../support/teardown.ts";
import { ask, isRealRoot, run, type Ran } from "../support/witness.ts";
import type { ApiObject } from "./api-server.ts";
import { Authority } from "./certificates.ts";
import { kubeconfigText, type ClusterApi } from "./cluster-world.ts";

const ADDRESS = "203.0.113.1";
const PORT = 6443;
const ADMIN_TOKEN = "admin-of-the-test";
/** etcd is there in a second, the server in four; a busy machine takes longer. */
const READY_MS = 120_000;
const MOST_CONFLICTS = 20;

/** `test`, for what needs the real server; runs in `npm run test:kubernetes` only, for it takes long. */
export function testWithServer(): typeof test {
  const found = kubernetesPrograms();
  const reason = !isRealRoot
    ? "real-root"
    : process.env["KUBERNETES_TESTS"] === undefined
      ? "the product kube-apiserver, and is run by npm run test:kubernetes"
      : typeof found === "string"
        ? `the product kube-apiserver: ${found}`
        : undefined;
  if (reason === undefined) return test;
  const skip = (name: string, ...rest: unknown[]): void => {
    (test.skip as (...args: unknown[]) => void)(`${name} [needs ${reason}]`, ...rest);
  };
  return skip as unknown as typeof test;
}

export class RealApiServer implements ClusterApi {
  readonly authority = new Authority();
  readonly url = `https://${ADDRESS}:${PORT}`;
  readonly #directory = mkdtempSync(join(tmpdir(), "wayout-apiserver-"));
  readonly #programs = kubernetesPrograms() as KubernetesPrograms;
  #server: ReturnType<typeof Bun.spawn> | undefined;

  private constructor(private readonly outside: NetworkNamespace) {
    afterThisTest(() => rmSync(this.#directory, { recursive: true, force: true }));
    const { cert, key } = this.authority.sign("api", `IP:${ADDRESS}`, "IP:10.96.0.1", "DNS:kubernetes");
    this.#file("tls.crt", cert);
    this.#file("tls.key", key);
    this.#file("tokens.csv", `${ADMIN_TOKEN},admin,1,"system:masters"\n`);
    ask(undefined, ["openssl", "genrsa", "-out", join(this.#directory, "accounts.key"), "2048"]);
    this.#file("admin.kubeconfig", kubeconfigText(this, { token: ADMIN_TOKEN }));
  }

  static async start(outside: NetworkNamespace): Promise<RealApiServer> {
    const server = new RealApiServer(outside);
    server.#spawn("etcd", [
      server.#programs.etcd,
      `--data-dir=${join(server.#directory, "etcd")}`,
      "--listen-client-urls=http://127.0.0.1:2379",
      "--advertise-client-urls=http://127.0.0.1:2379",
      "--listen-peer-urls=http://127.0.0.1:2380",
    ]);
    await server.begin();
    return server;
  }

  /** Starts the server itself; what etcd has stays as it is. */
  async begin(): Promise<void> {
    const file = (name: string): string => join(this.#directory, name);
    const child = this.#spawn("apiserver", [
      this.#programs.apiServer,
      `--etcd-servers=http://127.0.0.1:2379`,
      `--bind-address=${ADDRESS}`,
      `--secure-port=${PORT}`,
      `--cert-dir=${file("generated")}`,
      `--tls-cert-file=${file("tls.crt")}`,
      `--tls-private-key-file=${file("tls.key")}`,
      `--token-auth-file=${file("tokens.csv")}`,
      "--authorization-mode=RBAC",
      // Two podCIDRs of a node are kept only with it, before 1.23.
      "--feature-gates=IPv6DualStack=true",
      "--service-cluster-ip-range=10.96.0.0/16",
      "--service-account-issuer=https://kubernetes.default.svc",
      `--service-account-key-file=${file("accounts.key")}`,
      `--service-account-signing-key-file=${file("accounts.key")}`,
      // No controller makes the accounts that it waits for.
      "--disable-admission-plugins=ServiceAccount",
    ]);
    this.#server = child;
    const deadline = performance.now() + READY_MS;
    while (this.try("get", "--raw", "/readyz").exitCode !== 0) {
      if (child.exitCode !== null || performance.now() > deadline)
        throw new Error(`kube-apiserver does not come up: ${await this.log("apiserver")}`);
      await Bun.sleep(200);
    }
  }

  /** Killed, as a machine that loses its power. */
  async kill(): Promise<void> {
    this.#server?.kill("SIGKILL");
    await this.#server?.exited;
  }

  /** The end of what a program said. */
  async log(name: "etcd" | "apiserver"): Promise<string> {
    return (await Bun.file(join(this.#directory, `${name}.log`)).text()).slice(-2000);
  }

  try(...words: readonly string[]): Ran {
    return run(this.outside, this.#command(words));
  }

  /** With this as its standard input. */
  given(input: string, ...words: readonly string[]): Ran {
    return run(this.outside, this.#command(words), input);
  }

  kubectl(...words: readonly string[]): string {
    return ask(this.outside, this.#command(words));
  }

  json<T>(...words: readonly string[]): T {
    return JSON.parse(this.kubectl(...words, "-o", "json")) as T;
  }

  /** Creates it, or puts it in the place of what is there, its status included. */
  put(_collection: string, object: ApiObject): void {
    const text = JSON.stringify(object);
    const name = `${object.kind}/${object.metadata.name}`;
    const space = object.metadata.namespace ?? "default";
    const isThere = this.try("-n", space, "get", name).exitCode === 0;
    ask(this.outside, this.#command(["-n", space, isThere ? "replace" : "create", "-f", "-"]), text);
    if (object["status"] === undefined) return;
    const path = object.kind === "Node" ? "/api/v1/nodes" : `/api/v1/namespaces/${space}/pods`;
    const raw = ["replace", "--raw", `${path}/${object.metadata.name}/status`, "-f", "-"];
    for (let attempt = 0; ; attempt++) {
      const there = this.json<ApiObject>("-n", space, "get", name);
      const next = JSON.stringify({ ...there, status: object["status"] });
      const told = run(this.outside, this.#command(raw), next);
      if (told.exitCode === 0) return;
      // An agent writes its condition at the same time: as every client, it is tried again on what is there by then.
      if (attempt === MOST_CONFLICTS || !told.stderr.includes("(Conflict)")) throw new Error(told.stderr);
    }
  }

  /** A token of the account that the manifests give the agent, as a pod would have it. */
  agentUser(): object {
    const request = { apiVersion: "authentication.k8s.io/v1", kind: "TokenRequest", spec: {} };
    const raw = ["create", "--raw", "/api/v1/namespaces/wayout/serviceaccounts/wayout/token", "-f", "-"];
    const said = ask(this.outside, this.#command(raw), JSON.stringify(request));
    return { token: (JSON.parse(said) as { readonly status: { readonly token: string } }).status.token };
  }

  #command(words: readonly string[]): string[] {
    return ["kubectl", "--kubeconfig", join(this.#directory, "admin.kubeconfig"), ...words];
  }

  #file(name: string, text: string): void {
    writeFileSync(join(this.#directory, name), text);
  }

  #spawn(name: string, argv: string[]): ReturnType<typeof Bun.spawn> {
    const output = Bun.file(join(this.#directory, `${name}.log`));
    const child = this.outside.run(() =>
      Bun.spawn(argv, { stdin: "ignore", stdout: "ignore", stderr: output, cwd: this.#directory }),
    );
    afterThisTest(async () => {
      child.kill("SIGKILL");
      await child.exited;
    });
    return child;
  }
}
