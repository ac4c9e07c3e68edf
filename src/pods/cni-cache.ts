/**
 * What libcni remembers of every interface it had made, with any plugin: kind "cniCacheV1". It leads from a pod's name
 * in Kubernetes to its namespace and addresses. Most runtimes keep it in /var/lib/cni/results; cri-dockerd and the old
 * kubelet in /var/lib/cni/cache/results, others in a folder of their own beside.
 */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import * as v from "valibot";
import type { PodAttachment } from "./pod.ts";

const CNI_STATE_DIRECTORY = "/var/lib/cni";
export const CNI_CACHE_DIRECTORY = `${CNI_STATE_DIRECTORY}/results`;

/** Where runtimes keep their caches, the usual place first. */
export function cacheDirectories(): string[] {
  const own = listed(CNI_STATE_DIRECTORY).map((name) => join(CNI_STATE_DIRECTORY, name, "results"));
  return [CNI_CACHE_DIRECTORY, ...own];
}

/** An attachment with the names that the runtime passed in CNI_ARGS. */
export interface CachedAttachment extends PodAttachment {
  readonly kubernetes?: { readonly namespace: string; readonly name: string; readonly uid?: string };
}

const address = v.object({ address: v.string(), gateway: v.optional(v.string()) });
/** Results up to 0.2.0 have one address a family instead of a list. */
const oldAddress = v.object({ ip: v.string(), gateway: v.optional(v.string()) });
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
      interfaces: v.nullish(v.array(v.object({ name: v.string(), sandbox: v.nullish(v.string()) }))),
      ips: v.nullish(v.array(address)),
      ip4: v.nullish(oldAddress),
      ip6: v.nullish(oldAddress),
    }),
  ),
});

/** Everything in the caches that can be read, each attachment once; what cannot is not ours to complain about. */
export function cachedAttachments(
  directories: string | readonly string[] = cacheDirectories(),
): CachedAttachment[] {
  const found = new Map<string, CachedAttachment>();
  for (const directory of typeof directories === "string" ? [directories] : directories) {
    for (const one of attachmentsIn(directory)) {
      const key = `${one.network} ${one.containerId} ${one.interface}`;
      if (!found.has(key)) found.set(key, one);
    }
  }
  return [...found.values()];
}

function listed(directory: string): string[] {
  try {
    return readdirSync(directory).sort();
  } catch {
    return [];
  }
}

function attachmentsIn(directory: string): CachedAttachment[] {
  return listed(directory).flatMap((name) => {
    try {
      const parsed = v.safeParse(cached, JSON.parse(readFileSync(join(directory, name), "utf8")));
      return parsed.success ? [attachmentOf(parsed.output)] : [];
    } catch {
      return [];
    }
  });
}

function attachmentOf(cache: v.InferOutput<typeof cached>): CachedAttachment {
  const args = new Map((cache.cniArgs ?? []).map(([key, value]) => [key ?? "", value ?? ""]));
  const namespace = args.get("K8S_POD_NAMESPACE");
  const name = args.get("K8S_POD_NAME");
  const uid = args.get("K8S_POD_UID");
  const { result } = cache;
  const old = [result?.ip4, result?.ip6].filter((ip) => ip !== null && ip !== undefined);
  const ips = [...(result?.ips ?? []), ...old.map((ip) => ({ address: ip.ip, gateway: ip.gateway }))];
  const masqueradedBy = masqueradingPlugin(cache.config ?? undefined);
  return {
    network: cache.networkName,
    containerId: cache.containerId,
    interface: cache.ifName,
    netns: cache.netns,
    addresses: ips.map((ip) => ip.address),
    gateways: ips.flatMap((ip) => (ip.gateway === undefined ? [] : [ip.gateway])),
    hostInterfaces: (result?.interfaces ?? [])
      .filter((link) => (link.sandbox ?? "") === "")
      .map((link) => link.name),
    ...(masqueradedBy === undefined ? {} : { masqueradedBy }),
    ...(namespace === undefined || name === undefined
      ? {}
      : { kubernetes: { namespace, name, ...(uid === undefined ? {} : { uid }) } }),
  };
}

/** Type of the plugin whose configuration has ipMasq: of a single plugin, or of one of a list. */
function masqueradingPlugin(config: string | undefined): string | undefined {
  if (config === undefined) return undefined;
  try {
    const whole = JSON.parse(Buffer.from(config, "base64").toString()) as PluginConfiguration;
    return [whole, ...(whole.plugins ?? [])].find((one) => one.ipMasq === true)?.type;
  } catch {
    return undefined;
  }
}

interface PluginConfiguration {
  readonly type?: string;
  readonly ipMasq?: unknown;
  readonly plugins?: readonly PluginConfiguration[];
}
