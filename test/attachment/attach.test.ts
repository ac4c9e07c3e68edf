import { describe, expect } from "bun:test";
import { mkdirSync, readFileSync, readlinkSync, rmSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { pluginProgram } from "../cni/plugin.ts";
import { until } from "../support/until.ts";
import { ask, askJson, run, testWith } from "../support/witness.ts";
import {
  awaitLinkLocal,
  ended,
  freshName,
  ip,
  namespaceCalled,
  nodeState,
  seenFrom,
  SERVER,
  start,
  UPLINK,
  wayout,
  wayoutJson,
  world,
} from "./world.ts";

const testRoot = testWith(["root", "ip", "nft", "curl"]);

interface AttachedJson {
  readonly addresses: readonly string[];
  readonly gateways: readonly string[];
  readonly changed: boolean;
  readonly created: boolean;
  readonly mended: readonly ProblemJson[];
  readonly notes: readonly string[];
  readonly hostInterface: string;
}

interface ProblemJson {
  readonly code: string;
  readonly text: string;
}

interface ListedJson {
  readonly namespaces: readonly {
    readonly name: string;
    readonly kind: string;
    readonly addresses: readonly string[];
    readonly state: string;
    readonly problems: readonly ProblemJson[];
    readonly outside: readonly { readonly address?: string; readonly translation: string }[];
  }[];
}

describe("attach", () => {
  testRoot("gives a namespace a way out, and detach takes it back without a trace", async () => {
    const { node } = world();
    const blue = namespaceCalled(freshName());
    const before = nodeState(node);
    // The queue that loopback gets when it is first up stays with it.
    const links = (): string => ask(undefined, ["ip", "-n", blue, "-o", "link"]).replace(/qdisc \S+/g, "");
    const inside = links();
    expect(await seenFrom(blue)).toBeUndefined();
    const attached = await wayoutJson<AttachedJson>(node, "attach", blue);
    expect(attached).toMatchObject({
      addresses: ["10.213.0.2/24"],
      changed: true,
      created: false,
      notes: [],
    });
    expect(await seenFrom(blue)).toBe(UPLINK.v4);
    expect(nodeState(node)).not.toEqual(before);
    await wayoutJson(node, "detach", blue);
    expect(nodeState(node)).toEqual(before);
    expect(links()).toBe(inside);
  });

  testRoot("IPv6 comes along where the node has a way out over it", async () => {
    const { node } = world({ ipv6: true });
    const before = nodeState(node);
    const blue = freshName();
    const { addresses } = await wayoutJson<AttachedJson>(node, "attach", blue, "--create");
    expect(addresses).toHaveLength(2);
    expect(addresses[1]).toMatch(/^fd[0-9a-f:]+::2\/64$/);
    expect(await seenFrom(blue, SERVER.v6)).toBe(UPLINK.v6);
    expect(await seenFrom(blue)).toBe(UPLINK.v4);
    await wayoutJson(node, "detach", blue);
    expect(nodeState(node)).toEqual(before);
  });

  testRoot("namespaces share the bridge and reach each other; the last one takes it away", async () => {
    const { node } = world();
    const before = nodeState(node);
    const [blue, green] = [freshName("blue"), freshName("green")];
    await wayoutJson(node, "attach", blue, "--create");
    const second = await wayoutJson<AttachedJson>(node, "attach", green, "--create");
    expect(second.addresses).toEqual(["10.213.0.3/24"]);
    expect(run(undefined, ["ip", "netns", "exec", blue, "ping", "-c1", "-W5", "10.213.0.3"]).exitCode).toBe(
      0,
    );
    await wayoutJson(node, "detach", blue);
    expect(await seenFrom(green)).toBe(UPLINK.v4);
    await wayoutJson(node, "detach", green);
    expect(nodeState(node)).toEqual(before);
  });

  testRoot("an address rests before it is given again", async () => {
    const { node } = world();
    const [blue, green, red] = [freshName(), freshName(), freshName()];
    await wayoutJson(node, "attach", blue, "--create");
    await wayoutJson(node, "attach", green, "--create");
    await wayoutJson(node, "detach", blue);
    const third = await wayoutJson<AttachedJson>(node, "attach", red, "--create");
    expect(third.addresses).toEqual(["10.213.0.4/24"]);
  });

  testRoot("a fixed address for one namespace, the interface's own for the others", async () => {
    const { node } = world();
    const [blue, green] = [freshName("blue"), freshName("green")];
    await wayoutJson(node, "attach", blue, "--create", "--snat", UPLINK.other4);
    await wayoutJson(node, "attach", green, "--create");
    expect(await seenFrom(blue)).toBe(UPLINK.other4);
    expect(await seenFrom(green)).toBe(UPLINK.v4);
    await wayoutJson(node, "detach", blue);
    expect(ask(node, ["nft", "list", "ruleset"])).not.toContain(UPLINK.other4);
  });

  testWith(["root", "ip", "nft", "curl", "iptables"])("iptables can translate instead", async () => {
    const { node } = world();
    const blue = freshName();
    const before = nodeState(node);
    await wayoutJson(node, "attach", blue, "--create", "--backend", "iptables");
    expect(await seenFrom(blue)).toBe(UPLINK.v4);
    expect(ask(node, ["nft", "list", "tables"])).not.toContain("inet wayout");
    await wayoutJson(node, "detach", blue);
    expect(nodeState(node)["link"]).toBe(before["link"]);
    expect(run(node, ["iptables-save"]).stdout).not.toMatch(/wayout/i);
  });

  testRoot("without translation the namespace keeps its address, and no answer finds it", async () => {
    const { node, outside } = world();
    const blue = freshName();
    await wayoutJson(node, "attach", blue, "--create", "--backend", "none");
    expect(await seenFrom(blue)).toBeUndefined();
    ip(outside, `route add 10.213.0.0/24 via ${UPLINK.v4}`);
    expect(await seenFrom(blue)).toBe("10.213.0.2");
  });

  testRoot("twice is once", async () => {
    const { node } = world();
    const blue = freshName();
    const first = await wayoutJson<AttachedJson>(node, "attach", blue, "--create");
    // NAT may note that it found everything in order.
    const settled = () => ({ ...nodeState(node), files: "" });
    const state = settled();
    const second = await wayoutJson<AttachedJson>(node, "attach", blue, "--create");
    expect(second).toMatchObject({ changed: false, addresses: first.addresses });
    expect(settled()).toEqual(state);
  });

  testRoot("what was there before stays: bridge, forwarding, loopback", async () => {
    const { node } = world();
    const blue = namespaceCalled(freshName());
    ip(
      node,
      `link add br0 type bridge
       address add 10.77.0.1/24 dev br0
       link add port0 type veth peer name trop0
       link set port0 master br0 up
       link set trop0 up
       link set br0 up`,
    );
    for (const name of ["br0", "port0", "trop0"]) awaitLinkLocal(node, name);
    ask(node, ["sysctl", "-qw", "net.ipv4.ip_forward=1"]);
    ask(undefined, ["ip", "-n", blue, "link", "set", "lo", "up"]);
    const before = nodeState(node);
    const attached = await wayoutJson<AttachedJson>(
      node,
      "attach",
      blue,
      "--bridge",
      "br0",
      "--ip",
      "10.77.0.7",
    );
    expect(attached.gateways).toEqual(["10.77.0.1/24"]);
    expect(await seenFrom(blue)).toBe(UPLINK.v4);
    await wayoutJson(node, "detach", blue);
    expect(nodeState(node)).toEqual(before);
    expect(ask(undefined, ["ip", "-n", blue, "-o", "link", "show", "lo"])).toContain("LOWER_UP");
  });

  testRoot("forwarding stays on when somebody else relies on it by then", async () => {
    const { node } = world();
    const blue = freshName();
    await wayoutJson(node, "attach", blue, "--create");
    const other = freshName();
    await wayoutJson(node, "attach", other, "--create", "--bridge", "other0");
    await wayoutJson(node, "detach", blue);
    expect(ask(node, ["sysctl", "-n", "net.ipv4.ip_forward"]).trim()).toBe("1");
    expect(await seenFrom(other)).toBe(UPLINK.v4);
    await wayoutJson(node, "detach", other);
    expect(ask(node, ["sysctl", "-n", "net.ipv4.ip_forward"]).trim()).toBe("0");
  });

  testRoot("a bridge that somebody else uses by then stays, and the person is told", async () => {
    const { node } = world();
    const blue = freshName();
    await wayoutJson(node, "attach", blue, "--create");
    ip(node, "link add theirs type veth peer name sriht\nlink set theirs master wayout0");
    const { notes } = await wayoutJson<{ notes: string[] }>(node, "detach", blue);
    expect(notes.join()).toContain("wayout0 stays");
    expect(ask(node, ["ip", "-o", "link", "show", "wayout0"])).toContain("wayout0");
  });

  testRoot(
    "the path of a namespace will do, and names that resolve are written where asked for",
    async () => {
      const { node } = world();
      const before = nodeState(node);
      const blue = freshName();
      const held = Bun.spawn(["unshare", "-n", "sleep", "60"]);
      try {
        const path = `/proc/${held.pid}/ns/net`;
        await until(() => readlinkSync(path) !== readlinkSync("/proc/self/ns/net"), "it has one of its own");
        await wayoutJson(node, "attach", path);
        const link = ask(undefined, [
          "nsenter",
          `--net=${path}`,
          "ip",
          "-o",
          "-4",
          "address",
          "show",
          "eth0",
        ]);
        expect(link).toContain("10.213.0.2/24");
        await wayoutJson(node, "attach", blue, "--create", "--dns", "198.51.100.53");
        expect(ask(undefined, ["ip", "netns", "exec", blue, "cat", "/etc/resolv.conf"])).toContain(
          "nameserver 198.51.100.53",
        );
        await wayoutJson(node, "detach", path);
        await wayoutJson(node, "detach", blue);
        expect(nodeState(node)).toEqual({ ...before, namespaces: nodeState(node)["namespaces"]! });
      } finally {
        held.kill();
      }
    },
  );

  testRoot("a subnet that a CNI network is configured with is left to its pods", async () => {
    const { node } = world();
    const path = "/etc/cni/net.d/10-later.conflist";
    mkdirSync(dirname(path), { recursive: true });
    const ranges = [[{ subnet: "10.213.0.0/23" }]];
    writeFileSync(path, JSON.stringify({ name: "later", plugins: [{ type: "wayout", ipam: { ranges } }] }));
    writeFileSync("/etc/cni/net.d/99-broken.conf", "{");
    try {
      const { addresses } = await wayoutJson<AttachedJson>(node, "attach", freshName(), "--create");
      expect(addresses).toEqual(["10.213.2.2/24"]);
    } finally {
      rmSync(path);
      rmSync("/etc/cni/net.d/99-broken.conf");
    }
  });

  testRoot("a resolver file that the person changed is theirs", async () => {
    const { node } = world();
    const blue = freshName();
    await wayoutJson(node, "attach", blue, "--create", "--dns", "198.51.100.53");
    const path = `/etc/netns/${blue}/resolv.conf`;
    await Bun.write(path, "nameserver 192.0.2.53\n");
    await wayoutJson(node, "detach", blue);
    expect(readFileSync(path, "utf8")).toBe("nameserver 192.0.2.53\n");
  });
});

testWith(["root", "ip", "nft", "curl", "iptables"])(
  "somebody else's rule that will stop it is named, with what mends it",
  async () => {
    const { node } = world();
    const blue = freshName();
    ask(node, ["iptables", "-P", "FORWARD", "DROP"]);
    const { obstacles } = await wayoutJson<{ obstacles: { code: string; fix: string[] }[] }>(
      node,
      "attach",
      blue,
      "--create",
    );
    expect(obstacles.map(({ code }) => code)).toEqual(["filter-policy-drops"]);
    expect(await seenFrom(blue)).toBeUndefined();
    const { stdout, exitCode } = await wayout(node, "attach", blue);
    expect(exitCode).toBe(0);
    expect(stdout).toMatch(/cannot reach the outside yet: .*FORWARD/);
    for (const command of obstacles[0]!.fix) ask(node, ["sh", "-c", command]);
    expect(await seenFrom(blue)).toBe(UPLINK.v4);
    expect((await wayout(node, "attach", blue)).stdout).not.toContain("cannot reach the outside yet");
  },
);

describe("what becomes broken", () => {
  testRoot("is seen by list and mended by attach", async () => {
    const { node } = world();
    const [blue, green] = [freshName("blue"), freshName("green")];
    const { hostInterface } = await wayoutJson<AttachedJson>(node, "attach", blue, "--create");
    await wayoutJson(node, "attach", green, "--create");
    const breaks: readonly (readonly [string, string, () => void])[] = [
      ["host-link-down", `${hostInterface} is down`, () => ip(node, `link set ${hostInterface} down`)],
      [
        "host-link-not-enslaved",
        `${hostInterface} is not a port of wayout0`,
        () => ip(node, `link set ${hostInterface} nomaster`),
      ],
      ["bridge-down", "the bridge wayout0 is down", () => ip(node, "link set wayout0 down")],
      [
        "bridge-address-missing",
        "wayout0 lacks the gateway address 10.213.0.1",
        () => ip(node, "address flush dev wayout0"),
      ],
      [
        "pod-no-route",
        "no default route through 10.213.0.1",
        () => ask(undefined, ["ip", "-n", blue, "route", "del", "default"]),
      ],
      [
        "pod-no-address",
        "10.213.0.2/24 is not on eth0",
        () => ask(undefined, ["ip", "-n", blue, "address", "flush", "dev", "eth0"]),
      ],
      [
        "pod-interface-missing",
        "eth0 is missing",
        () => ask(undefined, ["ip", "-n", blue, "link", "del", "eth0"]),
      ],
      [
        "forwarding-off",
        "net.ipv4.ip_forward is 0",
        () => ask(node, ["sysctl", "-qw", "net.ipv4.ip_forward=0"]),
      ],
      ["nat-missing", "inet wayout", () => ask(node, ["nft", "delete", "table", "inet", "wayout"])],
    ];
    for (const [code, problem, breakIt] of breaks) {
      breakIt();
      const listed = await wayout(node, "list", "--json");
      expect(listed.exitCode).toBe(1);
      const state = (JSON.parse(listed.stdout) as ListedJson).namespaces.find(({ name }) => name === blue);
      expect(state?.state).toBe("broken");
      expect(state?.problems).toContainEqual({ code, text: expect.stringContaining(problem) });
      const { mended, changed } = await wayoutJson<AttachedJson>(node, "attach", blue);
      expect(changed).toBe(true);
      expect(mended).toContainEqual({ code, text: expect.stringContaining(problem) });
      expect(await seenFrom(blue)).toBe(UPLINK.v4);
    }
    ip(node, "link del wayout0");
    await wayoutJson(node, "attach", blue);
    await wayoutJson(node, "attach", green);
    const { namespaces } = await wayoutJson<ListedJson>(node, "list");
    expect(namespaces.map(({ state }) => state)).toEqual(["ok", "ok"]);
    expect(namespaces[0]?.outside).toEqual([
      expect.objectContaining({ address: UPLINK.v4, translation: "masquerade" }),
    ]);
  });

  testRoot(
    "a namespace that is gone can still be detached; one that was made again is attached anew",
    async () => {
      const { node } = world();
      const before = nodeState(node);
      const blue = namespaceCalled(freshName());
      await wayoutJson(node, "attach", blue);
      ask(undefined, ["ip", "netns", "del", blue]);
      expect((await wayout(node, "list")).exitCode).toBe(1);
      namespaceCalled(blue);
      const again = await wayoutJson<AttachedJson>(node, "attach", blue);
      expect(again.changed).toBe(true);
      expect(await seenFrom(blue)).toBe(UPLINK.v4);
      ask(undefined, ["ip", "netns", "del", blue]);
      await wayoutJson(node, "detach", blue);
      expect(nodeState(node)).toEqual(before);
    },
  );
});

testWith(["root", "ip", "nft"])(
  "sixty at once are all attached, each with an address of its own, and sixty detached at once leave nothing",
  async () => {
    const { node } = world();
    const before = nodeState(node);
    const names = Array.from({ length: 60 }, () => freshName());
    const LONG_MS = 280_000;
    const allAtOnce = async (...args: string[]): Promise<void> => {
      const children = names.map((name) =>
        start(node, [pluginProgram(), args[0]!, name, ...args.slice(1)], process.env, LONG_MS),
      );
      const failed = (await Promise.all(children.map(ended))).filter(({ exitCode }) => exitCode !== 0);
      expect(failed).toEqual([]);
    };
    await allAtOnce("attach", "--create");
    const { namespaces } = await wayoutJson<ListedJson>(node, "list");
    expect(namespaces.map(({ name }) => name).sort()).toEqual(names.toSorted());
    expect(new Set(namespaces.flatMap(({ addresses }) => addresses)).size).toBe(60);
    await allAtOnce("detach");
    expect(nodeState(node)).toEqual(before);
  },
  600_000,
);

testRoot("list also shows what ip can confirm", async () => {
  const { node } = world();
  const blue = freshName();
  const attached = await wayoutJson<AttachedJson>(node, "attach", blue, "--create");
  const [link] = askJson<{ ifname: string; master: string }[]>(node, [
    "ip",
    "-j",
    "link",
    "show",
    attached.hostInterface,
  ]);
  expect(link).toMatchObject({ ifname: attached.hostInterface, master: "wayout0" });
  const { stdout } = await wayout(node, "list");
  expect(stdout).toMatch(new RegExp(`^${blue} +attach +10\\.213\\.0\\.2/24 .*203\\.0\\.113\\.5.*ok$`, "m"));
});
