/**
 * What namespaces that have died left below /sys/fs/bpf/wayout: memory of the kernel's that nobody would ever give back. Their
 * links took the attachments with them, but the names stay.
 */
import { listDirectory } from "../../../kernel/file.ts";
import { NetworkNamespace, namespaceInode } from "../../../kernel/namespace.ts";
import { SystemError } from "../../../linux/errno.ts";
import { hasLostItsLinks } from "./attachments.ts";
import { namesIn, removeDirectory, rootDirectory } from "./bpf-directory.ts";

/** Where namespaces have names, besides those of processes. */
const NAMED = ["/run/netns", "/run/docker/netns"];

/** Takes it away. Returns the cookies of the namespaces that it was of. */
export function sweepDead(): string[] {
  const root = rootDirectory();
  if (root === undefined) return [];
  const lost = (namesIn(root) ?? []).filter(
    (name) => /^\d+$/.test(name) && hasLostItsLinks(`${root}/${name}`),
  );
  if (lost.length === 0) return [];
  // A namespace may lose all links and live; who is in none that can be seen is not touched while one of its links lives.
  const living = livingCookies();
  const dead = lost.filter((cookie) => !living.has(cookie));
  for (const cookie of dead) removeDirectory(`${root}/${cookie}`);
  return dead;
}

function livingCookies(): ReadonlySet<string> {
  const paths = [
    ...entriesOf("/proc")
      .filter((name) => /^\d+$/.test(name))
      .map((pid) => `/proc/${pid}/ns/net`),
    ...NAMED.flatMap((directory) => entriesOf(directory).map((name) => `${directory}/${name}`)),
  ];
  const byInode = new Map(paths.map((path) => [namespaceInode(path), path]));
  byInode.delete(undefined);
  return new Set([...byInode.values()].flatMap(cookieOf));
}

function cookieOf(path: string): string[] {
  try {
    using namespace = NetworkNamespace.open(path);
    return [namespace.cookie];
  } catch (error) {
    // It ended meanwhile, or is no namespace.
    if (error instanceof SystemError) return [];
    throw error;
  }
}

function entriesOf(directory: string): string[] {
  try {
    return listDirectory(directory);
  } catch (error) {
    if (error instanceof SystemError) return [];
    throw error;
  }
}
