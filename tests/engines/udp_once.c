/* Waits for one datagram on port 9000 and prints it. */
#include <arpa/inet.h>
#include <stdio.h>
#include <sys/socket.h>

int main(void)
{
    char data[1024];
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(9000)};
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) < 0)
        return 1;
    ssize_t size = recv(fd, data, sizeof data, 0);
    return size < 0 || fwrite(data, 1, (size_t)size, stdout) != (size_t)size;
}
