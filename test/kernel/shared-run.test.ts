/** Who has the node's network must meet the node's locks; who has a network of his own may keep them where he likes. */
import { describe, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { whyItIsOurs } from "../../src/kernel/shared-run.ts";
import { WAYOUT } from "../attachment/world.ts";
import { bridgeNetwork, pluginProgram } from "../cni/plugin.ts";
import { afterThisTest } from "../support/teardown.ts";
import { run, testWith } from "../support/witness.ts";
import { freshNamespace } from "../support/world.ts";

const line = (point: string, type: string, root = "/"): string =>
  `36 35 98:0 ${root} ${point} rw,noatime master:1 - ${type} source rw`;

describe("what the mounts say where the node's processes cannot be seen", () => {
  /** @param born when the tmpfs of each point was made */
  const why = (
    mount: string,
    born: Readonly<Record<string, number>> = {},
    dev = "tmpfs",
  ): string | undefined =>
    whyItIsOurs([line("/", "overlay"), line("/dev", dev), mount].join("\n"), false, (path) => born[path]);
  const nodesRun = { "/run": 1000, "/dev": 5000 };

  test("the node's own, mounted whole or only the directory", () => {
    expect(why(line("/run", "tmpfs"), nodesRun)).toBeUndefined();
    expect(why(line("/run", "ext4", "/run"))).toBeUndefined();
    expect(
      why(line("/run/wayout", "tmpfs", "/wayout"), { "/run/wayout": 5001, "/dev": 5000 }),
    ).toBeUndefined();
    expect(why(line("/run/wayout", "ext4", "/run/wayout"))).toBeUndefined();
    // A file system that does not tell its age is believed, and so is a program of the node in a pid namespace of its own.
    expect(why(line("/run", "tmpfs"))).toBeUndefined();
    expect(why(line("/run", "tmpfs"), { "/run": 5, "/dev": 4 }, "devtmpfs")).toBeUndefined();
    expect(why(line("/", "ext4"))).toBeUndefined();
    // The node's clock was put back since its boot.
    expect(why(line("/run", "tmpfs"), { "/run": 9000, "/dev": 5000 })).toBeUndefined();
  });

  test("the container's own root, a tmpfs made for it, another directory, one that is gone", () => {
    expect(why(line("/", "overlay"))).toContain("container's own root");
    expect(why(line("/", "btrfs", "/var/lib/docker/btrfs/subvolumes/ab"))).toContain("own root");
    expect(why(line("/run", "tmpfs"), { "/run": 5001, "/dev": 5000 })).toContain("made for this container");
    expect(why(line("/run/wayout", "ext4", "/var/lib/kubelet/pods/x/volumes/run"))).toContain("/volumes/run");
    expect(why(line("/run/wayout", "tmpfs", "/wayout//deleted"))).toContain("removed");
  });

  test("with the machine's first pid namespace a root of another name is no container's", () => {
    expect(whyItIsOurs(line("/", "overlay"), true)).toContain("own root");
    expect(whyItIsOurs(line("/", "btrfs", "/@rootfs"), true)).toBeUndefined();
  });
});

/** A pod with hostNetwork, as kubelet makes it: a pid namespace of its own, and kubelet's /etc/hosts. */
function inContainer(prepared: string, command: string, hosts = "(host network)") {
  const node = freshNamespace("node");
  const directory = mkdtempSync(join(tmpdir(), "wayout-container-"));
  afterThisTest(() => rmSync(directory, { recursive: true, force: true }));
  mkdirSync(join(directory, "run"));
  writeFileSync(
    join(directory, "hosts"),
    `# Kubernetes-managed hosts file${hosts === "" ? "" : ` ${hosts}`}.\n`,
  );
  const place = prepared.replaceAll("OWN", `${directory}/run`);
  const script = `mount --bind ${directory}/hosts /etc/hosts && ${place} && exec ${command}`;
  return run(
    node,
    ["unshare", "-pfm", "--mount-proc", "--propagation", "private", "sh", "-c", script],
    undefined,
    { ...process.env, KUBERNETES_SERVICE_HOST: "10.96.0.1" },
  );
}

const APPLY = `sh -c "echo 'sources: [10.9.0.0/24]' | ${WAYOUT} nat apply -f -"`;
const DOORS: Readonly<Record<string, string>> = {
  attach: `${WAYOUT} attach blue --create`,
  detach: `${WAYOUT} detach blue`,
  "nat apply": APPLY,
  "nat remove": `${WAYOUT} nat remove`,
  "forwarding enable": `${WAYOUT} forwarding enable --ipv4`,
  agent: `${WAYOUT} agent --journal none`,
};

const inNamespaces = testWith(["root", "unshare", "mount", "nft"]);

describe("a pod with hostNetwork", () => {
  for (const [name, command] of Object.entries(DOORS)) {
    inNamespaces(`with a /run of its own: ${name} is refused`, () => {
      const { exitCode, stderr } = inContainer("mount --bind OWN /run", command);
      expect([exitCode, stderr]).toEqual([3, expect.stringContaining("/run/wayout:/run/wayout")]);
    });
  }

  inNamespaces("with the node's mounted, or with a network of its own, it goes on", () => {
    for (const [prepared, hosts] of [
      ["true", undefined],
      ["mkdir -p /run/wayout && mount --bind /run/wayout /run/wayout", undefined],
      ["mount --bind OWN /run", ""],
    ] as const) {
      const { exitCode, stderr } = inContainer(prepared, APPLY, hosts);
      expect([prepared, exitCode, stderr]).toEqual([prepared, 0, ""]);
    }
  });

  inNamespaces("a plugin call says to its runtime what is missing", () => {
    const conf = JSON.stringify(bridgeNetwork());
    for (const command of ["ADD", "STATUS"]) {
      const set = `CNI_COMMAND=${command} CNI_CONTAINERID=one CNI_IFNAME=eth0 CNI_PATH=/opt/cni/bin CNI_NETNS=/run/pod`;
      const { stdout } = inContainer(
        "touch OWN/pod && mount --bind OWN /run && unshare -n mount --bind /proc/thread-self/ns/net /run/pod",
        `env ${set} ${pluginProgram()} <<'END'\n${conf}\nEND`,
      );
      const { code, details } = JSON.parse(stdout) as { code: number; details: string };
      expect([command, code, details]).toEqual([
        command,
        50,
        expect.stringContaining("/run/wayout:/run/wayout"),
      ]);
    }
  });
});

/** An ordinary user's `unshare -Ur`: he is root there, and the machine's /run is somebody else's. */
function asRootOfUserNamespace(folder: string, script: string) {
  const words = `mount -t tmpfs -o mode=755,uid=1234 tmpfs /run && exec unshare -Urn sh -c '${script}'`;
  return run(undefined, ["unshare", "-m", "--propagation", "private", "sh", "-c", words], undefined, {
    ...process.env,
    XDG_RUNTIME_DIR: folder,
  });
}

testWith(["real-root", "unshare", "nft"])(
  "who is root of a user namespace only keeps locks and records in his own folder, and leaves it as it was",
  () => {
    const folder = mkdtempSync(join(tmpdir(), "wayout-user-"));
    afterThisTest(() => rmSync(folder, { recursive: true, force: true }));
    const { exitCode, stdout, stderr } = asRootOfUserNamespace(
      folder,
      `ip link set lo up; unshare -n sleep 60 & sleep 0.2
       ${WAYOUT} attach /proc/$!/ns/net --no-ipv6 >&2 || exit 1
       find "${folder}/wayout" -mindepth 1 -printf "%y %m %f\n" | sed "s/[0-9]*.json/N.json/" | sort
       stat -c %a "${folder}/wayout"
       ${WAYOUT} detach /proc/$!/ns/net >&2 || exit 2
       kill $!`,
    );
    expect([exitCode, stderr.includes("✗")]).toEqual([0, false]);
    expect(stdout).toBe("d 755 attachments\nf 644 N.json\n700\n");
    expect(readdirSync(folder)).toEqual([]);
  },
);
