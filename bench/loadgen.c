/* loadgen: rooms of cursors over WebSocket, measured from the send to every receiver.
 *
 * One thread, one epoll. Every client is a user of its own: it connects, authenticates, joins its room and then sends
 * cursors at a fixed rate, from a random phase or evenly spaced. Each cursor carries its send time (`timestamp`, seconds since the start
 * with microseconds) and its number (`x`), so a receiver needs nothing but the frame to tell latency and order.
 *
 *   loadgen HOST PORT ROOMS USERS HZ WARMUP_S MEASURE_S TOKENS_FILE [key=value ...]
 *     caps=cursors     ask for compact cursors          extras=1   typing and playback beside the cursors, in room 0
 *     stop=N           N members of room 0 stop reading when the measurement starts; they are not expected to get any
 *     slow=N,N,...     the last members of room 0, one for each N, read N bytes a second with a receive buffer of 4096
 *                      bytes; they send as the others do, and what they get counts in `slow` alone
 *     storm=1          measure joins alone: connect, authenticate and join everybody at once
 *     phases=even      everybody sends at the same distance from the one before, members of a room far from each other
 *     obey=1           send at most every `sendIntervalMs` of `joined` and of later notices, as the SDK does
 *     relief=S         after the measurement at half the rate: 2 s to recover, then S seconds into `relief_ms`
 *
 * Prints one JSON object. `late_us` is this program's own lateness: when its p99 is not small the figures are its own.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

#define PATH "/presence"
#define RING 80 /* cursors of one sender still under way; divides 10000, where the number in `x` starts again */
#define STOPPED_BUFFER 4096 /* so that what a stopped reader does not take soon waits in the server, not in the kernel */
#define MAX_US 2000000
#define EXACT_BITS 11 /* a histogram is exact to the microsecond below 2^11, then to one part in 2^10 */
#define BUCKETS (((22 - EXACT_BITS) << (EXACT_BITS - 1)) + (1 << (EXACT_BITS - 1)))
#define READ_BYTES 65536
#define MOST_SLOW 64
#define SLOW_TURN_US 20000 /* how often a slow reader reads */
#define RECOVERY_US 2000000 /* after the load has fallen, before what came back is measured */
#define TURN 64 /* sockets read before looking at the clock again, or a burst to all clients would make the sends late */
#define EARLY_US 50 /* sends that are so close share a look at the sockets, which costs as much as a send */
#define UNREAD_US 1000 /* reads come first again after so long, or a generator that is late would not read at all */

enum state { CONNECTING, UPGRADING, AUTHENTICATING, JOINING, JOINED, DEAD };

struct client {
    int fd, room, number, reading;
    struct slow *slow; /* what only a slow reader has, or NULL */
    enum state state;
    unsigned char *rest; /* the beginning of a frame whose end has not come */
    size_t rest_size;
    int64_t join_sent, advised;
    uint32_t sequence;
    int32_t index_in_room; /* number in compact cursors, from `index` */
    struct shown { /* within one line of the cache: with many clients every look at one is a miss */
        _Alignas(32) int64_t sent_at;
        int64_t worst;
        uint32_t seen, sequence;
    } ring[RING];
};

struct slow {
    long bytes_per_s;
    double may_read; /* bytes, since the load began */
    int64_t newest; /* when the newest cursor of one look at the socket was sent */
    int64_t *ages; /* of the newest cursor at each look that brought one, microseconds */
    size_t count, capacity;
    int closed;
};

struct histogram { /* small enough for the cache: it is written at each cursor that arrives */
    uint32_t count[BUCKETS];
    uint64_t total;
    int64_t max;
};

static struct client *clients;
static int client_count, rooms, users_per_room, epoll_fd, compact, extras, stop_readers, slow_readers, storm, even, obey;
static struct slow slows[MOST_SLOW];
static double hz, warmup_s, measure_s, relief_s;
static int64_t measure_from, measure_to, relief_from, relief_to, epoch;
static struct histogram latency, last_receiver, join_latency, lateness, typing_latency, playback_latency, relief;
static uint64_t sent, delivered, arrived, frames_received, bytes_received, closed, expected, errors;
static uint64_t relief_expected;
static uint32_t *pairs; /* receiver * users_per_room + sender within the room -> cursors delivered */
static char **tokens;
static int32_t *by_index; /* room * 512 + index -> client number */

