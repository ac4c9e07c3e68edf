/** Where the agent of a node listens for programs of root's. */
import type { NetworkNamespace } from "../kernel/namespace.ts";
import { runDirectory } from "../kernel/run-directory.ts";

/** Where the agents of this machine have lock and socket. */
export function agentDirectory(): string {
  return `${runDirectory()}/agent`;
}

export function socketPath(node: NetworkNamespace): string {
  return `${agentDirectory()}/${node.cookie}.sock`;
}

/** Every answer names the version that gave it: one of another version may mean something else by the same words. */
export const VERSION_HEADER = "x-wayout-version";
