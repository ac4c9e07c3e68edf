/** The bridge table behind macspoofchk, as `nft` lists it and as frames meet it. */
import { expect } from "bun:test";
import { MacSpoofing } from "../../src/cni/mac-spoofing.ts";
import { ask, run, testWith } from "../support/witness.ts";
import { freshNamespace } from "../support/world.ts";

testWith(["root", "ip", "nft", "ping"])(
  "a port lets only its own MAC through, and the table goes with the last port",
  () => {
    const node = freshNamespace("node");
    const pod = freshNamespace("pod");
    ask(node, ["ip", "link", "add", "br0", "type", "bridge"]);
    ask(node, ["ip", "addr", "add", "10.9.0.1/24", "dev", "br0"]);
    ask(node, ["ip", "link", "add", "port0", "type", "veth", "peer", "name", "eth0", "netns", pod.name!]);
    ask(node, ["ip", "link", "set", "port0", "master", "br0", "up"]);
    ask(node, ["ip", "link", "set", "br0", "up"]);
    ask(pod, ["ip", "link", "set", "eth0", "address", "02:00:00:00:00:07", "up"]);
    ask(pod, ["ip", "addr", "add", "10.9.0.2/24", "dev", "eth0"]);
    const ping = (): number => run(pod, ["ping", "-c1", "-W3", "10.9.0.1"]).exitCode;
    using spoofing = new MacSpoofing(node);
    spoofing.guard("port0", "02:00:00:00:00:07");
    spoofing.guard("port1", "02:00:00:00:00:08");
    expect(spoofing.isGuarded("port0", "02:00:00:00:00:07")).toBe(true);
    expect(spoofing.isGuarded("port0", "02:00:00:00:00:08")).toBe(false);
    expect(ask(node, ["nft", "list", "table", "bridge", "wayout"])).toContain(
      "iifname @checked_ports iifname . ether saddr != @port_senders drop",
    );
    expect(ask(node, ["nft", "list", "set", "bridge", "wayout", "port_senders"])).toContain(
      '"port0" . 02:00:00:00:00:07',
    );
    expect(ping()).toBe(0);
    ask(pod, ["ip", "link", "set", "eth0", "address", "02:00:00:00:00:09"]);
    expect(ping()).not.toBe(0);
    expect(spoofing.release(["port0"])).toBe(true);
    expect(spoofing.ports()).toEqual(["port1"]);
    expect(ask(node, ["nft", "list", "table", "bridge", "wayout"])).not.toContain("port0");
    expect(spoofing.release(["port1", "port7"])).toBe(true);
    expect(ask(node, ["nft", "list", "ruleset"])).toBe("");
    expect(spoofing.release(["port1"])).toBe(false);
  },
);
