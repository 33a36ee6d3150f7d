#include "services.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/ip_vs.h>
#include <netinet/in.h>
#include <stddef.h>
#include <sys/socket.h>
#include <unistd.h>

/* What IP_VS_SO_SET_ADDDEST takes: net/netfilter/ipvs/ip_vs_ctl.c, ip_vs_copy_*user_compat. */
struct service_and_backend {
    struct ip_vs_service_user service;
    struct ip_vs_dest_user backend;
};

static int set(int sock, int option, const void *value, size_t size)
{
    return setsockopt(sock, IPPROTO_IP, option, value, (socklen_t)size);
}

static int add(int sock, const struct service_spec *spec, struct failure *failure)
{
    struct service_and_backend value = {
        .service = {.protocol = spec->udp ? IPPROTO_UDP : IPPROTO_TCP,
                    .addr = spec->at.address,
                    .port = htons(spec->at.port),
                    .sched_name = "rr"},
    };
    if (set(sock, IP_VS_SO_SET_ADD, &value.service, sizeof value.service) < 0)
        return fail_errno(failure, "service at port %u", spec->at.port);
    for (size_t i = 0; i < spec->backends_count; i++) {
        value.backend = (struct ip_vs_dest_user){
            .addr = spec->backends[i].address,
            .port = htons(spec->backends[i].port),
            .conn_flags = IP_VS_CONN_F_MASQ,
            .weight = 1,
        };
        if (set(sock, IP_VS_SO_SET_ADDDEST, &value, sizeof value) < 0)
            return fail_errno(failure, "backend at port %u of the service at port %u",
                              spec->backends[i].port, spec->at.port);
    }
    return 0;
}

int services_set(const struct service_spec *services, size_t count, struct failure *failure)
{
    int sock = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW);
    if (sock < 0)
        return fail_errno(failure, "socket for services");
    int result = set(sock, IP_VS_SO_SET_FLUSH, NULL, 0);
    if (result < 0 && errno == ENOPROTOOPT && !count)
        result = 0;
    else if (result < 0 && errno == ENOPROTOOPT)
        result = fail(failure, FAIL_SETUP,
                      "services: this guest's kernel has no IPVS: use hyperkernel");
    else if (result < 0)
        result = fail_errno(failure, "services");
    for (size_t i = 0; i < count && result == 0; i++)
        result = add(sock, &services[i], failure);
    if (result < 0)
        set(sock, IP_VS_SO_SET_FLUSH, NULL, 0);
    close(sock);
    return result;
}
