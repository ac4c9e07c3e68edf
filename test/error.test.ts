/** Messages of errors: what we were doing, what the kernel said, each path once. */
import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { messageOf, WayoutError } from "../src/error.ts";
import { ERRNO, SystemError } from "../src/linux/errno.ts";

const MISSING = "/nonexistent/policy.yaml";

function said(doing: string, error: unknown): string {
  return new WayoutError({ code: "x", kind: "usage", doing, said: messageOf(error) }).message;
}

function nodeError(): unknown {
  try {
    return readFileSync(MISSING);
  } catch (error) {
    return error;
  }
}

test("a path that is named already is not said twice", () => {
  expect(said(`reading ${MISSING}`, nodeError())).toBe(
    `reading ${MISSING}: ENOENT: no such file or directory`,
  );
  const refused = new SystemError("open", ERRNO.EACCES, MISSING);
  expect(said(`reading ${MISSING}`, refused)).toBe(`reading ${MISSING}: open: permission denied (EACCES)`);
});

test("another path stays", () => {
  expect(said("reading the policy", nodeError())).toContain(MISSING);
  const refused = new SystemError("open", ERRNO.EACCES, "/etc/other");
  expect(said(`reading ${MISSING}`, refused)).toContain("open /etc/other: ");
});

test("where a limit of the machine refused, that is to be raised, and nothing else is broken", () => {
  const cause = new SystemError("socket", ERRNO.EMFILE);
  const parts = {
    code: "nat-refused",
    kind: "broken",
    doing: "reading rules",
    said: cause.message,
    cause,
  } as const;
  expect(new WayoutError(parts)).toMatchObject({
    kind: "machine",
    todo: expect.stringContaining("ulimit -n"),
  });
  expect(new WayoutError({ ...parts, todo: "Wait." })).toMatchObject({ todo: "Wait." });
  const other = new SystemError("socket", ERRNO.EPERM);
  expect(new WayoutError({ ...parts, cause: other })).toMatchObject({ kind: "broken", todo: undefined });
});
