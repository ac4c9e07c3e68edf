/** How soon a pod is ready as a kubelet sees it: RunPodSandbox of a real containerd, beside one with the reference plugins. */
import { mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { removeWorld, runtimeWorld } from "../test/cni/runtime-world.ts";
import { Containerd, type ContainerdPlace } from "../test/support/containerd.ts";
import { afterThisTest, tearDown } from "../test/support/teardown.ts";
import { ask } from "../test/support/witness.ts";
import type { Benchmark, BenchmarkContext, Measurement, Side } from "./benchmark.ts";
import { BINARY, buildBinary } from "./binary.ts";

/** Where Debian's containernetworking-plugins has them. */
const REFERENCE = "/usr/lib/cni";
const ROUNDS = 25;

export const benchmarks: readonly Benchmark[] = [
  {
    name: "containerd/run-pod",
    what: "RunPodSandbox of a real containerd: image, shim, runc, loopback and the network's plugin",
    // What the plugins differ in is a small part of it.
    target: { ratio: 1.05, of: "bridge + host-local, ipMasq" },
    needs: [
      "real-root",
      "ip",
      "containerd",
      "ctr",
      "podman",
      "runc",
      "busybox",
      "nsenter",
      join(REFERENCE, "bridge"),
    ],
    run: runPods,
  },
];

async function runPods(context: BenchmarkContext): Promise<Measurement> {
  buildBinary();
  try {
    const ours = await side("wayout", ({ node, binDirectory, configurationDirectory }) => {
      const words = [
        "--bin-dir",
        binDirectory,
        "--conf-dir",
        configurationDirectory,
        "--subnet",
        "10.42.0.0/16",
      ];
      ask(node, [BINARY, "cni", "install", ...words]);
    });
    const reference = await side(
      "bridge + host-local, ipMasq",
      ({ binDirectory, configurationDirectory }) => {
        for (const name of ["bridge", "host-local", "loopback"])
          symlinkSync(join(REFERENCE, name), join(binDirectory, name));
        writeFileSync(join(configurationDirectory, "10-bridge.conflist"), JSON.stringify(REFERENCE_LIST));
      },
    );
    return await context.compare({ ours, reference }, { rounds: ROUNDS, warmUp: 2 });
  } finally {
    await tearDown();
  }
}

const REFERENCE_LIST = {
  cniVersion: "1.0.0",
  name: "reference",
  plugins: [
    {
      type: "bridge",
      bridge: "cni0",
      isDefaultGateway: true,
      ipMasq: true,
      ipam: { type: "host-local", subnet: "10.43.0.0/16" },
    },
  ],
};

/** A containerd on a node of its own; its pods stay until the next sample, as on a node that fills. */
async function side(name: string, install: (place: ContainerdPlace) => void): Promise<Side> {
  const world = runtimeWorld();
  afterThisTest(() => removeWorld(world));
  const place = {
    node: world.node,
    directory: world.directory,
    binDirectory: join(world.directory, "bin"),
    configurationDirectory: join(world.directory, "net.d"),
  };
  for (const directory of [place.binDirectory, place.configurationDirectory]) mkdirSync(directory);
  install(place);
  const containerd = await Containerd.start(place);
  await containerd.untilNetworkReady();
  let id = "";
  return {
    name,
    run: async (round) => {
      id = await containerd.runPod(`pod-${round}`);
    },
    undo: () => containerd.removePod(id),
  };
}
