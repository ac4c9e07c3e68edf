/** The CNI plugins that this node's container runtimes need to start a pod: whether each is there and can be executed. */
import { closeSync, constants, existsSync, openSync, readSync, statSync, type Stats } from "node:fs";
import { join } from "node:path";
import { isExecutable, MOST_RUNTIME_BYTES, readRegular } from "../kernel/file.ts";
import { judgePlugin } from "../kernel/plugin-file.ts";
import { programFault, PROGRAM_HEAD_BYTES } from "../linux/program-file.ts";
import { DEFAULT_BIN_DIRECTORY, isNetworkFile } from "../naming/cni-places.ts";
import { present } from "../present.ts";
import { ownSingleFile } from "../self.ts";
import { containerRuntimes, PACKAGED_PLUGINS, type ContainerRuntime } from "./container-runtimes.ts";
import type { Gaps } from "./namespace.ts";
import type { NetworkPlugin } from "./snapshot.ts";

const OURS = "wayout";
/** A plugin of this name executes another, which its configuration need not name. */
const DELEGATING: Readonly<Record<string, string>> = { flannel: "bridge" };

/** @param root before every path; "" but in tests */
export function readNetworkPlugins(gaps: Gaps, root = ""): NetworkPlugin[] {
  const found = new Map<string, NetworkPlugin>();
  for (const runtime of containerRuntimes(gaps, root)) {
    for (const needed of neededBy(runtime, gaps)) {
      const { type } = needed;
      const plugin = {
        runtime: runtime.name,
        ...needed,
        ...placed(type, runtime.binDirectories, gaps, root),
      };
      found.set(JSON.stringify([runtime.name, type, runtime.binDirectories]), plugin);
    }
  }
  return [...found.values()];
}

type Needed = Pick<NetworkPlugin, "file" | "type">;

function neededBy(runtime: ContainerRuntime, gaps: Gaps): Needed[] {
  const files = networkFiles(runtime, gaps);
  const needed = files.flatMap((file) => {
    const types = gaps.try("node", file, () => typesIn(readRegular(file, MOST_RUNTIME_BYTES).text));
    return (types ?? []).map((type) => ({ file, type }));
  });
  // A node without a network is not made for pods yet.
  return runtime.needsLoopback && needed.length > 0
    ? [...needed, { file: needed[0]!.file, type: "loopback" }]
    : needed;
}

function networkFiles({ configurationDirectory, takes }: ContainerRuntime, gaps: Gaps): string[] {
  const names = gaps.names(configurationDirectory).filter(isNetworkFile);
  const files = names.map((name) => join(configurationDirectory, name));
  return takes === "first" ? files.slice(0, 1) : files;
}

/** Of a plugin of ours the IPAM plugin host-local is a part. @throws SyntaxError */
function typesIn(text: string): string[] {
  const value = JSON.parse(text) as { readonly plugins?: unknown; readonly type?: unknown };
  const plugins = (Array.isArray(value.plugins) ? value.plugins : [value]) as readonly PluginPart[];
  const types = plugins.flatMap((plugin) => {
    const { type, ipam, delegate } = plugin;
    const address = type === OURS && ipam?.type === "host-local" ? undefined : ipam?.type;
    return [type, address, delegate?.type ?? DELEGATING[String(type)]];
  });
  // What has a slash in it no runtime looks for.
  const named = types.filter(
    (type): type is string => typeof type === "string" && type !== "" && !type.includes("/"),
  );
  return [...new Set(named)];
}

interface PluginPart {
  readonly type?: unknown;
  readonly ipam?: { readonly type?: unknown };
  readonly delegate?: { readonly type?: unknown };
}

type Placed = Pick<NetworkPlugin, "directories" | "path" | "elsewhere" | "fault" | "said">;

function placed(type: string, directories: readonly string[], gaps: Gaps, root: string): Placed {
  for (const directory of directories) {
    const path = join(directory, type);
    const status = gaps.try("node", path, () => statSync(path, { throwIfNoEntry: false }));
    if (status === undefined || status.isDirectory()) continue;
    const fault = gaps.try(
      "node",
      path,
      () => faultOf(path, status) ?? (type === OURS ? ourFault(path) : {}),
    );
    return { directories, path, ...fault };
  }
  const others = [
    ...PACKAGED_PLUGINS.map((directory) => `${root}${directory}`),
    `${root}${DEFAULT_BIN_DIRECTORY}`,
  ];
  const elsewhere = others.map((directory) => join(directory, type)).find((path) => existsSync(path));
  return present({ directories, fault: "missing", elsewhere });
}

type Fault = Pick<NetworkPlugin, "fault" | "said">;

function faultOf(path: string, status: Stats): Fault | undefined {
  if (!status.isFile()) return { fault: "damaged", said: "it is no regular file" };
  if (!isExecutable(path)) {
    return { fault: "not-executable", said: `its mode is ${(status.mode & 0o7777).toString(8)}` };
  }
  return programFault(headOf(path), status.size, process.arch);
}

function headOf(path: string): Uint8Array {
  const fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    const head = Buffer.alloc(PROGRAM_HEAD_BYTES);
    return head.subarray(0, readSync(fd, head));
  } finally {
    closeSync(fd);
  }
}

function ourFault(path: string): Fault {
  const judgement = judgePlugin(ownSingleFile(), path);
  switch (judgement.is) {
    case "ours":
      return {};
    case "damaged":
      return { fault: "damaged", said: judgement.said };
    case "of-another-build":
      return { fault: "another-build", said: judgement.said };
  }
}