static int64_t now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static void note(struct histogram *h, int64_t us) {
    if (us < 0) us = 0;
    if (us > h->max) h->max = us;
    if (us > MAX_US) us = MAX_US;
    int shift = us >> EXACT_BITS ? 64 - EXACT_BITS - __builtin_clzll(us) : 0;
    h->count[(shift << (EXACT_BITS - 1)) + (us >> shift)]++;
    h->total++;
}

static double percentile(struct histogram *h, double p) {
    if (!h->total) return -1.0;
    uint64_t rank = (uint64_t)ceil(h->total * p), sum = 0;
    for (int i = 0; i < BUCKETS; i++) {
        sum += h->count[i];
        int shift = i >> EXACT_BITS ? (i >> (EXACT_BITS - 1)) - 1 : 0;
        if (sum >= rank && sum) return ((int64_t)(i - (shift << (EXACT_BITS - 1))) << shift) / 1000.0;
    }
    return MAX_US / 1000.0;
}

static void die(const char *what) {
    fprintf(stderr, "loadgen: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void write_all(struct client *c, const void *data, size_t size) {
    const char *at = data;
    while (size) {
        ssize_t done = send(c->fd, at, size, MSG_NOSIGNAL); /* a sixth less than write() costs */
        if (done < 0) {
            if (errno == EAGAIN) { usleep(200); continue; }
            return; /* the read side learns of the loss */
        }
        at += done;
        size -= done;
    }
}

static void send_text(struct client *c, const char *text, size_t size) {
    unsigned char frame[9000];
    size_t head = 2;
    frame[0] = 0x81;
    if (size < 126) {
        frame[1] = 0x80 | size;
    } else {
        frame[1] = 0x80 | 126;
        frame[2] = size >> 8;
        frame[3] = size & 255;
        head = 4;
    }
    memset(frame + head, 0, 4); /* a mask of zeros leaves the payload as it is */
    memcpy(frame + head + 4, text, size);
    write_all(c, frame, head + 4 + size);
}

static void send_pong(struct client *c) {
    unsigned char frame[6] = {0x8A, 0x80, 0, 0, 0, 0};
    write_all(c, frame, sizeof frame);
}

static int stops(struct client *c) {
    return c->room == 0 && c->number >= users_per_room - stop_readers;
}

static int is_slow(struct client *c) {
    return c->room == 0 && c->number >= users_per_room - slow_readers;
}

/* How many are expected to get a cursor of this client in time. */
static uint32_t receivers(struct client *c) {
    return users_per_room - (c->room == 0 ? stop_readers + slow_readers : 0) - !is_slow(c);
}

static char *put_text(char *at, const char *text, size_t size) {
    memcpy(at, text, size);
    return at + size;
}

/* `value` in decimal digits, at least `width`. printf takes a tenth of this program's time. */
static char *put_number(char *at, uint64_t value, int width) {
    char digits[20], *first = digits + sizeof digits;
    while (value || digits + sizeof digits - first < width) {
        *--first = '0' + value % 10;
        value /= 10;
    }
    return put_text(at, first, digits + sizeof digits - first);
}

#define PUT(at, text) put_text(at, text, sizeof text - 1)

static void send_cursor(struct client *c, int64_t now) {
    char text[200], *at = PUT(text, "{\"type\":\"cursor\",\"roomId\":\"video_");
    struct shown *shown = &c->ring[c->sequence % RING];
    at = put_number(at, c->room, 1);
    at = PUT(at, "\",\"data\":{\"timestamp\":");
    at = put_number(at, (now - epoch) / 1000000, 1);
    at = PUT(at, ".");
    at = put_number(at, (now - epoch) % 1000000, 6);
    at = PUT(at, ",\"x\":0.");
    at = put_number(at, c->sequence % 10000, 4);
    at = PUT(at, ",\"y\":0.5}}");
    size_t size = at - text;
    *shown = (struct shown){.sent_at = now, .sequence = c->sequence++};
    if (now >= measure_from && now < measure_to) {
        sent++;
        expected += receivers(c);
    } else if (now >= relief_from && now < relief_to) {
        relief_expected += receivers(c);
    }
    send_text(c, text, size);
}

static const char *find(const char *text, size_t size, const char *what) {
    return memmem(text, size, what, strlen(what));
}

/* The same for a `what` of at least eight bytes near the beginning of `text`: memmem makes a table first. */
static inline const char *find_near(const char *text, size_t size, const char *what, size_t length) {
    uint64_t first, here;
    memcpy(&first, what, 8);
    for (const char *at = text; at + length <= text + size; at++) {
        memcpy(&here, at, 8);
        if (here == first && !memcmp(at + 8, what + 8, length - 8)) return at;
    }
    return NULL;
}

#define FIND_NEAR(text, size, what) find_near(text, size, what, sizeof what - 1)

/* strtod for what a cursor holds: digits and a point. It is a third of this program's time when strtod does it. */
static double number_at(const char *at, char **end) {
    const char *from = at;
    double value = 0.0, unit = 1.0;
    for (; *at >= '0' && *at <= '9'; at++) value = value * 10.0 + (*at - '0');
    if (*at == '.')
        for (at++; *at >= '0' && *at <= '9'; at++, unit *= 10.0) value = value * 10.0 + (*at - '0');
    if (at == from || *at == 'e' || *at == 'E') return strtod(from, end);
    *end = (char *)at;
    return value / unit;
}

static void note_cursor(struct client *receiver, struct client *sender, double timestamp, double x, int64_t now) {
    int64_t at = epoch + (int64_t)llround(timestamp * 1e6);
    if (receiver->slow) {
        if (at > receiver->slow->newest) receiver->slow->newest = at;
        return;
    }
    if (now < measure_to) arrived++; /* however old: what got through in the time of the measurement */
    if (at >= relief_from && at < relief_to) note(&relief, now - at);
    if (at < measure_from || at >= measure_to) return;
    delivered++;
    if (sender) pairs[receiver->number * users_per_room + sender->number % users_per_room]++;
    note(&latency, now - at);
    if (!sender) return;
    uint32_t number = (uint32_t)llround(x * 10000.0);
    struct shown *shown = &sender->ring[number % RING];
    if (shown->sent_at != at || shown->sequence % 10000 != number) return;
    if (now - at > shown->worst) shown->worst = now - at;
    if (++shown->seen == receivers(sender)) note(&last_receiver, shown->worst);
}

static struct client *client_of(int number) {
    return number >= 0 && number < client_count ? &clients[number] : NULL;
}

static void on_compact(struct client *c, const char *text, size_t size, int64_t now) {
    const char *at = find(text, size, "\"data\":[");
    if (!at) return;
    for (at += 8; *at == '[' || *at == ','; ) {
        if (*at == ',') { at++; continue; }
        char *end;
        long index = strtol(at + 1, &end, 10);
        if (*end == ',') {
            double timestamp = number_at(end + 1, &end);
            double x = *end == ',' ? number_at(end + 1, &end) : 0.0;
            int32_t who = index >= 0 && index < 512 ? by_index[c->room * 512 + index] : -1;
            note_cursor(c, who >= 0 ? &clients[who] : NULL, timestamp, x, now);
        }
        while (*end && *end != ']') end++;
        at = end + 1;
    }
}

/* `sendIntervalMs` of `joined` and of the notice SEND_INTERVAL: how often the server would have this client send. */
static void note_advice(struct client *c, const char *text, size_t size) {
    const char *at = find(text, size, "\"sendIntervalMs\":");
    if (at) c->advised = (int64_t)llround(strtod(at + 17, NULL) * 1000.0);
}

static void on_text(struct client *c, const char *text, size_t size, int64_t now) {
    frames_received++;
    if (size > 22 && !memcmp(text, "{\"type\":\"cursor_moved\"", 22)) {
        if (now < measure_from) return;
        const char *user = FIND_NEAR(text, size, "\"userId\":\"u"), *from = user ? user : text;
        const char *at = FIND_NEAR(from, size - (from - text), "\"timestamp\":");
        if (!at) return;
        char *end;
        double timestamp = number_at(at + 12, &end);
        const char *x = !memcmp(end, ",\"x\":", 5) ? end + 1 : find(end, size - (end - text), "\"x\":");
        note_cursor(c, user ? client_of(atoi(user + 11)) : NULL, timestamp, x ? number_at(x + 4, &end) : 0.0, now);
    } else if (size > 18 && !memcmp(text, "{\"type\":\"cursors\",", 18)) {
        if (now >= measure_from) on_compact(c, text, size, now);
    } else if (c->state == AUTHENTICATING && find(text, size, "\"authenticated\"")) {
        char join[160];
        int n = snprintf(join, sizeof join, "{\"type\":\"join\",\"roomId\":\"video_%d\",\"roomType\":\"video\"}", c->room);
        c->state = JOINING;
        c->join_sent = now;
        send_text(c, join, n);
    } else if (c->state == JOINING && find(text, size, "\"type\":\"joined\"")) {
        c->state = JOINED;
        note(&join_latency, now - c->join_sent);
        note_advice(c, text, size);
        char own[64];
        snprintf(own, sizeof own, "\"userId\":\"u%d\"", c->number);
        const char *row = find(text, size, own);
        const char *index = row ? find(row, size - (row - text), "\"index\":") : NULL;
        if (index) {
            c->index_in_room = atoi(index + 8);
            by_index[c->room * 512 + c->index_in_room] = c->number;
        }
    } else if (extras && find(text, size, "\"typing_started\"")) {
        const char *at = find(text, size, "\"context\":\"");
        if (at && now >= measure_from) note(&typing_latency, now - epoch - atoll(at + 11));
    } else if (extras && find(text, size, "\"playback_synced\"")) {
        const char *at = find(text, size, "\"currentTime\":");
        if (at && now >= measure_from) note(&playback_latency, now - epoch - llround(strtod(at + 14, NULL) * 1e6));
    } else if (size > 23 && !memcmp(text, "{\"type\":\"server_notice\"", 23)) {
        note_advice(c, text, size);
    } else if (find(text, size, "\"type\":\"error\"")) {
        static int shown;
        errors++;
        if (shown++ < 3) fprintf(stderr, "loadgen: %.*s\n", (int)size, text);
    }
}

/* Handles the frames in `in`, which has room for one byte more; returns how many bytes they were. */
static size_t on_frames(struct client *c, unsigned char *in, size_t size_in, int64_t now) {
    size_t at = 0;
    while (size_in - at >= 2) {
        unsigned char *f = in + at;
        uint64_t size = f[1] & 127, head = 2;
        if (size == 126) {
            if (size_in - at < 4) break;
            size = (uint64_t)f[2] << 8 | f[3];
            head = 4;
        } else if (size == 127) {
            if (size_in - at < 10) break;
            size = 0;
            for (int i = 2; i < 10; i++) size = size << 8 | f[i];
            head = 10;
        }
        if (size_in - at < head + size) break;
        if ((f[0] & 15) == 1) {
            unsigned char saved = f[head + size];
            f[head + size] = 0;
            on_text(c, (char *)f + head, size, now);
            f[head + size] = saved;
        } else if ((f[0] & 15) == 9) {
            send_pong(c);
        }
        at += head + size;
    }
    return at;
}

static size_t on_upgraded(struct client *c, unsigned char *in, size_t size) {
    unsigned char *end = memmem(in, size, "\r\n\r\n", 4);
    if (!end) return 0;
    if (memcmp(in, "HTTP/1.1 101", 12)) {
        fprintf(stderr, "loadgen: %.*s\n", 60, (char *)in);
        exit(1);
    }
    char auth[4000];
    int n = snprintf(auth, sizeof auth, "{\"type\":\"auth\",\"token\":\"%s\"%s}", tokens[c->number],
                     compact ? ",\"caps\":[\"cursors\"]" : "");
    c->state = AUTHENTICATING;
    send_text(c, auth, n);
    return end + 4 - in;
}

/* All read into one buffer, which stays in the cache; only the beginning of an unfinished frame is kept by the client. */
static void on_readable(struct client *c) {
    static unsigned char *in;
    static size_t capacity;
    for (;;) {
        size_t most = READ_BYTES;
        if (c->slow && c->reading == 2 && c->slow->may_read < most) most = (size_t)c->slow->may_read;
        if (!most) return;
        if (c->rest_size + most + 1 > capacity) in = realloc(in, capacity = c->rest_size + 2 * READ_BYTES);
        if (c->rest_size) memcpy(in, c->rest, c->rest_size);
        ssize_t got = recv(c->fd, in + c->rest_size, most, 0);
        if (got == 0 || (got < 0 && errno != EAGAIN)) {
            if (c->state != DEAD) closed++;
            if (c->slow) c->slow->closed = 1;
            c->state = DEAD;
            close(c->fd);
            return;
        }
        if (got < 0) return;
        size_t size = c->rest_size + got, at = 0;
        if (c->slow) c->slow->may_read -= got;
        else bytes_received += got;
        if (c->state == UPGRADING) at = on_upgraded(c, in, size);
        if (c->state != UPGRADING) at += on_frames(c, in + at, size - at, now_us());
        c->rest_size = size - at;
        if (c->rest_size) {
            c->rest = realloc(c->rest, c->rest_size);
            memcpy(c->rest, in + at, c->rest_size);
        }
        if ((size_t)got < READ_BYTES) return;
    }
}

static void start(struct client *c, struct sockaddr_in *server) {
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (c->fd < 0) die("socket");
    int one = 1;
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(c->fd, IPPROTO_TCP, TCP_CONGESTION, "reno", 4); /* BBR sets a timer for each packet */
    int small = STOPPED_BUFFER;
    if (stops(c) || is_slow(c)) setsockopt(c->fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    if (connect(c->fd, (struct sockaddr *)server, sizeof *server)) die("connect");
    fcntl(c->fd, F_SETFL, O_NONBLOCK);
    char request[400];
    int n = snprintf(request, sizeof request,
        "GET " PATH " HTTP/1.1\r\nHost: bench\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n");
    c->state = UPGRADING;
    write_all(c, request, n);
    /* Edge-triggered: otherwise each wait looks again at the sockets of the one before. */
    struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.ptr = c};
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, c->fd, &event);
}

