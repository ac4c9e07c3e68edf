/** An authority of the test's own, and certificates that it signed, by openssl. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterThisTest } from "../support/teardown.ts";
import { ask } from "../support/witness.ts";

export interface Signed {
  readonly cert: string;
  readonly key: string;
}

export class Authority {
  readonly #directory = mkdtempSync(join(tmpdir(), "wayout-ca-"));
  readonly cert: string;
  #count = 0;

  constructor(name = "authority-of-the-test") {
    afterThisTest(() => rmSync(this.#directory, { recursive: true, force: true }));
    this.#newKey("ca.key");
    this.#openssl(
      "req",
      "-x509",
      "-new",
      "-key",
      "ca.key",
      "-subj",
      `/CN=${name}`,
      "-days",
      "2",
      "-out",
      "ca.crt",
    );
    this.cert = this.#read("ca.crt");
  }

  /** @param names what it is good for: `IP:127.0.0.1`, `DNS:localhost` */
  sign(commonName: string, ...names: readonly string[]): Signed {
    const [key, request, cert, extensions] = ["key", "csr", "crt", "ext"].map(
      (end) => `${this.#count}.${end}`,
    );
    this.#count++;
    this.#newKey(key!);
    this.#openssl("req", "-new", "-key", key!, "-subj", `/CN=${commonName}`, "-out", request!);
    writeFileSync(
      join(this.#directory, extensions!),
      names.length === 0 ? "" : `subjectAltName=${names.join(",")}\n`,
    );
    const signing = [
      "-CA",
      "ca.crt",
      "-CAkey",
      "ca.key",
      "-CAcreateserial",
      "-days",
      "2",
      "-extfile",
      extensions!,
    ];
    this.#openssl("x509", "-req", "-in", request!, ...signing, "-out", cert!);
    return { cert: this.#read(cert!), key: this.#read(key!) };
  }

  #newKey(name: string): void {
    this.#openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", name);
  }

  #openssl(...words: readonly string[]): void {
    ask(undefined, ["env", "-C", this.#directory, "openssl", ...words]);
  }

  #read(name: string): string {
    return readFileSync(join(this.#directory, name), "utf8");
  }
}
