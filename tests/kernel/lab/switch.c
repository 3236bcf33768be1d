/*
 * The transit network of the laboratory: a routing switch that is also a delay line.
 *
 * Every port is an AF_PACKET socket on one end of a veth pair; the other end is the outer
 * interface of a router or of a public host.  A frame is forwarded by its destination address
 * (longest prefix), arrives after the delays of both ports, and may be lost, duplicated or held
 * back.  What has no route vanishes, as on the Internet.  TTL and hop limit go down by one.
 *
 * Commands are lines on standard input; each is answered by one line ("ok", "error ..." or JSON).
 * End of file ends the program.
 *
 *   port INTERFACE MAC                    attach; prints the port's number, counted from 0
 *   link PORT UP DELAY LOSS DUP REORDER HOLD    set; microseconds, and chances in parts per million
 *   route FAMILY ADDRESS BITS PORT        FAMILY is 4 or 6; replaces a route to the same prefix
 *   seed NUMBER                           of the chances
 *   counts                                {"packets": [[from x to]], "bytes": [...], ...}
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#ifndef PACKET_IGNORE_OUTGOING
#define PACKET_IGNORE_OUTGOING 23
#endif

enum {
    MAX_PORTS = 128,        /* sites of one laboratory: far more than two cores can keep busy */
    MAX_ROUTES = 512,       /* four addresses for each port */
    MAX_FRAME = 2048,       /* MTU 1500 and its Ethernet header, rounded up */
    MAX_WAITING = 65536,    /* frames in the delay line: 1 Gbit/s of full frames for 0.8 s */
    BATCH = 64,             /* frames read from a port before the others have their turn */
    MILLION = 1000000
};

struct port {
    int fd;
    uint8_t mac[ETH_ALEN];  /* of the far end of the veth pair */
    int up;
    int64_t delay, hold;    /* nanoseconds */
    uint32_t loss, duplicate, reorder;
};

struct route {
    int family, bits, port;
    uint8_t address[16];
};

struct waiting {
    int64_t due;
    uint64_t order;         /* equal times leave in the order in which they came */
    int port, length;
    uint8_t *frame;
};

static struct port ports[MAX_PORTS];
static int portCount;
static struct route routes[MAX_ROUTES];
static int routeCount;
static struct waiting heap[MAX_WAITING];
static int heapSize;
static uint64_t nextOrder, randomState = 0x9E3779B97F4A7C15ull;
static uint64_t packets[MAX_PORTS][MAX_PORTS], bytes[MAX_PORTS][MAX_PORTS];
static uint64_t unrouted[MAX_PORTS], lost[MAX_PORTS], expired[MAX_PORTS], overflowed;
static int epollFD, timerFD;

static int64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static int happens(uint32_t partsPerMillion)    /* xorshift64* */
{
    if (partsPerMillion == 0)
        return 0;
    randomState ^= randomState >> 12;
    randomState ^= randomState << 25;
    randomState ^= randomState >> 27;
    return (randomState * 0x2545F4914F6CDD1Dull >> 33) % MILLION < partsPerMillion;
}

/* ---- the delay line: a binary heap by due time ---- */

static int before(const struct waiting *a, const struct waiting *b)
{
    return a->due < b->due || (a->due == b->due && a->order < b->order);
}

static void push(int64_t due, int port, const uint8_t *frame, int length)
{
    if (heapSize == MAX_WAITING) {
        overflowed++;
        return;
    }
    struct waiting item = { due, nextOrder++, port, length, malloc(length) };
    if (item.frame == NULL) {
        overflowed++;
        return;
    }
    memcpy(item.frame, frame, length);
    int i = heapSize++;
    for (; i > 0 && before(&item, &heap[(i - 1) / 2]); i = (i - 1) / 2)
        heap[i] = heap[(i - 1) / 2];
    heap[i] = item;
}

static struct waiting pop(void)
{
    struct waiting top = heap[0], last = heap[--heapSize];
    int i = 0;
    for (int child; (child = 2 * i + 1) < heapSize; i = child) {
        if (child + 1 < heapSize && before(&heap[child + 1], &heap[child]))
            child++;
        if (!before(&heap[child], &last))
            break;
        heap[i] = heap[child];
    }
    heap[i] = last;
    return top;
}

static void deliverDue(void)
{
    while (heapSize > 0 && heap[0].due <= now()) {
        struct waiting item = pop();
        /* A full or vanished interface loses the frame, as a wire would. */
        if (ports[item.port].up
            && send(ports[item.port].fd, item.frame, item.length, MSG_DONTWAIT) < 0)
            lost[item.port]++;
        free(item.frame);
    }
    struct itimerspec when = { { 0, 0 }, { 0, 0 } };
    if (heapSize > 0) {
        when.it_value.tv_sec = heap[0].due / 1000000000;
        when.it_value.tv_nsec = heap[0].due % 1000000000;
    }
    timerfd_settime(timerFD, TFD_TIMER_ABSTIME, &when, NULL);
}