static void turn(int64_t until) {
    struct epoll_event events[TURN];
    int64_t wait = until - now_us();
    struct timespec timeout = {wait > 0 ? wait / 1000000 : 0, wait > 0 ? (wait % 1000000) * 1000 : 0};
    int n = epoll_pwait2(epoll_fd, events, TURN, &timeout, NULL);
    for (int i = 0; i < n; i++) __builtin_prefetch(events[i].data.ptr);
    for (int i = 0; i < n; i++) on_readable(events[i].data.ptr);
}

/* Slow readers read what they may by now. Ages count only within the measurement. */
static void read_slowly(int64_t now) {
    static int64_t last;
    if (last && now - last < SLOW_TURN_US) return;
    for (int i = 0; i < slow_readers; i++) {
        struct client *c = &clients[users_per_room - slow_readers + i];
        struct slow *slow = c->slow;
        if (!last) { /* the load begins: from now on they are read here alone */
            epoll_ctl(epoll_fd, EPOLL_CTL_DEL, c->fd, NULL);
            c->reading = 2;
            slow->may_read = 0;
        } else if (c->state != DEAD) {
            slow->may_read += slow->bytes_per_s * (now - last) / 1e6;
            slow->newest = 0;
            on_readable(c);
            /* what was not there to be read now does not make a fast reader of it later */
            if (slow->may_read > slow->bytes_per_s) slow->may_read = slow->bytes_per_s;
            if (!slow->newest || now < measure_from || now >= measure_to) continue;
            if (slow->count == slow->capacity)
                slow->ages = realloc(slow->ages, (slow->capacity = 2 * slow->capacity + 64) * sizeof *slow->ages);
            slow->ages[slow->count++] = now_us() - slow->newest;
        }
    }
    last = now;
}

