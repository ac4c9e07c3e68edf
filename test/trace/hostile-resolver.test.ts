/** A name server that answers as it likes: nothing but the answer to the very question is believed, and nothing waits. */
import { expect } from "bun:test";
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { NetworkNamespace } from "../../src/kernel/namespace.ts";
import { askedNameservers, parseResolvConf } from "../../src/linux/resolv-conf.ts";
import type { Pod } from "../../src/pods/pod.ts";
import { resolve } from "../../src/trace/observe/resolver.ts";
import { afterThisTest } from "../support/teardown.ts";
import { ask, testWith } from "../support/witness.ts";
import { freshNamespace } from "../support/world.ts";

const onNode = testWith(["root", "ip"]);
const RIGHT = "198.51.100.9";
const SERVER = join(import.meta.dir, "hostile-server.ts");

/** By the first label of the name: what comes of it. Every answer that should not be believed names 198.51.100.66. */
const CASES: Readonly<Record<string, RegExp | typeof RIGHT>> = {
  plain: RIGHT,
  "forged-first": RIGHT,
  flood: RIGHT,
  "cut-amid-record": RIGHT,
  "cut-at-record": RIGHT,
  "cut-other-question": /no answer within/,
  "tcp-other-id": /an answer to something else/,
  "tcp-cut-too": /cut off, over TCP as well/,
  "tcp-closes": /closed the connection without an answer/,
  "tcp-drips": /no answer within/,
  "foreign-owner": /no A record/,
  "other-class": /no A record/,
  "endless-aliases": /more than 8 aliases/,
  "trailing-bytes": /no answer within/,
};

/** A pod whose one name server is the hostile one, in its own namespace. */
async function podOf(): Promise<{ pod: Pod; namespace: NetworkNamespace }> {
  const namespace = freshNamespace("dns");
  ask(namespace, ["ip", "link", "set", "lo", "up"]);
  const etc = `/etc/netns/${namespace.name}`;
  mkdirSync(etc, { recursive: true });
  afterThisTest(() => rmSync(etc, { recursive: true }));
  writeFileSync(`${etc}/resolv.conf`, "nameserver 127.0.0.1\n");
  const child = namespace.run(() =>
    Bun.spawn([process.execPath, SERVER], { stdin: "ignore", stdout: "pipe", stderr: "inherit" }),
  );
  afterThisTest(() => child.kill(9));
  await child.stdout.getReader().read();
  const pod: Pod = {
    name: namespace.name!,
    aliases: [],
    source: "netns",
    path: `/run/netns/${namespace.name}`,
    inode: namespace.inode,
    containerIds: [],
    attachments: [],
  };
  return { pod, namespace };
}

onNode(
  "nothing but the answer to the very question is believed, and nothing is waited for without end",
  async () => {
    const { pod, namespace } = await podOf();
    for (const [label, outcome] of Object.entries(CASES)) {
      let said: string;
      try {
        said = resolve(pod, namespace, `${label}.example`, 4, 2000).address;
      } catch (error) {
        said = (error as Error).message;
      }
      expect([label, said]).toEqual([label, outcome === RIGHT ? RIGHT : expect.stringMatching(outcome)]);
      expect(said).not.toContain("198.51.100.66");
    }
  },
);

onNode("of many name servers those are asked that the C library asks, and no others", () => {
  const many = [
    "x",
    "999.1.1.1",
    "fe80::1%eth0",
    ...Array.from({ length: 5000 }, (_, n) => `192.0.2.${n % 250}`),
  ];
  const text = many.map((one) => `nameserver ${one}`).join("\n");
  expect(askedNameservers(parseResolvConf(text))).toEqual(["fe80::1", "192.0.2.0", "192.0.2.1"]);
});
