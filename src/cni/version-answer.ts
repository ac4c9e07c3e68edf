/** VERSION; and the answer to a call that names no command, which is to be told what it could have named. */
import { isCharacterDevice, statDescriptor } from "../kernel/file.ts";
import { VERSION } from "../version.ts";
import type { Answer } from "./answer.ts";
import { readCall } from "./call.ts";
import { print, readInput, tellFailure, tellPerson, versionOf } from "./standard-streams.ts";
import { CNI_VERSIONS, NEWEST } from "./version.ts";

export const answer: Answer = async (environment) => {
  if (environment["CNI_COMMAND"] === "") {
    tellPerson(`CNI plugin wayout ${VERSION}, speaks CNI ${CNI_VERSIONS.join(", ")}`);
    return 0;
  }
  try {
    readCall(environment);
    // A person at a terminal gives no input, and should not have to end it.
    const version = isCharacterDevice(statDescriptor(0)) ? undefined : versionOf(readInput());
    print({ cniVersion: version ?? NEWEST, supportedVersions: CNI_VERSIONS });
    return 0;
  } catch (error) {
    return tellFailure(error, undefined);
  }
};
