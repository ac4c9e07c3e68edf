/** The agent's image: built from nothing but our program, it keeps the node that it runs on. */
import { expect } from "bun:test";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { freshName, seenFrom, UPLINK, wayout, world } from "../attachment/world.ts";
import { afterThisTest } from "../support/teardown.ts";
import { until } from "../support/until.ts";
import { ask, run, testWith, type Ran } from "../support/witness.ts";

const root = join(import.meta.dir, "..", "..");
const TIMEOUT_MS = 180_000;
const test = testWith(["real-root", "nft", "podman", "runc", "ldd"]);

test(
  "built from scratch, with the capabilities that it needs, it repairs the node and ends in order",
  async () => {
    const { node } = world();
    const blue = freshName();
    await wayout(node, "attach", blue, "--create");
    const directory = mkdtempSync(join(tmpdir(), "wayout-image-"));
    const inside = [join(directory, "image"), join(directory, "wayout")] as const;
    const environment = environmentIn(directory);
    const podman = (...words: string[]): Ran => run(node, podmanIn(directory, words), undefined, environment);
    afterThisTest(() => {
      podman("rm", "--force", "--all", "--time", "0");
      rmSync(directory, { recursive: true, force: true });
    });
    ask(undefined, [process.execPath, join(root, "scripts", "build.ts"), inside[1]]);
    ask(undefined, [process.execPath, join(root, "scripts", "image.ts"), ...inside]);
    must(podman("build", "-f", join(root, "deploy", "Containerfile"), "-t", "wayout", inside[0]));
    mkdirSync(join(directory, "state"));
    const options = optionsInContainerfile().map((word) =>
      word === "/var/lib/wayout:/var/lib/wayout" ? `${join(directory, "state")}:/var/lib/wayout` : word,
    );
    must(podman("run", ...options, "--no-look"));
    const says = async (text: string): Promise<void> => {
      let said = "";
      await until(
        () => {
          const { stdout, stderr } = podman("logs", "wayout-agent");
          return (said = stdout + stderr).includes(text);
        },
        () => `it says ${text}, not: ${said}`,
      );
    };
    await says('"event":"listening"');
    ask(node, ["nft", "flush", "ruleset"]);
    await says('"object":"table inet wayout"');
    ask(node, ["sysctl", "-qw", "net.ipv4.ip_forward=0"]);
    await says('"object":"net.ipv4.ip_forward"');
    expect(await seenFrom(blue)).toBe(UPLINK.v4);
    must(podman("stop", "--time", "10", "wayout-agent"));
    await says('"event":"stopped"');
  },
  TIMEOUT_MS,
);

/** The command as the file says it: what stands there is what is tried. */
function optionsInContainerfile(): string[] {
  const lines = readFileSync(join(root, "deploy", "Containerfile"), "utf8").split("\n");
  const first = lines.findIndex((line) => line.includes("podman run "));
  const last = lines.findIndex((line, index) => index >= first && !line.endsWith("\\"));
  return lines
    .slice(first, last + 1)
    .map((line) => line.replace(/^#/, "").replace(/\\$/, ""))
    .join(" ")
    .trim()
    .split(/\s+/)
    .slice(2);
}

function must(ran: Ran): void {
  if (ran.exitCode !== 0) throw new Error(`podman ended with ${ran.exitCode}: ${ran.stderr}`);
}

function podmanIn(directory: string, words: readonly string[]): string[] {
  const storage = ["--root", join(directory, "root"), "--runroot", join(directory, "run")];
  return ["podman", ...storage, "--storage-driver", "vfs", "--tmpdir", join(directory, "tmp"), ...words];
}

function environmentIn(directory: string): Record<string, string | undefined> {
  const configuration = join(directory, "containers.conf");
  writeFileSync(
    configuration,
    `[engine]\ncgroup_manager = "cgroupfs"\nruntime = "runc"\nevents_logger = "file"\n[containers]\ndefault_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]\nlog_driver = "k8s-file"\n`,
  );
  return { ...process.env, CONTAINERS_CONF: configuration, HOME: directory, TMPDIR: directory };
}
