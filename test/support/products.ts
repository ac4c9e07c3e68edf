/**
 * firewalld, ufw and others at work on a node of a test's own, from their unpacked packages (scripts/products.ts): in a mount
 * namespace in which /usr and /etc have them as well.
 */
import { existsSync, mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { test } from "bun:test";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { productRoot, type Product } from "../../scripts/products.ts";
import type { NetworkNamespace } from "../../src/kernel/namespace.ts";
import { afterThisTest } from "./teardown.ts";
import { ask, isRealRoot, run, type Ran } from "./witness.ts";

const TIMEOUT_MS = 60_000;

/** `test`, for what needs a product; a skip says which, and counts as nobody's failure. */
export function testWithProduct(product: Product, programs: readonly string[] = []): typeof test {
  const missing = programs.filter((program) => Bun.which(program) === null);
  if (productRoot(product) !== undefined && missing.length === 0 && isRealRoot) return test;
  const skip = (name: string, ...rest: unknown[]): void => {
    const what = isRealRoot ? [product, ...missing].join(", ") : "real-root";
    const reason = isRealRoot ? `the product ${what}` : what;
    (test.skip as (...args: unknown[]) => void)(`${name} [needs ${reason}]`, ...rest);
  };
  return skip as unknown as typeof test;
}

export class HouseOfProducts {
  readonly #keeper: ReturnType<typeof Bun.spawn>;

  private constructor(
    private readonly node: NetworkNamespace,
    keeper: ReturnType<typeof Bun.spawn>,
  ) {
    this.#keeper = keeper;
  }

  static async of(node: NetworkNamespace, ...products: readonly Product[]): Promise<HouseOfProducts> {
    const directory = mkdtempSync(join(tmpdir(), "wayout-product-"));
    const roots = products.map((product) => productRoot(product)!);
    const copies = roots.map((root) => `test ! -d ${root}/etc || cp -a ${root}/etc/. ${directory}/etc/`);
    const libraries = roots.map((root) => `test ! -d ${root}/lib || cp -a ${root}/lib/. /lib/`);
    // Upper directories are no part of an overlay themselves: the test's own folder may lie on one.
    const script = `set -e
mount --make-rprivate /
mount -t tmpfs product ${directory}
mkdir ${directory}/upper ${directory}/work ${directory}/etc
cp -a /etc/. ${directory}/etc/
${copies.join("\n")}
mount -t overlay overlay -o lowerdir=${roots.map((root) => `${root}/usr:`).join("")}/usr,upperdir=${directory}/upper,workdir=${directory}/work /usr
${libraries.join("\n")}
mount --bind ${directory}/etc /etc
echo ready
exec sleep 600`;
    const keeper = Bun.spawn(["unshare", "-m", "bash", "-c", script], { stdout: "pipe", stderr: "inherit" });
    afterThisTest(async () => {
      keeper.kill("SIGKILL");
      await keeper.exited;
      rmSync(directory, { recursive: true, force: true });
    });
    const { value } = await keeper.stdout.getReader().read();
    if (!new TextDecoder().decode(value).includes("ready"))
      throw new Error(`${products.join()} could not be set up`);
    return new HouseOfProducts(node, keeper);
  }

  /** What starts a program in the house. */
  get wrapper(): readonly string[] {
    return ["nsenter", "-t", String(this.#keeper.pid), "-m", "--"];
  }

  run(...command: readonly string[]): Ran {
    return run(this.node, [...this.wrapper, ...command]);
  }

  ask(...command: readonly string[]): string {
    return ask(this.node, [...this.wrapper, ...command]);
  }

  /** A program that stays until the test ends. */
  start(...command: readonly string[]): ReturnType<typeof Bun.spawn> {
    const child = this.node.run(() =>
      Bun.spawn([...this.wrapper, ...command], { stdout: "ignore", stderr: "ignore" }),
    );
    afterThisTest(async () => {
      child.kill();
      await child.exited;
    });
    return child;
  }
}

/** firewalld as a distribution starts it, with a bus of its own; up when this resolves. Kill it with SIGTERM to end it. */
export async function startFirewalld(house: HouseOfProducts): Promise<ReturnType<typeof Bun.spawn>> {
  const actions = "/usr/share/polkit-1/actions/org.fedoraproject.FirewallD1";
  house.ask("cp", `${actions}.server.policy.choice`, `${actions}.policy`);
  if (!existsSync("/run/dbus")) {
    mkdirSync("/run/dbus", { recursive: true });
    afterThisTest(() => rmSync("/run/dbus", { recursive: true, force: true }));
    house.start("dbus-daemon", "--system", "--nofork", "--nopidfile");
  }
  const firewalld = house.start("/usr/sbin/firewalld", "--nofork", "--nopid");
  const deadline = performance.now() + TIMEOUT_MS;
  while (house.run("/usr/bin/python3", "/usr/bin/firewall-cmd", "--state").exitCode !== 0) {
    if (performance.now() > deadline) throw new Error("firewalld does not come up");
    await Bun.sleep(200);
  }
  return firewalld;
}

/** ufw with the files that its package's script would have put in place; not enabled yet. */
export function prepareUfw(house: HouseOfProducts): void {
  const files = ["before", "before6", "user", "user6", "after", "after6"];
  house.ask("cp", ...files.map((name) => `/usr/share/ufw/iptables/${name}.rules`), "/etc/ufw/");
  house.ask("cp", "/usr/share/ufw/ufw.conf", "/etc/ufw/");
}
