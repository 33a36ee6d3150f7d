/* A guest's init that misbehaves, as BADGUEST on the kernel's command line says. */
#include <dirent.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { READY = 8, ACK = 9, PROCESSEVENT = 23 };

static int open_port(const char *wanted)
{
    for (int attempt = 0; attempt < 200; attempt++, usleep(20000)) {
        DIR *ports = opendir("/sys/class/virtio-ports");
        struct dirent *entry;
        while (ports && (entry = readdir(ports))) {
            char path[300], name[64] = "";
            snprintf(path, sizeof path, "/sys/class/virtio-ports/%s/name", entry->d_name);
            FILE *file = fopen(path, "r");
            if (file && fgets(name, sizeof name, file) && !strncmp(name, wanted, strlen(wanted))) {
                snprintf(path, sizeof path, "/dev/%s", entry->d_name);
                return open(path, O_RDWR);
            }
        }
    }
    puts("no such port");
    return -1;
}

static void send_message(int fd, uint32_t code, const char *body)
{
    uint32_t header[2] = {__builtin_bswap32(code), __builtin_bswap32(8 + strlen(body))};
    write(fd, header, sizeof header);
    for (ssize_t sent; *body && (sent = write(fd, body, strlen(body))) > 0; body += sent)
        ;
}

/* Acknowledge the next request, whatever it is. */
static void acknowledge(int fd)
{
    static char text[1 << 20];
    uint32_t header[2];
    size_t have = 0, want;
    if (read(fd, header, sizeof header) != sizeof header)
        return;
    want = __builtin_bswap32(header[1]) - 8;
    while (have < want && have < sizeof text - 1) {
        ssize_t got = read(fd, text + have, want - have);
        if (got <= 0)
            return;
        have += got;
    }
    char *seq = strstr(text, "\"seq\":"), body[64];
    snprintf(body, sizeof body, "{\"seq\":%ld,\"pid\":7}", seq ? atol(seq + 6) : 0);
    send_message(fd, ACK, body);
}

static void ready(int fd, int version)
{
    char body[64];
    snprintf(body, sizeof body, "{\"protocol\":%d,\"kernel\":\"bad\"}", version);
    send_message(fd, READY, body);
}

static void garbage(int fd)
{
    char bytes[256];
    memset(bytes, 0xff, sizeof bytes);
    write(fd, bytes, sizeof bytes);
}

static void deep(int fd)
{
    static char body[200001];
    memset(body, '[', sizeof body - 1);
    send_message(fd, READY, body);
}

static void misbehave(const char *how)
{
    int control = open_port("sh.hyper.channel.0"), streams = open_port("sh.hyper.channel.1");
    if (!strcmp(how, "garbage"))
        garbage(control);
    else if (!strcmp(how, "deep"))
        deep(control);
    else
        ready(control, !strcmp(how, "version") ? 2 : 1);
    if (!strcmp(how, "version") || !strcmp(how, "deaf") || !strcmp(how, "garbage"))
        return;
    acknowledge(control); /* STARTPOD */
    if (strcmp(how, "events"))
        acknowledge(control); /* NEWCONTAINER */
    if (!strcmp(how, "late"))
        sleep(1), garbage(control);
    if (!strcmp(how, "streams"))
        sleep(1), garbage(streams);
    if (!strcmp(how, "events"))
        for (int i = 0; i < 100000; i++)
            send_message(control, PROCESSEVENT,
                         i % 2 ? "{\"container\":\"c\",\"process\":[1],\"code\":{}}"
                               : "{\"container\":\"c\",\"process\":\"init\",\"code\":3}");
    for (;;)
        acknowledge(control);
}

/* What hyperstart does: Debian's kernel has virtio as modules. */
static void load_modules(void)
{
    struct dirent **entries;
    int count = scandir("/modules", &entries, NULL, alphasort);
    for (int i = 0; i < count; i++) {
        char path[300];
        snprintf(path, sizeof path, "/modules/%s", entries[i]->d_name);
        int fd = open(path, O_RDONLY);
        syscall(SYS_finit_module, fd, "", 0);
        close(fd);
    }
}

int main(void)
{
    const char *how = getenv("BADGUEST");
    mkdir("/dev", 0755), mkdir("/sys", 0755);
    mount("dev", "/dev", "devtmpfs", 0, "");
    mount("sys", "/sys", "sysfs", 0, "");
    setvbuf(stdout, NULL, _IOLBF, 0);
    printf("bad guest: %s\n", how ? how : "?");
    if (!how || !strcmp(how, "panic"))
        return 1;
    if (!strcmp(how, "loud"))
        for (;;)
            puts("a line that the guest prints for ever, with \x1b[31mcolours\x1b[0m in it");
    if (strcmp(how, "silent"))
        load_modules(), misbehave(how);
    for (;;)
        pause();
}
