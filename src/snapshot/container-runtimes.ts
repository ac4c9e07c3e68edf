/** Which CNI networks the container runtimes of this node use, and where they look for plugins: by their own files. */
import { statSync } from "node:fs";
import { join } from "node:path";
import { MOST_RUNTIME_BYTES, readRegularIfThere } from "../kernel/file.ts";
import { DEFAULT_BIN_DIRECTORY, DEFAULT_CONFIGURATION_DIRECTORY } from "../naming/cni-places.ts";
import type { Gaps } from "./namespace.ts";

export interface ContainerRuntime {
  readonly name: string;
  readonly configurationDirectory: string;
  readonly binDirectories: readonly string[];
  /** Of the networks in the directory: that whose file sorts first, or each that a container asks for. */
  readonly takes: "first" | "all";
  /** No pod starts without the plugin `loopback`. */
  readonly needsLoopback: boolean;
}

/** Where packages of plugins lie, and podman looks. */
export const PACKAGED_PLUGINS = [
  "/usr/local/libexec/cni",
  "/usr/libexec/cni",
  "/usr/local/lib/cni",
  "/usr/lib/cni",
];

/** Of containerd, and of those who bring it along. */
const CONTAINERD_FILES = [
  "/etc/containerd/config.toml",
  "/var/lib/rancher/k3s/agent/etc/containerd/config.toml",
  "/var/lib/rancher/rke2/agent/etc/containerd/config.toml",
  "/run/k0s/containerd-cri.toml",
];
const CONTAINERD_SOCKET = "/run/containerd/containerd.sock";
const CRIO_FILES = ["/etc/crio/crio.conf", "/etc/crio/crio.conf.d"];
const CRIO_SOCKET = "/run/crio/crio.sock";
const PODMAN_FILES = [
  "/usr/share/containers/containers.conf",
  "/etc/containers/containers.conf",
  "/etc/containers/containers.conf.d",
];

type Table = Readonly<Record<string, unknown>>;

/**
 * Those that are there. A file that cannot be read is a gap, and its runtime is not judged.
 * @param root before every path; "" but in tests
 */
export function containerRuntimes(gaps: Gaps, root = ""): ContainerRuntime[] {
  const reader = new Reader(gaps, root);
  return [...containerd(reader), ...crio(reader), ...podman(reader)];
}

function containerd(reader: Reader): ContainerRuntime[] {
  const configured: readonly Table[] = CONTAINERD_FILES.map((file) => reader.table(file)).filter(
    (table) => table !== undefined,
  );
  const isPlain = configured.length === 0 && reader.isThere(CONTAINERD_SOCKET);
  const tables: readonly Table[] = isPlain ? [{}] : configured;
  return tables.flatMap((configuration) => {
    const disabled = texts(configuration["disabled_plugins"]);
    if (disabled.some((name) => name === "cri" || name.startsWith("io.containerd.grpc.v1.cri"))) return [];
    const cni: Record<string, unknown> = {};
    for (const plugin of Object.values(tableOf(configuration["plugins"])))
      Object.assign(cni, tableOf(tableOf(plugin)["cni"]));
    const directories = [...texts(cni["bin_dirs"]), ...texts([cni["bin_dir"]])];
    return runtime(reader, "containerd", cni["conf_dir"], directories, {
      takes: cni["max_conf_num"] === undefined || cni["max_conf_num"] === 1 ? "first" : "all",
      needsLoopback: cni["use_internal_loopback"] !== true,
    });
  });
}

function crio(reader: Reader): ContainerRuntime[] {
  const network = reader.merged(CRIO_FILES, (one) => tableOf(tableOf(one["crio"])["network"]));
  if (network === undefined && !reader.isThere(CRIO_SOCKET)) return [];
  const { network_dir: directory, plugin_dirs: many, plugin_dir: one } = network ?? {};
  return runtime(reader, "CRI-O", directory, [...texts(many), ...texts([one])], {
    takes: "first",
    needsLoopback: false,
  });
}

/** It has networks of its own kind as well: these are its only where it says so. */
function podman(reader: Reader): ContainerRuntime[] {
  const network = reader.merged(PODMAN_FILES, (one) => tableOf(one["network"]));
  if (network?.["network_backend"] !== "cni") return [];
  const named = texts(network["cni_plugin_dirs"]);
  return runtime(
    reader,
    "podman",
    network["network_config_dir"],
    named.length > 0 ? named : [...PACKAGED_PLUGINS, DEFAULT_BIN_DIRECTORY],
    { takes: "all", needsLoopback: false },
  );
}

function runtime(
  reader: Reader,
  name: string,
  configurationDirectory: unknown,
  binDirectories: readonly string[],
  rest: Pick<ContainerRuntime, "takes" | "needsLoopback">,
): ContainerRuntime[] {
  const [directory = DEFAULT_CONFIGURATION_DIRECTORY] = texts([configurationDirectory]);
  const directories = binDirectories.length > 0 ? binDirectories : [DEFAULT_BIN_DIRECTORY];
  // A variable is filled in by whoever starts it: where that leads is not known here.
  if ([directory, ...directories].some((path) => !path.startsWith("/"))) return [];
  return [
    {
      name,
      configurationDirectory: reader.path(directory),
      binDirectories: directories.map((path) => reader.path(path)),
      ...rest,
    },
  ];
}

class Reader {
  constructor(
    private readonly gaps: Gaps,
    private readonly root: string,
  ) {}

  path(path: string): string {
    return `${this.root}${path}`;
  }

  isThere(path: string): boolean {
    return statSync(this.path(path), { throwIfNoEntry: false }) !== undefined;
  }

  /** undefined where there is none, or it could not be read. */
  table(file: string): Table | undefined {
    const path = this.path(file);
    return this.gaps.try("node", path, () => {
      const found = readRegularIfThere(path, MOST_RUNTIME_BYTES);
      return found === undefined ? undefined : (Bun.TOML.parse(found.text) as Table);
    });
  }

  /** What several files say of one table, the later before the earlier; a directory's files by their names. */
  merged(paths: readonly string[], part: (table: Table) => Table): Table | undefined {
    const files = paths.flatMap((path) =>
      path.endsWith(".d") ? this.gaps.names(this.path(path)).map((name) => join(path, name)) : [path],
    );
    const tables: readonly Table[] = files
      .map((file) => this.table(file))
      .filter((table) => table !== undefined);
    return tables.length === 0 ? undefined : (Object.assign({}, ...tables.map(part)) as Table);
  }
}

function tableOf(value: unknown): Table {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Table) : {};
}

function texts(value: unknown): string[] {
  return Array.isArray(value) ? value.filter((one) => typeof one === "string" && one !== "") : [];
}
