/** Throw-away namespaces for tests. scripts/test.ts gives the whole run a private /run/netns, so names cannot clash. */
import { createNamedNamespace, deleteNamedNamespace, NetworkNamespace } from "../../src/kernel/namespace.ts";
import { afterThisTest } from "./teardown.ts";
import { ask } from "./witness.ts";

let count = 0;

/** A fresh named namespace with loopback up; closed and deleted after the test that made it. */
export function freshNamespace(prefix = "t"): NetworkNamespace {
  const name = `${prefix}-${process.pid}-${++count}`;
  createNamedNamespace(name);
  const namespace = NetworkNamespace.named(name);
  afterThisTest(() => {
    namespace.close();
    deleteNamedNamespace(name);
  });
  ask(namespace, ["ip", "link", "set", "lo", "up"]);
  return namespace;
}
