/**
 * Where the API server is, how it proves itself, and who we are to it: the account of a pod, or a kubeconfig. What may
 * change while we run (a pod's token is renewed every hour or so, certificates are rotated) is read for each request:
 * they are few.
 */
import { isIp, ipFamily } from "../address/ip.ts";
import { messageOf, WayoutError } from "../error.ts";
import { readSettings } from "../kernel/settings-file.ts";
import { present } from "../present.ts";

/** PEM texts, as `fetch` takes them. */
export interface ApiTls {
  /** Absent: the authorities that this machine trusts. */
  readonly ca?: string;
  readonly cert?: string;
  readonly key?: string;
  /** The name that the server's certificate must have, where it is another than the address's. */
  readonly serverName?: string;
  /** False: any server that answers is believed; only where a kubeconfig says so. */
  readonly rejectUnauthorized?: false;
}

export interface ApiCredentials {
  readonly tls: ApiTls;
  readonly bearer?: string;
}

export interface ApiAccess {
  /** `https://192.0.2.1:6443`, without a path at its end. */
  readonly server: string;
  /** As they are now. @throws WayoutError `no-api-access` */
  credentials(): Promise<ApiCredentials>;
  /** The server did not accept them (401): what was kept is not used again. */
  refused(): void;
}

/** Where a pod finds its account. */
const ACCOUNT_DIRECTORY = "/var/run/secrets/kubernetes.io/serviceaccount";

/**
 * The account that kubelet mounts into a pod.
 * @param server instead of the address of the service `kubernetes`, which needs kube-proxy before it answers
 * @throws WayoutError `no-api-access`
 */
export function inClusterAccess(
  server: string | undefined,
  environment: Readonly<Record<string, string | undefined>> = process.env,
  directory: string = ACCOUNT_DIRECTORY,
): ApiAccess {
  const doing = "finding the API server from inside a pod";
  const host = environment["KUBERNETES_SERVICE_HOST"];
  const port = environment["KUBERNETES_SERVICE_PORT"] ?? "443";
  if (server === undefined && host === undefined) {
    throw noAccess(
      doing,
      "KUBERNETES_SERVICE_HOST is not set: this is no pod",
      "Outside of a pod name a kubeconfig: --kubeconfig FILE.",
    );
  }
  const address = host !== undefined && isIp(host) && ipFamily(host) === 6 ? `[${host}]` : host;
  const read = (name: string): string => readText(`${directory}/${name}`, doing);
  return {
    server: serverUrl(server ?? `https://${address}:${port}`, doing),
    async credentials() {
      return { tls: { ca: read("ca.crt") }, bearer: read("token").trim() };
    },
    refused() {},
  };
}

/** @throws WayoutError `no-api-access` */
export function serverUrl(text: string, doing: string): string {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url?.protocol === "https:" && url.username === "" && url.search === "" && url.hash === "")
    return `https://${url.host}${url.pathname.replace(/\/+$/, "")}`;
  throw noAccess(doing, `"${text}" is no address like https://192.0.2.1:6443`);
}

/** @throws WayoutError `no-api-access` */
export function readText(path: string, doing: string): string {
  try {
    return readSettings(path);
  } catch (error) {
    throw noAccess(doing, messageOf(error));
  }
}

export function noAccess(doing: string, said: string, todo?: string): WayoutError {
  return new WayoutError(
    present({
      code: "no-api-access",
      kind: "usage",
      doing,
      said,
      todo,
    }),
  );
}
