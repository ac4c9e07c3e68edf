/** The networks of this node that name our plugin, as container runtimes have them configured. */
import { MOST_RUNTIME_BYTES, readRegular } from "../kernel/file.ts";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { withUsualKeys } from "../ipam/usual-keys.ts";
import { isNetworkFile } from "../naming/cni-places.ts";

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
    names = readdirSync(directory).filter(isNetworkFile);
  } catch {
    return [];
  }
  return names.sort().flatMap((name) => {
    const file = join(directory, name);
    try {
      const text = readRegular(file, MOST_RUNTIME_BYTES).text;
      const value = withUsualKeys(JSON.parse(text) as Readonly<Record<string, unknown>>);
      const plugins = (value["plugins"] ?? [value]) as readonly Readonly<Record<string, unknown>>[];
      const plugin = plugins.find(({ type }) => type === "wayout");
      const network = value["name"];
      return plugin === undefined || typeof network !== "string" ? [] : [{ file, network, plugin }];
    } catch {
      return [];
    }
  });
}
