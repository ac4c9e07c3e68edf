/**
 * What libcni remembers of every interface it had made, with any plugin: kind "cniCacheV1". It leads from a pod's name
 * in Kubernetes to its namespace and addresses. Most runtimes keep it in /var/lib/cni/results; cri-dockerd and the old
 * kubelet in /var/lib/cni/cache/results, others in a folder of their own beside.
 */
import { readdirSync } from "node:fs";
import { MOST_RUNTIME_BYTES, readRegular } from "../kernel/file.ts";
import { join } from "node:path";
import * as v from "valibot";
import { parseCidr } from "../address/cidr.ts";
import { familyOf, canonicalIp, isDefaultCidr } from "../address/ip.ts";
import { isAbsence, isRefusal, messageOf } from "../error.ts";
import { DEFAULT_DATA_DIRECTORY } from "../ipam/configuration.ts";
import { withUsualKeys } from "../ipam/usual-keys.ts";
import type { PodAttachment } from "./pod.ts";
import { present } from "../present.ts";

const CNI_STATE_DIRECTORY = "/var/lib/cni";
export const CNI_CACHE_DIRECTORY = `${CNI_STATE_DIRECTORY}/results`;

/** Where runtimes keep their caches, the usual place first. */
export function cacheDirectories(): string[] {
  let names: readonly string[] = [];
  try {
    names = readdirSync(CNI_STATE_DIRECTORY).sort();
  } catch {
    // Why is told of the directory below.
  }
  // Whatever a network is called, host-local's reservations are no results.
  const runtimes = names.filter((name) => join(CNI_STATE_DIRECTORY, name) !== DEFAULT_DATA_DIRECTORY);
  return [CNI_CACHE_DIRECTORY, ...runtimes.map((name) => join(CNI_STATE_DIRECTORY, name, "results"))];
}

/** An attachment with the names that the runtime passed in CNI_ARGS. */
export interface CachedAttachment extends PodAttachment {
  readonly kubernetes?: { readonly namespace: string; readonly name: string; readonly uid?: string };
}

const address = v.object({ address: v.string(), gateway: v.optional(v.string()) });
/** Results up to 0.2.0 have one address a family instead of a list. */
const oldAddress = v.object({ ip: v.string(), gateway: v.optional(v.string()) });
const route = v.object({ dst: v.string(), gw: v.nullish(v.string()) });
const cached = v.object({
  kind: v.literal("cniCacheV1"),
  containerId: v.string(),
  ifName: v.string(),
  networkName: v.string(),
  netns: v.optional(v.string(), ""),
  /** The configuration, in base64. */
  config: v.nullish(v.string()),
  cniArgs: v.nullish(v.array(v.array(v.string()))),
  result: v.nullish(
    v.object({
      interfaces: v.nullish(
        v.array(v.object({ name: v.string(), mac: v.nullish(v.string()), sandbox: v.nullish(v.string()) })),
      ),
      ips: v.nullish(v.array(address)),
      routes: v.nullish(v.array(route)),
      ip4: v.nullish(oldAddress),
      ip6: v.nullish(oldAddress),
    }),
  ),
});

/** A file of a cache that no attachment could be read from, or a directory of such files. */
export interface UnreadCache {
  readonly path: string;
  readonly why: string;
  /** Whoever has the right may read it; who else is there nobody knows without. */
  readonly forbidden?: true;
}

/** Everything in the caches that can be read, each attachment once. */
export function cachedAttachments(
  directories: string | readonly string[] = cacheDirectories(),
): readonly CachedAttachment[] {
  return readCaches(directories).attachments;
}

/** What runtimes remember. */
export interface Caches {
  readonly attachments: readonly CachedAttachment[];
  /** Directories and files that could not be read, or say nothing that could be understood. */
  readonly unread: readonly UnreadCache[];
  /** Files that are there, with their paths: the name alone says of whom, whatever is in it. */
  readonly files: ReadonlyMap<string, string>;
}

/** How libcni calls the file of an attachment. */
export function cacheFileName(network: string, container: string, interfaceName: string): string {
  return `${network}-${container}-${interfaceName}`;
}

/** The same as a whole. */
export function readCaches(directories: string | readonly string[] = cacheDirectories()): Caches {
  const found = new Map<string, CachedAttachment>();
  const files = new Map<string, string>();
  const unread: UnreadCache[] = [];
  for (const directory of typeof directories === "string" ? [directories] : directories) {
    let names: readonly string[] = [];
    try {
      names = readdirSync(directory).sort();
    } catch (error) {
      if (!isAbsence(error)) unread.push(unreadAt(directory, error));
    }
    for (const name of names) {
      const path = join(directory, name);
      files.set(name, path);
      try {
        const one = attachmentIn(path);
        const key = one === undefined ? "" : `${one.network} ${one.containerId} ${one.interface}`;
        if (one !== undefined && !found.has(key)) found.set(key, one);
      } catch (error) {
        unread.push(unreadAt(path, error));
      }
    }
  }
  return { attachments: [...found.values()], unread, files };
}