static int by_age(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

static void print_slow(void) {
    if (!slow_readers) return;
    printf("\"slow\":[");
    for (int i = 0; i < slow_readers; i++) {
        struct slow *slow = &slows[i];
        qsort(slow->ages, slow->count, sizeof *slow->ages, by_age);
        printf("%s{\"bytes_per_s\":%ld,\"closed\":%d,\"ages_ms\":[", i ? "," : "", slow->bytes_per_s, slow->closed);
        for (size_t j = 0; j < slow->count; j++) printf("%s%.1f", j ? "," : "", slow->ages[j] / 1000.0);
        printf("]}");
    }
    printf("],");
}

struct send { /* of one client; its time stands beside it, so that the heap is read without a look at the clients */
    int64_t due;
    struct client *client;
};

static int by_due(const void *a, const void *b) {
    int64_t x = ((const struct send *)a)->due, y = ((const struct send *)b)->due;
    return x < y ? -1 : x > y;
}

/* Who sends next is first of the queue, a binary heap by `due`; called after that has changed. */
static void sift_down(struct send *queue) {
    struct send moved = queue[0];
    int at = 0;
    for (;;) {
        int child = 2 * at + 1;
        if (child >= client_count) break;
        if (child + 1 < client_count && queue[child + 1].due < queue[child].due) child++;
        if (queue[child].due >= moved.due) break;
        queue[at] = queue[child];
        at = child;
    }
    queue[at] = moved;
}

static int by_count(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

static int by_advice(const void *a, const void *b) {
    int64_t x = ((const struct client *)a)->advised, y = ((const struct client *)b)->advised;
    return x < y ? -1 : x > y;
}

/* How often each receiver saw each sender of its room move; those who stopped reading are left out. */
static void print_updates(void) {
    uint32_t *counts = malloc((size_t)client_count * users_per_room * sizeof *counts);
    size_t size = 0;
    for (int i = 0; i < client_count; i++)
        for (int j = 0; clients[i].reading == 1 && j < users_per_room; j++) {
            struct client *sender = &clients[clients[i].room * users_per_room + j];
            if (sender != &clients[i] && sender->reading) counts[size++] = pairs[i * users_per_room + j];
        }
    qsort(counts, size, sizeof *counts, by_count);
    if (size)
        printf("\"updates_hz\":{\"count\":%zu,\"min\":%.2f,\"p1\":%.2f,\"p50\":%.2f},", size, counts[0] / measure_s,
               counts[size / 100] / measure_s, counts[size / 2] / measure_s);
    free(counts);
}

static void send_extras(int64_t now) {
    static int64_t next_typing, next_playback;
    char text[200];
    int n;
    if (now >= next_typing) {
        struct client *c = &clients[users_per_room > 1 ? 1 : 0];
        n = snprintf(text, sizeof text,
            "{\"type\":\"typing\",\"roomId\":\"video_0\",\"data\":{\"isTyping\":true,\"context\":\"%lld\"}}",
            (long long)(now - epoch));
        send_text(c, text, n);
        next_typing = now + 600000;
    }
    if (now >= next_playback) {
        n = snprintf(text, sizeof text,
            "{\"type\":\"playback\",\"roomId\":\"video_0\",\"data\":{\"action\":\"seek\",\"currentTime\":%.6f}}",
            (now - epoch) / 1e6);
        send_text(&clients[0], text, n);
        next_playback = now + 250000;
    }
}

static void print_histogram(const char *name, struct histogram *h) {
    printf("\"%s\":{\"count\":%llu,\"p50\":%.3f,\"p90\":%.3f,\"p99\":%.3f,\"p999\":%.3f,\"max\":%.3f},", name,
           (unsigned long long)h->total, percentile(h, 0.5), percentile(h, 0.9), percentile(h, 0.99),
           percentile(h, 0.999), h->max / 1000.0);
}

int main(int argc, char **argv) {
    if (argc < 9) {
        fprintf(stderr, "usage: loadgen HOST PORT ROOMS USERS HZ WARMUP_S MEASURE_S TOKENS_FILE [key=value ...]\n");
        return 2;
    }
    rooms = atoi(argv[3]);
    users_per_room = atoi(argv[4]);
    hz = atof(argv[5]);
    warmup_s = atof(argv[6]);
    measure_s = atof(argv[7]);
    for (int i = 9; i < argc; i++) {
        if (!strcmp(argv[i], "caps=cursors")) compact = 1;
        if (!strcmp(argv[i], "extras=1")) extras = 1;
        if (!strcmp(argv[i], "storm=1")) storm = 1;
        if (!strcmp(argv[i], "phases=even")) even = 1;
        if (!strcmp(argv[i], "obey=1")) obey = 1;
        if (!strncmp(argv[i], "stop=", 5)) stop_readers = atoi(argv[i] + 5);
        if (!strncmp(argv[i], "relief=", 7)) relief_s = atof(argv[i] + 7);
        if (!strncmp(argv[i], "slow=", 5))
            for (char *at = argv[i] + 5; *at && slow_readers < MOST_SLOW; at += *at == ',')
                slows[slow_readers++].bytes_per_s = strtol(at, &at, 10);
    }
    if (slow_readers && (stop_readers || slow_readers >= users_per_room)) {
        fprintf(stderr, "loadgen: slow readers need some who read, and none who stop\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN); /* a slow reader that was cut learns of it late, and sends until then */
    client_count = rooms * users_per_room;
    struct rlimit files = {client_count + 100, client_count + 100};
    setrlimit(RLIMIT_NOFILE, &files);
    clients = aligned_alloc(64, (client_count * sizeof *clients + 63) / 64 * 64);
    memset(clients, 0, client_count * sizeof *clients);
    tokens = calloc(client_count, sizeof *tokens);
    pairs = calloc((size_t)client_count * users_per_room, sizeof *pairs);
    by_index = malloc(rooms * 512 * sizeof *by_index);
    memset(by_index, 0xff, rooms * 512 * sizeof *by_index);
    FILE *file = fopen(argv[8], "r");
    if (!file) die(argv[8]);
    for (int i = 0; i < client_count; i++) {
        size_t capacity = 0;
        if (getline(&tokens[i], &capacity, file) <= 0) die("not enough tokens");
        tokens[i][strcspn(tokens[i], "\n")] = 0;
    }
    struct sockaddr_in server = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[2]))};
    inet_pton(AF_INET, argv[1], &server.sin_addr);
    epoll_fd = epoll_create1(0);
    measure_from = measure_to = relief_from = relief_to = INT64_MAX;
    epoch = now_us();

    int64_t storm_from = now_us();
    for (int i = 0; i < client_count; i++) {
        clients[i].number = i;
        clients[i].room = i / users_per_room;
        clients[i].reading = 1;
        if (is_slow(&clients[i])) clients[i].slow = &slows[i - (users_per_room - slow_readers)];
        start(&clients[i], &server);
        if (!storm) while (clients[i].state != JOINED && clients[i].state != DEAD) turn(now_us() + 5000000);
    }
    int joined = 0;
    while (joined < client_count) {
        turn(now_us() + 10000);
        joined = 0;
        for (int i = 0; i < client_count; i++) {
            joined += clients[i].state == JOINED;
            if (clients[i].state != DEAD) continue;
            fprintf(stderr, "loadgen: the server closed a connection before everybody had joined\n");
            return 1;
        }
        if (now_us() - storm_from > 120000000) die("joining took over 120 s");
    }
    double all_in_s = (now_us() - storm_from) / 1e6;

    if (!storm) {
        struct send *queue = calloc(client_count, sizeof *queue);
        int64_t period = (int64_t)(1e6 / hz), begin = now_us() + 20000;
        srandom(7);
        for (int i = 0; i < client_count; i++) {
            struct client *c = &clients[i];
            int place = i % users_per_room * rooms + c->room; /* the first of every room, the second of every room, ... */
            double phase = even ? place / (double)client_count : random() / (double)RAND_MAX;
            queue[i] = (struct send){begin + (int64_t)(phase * period), c};
        }
        qsort(queue, client_count, sizeof *queue, by_due); /* what is sorted is a heap */
        epoch = begin - 1000000;
        measure_from = begin + (int64_t)(warmup_s * 1e6);
        measure_to = measure_from + (int64_t)(measure_s * 1e6);
        if (relief_s > 0) {
            relief_from = measure_to + RECOVERY_US;
            relief_to = relief_from + (int64_t)(relief_s * 1e6);
        }
        int64_t end = relief_s > 0 ? relief_to : measure_to;
        printf("{\"measuring\":true}\n");
        fflush(stdout);
        int64_t read_at = now_us();
        int stopped = 0, from_told = 0, to_told = 0;
        for (;;) {
            struct client *c = queue[0].client;
            for (int i = 1; i < 3 && i < client_count; i++) __builtin_prefetch(queue[i].client, 1);
            int64_t due = queue[0].due;
            while (now_us() < due - EARLY_US || now_us() - read_at > UNREAD_US) {
                turn(due);
                read_at = now_us();
                if (slow_readers) read_slowly(read_at);
                if (extras) send_extras(read_at);
            }
            int64_t now = now_us();
            if (!from_told && now >= measure_from) {
                printf("{\"from\":true}\n");
                fflush(stdout);
                from_told = 1;
                frames_received = bytes_received = 0; /* those of the joins are another question */
            }
            if (!to_told && now >= measure_to) {
                printf("{\"to\":true}\n");
                fflush(stdout);
                to_told = 1;
                period *= 2;
            }
            if (stop_readers && !stopped && now >= measure_from) {
                for (int i = 0; i < stop_readers; i++) {
                    epoll_ctl(epoll_fd, EPOLL_CTL_DEL, clients[users_per_room - 1 - i].fd, NULL);
                    clients[users_per_room - 1 - i].reading = 0;
                }
                stopped = 1;
            }
            if (now >= end) break;
            if (now >= measure_from && now < measure_to) note(&lateness, now - due); /* an early one is 0 */
            if (c->state == JOINED && c->reading) send_cursor(c, now);
            queue[0].due += obey && c->advised > period ? c->advised : period;
            sift_down(queue);
        }
        int64_t drain_until = now_us() + 500000;
        while (now_us() < drain_until) turn(drain_until);
    }
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    printf("{");
    print_histogram("latency_ms", &latency);
    print_histogram("last_receiver_ms", &last_receiver);
    print_histogram("join_ms", &join_latency);
    print_histogram("late_ms", &lateness);
    print_histogram("typing_ms", &typing_latency);
    print_histogram("playback_ms", &playback_latency);
    print_histogram("relief_ms", &relief);
    print_updates();
    print_slow();
    qsort(clients, client_count, sizeof *clients, by_advice);
    printf("\"advised_ms\":{\"p50\":%.1f,\"max\":%.1f},", clients[client_count / 2].advised / 1000.0,
           clients[client_count - 1].advised / 1000.0);
    printf("\"arrived\":%llu,\"errors\":%llu,\"relief_ratio\":%.4f,", (unsigned long long)arrived,
           (unsigned long long)errors, relief_expected ? relief.total / (double)relief_expected : 1.0);
    printf("\"clients\":%d,\"all_in_s\":%.3f,\"sent\":%llu,\"delivered\":%llu,\"expected\":%llu,\"ratio\":%.4f,"
           "\"frames\":%llu,\"bytes\":%llu,\"closed\":%llu,\"generator_cpu_s\":%.3f}\n",
           client_count, all_in_s, (unsigned long long)sent, (unsigned long long)delivered,
           (unsigned long long)expected, expected ? delivered / (double)expected : 1.0,
           (unsigned long long)frames_received, (unsigned long long)bytes_received, (unsigned long long)closed,
           usage.ru_utime.tv_sec + usage.ru_stime.tv_sec + (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6);
    return 0;
}
