/** How long a person waits for the nine steps of a healthy path: the whole program, from its start to its end. */
import { createNamedNamespace } from "../src/kernel/named-namespace.ts";
import { NetworkNamespace } from "../src/kernel/namespace.ts";
import { ask, run } from "../test/support/witness.ts";
import type { Benchmark } from "./benchmark.ts";
import { BINARY, buildBinary } from "./binary.ts";

/** pod 10.20.0.2 — br0 [node] eth0 203.0.113.2 — 203.0.113.1 [outside], which refuses every connection at once. */
function makeWorld(): { readonly pod: string; readonly node: NetworkNamespace } {
  const [pod, node, outside] = ["trace-pod", "trace-node", "trace-outside"].map((name) => {
    createNamedNamespace(name);
    return NetworkNamespace.named(name);
  }) as [NetworkNamespace, NetworkNamespace, NetworkNamespace];
  const ip = (namespace: NetworkNamespace, lines: string): string =>
    ask(namespace, ["ip", "-batch", "-"], lines);
  ip(
    node,
    `link add br0 type bridge
     link add veth-pod type veth peer name eth0 netns trace-pod
     link add eth0 type veth peer name up0 netns trace-outside
     address add 10.20.0.1/24 dev br0
     address add 203.0.113.2/24 dev eth0
     link set veth-pod master br0
     link set br0 up
     link set veth-pod up
     link set eth0 up
     route add default via 203.0.113.1`,
  );
  ip(pod, "address add 10.20.0.2/24 dev eth0\nlink set eth0 up\nroute add default via 10.20.0.1");
  ip(outside, "address add 203.0.113.1/24 dev up0\nlink set up0 up\nlink set lo up");
  ask(node, ["sysctl", "-qw", "net.ipv4.ip_forward=1"]);
  ask(
    node,
    ["nft", "-f", "-"],
    `table inet nat {
      chain postrouting {
        type nat hook postrouting priority srcnat
        ip saddr 10.20.0.0/24 oifname "eth0" masquerade
      }
      chain forward {
        type filter hook forward priority filter
        ct state established,related accept
        ip saddr 10.20.0.0/24 accept
      }
    }`,
  );
  return { pod: "trace-pod", node };
}

export const benchmarks: readonly Benchmark[] = [
  {
    name: "trace/healthy",
    what: "wayout trace POD DEST of a path that works, the whole program",
    target: { ratio: 1, of: "150 ms" },
    needs: ["real-root", "nft"],
    async run(context) {
      const { pod, node } = makeWorld();
      buildBinary();
      const command = [BINARY, "trace", pod, "203.0.113.1:443", "--json"];
      const measured = await context.compare(
        {
          ours: {
            name: "wayout trace",
            run() {
              const report = JSON.parse(run(node, command).stdout) as {
                steps: { status: string }[];
                stop?: unknown;
              };
              const proven = report.steps.filter((step) => step.status === "proven").length;
              if (proven !== 9) throw new Error(JSON.stringify(report.stop ?? report.steps));
            },
          },
        },
        { rounds: 12, warmUp: 2 },
      );
      return { ...measured, reference: context.budget("150 ms", 150) };
    },
  },
];