/* ---- forwarding ---- */

static int prefixMatches(const uint8_t *a, const uint8_t *b, int bits)
{
    int whole = bits / 8, rest = bits % 8;
    if (memcmp(a, b, whole) != 0)
        return 0;
    return rest == 0 || ((a[whole] ^ b[whole]) >> (8 - rest)) == 0;
}

static int lookUp(int family, const uint8_t *address)
{
    int best = -1, bestBits = -1;
    for (int i = 0; i < routeCount; i++)
        if (routes[i].family == family && routes[i].bits > bestBits
            && prefixMatches(routes[i].address, address, routes[i].bits)) {
            best = routes[i].port;
            bestBits = routes[i].bits;
        }
    return best;
}

/* The port that a frame leaves by; -1 when there is none, -2 when its time to live is over. */
static int forward(uint8_t *frame, int length)
{
    int kind = frame[12] << 8 | frame[13];
    uint8_t *header = frame + ETH_HLEN;
    if (kind == ETHERTYPE_IP && length >= ETH_HLEN + 20) {
        if (header[8] <= 1)
            return -2;
        header[8]--;
        uint32_t sum = (header[10] << 8 | header[11]) + 0x100;    /* RFC 1141 */
        sum += sum >> 16;
        header[10] = sum >> 8 & 0xFF;
        header[11] = sum & 0xFF;
        return lookUp(4, header + 16);
    }
    if (kind == ETHERTYPE_IPV6 && length >= ETH_HLEN + 40) {
        if (header[7] <= 1)
            return -2;
        header[7]--;
        return lookUp(6, header + 24);
    }
    return -1;
}

static void cross(int from, uint8_t *frame, int length)
{
    struct port *in = &ports[from];
    int to = forward(frame, length);
    if (to < 0) {
        (to == -2 ? expired : unrouted)[from]++;
        return;
    }
    struct port *out = &ports[to];
    if (!in->up || !out->up || happens(in->loss) || happens(out->loss)) {
        lost[from]++;
        return;
    }
    memcpy(frame + ETH_ALEN, frame, ETH_ALEN);    /* from the transit's own address */
    memcpy(frame, out->mac, ETH_ALEN);
    packets[from][to]++;
    bytes[from][to] += length;
    int64_t due = now() + in->delay + out->delay;
    if (happens(in->reorder))
        due += in->hold;
    if (happens(out->reorder))
        due += out->hold;
    push(due, to, frame, length);
    if (happens(in->duplicate) || happens(out->duplicate))
        push(due, to, frame, length);
}

static void readPort(int index)
{
    uint8_t frame[MAX_FRAME];
    for (int i = 0; i < BATCH; i++) {
        ssize_t length = recv(ports[index].fd, frame, sizeof frame, MSG_DONTWAIT | MSG_TRUNC);
        if (length < 0)
            return;
        if (length >= ETH_HLEN && length <= MAX_FRAME)
            cross(index, frame, (int)length);
    }
}

/* ---- commands ---- */

static int openPort(const char *name)
{
    int one = 1, size = 4 << 20, fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK, 0);
    struct sockaddr_ll where = { .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL) };
    where.sll_ifindex = (int)if_nametoindex(name);
    if (fd < 0 || where.sll_ifindex == 0
        || setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &one, sizeof one) < 0
        || bind(fd, (struct sockaddr *)&where, sizeof where) < 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size);
    setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size);
    return fd;
}

static const char *addPort(const char *arguments)
{
    static char answer[16];
    char name[IFNAMSIZ];
    unsigned m[ETH_ALEN];
    struct port *port = &ports[portCount];
    if (portCount == MAX_PORTS || sscanf(arguments, "%15s %x:%x:%x:%x:%x:%x", name, &m[0], &m[1],
                                         &m[2], &m[3], &m[4], &m[5]) != 7)
        return "error port";
    if ((port->fd = openPort(name)) < 0)
        return "error cannot open the interface";
    for (int i = 0; i < ETH_ALEN; i++)
        port->mac[i] = (uint8_t)m[i];
    port->up = 1;
    struct epoll_event event = { .events = EPOLLIN, .data.u32 = (uint32_t)portCount };
    epoll_ctl(epollFD, EPOLL_CTL_ADD, port->fd, &event);
    snprintf(answer, sizeof answer, "%d", portCount++);
    return answer;
}

static const char *setLink(const char *arguments)
{
    int index, up;
    long long delay, hold;
    unsigned loss, duplicate, reorder;
    if (sscanf(arguments, "%d %d %lld %u %u %u %lld", &index, &up, &delay, &loss, &duplicate,
               &reorder, &hold) != 7 || index < 0 || index >= portCount)
        return "error link";
    struct port *port = &ports[index];
    port->up = up;
    port->delay = delay * 1000;
    port->hold = hold * 1000;
    port->loss = loss;
    port->duplicate = duplicate;
    port->reorder = reorder;
    return "ok";
}

