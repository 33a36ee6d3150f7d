#define _GNU_SOURCE
#include "connect.h"

#include <errno.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "container.h"

#define CONNECT_SECONDS 10

static int try_family(int family, uint16_t port)
{
    struct sockaddr_in four = {.sin_family = AF_INET,
                               .sin_port = htons(port),
                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_in6 six = {
        .sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    struct timeval bound = {.tv_sec = CONNECT_SECONDS};
    int sock = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (sock < 0)
        return -1;
    /* It bounds connect(2), too. */
    setsockopt(sock, SOL_SOCKET, SO_SNDTIMEO, &bound, sizeof bound);
    int done = family == AF_INET ? connect(sock, (struct sockaddr *)&four, sizeof four)
                                 : connect(sock, (struct sockaddr *)&six, sizeof six);
    if (done < 0) {
        int number = errno;
        close(sock);
        errno = number;
        return -1;
    }
    struct timeval none = {0};
    setsockopt(sock, SOL_SOCKET, SO_SNDTIMEO, &none, sizeof none);
    return sock;
}

int connect_open(const struct child *child, struct failure *failure)
{
    uint16_t port = child->process->connect;
    if (setns(child->init, CLONE_NEWNET) < 0)
        return fail_errno(failure, "network namespace of container %s", child->container->id);
    int sock = try_family(AF_INET, port);
    int number = errno;
    if (sock < 0)
        sock = try_family(AF_INET6, port);
    if (sock >= 0)
        return sock;
    errno = number;
    return fail_errno(failure, "connect to port %u", port);
}

static void pass(int from, int to)
{
    static SELDOM char buffer[65536];
    for (;;) {
        ssize_t got = read(from, buffer, sizeof buffer);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return;
        for (ssize_t sent = 0; sent < got;) {
            ssize_t put = write(to, buffer + sent, (size_t)(got - sent));
            if (put < 0 && errno == EINTR)
                continue;
            if (put < 0)
                return;
            sent += put;
        }
    }
}

/* A process for each direction, so that neither waits for the other. */
void connect_carry(int sock)
{
    pid_t self = getpid();
    signal(SIGPIPE, SIG_IGN);
    pid_t sender = fork();
    if (sender == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() == self)
            pass(0, sock);
        shutdown(sock, SHUT_WR);
        _exit(0);
    }
    close(0);
    pass(sock, 1);
    if (sender > 0)
        kill(sender, SIGKILL);
}
