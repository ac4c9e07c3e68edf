/** The networks of this node that name our plugin, as container runtimes have them configured. */
import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { namespaceInode } from "../kernel/namespace.ts";
import type { Owner } from "../ipam/assignment.ts";
import { DEFAULT_DATA_DIRECTORY } from "../ipam/configuration.ts";
import { readReservations } from "../ipam/owner-index.ts";
import { cachedAttachments } from "../pods/cni-cache.ts";

export interface ConfiguredNetwork {
  readonly file: string;
  readonly network: string;
  /** Our plugin's own part of the configuration. */
  readonly plugin: Readonly<Record<string, unknown>>;
}

/** Files that cannot be read, or are not JSON, are the runtime's to complain about. */
export function readNetworks(directory: string): ConfiguredNetwork[] {
  let names: string[];
  try {
    names = readdirSync(directory).filter((name) => /\.(conf|conflist|json)$/.test(name));
  } catch {
    return [];
  }
  return names.sort().flatMap((name) => {
    const file = join(directory, name);
    try {
      const value = JSON.parse(readFileSync(file, "utf8")) as Readonly<Record<string, unknown>>;
      const plugins = (value["plugins"] ?? [value]) as readonly Readonly<Record<string, unknown>>[];
      const plugin = plugins.find(({ type }) => type === "wayout");
      const network = value["name"];
      return plugin === undefined || typeof network !== "string" ? [] : [{ file, network, plugin }];
    } catch {
      return [];
    }
  });
}

/** An ADD may be under way: its address is reserved, and the runtime writes its cache when all plugins are done. */
const ADD_UNDER_WAY_MS = 120_000;

/**
 * The attachments of a network that are to be kept: those in libcni's cache whose namespace is there, and reservations
 * so young that their ADD may not have ended.
 * @param now milliseconds since the epoch
 */
export function attachmentsInUse({ network, plugin }: ConfiguredNetwork, now: number): Owner[] {
  const cached = cachedAttachments()
    .filter((attachment) => attachment.network === network && namespaceInode(attachment.netns) !== undefined)
    .map((attachment) => ({ container: attachment.containerId, interfaceName: attachment.interface }));
  const ipam = plugin["ipam"] as { readonly dataDir?: string } | undefined;
  const directory = join(ipam?.dataDir ?? DEFAULT_DATA_DIRECTORY, network);
  return [...cached, ...youngReservations(directory, now)];
}

function youngReservations(directory: string, now: number): Owner[] {
  try {
    return readReservations(directory)
      .filter(({ addresses }) =>
        addresses.some((address) => now - statSync(join(directory, address)).mtimeMs < ADD_UNDER_WAY_MS),
      )
      .map(({ owner }) => owner);
  } catch {
    return [];
  }
}
