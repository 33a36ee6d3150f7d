#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "path.h"
#include "test.h"

static int root = -1;
static char base[] = "/tmp/hyperstart-test-XXXXXX";

static bool exists(const char *path)
{
    return !faccessat(root, path, F_OK, AT_SYMLINK_NOFOLLOW);
}

static bool make_directory(const char *path)
{
    int fd = path_make_directory(root, path);
    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

static bool make_file(const char *path)
{
    int fd = path_make_file(root, path);
    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

TEST(paths_below_a_root)
{
    CHECK(mkdtemp(base) != NULL);
    root = open(base, O_PATH | O_DIRECTORY | O_CLOEXEC);
    CHECK(root >= 0);
    CHECK(make_directory("/a/b/c/") && exists("a/b/c"));
    CHECK(make_directory("/a/b/c") && make_directory("/"));
    CHECK(make_file("/a/file") && make_file("/a/file") && exists("a/file"));
    CHECK(!make_directory("/a/file/below"));
}

TEST(symlinks_stay_below_the_root)
{
    CHECK(!symlinkat("/etc", root, "absolute"));
    CHECK(!symlinkat("../../../../../../tmp", root, "relative"));
    CHECK(!symlinkat("/dev/shm/escape", root, "dangling"));
    CHECK(!symlinkat("loop", root, "loop"));
    CHECK(make_file("/absolute/hosts") && exists("etc/hosts"));
    CHECK(make_directory("/relative/x") && exists("tmp/x"));
    CHECK(make_directory("/dangling/sub") && exists("dev/shm/escape/sub"));
    CHECK(access("/dev/shm/escape", F_OK) != 0);
    CHECK(!make_file("/loop") && !make_directory("/loop/x"));
}

TEST(a_file_behind_a_dangling_link_is_made)
{
    CHECK(!symlinkat("../run/systemd/resolve/stub-resolv.conf", root, "etc/resolv.conf"));
    CHECK(make_file("/etc/resolv.conf") && exists("run/systemd/resolve/stub-resolv.conf"));
    CHECK(exists("etc/resolv.conf"));
}

TEST(parent_of_a_path)
{
    const char *name;
    int fd = path_open_parent(root, "/dev/net/tun", &name);
    CHECK(fd >= 0 && exists("dev/net"));
    CHECK_TEXT(name, "tun");
    close(fd);
    CHECK(path_open_parent(root, "/..", &name) < 0);
    CHECK(path_open_parent(root, "/", &name) < 0);
}

TEST(small_files)
{
    char path[64], text[16];
    snprintf(path, sizeof path, "%s/a/file", base);
    CHECK(write_file(path, "0123456789") == 0);
    CHECK(read_file(path, text, sizeof text) == 10);
    CHECK_TEXT(text, "0123456789");
    CHECK(read_file(path, text, 5) == 4);
    CHECK_TEXT(text, "0123");
    CHECK(read_file("/nonexistent", text, sizeof text) < 0);
    snprintf(path, sizeof path, "%s/m/n", base);
    CHECK(make_directories(path, 0700) == 0 && make_directories(path, 0700) == 0);
    char command[64];
    snprintf(command, sizeof command, "rm -rf %s", base);
    CHECK(system(command) == 0);
    close(root);
}
