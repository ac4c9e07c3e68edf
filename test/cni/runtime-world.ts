/** A node for real container runtimes: a namespace with an outside, and an image that needs no registry. */
import { chmodSync, copyFileSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { NetworkNamespace } from "../../src/kernel/namespace.ts";
import { NETNS_DIRECTORY } from "../../src/kernel/namespace.ts";
import { buildNodeWorld } from "../support/node-world.ts";

export interface RuntimeWorld {
  readonly node: NetworkNamespace;
  readonly outside: NetworkNamespace;
  /** For everything the runtime keeps; removed by `remove`. */
  readonly directory: string;
}

/** A node with an uplink to an outside, where a server answers every connection on port 80 with who it saw. */
export function runtimeWorld(): RuntimeWorld {
  const { node, outside } = buildNodeWorld({
    uplink: {
      name: "up0",
      outsideName: "internet0",
      addresses: ["203.0.113.5/24", "2001:db8:1::5/64"],
      outsideAddresses: ["203.0.113.1/24", "2001:db8:1::1/64"],
      gateways: ["203.0.113.1", "2001:db8:1::1"],
    },
  });
  return { node, outside, directory: mkdtempSync(join(tmpdir(), "runtime-")) };
}

/** A web server in a namespace that answers with the address it was asked from. Ends with `kill`. */
export async function webServer(namespace: NetworkNamespace, directory: string): Promise<{ kill(): void }> {
  const script = join(directory, "server.ts");
  writeFileSync(
    script,
    'Bun.serve({ hostname: "::", port: 80, fetch: (request, server) => new Response(server.requestIP(request)!.address) });\nconsole.log("ready");\n',
  );
  const child = namespace.run(() =>
    Bun.spawn([process.execPath, script], { stdout: "pipe", stderr: "ignore", stdin: "ignore" }),
  );
  // Its first word: it listens.
  await child.stdout.getReader().read();
  return child;
}

/** A root file system with busybox in it. */
export function busyboxRoot(directory: string): string {
  const root = join(directory, "rootfs");
  mkdirSync(join(root, "bin"), { recursive: true });
  for (const name of ["etc", "tmp", "www"]) mkdirSync(join(root, name));
  copyFileSync(Bun.which("busybox")!, join(root, "bin", "busybox"));
  chmodSync(join(root, "bin", "busybox"), 0o755);
  for (const name of ["sh", "nc", "httpd", "sleep"]) symlinkSync("busybox", join(root, "bin", name));
  writeFileSync(join(root, "www", "index.html"), "from the pod\n");
  return root;
}

/** The command, run in a network namespace without a mount namespace of its own: cgroup mounts stay as they are. */
export function inNetwork(namespace: NetworkNamespace, command: readonly string[]): string[] {
  return ["nsenter", `--net=${NETNS_DIRECTORY}/${namespace.name}`, ...command];
}

export function removeWorld({ directory }: RuntimeWorld): void {
  rmSync(directory, { recursive: true, force: true });
}
