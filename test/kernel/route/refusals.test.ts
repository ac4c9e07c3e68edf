/** What a person gets to read when this kernel refuses. */
import { expect } from "bun:test";
import { NetlinkError } from "../../../src/linux/netlink/netlink-error.ts";
import { deleteNeighbourRequest, setNeighbourRequest } from "../../../src/linux/route/neighbour.ts";
import { isAbsent } from "../../../src/kernel/route/link-rtnetlink.ts";
import { Rtnetlink } from "../../../src/kernel/route/rtnetlink.ts";
import { testWith } from "../../support/witness.ts";
import { freshNamespace } from "../../support/world.ts";

const test = testWith(["root"]);

function refusal(action: () => unknown): NetlinkError {
  try {
    action();
  } catch (error) {
    if (error instanceof NetlinkError) return error;
    throw error;
  }
  throw new Error("the kernel did not refuse");
}

test("the kernel's own words, the attribute, the errno and what we were doing", () => {
  using route = Rtnetlink.open(freshNamespace());
  const long = refusal(() => route.createBridge({ name: "a-name-too-long-for-linux" }));
  expect(long).toMatchObject({ code: "ERANGE", attribute: "IFLA_IFNAME" });
  expect(long.message).toMatch(
    /^creating bridge a-name-too-long-for-linux: the kernel says: .* at IFLA_IFNAME\)$/,
  );
  const peer = refusal(() => route.createVeth({ name: "v0", peer: { name: "a-name-too-long-for-linux" } }));
  expect(peer.attribute).toBe("IFLA_LINKINFO.IFLA_INFO_DATA.VETH_INFO_PEER.IFLA_IFNAME");
  route.createVeth({ name: "v0", peer: { name: "v1" } });
  route.setLink("v0", { up: true });
  expect(refusal(() => route.setLink("v0", { mtu: 5 })).message).toBe(
    "changing v0: the kernel says: mtu less than device minimum (EINVAL)",
  );
  expect(refusal(() => route.createVeth({ name: "v0", peer: { name: "v2" } })).code).toBe("EEXIST");
  const gateway = refusal(() => route.addRoute({ destination: "0.0.0.0/0", gateway: "192.0.2.1" }));
  expect(gateway.message).toBe(
    "adding route 0.0.0.0/0 via 192.0.2.1: the kernel says: Nexthop has invalid gateway (ENETUNREACH)",
  );
  expect(refusal(() => route.setBridgePort("v0", { hairpin: true }))).toMatchObject({
    request: "RTM_NEWLINK",
  });
  expect(() => route.setLink("nothing", { up: true })).toThrow(expect.objectContaining({ code: "ENODEV" }));
  expect(() => route.setLink("nothing", { name: "x" })).toThrow(expect.objectContaining({ code: "ENODEV" }));
});

test("a batch of thousands gets all its answers, errors too", () => {
  using route = Rtnetlink.open(freshNamespace());
  route.createBridge({ name: "br0", up: true });
  const index = route.link("br0")!.index;
  const address = (i: number): string => `10.0.${i >> 8}.${i & 255}`;
  const many = Array.from({ length: 2000 }, (_, i) => ({ interface: index, address: address(i) }));
  const missing = route.batchResults(many.map((spec) => deleteNeighbourRequest(spec)));
  expect(missing.size).toBe(2000);
  expect([...missing.values()].every((error) => isAbsent(error))).toBe(true);
  const mac = "02:00:00:00:00:01";
  // A namespace of an ordinary user may hold fewer entries; what the kernel took is there.
  const refused = route.batchResults(many.map((spec) => setNeighbourRequest({ ...spec, mac })));
  const there = route
    .neighbours({ family: 4, interface: index })
    .filter(({ state }) => state === "permanent");
  expect(there.length).toBe(2000 - refused.size);
});

test("bridge VLANs: done, or refused in so many words where the kernel has none", () => {
  using route = Rtnetlink.open(freshNamespace());
  route.createBridge({ name: "br0" });
  const bridge = route.link("br0")!.index;
  route.createVeth({ name: "v0", master: bridge, peer: { name: "v1" } });
  const port = route.link("v0")!.index;
  const vlans = [
    { first: 10, last: 10, pvid: true, untagged: true },
    { first: 100, last: 110, pvid: false, untagged: false },
  ];
  let refused: unknown;
  try {
    route.addBridgeVlans(port, vlans);
  } catch (error) {
    refused = error;
  }
  if (refused !== undefined) {
    expect(refused).toMatchObject({ code: "EOPNOTSUPP", request: "RTM_SETLINK" });
    expect(route.bridgeVlans()).toEqual(new Map());
    return;
  }
  expect(route.bridgeVlans().get(port)).toEqual(expect.arrayContaining(vlans));
  route.deleteBridgeVlans(port, [vlans[1]!]);
  expect(route.bridgeVlans().get(port)).not.toContainEqual(vlans[1]);
});
