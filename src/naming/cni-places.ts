/** Where containerd, CRI-O and kubeadm look for networks and plugins unless they are told otherwise, as libcni has it. */

export const DEFAULT_BIN_DIRECTORY = "/opt/cni/bin";
export const DEFAULT_CONFIGURATION_DIRECTORY = "/etc/cni/net.d";

/** Whether a file of that directory is a network's configuration, by its name. */
export function isNetworkFile(name: string): boolean {
  return /\.(conf|conflist|json)$/.test(name);
}
