#include "net.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "loop.h"
#include "path.h"
#include "pci.h"

#define WAIT_MS 5000 /* for a hot-plugged card */

struct netlink_request {
    struct nlmsghdr header;
    char payload[1024];
};

static void *add_payload(struct netlink_request *request, size_t size)
{
    void *payload = (char *)&request->header + NLMSG_ALIGN(request->header.nlmsg_len);
    request->header.nlmsg_len = (uint32_t)(NLMSG_ALIGN(request->header.nlmsg_len) + size);
    return payload;
}

static void add_attribute(struct netlink_request *request, unsigned short type, const void *data,
                          size_t size)
{
    struct rtattr *attribute = add_payload(request, RTA_LENGTH(size));
    attribute->rta_type = type;
    attribute->rta_len = (unsigned short)RTA_LENGTH(size);
    memcpy(RTA_DATA(attribute), data, size);
}

static void begin(struct netlink_request *request, unsigned short type, unsigned short flags)
{
    memset(request, 0, sizeof *request);
    request->header.nlmsg_len = NLMSG_HDRLEN;
    request->header.nlmsg_type = type;
    request->header.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | flags;
}

/* Send and wait for the kernel's answer, which is immediate. Returns -1 and errno. */
static int transact(struct netlink_request *request)
{
    struct {
        struct nlmsghdr header;
        struct nlmsgerr error;
        char rest[2048];
    } answer;
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    if (fd < 0)
        return -1;
    int result = -1;
    if (send(fd, request, request->header.nlmsg_len, 0) >= 0 &&
        recv(fd, &answer, sizeof answer, 0) >= (ssize_t)NLMSG_LENGTH(sizeof answer.error)) {
        errno = answer.header.nlmsg_type == NLMSG_ERROR ? -answer.error.error : EPROTO;
        result = errno ? -1 : 0;
    }
    int saved = errno;
    close(fd);
    errno = saved;
    return result;
}

static void begin_link(struct netlink_request *request, unsigned short type, int index)
{
    begin(request, type, 0);
    struct ifinfomsg *link = add_payload(request, sizeof *link);
    link->ifi_index = index;
}

static int set_up(int index, bool up)
{
    struct netlink_request request;
    begin_link(&request, RTM_NEWLINK, index);
    struct ifinfomsg *link = NLMSG_DATA(&request.header);
    link->ifi_flags = up ? IFF_UP : 0;
    link->ifi_change = IFF_UP;
    return transact(&request);
}

int net_loopback_up(struct failure *failure)
{
    int index = (int)if_nametoindex("lo");
    return index && !set_up(index, true) ? 0 : fail_errno(failure, "loopback interface");
}

/* "52:54:00:12:34:56" */
static bool parse_mac(const char *text, unsigned char mac[6])
{
    static const char digits[] = "0123456789abcdefABCDEF";
    if (strlen(text) != 17)
        return false;
    for (int i = 0; i < 6; i++, text += 3) {
        if (strspn(text, digits) != 2 || text[2] != (i < 5 ? ':' : '\0'))
            return false;
        mac[i] = (unsigned char)strtoul(text, NULL, 16);
    }
    return true;
}

static int index_by_mac(const char *mac)
{
    DIR *directory = opendir("/sys/class/net");
    struct dirent *entry;
    int index = 0;
    while (directory && !index && (entry = readdir(directory))) {
        char path[300], address[32];
        snprintf(path, sizeof path, "/sys/class/net/%s/address", entry->d_name);
        if (entry->d_name[0] == '.' || read_file(path, address, sizeof address) <= 0)
            continue;
        address[strcspn(address, "\n")] = '\0';
        if (!strcasecmp(address, mac))
            index = (int)if_nametoindex(entry->d_name);
    }
    if (directory)
        closedir(directory);
    return index;
}

static int find_interface(const struct interface_spec *spec, struct failure *failure)
{
    int64_t end = monotonic_ms() + WAIT_MS;
    for (bool scanned = false;;) {
        int index = spec->mac ? index_by_mac(spec->mac) : (int)if_nametoindex(spec->device);
        if (index)
            return index;
        if (!scanned) {
            scanned = true;
            pci_rescan();
            continue;
        }
        if (monotonic_ms() > end)
            return fail(failure, FAIL_SETUP, "network interface %s not found",
                        spec->mac ? spec->mac : spec->device);
        usleep(10000);
    }
}

