/**
 * Containers by what their runtimes leave on disk: containerd's bundles, podman's list of names, the state of runc and
 * crun. Nothing is asked over a socket; what this user may not read is left out.
 */
import { readdirSync } from "node:fs";
import { MOST_RUNTIME_BYTES, readRegular } from "../kernel/file.ts";
import { join } from "node:path";
import * as v from "valibot";
import { present } from "../present.ts";

/** One container. */
export interface Container {
  readonly id: string;
  readonly source: "podman" | "containerd";
  readonly names: readonly string[];
  /** Its first process. */
  readonly pid?: number;
  /** Path of the network namespace it joined, when its description names one. */
  readonly netns?: string;
  readonly kubernetes?: { readonly namespace: string; readonly name: string; readonly uid?: string };
}

/** Where to look; tests and rootless podman have their own. */
export interface ContainerDirectories {
  /** One directory a container: config.json (OCI), init.pid. */
  readonly containerd: string;
  /** podman's containers.json. */
  readonly podman: readonly string[];
  /** runc: ID/state.json; crun: ID/status. */
  readonly runtimes: readonly string[];
}

export const CONTAINER_DIRECTORIES: ContainerDirectories = {
  containerd: "/run/containerd/io.containerd.runtime.v2.task",
  podman: [
    "/var/lib/containers/storage/overlay-containers/containers.json",
    "/var/lib/containers/storage/vfs-containers/containers.json",
  ],
  runtimes: ["/run/runc", "/run/crun"],
};

/** Every container that was found. */
export function containers(directories = CONTAINER_DIRECTORIES): Container[] {
  return [...containerdContainers(directories.containerd), ...podmanContainers(directories)];
}

const ociConfig = v.object({
  annotations: v.optional(v.record(v.string(), v.string()), {}),
  linux: v.optional(
    v.object({
      namespaces: v.optional(v.array(v.object({ type: v.string(), path: v.optional(v.string()) })), []),
    }),
  ),
});

/** containerd keeps NAMESPACE/ID for each running task. */
function containerdContainers(root: string): Container[] {
  return entries(root).flatMap((namespace) =>
    entries(join(root, namespace)).flatMap((id) => {
      const config = parseFile(join(root, namespace, id, "config.json"), ociConfig);
      if (config === undefined) return [];
      const note = (name: string): string | undefined => config.annotations[`io.kubernetes.cri.${name}`];
      const podNamespace = note("sandbox-namespace");
      const podName = note("sandbox-name");
      const uid = note("sandbox-uid");
      const containerName = note("container-name");
      const pid = Number(readText(join(root, namespace, id, "init.pid")) ?? Number.NaN);
      const netns = config.linux?.namespaces.find((entry) => entry.type === "network")?.path;
      return [
        present({
          id,
          source: "containerd",
          names: containerName === undefined ? [] : [containerName],
          pid: Number.isInteger(pid) ? pid : undefined,
          netns,
          kubernetes:
            podNamespace === undefined || podName === undefined
              ? undefined
              : present({
                  namespace: podNamespace,
                  name: podName,
                  uid,
                }),
        }) satisfies Container,
      ];
    }),
  );
}

const podmanList = v.array(v.object({ id: v.string(), names: v.nullish(v.array(v.string())) }));
const runcState = v.object({
  init_process_pid: v.number(),
  namespace_paths: v.optional(v.record(v.string(), v.string()), {}),
});
const crunStatus = v.object({ pid: v.number() });

function podmanContainers({ podman, runtimes }: ContainerDirectories): Container[] {
  const listed = podman.flatMap((path) => parseFile(path, podmanList) ?? []);
  return listed.flatMap(({ id, names }) => {
    const pid = runtimes.map((root) => processOf(join(root, id))).find((found) => found !== undefined);
    return [present({ id, source: "podman", names: names ?? [], pid }) satisfies Container];
  });
}

function processOf(directory: string): number | undefined {
  return (
    parseFile(join(directory, "state.json"), runcState)?.init_process_pid ??
    parseFile(join(directory, "status"), crunStatus)?.pid
  );
}

function entries(directory: string): string[] {
  try {
    return readdirSync(directory).sort();
  } catch {
    return [];
  }
}

function readText(path: string): string | undefined {
  try {
    return readRegular(path, MOST_RUNTIME_BYTES).text.trim();
  } catch {
    return undefined;
  }
}

function parseFile<T extends v.GenericSchema>(path: string, schema: T): v.InferOutput<T> | undefined {
  const text = readText(path);
  if (text === undefined) return undefined;
  try {
    const parsed = v.safeParse(schema, JSON.parse(text));
    return parsed.success ? parsed.output : undefined;
  } catch {
    return undefined;
  }
}
