/** Command lines for people, in the namespace they are meant for. */

/**
 * The command as it must be typed here.
 * @param path of the namespace it is meant for; undefined for the one in which commands run anyway
 */
export function commandIn(path: string | undefined, command: string): string {
  if (path === undefined) return command;
  const name = /^\/(?:var\/)?run\/netns\/([^/]+)$/.exec(path)?.[1];
  return name === undefined ? `nsenter --net=${path} ${command}` : `ip netns exec ${name} ${command}`;
}
