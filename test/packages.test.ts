/** What `npm ci` says to a newcomer. */
import { expect, test } from "bun:test";
import packages from "../package-lock.json";
import project from "../package.json";

test("npm need not warn: every package with an install script is allowed or refused by name", () => {
  const withScript = Object.entries(packages.packages)
    .filter(([, about]) => "hasInstallScript" in about && about.hasInstallScript)
    .map(([path]) => path.slice(path.lastIndexOf("node_modules/") + "node_modules/".length));
  expect(withScript).toContain("bun");
  expect(Object.keys(project.allowScripts).sort()).toEqual(withScript.sort());
});
