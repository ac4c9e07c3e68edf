/** A kubeconfig, as far as it says where a server is and who we are: certificates, tokens, and programs that give them. */
import { dirname, isAbsolute, resolve } from "node:path";
import * as v from "valibot";
import { WayoutError } from "../error.ts";
import { PolicyDocument } from "../policy/document.ts";
import { noAccess, readText, serverUrl, type ApiAccess, type ApiCredentials } from "./access.ts";
import { ExecCredentials, EXEC } from "./exec-credentials.ts";
import { present } from "../present.ts";

const text = v.optional(v.string());

const CLUSTER = v.object({
  server: v.string(),
  "certificate-authority": text,
  "certificate-authority-data": text,
  "tls-server-name": text,
  "insecure-skip-tls-verify": v.optional(v.boolean()),
});

const USER = v.object({
  "client-certificate": text,
  "client-certificate-data": text,
  "client-key": text,
  "client-key-data": text,
  token: text,
  tokenFile: text,
  username: text,
  exec: v.optional(EXEC),
  "auth-provider": v.optional(v.unknown()),
});

const CONTEXT = v.object({ cluster: v.string(), user: v.optional(v.string(), "") });

function named<K extends string, S extends v.GenericSchema>(key: K, schema: S) {
  return v.optional(
    v.array(v.object({ name: v.string(), [key]: v.nullish(schema) } as { name: v.StringSchema<undefined> })),
    [],
  );
}

const FILE = v.object({
  "current-context": v.optional(v.string(), ""),
  clusters: named("cluster", CLUSTER),
  users: named("user", USER),
  contexts: named("context", CONTEXT),
});

type Cluster = v.InferOutput<typeof CLUSTER>;
type User = v.InferOutput<typeof USER>;

export interface KubeconfigChoice {
  /** The context to use; the file's current one when undefined. */
  readonly context?: string | undefined;
  /** Instead of the address that the file has. */
  readonly server?: string | undefined;
}

/** @throws WayoutError `no-api-access` */
export async function kubeconfigAccess(
  path: string,
  { context, server }: KubeconfigChoice = {},
): Promise<ApiAccess> {
  const doing = `reading the kubeconfig ${path}`;
  const document = await PolicyDocument.read(readText(path, doing), path, { doing, todo: TODO }).catch(
    asNoAccess,
  );
  const file = v.safeParse(FILE, fieldsOf(document));
  if (!file.success) asNoAccess(document.refusedFor(file.issues, UNKNOWN_KEY));
  const { contexts, clusters, users } = file.output;
  const wanted = context ?? file.output["current-context"];
  if (wanted === "") {
    throw noAccess(
      doing,
      "it has no current-context",
      `Name one: --context NAME. Its contexts: ${namesOf(contexts)}.`,
    );
  }
  const find = <S extends v.GenericSchema>(
    list: readonly { readonly name: string }[],
    key: "context" | "cluster" | "user",
    name: string,
    schema: S,
  ): v.InferOutput<S> => {
    const index = list.findIndex((one) => one.name === name);
    if (index < 0) throw noAccess(doing, `${key} "${name}": it is not there`, `There are: ${namesOf(list)}.`);
    const parsed = v.safeParse(schema, (list[index] as Readonly<Record<string, unknown>>)[key]);
    if (parsed.success) return parsed.output;
    asNoAccess(document.refusedFor(parsed.issues, UNKNOWN_KEY, [`${key}s`, index, key]));
  };
  const { cluster, user } = find(contexts, "context", wanted, CONTEXT);
  return new KubeconfigAccess(
    path,
    {
      ...find(clusters, "cluster", cluster, CLUSTER),
      ...present({ server }),
    },
    user === "" ? {} : find(users, "user", user, USER),
  );
}

class KubeconfigAccess implements ApiAccess {
  readonly server: string;
  readonly #doing: string;
  readonly #exec: ExecCredentials | undefined;

  constructor(
    private readonly path: string,
    private readonly cluster: Cluster,
    private readonly user: Partial<User>,
  ) {
    this.#doing = `reading the kubeconfig ${path}`;
    this.server = serverUrl(cluster.server, this.#doing);
    if (user["auth-provider"] !== undefined || user.username !== undefined) {
      throw noAccess(
        this.#doing,
        "its user has an auth-provider or a password, which API servers do not know any more",
        "Give it a certificate, a token or an exec plugin.",
      );
    }
    this.#exec =
      user.exec === undefined
        ? undefined
        : new ExecCredentials(user.exec, dirname(path), {
            server: this.server,
            ca: () => this.#file(cluster["certificate-authority-data"], cluster["certificate-authority"]),
            insecure: cluster["insecure-skip-tls-verify"] === true,
            serverName: cluster["tls-server-name"],
          });
  }

  async credentials(): Promise<ApiCredentials> {
    const { cluster, user } = this;
    const ca = this.#file(cluster["certificate-authority-data"], cluster["certificate-authority"]);
    const given = await this.#exec?.get();
    const cert = given?.cert ?? this.#file(user["client-certificate-data"], user["client-certificate"]);
    const key = given?.key ?? this.#file(user["client-key-data"], user["client-key"]);
    // As kubectl has it: a token written in the file goes before the one of a file.
    const bearer = given?.token ?? user.token ?? this.#file(undefined, user.tokenFile)?.trim();
    const serverName = cluster["tls-server-name"];
    return present({
      tls: {
        ...present({ ca }),
        ...(cert === undefined || key === undefined ? {} : { cert, key }),
        ...present({
          serverName,
          rejectUnauthorized: cluster["insecure-skip-tls-verify"] === true ? false : undefined,
        }),
      },
      bearer: bearer === undefined || bearer === "" ? undefined : bearer,
    });
  }

  refused(): void {
    this.#exec?.forget();
  }

  /** What stands in the file goes before what it names; relative paths are the file's. */
  #file(data: string | undefined, path: string | undefined): string | undefined {
    if (data !== undefined && data !== "") return Buffer.from(data, "base64").toString("utf8");
    if (path === undefined || path === "") return undefined;
    return readText(isAbsolute(path) ? path : resolve(dirname(this.path), path), this.#doing);
  }
}

/** As kubectl itself shows a file that it can use. */
const TODO =
  "Give a kubeconfig as kubectl has it: kubectl config view --kubeconfig FILE shows how it reads one.";
/** A kubeconfig may hold more than we read. */
const UNKNOWN_KEY = (): string => "unknown key";
const MOST_NAMED = 10;

function namesOf(list: readonly { readonly name: string }[]): string {
  const names = list.slice(0, MOST_NAMED).map(({ name }) => name);
  return names.length === 0 ? "none" : [...names, ...(list.length > MOST_NAMED ? ["…"] : [])].join(", ");
}

function fieldsOf(document: PolicyDocument): unknown {
  try {
    return document.fields();
  } catch (error) {
    return asNoAccess(error);
  }
}

/** What is wrong with the file's text. @throws WayoutError `no-api-access` */
function asNoAccess(error: unknown): never {
  if (error instanceof WayoutError) throw noAccess(error.doing, error.said, error.todo);
  throw error;
}