static const char *addRoute(const char *arguments)
{
    char text[INET6_ADDRSTRLEN];
    struct route route = { 0 };
    if (sscanf(arguments, "%d %45s %d %d", &route.family, text, &route.bits, &route.port) != 4
        || (route.family != 4 && route.family != 6) || route.port < 0 || route.port >= portCount
        || route.bits < 0 || route.bits > (route.family == 4 ? 32 : 128)
        || inet_pton(route.family == 4 ? AF_INET : AF_INET6, text, route.address) != 1)
        return "error route";
    for (int i = 0; i < routeCount; i++)
        if (routes[i].family == route.family && routes[i].bits == route.bits
            && prefixMatches(routes[i].address, route.address, route.bits)) {
            routes[i] = route;
            return "ok";
        }
    if (routeCount == MAX_ROUTES)
        return "error too many routes";
    routes[routeCount++] = route;
    return "ok";
}

static const char *seed(const char *arguments)
{
    uint64_t number = strtoull(arguments, NULL, 10);
    randomState = number * 0x9E3779B97F4A7C15ull + 1;    /* never 0, where xorshift stays */
    return "ok";
}

static void printRow(const uint64_t *row)
{
    for (int i = 0; i < portCount; i++)
        printf("%s%llu", i ? "," : "", (unsigned long long)row[i]);
}

static void printMatrix(const char *name, uint64_t matrix[][MAX_PORTS])
{
    printf("\"%s\":[", name);
    for (int i = 0; i < portCount; i++) {
        printf("%s[", i ? "," : "");
        printRow(matrix[i]);
        printf("]");
    }
    printf("],");
}

static void printCounts(void)
{
    printf("{");
    printMatrix("packets", packets);
    printMatrix("bytes", bytes);
    printf("\"unrouted\":[");
    printRow(unrouted);
    printf("],\"lost\":[");
    printRow(lost);
    printf("],\"expired\":[");
    printRow(expired);
    printf("],\"overflowed\":%llu}\n", (unsigned long long)overflowed);
}

static void obey(const char *line)
{
    if (strncmp(line, "counts", 6) == 0)
        printCounts();
    else if (strncmp(line, "port ", 5) == 0)
        puts(addPort(line + 5));
    else if (strncmp(line, "link ", 5) == 0)
        puts(setLink(line + 5));
    else if (strncmp(line, "route ", 6) == 0)
        puts(addRoute(line + 6));
    else if (strncmp(line, "seed ", 5) == 0)
        puts(seed(line + 5));
    else
        puts("error unknown command");
    fflush(stdout);
}

static int readCommands(void)    /* 0 at the end of file */
{
    static char buffer[512];    /* no command is as long as this */
    static size_t filled;
    ssize_t got = read(STDIN_FILENO, buffer + filled, sizeof buffer - 1 - filled);
    if (got <= 0)
        return got < 0 && errno == EAGAIN;
    filled += (size_t)got;
    buffer[filled] = 0;
    for (char *end; (end = strchr(buffer, '\n')) != NULL;) {
        *end = 0;
        obey(buffer);
        filled -= (size_t)(end + 1 - buffer);
        memmove(buffer, end + 1, filled + 1);
    }
    return filled < sizeof buffer - 1;
}

static int watch(int fd, uint32_t mark)
{
    struct epoll_event event = { .events = EPOLLIN, .data.u32 = mark };
    return epoll_ctl(epollFD, EPOLL_CTL_ADD, fd, &event);
}

int main(void)
{
    const uint32_t commands = MAX_PORTS, timer = MAX_PORTS + 1;
    /* A delay line that waits for its turn on the processor is late; harmless when refused. */
    sched_setscheduler(0, SCHED_FIFO, &(struct sched_param){ .sched_priority = 1 });
    epollFD = epoll_create1(0);
    timerFD = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    fcntl(STDIN_FILENO, F_SETFL, O_NONBLOCK);
    if (epollFD < 0 || timerFD < 0 || watch(STDIN_FILENO, commands) < 0
        || watch(timerFD, timer) < 0) {
        perror("switch");
        return 1;
    }
    for (;;) {
        struct epoll_event events[32];
        int count = epoll_wait(epollFD, events, 32, -1);
        for (int i = 0; i < count; i++) {
            uint64_t ignored;
            if (events[i].data.u32 == commands) {
                if (!readCommands())
                    return 0;
            } else if (events[i].data.u32 == timer) {
                if (read(timerFD, &ignored, sizeof ignored) < 0 && errno != EAGAIN)
                    return 1;
            } else
                readPort((int)events[i].data.u32);
        }
        deliverDue();
    }
}
