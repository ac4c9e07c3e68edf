/**
 * Products that the tests put in wayout's way or beside it, as Debian packages them. They are fetched and unpacked, and never
 * installed: no script of theirs runs, and the machine stays as it is. Tests whose product could not be had say so.
 */
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";

const CACHE = join(import.meta.dir, "..", "node_modules", ".cache", "products");
/** What each needs besides what every machine with the witnesses has. */
const PACKAGES = {
  firewalld: [
    "firewalld",
    "python3-firewall",
    "python3-nftables",
    "python3-dbus",
    "python3-gi",
    "python3-cap-ng",
    "libnftables1",
    "libgirepository-1.0-1",
    "gir1.2-glib-2.0",
    "gir1.2-nm-1.0",
  ],
  ufw: ["ufw"],
  prometheus: ["prometheus"],
} as const;
export type Product = keyof typeof PACKAGES;

const FETCH_TIMEOUT_MS = 120_000;

/** Where a product is unpacked; undefined when it could not be fetched. */
export function productRoot(product: Product): string | undefined {
  const root = join(CACHE, product);
  return existsSync(root) ? root : undefined;
}

/** Fetches what is not there yet. As root of a Debian only; without a network nothing comes, and nothing fails. */
export function fetchProducts(): void {
  if (Bun.which("apt-get") === null || Bun.which("dpkg-deb") === null) return;
  for (const product of Object.keys(PACKAGES) as Product[]) {
    if (productRoot(product) !== undefined) continue;
    const directory = join(CACHE, `.${product}-${process.pid}`);
    mkdirSync(join(directory, "root"), { recursive: true });
    if (unpacked(directory, PACKAGES[product])) renameSync(join(directory, "root"), join(CACHE, product));
    else console.log(`${product} could not be fetched: its tests are skipped`);
    rmSync(directory, { recursive: true, force: true });
  }
}

function unpacked(directory: string, packages: readonly string[]): boolean {
  const run = (argv: string[]): boolean =>
    Bun.spawnSync(argv, { cwd: directory, stdout: "ignore", stderr: "ignore", timeout: FETCH_TIMEOUT_MS })
      .exitCode === 0;
  if (!run(["apt-get", "-q", "download", ...packages])) return false;
  return readdirSync(directory)
    .filter((name) => name.endsWith(".deb"))
    .every((name) => run(["dpkg-deb", "-x", name, "root"]));
}
