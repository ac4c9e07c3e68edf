/** The bridge of a network: made, found, completed, refused. */
import { expect } from "bun:test";
import { WayoutError } from "../../src/error.ts";
import { Rtnetlink } from "../../src/kernel/route/rtnetlink.ts";
import { readSysctl } from "../../src/kernel/sysctl.ts";
import { connectPod, ensureBridge, removeBridge } from "../../src/network/network.ts";
import { ask, askJson, testWith } from "../support/witness.ts";
import { freshNamespace } from "../support/world.ts";

const test = testWith(["root", "ip"]);

interface IpLink {
  readonly ifname: string;
  readonly address: string;
  readonly mtu: number;
  readonly flags: readonly string[];
  readonly addr_info: readonly { readonly local: string; readonly prefixlen: number }[];
}

function codeOf(action: () => unknown): string | undefined {
  try {
    action();
    return undefined;
  } catch (error) {
    if (error instanceof WayoutError) return error.code;
    throw error;
  }
}

test("is made with both gateways, a pinned MAC and no ear for router advertisements; a second call changes nothing", () => {
  const node = freshNamespace();
  using route = Rtnetlink.open(node);
  const intent = { name: "br0", gateways: ["10.0.0.254/24", "fd00::fe/64"], mtu: 1400 };
  const first = ensureBridge(route, intent);
  expect({ created: first.created, added: first.added }).toEqual({ created: true, added: intent.gateways });
  const [link] = askJson<IpLink[]>(node, ["ip", "-j", "addr", "show", "br0"]);
  expect(link).toMatchObject({ address: "0a:58:0a:00:00:fe", mtu: 1400 });
  expect(link!.flags).toContain("UP");
  expect(link!.addr_info.map(({ local, prefixlen }) => `${local}/${prefixlen}`)).toEqual(intent.gateways);
  expect(readSysctl(node, "net.ipv6.conf.br0.accept_ra")).toBe("0");
  const before = ask(node, ["ip", "-d", "addr"]).replace(/\d+sec|timer +\S+/g, "");
  const second = ensureBridge(route, intent);
  expect({ created: second.created, added: second.added }).toEqual({ created: false, added: [] });
  expect(ask(node, ["ip", "-d", "addr"]).replace(/\d+sec|timer +\S+/g, "")).toBe(before);
});

test("keeps its MAC when ports come and go, also one that was there before", () => {
  const node = freshNamespace();
  ask(node, ["ip", "link", "add", "br0", "type", "bridge"]);
  using route = Rtnetlink.open(node);
  const { mac } = ensureBridge(route, { name: "br0", gateways: ["10.0.0.254/24"] }).link;
  for (const port of ["p1", "p2"]) {
    ask(node, [
      "ip",
      "link",
      "add",
      port,
      "address",
      "02:00:00:00:00:01",
      "type",
      "veth",
      "peer",
      "name",
      `${port}x`,
    ]);
    ask(node, ["ip", "link", "set", port, "master", "br0"]);
    expect(route.link("br0")!.mac).toBe(mac);
    ask(node, ["ip", "link", "del", port]);
    expect(route.link("br0")!.mac).toBe(mac);
  }
});

test("that is there and down, without its gateway, is completed", () => {
  const node = freshNamespace();
  ask(node, ["ip", "link", "add", "br0", "type", "bridge"]);
  using route = Rtnetlink.open(node);
  const done = ensureBridge(route, { name: "br0", gateways: ["10.0.0.254/24"], promiscuous: true });
  expect({ created: done.created, added: done.added, up: done.link.up }).toEqual({
    created: false,
    added: ["10.0.0.254/24"],
    up: true,
  });
  expect(done.link.flags).toContain("PROMISC");
});

test("with another subnet is refused, unless forced; a second IPv6 subnet is welcome", () => {
  const node = freshNamespace();
  using route = Rtnetlink.open(node);
  ensureBridge(route, { name: "br0", gateways: ["10.0.0.254/24", "fd00::fe/64"] });
  const other = { name: "br0", gateways: ["10.1.0.254/24"] };
  expect(codeOf(() => ensureBridge(route, other))).toBe("bridge-has-other-subnet");
  expect(codeOf(() => ensureBridge(route, { name: "br0", gateways: ["10.0.0.254/16"] }))).toBe(
    "bridge-has-other-subnet",
  );
  expect(codeOf(() => ensureBridge(route, { name: "br0", gateways: ["fd00::1/48"] }))).toBe(
    "bridge-has-other-subnet",
  );
  expect(ensureBridge(route, { name: "br0", gateways: ["fd01::fe/64"] }).added).toEqual(["fd01::fe/64"]);
  expect(ensureBridge(route, { ...other, force: true }).added).toEqual(["10.1.0.254/24"]);
  const left = route.addresses({ family: 4, interface: route.link("br0")!.index });
  expect(left.map(({ address }) => address)).toEqual(["10.1.0.254"]);
});