function unreadAt(path: string, error: unknown): UnreadCache {
  return present({ path, why: messageOf(error), forbidden: isRefusal(error) ? (true as const) : undefined });
}

/** Undefined for what libcni did not write. @throws for a result that it did write and that makes no sense */
function attachmentIn(path: string): CachedAttachment | undefined {
  const value: unknown = JSON.parse(readRegular(path, MOST_RUNTIME_BYTES).text);
  if (!v.is(v.object({ kind: v.literal("cniCacheV1") }), value)) return undefined;
  const parsed = v.safeParse(cached, value);
  if (!parsed.success) throw new Error(parsed.issues[0].message);
  return attachmentOf(parsed.output);
}

function attachmentOf(cache: v.InferOutput<typeof cached>): CachedAttachment {
  const args = new Map((cache.cniArgs ?? []).map(([key, value]) => [key ?? "", value ?? ""]));
  const namespace = args.get("K8S_POD_NAMESPACE");
  const name = args.get("K8S_POD_NAME");
  const uid = args.get("K8S_POD_UID");
  const { result } = cache;
  const old = [result?.ip4, result?.ip6].filter((ip) => ip !== null && ip !== undefined);
  const ips = [...(result?.ips ?? []), ...old.map((ip) => ({ address: ip.ip, gateway: ip.gateway }))];
  for (const { address, gateway } of ips) {
    parseCidr(address, "keep");
    if (gateway !== undefined) canonicalIp(gateway);
  }
  const plugins = pluginsOf(cache.config ?? undefined);
  const masqueradedBy = plugins.find((one) => one.ipMasq === true)?.type;
  const bridge = bridgeOf(plugins);
  const mac = insideOf(cache)?.mac?.toLowerCase();
  const gateways = ips.flatMap((ip) => (ip.gateway === undefined ? [] : [ip.gateway]));
  return present({
    network: cache.networkName,
    containerId: cache.containerId,
    interface: cache.ifName,
    netns: cache.netns === "" ? sandboxOf(cache) : cache.netns,
    addresses: ips.map((ip) => ip.address),
    gateways,
    defaultGateways: (result?.routes ?? [])
      .filter(({ dst }) => isDefaultCidr(dst))
      .flatMap(({ dst, gw }) => gw ?? gateways.find((one) => familyOf(one) === familyOf(dst)) ?? []),
    bridge,
    mac,
    hostInterfaces: (result?.interfaces ?? [])
      .filter((link) => (link.sandbox ?? "") === "")
      .map((link) => link.name),
    masqueradedBy,
    kubernetes: namespace === undefined || name === undefined ? undefined : present({ namespace, name, uid }),
  });
}

/** libcni wrote no `netns` before 1.2, which is what containerd 1 and podman still have: there the plugin's result says it. */
function sandboxOf(cache: v.InferOutput<typeof cached>): string {
  const inside = (cache.result?.interfaces ?? []).filter(({ sandbox }) => (sandbox ?? "") !== "");
  return (insideOf(cache) ?? inside[0])?.sandbox ?? "";
}

/** The interface in the pod, as the plugin's result has it. */
function insideOf({ ifName, result }: v.InferOutput<typeof cached>) {
  return result?.interfaces?.find(({ name, sandbox }) => name === ifName && (sandbox ?? "") !== "");
}

/** The plugins of a configuration: of a single one, or of a list. */
function pluginsOf(config: string | undefined): readonly PluginConfiguration[] {
  if (config === undefined) return [];
  try {
    const text = Buffer.from(config, "base64").toString();
    const whole = withUsualKeys(JSON.parse(text) as PluginConfiguration);
    return [whole, ...(whole.plugins ?? [])];
  } catch {
    return [];
  }
}

/** What the bridge plugin and ours were told; with a VLAN the gateways are on an interface of its own. */
function bridgeOf(plugins: readonly PluginConfiguration[]): CachedAttachment["bridge"] {
  const plugin = plugins.find(({ type }) => type === "bridge" || type === "wayout");
  if (typeof plugin?.bridge !== "string") return undefined;
  const isGateway = plugin.isGateway === true || plugin.isDefaultGateway === true;
  return { name: plugin.bridge, isGateway: isGateway && (plugin.vlan ?? 0) === 0 };
}

interface PluginConfiguration {
  readonly type?: string;
  readonly ipMasq?: unknown;
  readonly bridge?: unknown;
  readonly isGateway?: unknown;
  readonly isDefaultGateway?: unknown;
  readonly vlan?: unknown;
  readonly plugins?: readonly PluginConfiguration[];
}
