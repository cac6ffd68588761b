/* A load generator for the broker-bound figures: C, one thread, epoll, so that the broker is what
 * is measured. It speaks just enough of the protocol (client/PROTOCOL.md): hello, publish, fetch.
 *
 *   loader publish HOST PORT GROUP CONNECTIONS DEPTH BATCH_FILE SECONDS
 *       BATCH_FILE holds one record batch without idempotence; it is sent again and again.
 *   loader fetch   HOST PORT GROUP CONNECTIONS MAX_BYTES SECONDS
 *       each connection reads from offset 0 to the end, again and again.
 *   loader echo    HOST PORT CONNECTIONS SIZE SECONDS
 *       plain bytes of SIZE back and forth, for the baseline (see `echo.c`).
 *
 * Prints one JSON object: requests, bytes, seconds, rate, and latency percentiles in microseconds.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { HEAD = 16, PUBLISH_HEAD = 24, FETCH_REQUEST = 40, REPLY = 32, IN_BYTES = 1 << 20 };
enum { PUBLISH = 0x10, FETCH = 0x11, DEPTH_MAX = 256 };
enum mode { MODE_PUBLISH, MODE_FETCH, MODE_ECHO };

struct conn {
    int fd;
    uint8_t *in;
    size_t have, want_out, sent_out;
    double sent_at[DEPTH_MAX];
    unsigned first, count;
    unsigned to_send;
    uint64_t offset, high;
};

static enum mode mode;
static uint8_t *request;
static size_t request_len;
static uint32_t group, max_bytes;
static uint64_t done_requests, done_bytes;
static uint32_t *histogram; /* microseconds, 0..999999 */

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void die(const char *what) {
    fprintf(stderr, "loader: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void put32(uint8_t *at, uint32_t v) { memcpy(at, &v, 4); }
static uint32_t get32(const uint8_t *at) { uint32_t v; memcpy(&v, at, 4); return v; }
static uint64_t get64(const uint8_t *at) { uint64_t v; memcpy(&v, at, 8); return v; }

static void frame_head(uint8_t *at, uint32_t length, uint8_t type, uint32_t gid) {
    memset(at, 0, HEAD);
    put32(at, length);
    at[4] = type;
    put32(at + 12, gid);
}

static void read_exactly(int fd, uint8_t *buffer, size_t n) {
    while (n) {
        ssize_t got = read(fd, buffer, n);
        if (got <= 0) die("read");
        buffer += got;
        n -= (size_t)got;
    }
}

static void hello(int fd) {
    /* CBOR {"magic": "penstock", "version_min": 1, "version_max": 1, "client": "loader"} */
    static const char body[] =
        "\xa4" "\x65" "magic" "\x68" "penstock" "\x6b" "version_min" "\x01" "\x6b" "version_max"
        "\x01" "\x66" "client" "\x66" "loader";
    uint8_t out[256];
    size_t n = sizeof body - 1;
    frame_head(out, (uint32_t)(HEAD + n), 1, 0);
    memcpy(out + HEAD, body, n);
    if (write(fd, out, HEAD + n) != (ssize_t)(HEAD + n)) die("hello");
    uint8_t head[HEAD];
    read_exactly(fd, head, HEAD);
    uint32_t length = get32(head);
    if (head[5] & 2 || length > 4096) { fprintf(stderr, "loader: hello refused\n"); exit(1); }
    uint8_t rest[4096];
    read_exactly(fd, rest, length - HEAD);
}

static int open_socket(const char *host, int port) {
    int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    if (inet_pton(AF_INET, host, &to.sin_addr) != 1) die("host");
    if (connect(fd, (struct sockaddr *)&to, sizeof to)) die("connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return fd;
}

static void pump_out(struct conn *c) {
    while (c->to_send) {
        if (mode == MODE_FETCH && c->sent_out == 0) {
            memcpy(request + HEAD, &c->offset, 8);
        }
        if (c->sent_out == 0) {
            c->sent_at[(c->first + c->count) % DEPTH_MAX] = now();
        }
        ssize_t n = send(c->fd, request + c->sent_out, request_len - c->sent_out, MSG_NOSIGNAL);
        if (n < 0) {
            if (errno == EAGAIN) return;
            die("send");
        }
        c->sent_out += (size_t)n;
        if (c->sent_out == request_len) {
            c->sent_out = 0;
            c->to_send--;
            c->count++;
        }
    }
}

static void finished(struct conn *c, size_t bytes) {
    double took = now() - c->sent_at[c->first];
    c->first = (c->first + 1) % DEPTH_MAX;
    c->count--;
    c->to_send++;
    uint64_t us = (uint64_t)(took * 1e6);
    histogram[us < 999999 ? us : 999999]++;
    done_requests++;
    done_bytes += bytes;
}

static void fetched(struct conn *c, const uint8_t *reply, uint32_t length) {
    const uint8_t *at = reply + REPLY, *end = reply + length;
    c->high = get64(reply + 16);
    while (at + 96 <= end) {
        c->offset = get64(at + 32) + get32(at + 56);
        at += get32(at + 4);
    }
    if (c->offset >= c->high || at == reply + REPLY) c->offset = get64(reply + 24);
}

static void pump_in(struct conn *c, size_t capacity) {
    ssize_t n = recv(c->fd, c->in + c->have, capacity - c->have, 0);
    if (n == 0) { fprintf(stderr, "loader: the broker closed the connection\n"); exit(1); }
    if (n < 0) { if (errno == EAGAIN) return; die("recv"); }
    c->have += (size_t)n;
    size_t at = 0;
    if (mode == MODE_ECHO) {
        while (c->have - at >= request_len) { finished(c, request_len); at += request_len; }
    } else {
        while (c->have - at >= HEAD) {
            uint32_t length = get32(c->in + at);
            if (c->have - at < length) break;
            if (c->in[at + 5] & 2) {
                fprintf(stderr, "loader: error reply: %.*s\n", (int)(length - HEAD), c->in + at + HEAD);
                exit(1);
            }
            if (mode == MODE_FETCH) fetched(c, c->in + at, length);
            finished(c, mode == MODE_FETCH ? length : request_len);
            at += length;
        }
    }
    if (at) { memmove(c->in, c->in + at, c->have - at); c->have -= at; }
}

static uint64_t percentile(double p) {
    uint64_t want = (uint64_t)(p * (double)done_requests), seen = 0;
    for (uint64_t us = 0; us < 1000000; us++) {
        seen += histogram[us];
        if (seen > want) return us;
    }
    return 999999;
}

static void load_batch(const char *path) {
    FILE *f = fopen(path, "rb");
    if (!f) die(path);
    fseek(f, 0, SEEK_END);
    size_t n = (size_t)ftell(f);
    rewind(f);
    request_len = PUBLISH_HEAD + n;
    request = malloc(request_len);
    if (fread(request + PUBLISH_HEAD, 1, n, f) != n) die("batch");
    fclose(f);
    frame_head(request, (uint32_t)request_len, PUBLISH, group);
    memset(request + HEAD, 0, 8);
    request[HEAD] = 2; /* acks=quorum */
    put32(request + HEAD + 4, 10000);
}

int main(int argc, char **argv) {
    if (argc < 7) { fprintf(stderr, "usage: see the head of loader.c\n"); return 2; }
    const char *host = argv[2];
    int port = atoi(argv[3]), connections, depth = 1;
    double seconds;
    size_t capacity = IN_BYTES;
    if (!strcmp(argv[1], "publish") && argc == 9) {
        mode = MODE_PUBLISH;
        group = (uint32_t)atoi(argv[4]);
        connections = atoi(argv[5]);
        depth = atoi(argv[6]);
        load_batch(argv[7]);
        seconds = atof(argv[8]);
        capacity = 65536;
    } else if (!strcmp(argv[1], "fetch") && argc == 8) {
        mode = MODE_FETCH;
        group = (uint32_t)atoi(argv[4]);
        connections = atoi(argv[5]);
        max_bytes = (uint32_t)atoi(argv[6]);
        seconds = atof(argv[7]);
        request_len = FETCH_REQUEST;
        request = calloc(1, request_len);
        frame_head(request, FETCH_REQUEST, FETCH, group);
        put32(request + HEAD + 8, max_bytes);
        put32(request + HEAD + 16, 1000);
        capacity = (size_t)max_bytes * 2 + (9u << 20);
    } else if (!strcmp(argv[1], "echo") && argc == 7) {
        mode = MODE_ECHO;
        connections = atoi(argv[4]);
        request_len = (size_t)atoi(argv[5]);
        request = calloc(1, request_len);
        seconds = atof(argv[6]);
    } else { fprintf(stderr, "usage: see the head of loader.c\n"); return 2; }
    if (depth < 1 || depth > DEPTH_MAX) { fprintf(stderr, "loader: depth 1..%d\n", DEPTH_MAX); return 2; }
    histogram = calloc(1000000, sizeof *histogram);
    int ep = epoll_create1(0);
    struct conn *conns = calloc((size_t)connections, sizeof *conns);
    for (int i = 0; i < connections; i++) {
        struct conn *c = &conns[i];
        c->fd = open_socket(host, port);
        if (mode != MODE_ECHO) hello(c->fd);
        c->in = malloc(capacity);
        c->to_send = (unsigned)depth;
        fcntl(c->fd, F_SETFL, O_NONBLOCK);
        struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
        epoll_ctl(ep, EPOLL_CTL_ADD, c->fd, &e);
    }
    double start = now(), end = start + seconds;
    for (int i = 0; i < connections; i++) pump_out(&conns[i]);
    struct epoll_event events[256];
    while (now() < end) {
        int n = epoll_wait(ep, events, 256, 1);
        for (int i = 0; i < n; i++) {
            struct conn *c = events[i].data.ptr;
            pump_in(c, capacity);
            pump_out(c);
        }
        if (!n) for (int i = 0; i < connections; i++) pump_out(&conns[i]);
    }
    double took = now() - start;
    struct rusage use;
    getrusage(RUSAGE_SELF, &use);
    double cpu = (double)use.ru_utime.tv_sec + (double)use.ru_stime.tv_sec
        + (double)(use.ru_utime.tv_usec + use.ru_stime.tv_usec) / 1e6;
    printf("{\"requests\": %lu, \"bytes\": %lu, \"seconds\": %.3f, \"requests_per_second\": %.0f, "
           "\"megabytes_per_second\": %.1f, \"p50_us\": %lu, \"p99_us\": %lu, \"p999_us\": %lu, "
           "\"loader_cpu_seconds\": %.3f}\n",
           done_requests, done_bytes, took, (double)done_requests / took,
           (double)done_bytes / took / 1e6, percentile(.5), percentile(.99), percentile(.999), cpu);
    return 0;
}
