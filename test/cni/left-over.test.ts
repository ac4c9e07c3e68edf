/** `wayout cni gc`: what is left over goes, and never a pod that lives, whatever its runtime remembers. */
import { expect, test } from "bun:test";
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { cacheDirectories } from "../../src/pods/cni-cache.ts";
import { deathsOf, dies } from "../support/deaths.ts";
import { afterThisTest } from "../support/teardown.ts";
import { ask, testWith } from "../support/witness.ts";
import { LeftOverScene, unname } from "./left-over-scene.ts";
import { linkNames, podLinks } from "./node.ts";
import { freshPod, REFERENCE_DIRECTORY } from "./plugin.ts";

const PROGRAMS = ["root", "ip", "nft"];
const withPrograms = testWith(PROGRAMS);
const withReference = testWith([
  ...PROGRAMS,
  ...(existsSync(REFERENCE_DIRECTORY) ? [] : ["containernetworking-plugins"]),
]);

withPrograms("living pods and no cache that knows one: refused, and nothing is taken", () => {
  const scene = new LeftOverScene();
  const pods = [scene.attach("one"), scene.attach("two")];
  ask(pods[1]!.namespace, ["ip", "link", "delete", "eth0"]);
  for (const options of [["--dry-run"], []]) {
    expect(scene.gc(...options)).toMatchObject({
      exitCode: 1,
      refusal: expect.stringContaining("no runtime's cache was found"),
      links: [],
      addresses: [],
    });
  }
  expect(linkNames(pods[0]!.namespace)).toContain("eth0");
  expect(scene.addresses()).toHaveLength(2);
});

withPrograms("a pod that its runtime has forgotten is taken; each doubt keeps it", () => {
  const scene = new LeftOverScene();
  const known = scene.attach("known", { remembered: true });
  const named = scene.attach("named");
  const young = scene.attach("young", { minutes: 5 });
  const forgotten = scene.attach("forgotten");
  for (const pod of [young, forgotten]) unname(pod);
  const gone = scene.attach("gone");
  ask(gone.namespace, ["ip", "link", "delete", "eth0"]);
  const shown = scene.gc("--dry-run");
  expect(shown.links.map(({ alias }) => alias.split(" ")[1])).toEqual(["forgotten"]);
  expect(shown.addresses).toHaveLength(2);
  expect(
    Object.fromEntries(shown.doubts.map(({ what, why }) => [/ (\w+) eth0/.exec(what)?.[1], why])),
  ).toEqual({
    named: `its namespace is there: /run/netns/${named.namespace.name}`,
    young: "it is younger than ten minutes",
  });
  expect(podLinks(scene.node)).toHaveLength(4);
  expect(scene.gc()).toMatchObject({ exitCode: 0, links: shown.links, doubts: shown.doubts });
  expect(podLinks(scene.node)).toHaveLength(3);
  expect(scene.addresses()).toEqual(["10.42.0.2", "10.42.0.3", "10.42.0.4"]);
  expect(linkNames(known.namespace)).toContain("eth0");
  expect(scene.gc()).toMatchObject({ links: [], addresses: [] });
});

withPrograms("where the namespaces of known pods are hidden, nobody is forgotten", () => {
  const scene = new LeftOverScene();
  const known = scene.attach("known", { remembered: true });
  const forgotten = scene.attach("forgotten");
  // As in a container that has the host's network and not its /run/netns.
  for (const pod of [known, forgotten]) unname(pod);
  expect(scene.gc()).toMatchObject({
    links: [],
    addresses: [],
    doubts: [{ why: expect.stringContaining("not visible from here") }],
  });
  expect(podLinks(scene.node)).toHaveLength(2);
});

withPrograms("what a runtime remembers is looked for in every usual place", () => {
  const scene = new LeftOverScene();
  for (const directory of ["/var/lib/cni/cache/results", "/var/lib/cni/own-runtime/results"]) {
    const pod = scene.attach(directory.split("/")[4]!);
    mkdirSync(directory, { recursive: true });
    const file = scene.remember(pod, { cniVersion: "1.0.0" }, directory);
    afterThisTest(() => rmSync(file));
    expect(cacheDirectories()).toContain(directory);
  }
  expect(scene.gc()).toMatchObject({ exitCode: 0, links: [], addresses: [], doubts: [] });
  expect(podLinks(scene.node)).toHaveLength(2);
});

withPrograms("an entry that is not understood says all the same that a runtime remembers the pod", () => {
  const scene = new LeftOverScene();
  scene.attach("known", { remembered: true });
  const names = ["torn", "empty", "old"];
  const entries = names.map((name) => {
    const pod = unname(scene.attach(name));
    return scene.remember(pod, { cniVersion: "1.0.0" });
  });
  const [torn, empty, old] = entries as [string, string, string];
  writeFileSync(torn, readFileSync(torn, "utf8").slice(0, 40));
  writeFileSync(empty, "");
  // As libcni wrote it before 0.8: the result, and nothing of whom.
  writeFileSync(
    old,
    JSON.stringify({ cniVersion: "0.3.1", ips: [{ version: "4", address: "10.42.0.5/24" }] }),
  );
  const said = scene.gc();
  expect(said).toMatchObject({ exitCode: 0, links: [], addresses: [] });
  expect(said.doubts.map(({ why }) => why)).toEqual(
    entries.map((path) => `its runtime remembers it, in words that are not understood: ${path}`),
  );
  expect(podLinks(scene.node)).toHaveLength(4);
  for (const path of entries) rmSync(path);
  expect(scene.gc().links.map(({ alias }) => alias.split(" ")[1])).toEqual(names);
});

