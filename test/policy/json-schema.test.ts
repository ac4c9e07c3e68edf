/** docs/policy.schema.json says of a policy's file what the schema says by which it is read. */
import { expect } from "bun:test";
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { tmpdir } from "node:os";
import { parse } from "yaml";
import { policyJsonSchema } from "../../src/policy/json-schema.ts";
import { parsePolicy } from "../../src/policy/policy-file.ts";
import { ask, testWith } from "../support/witness.ts";

const DOCS = join(import.meta.dir, "..", "..", "docs", "policy.schema.json");
const EXAMPLE = join(import.meta.dir, "..", "..", "examples", "nat-policy.yaml");

testWith([])("docs/policy.schema.json is made from the policy's schema", () => {
  expect(JSON.parse(readFileSync(DOCS, "utf8"))).toEqual(JSON.parse(JSON.stringify(policyJsonSchema())));
});

const GOOD = [
  "{}",
  readFileSync(EXAMPLE, "utf8"),
  "sources: [10.0.0.0/8, {cidr: 'fd00::/8', snat: 2001:db8::1, portRange: 1024}]",
  "{admit: docker-user, cidrLimit: 100, portRange: 1024-2047, outInterfaces: [eth0]}",
  "{admit: [ufw-route, firewalld-zone], masqLinkLocal: true, backend: iptables, resyncInterval: 1m30s}",
];
const BAD = [
  "sorces: []",
  "sources: 10.0.0.0/8",
  "sources: [ten/8]",
  "sources: [{snat: 203.0.113.5}]",
  "sources: [{cidr: 10.0.0.0/8, via: eth0}]",
  "nonMasqueradeCIDRs: [null]",
  "masqLinkLocal: 'yes'",
  "backend: pf",
  "admit: [docker]",
  "cidrLimit: -1",
  "cidrLimit: 1.5",
  "resyncInterval: 60",
  "portRange: [1, 2]",
];

/** Debian's validator, as another program would ask it. */
const WITNESS = `
import json, sys, jsonschema
schema, values = json.load(open(sys.argv[1])), json.load(open(sys.argv[2]))
validator = jsonschema.Draft202012Validator(schema)
validator.check_schema(schema)
print(json.dumps([validator.is_valid(value) for value in values]))
`;

testWith(["/usr/bin/jsonschema"])(
  "another program's validator agrees with how the file is read",
  async () => {
    const texts = [...GOOD, ...BAD];
    const read = await Promise.all(
      texts.map((text) =>
        parsePolicy(text, "policy.yaml").then(
          () => true,
          () => false,
        ),
      ),
    );
    expect(read).toEqual(texts.map((text) => GOOD.includes(text)));
    const path = join(tmpdir(), `wayout-policies-${process.pid}.json`);
    try {
      writeFileSync(path, JSON.stringify(texts.map((text) => parse(text) as unknown)));
      expect(JSON.parse(ask(undefined, ["/usr/bin/python3", "-c", WITNESS, DOCS, path]))).toEqual(read);
    } finally {
      rmSync(path, { force: true });
    }
  },
);
