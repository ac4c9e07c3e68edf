/** Published ports, services and hairpin, by rules as portmap and kube-proxy write them: with the programs as with our rules. */
import { expect } from "bun:test";
import type { NetworkNamespace } from "../../src/kernel/namespace.ts";
import { openNat } from "../../src/nat/open.ts";
import { masqueradeIntent } from "../../src/nat/intent.ts";
import { buildNodeWorld } from "../support/node-world.ts";
import { afterThisTest } from "../support/teardown.ts";
import { ask, testWith } from "../support/witness.ts";

const NODE = "203.0.113.5";
const ROUTER = "203.0.113.1";
const SERVER = "198.51.100.80";
const PODS = "10.9.0.0/24";
const [BRIDGE, POD, OTHER] = ["10.9.0.1", "10.9.0.2", "10.9.0.3"];
const PUBLISHED = 8080;
const SERVICE = { here: "10.96.0.10", outside: "10.96.0.20" } as const;
const NODE_PORT = 30_080;

const RULES = `table ip services {
  chain published {
    tcp dport ${PUBLISHED} fib daddr type local dnat to ${OTHER}:80
    ip daddr ${SERVICE.here} tcp dport 80 dnat to ${OTHER}:80
    ip daddr ${SERVICE.outside} tcp dport 80 dnat to ${SERVER}:80
    tcp dport ${NODE_PORT} fib daddr type local meta mark set 0x4000 dnat to ${SERVER}:80
  }
  chain pre { type nat hook prerouting priority dstnat; jump published; }
  chain out { type nat hook output priority -100; jump published; }
  chain post {
    type nat hook postrouting priority srcnat
    meta mark 0x4000 masquerade
    ip saddr ${PODS} ip daddr ${PODS} ct status dnat masquerade
  }
}`;

function published(backend: "nftables" | "ebpf") {
  const pod = (number: number, address: string) => ({
    interface: "eth0",
    hostInterface: `veth${number}`,
    wiring: { bridge: "br0" },
    addresses: [`${address}/24`],
    gateways: [`${BRIDGE}/24`],
  });
  const {
    node,
    outside,
    pods: [one, other],
  } = buildNodeWorld({
    uplink: {
      name: "up0",
      outsideName: "isp0",
      addresses: [`${NODE}/24`],
      outsideAddresses: [`${ROUTER}/24`],
      gateways: [ROUTER],
    },
    servers: [`${SERVER}/32`],
    pods: [pod(1, POD), pod(2, OTHER)],
    forwards: true,
    nft: RULES,
  });
  // As portmap's bridge has it: a pod may come to itself.
  ask(node, ["ip", "link", "set", "veth2", "type", "bridge_slave", "hairpin", "on"]);
  const nat = openNat(backend, node);
  afterThisTest(() => void nat.remove());
  nat.apply(masqueradeIntent("cni/blue", [PODS], { translation: { fullyRandom: false } }));
  for (const [namespace, who] of [
    [other!, "pod"],
    [outside, "outside"],
  ] as const) {
    const server = namespace.run(() =>
      Bun.serve({
        hostname: "0.0.0.0",
        port: 80,
        fetch: (request, self) => new Response(`${who} ${self.requestIP(request)!.address}`),
      }),
    );
    afterThisTest(() => server.stop(true));
  }
  return { node, outside, one: one!, other: other! };
}

/** Who answered, and whom he saw. */
async function fetched(from: NetworkNamespace, url: string, port?: number): Promise<string> {
  const own = port === undefined ? [] : ["--local-port", String(port)];
  const child = from.run(() =>
    Bun.spawn(["curl", "-sS", "--noproxy", "*", "--max-time", "10", ...own, `http://${url}/`], {
      stdout: "pipe",
      stderr: "pipe",
    }),
  );
  const [answer, error] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
  ]);
  return answer || error;
}

for (const backend of ["nftables", "ebpf"] as const)
  testWith(["root", "real-root", "ip", "nft", "curl"])(
    `with ${backend}: published ports, services and hairpin beside it`,
    async () => {
      const { node, outside, one, other } = published(backend);
      const found = {
        "from outside": await fetched(outside, `${NODE}:${PUBLISHED}`),
        "from another pod": await fetched(one, `${NODE}:${PUBLISHED}`),
        "from the pod itself": await fetched(other, `${NODE}:${PUBLISHED}`),
        "from the node": await fetched(node, `${NODE}:${PUBLISHED}`),
        "a service that is a pod": await fetched(one, SERVICE.here),
        "a service that is outside": await fetched(one, SERVICE.outside),
        "a service that is outside, for the node": await fetched(node, SERVICE.outside),
        "from outside to a service that is outside": await fetched(outside, `${NODE}:${NODE_PORT}`),
        "outside, by the very port that is published": await fetched(one, SERVER, PUBLISHED),
        "from outside, meanwhile": await fetched(outside, `${NODE}:${PUBLISHED}`),
      };
      expect(found).toEqual({
        "from outside": `pod ${ROUTER}`,
        "from another pod": `pod ${BRIDGE}`,
        "from the pod itself": `pod ${BRIDGE}`,
        "from the node": `pod ${NODE}`,
        "a service that is a pod": `pod ${BRIDGE}`,
        "a service that is outside": `outside ${NODE}`,
        "a service that is outside, for the node": `outside ${NODE}`,
        "from outside to a service that is outside": `outside ${NODE}`,
        "outside, by the very port that is published": `outside ${NODE}`,
        "from outside, meanwhile": `pod ${ROUTER}`,
      });
    },
  );
