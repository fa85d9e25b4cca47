/*
 * follow DIR: prints what is written into the files of DIR from now on, as it comes, looking every 20 ms.
 * busybox's tail looks once a second, which is no measure of a suspension.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MOST 64

struct followed {
  ino_t inode;
  int fd;
};

int main(int argc, char **argv) {
  struct followed files[MOST];
  int count = 0, first = 1;
  char bytes[4096];
  if (argc != 2 || chdir(argv[1])) return 2;
  for (int turn = 0;; turn++, usleep(20000)) {
    if (turn % 5 == 0) { /* a file that is new is read from its beginning */
      DIR *dir = opendir(".");
      for (struct dirent *entry; dir && (entry = readdir(dir));) {
        int known = entry->d_name[0] == '.';
        for (int i = 0; i < count; i++) known |= files[i].inode == entry->d_ino;
        if (known || count == MOST) continue;
        int fd = open(entry->d_name, O_RDONLY);
        if (fd < 0) continue;
        if (first) lseek(fd, 0, SEEK_END);
        files[count++] = (struct followed){entry->d_ino, fd};
      }
      if (dir) closedir(dir);
      first = 0;
    }
    for (int i = 0; i < count; i++)
      for (ssize_t n; (n = read(files[i].fd, bytes, sizeof bytes)) > 0;)
        if (write(1, bytes, n) != n) return 0;
  }
}
