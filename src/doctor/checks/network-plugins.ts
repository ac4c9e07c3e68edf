/** Whether container runtimes find the plugins that they execute for each pod, and can execute them. */
import { DEFAULT_BIN_DIRECTORY, DEFAULT_CONFIGURATION_DIRECTORY } from "../../naming/cni-places.ts";
import { command } from "../../text/command.ts";
import type { NetworkPlugin, Snapshot } from "../../snapshot/snapshot.ts";
import { anywhere, finding, ofNode, type Check } from "../check.ts";
import type { Evidence, Finding, Fix } from "../finding.ts";

export const networkPlugins: Check = {
  step: "housekeeping",
  codes: ["plugin-missing", "plugin-unusable", "plugin-of-another-build"],
  run: ofNode(({ snapshot }) => networkPluginFindings(snapshot)),
};

/** They are the node's own: also where it has no pod, and has none because of them. */
export function networkPluginFindings({ networkPlugins: plugins = [] }: Snapshot): Finding[] {
  return plugins.filter(({ fault }) => fault !== undefined).map(findingOf);
}

function findingOf(plugin: NetworkPlugin): Finding {
  if (plugin.fault === "missing") return missing(plugin);
  return plugin.fault === "another-build" ? ofAnotherBuild(plugin) : unusable(plugin);
}

function missing(plugin: NetworkPlugin): Finding {
  const { runtime, type, directories, elsewhere } = plugin;
  const [first = ""] = directories;
  const link =
    elsewhere === undefined ? undefined : anywhere(command`ln -s ${elsewhere} ${`${first}/${type}`}`);
  const advice =
    elsewhere === undefined
      ? `put the plugin ${type} into ${first}`
      : `or have ${runtime} look in ${elsewhere.slice(0, -type.length - 1)}, too`;
  return finding("plugin-missing", {
    text: `the plugin ${type}, which ${plugin.file} needs, is not in ${directories.join(" or ")}`,
    owner: runtime,
    evidence: [
      ...namedBy(plugin),
      ...directories.map((directory) => ({ source: `${directory}/${type}`, value: "not there" })),
      ...(elsewhere === undefined ? [] : [{ source: elsewhere, value: "there" }]),
    ],
    consequence: "no new pod starts, and none that ends is taken down cleanly",
    fix: isOurs(plugin) ? [installed(plugin)] : [link],
    ...(isOurs(plugin) ? {} : { advice: [advice] }),
  });
}

const FAULTS: Readonly<Record<string, string>> = {
  "not-executable": "may not be executed",
  "another-machine": "is for another kind of processor",
  damaged: "is damaged",
};

function unusable(plugin: NetworkPlugin): Finding {
  const { path = "", type, fault = "" } = plugin;
  return finding("plugin-unusable", {
    text: `the plugin ${path}, which ${plugin.file} needs, ${FAULTS[fault]}`,
    owner: plugin.runtime,
    evidence: [...namedBy(plugin), { source: path, value: plugin.said ?? fault }],
    consequence: "no new pod starts, and none that ends is taken down cleanly",
    fix: [
      isOurs(plugin)
        ? installed(plugin)
        : fault === "not-executable"
          ? anywhere(command`chmod 0755 ${path}`)
          : undefined,
    ],
    ...(isOurs(plugin) || fault === "not-executable"
      ? {}
      : { advice: [`put the plugin ${type} in place once more, from the package or product that it is of`] }),
  });
}

function ofAnotherBuild(plugin: NetworkPlugin): Finding {
  const { path = "" } = plugin;
  return finding("plugin-of-another-build", {
    text: `${path} is not the plugin of this wayout`,
    owner: "wayout",
    evidence: [{ source: path, value: plugin.said ?? "" }],
    consequence: "pods are connected as that build does it",
    fix: [installed(plugin)],
  });
}

function namedBy({ file, type, runtime }: NetworkPlugin): Evidence[] {
  return [
    {
      source: file,
      value: type === "loopback" ? `${runtime} needs loopback for every pod` : `names ${type}`,
    },
  ];
}

/** Where there is no other `loopback` our program answers to that name. */
function isOurs({ type, fault }: NetworkPlugin): boolean {
  return type === "wayout" || (type === "loopback" && fault === "missing");
}

function installed({ directories, path, type, file }: NetworkPlugin): Fix | undefined {
  const bin = path === undefined ? (directories[0] ?? "") : path.slice(0, -type.length - 1);
  const conf = file.slice(0, file.lastIndexOf("/"));
  const options = [
    ...(bin === DEFAULT_BIN_DIRECTORY ? [] : ["--bin-dir", bin]),
    ...(conf === DEFAULT_CONFIGURATION_DIRECTORY ? [] : ["--conf-dir", conf]),
  ];
  return anywhere(command`wayout cni install ${options}`);
}
