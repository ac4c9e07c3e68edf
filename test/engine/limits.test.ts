/** The small program where there is little: of address space, of memory, of room for its image. */
import { expect } from "bun:test";
import { bridgeNetwork, environmentOf, freshPod, type CniJson } from "../cni/plugin.ts";
import { podLinks, reserved } from "../cni/node.ts";
import { run, testWith } from "../support/witness.ts";
import { freshNamespace } from "../support/world.ts";
import { program, smallPlugin } from "./small-program.ts";

const withPrograms = testWith(["root", "ip", "nft", "musl-gcc"]);

withPrograms("64 MiB of address space are enough, for a network of two families, too", () => {
  const node = freshNamespace("node");
  const conf = bridgeNetwork({
    ipam: { type: "host-local", ranges: [[{ subnet: "10.42.0.0/24" }], [{ subnet: "fd00:42::/64" }]] },
  });
  const pod = freshPod();
  for (const command of ["ADD", "STATUS", "DEL"]) {
    const limited = ["bash", "-c", 'ulimit -v 65536; exec "$0"', smallPlugin()];
    const { exitCode, stderr } = run(node, limited, JSON.stringify(conf), environmentOf(command, pod));
    expect([command, exitCode, stderr]).toEqual([command, 0, ""]);
  }
  expect([podLinks(node), reserved(conf)]).toEqual([[], []]);
});

withPrograms(
  "with less and less of it a call works or says in JSON what is the matter, and leaves nothing",
  () => {
    const node = freshNamespace("node");
    const conf = bridgeNetwork();
    let refused = 0;
    for (let kilobytes = 1_000; kilobytes < 65_536; kilobytes += kilobytes < 16_000 ? 1_000 : 9_000) {
      const pod = freshPod();
      const limited = ["bash", "-c", `ulimit -v ${kilobytes}; exec "$0"`, smallPlugin()];
      const { exitCode, stdout } = run(node, limited, JSON.stringify(conf), environmentOf("ADD", pod));
      if (exitCode !== 0) {
        refused++;
        // Without room for the program itself it is the kernel that ends it, before it is one.
        if (stdout !== "") {
          const { code, msg, details } = JSON.parse(stdout) as CniJson;
          expect([kilobytes, code, `${msg} ${details}`]).toEqual([
            kilobytes,
            100,
            expect.stringMatching(/memory.*(?:ulimit -v)/),
          ]);
        }
      }
      run(node, [smallPlugin()], JSON.stringify(conf), environmentOf("DEL", pod));
      expect([kilobytes, podLinks(node), reserved(conf)]).toEqual([kilobytes, [], []]);
    }
    expect(refused).toBeGreaterThan(0);
  },
);

/** Where the engine's own code lies: nothing else can be mapped there. */
const TAKEN = "0x400000ul";

withPrograms("where the image's place is taken the bytecode is evaluated, with the same answer", async () => {
  const module =
    "__wayout.main = async () => { const b = __wayout.encodeUtf8(String([1n << 70n, /a+/.exec('caab')])); __wayout.libc.write(1, b, b.length); return 7; };";
  const there = run(undefined, [await program(module)], "", {});
  // Its image was made at the usual place, for at this one none can be made; only the start looks here.
  const moved = run(undefined, [await program(module, [`-DHEAP_START=${TAKEN}`])], "", {});
  expect(there).toEqual({ exitCode: 7, stdout: "1180591620717411303424,aa", stderr: "" });
  expect(moved).toEqual(there);
});

withPrograms(
  "a recursion without end is an error of the program, and memory without end as well",
  async () => {
    const module = `const down = (n) => n < 0 ? 0 : 1 + down(n + 1);
    __wayout.main = async () => {
      let said = "";
      try { down(0); } catch (error) { said += error.name; }
      const kept = [];
      try { for (;;) kept.push(new Uint8Array(1 << 20)); } catch (error) { said += " " + error.name + " " + (kept.length > 100); }
      kept.length = 0;
      const b = __wayout.encodeUtf8(said); __wayout.libc.write(1, b, b.length); return 0; };`;
    const { stdout, exitCode } = run(
      undefined,
      ["bash", "-c", 'ulimit -s 512; exec "$0"', await program(module)],
      "",
      {},
    );
    expect([exitCode, stdout]).toEqual([0, "RangeError InternalError true"]);
  },
);

withPrograms(
  "programs are run to their end: what they say, how they end, what they leave behind",
  async () => {
    const module = `__wayout.main = async () => {
      const run = (script, input, ms = 20000, stderr = 0) => {
        const ran = __wayout.runProgram(["/bin/sh", "-c", script], input, ["A=1"], stderr, ms);
        return [ran.status, __wayout.decodeUtf8(ran.stdout), __wayout.decodeUtf8(ran.stderr)];
      };
      const long = "x".repeat(300000);
      const said = [
        run("echo $A; echo bad >&2; exit 3"),
        run("cat; read x || echo end"),
        run("cat", __wayout.encodeUtf8("in")),
        run("cat", __wayout.encodeUtf8(long))[1] === long,
        run("exec <&-; echo no", __wayout.encodeUtf8(long)),
        run("kill -9 $$"),
        run("exec sleep 100", undefined, 200),
        run("echo a; exec >&- 2>&-; exit 5"),
        run("echo quiet >&2", undefined, 20000, 2),
        __wayout.runProgram(["/nonexistent/program"], undefined, undefined, 0, 1000).status,
      ];
      const b = __wayout.encodeUtf8(JSON.stringify(said)); __wayout.libc.write(1, b, b.length); return 0; };`;
    const trap = ["-fsanitize=undefined", "-fsanitize-undefined-trap-on-error"];
    const { stdout, stderr } = run(undefined, [await program(module, trap)], "", {});
    expect(stderr).toBe("");
    const [SIGKILL, SIGTERM, ENOENT] = [9, 15, 2];
    expect(JSON.parse(stdout)).toEqual([
      [3 << 8, "1\n", "bad\n"],
      [0, "end\n", ""],
      [0, "in", ""],
      true,
      [0, "no\n", ""],
      [SIGKILL, "", ""],
      [SIGTERM, "", ""],
      [5 << 8, "a\n", ""],
      [0, "", ""],
      -ENOENT,
    ]);
  },
);

withPrograms("a program's end is heard of although whoever started us ignores ends of programs", async () => {
  const module = `__wayout.main = async () => {
    const { status } = __wayout.runProgram(["/bin/sh", "-c", "exit 3"], undefined, undefined, 0, 20000);
    const b = __wayout.encodeUtf8(String(status)); __wayout.libc.write(1, b, b.length); return 0; };`;
  const ignoring = ["bash", "-c", `trap '' CHLD; exec "$0"`, await program(module)];
  expect(run(undefined, ignoring, "", {})).toEqual({ exitCode: 0, stdout: String(3 << 8), stderr: "" });
});
