/* Tells each client of a port, by TCP and UDP and both versions of IP, the address that it has
 * here, and sends back what it sends. Argument: ports. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static char buffer[65536];

static size_t greeting(const struct sockaddr_in6 *peer, char *text)
{
    char address[INET6_ADDRSTRLEN];
    inet_ntop(AF_INET6, &peer->sin6_addr, address, sizeof address);
    const char *shown = IN6_IS_ADDR_V4MAPPED(&peer->sin6_addr) ? address + 7 : address;
    return (size_t)sprintf(text, "%s\n", shown);
}

static void serve_stream(int client, const struct sockaddr_in6 *peer)
{
    ssize_t size = (ssize_t)greeting(peer, buffer);
    do {
        for (ssize_t sent = 0, step; sent < size; sent += step)
            if ((step = write(client, buffer + sent, (size_t)(size - sent))) < 0)
                exit(1);
    } while ((size = read(client, buffer, sizeof buffer)) > 0);
    exit(0);
}

static int bound(int port, int kind)
{
    struct sockaddr_in6 own = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)};
    int on = 1, off = 0, sock = socket(AF_INET6, kind, 0);
    setsockopt(sock, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    setsockopt(sock, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
    if (bind(sock, (struct sockaddr *)&own, sizeof own) < 0)
        exit(1);
    if (kind == SOCK_STREAM)
        listen(sock, 64);
    return sock;
}

static void serve(int sock, int kind)
{
    struct sockaddr_in6 peer;
    for (;;) {
        socklen_t size = sizeof peer;
        if (kind == SOCK_STREAM) {
            int client = accept(sock, (struct sockaddr *)&peer, &size);
            if (client >= 0 && fork() == 0)
                serve_stream(client, &peer);
            close(client);
            continue;
        }
        ssize_t got = recvfrom(sock, buffer, 60000, 0, (struct sockaddr *)&peer, &size);
        char text[64];
        size_t head = greeting(&peer, text);
        memmove(buffer + head, buffer, (size_t)got);
        memcpy(buffer, text, head);
        sendto(sock, buffer, (size_t)got + head, 0, (struct sockaddr *)&peer, size);
    }
}

int main(int count, char **ports)
{
    signal(SIGCHLD, SIG_IGN);
    for (int i = 1; i < count; i++) {
        int stream = bound(atoi(ports[i]), SOCK_STREAM), datagram = bound(atoi(ports[i]), SOCK_DGRAM);
        if (fork() == 0)
            serve(stream, SOCK_STREAM);
        if (fork() == 0)
            serve(datagram, SOCK_DGRAM);
    }
    puts("ready");
    fflush(stdout);
    for (;;)
        pause();
}
