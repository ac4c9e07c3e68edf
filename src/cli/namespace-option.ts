import { Option } from "commander";

/** `--netns NAME|PATH`, for commands that look at, or work in, one network namespace. */
export function namespaceOption(): Option {
  return new Option(
    "--netns <name|path>",
    "the network namespace, as `ip netns` shows it or as a path; default: the one wayout runs in",
  );
}
