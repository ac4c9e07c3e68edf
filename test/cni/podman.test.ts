/** podman with its CNI backend: containers get their addresses from us, reach the outside, publish ports, and leave nothing. */
import { afterEach, expect } from "bun:test";
import { existsSync, mkdirSync, readdirSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { isIp } from "../../src/address/ip.ts";
import { ask, run, testWith, type Ran } from "../support/witness.ts";
import { pluginDirectory, pluginProgram, REFERENCE_DIRECTORY } from "./plugin.ts";
import { busyboxRoot, removeWorld, runtimeWorld, webServer, type RuntimeWorld } from "./runtime-world.ts";

const withPodman = testWith([
  "real-root",
  "ip",
  "iptables",
  "podman",
  "runc",
  "busybox",
  "nsenter",
  ...(existsSync(join(REFERENCE_DIRECTORY, "portmap")) ? [] : ["containernetworking-plugins"]),
]);

const NETWORK = "podman-net";
const worlds: RuntimeWorld[] = [];
const servers: { kill(): void }[] = [];
afterEach(() => {
  for (const server of servers.splice(0)) server.kill();
  for (const world of worlds.splice(0)) {
    podman(world, "rm", "--force", "--all", "--time", "0");
    removeWorld(world);
  }
});

function podmanCommand({ directory }: RuntimeWorld, ...args: string[]) {
  const storage = ["--root", join(directory, "root"), "--runroot", join(directory, "run")];
  return {
    command: ["podman", ...storage, "--storage-driver", "vfs", "--tmpdir", join(directory, "tmp"), ...args],
    environment: {
      ...process.env,
      CONTAINERS_CONF: join(directory, "containers.conf"),
      HOME: directory,
      TMPDIR: directory,
    },
  };
}

function podman(world: RuntimeWorld, ...args: string[]): Ran {
  const { command, environment } = podmanCommand(world, ...args);
  return run(world.node, command, undefined, environment);
}

function must(ran: Ran): string {
  if (ran.exitCode !== 0) throw new Error(`podman ended with ${ran.exitCode}: ${ran.stderr}`);
  return ran.stdout.trim();
}

function podmanWorld(): RuntimeWorld {
  const world = runtimeWorld();
  worlds.push(world);
  const { directory } = world;
  mkdirSync(join(directory, "net.d"));
  writeFileSync(
    join(directory, "containers.conf"),
    `[network]
network_backend = "cni"
cni_plugin_dirs = ["${pluginDirectory()}"]
network_config_dir = "${join(directory, "net.d")}"
[engine]
cgroup_manager = "cgroupfs"
runtime = "runc"
events_logger = "file"
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
`,
  );
  writeFileSync(
    join(directory, "net.d", `${NETWORK}.conflist`),
    JSON.stringify({
      cniVersion: "0.4.0",
      name: NETWORK,
      plugins: [
        {
          type: "wayout",
          bridge: "cni-podman7",
          isGateway: true,
          isDefaultGateway: true,
          ipMasq: true,
          hairpinMode: true,
          ipam: { type: "host-local", ranges: [[{ subnet: "10.42.0.0/24" }], [{ subnet: "fd00:42::/64" }]] },
        },
        { type: "portmap", capabilities: { portMappings: true } },
        { type: "tuning" },
      ],
    }),
  );
  const root = busyboxRoot(directory);
  ask(undefined, ["sh", "-c", `tar -C ${root} -c . > ${directory}/image.tar`]);
  must(podman(world, "import", join(directory, "image.tar"), "bb"));
  return world;
}

/** Two containers at once, as two users would start them. */
async function runTogether(world: RuntimeWorld, names: readonly string[]): Promise<void> {
  const runs = names.map(async (name, index) => {
    const ports = ["-p", `${8080 + index}:80`];
    const image = ["bb", "/bin/httpd", "-f", "-h", "/www"];
    const { command, environment } = podmanCommand(
      world,
      "run",
      "-d",
      "--name",
      name,
      "--net",
      NETWORK,
      ...ports,
      ...image,
    );
    const child = world.node.run(() =>
      Bun.spawn(command, { stdin: "ignore", stdout: "ignore", stderr: "pipe", env: environment }),
    );
    const said = await new Response(child.stderr).text();
    if ((await child.exited) !== 0) throw new Error(`podman run ${name}: ${said}`);
  });
  await Promise.all(runs);
}

withPodman(
  "a container fetches a page outside in both families, publishes a port, and leaves nothing",
  async () => {
    const world = podmanWorld();
    const { node, outside } = world;
    servers.push(await webServer(outside, world.directory));
    await runTogether(world, ["one", "two"]);
    // Debian's static busybox crashes in wget, so the request is written by hand.
    const get = (address: string): string =>
      must(
        podman(
          world,
          "exec",
          "one",
          "/bin/sh",
          "-c",
          `printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 5 ${address} 80`,
        ),
      );
    expect(get("203.0.113.1")).toEndWith("203.0.113.5");
    expect(get("2001:db8:1::1")).toEndWith("2001:db8:1::5");
    for (const port of [8080, 8081]) {
      const fetched = run(outside, ["curl", "-s", "-m", "5", `http://203.0.113.5:${port}/`]);
      expect(fetched.stdout).toBe("from the pod\n");
    }
    expect(reserved()).toHaveLength(4);
    asTheyAreNamed(world);
    must(podman(world, "rm", "--force", "--time", "0", "one", "two"));
    expect(reserved()).toEqual([]);
    expect(ask(node, ["ip", "-br", "link"])).not.toContain("wout");
    expect(ask(node, ["iptables", "-t", "nat", "-S"])).not.toContain("10.42.0.");
    expect(ask(node, ["nft", "list", "tables"])).not.toContain("wayout");
  },
  180_000,
);

/** podman's namespaces and results are read as it really names them, and its containers are left alone. */
function asTheyAreNamed(world: RuntimeWorld): void {
  const json = (...words: string[]) =>
    JSON.parse(run(world.node, [pluginProgram(), ...words, "--json"]).stdout) as {
      readonly namespaces: readonly { readonly name: string; readonly state: string }[];
      readonly networks: readonly object[];
    };
  const ids = must(podman(world, "ps", "--no-trunc", "--format", "{{.ID}}")).split("\n");
  const expected = ids.map((id) => ({ name: id.slice(0, 12), state: "ok" }));
  expect(json("list").namespaces).toMatchObject(expected.sort((a, b) => (a.name < b.name ? -1 : 1)));
  const hourAgo = Date.now() / 1000 - 3600;
  for (const address of reserved())
    utimesSync(`/var/lib/cni/networks/${NETWORK}/${address}`, hourAgo, hourAgo);
  const { networks } = json("cni", "gc", "--conf-dir", join(world.directory, "net.d"));
  expect(networks).toMatchObject([{ links: [], addresses: [], doubts: [] }]);
  expect(reserved()).toHaveLength(4);
}

function reserved(): string[] {
  const directory = `/var/lib/cni/networks/${NETWORK}`;
  return existsSync(directory) ? readdirSync(directory).filter(isIp) : [];
}