/* "10.0.2.15/24", "fd00::2/64"; without a length it is a host address. */
static bool parse_cidr(const char *text, int *family, unsigned char address[16],
                       unsigned char *length)
{
    char host[64];
    size_t size = strcspn(text, "/");
    if (size >= sizeof host)
        return false;
    memcpy(host, text, size);
    host[size] = '\0';
    *family = strchr(host, ':') ? AF_INET6 : AF_INET;
    int bits = *family == AF_INET ? 32 : 128;
    if (text[size]) {
        const char *digits = text + size + 1;
        size_t count = strlen(digits);
        if (count < 1 || count > 3 || strspn(digits, "0123456789") != count || atoi(digits) > bits)
            return false;
        bits = atoi(digits);
    }
    *length = (unsigned char)bits;
    return inet_pton(*family, host, address) == 1;
}

static size_t address_size(int family)
{
    return family == AF_INET ? 4 : 16;
}

/* Adds the address, or removes it when `text` starts with a minus. */
static int change_address(int index, const char *text, struct failure *failure)
{
    unsigned char address[16], length;
    int family;
    bool removed = *text == '-';
    if (!parse_cidr(text + removed, &family, address, &length))
        return fail(failure, FAIL_BAD_REQUEST, "bad address %.64s", text);
    struct netlink_request request;
    if (removed)
        begin(&request, RTM_DELADDR, 0);
    else
        begin(&request, RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE);
    struct ifaddrmsg *message = add_payload(&request, sizeof *message);
    message->ifa_family = (unsigned char)family;
    message->ifa_prefixlen = length;
    message->ifa_index = (unsigned)index;
    message->ifa_flags = family == AF_INET6 ? IFA_F_NODAD : 0;
    add_attribute(&request, IFA_LOCAL, address, address_size(family));
    add_attribute(&request, IFA_ADDRESS, address, address_size(family));
    if (family == AF_INET && length < 31 && !removed) {
        unsigned char broadcast[4];
        uint32_t host_bits = htonl(UINT32_MAX >> length), value;
        memcpy(&value, address, 4);
        value |= host_bits;
        memcpy(broadcast, &value, 4);
        add_attribute(&request, IFA_BROADCAST, broadcast, 4);
    }
    if (transact(&request) < 0 && !(removed && errno == EADDRNOTAVAIL))
        return fail_errno(failure, "address %s", text);
    return 0;
}

/* The name and the MAC address can be changed only while the interface is down. */
static int change_identity(int index, const struct interface_spec *spec, struct failure *failure)
{
    struct netlink_request request;
    unsigned char mac[6];
    if (!spec->name && !spec->new_mac && !spec->mtu)
        return 0;
    if ((spec->name || spec->new_mac) && set_up(index, false) < 0)
        return fail_errno(failure, "network interface down");
    begin_link(&request, RTM_NEWLINK, index);
    if (spec->name) {
        if (strlen(spec->name) >= IF_NAMESIZE)
            return fail(failure, FAIL_BAD_REQUEST, "name of an interface is too long");
        add_attribute(&request, IFLA_IFNAME, spec->name, strlen(spec->name) + 1);
    }
    if (spec->new_mac) {
        if (!parse_mac(spec->new_mac, mac))
            return fail(failure, FAIL_BAD_REQUEST, "bad address %.32s", spec->new_mac);
        add_attribute(&request, IFLA_ADDRESS, mac, sizeof mac);
    }
    if (spec->mtu)
        add_attribute(&request, IFLA_MTU, &spec->mtu, sizeof spec->mtu);
    return transact(&request) < 0 ? fail_errno(failure, "network interface") : 0;
}

