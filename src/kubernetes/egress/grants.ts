/**
 * Which namespace may leave with which addresses, as the node's administrator says it in a file:
 *
 *     namespaces:
 *       shop: [203.0.113.50, "2001:db8:113::50"]
 *       lab: [203.0.113.64/28]
 *     fallback: drop      # or node: what cannot leave as it asks
 *     pods: false         # whether a pod's own annotation counts, before its namespace's
 */
import { readFileSync } from "node:fs";
import * as v from "valibot";
import { cidrContains, parseCidr } from "../../address/cidr.ts";
import { AddressError } from "../../address/ip.ts";
import { messageOf, WayoutError } from "../../error.ts";
import { fileVersion } from "../../kernel/file.ts";

export interface EgressGrants {
  readonly fallback: "drop" | "node";
  readonly pods: boolean;
  readonly isGranted: (namespace: string, address: string) => boolean;
}

const prefix = v.pipe(
  v.string("must be an address, or a prefix like 203.0.113.64/28"),
  v.check((text) => {
    try {
      parseCidr(text);
      return true;
    } catch (error) {
      if (error instanceof AddressError) return false;
      throw error;
    }
  }, "must be an address, or a prefix like 203.0.113.64/28"),
  v.transform((text) => parseCidr(text)),
);

const GRANTS = v.strictObject({
  namespaces: v.record(v.string(), v.array(prefix, "must be a list of addresses")),
  fallback: v.optional(v.picklist(["drop", "node"], "must be drop or node"), "drop"),
  pods: v.optional(v.boolean("must be true or false"), false),
});

/** @throws Error naming the key */
export function parseGrants(value: unknown): EgressGrants {
  const result = v.safeParse(GRANTS, value);
  if (!result.success) {
    const problems = result.issues.map(({ path = [], message }) => {
      const where = path.map(({ key }) => String(key)).join(".");
      return where === "" ? message : `${where}: ${message}`;
    });
    throw new Error(problems.join("; "));
  }
  const { namespaces, fallback, pods } = result.output;
  return {
    fallback,
    pods,
    isGranted: (namespace, address) =>
      Object.hasOwn(namespaces, namespace) &&
      namespaces[namespace]!.some((cidr) => cidrContains(cidr, address)),
  };
}

/** Follows the file: what cannot be used leaves what was said before in force. */
export class GrantsFile {
  #seen = "";
  #grants: EgressGrants;
  #trouble: string | undefined;

  private constructor(
    private readonly path: string,
    private readonly parse: (text: string) => unknown,
  ) {
    this.#grants = this.#read();
  }

  /** @throws WayoutError `bad-egress-grants` for a file that cannot be used at the start */
  static async open(path: string): Promise<GrantsFile> {
    const { parse } = await import("yaml");
    try {
      return new GrantsFile(path, (text) => parse(text));
    } catch (error) {
      throw new WayoutError({
        code: "bad-egress-grants",
        kind: "usage",
        doing: `reading ${path}`,
        said: messageOf(error),
        todo: "docs/kubernetes.md shows what stands in it.",
        cause: error,
      });
    }
  }

  /** The same value as long as the file says the same. */
  get grants(): EgressGrants {
    try {
      if (fileVersion(this.path) !== this.#seen) this.#grants = this.#read();
    } catch (error) {
      this.#trouble = `${this.path} cannot be used, and what it said before stays in force: ${messageOf(error)}`;
    }
    return this.#grants;
  }

  get trouble(): string | undefined {
    return this.#trouble;
  }

  #read(): EgressGrants {
    this.#seen = fileVersion(this.path);
    const grants = parseGrants(this.parse(readFileSync(this.path, "utf8")));
    this.#trouble = undefined;
    return grants;
  }
}
