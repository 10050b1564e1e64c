/* Faults of a disk, by LD_PRELOAD: what changes one folder is counted, cut off, or finds no room.

   Steps are calls that change something at or below the folder. A write counts twice, before it
   and half way. Armed from Python by ctypes in the process that is to fail; a forked child keeps
   what was set. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { COUNT, CUT, FULL };

typedef void (*step_seen)(long number, const char *call);

static char watched[PATH_MAX];
static size_t watched_length;
static long steps, fail_at;
static int mode;
static step_seen seen;
static __thread int inside;
static pthread_mutex_t order = PTHREAD_MUTEX_INITIALIZER;

#define CUT_CODE 86
#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

void faults_arm(const char *folder, int how, long at, step_seen callback) {
  snprintf(watched, sizeof watched, "%s", folder);
  watched_length = strlen(watched);
  mode = how;
  fail_at = at;
  seen = callback;
  __atomic_store_n(&steps, 0, __ATOMIC_SEQ_CST);
}

void faults_disarm(void) { watched_length = 0; }

long faults_steps(void) { return __atomic_load_n(&steps, __ATOMIC_SEQ_CST); }

/* 0 where nothing fails, 1 where this call finds no room */
static int step(const char *call, int takes_room) {
  int full;
  /* a caller that looks at the folder is no step itself */
  inside = 1;
  pthread_mutex_lock(&order);
  long number = ++steps;
  if (seen) seen(number, call);
  if (mode == CUT && number == fail_at) _exit(CUT_CODE);
  full = mode == FULL && takes_room && number >= fail_at;
  pthread_mutex_unlock(&order);
  inside = 0;
  if (full) errno = ENOSPC;
  return full;
}

static int below(const char *path) {
  return strncmp(path, watched, watched_length) == 0 &&
         (path[watched_length] == '/' || path[watched_length] == 0);
}

static int absolute(char *into, int folder, const char *path) {
  char link[64];
  ssize_t length;
  if (path[0] == '/') return snprintf(into, PATH_MAX, "%s", path);
  if (folder == AT_FDCWD) {
    if (!getcwd(into, PATH_MAX)) return -1;
    length = strlen(into);
  } else {
    snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
    length = readlink(link, into, PATH_MAX - 1);
    if (length < 0) return -1;
  }
  return length + snprintf(into + length, PATH_MAX - length, "/%s", path);
}

static int watched_at(int folder, const char *path) {
  char full[2 * PATH_MAX];
  if (!watched_length || inside || !path) return 0;
  return absolute(full, folder, path) >= 0 && below(full);
}

static int watched_path(const char *path) { return watched_at(AT_FDCWD, path); }

static int watched_file(int file) {
  char link[64], path[PATH_MAX];
  ssize_t length;
  int kept = errno;
  if (!watched_length || inside) return 0;
  snprintf(link, sizeof link, "/proc/self/fd/%d", file);
  length = readlink(link, path, sizeof path - 1);
  errno = kept;
  if (length < 0) return 0;
  path[length] = 0;
  return below(path);
}

/* opening to write: a new file takes room, an old one is emptied or appended to */
static int opens(int folder, const char *path, int flags) {
  struct stat there;
  int is_new;
  if (!(flags & (O_WRONLY | O_RDWR | O_CREAT)) || !watched_at(folder, path)) return 0;
  is_new = (flags & O_CREAT) && fstatat(folder, path, &there, AT_SYMLINK_NOFOLLOW) != 0;
  /* one that exists already and is only locked changes nothing */
  if (!is_new && !(flags & O_TRUNC)) return 0;
  return step("open", is_new);
}

#define OPEN(name)                                     \
  int name(const char *path, int flags, ...) {         \
    mode_t bits = 0;                                   \
    if (flags & (O_CREAT | __O_TMPFILE)) {             \
      va_list rest;                                    \
      va_start(rest, flags);                           \
      bits = va_arg(rest, mode_t);                     \
      va_end(rest);                                    \
    }                                                  \
    if (opens(AT_FDCWD, path, flags)) return -1;       \
    return REAL(name)(path, flags, bits);              \
  }
OPEN(open)
OPEN(open64)

#define OPENAT(name)                                       \
  int name(int folder, const char *path, int flags, ...) { \
    mode_t bits = 0;                                       \
    if (flags & (O_CREAT | __O_TMPFILE)) {                 \
      va_list rest;                                        \
      va_start(rest, flags);                               \
      bits = va_arg(rest, mode_t);                         \
      va_end(rest);                                        \
    }                                                      \
    if (opens(folder, path, flags)) return -1;             \
    return REAL(name)(folder, path, flags, bits);          \
  }
OPENAT(openat)
OPENAT(openat64)

#define FOPEN(name)                                                             \
  FILE *name(const char *path, const char *how) {                               \
    int writes = strpbrk(how, "wa+") != NULL;                                   \
    int flags = how[0] == 'w' ? O_WRONLY | O_CREAT | O_TRUNC : O_WRONLY | O_CREAT; \
    if (writes && opens(AT_FDCWD, path, how[0] == 'r' ? O_RDWR : flags)) return NULL; \
    return REAL(name)(path, how);                                               \
  }
