/*
 * The witness inside a test guest: it knows what its memory must hold and says on the console when it does not.
 *
 *   checker beat MS              a line "beat N TIME" every MS milliseconds; TIME is CLOCK_MONOTONIC in milliseconds
 *   checker memory MIB RATE      rewrites MIB MiB at RATE pages a second and checks page after page, on every processor
 *   checker disk DEVICE          writes blocks of the disk, past the page cache, and reads them again
 *   checker tsc                  prints this processor's time-stamp counter's rate in kHz (for the host)
 *
 * Everything that is not as it must be is a line that begins with BAD.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

enum { PAGE = 4096, WORDS = PAGE / 8, TICK_MS = 10, CHECKS_PER_TICK = 200 };

/* By which the test finds these pages from outside, in the guest's RAM file. */
static const uint64_t MAGIC = 0x4750544957444f47; /* "GODWITPG" in memory */

/* One write for each line, so that lines of different processes do not mix. */
static void say(const char *format, ...) {
  char line[256];
  va_list arguments;
  va_start(arguments, format);
  int length = vsnprintf(line, sizeof line - 1, format, arguments);
  va_end(arguments);
  line[length++] = '\n';
  if (write(1, line, length) != length) exit(1);
}

static void fail(const char *what) {
  say("BAD %s: %s", what, strerror(errno));
  exit(1);
}

static uint64_t mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

static double now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1e3 + now.tv_nsec / 1e6;
}

/* Sleeps until MS after the last time, or from now on when that is over. */
static void next(struct timespec *at, long ms) {
  struct timespec now;
  at->tv_nsec += ms * 1000000;
  at->tv_sec += at->tv_nsec / 1000000000;
  at->tv_nsec %= 1000000000;
  clock_gettime(CLOCK_MONOTONIC, &now);
  if (now.tv_sec > at->tv_sec || (now.tv_sec == at->tv_sec && now.tv_nsec > at->tv_nsec)) *at = now;
  else clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, at, NULL);
}

/* Beats come before all other work. They also go to the screen, if there is one: video memory changes as well. */
static void beat(long ms) {
  struct sched_param first = {.sched_priority = 50};
  if (sched_setscheduler(0, SCHED_FIFO, &first) != 0) fail("the heartbeat's priority");
  int screen = open("/dev/tty0", O_WRONLY | O_NOCTTY);
  struct timespec at;
  clock_gettime(CLOCK_MONOTONIC, &at);
  for (unsigned long n = 1;; n++) {
    next(&at, ms);
    say("beat %lu %.3f", n, now_ms());
    if (screen >= 0 && n % 10 == 0) dprintf(screen, "beat %lu\n", n);
  }
}

/* A page holds MAGIC, its number, its generation, and words that follow from those two. */
static void write_page(uint64_t *page, uint64_t number, uint64_t generation) {
  uint64_t word = mix(number << 32 | generation);
  page[0] = MAGIC;
  page[1] = number;
  page[2] = generation;
  for (int i = 3; i < WORDS; i++) page[i] = word += 0x9e3779b97f4a7c15;
}

static void check_page(const volatile uint64_t *page, uint64_t number, uint64_t generation) {
  uint64_t word = mix(number << 32 | generation);
  int wrong = (page[0] != MAGIC) + (page[1] != number) + (page[2] != generation);
  for (int i = 3; i < WORDS; i++) wrong += page[i] != (word += 0x9e3779b97f4a7c15);
  if (wrong)
    say("BAD page %lu generation %lu: holds page %lu generation %lu, %d of 512 words are wrong", number, generation,
        page[1], page[2], wrong);
}

/* One processor's share: pages [first, first + count), rewritten in turn, and in turn checked. */
static void memory(int processor, uint64_t first, uint64_t count, long rate) {
  cpu_set_t own;
  CPU_ZERO(&own);
  CPU_SET(processor, &own);
  sched_setaffinity(0, sizeof own, &own);
  unsigned long nodes = 3, interleave = 3;
  syscall(SYS_set_mempolicy, interleave, &nodes, 3); /* both NUMA nodes, if there are two */

  uint64_t *pages = mmap(NULL, count * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  uint32_t *generations = calloc(count, sizeof *generations);
  if (pages == MAP_FAILED || !generations) fail("no memory for pages");
  for (uint64_t i = 0; i < count; i++) write_page(pages + i * WORDS, first + i, 0);

  struct timespec at;
  clock_gettime(CLOCK_MONOTONIC, &at);
  uint64_t written = 0, checked = 0;
  for (uint64_t tick = 1;; tick++) {
    next(&at, TICK_MS);
    for (; written < tick * rate * TICK_MS / 1000; written++) {
      uint64_t i = written % count;
      write_page(pages + i * WORDS, first + i, ++generations[i]);
    }
    for (int n = 0; n < CHECKS_PER_TICK; n++) {
      uint64_t i = checked++ % count;
      check_page(pages + i * WORDS, first + i, generations[i]);
      if (checked % count == 0)
        say("checked %d: %lu times %lu pages, %lu written", processor, checked / count, count, written);
    }
  }
}

static void on_every_processor(uint64_t mib, long rate) {
  int processors = sysconf(_SC_NPROCESSORS_ONLN);
  uint64_t count = mib * (1048576 / PAGE) / processors;
  for (int i = 0; i < processors; i++)
    if (fork() == 0) memory(i, i * count, count, rate / processors);
}

/* The whole disk area in turn, one block a tick; a block is a page whose number is its place. */
static void disk(const char *device) {
  enum { BLOCKS = 64 };
  static uint64_t block[WORDS] __attribute__((aligned(PAGE)));
  int fd = open(device, O_RDWR | O_DIRECT | O_SYNC);
  if (fd < 0) fail(device);
  struct timespec at;
  clock_gettime(CLOCK_MONOTONIC, &at);
  for (uint64_t generation = 1;; generation++) {
    for (uint64_t i = 0; i < BLOCKS; i++) {
      next(&at, TICK_MS);
      if (generation > 1) {
        if (pread(fd, block, PAGE, i * PAGE) != PAGE) fail("the disk is not read");
        check_page(block, i, generation - 1);
      }
      write_page(block, i, generation);
      if (pwrite(fd, block, PAGE, i * PAGE) != PAGE) fail("the disk is not written");
    }
    say("disk ok %lu", generation);
  }
}

static void tsc(void) {
  double from_ms = now_ms();
  uint64_t from = __rdtsc();
  usleep(50000);
  say("%.0f", (__rdtsc() - from) / (now_ms() - from_ms));
}

int main(int count, char **arguments) {
  if (count == 3 && strcmp(arguments[1], "beat") == 0) beat(atol(arguments[2]));
  if (count == 4 && strcmp(arguments[1], "memory") == 0) on_every_processor(atol(arguments[2]), atol(arguments[3]));
  if (count == 3 && strcmp(arguments[1], "disk") == 0) disk(arguments[2]);
  if (count == 2 && strcmp(arguments[1], "tsc") == 0) tsc();
  return 0;
}
