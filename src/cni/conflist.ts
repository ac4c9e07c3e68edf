/** The network that `wayout cni install` writes: our plugin, portmap where it is there, in versions that all of them speak. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { cidrText, type Cidr } from "../address/cidr.ts";
import { messageOf, WayoutError } from "../error.ts";
import { atLeast, CNI_VERSIONS, isSpoken, type CniVersion } from "./version.ts";
import { present } from "../present.ts";

/** The plugin that publishes the ports which pods ask for (`hostPort`). */
const PORTMAP = "portmap";
/** Every libcni in use knows it; later ones are told in `cniVersions`, of which older libraries take no notice. */
const COMMON_VERSION: CniVersion = "1.0.0";
const VERSION_TIMEOUT_MS = 5000;
/** An answer to VERSION has some hundred bytes. */
const MOST_ANSWER_BYTES = 64 * 1024;

export interface NetworkRequest {
  readonly network: string;
  readonly bridge: string;
  readonly mtu?: number;
  /** Whether pods leave with the node's address. */
  readonly masquerade: boolean;
  /** A file without which no pod may come. */
  readonly waitsFor?: string;
}

export function hasPortmap(binDirectory: string): boolean {
  return existsSync(join(binDirectory, PORTMAP));
}

/** @throws WayoutError `install-failed` when a plugin beside ours does not say which versions it speaks */
export function conflistOf(
  { network, bridge, mtu, masquerade, waitsFor }: NetworkRequest,
  subnets: readonly Cidr[],
  binDirectory: string,
): object {
  const others = hasPortmap(binDirectory) ? [PORTMAP] : [];
  const versions = commonVersions(others.map((type) => spokenBy(join(binDirectory, type))));
  const cniVersion = versions.filter((version) => !atLeast(version, "1.1.0")).at(-1) ?? COMMON_VERSION;
  return present({
    cniVersion,
    cniVersions: versions.at(-1) === cniVersion ? undefined : [cniVersion, versions.at(-1)],
    name: network,
    plugins: [
      present({
        type: "wayout",
        bridge,
        isDefaultGateway: true,
        ipMasq: masquerade,
        hairpinMode: true,
        mtu,
        waitsFor,
        ipam: { type: "host-local", ranges: subnets.map((subnet) => [{ subnet: cidrText(subnet) }]) },
      }),
      ...others.map((type) => ({ type, capabilities: { portMappings: true }, snat: true })),
    ],
  });
}

/** Those of ours that everybody speaks, in order. */
function commonVersions(others: readonly (readonly string[])[]): CniVersion[] {
  return CNI_VERSIONS.filter((version) => others.every((spoken) => spoken.includes(version)));
}

/** Undefined for what is no answer to VERSION. */
function supportedIn(said: string): readonly unknown[] | undefined {
  try {
    const answer = JSON.parse(said) as { readonly supportedVersions?: unknown } | null;
    return Array.isArray(answer?.supportedVersions) ? answer.supportedVersions : undefined;
  } catch {
    return undefined;
  }
}

/** What a plugin answers to VERSION. */
function spokenBy(program: string): string[] {
  const doing = `asking ${program} which versions of CNI it speaks`;
  try {
    const ran = Bun.spawnSync([program], {
      stdin: Buffer.from(JSON.stringify({ cniVersion: COMMON_VERSION })),
      stdout: "pipe",
      stderr: "pipe",
      env: { PATH: process.env["PATH"] ?? "", CNI_COMMAND: "VERSION" },
      timeout: VERSION_TIMEOUT_MS,
      // Whatever it does with other signals, and however much it prints.
      killSignal: "SIGKILL",
      maxBuffer: MOST_ANSWER_BYTES,
    });
    const said = ran.stdout.toString();
    if (ran.exitedDueToTimeout === true) throw new Error(`it does not end (${VERSION_TIMEOUT_MS / 1000} s)`);
    const versions = supportedIn(said);
    if (ran.exitCode !== 0 || versions === undefined) {
      throw new Error(
        `it ended with ${ran.signalCode ?? ran.exitCode} and said ${said.trim().slice(0, 200)}`,
      );
    }
    const spoken = versions.map(String).filter(isSpoken);
    if (spoken.length > 0) return spoken;
    throw new Error(
      `it speaks ${versions.join(", ").slice(0, 200) || "none"}, and wayout ${CNI_VERSIONS.join(", ")}`,
    );
  } catch (error) {
    throw new WayoutError({
      code: "install-failed",
      kind: "machine",
      doing,
      said: messageOf(error),
      todo: "Replace that plugin by one that works, or delete it: the network is then written without it.",
      cause: error,
    });
  }
}
