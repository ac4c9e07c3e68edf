/** Versions of the CNI specification that we speak, oldest first. */
export const CNI_VERSIONS = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"] as const;
export type CniVersion = (typeof CNI_VERSIONS)[number];

/** The version we speak when nobody said which. */
export const NEWEST: CniVersion = "1.1.0";
/** What a configuration without `cniVersion` means (specification 0.1.0 had no such key). */
export const OLDEST: CniVersion = "0.1.0";

export function isSpoken(version: string): version is CniVersion {
  return (CNI_VERSIONS as readonly string[]).includes(version);
}

export function atLeast(version: CniVersion, least: CniVersion): boolean {
  return CNI_VERSIONS.indexOf(version) >= CNI_VERSIONS.indexOf(least);
}
