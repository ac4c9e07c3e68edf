/** The page's files, ready to be served: in the single file they lie in it, from a checkout they are bundled now. */

import type { PageFiles } from "./page-files.ts";

/** scripts/build.ts puts the finished files in the place of this module's answer. */
export async function pageFiles(): Promise<PageFiles> {
  const { bundlePage } = await import("./bundle.ts");
  return bundlePage();
}
