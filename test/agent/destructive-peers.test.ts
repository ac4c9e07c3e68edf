/**
 * What others do to a node, one after the other, while twenty connections last: none of them is reset, and new ones come
 * about again. How soon is not asked here: the machine that runs the tests may be busy.
 */
import { expect } from "bun:test";
import { AttachmentStore } from "../../src/attachment/store.ts";
import { NetworkNamespace } from "../../src/kernel/namespace.ts";
import { freshName, seenFrom, SERVER, UPLINK, wayout, world } from "../attachment/world.ts";
import { connection, echoServer } from "../support/echo.ts";
import { ask, run, testWith } from "../support/witness.ts";
import { RunningAgent } from "./running-agent.ts";

const test = testWith(["root", "nft", "iptables"]);
const TIMEOUT_MS = 120_000;
/** An answer may wait for a retransmission, whose timer doubles. */
const TIMEOUT_S = 20;
const CONNECTIONS = 20;

const SHOP = `flush ruleset
table inet shop {
  chain forward {
    type filter hook forward priority 0; policy accept;
  }
}
`;
const EMPTY_NAT = "*nat\n:PREROUTING ACCEPT\n:POSTROUTING ACCEPT\nCOMMIT\n";

test(
  "twenty connections outlive what others do, and new ones work again after each",
  async () => {
    const { node, outside } = world();
    const blue = freshName();
    await wayout(node, "attach", blue, "--create");
    const gateway = new AttachmentStore(node).read().networks[0]!.gateways[0]!;
    echoServer(outside);
    const agent = await RunningAgent.on(node);
    using pod = NetworkNamespace.named(blue);
    const connections = Array.from({ length: CONNECTIONS }, () => connection(pod, SERVER.v4, TIMEOUT_S));
    const answers = (word: string): Promise<string[]> =>
      Promise.all(connections.map((one) => one.says(word)));
    expect(await answers("before")).toEqual(connections.map(() => "before"));

    /** What is done, with what, and what of ours the agent must put back; undefined where nothing of ours is hit. */
    const peers: readonly (readonly [readonly string[], string | undefined, string?])[] = [
      [["nft", "flush", "ruleset"], "table inet wayout"],
      [["nft", "-f", "-"], "table inet wayout", SHOP],
      [["iptables", "-t", "nat", "-F"], undefined],
      [["iptables-restore"], undefined, EMPTY_NAT],
      [["nft", "delete", "table", "inet", "wayout"], "table inet wayout"],
      [["sysctl", "-qw", "net.ipv4.ip_forward=0"], "net.ipv4.ip_forward"],
      [["ip", "address", "delete", gateway, "dev", "wayout0"], `address ${gateway} on wayout0`],
      [["ip", "address", "delete", `${UPLINK.other4}/24`, "dev", "up0"], undefined],
      [["ip", "address", "add", `${UPLINK.other4}/24`, "dev", "up0"], undefined],
    ];
    for (const [command, object, input] of peers) {
      const name = command.join(" ");
      const { exitCode, stderr } = run(node, command, input);
      expect([name, exitCode, stderr]).toEqual([name, 0, ""]);
      if (object !== undefined) await agent.says("repaired", { object });
      expect([name, await works(blue)]).toEqual([name, true]);
      expect([name, await answers(name)]).toEqual([name, connections.map(() => name)]);
    }
    expect(ask(node, ["nft", "list", "tables"])).toContain("table inet shop");
  },
  TIMEOUT_MS,
);

/** Whether a new connection is answered, and is seen as it shall be; waited for. */
async function works(pod: string): Promise<boolean> {
  const deadline = performance.now() + TIMEOUT_S * 1000;
  while (performance.now() < deadline) if ((await seenFrom(pod)) === UPLINK.v4) return true;
  return false;
}