test("by the name of something else, by no name at all, or with no address at all is refused, and nothing changes", () => {
  const node = freshNamespace();
  ask(node, ["ip", "link", "add", "v0", "type", "veth", "peer", "name", "v1"]);
  const before = ask(node, ["ip", "addr"]);
  using route = Rtnetlink.open(node);
  expect(codeOf(() => ensureBridge(route, { name: "v0", gateways: [] }))).toBe("not-a-bridge");
  expect(codeOf(() => removeBridge(route, "v0"))).toBe("not-a-bridge");
  for (const name of ["", "a-name-too-long-for-linux", "a/b", "a b", "br%d", ".."]) {
    expect(codeOf(() => ensureBridge(route, { name, gateways: [] }))).toBe("bad-interface-name");
  }
  expect(codeOf(() => ensureBridge(route, { name: "br0", gateways: ["10.0.0.300/24"] }))).toBe("bad-address");
  expect(ask(node, ["ip", "addr"])).toBe(before);
});

test("VLAN filtering where the kernel lacks it ends with the reason, and nothing is left", () => {
  const node = freshNamespace();
  using route = Rtnetlink.open(node);
  let failure: unknown;
  try {
    ensureBridge(route, { name: "br0", gateways: ["10.0.0.254/24"], vlanFiltering: true });
  } catch (error) {
    failure = error;
  }
  if (failure === undefined) {
    expect(route.link("br0")!.bridge!.vlanFiltering).toBe(true);
  } else {
    expect(failure).toMatchObject({ code: "kernel-lacks-feature", kind: "machine" });
    expect(route.link("br0")).toBeUndefined();
  }
});

test("goes when nobody is in it any more, and not before", () => {
  const [node, pod] = [freshNamespace(), freshNamespace()];
  using route = Rtnetlink.open(node);
  const { link } = ensureBridge(route, { name: "br0", gateways: ["10.0.0.254/24"] });
  connectPod(route, pod, {
    network: "n",
    container: "c",
    interfaceName: "eth0",
    bridge: link.index,
    addresses: [],
    routes: [],
  });
  expect(removeBridge(route, "br0")).toBe(false);
  using podRoute = Rtnetlink.open(pod);
  podRoute.deleteLink("eth0");
  expect(removeBridge(route, "br0")).toBe(true);
  expect(removeBridge(route, "br0")).toBe(false);
});

test("two processes at once make one bridge, and both succeed", async () => {
  const node = freshNamespace();
  const source = `
    const { Rtnetlink } = await import(${JSON.stringify(import.meta.resolve("../../src/kernel/route/rtnetlink.ts"))});
    const { ensureBridge } = await import(${JSON.stringify(import.meta.resolve("../../src/network/network.ts"))});
    const { NetworkNamespace } = await import(${JSON.stringify(import.meta.resolve("../../src/kernel/namespace.ts"))});
    using namespace = NetworkNamespace.named(${JSON.stringify(node.name)});
    using route = Rtnetlink.open(namespace);
    await Bun.stdin.text();
    const { created, added } = ensureBridge(route, { name: "br0", gateways: ["10.0.0.254/24", "fd00::fe/64"] });
    console.log(JSON.stringify({ created, added: added.length }));
  `;
  const children = [1, 2, 3, 4].map(() =>
    Bun.spawn([process.execPath, "-e", source], { stdin: "pipe", stdout: "pipe", stderr: "pipe" }),
  );
  await Bun.sleep(300);
  for (const child of children) await child.stdin.end();
  const said = await Promise.all(
    children.map(async (child) => ({
      exitCode: await child.exited,
      result: JSON.parse((await new Response(child.stdout).text()) || "null") as unknown,
      stderr: await new Response(child.stderr).text(),
    })),
  );
  const results = said.map(({ result }) => result as { created: boolean; added: number });
  expect(said.map(({ exitCode, stderr }) => ({ exitCode, stderr }))).toEqual(
    Array.from({ length: 4 }, () => ({ exitCode: 0, stderr: "" })),
  );
  expect(results.filter(({ created }) => created).length).toBe(1);
  expect(results.reduce((sum, { added }) => sum + added, 0)).toBe(2);
  const [link] = askJson<IpLink[]>(node, ["ip", "-j", "addr", "show", "br0"]);
  expect(link!.addr_info.filter(({ local }) => !local.startsWith("fe80")).length).toBe(2);
});
