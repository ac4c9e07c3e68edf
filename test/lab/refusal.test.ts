/** Where the lab cannot be it says why, by name, and with the exit code of a machine that cannot. */
import { expect, test } from "bun:test";
import { join } from "node:path";
import { Rtnetlink } from "../../src/kernel/route/rtnetlink.ts";
import { act, StoryRecord, type Chapter, type StoryStep } from "../../src/lab/story.ts";
import { connectPod, ensureBridge } from "../../src/network/network.ts";
import { FaultPlan } from "../support/faulty-transport.ts";
import { run, testWith, type Ran } from "../support/witness.ts";
import { freshNamespace } from "../support/world.ts";

const WAYOUT = join(import.meta.dir, "..", "..", "bin", "wayout");

/** Runs a shell script in a mount namespace of its own. */
function privately(script: string): Ran {
  return run(undefined, ["unshare", "-m", "sh", "-ec", script], undefined, { ...process.env, WAYOUT });
}

/** A directory that holds everything of this machine and is no mount point itself. */
const LOOKALIKE = `mount -t tmpfs tmpfs /mnt && mkdir /mnt/root && cd / && for each in *; do
  if [ -L "$each" ]; then cp -P "$each" /mnt/root; elif [ -d "$each" ] && [ "$each" != mnt ]; then
    mkdir "/mnt/root/$each" && mount --rbind "/$each" "/mnt/root/$each"; fi; done`;

testWith(["root", "unshare", "chroot"])(
  "inside a chroot: told by name, and the way out that is told is one",
  () => {
    for (const command of ["lab", "lab --json"]) {
      const refused = privately(`${LOOKALIKE}; exec chroot /mnt/root "$WAYOUT" ${command}`);
      expect([command, refused.exitCode]).toEqual([command, 3]);
      expect(refused.stdout + refused.stderr).toContain("lives in a chroot");
    }
    const bound = `${LOOKALIKE}; mount --rbind /mnt/root /mnt/root; chroot /mnt/root "$WAYOUT" lab up >/dev/null`;
    expect(privately(`${bound}; exec chroot /mnt/root "$WAYOUT" lab down`)).toMatchObject({ exitCode: 0 });
  },
);

testWith(["root", "unshare"])(
  "fewer namespaces than the story needs: the setting is named, and no story is told",
  () => {
    // One for the story itself, and two of its four. A limit counts in the user namespace that it is set in.
    const limited = `echo 3 >/proc/sys/user/max_net_namespaces; exec "$WAYOUT" lab --json`;
    const refused = run(undefined, ["unshare", "-Urm", "sh", "-ec", limited], undefined, {
      ...process.env,
      WAYOUT,
    });
    expect(refused.exitCode).toBe(3);
    const { error } = JSON.parse(refused.stdout) as {
      error: { kind: string; message: string; todo: string };
    };
    expect(error.kind).toBe("machine");
    expect(error.todo).toContain("sysctl -w user.max_net_namespaces");
  },
);

testWith(["root"])("a kernel without veth: told by name", () => {
  const [node, pod] = [freshNamespace(), freshNamespace()];
  using route = Rtnetlink.open(node);
  const bridge = ensureBridge(route, { name: "br0", gateways: ["10.0.0.254/24"] }).link.index;
  const intent = {
    network: "net",
    container: "pod",
    interfaceName: "eth0",
    bridge,
    addresses: ["10.0.0.1/24"],
    routes: [],
  };
  const told: unknown[] = [];
  // Whichever of the messages it is that makes the pair, a kernel that lacks veth refuses it as a whole.
  for (let nth = 1, happened = true; happened; nth++) {
    const plan = new FaultPlan(nth, "refused");
    using faulty = plan.open(node);
    try {
      connectPod(faulty, pod, intent);
    } catch (error) {
      told.push(error);
    }
    happened = plan.happened;
  }
  expect(told).toContainEqual(
    expect.objectContaining({ kind: "machine", todo: expect.stringContaining("modprobe veth") }),
  );
});

const step = (ok: boolean): StoryStep => ({
  where: "here",
  command: "try",
  expected: "works",
  found: ok ? "works" : "fails",
  ok,
  evidence: [],
});

/** Acts chapters that go well or not; returns the numbers of those that were told, and the record's verdict. */
async function told(...chapters: readonly Pick<Chapter<undefined>, "act" | "needed">[]) {
  const record = new StoryRecord();
  const play = chapters.map((chapter, index) => ({ number: index + 1, title: "", intro: "", ...chapter }));
  await act(play, undefined, (event) => record.add(event));
  const { ok, chapters: reported } = record.report();
  return { ok, numbers: reported.map(({ number }) => number), last: reported.at(-1)?.steps.at(-1) };
}

test("a chapter that others need and that failed ends the story, and says so", async () => {
  const good = { act: (_: undefined, report: (step: StoryStep) => void) => report(step(true)) };
  const bad = { act: (_: undefined, report: (step: StoryStep) => void) => report(step(false)) };
  const broken = { act: () => Promise.reject(new Error("no route")) };
  expect(await told(good, good)).toMatchObject({ ok: true, numbers: [1, 2] });
  expect(await told({ ...good, needed: true }, good)).toMatchObject({ ok: true, numbers: [1, 2] });
  expect(await told(bad, good)).toMatchObject({ ok: false, numbers: [1, 2] });
  for (const failing of [bad, broken]) {
    const ended = await told({ ...failing, needed: true }, good, good);
    expect(ended).toMatchObject({ ok: false, numbers: [1], last: { ok: false, command: "chapters 2, 3" } });
  }
});
