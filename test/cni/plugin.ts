/** The plugin as runtimes meet it: the real program, executed in a node's namespace, with a chain driver like libcni's. */
import { existsSync, mkdtempSync, rmSync, statSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type NetworkNamespace, NETNS_DIRECTORY } from "../../src/kernel/namespace.ts";
import { run, type Ran } from "../support/witness.ts";
import { freshNamespace } from "../support/world.ts";

const ROOT = join(import.meta.dir, "..", "..");
/** Where Debian installs the reference plugins. */
export const REFERENCE_DIRECTORY = "/usr/lib/cni";

let program: string | undefined;

/** The large program, which is the command line as well: dist/wayout when it is this checkout's; otherwise built once for this run. */
export function pluginProgram(): string {
  program ??= freshBuild() ?? build();
  return program;
}

/**
 * The program that runtimes execute. There are two, which are one by these tests: the small one, as it is installed, and
 * with WAYOUT_PLUGIN=large in the environment the large one, as where no small one can be built. Another value is the path
 * of a program built in another way (scripts/test-engine.ts).
 */
export function pluginFile(): string {
  const small = `${pluginProgram()}-cni`;
  const other = process.env["WAYOUT_PLUGIN"];
  if (other !== undefined) return other === "large" ? pluginProgram() : other;
  if (existsSync(small)) return small;
  if (process.env["CI"] === "true") throw new Error(`there is no ${small}: no compiler made it`);
  return pluginProgram();
}

function freshBuild(): string | undefined {
  const built = join(ROOT, "dist", "wayout");
  if (!existsSync(built)) return undefined;
  const newest = Math.max(
    ...[...new Bun.Glob("{src,engine}/**/*.{ts,c,h}").scanSync(ROOT)].map(
      (file) => statSync(join(ROOT, file)).mtimeMs,
    ),
  );
  return statSync(built).mtimeMs > newest ? built : undefined;
}

function build(): string {
  const directory = mkdtempSync(join(tmpdir(), "wayout-plugin-"));
  process.on("exit", () => rmSync(directory, { recursive: true, force: true }));
  const output = join(directory, "wayout");
  const child = Bun.spawnSync([process.execPath, join(ROOT, "scripts", "build.ts"), output], {
    stdout: "pipe",
    stderr: "pipe",
  });
  if (child.exitCode !== 0) throw new Error(`building the plugin: ${child.stderr.toString()}`);
  return output;
}

let directory: string | undefined;

/** A plugin directory with ours as `wayout` and the reference plugins beside it. */
export function pluginDirectory(): string {
  if (directory !== undefined) return directory;
  const made = mkdtempSync(join(tmpdir(), "wayout-cni-bin-"));
  process.on("exit", () => rmSync(made, { recursive: true, force: true }));
  symlinkSync(pluginFile(), join(made, "wayout"));
  if (existsSync(REFERENCE_DIRECTORY)) {
    for (const name of new Bun.Glob("*").scanSync({ cwd: REFERENCE_DIRECTORY })) {
      symlinkSync(join(REFERENCE_DIRECTORY, name), join(made, name));
    }
  }
  return (directory = made);
}

export type Configuration = Readonly<Record<string, unknown>>;

/** Who is asked about. */
export interface Attachment {
  readonly container: string;
  readonly interfaceName?: string;
  /** Path of the namespace; undefined: the runtime says it is gone. */
  readonly netns?: string | undefined;
  readonly args?: string;
}

export interface Answer extends Ran {
  /** Standard output as JSON; undefined when there was none. */
  readonly json: CniJson | undefined;
}

export interface CniJson {
  readonly cniVersion?: string;
  readonly code?: number;
  readonly msg?: string;
  readonly details?: string;
  readonly interfaces?: readonly { name: string; mac?: string; mtu?: number; sandbox?: string }[];
  readonly ips?: readonly { address: string; gateway?: string; interface?: number; version?: string }[];
  readonly routes?: readonly { dst: string; gw?: string }[];
  readonly dns?: Readonly<Record<string, unknown>>;
  readonly ip4?: { ip: string; gateway?: string; routes?: readonly object[] };
  readonly ip6?: { ip: string; gateway?: string; routes?: readonly object[] };
  readonly supportedVersions?: readonly string[];
}

export function environmentOf(command: string, attachment: Partial<Attachment>): Record<string, string> {
  const { container, interfaceName = "eth0", netns, args } = attachment;
  return {
    PATH: process.env["PATH"] ?? "",
    CNI_COMMAND: command,
    CNI_PATH: pluginDirectory(),
    ...(container === undefined ? {} : { CNI_CONTAINERID: container, CNI_IFNAME: interfaceName }),
    ...(netns === undefined ? {} : { CNI_NETNS: netns }),
    ...(args === undefined ? {} : { CNI_ARGS: args }),
  };
}

