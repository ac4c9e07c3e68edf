/**
 * Credentials that a program gives, as a kubeconfig names it (client.authentication.k8s.io): it is told in
 * KUBERNETES_EXEC_INFO what is wanted of it, and prints an ExecCredential. What it gave is used until it expires, or the
 * server refuses it.
 */
import { resolve } from "node:path";
import * as v from "valibot";
import { messageOf } from "../error.ts";
import { noAccess } from "./access.ts";
import { present } from "../present.ts";

const VERSIONS = ["client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1"] as const;
const TIMEOUT_MS = 60_000;
/** It is asked again so long before what it gave expires. */
const EARLY_MS = 30_000;

export const EXEC = v.object({
  apiVersion: v.picklist(VERSIONS, `exec plugins of ${VERSIONS.join(" and ")} can be asked`),
  command: v.string(),
  args: v.nullish(v.array(v.string())),
  env: v.nullish(v.array(v.object({ name: v.string(), value: v.string() }))),
  installHint: v.optional(v.string()),
  provideClusterInfo: v.optional(v.boolean()),
  interactiveMode: v.optional(v.string()),
});

const ANSWER = v.object({
  kind: v.literal("ExecCredential"),
  status: v.object({
    expirationTimestamp: v.optional(v.string()),
    token: v.optional(v.string()),
    clientCertificateData: v.optional(v.string()),
    clientKeyData: v.optional(v.string()),
  }),
});

/** Certificate and key as PEM. */
export interface GivenCredentials {
  readonly token?: string | undefined;
  readonly cert?: string | undefined;
  readonly key?: string | undefined;
}

export interface ClusterInfo {
  readonly server: string;
  readonly ca: () => string | undefined;
  readonly insecure: boolean;
  readonly serverName: string | undefined;
}

export class ExecCredentials {
  #kept: { readonly given: GivenCredentials; readonly until: number } | undefined;

  /** @param directory the kubeconfig's: a command with a slash in its name is looked for from there */
  constructor(
    private readonly exec: v.InferOutput<typeof EXEC>,
    private readonly directory: string,
    private readonly cluster: ClusterInfo,
    private readonly now: () => number = Date.now,
  ) {}

  /** @throws WayoutError `no-api-access` */
  async get(): Promise<GivenCredentials> {
    if (this.#kept !== undefined && this.now() < this.#kept.until - EARLY_MS) return this.#kept.given;
    const { status } = await this.#ask();
    const given = { token: status.token, cert: status.clientCertificateData, key: status.clientKeyData };
    const until = Date.parse(status.expirationTimestamp ?? "");
    this.#kept = { given, until: Number.isNaN(until) ? Number.POSITIVE_INFINITY : until };
    return given;
  }

  forget(): void {
    this.#kept = undefined;
  }

  async #ask(): Promise<v.InferOutput<typeof ANSWER>> {
    const { command, args, env, installHint } = this.exec;
    const doing = `asking ${command} for credentials`;
    const program = command.includes("/") ? resolve(this.directory, command) : command;
    try {
      const child = Bun.spawn([program, ...(args ?? [])], {
        env: {
          ...process.env,
          ...Object.fromEntries((env ?? []).map(({ name, value }) => [name, value])),
          KUBERNETES_EXEC_INFO: JSON.stringify(this.#info()),
        },
        stdin: "ignore",
        stdout: "pipe",
        stderr: "pipe",
        timeout: TIMEOUT_MS,
      });
      const [said, complaint, exitCode] = await Promise.all([
        new Response(child.stdout).text(),
        new Response(child.stderr).text(),
        child.exited,
      ]);
      if (exitCode !== 0) throw new Error(`it ended with ${exitCode}: ${complaint.trim().slice(0, 500)}`);
      return v.parse(ANSWER, JSON.parse(said));
    } catch (error) {
      throw noAccess(doing, messageOf(error), installHint);
    }
  }

  #info(): object {
    const { apiVersion, provideClusterInfo } = this.exec;
    const { server, ca, insecure, serverName } = this.cluster;
    const authority = ca();
    return {
      apiVersion,
      kind: "ExecCredential",
      spec: present({
        interactive: false,
        cluster:
          provideClusterInfo === true
            ? present({
                server,
                "tls-server-name": serverName,
                "insecure-skip-tls-verify": insecure || undefined,
                "certificate-authority-data":
                  authority === undefined ? undefined : Buffer.from(authority).toString("base64"),
              })
            : undefined,
      }),
    };
  }
}
