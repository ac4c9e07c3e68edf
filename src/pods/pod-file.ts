/**
 * Files of a pod, as its processes see them. The pod wrote them, and it may not be trusted: nothing outside its root is
 * opened, nothing that is no regular file, and only so much is read. Where a read could wait for another process (FUSE, NFS), it
 * is done by a process that can be given up.
 */
import { ERRNO, SystemError } from "../linux/errno.ts";
import { readContainedIfThere } from "../kernel/contained-file.ts";
import {
  closeFile,
  MOST_SETTINGS_BYTES,
  readRegularIfThere,
  writeDescriptor,
  type PartOfFile,
} from "../kernel/file.ts";
import * as libc from "../kernel/libc.ts";
import { mayHang } from "../kernel/mounts.ts";
import { POLLIN } from "../linux/socket.ts";
import { decodeUtf8 } from "../platform/bytes.ts";
import type { Pod } from "./pod.ts";
import { selfCommand } from "../self.ts";
import { BEGINS, POD_FILE_READER } from "./reader-process.ts";
import { present } from "../present.ts";

/** For a process of our own to start, and to say so. */
const START_MS = 5_000;
/** For the read itself. */
const READ_MS = 1_000;

/** A character takes at most so many in JSON, `\\u0000`; and there is room for the rest. */
const ESCAPED = 8;

/**
 * A file below the root of a process. undefined when there is none.
 * @throws SystemError ETIMEDOUT when the read was given up; EINVAL when it is no regular file; ELOOP …
 */
export function readPodFile(pid: number, path: string): PartOfFile | undefined {
  const root = `/proc/${pid}/root`;
  if (!mayHang(pid)) return readContainedIfThere(root, path, MOST_SETTINGS_BYTES);
  return readElsewhere(root, path);
}

/**
 * A file of /etc as the pod's programs read it: below the root of its process; for a namespace with a name only, what
 * `ip netns exec` would bind over /etc, and else the node's own.
 * @returns the text, "" when there is no such file; and where it stands, for messages
 * @throws SystemError when it could not be read
 */
export function readEtcFile(
  pod: Pod,
  name: "hosts" | "resolv.conf",
): { readonly path: string; readonly text: string } {
  if (pod.pid !== undefined) {
    const path = `/etc/${name}`;
    return { path, text: wholeText(readPodFile(pod.pid, path)) };
  }
  const path = namedFile(pod, name);
  const own = path === undefined ? undefined : readRegularIfThere(path, MOST_SETTINGS_BYTES);
  if (path !== undefined && own !== undefined) return { path, text: wholeText(own) };
  return { path: `/etc/${name}`, text: wholeText(readRegularIfThere(`/etc/${name}`, MOST_SETTINGS_BYTES)) };
}

/** Nothing is concluded from a part. */
function wholeText(file: PartOfFile | undefined): string {
  if (file?.whole === false) {
    throw new SystemError("read", ERRNO.EFBIG, `of more than ${MOST_SETTINGS_BYTES} bytes`);
  }
  return file?.text ?? "";
}

/** Where `ip netns` keeps a file for a namespace of its own; undefined for a namespace without a name there. */
export function namedFile({ path }: Pod, name: string): string | undefined {
  const namespace = /^\/run\/netns\/([^/]+)$/.exec(path)?.[1];
  return namespace === undefined ? undefined : `/etc/netns/${namespace}/${name}`;
}

/** What the reader is asked to do, and how it answers. */
type ReaderAnswer = { readonly file?: PartOfFile } | { readonly errno: number; readonly detail: string };

const STDOUT = 1;

/** What the process does that may be given up: it says that it begins, at once, and then what came of it. */
export function answerReader(root: string, path: string): void {
  writeDescriptor(STDOUT, BEGINS);
  writeDescriptor(STDOUT, JSON.stringify(answerOf(root, path)));
}

function answerOf(root: string, path: string): ReaderAnswer {
  try {
    const file = readContainedIfThere(root, path, MOST_SETTINGS_BYTES);
    return present({ file });
  } catch (error) {
    if (error instanceof SystemError) return { errno: error.errno, detail: error.message };
    throw error;
  }
}

function readElsewhere(root: string, path: string): PartOfFile | undefined {
  const { readEnd, writeEnd } = libc.pipe();
  try {
    const child = Bun.spawn([...selfCommand(), POD_FILE_READER, root, path], {
      stdin: "ignore",
      stdout: writeEnd,
      stderr: "ignore",
    });
    closeFile(writeEnd);
    // One that waits in the kernel for a server that never answers cannot even be killed; it is not waited for.
    child.unref();
    const said = hear(readEnd);
    if (said === undefined) {
      child.kill("SIGKILL");
      throw new SystemError(
        "read",
        ERRNO.ETIMEDOUT,
        `of ${path}: its file system did not answer within ${READ_MS / 1000} s`,
      );
    }
    return opened(JSON.parse(said) as ReaderAnswer, path);
  } finally {
    closeFile(readEnd);
  }
}

function opened(answer: ReaderAnswer, path: string): PartOfFile | undefined {
  if ("errno" in answer) throw new SystemError("read", answer.errno, `of ${path} (${answer.detail})`);
  return answer.file;
}

/** Everything up to the end; undefined when it does not come in time. */
function hear(fd: number): string | undefined {
  const room = new Uint8Array(ESCAPED * MOST_SETTINGS_BYTES);
  let length = 0;
  let deadline = performance.now() + START_MS;
  for (;;) {
    const left = deadline - performance.now();
    if (left <= 0 || libc.poll([{ fd, events: POLLIN, revents: 0 }], Math.ceil(left)) === 0) return undefined;
    const count = libc.read(fd, room.subarray(length));
    if (count === 0) return decodeUtf8(room.subarray(0, length)).slice(BEGINS.length);
    if (length === 0) deadline = performance.now() + READ_MS;
    length += count;
  }
}
