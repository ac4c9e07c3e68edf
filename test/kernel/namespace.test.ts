import { expect } from "bun:test";
import { createNamedNamespace, deleteNamedNamespace, NetworkNamespace } from "../../src/kernel/namespace.ts";
import { testWith } from "../support/witness.ts";

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