withPrograms("entries as containerd, CRI-O, podman, nerdctl and cri-dockerd write them", () => {
  const scene = new LeftOverScene();
  const config = Buffer.from(JSON.stringify({ name: scene.conf["name"], plugins: [scene.conf] })).toString(
    "base64",
  );
  const cniArgs = [
    ["IgnoreUnknown", "1"],
    ["K8S_POD_NAMESPACE", "default"],
    ["K8S_POD_NAME", "web"],
  ];
  const process = "/proc/4194304/ns/net";
  const written: Readonly<Record<string, object>> = {
    containerd: { config, cniArgs, capabilityArgs: { dns: {}, portMappings: [] } },
    crio: { config, cniArgs, capabilityArgs: null, netns: "/var/run/netns/0b9e5b0c" },
    podman: { config, cniArgs: null, netns: undefined },
    "default-nerdctl": { config, capabilityArgs: { portMappings: [{ HostPort: 80 }] }, netns: process },
    dockerd: { config: null, cniArgs, netns: process, result: null },
  };
  for (const [name, extra] of Object.entries(written)) {
    const file = scene.remember(unname(scene.attach(name)), { cniVersion: "1.0.0" });
    writeFileSync(file, JSON.stringify({ ...JSON.parse(readFileSync(file, "utf8")), ...extra }));
  }
  unname(scene.attach("forgotten"));
  const seen = scene.attach("seen", { remembered: true });
  expect(linkNames(seen.namespace)).toContain("eth0");
  expect(scene.gc("--dry-run").doubts).toHaveLength(1);
  expect(podLinks(scene.node)).toHaveLength(7);
});

withPrograms("a runtime's cache directory may be named as runtimes name it, above the results", () => {
  const scene = new LeftOverScene();
  scene.attach("one", { remembered: true });
  ask(scene.attach("gone").namespace, ["ip", "link", "delete", "eth0"]);
  const parent = join(scene.cache, "..");
  expect(scene.gc("--cache-dir", parent)).toMatchObject({
    exitCode: 0,
    addresses: [{ address: "10.42.0.3" }],
  });
});

test("reservations of a network that is called results are no runtime's cache", () => {
  const directory = "/var/lib/cni/networks/results";
  mkdirSync(directory, { recursive: true });
  afterThisTest(() => rmSync(directory, { recursive: true }));
  expect(cacheDirectories()).not.toContain(directory);
});

withReference(
  "a living pod that another plugin made keeps its address, remembered or not, seen or not",
  () => {
    const scene = new LeftOverScene({ type: "bridge", ipMasq: false });
    const seen = scene.attach("seen");
    const gone = scene.attach("gone");
    ask(gone.namespace, ["ip", "link", "delete", "eth0"]);
    expect(scene.gc()).toMatchObject({
      addresses: [{ address: "10.42.0.3" }],
      doubts: [{ what: "10.42.0.2 of seen eth0", why: expect.stringContaining("it is in use") }],
    });
    unname(seen);
    expect(scene.gc()).toMatchObject({
      addresses: [],
      doubts: [{ why: expect.stringContaining("leads to a pod that is not visible from here") }],
    });
    expect(scene.addresses()).toEqual(["10.42.0.2"]);
  },
);

testWith([...PROGRAMS, "strace"])(
  "killed before any of its system calls: the next one finishes it, and the pod that is known is never hurt",
  () => {
    const scene = new LeftOverScene({ macspoofchk: true });
    const known = scene.attach("known", { remembered: true });
    const kept = [linkNames(known.namespace), podLinks(scene.node), scene.addresses()];
    const [forgotten, gone] = [unname(freshPod("forgotten")), freshPod("gone")];
    const leaveThem = (): void => {
      scene.add(forgotten);
      scene.add(gone);
      ask(gone.namespace, ["ip", "link", "delete", "eth0"]);
    };
    const mortal = { node: scene.node, command: scene.gcCommand() };
    leaveThem();
    let died = 0;
    for (const death of deathsOf(mortal)) {
      leaveThem();
      if (dies(mortal, death)) died++;
      expect([death, scene.gc().exitCode]).toEqual([death, 0]);
      expect([death, linkNames(known.namespace), podLinks(scene.node), scene.addresses()]).toEqual([
        death,
        ...kept,
      ]);
    }
    expect(died).toBeGreaterThan(8);
    expect(scene.gc()).toMatchObject({ links: [], addresses: [], doubts: [] });
  },
  180_000,
);
