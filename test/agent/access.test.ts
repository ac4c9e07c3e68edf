/** Who may ask the agent what: every kind of caller against every kind of question. */
import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import {
  isSameSecret,
  refusal,
  type Access,
  type AccessRules,
  type Caller,
} from "../../src/agent/api/access.ts";
import { openApiDocument } from "../../src/agent/api/openapi.ts";
import { ROUTES } from "../../src/agent/api/routes.ts";

const RULES: AccessRules = {
  token: "secret-secret-secret",
  hosts: new Set(["node-1.example"]),
  remotePeers: false,
};
const PROVEN: Caller = {
  over: "http",
  peer: "127.0.0.1",
  host: "localhost:7070",
  authorization: "Bearer secret-secret-secret",
};

function said(caller: Caller, access: Access, rules = RULES): string {
  return refusal(caller, access, rules)?.code ?? "welcome";
}

test("the socket is root's, and needs no proof", () => {
  for (const access of ["open", "read", "act"] as const)
    expect(said({ over: "socket" }, access)).toBe("welcome");
});

describe("over HTTP", () => {
  test("the token opens everything, and without it only the open door stands open", () => {
    const { authorization: _, ...bare } = PROVEN;
    for (const access of ["open", "read", "act"] as const) {
      expect(said(PROVEN, access)).toBe("welcome");
      expect(said(bare, access)).toBe(access === "open" ? "welcome" : "no-token");
    }
    for (const authorization of [
      "",
      "Bearer",
      "Bearer ",
      "Bearer secret",
      "Basic secret-secret-secret",
      "Bearer secret-secret-secret x",
    ]) {
      expect(said({ ...PROVEN, authorization }, "read")).toBe("no-token");
    }
  });

  test("a name that is not this agent's is refused, whatever it is asked", () => {
    for (const host of [
      "evil.example",
      "evil.example:7070",
      "127.0.0.1.evil.example",
      "localhost.evil.example",
      "[::2]:7070",
      "10.0.0.1:7070",
      "",
    ]) {
      expect(said({ ...PROVEN, host }, "open")).toBe("wrong-host");
    }
    expect(said({ over: "http", peer: "127.0.0.1" }, "open")).toBe("wrong-host");
    for (const host of ["127.0.0.1:7070", "[::1]:7070", "LOCALHOST", "node-1.example:80"]) {
      expect(said({ ...PROVEN, host }, "read")).toBe("welcome");
    }
  });

  test("a peer from elsewhere is refused unless that was asked for", () => {
    for (const peer of ["10.213.0.2", "203.0.113.9", "::ffff:10.0.0.1", "2001:db8::1", "128.0.0.1", ""]) {
      expect(said({ ...PROVEN, peer }, "open")).toBe("remote-peer");
      expect(said({ ...PROVEN, peer }, "read", { ...RULES, remotePeers: true })).toBe("welcome");
    }
    for (const peer of ["127.9.9.9", "::1", "::ffff:127.0.0.1"])
      expect(said({ ...PROVEN, peer }, "read")).toBe("welcome");
  });

  test("what changes or probes something is not done for pages of others", () => {
    for (const fields of [
      { origin: "http://evil.example" },
      { origin: "null" },
      { origin: "http://localhost:7071" },
      { fetchSite: "cross-site" },
      { fetchSite: "same-site" },
      { fetchSite: "none" },
      { fetchSite: "cross-site", origin: "http://localhost:7070" },
    ]) {
      expect(said({ ...PROVEN, ...fields }, "act")).toBe("cross-origin");
    }
    expect(said({ ...PROVEN, origin: "http://localhost:7070", fetchSite: "same-origin" }, "act")).toBe(
      "welcome",
    );
  });
});

test("only what changes nothing is asked with GET, and all but the heartbeat needs proof", () => {
  for (const { method, access, path } of ROUTES) {
    expect([path, access === "act"]).toEqual([path, method === "POST"]);
    expect([path, access === "open"]).toEqual([path, path === "/healthz"]);
  }
});

test("secrets are compared whole", () => {
  expect(isSameSecret("a", "a")).toBe(true);
  for (const wrong of ["", "b", "ab", "A"]) expect(isSameSecret(wrong, "a")).toBe(false);
});

test("docs/openapi.json is made from the routes", () => {
  const path = join(import.meta.dir, "..", "..", "docs", "openapi.json");
  // After a change of the routes: bin/bun scripts/openapi-doc.ts
  expect(JSON.parse(readFileSync(path, "utf8"))).toEqual(JSON.parse(JSON.stringify(openApiDocument())));
});
