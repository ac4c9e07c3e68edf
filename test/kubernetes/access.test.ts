/** Who we are to the API server: accounts, kubeconfigs, programs that give credentials. */
import { expect } from "bun:test";
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { inClusterAccess, type ApiAccess } from "../../src/kubernetes/access.ts";
import { ApiClient } from "../../src/kubernetes/api-client.ts";
import { kubeconfigAccess } from "../../src/kubernetes/kubeconfig.ts";
import { afterThisTest } from "../support/teardown.ts";
import { ask, testWith } from "../support/witness.ts";
import { nodeObject, NODES, TestApiServer } from "./api-server.ts";
import { Authority } from "./certificates.ts";

const test = testWith(["openssl"]);

function folder(): string {
  const directory = mkdtempSync(join(tmpdir(), "wayout-access-"));
  afterThisTest(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

async function server(): Promise<TestApiServer> {
  const api = await TestApiServer.start();
  api.put(NODES, nodeObject("a", ["10.244.1.0/24"], ["192.0.2.1"]));
  return api;
}

async function answer(access: ApiAccess): Promise<string> {
  try {
    await new ApiClient(access, "wayout/test").json(NODES);
    return "yes";
  } catch (error) {
    return (error as Error).message;
  }
}

function base64(text: string): string {
  return Buffer.from(text).toString("base64");
}

interface KubeconfigParts {
  readonly cluster?: object;
  readonly user: object;
}

function kubeconfig(directory: string, api: TestApiServer, { cluster, user }: KubeconfigParts): string {
  const path = join(directory, "kubeconfig");
  const given = { server: api.url, "certificate-authority-data": base64(api.authority.cert), ...cluster };
  writeFileSync(
    path,
    JSON.stringify({
      kind: "Config",
      "current-context": "here",
      contexts: [{ name: "here", context: { cluster: "c", user: "u" } }],
      clusters: [{ name: "c", cluster: given }],
      users: [{ name: "u", user }],
    }),
  );
  return path;
}

test("a pod's account: its token is read again when it is renewed", async () => {
  const api = await server();
  const directory = folder();
  writeFileSync(join(directory, "ca.crt"), api.authority.cert);
  writeFileSync(join(directory, "token"), "token-of-the-test\n");
  const port = new URL(api.url).port;
  const pod = { KUBERNETES_SERVICE_HOST: "127.0.0.1", KUBERNETES_SERVICE_PORT: port };
  const access = inClusterAccess(undefined, pod, directory);
  expect(await answer(access)).toBe("yes");
  api.tokens.clear();
  api.tokens.add("renewed");
  expect(await answer(access)).toContain("401");
  writeFileSync(join(directory, "token"), "renewed");
  expect(await answer(access)).toBe("yes");
  // By its own address: the service's needs kube-proxy.
  expect(await answer(inClusterAccess(api.url, {}, directory))).toBe("yes");
  expect(() => inClusterAccess(undefined, {}, directory)).toThrow("this is no pod");
  const ipv6 = { KUBERNETES_SERVICE_HOST: "fd00::1" };
  expect(inClusterAccess(undefined, ipv6, directory).server).toBe("https://[fd00::1]");
});

test("a client certificate is presented, from the file or beside it, and one of a stranger is refused", async () => {
  const api = await server();
  const directory = folder();
  const { cert, key } = api.client("node");
  const inline = { "client-certificate-data": base64(cert), "client-key-data": base64(key) };
  expect(await answer(await kubeconfigAccess(kubeconfig(directory, api, { user: inline })))).toBe("yes");
  writeFileSync(join(directory, "me.crt"), cert);
  writeFileSync(join(directory, "me.key"), key);
  const beside = { "client-certificate": "me.crt", "client-key": join(directory, "me.key") };
  expect(await answer(await kubeconfigAccess(kubeconfig(directory, api, { user: beside })))).toBe("yes");
  const stranger = new Authority("another").sign("node");
  const foreign = {
    "client-certificate-data": base64(stranger.cert),
    "client-key-data": base64(stranger.key),
  };
  expect(await answer(await kubeconfigAccess(kubeconfig(directory, api, { user: foreign })))).toContain(
    "401",
  );
  expect(await answer(await kubeconfigAccess(kubeconfig(directory, api, { user: {} })))).toContain("401");
});

test("the server must prove itself: by the right authority, and by its name", async () => {
  const api = await server();
  const directory = folder();
  const user = { token: "token-of-the-test" };
  const open = (cluster: object) => kubeconfigAccess(kubeconfig(directory, api, { cluster, user }));
  expect(await answer(await open({}))).toBe("yes");
  const other = { "certificate-authority-data": base64(new Authority("another").cert) };
  expect(await answer(await open(other))).toContain("does not answer");
  expect(await answer(await open({ "tls-server-name": "kubernetes" }))).toBe("yes");
  expect(await answer(await open({ "tls-server-name": "somewhere.else" }))).toContain("does not answer");
  const insecure = { "certificate-authority-data": "", "insecure-skip-tls-verify": true };
  expect(await answer(await open(insecure))).toBe("yes");
});

test("an exec plugin gives a token, is asked once while it is good, and again when the server refuses it", async () => {
  const api = await server();
  const directory = folder();
  const program = join(directory, "give");
  const said = join(directory, "asked");
  const give = (token: string, expires: string): void => {
    const status = { token, expirationTimestamp: expires };
    const credential = { apiVersion: "client.authentication.k8s.io/v1", kind: "ExecCredential", status };
    writeFileSync(
      program,
      `#!/bin/sh\nprintf '%s %s %s\\n' "$1" "$WHO" "$KUBERNETES_EXEC_INFO" >> ${said}\necho '${JSON.stringify(credential)}'\n`,
    );
    chmodSync(program, 0o755);
  };
  give("token-of-the-test", "2999-01-01T00:00:00Z");
  const exec = {
    apiVersion: "client.authentication.k8s.io/v1",
    command: "./give",
    args: ["now"],
    env: [{ name: "WHO", value: "me" }],
    provideClusterInfo: true,
  };
  const access = await kubeconfigAccess(kubeconfig(directory, api, { user: { exec } }));
  expect([await answer(access), await answer(access)]).toEqual(["yes", "yes"]);
  const asked = (): string[] => readFileSync(said, "utf8").trim().split("\n");
  expect(asked()).toHaveLength(1);
  const [first = ""] = asked();
  expect(first).toStartWith("now me {");
  expect(JSON.parse(first.slice("now me ".length))).toMatchObject({
    kind: "ExecCredential",
    spec: { interactive: false, cluster: { server: api.url } },
  });
  api.tokens.clear();
  api.tokens.add("second");
  give("second", "2000-01-01T00:00:00Z");
  expect(await answer(access)).toContain("401");
  expect(await answer(access)).toBe("yes");
  // What has expired is not used again.
  expect(await answer(access)).toBe("yes");
  expect(asked()).toHaveLength(3);
  writeFileSync(program, "#!/bin/sh\necho 'log in first' >&2\nexit 3\n");
  expect(await answer(access)).toContain("log in first");
});

test("what a kubeconfig lacks is named", async () => {
  const api = await server();
  const directory = folder();
  const path = kubeconfig(directory, api, { user: { token: "x" } });
  const said = async (text: string, context?: string): Promise<string> => {
    writeFileSync(path, text);
    return kubeconfigAccess(path, { context }).then(
      () => "no word",
      (error: Error) => error.message,
    );
  };
  const good = readFileSync(path, "utf8");
  expect(await said(good)).toBe("no word");
  expect(await said(good, "nowhere")).toContain('context "nowhere": it is not there');
  expect(await said(good.replace(api.url, "http://192.0.2.1"))).toContain("is no address like https://");
  expect(await said(good.replace('"token":"x"', '"auth-provider":{"name":"gcp"}'))).toContain(
    "auth-provider",
  );
  expect(await said("a: [")).toContain("(line 1, column 5)");
  expect(await said("[]")).toContain("it is no map of keys and values (line 1");
  expect(await said("clusters: []")).toContain("it has no current-context");
  const wrong = (server: string): string =>
    `clusters:\n  - name: k\n    cluster:\n      server: ${server}\ncontexts: [{name: c, context: {cluster: k}}]\ncurrent-context: c\n`;
  expect(await said(wrong("7"))).toMatch(
    /reading the kubeconfig \S+: clusters\[0\]\.cluster\.server: .*\(line 4, column 15\)$/,
  );
  expect(await said("contexts: [{name: c, context: {}}]\ncurrent-context: c\n")).toContain(
    "contexts[0].context.cluster: is missing (line 1",
  );
  // The whole of a file is not repeated.
  expect((await said(`current-context: [${"x".repeat(100_000)}]`)).length).toBeLessThan(1_000);
  expect(await said("x".repeat(5_000_000))).toContain("at most");
  rmSync(path);
  expect(await said(good).then(() => kubeconfigAccess(directory).catch(String))).toContain(
    "is no regular file",
  );
  expect(await kubeconfigAccess(`${path}-no`).catch(String)).toMatch(/reading the kubeconfig \S+-no: ENOENT/);
  ask(undefined, ["mkfifo", `${path}-fifo`]);
  expect(await kubeconfigAccess(`${path}-fifo`).catch(String)).toContain("is no regular file");
});
