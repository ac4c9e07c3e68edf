import { expect } from "bun:test";
import { createNamedNamespace, deleteNamedNamespace } from "../../src/kernel/named-namespace.ts";
import { NetworkNamespace } from "../../src/kernel/namespace.ts";
import { join } from "node:path";
import { ask, testWith } from "../support/witness.ts";

function remade(name: string): { inode: number; cookie: string } {
  createNamedNamespace(name);
  using namespace = NetworkNamespace.named(name);
  const found = { inode: namespace.inode, cookie: namespace.cookie };
  deleteNamedNamespace(name);
  return found;
}

testWith(["root"])("a namespace's cookie is its own, also when its inode is used again", () => {
  using home = NetworkNamespace.current();
  using again = NetworkNamespace.current();
  expect(home.cookie).toMatch(/^\d+$/);
  expect(again.cookie).toBe(home.cookie);
  const all = Array.from({ length: 5 }, () => remade(`cookie-${process.pid}`));
  expect(new Set([home.cookie, ...all.map(({ cookie }) => cookie)]).size).toBe(6);
});

testWith(["root"])("a name is taken once, and can be given back", () => {
  const name = `named-${process.pid}`;
  createNamedNamespace(name);
  try {
    expect(() => createNamedNamespace(name)).toThrow(/EEXIST/);
  } finally {
    expect(deleteNamedNamespace(name)).toBe(true);
  }
  expect(deleteNamedNamespace(name)).toBe(false);
  expect(() => NetworkNamespace.named(name)).toThrow(/ENOENT/);
});

testWith(["root", "unshare", "mount"])(
  "names are kept on a mount of their own, also where an older one is hidden below a new /run",
  () => {
    const module = join(import.meta.dir, "..", "..", "src", "kernel", "named-namespace.ts");
    const script = `import { createNamedNamespace } from ${JSON.stringify(module)}; createNamedNamespace("hidden")`;
    const hide = "mkdir -p /run/netns && mount --bind /run/netns /run/netns && mount -t tmpfs tmpfs /run";
    ask(undefined, [
      "unshare",
      "-m",
      "sh",
      "-c",
      // Only the kernel knows: what cannot be unmounted is no mount.
      `${hide} && "$0" -e "$1" && umount /run/netns/hidden && umount /run/netns`,
      process.execPath,
      script,
    ]);
  },
);
