/**
 * The programs that the tests need beside wayout, from Debian's packages. Continuous integration runs this before it builds,
 * for the plugin's engine is compiled then.
 */
import { existsSync } from "node:fs";

/** Programs that testify in the tests, and the Debian packages they come in. */
const WITNESSES: Readonly<Record<string, string>> = {
  ip: "iproute2",
  nft: "nftables",
  iptables: "iptables",
  conntrack: "conntrack",
  ipset: "ipset",
  curl: "curl",
  chromium: "chromium",
  ping: "iputils-ping",
  tcpdump: "tcpdump",
  podman: "podman",
  containerd: "containerd",
  runc: "runc",
  busybox: "busybox-static",
  strace: "strace",
  openssl: "openssl",
  kubectl: "kubernetes-client",
  // These compile the plugin's engine.
  "musl-gcc": "musl-tools",
  gcc: "gcc",
  // These the eBPF programs.
  clang: "clang",
  "llvm-strip": "llvm",
  "/usr/bin/jsonschema": "python3-jsonschema",
};

/** Installs what is missing, as root of a Debian; otherwise nothing happens, and tests that lack something are skipped. */
export function installWitnesses(): void {
  const missing = Object.keys(WITNESSES).filter((program) => Bun.which(program) === null);
  const packages = [...new Set(missing.map((program) => WITNESSES[program]!))];
  if (!existsSync("/usr/include/linux/netlink.h")) packages.push("linux-libc-dev");
  if (!existsSync("/usr/lib/cni/host-local")) packages.push("containernetworking-plugins");
  if (packages.length === 0 || process.getuid!() !== 0 || Bun.which("apt-get") === null) return;
  console.log(`installing the witnesses ${packages.join(" ")}`);
  const environment = { ...process.env, DEBIAN_FRONTEND: "noninteractive" };
  for (const command of [["update"], ["install", "-y", "--no-install-recommends", ...packages]]) {
    const child = Bun.spawnSync(["apt-get", "-q", ...command], {
      env: environment,
      stdout: "pipe",
      stderr: "pipe",
    });
    if (child.exitCode !== 0) console.log(child.stderr.toString().trim());
  }
}

if (import.meta.main) installWitnesses();
