/*
 * A disk that is full, or slow and then fails, for one directory: LD_PRELOADed into an agent. What the
 * file SLOW_DISK_CONTROL says decides about files below SLOW_DISK_DIR, for fsync, fdatasync and
 * ftruncate (what is written reaches the page cache all the same), and for writes when it is full:
 *
 *   no such file, or empty   as the system does it
 *   slow                     waits 100 ms first
 *   hang                     waits until the file says something else, and does that
 *   fail                     EIO
 *   fail-later               those that have waited succeed; EIO for all that come now
 *   full                     ENOSPC for writes; the rest as the system does it
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

static int below(int fd) {
  const char *dir = getenv("SLOW_DISK_DIR");
  char link[64], target[PATH_MAX];
  if (dir == NULL) return 0;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, target, sizeof target - 1);
  if (length < 0) return 0;
  target[length] = 0;
  return strncmp(target, dir, strlen(dir)) == 0;
}

static void command(char *word, size_t size) {
  word[0] = 0;
  const char *file = getenv("SLOW_DISK_CONTROL");
  int fd = file == NULL ? -1 : open(file, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return;
  ssize_t length = read(fd, word, size - 1);
  close(fd);
  word[length < 0 ? 0 : length] = 0;
}

/* 0: go on; -1: errno is set */
static int disk(int fd) {
  char word[32];
  int saved = errno, waited = 0;
  if (!below(fd)) return 0;
  for (;; waited = 1) {
    command(word, sizeof word);
    if (strcmp(word, "hang") != 0) break;
    usleep(10000);
  }
  if (strcmp(word, "slow") == 0) usleep(100000);
  if (strcmp(word, "fail") == 0 || (strcmp(word, "fail-later") == 0 && !waited)) {
    errno = EIO;
    return -1;
  }
  errno = saved;
  return 0;
}

int fsync(int fd) {
  int (*real)(int) = dlsym(RTLD_NEXT, "fsync");
  return disk(fd) == 0 ? real(fd) : -1;
}

int fdatasync(int fd) {
  int (*real)(int) = dlsym(RTLD_NEXT, "fdatasync");
  return disk(fd) == 0 ? real(fd) : -1;
}

int ftruncate(int fd, off_t length) {
  int (*real)(int, off_t) = dlsym(RTLD_NEXT, "ftruncate");
  return disk(fd) == 0 ? real(fd, length) : -1;
}

int ftruncate64(int fd, off64_t length) {
  int (*real)(int, off64_t) = dlsym(RTLD_NEXT, "ftruncate64");
  return disk(fd) == 0 ? real(fd, length) : -1;
}

static int full(int fd) {
  char word[32];
  int saved = errno;
  if (!below(fd)) return 0;
  command(word, sizeof word);
  int no = strcmp(word, "full") == 0;
  errno = no ? ENOSPC : saved;
  return no;
}

ssize_t write(int fd, const void *bytes, size_t count) {
  ssize_t (*real)(int, const void *, size_t) = dlsym(RTLD_NEXT, "write");
  return full(fd) ? -1 : real(fd, bytes, count);
}

ssize_t writev(int fd, const struct iovec *pieces, int count) {
  ssize_t (*real)(int, const struct iovec *, int) = dlsym(RTLD_NEXT, "writev");
  return full(fd) ? -1 : real(fd, pieces, count);
}

ssize_t pwrite(int fd, const void *bytes, size_t count, off_t at) {
  ssize_t (*real)(int, const void *, size_t, off_t) = dlsym(RTLD_NEXT, "pwrite");
  return full(fd) ? -1 : real(fd, bytes, count, at);
}

ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t at) {
  ssize_t (*real)(int, const void *, size_t, off64_t) = dlsym(RTLD_NEXT, "pwrite64");
  return full(fd) ? -1 : real(fd, bytes, count, at);
}
