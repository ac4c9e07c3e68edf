/** Throw-away namespaces for tests. scripts/test.ts gives the whole run a private /run/netns, so names cannot clash. */
import { echo } from "../../src/kernel/echo.ts";
import { createNamedNamespace, deleteNamedNamespace } from "../../src/kernel/named-namespace.ts";
import { NetworkNamespace } from "../../src/kernel/namespace.ts";
import { Rtnetlink } from "../../src/kernel/route/rtnetlink.ts";
import { afterThisTest } from "./teardown.ts";

let count = 0;

/** A fresh namespace with a name of its own and loopback up; closed and deleted after the test that made it. */
export function freshNamespace(prefix = "t"): NetworkNamespace {
  return namespaceNamed(`${prefix}-${process.pid}-${++count}`);
}

/** The same with this very name, for tests in which people read it. */
export function namespaceNamed(name: string): NetworkNamespace {
  createNamedNamespace(name);
  const namespace = NetworkNamespace.named(name);
  afterThisTest(() => {
    namespace.close();
    deleteNamedNamespace(name);
  });
  using links = Rtnetlink.open(namespace);
  links.setLink("lo", { up: true });
  return namespace;
}

/** Returns once the kernel's link watch has seen the carriers, up to a second after links came up: IPv6 waits for that. */
export function awaitNeighbour(from: NetworkNamespace, address: string): void {
  for (let attempt = 0; attempt < 30; attempt++) {
    try {
      if (echo(from, address, 100) !== undefined) return;
    } catch {
      // No route yet, for the same reason.
    }
    Bun.sleepSync(50);
  }
  throw new Error(`${address} does not answer`);
}
