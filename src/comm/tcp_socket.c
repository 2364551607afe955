/* SPDX-License-Identifier: MIT */
/* The TCP transport: sockets that never block, with deadlines. */
#include "comm/tcp.h"
#include "device/device.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---- addresses -------------------------------------------------------------------------------------------------- */

static const unsigned char mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

static ringx_address address_of(const struct sockaddr_storage *from)
{
    ringx_address a = {.port = 0};
    if (from->ss_family == AF_INET6) {
        struct sockaddr_in6 six;
        memcpy(&six, from, sizeof six);
        memcpy(a.bytes, &six.sin6_addr, sizeof a.bytes);
        a.port = ntohs(six.sin6_port);
    } else {
        struct sockaddr_in four;
        memcpy(&four, from, sizeof four);
        memcpy(a.bytes, mapped, sizeof mapped);
        memcpy(a.bytes + sizeof mapped, &four.sin_addr, 4);
        a.port = ntohs(four.sin_port);
    }
    return a;
}

static socklen_t socket_address(const ringx_address *a, struct sockaddr_storage *to)
{
    memset(to, 0, sizeof *to);
    if (memcmp(a->bytes, mapped, sizeof mapped) == 0) {
        struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = htons(a->port)};
        memcpy(&four.sin_addr, a->bytes + sizeof mapped, 4);
        memcpy(to, &four, sizeof four);
        return sizeof four;
    }
    struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons(a->port)};
    memcpy(&six.sin6_addr, a->bytes, sizeof a->bytes);
    memcpy(to, &six, sizeof six);
    return sizeof six;
}

bool ringx__address_is_loopback(const ringx_address *a)
{
    static const unsigned char one[16] = {[15] = 1};
    bool four = memcmp(a->bytes, mapped, sizeof mapped) == 0;
    return four ? a->bytes[12] == 127 : memcmp(a->bytes, one, sizeof one) == 0;
}

ringx_status ringx__socket_resolve(const char *host, int port, ringx_address *addresses, int most, int *found)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list = NULL;
    char service[16];
    snprintf(service, sizeof service, "%d", port);
    *found = 0;
    int error = getaddrinfo(host, service, &hints, &list);
    if (error)
        RINGX_FAIL(RINGX_INVALID, "the host \"%.100s\" of rank 0 is not found: %s", host, gai_strerror(error));
    for (struct addrinfo *i = list; i && *found < most; i = i->ai_next) {
        struct sockaddr_storage storage = {.ss_family = AF_UNSPEC};
        if (i->ai_family != AF_INET && i->ai_family != AF_INET6)
            continue;
        memcpy(&storage, i->ai_addr, i->ai_addrlen);
        addresses[(*found)++] = address_of(&storage);
    }
    freeaddrinfo(list);
    if (*found == 0)
        RINGX_FAIL(RINGX_INVALID, "the host \"%.100s\" of rank 0 has no IP address", host);
    return RINGX_OK;
}

ringx_address ringx__socket_peer(int socket)
{
    struct sockaddr_storage storage = {.ss_family = AF_INET};
    socklen_t bytes = sizeof storage;
    getpeername(socket, (struct sockaddr *)&storage, &bytes);
    return address_of(&storage);
}

/* ---- making ----------------------------------------------------------------------------------------------------- */

/* Small messages leave at once; a host that is gone is noticed some day even if nobody waits for it. */
static int tuned(int socket)
{
    int on = 1;
    if (socket < 0)
        return -1;
    setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(socket, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    return socket;
}

static int listen_on(int family, int port)
{
    int on = 1, off = 0, s = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct sockaddr_storage any = {.ss_family = (sa_family_t)family};
    socklen_t bytes = family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
    uint16_t net = htons((uint16_t)port); /* at the same place in both */
    memcpy((char *)&any + offsetof(struct sockaddr_in, sin_port), &net, sizeof net);
    if (s < 0)
        return -1;
    setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (family == AF_INET6)
        setsockopt(s, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
    if (bind(s, (struct sockaddr *)&any, bytes) == 0 && listen(s, SOMAXCONN) == 0)
        return s;
    int error = errno;
    close(s);
    errno = error;
    return -1;
}

ringx_status ringx__socket_listen(int *port, int *listener)
{
    *listener = listen_on(AF_INET6, *port);
    if (*listener < 0 && errno != EADDRINUSE)
        *listener = listen_on(AF_INET, *port);
    if (*listener < 0)
        RINGX_FAIL(RINGX_COMM, "cannot listen on port %d: %s; MASTER_PORT or RINGX_PORT must be a free port", *port,
                   strerror(errno));
    struct sockaddr_storage storage = {.ss_family = AF_INET};
    socklen_t bytes = sizeof storage;
    getsockname(*listener, (struct sockaddr *)&storage, &bytes);
    *port = address_of(&storage).port;
    return RINGX_OK;
}

int ringx__socket_accept(int listener)
{
    return tuned(accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC));
}

/* Waits for events on a socket. */
static bool wait_for(int socket, short events, double end)
{
    struct pollfd p = {.fd = socket, .events = events};
    for (;;) {
        double left = end - ringx__now();
        if (left <= 0) {
            errno = ETIMEDOUT;
            return false;
        }
        int n = poll(&p, 1, left > 3600 ? 3600000 : (int)(left * 1e3) + 1);
        if (n > 0)
            return true;
        if (n < 0 && errno != EINTR)
            return false;
    }
}

int ringx__socket_connect(const ringx_address *address, double end)
{
    struct sockaddr_storage to;
    socklen_t bytes = socket_address(address, &to), size = sizeof(int);
    int error = 0, s = socket(to.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (s < 0)
        return -1;
    if (connect(s, (struct sockaddr *)&to, bytes) != 0) {
        error = errno;
        if (error == EINPROGRESS)
            error = wait_for(s, POLLOUT, end) ? 0 : errno;
        if (!error)
            getsockopt(s, SOL_SOCKET, SO_ERROR, &error, &size);
    }
    if (!error)
        return tuned(s);
    close(s);
    errno = error;
    return -1;
}

/* ---- all or nothing --------------------------------------------------------------------------------------------- */

static bool may_retry(void)
{
    return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
}

bool ringx__socket_send(int socket, const void *data, size_t bytes, double end)
{
    for (size_t at = 0; at < bytes;) {
        ssize_t n = send(socket, (const char *)data + at, bytes - at, MSG_NOSIGNAL);
        if (n > 0)
            at += (size_t)n;
        else if (!may_retry() || !wait_for(socket, POLLOUT, end))
            return false;
    }
    return true;
}

bool ringx__socket_receive(int socket, void *data, size_t bytes, double end)
{
    for (size_t at = 0; at < bytes;) {
        ssize_t n = recv(socket, (char *)data + at, bytes - at, 0);
        if (n > 0)
            at += (size_t)n;
        if (n == 0)
            errno = ECONNRESET;
        if (n <= 0 && (n == 0 || !may_retry() || !wait_for(socket, POLLIN, end)))
            return false;
    }
    return true;
}