FOPEN(fopen)
FOPEN(fopen64)

/* in two halves, a step before each; a disk that fills up half way takes the first one */
#define IN_HALVES(call, first_half, second_half)            \
  if (step(call, 1)) return -1;                             \
  ssize_t done = first_half;                                \
  if (size < 2 || done < (ssize_t)(size / 2)) return done;  \
  if (step(call " half", 1)) return done;                   \
  ssize_t more = second_half;                               \
  return more < 0 ? done : done + more

ssize_t write(int file, const void *data, size_t size) {
  size_t half = size < 2 ? size : size / 2;
  if (!watched_file(file)) return REAL(write)(file, data, size);
  IN_HALVES("write", REAL(write)(file, data, half),
            REAL(write)(file, (const char *)data + done, size - done));
}

#define PWRITE(name, offset_type)                                                      \
  ssize_t name(int file, const void *data, size_t size, offset_type at) {              \
    size_t half = size < 2 ? size : size / 2;                                          \
    if (!watched_file(file)) return REAL(name)(file, data, size, at);                  \
    IN_HALVES(#name, REAL(name)(file, data, half, at),                                 \
              REAL(name)(file, (const char *)data + done, size - done, at + done));    \
  }
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

ssize_t writev(int file, const struct iovec *parts, int count) {
  if (watched_file(file) && step("writev", 1)) return -1;
  return REAL(writev)(file, parts, count);
}

#define COPY(name, offset_type)                                            \
  ssize_t name(int into, int from, offset_type *at, size_t size) {         \
    if (watched_file(into) && step(#name, 1)) return -1;                   \
    return REAL(name)(into, from, at, size);                               \
  }
ssize_t sendfile(int, int, off_t *, size_t);
ssize_t sendfile64(int, int, off64_t *, size_t);
COPY(sendfile, off_t)
COPY(sendfile64, off64_t)

ssize_t copy_file_range(int from, off64_t *here, int into, off64_t *there, size_t size,
                        unsigned flags) {
  if (watched_file(into) && step("copy_file_range", 1)) return -1;
  return REAL(copy_file_range)(from, here, into, there, size, flags);
}

#define TRUNCATE(name, size_type)                         \
  int name(int file, size_type size) {                    \
    if (watched_file(file) && step(#name, 0)) return -1;  \
    return REAL(name)(file, size);                        \
  }
TRUNCATE(ftruncate, off_t)
TRUNCATE(ftruncate64, off64_t)

#define ONE_FILE(name)                                   \
  int name(int file) {                                   \
    if (watched_file(file) && step(#name, 0)) return -1; \
    return REAL(name)(file);                             \
  }
ONE_FILE(fsync)
ONE_FILE(fdatasync)

#define ONE_PATH(name)                                   \
  int name(const char *path) {                           \
    if (watched_path(path) && step(#name, 0)) return -1; \
    return REAL(name)(path);                             \
  }
ONE_PATH(unlink)
ONE_PATH(rmdir)
ONE_PATH(remove)

int unlinkat(int folder, const char *path, int flags) {
  if (watched_at(folder, path) && step("unlinkat", 0)) return -1;
  return REAL(unlinkat)(folder, path, flags);
}

int mkdir(const char *path, mode_t bits) {
  if (watched_path(path) && step("mkdir", 1)) return -1;
  return REAL(mkdir)(path, bits);
}

int mkdirat(int folder, const char *path, mode_t bits) {
  if (watched_at(folder, path) && step("mkdirat", 1)) return -1;
  return REAL(mkdirat)(folder, path, bits);
}

int chmod(const char *path, mode_t bits) {
  if (watched_path(path) && step("chmod", 0)) return -1;
  return REAL(chmod)(path, bits);
}

int fchmod(int file, mode_t bits) {
  if (watched_file(file) && step("fchmod", 0)) return -1;
  return REAL(fchmod)(file, bits);
}

int fchmodat(int folder, const char *path, mode_t bits, int flags) {
  if (watched_at(folder, path) && step("fchmodat", 0)) return -1;
  return REAL(fchmodat)(folder, path, bits, flags);
}

int rename(const char *from, const char *to) {
  if ((watched_path(from) || watched_path(to)) && step("rename", 0)) return -1;
  return REAL(rename)(from, to);
}

int renameat(int here, const char *from, int there, const char *to) {
  if ((watched_at(here, from) || watched_at(there, to)) && step("renameat", 0)) return -1;
  return REAL(renameat)(here, from, there, to);
}

int renameat2(int here, const char *from, int there, const char *to, unsigned flags) {
  if ((watched_at(here, from) || watched_at(there, to)) && step("renameat2", 0)) return -1;
  return REAL(renameat2)(here, from, there, to, flags);
}

int link(const char *from, const char *to) {
  if (watched_path(to) && step("link", 1)) return -1;
  return REAL(link)(from, to);
}

int linkat(int here, const char *from, int there, const char *to, int flags) {
  if (watched_at(there, to) && step("linkat", 1)) return -1;
  return REAL(linkat)(here, from, there, to, flags);
}

int symlink(const char *from, const char *to) {
  if (watched_path(to) && step("symlink", 1)) return -1;
  return REAL(symlink)(from, to);
}
