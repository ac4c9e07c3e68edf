/** Who sends a packet, or waits for it. */
import { describe, wantedIf, type Range } from "../describe.ts";
import { option, type XtInfo } from "../info.ts";

/** struct xt_owner_match_info: uid_min 0, uid_max 4, gid_min 8, gid_max 12, match 16, invert 17. */
export const owner = describe({
  name: "owner",
  revisions: [1],
  read(info) {
    const [match, inverted] = [info.u8(16), info.u8(17)];
    const range = (at: number): Range => ({ first: info.u32(at), last: info.u32(at + 4) });
    return {
      /** The bits themselves: without a socket the kernel compares only them. */
      match,
      inverted,
      uid: wantedIf((match & 1) !== 0, () => range(0), (inverted & 1) !== 0),
      gid: wantedIf((match & 2) !== 0, () => range(8), (inverted & 2) !== 0),
      socket: wantedIf((match & 4) !== 0, () => true, (inverted & 4) !== 0),
      supplementary: (match & 8) !== 0,
    };
  },
  options(value) {
    const text = ({ first, last }: Range): string => (first === last ? `${first}` : `${first}-${last}`);
    return [
      ...(value.socket === undefined ? [] : [option("--socket-exists", undefined, value.socket.not)]),
      ...(value.uid === undefined ? [] : [option("--uid-owner", text(value.uid.value), value.uid.not)]),
      ...(value.gid === undefined ? [] : [option("--gid-owner", text(value.gid.value), value.gid.not)]),
      ...(value.supplementary ? [option("--suppl-groups")] : []),
    ];
  },
});

/** struct xt_socket_mtinfo1 to 3: flags 0; revision 0 has no structure. */
export const socket = describe({
  name: "socket",
  revisions: [0, 1, 2, 3],
  read(info, revision) {
    const flags = revision === 0 ? 0 : info.u8(0);
    return {
      transparent: (flags & 1) !== 0,
      noWildcard: (flags & 2) !== 0,
      restoreMark: (flags & 4) !== 0,
    };
  },
  options: ({ transparent, noWildcard, restoreMark }) => [
    ...(transparent ? [option("--transparent")] : []),
    ...(noWildcard ? [option("--nowildcard")] : []),
    ...(restoreMark ? [option("--restore-skmark")] : []),
  ],
});

function cgroupPath(info: XtInfo, revision: number): string {
  return info.text(4, revision === 1 ? 4096 : 512);
}

/** Revision 1 has a path of PATH_MAX and the class behind it, revision 2 either of both in one place. */
export const cgroup = describe({
  name: "cgroup",
  revisions: [0, 1, 2],
  read(info, revision) {
    if (revision === 0) {
      return { path: undefined, class: { value: info.u32(0), not: info.u32(4) !== 0 } };
    }
    const classAt = revision === 1 ? 4100 : 4;
    return {
      path: wantedIf(info.u8(0) !== 0, () => cgroupPath(info, revision), info.u8(2) !== 0),
      class: wantedIf(info.u8(1) !== 0, () => info.u32(classAt), info.u8(3) !== 0),
    };
  },
  options: (value) => [
    ...(value.path === undefined ? [] : [option("--path", value.path.value, value.path.not)]),
    ...(value.class === undefined ? [] : [option("--cgroup", value.class.value, value.class.not)]),
  ],
});
