/** Who has the node's network must meet the node's locks; who has a network of his own may keep them where he likes. */
import { describe, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { whyItIsOurs } from "../../src/kernel/shared-run.ts";
import { WAYOUT } from "../attachment/world.ts";
import { bridgeNetwork, pluginProgram } from "../cni/plugin.ts";
import type { NetworkNamespace } from "../../src/kernel/namespace.ts";
import { afterThisTest } from "../support/teardown.ts";
import { run, testWith } from "../support/witness.ts";
import { freshNamespace } from "../support/world.ts";

const line = (point: string, type: string, root = "/"): string =>
  `36 35 98:0 ${root} ${point} rw,noatime master:1 - ${type} source rw`;

const knowsNothing = { birthOf: () => undefined, modeOf: () => 0o040755, listeners: () => [] };

describe("what the mounts say where the node's processes cannot be seen", () => {
  /** @param born when the tmpfs of each point was made */
  const why = (
    mount: string,
    born: Readonly<Record<string, number>> = {},
    dev = "tmpfs",
  ): string | undefined =>
    whyItIsOurs([line("/", "overlay"), line("/dev", dev), mount].join("\n"), false, {
      ...knowsNothing,
      birthOf: (path) => born[path],
    });
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

  test("a directory that every user may write to, as kubelet makes a volume in memory", () => {
    const told = (mode: number) =>
      whyItIsOurs([line("/", "overlay"), line("/run", "tmpfs")].join("\n"), false, {
        ...knowsNothing,
        modeOf: () => mode,
      });
    expect(told(0o040777)).toContain("every user may write to the tmpfs at /run");
    expect(told(0o041777)).toContain("every user");
    expect(told(0o040775)).toBeUndefined();
    expect(why(line("/run/wayout", "tmpfs"))).toContain("a tmpfs of its own");
  });

  test("where the node's programs listen, except ours and those that listen elsewhere", () => {
    const told = (...listeners: readonly [string, string][]) =>
      whyItIsOurs([line("/", "overlay"), line("/run", "tmpfs")].join("\n"), false, {
        ...knowsNothing,
        listeners: () => listeners.map(([path, device]) => ({ path, device })),
      });
    expect(told(["/run/containerd/containerd.sock", "0:25"])).toContain("/run/containerd/containerd.sock");
    expect(told(["/var/run/crio/crio.sock", "0:25"])).toContain("is not the one in which /var/run/crio");
    expect(told(["/run/x.sock", "0:25"], ["/run/containerd/containerd.sock", "98:0"])).toBeUndefined();
    expect(told(["/run/wayout/agent/agent.sock", "0:25"], ["/tmp/.X11-unix/X0", "0:26"])).toBeUndefined();
  });

  test("with the machine's first pid namespace a root of another name is no container's", () => {
    expect(whyItIsOurs(line("/", "overlay"), true, knowsNothing)).toContain("own root");
    expect(whyItIsOurs(line("/", "btrfs", "/@rootfs"), true, knowsNothing)).toBeUndefined();
  });
});

/** A pod with hostNetwork, as kubelet makes it: a pid namespace of its own, and kubelet's /etc/hosts. */
function inContainer(
  prepared: string,
  command: string,
  hosts = "(host network)",
  node = freshNamespace("node"),
) {
  const directory = mkdtempSync(join(tmpdir(), "wayout-container-"));
  afterThisTest(() => rmSync(directory, { recursive: true, force: true }));
  mkdirSync(join(directory, "run"));
  writeFileSync(
    join(directory, "hosts"),
    `# Kubernetes-managed hosts file${hosts === "" ? "" : ` ${hosts}`}.\n`,
  );
  const place = prepared.replaceAll("OWN", `${directory}/run`);
  const script = `mount --bind ${directory}/hosts /etc/hosts && ${place} && ${command}`;
  return run(
    node,
    ["unshare", "-pfm", "--mount-proc", "--propagation", "private", "sh", "-c", script],
    undefined,
    { ...process.env, KUBERNETES_SERVICE_HOST: "10.96.0.1" },
  );
}

/** A program of the node's that listens below its /run, as a container runtime does. */
function listeningRuntime(node: NetworkNamespace): void {
  const directory = mkdtempSync("/run/runtime-");
  const server = node.run(() => Bun.listen({ unix: `${directory}/cri.sock`, socket: { data: () => {} } }));
  afterThisTest(() => {
    server.stop(true);
    rmSync(directory, { recursive: true });
  });
}

const APPLY = `sh -c "echo 'sources: [10.9.0.0/24]' | ${WAYOUT} nat apply -f -"`;
const GC_NETWORK = JSON.stringify({ cniVersion: "1.0.0", name: "it", plugins: [bridgeNetwork()] });

const DOORS: Readonly<Record<string, string>> = {
  attach: `${WAYOUT} attach blue --create`,
  detach: `${WAYOUT} detach blue`,
  "nat apply": APPLY,
  "nat remove": `${WAYOUT} nat remove`,
  "forwarding enable": `${WAYOUT} forwarding enable --ipv4`,
  agent: `${WAYOUT} agent --journal none`,
  "cni gc": `mkdir /run/conf && echo '${GC_NETWORK}' > /run/conf/10-it.conflist && ${pluginProgram()} cni gc --conf-dir /run/conf`,
  // A pod that lacks nothing but the node's forwarding.
  "doctor --fix": `ip netns add pod && ip link add host0 type veth peer net1 netns pod \
    && ip addr add 10.9.0.1/24 dev host0 && ip link set host0 up && ip -n pod addr add 10.9.0.2/24 dev net1 \
    && ip -n pod link set net1 up && ip -n pod route add default via 10.9.0.1 \
    && ip link add up0 type veth peer up1 && ip link set up1 up && ip addr add 203.0.113.5/24 dev up0 && ip link set up0 up \
    && ip route add default via 203.0.113.1 && ${WAYOUT} doctor pod --no-probe --fix --yes`,
};

const PROGRAMS = ["root", "unshare", "mount", "nft"];
const inNamespaces = testWith(PROGRAMS);

describe("a pod with hostNetwork", () => {
  for (const [name, command] of Object.entries(DOORS)) {
    inNamespaces(`with a /run of its own: ${name} is refused`, () => {
      const { exitCode, stderr } = inContainer("mount --bind OWN /run", command);
      // The doctor's exit code is about the pod, which has no way out still.
      const expected = name === "doctor --fix" ? 1 : 3;
      expect([exitCode, stderr]).toEqual([expected, expect.stringContaining("/run/wayout:/run/wayout")]);
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

  inNamespaces(
    "in memory, with a /run that looks like the node's: told by where the node's programs listen",
    () => {
      const memory = "mount -t tmpfs -o mode=MODE tmpfs /run";
      for (const [prepared, listens, said] of [
        [memory.replace("MODE", "755"), true, "cri.sock lies"],
        [memory.replace("MODE", "777"), false, "every user may write"],
        ["true", true, undefined],
        ["mkdir -p /run/wayout && mount --bind /run/wayout /run/wayout", true, undefined],
        // Nobody listens, and it is no older than the machine: what cannot be known (SECURITY.md).
        [memory.replace("MODE", "755"), false, undefined],
      ] as const) {
        const node = freshNamespace("node");
        if (listens) listeningRuntime(node);
        const { exitCode, stderr } = inContainer(prepared, APPLY, undefined, node);
        const expected = said === undefined ? [0, ""] : [3, expect.stringContaining(said)];
        expect([prepared, exitCode, stderr]).toEqual([prepared, ...expected]);
      }
    },
  );

  inNamespaces("a plugin call says to its runtime what is missing", () => {
    const conf = JSON.stringify(bridgeNetwork());
    for (const command of ["ADD", "DEL", "STATUS"]) {
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

describe("a directory in which another user may write", () => {
  const states = [
    ["chown 1000 /run/wayout", "user 1000 may write to /run/wayout"],
    ["chmod 1777 /run/wayout", "every user may write to /run/wayout"],
  ] as const;
  const { agent, "cni gc": gc, attach, "forwarding enable": forwarding } = DOORS;
  for (const [spoil, said] of states) {
    // In a user namespace there may be no other user.
    const needs = spoil.startsWith("chown") ? [...PROGRAMS, "real-root"] : PROGRAMS;
    testWith(needs)(`refused, and told how it is taken back: ${spoil}`, () => {
      for (const command of [attach!, APPLY, forwarding!, agent!, gc!]) {
        const script = `mount -t tmpfs -o mode=755 own /run && mkdir /run/wayout && ${spoil} && ${command}`;
        const { exitCode, stderr } = run(freshNamespace("node"), [
          "unshare",
          "--mount",
          "--propagation",
          "private",
          "sh",
          "-c",
          script,
        ]);
        expect([command, exitCode, stderr]).toEqual([command, 3, expect.stringContaining(said)]);
        expect(stderr).toContain("chown -R 0:0 /run/wayout");
      }
    });
  }
});

describe("installing from a pod with hostNetwork", () => {
  const directories = "--bin-dir /mnt/cni/bin --conf-dir /mnt/cni/net.d";
  const install = `${pluginProgram()} cni install --subnet 10.213.0.0/24 ${directories}`;
  /** Below a root of its own, as every image has one, with what a container gets besides. */
  const inImage = (mounts: string, command: string): string =>
    [
      "mount -t tmpfs image OWN && mkdir OWN/up OWN/work OWN/root",
      "mount -t overlay -o lowerdir=/,upperdir=OWN/up,workdir=OWN/work image OWN/root",
      "for at in proc dev run etc/hosts; do mount --rbind /$at OWN/root/$at; done",
      mounts,
      `chroot OWN/root sh -c '${command}'`,
    ].join(" && ");

  // An overlay over / cannot be mounted by who is root of a user namespace.
  const inImages = testWith(["root", "real-root", "unshare", "mount"]);

  inImages("into its own root, or a volume of its own: refused, and nothing is written", () => {
    const volume = "OWN/pods/x/volumes/kubernetes.io~empty-dir/cni";
    for (const prepared of [
      inImage("true", `${install}; code=$?; find /mnt >&2; exit $code`),
      inImage(
        "true",
        `mkdir -p /mnt/cni && touch /mnt/cni/mine && ${install.replace("install --subnet 10.213.0.0/24", "uninstall")}`,
      ),
      `mkdir -p ${volume} && mount -t tmpfs mnt /mnt && mkdir /mnt/cni && mount --bind ${volume} /mnt/cni && ${install}`,
    ]) {
      const { exitCode, stderr } = inContainer(prepared, "true");
      expect([prepared, exitCode, stderr]).toEqual([
        prepared,
        3,
        expect.stringMatching(/\/mnt\/cni\/bin is this container's own[^]*hostPath/),
      ]);
      expect(stderr).not.toContain("conflist");
    }
  });

  inImages("into the node's directory that is mounted there: done", () => {
    const prepared = inImage(
      "mkdir -p OWN/nodes OWN/root/mnt/cni && mount --bind OWN/nodes OWN/root/mnt/cni",
      `${install} >/dev/null && ls /mnt/cni/net.d`,
    );
    expect(inContainer(prepared, "true")).toEqual({
      exitCode: 0,
      stdout: "10-wayout.conflist\n",
      stderr: "",
    });
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