/* "10.0.2.7 02:00:00:00:00:07" is there for good; "-10.0.2.7" goes, if it is there. */
static int change_neighbour(int index, const char *text, struct failure *failure)
{
    unsigned char address[16], mac[6], length;
    char host[64];
    int family;
    bool gone = *text == '-';
    const char *start = text + gone;
    size_t size = strcspn(start, " ");
    snprintf(host, sizeof host, "%.*s", (int)size, start);
    if (!parse_cidr(host, &family, address, &length) ||
        (!gone && (!start[size] || !parse_mac(start + size + 1, mac))))
        return fail(failure, FAIL_BAD_REQUEST, "bad neighbour %.64s", text);
    struct netlink_request request;
    begin(&request, gone ? RTM_DELNEIGH : RTM_NEWNEIGH, gone ? 0 : NLM_F_CREATE | NLM_F_REPLACE);
    struct ndmsg *message = add_payload(&request, sizeof *message);
    message->ndm_family = (unsigned char)family;
    message->ndm_ifindex = index;
    message->ndm_state = NUD_PERMANENT;
    add_attribute(&request, NDA_DST, address, address_size(family));
    if (!gone)
        add_attribute(&request, NDA_LLADDR, mac, sizeof mac);
    if (transact(&request) == 0 || (gone && errno == ENOENT))
        return 0;
    return fail_errno(failure, "neighbour %.64s", text);
}

int net_setup_interface(const struct interface_spec *spec, struct failure *failure)
{
    int index = find_interface(spec, failure);
    if (index < 0 || change_identity(index, spec, failure) < 0)
        return -1;
    for (size_t i = 0; i < spec->addresses_count; i++)
        if (change_address(index, spec->addresses[i], failure) < 0)
            return -1;
    if (set_up(index, spec->up) < 0)
        return fail_errno(failure, "network interface %s", spec->up ? "up" : "down");
    for (size_t i = 0; i < spec->neighbours_count; i++)
        if (change_neighbour(index, spec->neighbours[i], failure) < 0)
            return -1;
    return 0;
}

/* Virtual interfaces are deleted, cards ejected; those of Xen the host takes itself. */
int net_delete_interface(const struct interface_spec *spec, struct failure *failure)
{
    struct netlink_request request;
    int index = spec->mac ? index_by_mac(spec->mac) : (int)if_nametoindex(spec->device);
    char name[IF_NAMESIZE], device[64], address[32];
    if (!index)
        return 0;
    snprintf(device, sizeof device, "/sys/class/net/%s/device", if_indextoname(index, name));
    if (pci_address(device, address, sizeof address))
        return pci_eject(address, failure);
    if (access(device, F_OK) == 0)
        return set_up(index, false) < 0 ? fail_errno(failure, "network interface down") : 0;
    begin_link(&request, RTM_DELLINK, index);
    return transact(&request) < 0 ? fail_errno(failure, "network interface") : 0;
}

int net_setup_route(const struct route_spec *route, struct failure *failure)
{
    unsigned char destination[16], gateway[16], length = 0, ignored;
    int family = AF_INET, gateway_family = AF_INET;
    bool removed = *route->destination == '-';
    const char *to = route->destination + removed;
    bool is_default = !strcmp(to, "default");
    if (!is_default && !parse_cidr(to, &family, destination, &length))
        return fail(failure, FAIL_BAD_REQUEST, "bad route %.64s", route->destination);
    if (route->gateway && !parse_cidr(route->gateway, &gateway_family, gateway, &ignored))
        return fail(failure, FAIL_BAD_REQUEST, "bad gateway %.64s", route->gateway);
    if (is_default && route->gateway)
        family = gateway_family;
    if (route->gateway && gateway_family != family)
        return fail(failure, FAIL_BAD_REQUEST, "gateway of another family than the route");
    int index = (int)if_nametoindex(route->device);
    if (!index && removed)
        return 0;
    if (!index)
        return fail(failure, FAIL_SETUP, "network interface %s not found", route->device);
    struct netlink_request request;
    if (removed)
        begin(&request, RTM_DELROUTE, 0);
    else
        begin(&request, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE);
    struct rtmsg *message = add_payload(&request, sizeof *message);
    message->rtm_family = (unsigned char)family;
    message->rtm_dst_len = length;
    message->rtm_table = RT_TABLE_MAIN;
    message->rtm_protocol = RTPROT_BOOT;
    message->rtm_scope = route->gateway ? RT_SCOPE_UNIVERSE : RT_SCOPE_LINK;
    message->rtm_type = RTN_UNICAST;
    if (!is_default)
        add_attribute(&request, RTA_DST, destination, address_size(family));
    if (route->gateway)
        add_attribute(&request, RTA_GATEWAY, gateway, address_size(family));
    add_attribute(&request, RTA_OIF, &index, sizeof index);
    if (transact(&request) < 0 && !(removed && errno == ESRCH))
        return fail_errno(failure, "route %s", route->destination);
    return 0;
}