/** One call of the plugin that the configuration names as its type. */
export function call(
  node: NetworkNamespace,
  command: string,
  configuration: Configuration,
  attachment: Partial<Attachment> = {},
): Answer {
  return rawCall(
    node,
    String(configuration["type"]),
    JSON.stringify(configuration),
    environmentOf(command, attachment),
  );
}

/** One call with any input and any environment. */
export function rawCall(
  node: NetworkNamespace,
  type: string,
  input: string,
  environment: Readonly<Record<string, string>>,
): Answer {
  const ran = run(node, [join(pluginDirectory(), type)], input, environment);
  const silent = ran.exitCode === 0 && SILENT.has(environment["CNI_COMMAND"] ?? "");
  if (silent && type === "wayout" && ran.stdout !== "") throw new Error(`it printed ${ran.stdout}`);
  return { ...ran, json: ran.stdout === "" ? undefined : (JSON.parse(ran.stdout) as CniJson) };
}

/** A call that is not waited for. */
export interface StartedCall {
  /** As by `kill -9`. */
  readonly kill: () => void;
  /** Empty when it had nothing to say. @throws Error when it ended badly without a word */
  readonly answer: Promise<CniJson>;
}

export function startCall(
  node: NetworkNamespace,
  command: string,
  configuration: Configuration,
  attachment: Partial<Attachment>,
): StartedCall {
  const child = node.run(() =>
    Bun.spawn([join(pluginDirectory(), String(configuration["type"]))], {
      stdin: Buffer.from(JSON.stringify(configuration)),
      stdout: "pipe",
      stderr: "pipe",
      env: environmentOf(command, attachment),
    }),
  );
  const answer = async (): Promise<CniJson> => {
    const [output, said] = await Promise.all([
      new Response(child.stdout).text(),
      new Response(child.stderr).text(),
    ]);
    const exitCode = await child.exited;
    const json = (output === "" ? {} : JSON.parse(output)) as CniJson;
    if ((exitCode === 0) !== (json.code === undefined)) throw new Error(`${exitCode}: ${output}${said}`);
    return json;
  };
  return { kill: () => child.kill("SIGKILL"), answer: answer() };
}

/** Commands that have nothing to say when all is well. */
const SILENT: ReadonlySet<string> = new Set(["CHECK", "DEL", "GC", "STATUS"]);

/** The result of a call that must succeed. */
export function must(answer: Answer): CniJson {
  if (answer.exitCode === 0) return answer.json ?? {};
  throw new Error(`the plugin ended with ${answer.exitCode}: ${answer.stdout}${answer.stderr}`);
}

/** A chain of plugins as libcni runs it: name, version and prevResult are put into each plugin's configuration. */
export class Chain {
  constructor(
    readonly node: NetworkNamespace,
    readonly name: string,
    readonly plugins: readonly Configuration[],
    readonly cniVersion = "1.0.0",
  ) {}

  add(attachment: Attachment, runtimeConfig?: object): CniJson {
    let previous: CniJson | undefined;
    for (const plugin of this.plugins) {
      previous = must(
        call(this.node, "ADD", this.#configuration(plugin, previous, runtimeConfig), attachment),
      );
    }
    return previous!;
  }

  check(
    attachment: Attachment,
    result: CniJson,
    runtimeConfig?: object,
    skipped: readonly string[] = [],
  ): void {
    for (const plugin of this.plugins) {
      if (skipped.includes(String(plugin["type"]))) continue;
      must(call(this.node, "CHECK", this.#configuration(plugin, result, runtimeConfig), attachment));
    }
  }

  del(attachment: Attachment, result?: CniJson, runtimeConfig?: object): void {
    for (const plugin of this.plugins.toReversed()) {
      must(call(this.node, "DEL", this.#configuration(plugin, result, runtimeConfig), attachment));
    }
  }

  #configuration(plugin: Configuration, previous?: CniJson, runtimeConfig?: object): Configuration {
    return {
      ...plugin,
      name: this.name,
      cniVersion: this.cniVersion,
      ...(previous === undefined ? {} : { prevResult: previous }),
      ...(runtimeConfig === undefined ? {} : { runtimeConfig }),
    };
  }
}

let networks = 0;

/** A network name no other test uses: state under /var/lib/cni outlives a test. */
export function networkName(): string {
  return `net-${process.pid}-${++networks}`;
}

/** A bridge network as a migrating user has it. */
export function bridgeNetwork(extra: Configuration = {}): Configuration {
  return {
    cniVersion: "1.1.0",
    name: networkName(),
    type: "wayout",
    bridge: "cni0",
    isDefaultGateway: true,
    ipMasq: true,
    ipam: { type: "host-local", subnet: "10.42.0.0/24" },
    ...extra,
  };
}

/** A fresh namespace as a pod, and how a runtime names it. */
export function freshPod(container = "pod1"): Attachment & { readonly namespace: NetworkNamespace } {
  const namespace = freshNamespace("pod");
  return { container, namespace, netns: `${NETNS_DIRECTORY}/${namespace.name}` };
}
