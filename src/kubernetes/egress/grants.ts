/**
 * Which namespace may leave with which addresses, as the node's administrator says it in a file:
 *
 *     namespaces:
 *       shop: [203.0.113.50, "2001:db8:113::50"]
 *       lab: [203.0.113.64/28]
 *     fallback: drop      # or node: what cannot leave as it asks
 *     pods: false         # whether a pod's own annotation counts, before its namespace's
 */
import * as v from "valibot";
import { cidrContains, parseCidr } from "../../address/cidr.ts";
import { AddressError } from "../../address/ip.ts";
import { messageOf, WayoutError } from "../../error.ts";
import { fileVersion } from "../../kernel/file.ts";
import { readSettings } from "../../kernel/settings-file.ts";
import { PolicyDocument, type Refusing } from "../../policy/document.ts";

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

/** @throws WayoutError `bad-policy` naming key, line and column */
export function grantsOf(document: PolicyDocument): EgressGrants {
  const result = v.safeParse(GRANTS, document.fields());
  if (!result.success) {
    throw document.refusedFor(result.issues, () => `unknown key; known keys are ${KEYS.join(", ")}`);
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

const KEYS = Object.keys(GRANTS.entries);
const TODO = "docs/kubernetes.md shows what stands in it.";

/** Whoever tells it says himself what was being done. */
function saidBy(error: unknown): string {
  return error instanceof WayoutError ? error.said : messageOf(error);
}

/** Follows the file: what cannot be used leaves what was said before in force. */
export class GrantsFile {
  #seen = "";
  #grants: EgressGrants;
  #trouble: string | undefined;

  private constructor(
    private readonly path: string,
    private readonly document: (text: string, name: string, refusing: Refusing) => PolicyDocument,
  ) {
    this.#grants = this.#read();
  }

  /** @throws WayoutError `bad-egress-grants` for a file that cannot be used at the start */
  static async open(path: string): Promise<GrantsFile> {
    const reader = await PolicyDocument.reader();
    try {
      return new GrantsFile(path, reader);
    } catch (error) {
      throw new WayoutError({
        code: "bad-egress-grants",
        kind: "usage",
        doing: `reading ${path}`,
        said: saidBy(error),
        todo: TODO,
        cause: error,
      });
    }
  }

  /** The same value as long as the file says the same. */
  get grants(): EgressGrants {
    try {
      if (fileVersion(this.path) !== this.#seen) this.#grants = this.#read();
    } catch (error) {
      this.#trouble = `${this.path} cannot be used, and what it said before stays in force: ${saidBy(error)}`;
    }
    return this.#grants;
  }

  get trouble(): string | undefined {
    return this.#trouble;
  }

  #read(): EgressGrants {
    this.#seen = fileVersion(this.path);
    const refusing = { doing: `reading ${this.path}`, todo: TODO };
    const grants = grantsOf(this.document(readSettings(this.path), this.path, refusing));
    this.#trouble = undefined;
    return grants;
  }
}
