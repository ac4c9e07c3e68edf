/** The inner half of scripts/test.ts: in fresh namespaces, makes the places private that tests write to, then tests. */
import { join } from "node:path";
import { execve } from "../src/kernel/libc.ts";
import { Rtnetlink } from "../src/kernel/route/rtnetlink.ts";
import { makePlacesPrivate } from "./isolation.ts";

const root = join(import.meta.dir, "..");
const [report, ...paths] = process.argv.slice(2) as [string, ...string[]];

/** Of one test, against those that hang: the longest take half a minute on two processors that do nothing else. */
const LIMIT_MS = 180_000;

makePlacesPrivate();
raiseLoopback();
execve(
  process.execPath,
  [
    process.execPath,
    "test",
    `--timeout=${LIMIT_MS}`,
    `--preload=${join(root, "test", "support", "hooks.ts")}`,
    "--reporter=junit",
    `--reporter-outfile=${report}`,
    ...(paths.length > 0 ? paths.map((path) => join(process.cwd(), path)) : [join(root, "test")]),
  ],
  process.env,
);

/** A new network namespace has its loopback down; tests listen there. */
function raiseLoopback(): void {
  using route = Rtnetlink.open();
  route.setLink("lo", { up: true });
}
