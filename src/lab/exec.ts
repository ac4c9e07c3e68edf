/** Running a program inside the lab: the namespace's network, and a resolver that asks the lab's DNS server. */
import { ROOTS_RUN_DIRECTORY } from "../kernel/run-directory.ts";
import { existsSync, mkdirSync, readlinkSync, realpathSync, writeFileSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { WayoutError, messageOf } from "../error.ts";
import * as libc from "../kernel/libc.ts";
import { MNT_DETACH, MS_BIND, MS_PRIVATE, MS_REC } from "../kernel/named-namespace.ts";
import { CLONE_NEWNET, CLONE_NEWNS, NetworkNamespace } from "../kernel/namespace.ts";
import { asCaller } from "../kernel/umask.ts";
import { selfCommand } from "../self.ts";
import { PLAN } from "./plan.ts";
import { present } from "../present.ts";

/** resolv.conf(5) of a pod in the lab. */
export const RESOLV_CONF = `# the lab's own DNS server
nameserver ${PLAN.internet.dnsIpv4}
nameserver ${PLAN.internet.dnsIpv6}
options timeout:2 attempts:1
`;

/** Only files and DNS: other sources (systemd-resolved, nscd) speak through sockets and would answer from outside. */
const NSSWITCH_CONF = "hosts: files dns\n";

/**
 * Replaces this process by a program in one of the lab's namespaces. The program has a mount namespace of its own, so
 * that its /etc/resolv.conf and /sys are the lab's and nobody else's change.
 * @throws WayoutError when the program cannot be found
 */
export function execInLab(namespaceName: string, typed: readonly [string, ...string[]]): never {
  const command = withOurselves(typed);
  const path = command[0].includes("/") ? command[0] : Bun.which(command[0]);
  if (path === null || !existsSync(path)) {
    throw new WayoutError({
      code: "no-such-program",
      kind: "usage",
      doing: `running ${command[0]} in ${namespaceName}`,
      said: "there is no such program on this machine",
      todo: "The lab shares the machine's programs; install it here, or give its path.",
    });
  }
  const namespace = NetworkNamespace.named(namespaceName);
  libc.setns(namespace.fd, CLONE_NEWNET);
  libc.unshare(CLONE_NEWNS);
  libc.mount("none", "/", "none", MS_PRIVATE | MS_REC);
  coverFiles(
    present({
      "/etc/resolv.conf": RESOLV_CONF,
      "/etc/nsswitch.conf": existsSync("/etc/nsswitch.conf") ? NSSWITCH_CONF : undefined,
    }),
  );
  try {
    libc.mount("sysfs", "/sys", "sysfs", 0);
  } catch {
    // Only programs that read /sys/class/net would notice.
  }
  return asCaller(() => libc.execve(path, command, process.env));
}

/** `wayout` means this very program, also where it is not installed. */
function withOurselves(command: readonly [string, ...string[]]): readonly [string, ...string[]] {
  const [program, ...rest] = command;
  return program === "wayout" && Bun.which(program) === null ? [...selfCommand(), ...rest] : command;
}

/**
 * Puts other contents over files, for this mount namespace alone. They lie in a file system of it: nothing is left of
 * them, however the program ends.
 */
function coverFiles(covers: Readonly<Record<string, string>>): void {
  const scratch = ROOTS_RUN_DIRECTORY;
  for (const [path, content] of Object.entries(covers)) {
    try {
      libc.mount("tmpfs", scratch, "tmpfs", 0, "mode=755");
      writeFileSync(`${scratch}/cover`, content);
      libc.mount(`${scratch}/cover`, mountTarget(path), "none", MS_BIND);
      // What is mounted from it stays.
      libc.umount(scratch, MNT_DETACH);
    } catch (error) {
      throw new WayoutError({
        code: "no-resolver",
        kind: "machine",
        doing: `giving the lab its own ${path}`,
        said: messageOf(error),
        cause: error,
      });
    }
  }
}

/** What a mount over `path` lands on. A link to nowhere (a /run of our own hides its target) is made to lead somewhere. */
function mountTarget(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    const target = resolve(dirname(path), readlinkSync(path));
    mkdirSync(dirname(target), { recursive: true });
    writeFileSync(target, "");
    return target;
  }
}
