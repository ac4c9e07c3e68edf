/** Subnets of CNI networks that are configured on this node, though perhaps no pod of theirs is there yet. */
import { readdirSync } from "node:fs";
import { MOST_RUNTIME_BYTES, readRegular } from "../kernel/file.ts";
import { parseCidr } from "../address/cidr.ts";
import { DEFAULT_CONFIGURATION_DIRECTORY, isNetworkFile } from "../naming/cni-places.ts";
import type { Occupied } from "./subnet.ts";

/** Files that cannot be read or understood are the runtimes' affair. */
export function configuredSubnets(directory = DEFAULT_CONFIGURATION_DIRECTORY): Occupied[] {
  let files: string[];
  try {
    files = readdirSync(directory);
  } catch {
    return [];
  }
  return files.flatMap((file) => {
    if (!isNetworkFile(file)) return [];
    const by = `the subnet of the CNI network in ${directory}/${file}`;
    try {
      const configuration: unknown = JSON.parse(readRegular(`${directory}/${file}`, MOST_RUNTIME_BYTES).text);
      return [...subnetsIn(configuration)].map((text) => ({ cidr: parseCidr(text, "keep"), by }));
    } catch {
      return [];
    }
  });
}

/** Every `subnet` in it, at whatever depth: host-local has two places, other plugins have theirs. */
function* subnetsIn(value: unknown): Generator<string> {
  if (typeof value !== "object" || value === null) return;
  for (const [key, child] of Object.entries(value)) {
    if (key === "subnet" && typeof child === "string") yield child;
    else yield* subnetsIn(child);
  }
}
