/*
 * A Patchbay plugin in C that reads streams: api/stream.cannexb?src=NAME is the H.264 of a stream as a byte stream with start
 * codes (ITU-T H.264 Annex B). It has two roles: the route says what its client wants, the output makes it, once for all clients.
 *
 *   cc -std=c99 -O2 -shared -fPIC -fvisibility=hidden -I plugin-api/include cannexb.c -o libpatchbay_plugin_cannexb.so -lpthread
 */
#define _POSIX_C_SOURCE 200809L

#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "patchbay_plugin.h"

PATCHBAY_MANIFEST("{\"name\":\"cannexb\",\"version\":\"0.1.0\",\"abi\":\"" PATCHBAY_ABI "\",\"licence\":\"MIT OR Apache-2.0\","
                  "\"description\":\"H.264 byte streams, written in C\",\"roles\":[\"output\",\"routes\"],"
                  "\"outputs\":[\"cannexb\"],\"routes\":[{\"path\":\"api/stream.cannexb\",\"stream\":true}]}");

enum { MAX_SESSIONS = 64, MAX_WAITING = 64, MAX_SETS = 1024, MAX_NAME = 256, FIRST_BUFFER = 1 << 16 };

/* A player that waits for a key picture. */
struct join {
    uint64_t id;
    int still; /* it wants that picture and nothing more */
};

/* One run of the output: a track that is read, written for all its viewers. */
struct run {
    uint64_t session; /* 0: free */
    uint64_t source, cursor;
    uint32_t track, epoch;
    uint8_t sets[MAX_SETS]; /* parameter sets with start codes */
    size_t sets_length;
    int hole; /* units were lost: nothing until the next key picture */
    int closing;
    struct join waiting[MAX_WAITING];
    size_t waiting_count;
};

static const patchbay_host *host;
static uint64_t ctx;
static int wake_fd, own_fd[2]; /* own_fd: something changed in what is below */
static struct run runs[MAX_SESSIONS];
static char ping[64]; /* a ping that the worker is to answer */
static size_t ping_length;
static int pinged, stopping;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* ---- JSON, as far as it is needed: a real plugin takes a library ---------------------------------------------------------- */

static patchbay_slice slice(const void *bytes, size_t length) {
    patchbay_slice made = {bytes, length};
    return made;
}

/* What follows "name": in a text; NULL when it is not there. */
static const char *field(const char *json, const char *name) {
    char wanted[32];
    snprintf(wanted, sizeof wanted, "\"%s\":", name);
    const char *found = json ? strstr(json, wanted) : NULL;
    return found ? found + strlen(wanted) : NULL;
}

static uint64_t number(const char *json, const char *name) {
    const char *found = field(json, name);
    return found ? strtoull(found, NULL, 10) : 0;
}

/* Whether a field begins with the text `value`. */
static int is(const char *json, const char *name, const char *value) {
    const char *found = field(json, name);
    return found && strncmp(found, value, strlen(value)) == 0;
}

static char *text_of(patchbay_slice bytes) {
    char *text = malloc(bytes.len + 1);
    if (text) {
        if (bytes.len) memcpy(text, bytes.ptr, bytes.len);
        text[bytes.len] = 0;
    }
    return text;
}

static void emit(uint64_t session, uint32_t kind, const char *json) {
    host->emit(ctx, session, kind, slice(json, strlen(json)));
}

/* ---- Parameter sets ---------------------------------------------------------------------------------------------------- */

static size_t unbase64(uint8_t *to, size_t capacity, const char *from) {
    uint32_t bits = 0;
    size_t count = 0, have = 0;
    for (; *from && *from != '"' && *from != '='; from++) {
        static const char DIGITS[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        const char *digit = strchr(DIGITS, *from);
        if (!digit) return 0;
        bits = bits << 6 | (uint32_t)(digit - DIGITS);
        have += 6;
        if (have >= 8) {
            have -= 8;
            if (count == capacity) return 0;
            to[count++] = (uint8_t)(bits >> have);
        }
    }
    return count;
}

/* The sets of a track's JSON behind start codes: avcC is 5 bytes, a number of SPS, a number of PPS. */
static void take_sets(struct run *run, const char *track) {
    static const uint8_t START[4] = {0, 0, 0, 1};
    uint8_t avcc[MAX_SETS];
    const char *extradata = field(track, "extradata");
    size_t length = extradata && *extradata == '"' ? unbase64(avcc, sizeof avcc, extradata + 1) : 0, at = 5;
    run->sets_length = 0;
    for (int kind = 0; kind < 2 && at < length; kind++) {
        unsigned count = avcc[at++] & (kind == 0 ? 0x1f : 0xff);
        while (count-- > 0 && at + 2 <= length) {
            size_t size = (size_t)avcc[at] << 8 | avcc[at + 1];
            at += 2;
            if (size > length - at || run->sets_length + 4 + size > MAX_SETS) return;
            memcpy(run->sets + run->sets_length, START, 4);
            memcpy(run->sets + run->sets_length + 4, avcc + at, size);
            run->sets_length += 4 + size;
            at += size;
        }
    }
}

/* The sets of another epoch than the last unit's. */
static void look_up(struct run *run, uint32_t epoch) {
    uint8_t json[4096];
    uint64_t length = 0;
    if (host->track_config(ctx, run->source, run->track, epoch, json, sizeof json - 1, &length) != PATCHBAY_OK) return;
    json[length] = 0;
    run->epoch = epoch;
    take_sets(run, (const char *)json);
}

/* ---- The worker: reads all sources, writes all runs ------------------------------------------------------------------------ */

static void put(struct run *run, uint32_t flags, const void *bytes, size_t length, uint64_t join) {
    static const int64_t STARTS[1] = {0};
    patchbay_chunk chunk = {0};
    chunk.size = sizeof chunk;
    chunk.flags = flags;
    chunk.data = slice(bytes, length);
    chunk.join = join;
    chunk.starts = STARTS;
    chunk.start_count = flags & PATCHBAY_CHUNK_HISTORY ? 1 : 0;
    host->write(ctx, run->session, &chunk);
}

/* One unit: lengths become start codes in place, key pictures get the sets in front. `bytes` has room for those before it. */
static void unit(struct run *run, const patchbay_unit_header *header, uint8_t *bytes) {
    int key = header->flags & PATCHBAY_FLAG_KEY;
    size_t length = header->len;
    for (size_t at = 0; at + 4 <= length;) {
        size_t nal = (size_t)bytes[at] << 24 | (size_t)bytes[at + 1] << 16 | (size_t)bytes[at + 2] << 8 | bytes[at + 3];
        memcpy(bytes + at, "\0\0\0\1", 4);
        if (nal > length - at - 4) return;
        at += 4 + nal;
    }
    if (run->hole && !key) return;
    run->hole = 0;
    if (header->epoch != run->epoch) look_up(run, header->epoch);
    uint8_t *whole = key ? malloc(run->sets_length + length) : bytes;
    if (!whole) return;
    if (key) {
        memcpy(whole, run->sets, run->sets_length);
        memcpy(whole + run->sets_length, bytes, length);
        length += run->sets_length;
        /* Who waits starts here: with this chunk, or with it alone. */
        for (size_t n = 0; n < run->waiting_count; n++) {
            struct join *join = &run->waiting[n];
            if (join->still)
                put(run, PATCHBAY_CHUNK_HISTORY | PATCHBAY_CHUNK_FINAL, whole, length, join->id);
            else
                put(run, PATCHBAY_CHUNK_HISTORY, NULL, 0, join->id);
        }
        run->waiting_count = 0;
    }
    put(run, key ? PATCHBAY_CHUNK_KEY : 0, whole, length, 0);
    if (key) free(whole);
}

static void end(struct run *run, const char *json) {
    emit(run->session, PATCHBAY_EVENT_ENDED, json);
    run->session = 0;
}

/* Reads until nothing is left; then the host makes wake_fd readable when there is more. */
static void read_all(struct run *run) {
    static uint8_t *buffer;
    static size_t capacity;
    patchbay_read_out out = {0};
    do {
        if (capacity < FIRST_BUFFER || out.needed > capacity) {
            size_t wanted = out.needed > FIRST_BUFFER ? (size_t)out.needed : FIRST_BUFFER;
            uint8_t *larger = realloc(buffer, wanted);
            if (!larger) {
                end(run, "{\"class\":\"unsupported\",\"message\":\"no memory\"}");
                return;
            }
            buffer = larger;
            capacity = wanted;
        }
        out = (patchbay_read_out){0};
        out.size = sizeof out;
        int32_t code = host->read(ctx, run->source, run->cursor, UINT64_C(1) << run->track, buffer, capacity, &out);
        if (code == PATCHBAY_TOO_SMALL) continue;
        if (code != PATCHBAY_OK) {
            end(run, "{\"class\":\"eof\",\"message\":\"the source has gone\"}");
            return;
        }
        run->cursor = out.next;
        if (out.lost) run->hole = 1;
        for (uint64_t at = 0; at + sizeof(patchbay_unit_header) <= out.written;) {
            patchbay_unit_header header;
            memcpy(&header, buffer + at, sizeof header);
            at += sizeof header;
            unit(run, &header, buffer + at);
            at += ((uint64_t)header.len + 7) / 8 * 8;
        }
    } while (!out.end);
}

static void *work(void *unused) {
    (void)unused;
    for (int over = 0; !over;) {
        struct pollfd wait[2] = {{wake_fd, POLLIN, 0}, {own_fd[0], POLLIN, 0}};
        poll(wait, 2, -1);
        uint64_t sources[MAX_SESSIONS], count = 0;
        char drained[64];
        if (wait[0].revents) {
            ssize_t bytes = read(wake_fd, drained, 8);
            (void)bytes;
            while (host->pending(ctx, sources, MAX_SESSIONS, &count) == PATCHBAY_OK && count == MAX_SESSIONS) continue;
        }
        if (wait[1].revents) {
            ssize_t bytes = read(own_fd[0], drained, sizeof drained);
            (void)bytes;
        }
        pthread_mutex_lock(&lock);
        over = stopping;
        if (pinged) host->emit(ctx, 0, PATCHBAY_EVENT_PONG, slice(ping, ping_length));
        pinged = 0;
        for (unsigned n = 0; n < MAX_SESSIONS; n++) {
            if (runs[n].session && (runs[n].closing || over)) end(&runs[n], "{\"class\":\"eof\",\"message\":\"closed\"}");
            if (runs[n].session) read_all(&runs[n]);
        }
        pthread_mutex_unlock(&lock);
    }
    return NULL;
}

static void tell_worker(void) {
    ssize_t bytes = write(own_fd[1], "", 1);
    (void)bytes; /* full: it has been told already */
}

/* ---- The table ----------------------------------------------------------------------------------------------------------- */

static int32_t start(const patchbay_host *given, const patchbay_start_info *info) {
    if (given->size < sizeof *given || info->size < sizeof *info) return PATCHBAY_UNSUPPORTED;
    host = given;
    ctx = info->ctx;
    wake_fd = info->wake_fd;
    if (pipe(own_fd) != 0) return PATCHBAY_OVER_LIMIT;
    for (int n = 0; n < 2; n++) fcntl(own_fd[n], F_SETFL, O_NONBLOCK), fcntl(own_fd[n], F_SETFD, FD_CLOEXEC);
    pthread_t worker;
    if (pthread_create(&worker, NULL, work, NULL) != 0) return PATCHBAY_OVER_LIMIT;
    pthread_detach(worker);
    return PATCHBAY_OK;
}

/* {"format","tracks":[{"source","epoch","info":{"id","codec","extradata",...}}],"options"} */
static int32_t open_output(uint64_t session, const char *json) {
    const char *track = field(json, "tracks"), *info = field(track, "info");
    if (!track || !info) return PATCHBAY_INVALID;
    if (!is(info, "codec", "\"h264\"")) return PATCHBAY_UNSUPPORTED;
    struct run *run = NULL;
    pthread_mutex_lock(&lock);
    for (unsigned n = 0; n < MAX_SESSIONS && !run; n++)
        if (!runs[n].session) run = &runs[n];
    if (run) {
        memset(run, 0, sizeof *run);
        run->session = session;
        run->source = number(track, "source");
        run->epoch = (uint32_t)number(track, "epoch");
        run->track = (uint32_t)number(info, "id");
        run->hole = 1;
        take_sets(run, info);
        if (host->locate(ctx, run->source, PATCHBAY_TARGET_NEWEST_KEY, run->track, &run->cursor) != PATCHBAY_OK &&
            host->locate(ctx, run->source, PATCHBAY_TARGET_HEAD, 0, &run->cursor) != PATCHBAY_OK)
            run->cursor = 0;
        emit(session, PATCHBAY_EVENT_OUTPUT, "{\"mime\":\"video/h264\"}");
        put(run, PATCHBAY_CHUNK_INIT, NULL, 0, 0);
    }
    pthread_mutex_unlock(&lock);
    tell_worker();
    return run ? PATCHBAY_OK : PATCHBAY_OVER_LIMIT;
}

/* {"route","method","path","query":"src=NAME",...}: the host puts the client on the output. */
static int32_t open_route(uint64_t session, const char *json) {
    char name[MAX_NAME], serve[MAX_NAME + 256];
    const char *query = field(json, "query"), *from = query && *query == '"' ? strstr(query, "src=") : NULL;
    size_t length = from ? strcspn(from + 4, "&\"\\") : 0;
    if (length == 0 || length >= sizeof name) {
        emit(session, PATCHBAY_EVENT_RESPONSE, "{\"status\":400,\"headers\":[[\"Content-Type\",\"text/plain\"]]}");
    } else {
        snprintf(name, sizeof name, "%.*s", (int)length, from + 4);
        snprintf(serve, sizeof serve,
                 "{\"consume\":{\"stream\":\"%s\",\"medias\":[{\"kind\":\"video\",\"codecs\":[\"h264\"]}],"
                 "\"connection\":{\"format_name\":\"cannexb\"}},\"format\":\"cannexb\"}", name);
        emit(session, PATCHBAY_EVENT_SERVE, serve);
    }
    emit(session, PATCHBAY_EVENT_ENDED, "{\"class\":\"eof\"}");
    return PATCHBAY_OK;
}

static int32_t open_session(uint64_t session, uint32_t role, patchbay_slice request) {
    char *json = text_of(request);
    if (!json) return PATCHBAY_OVER_LIMIT;
    int32_t code = PATCHBAY_UNSUPPORTED;
    if (role == PATCHBAY_ROLE_OUTPUT) code = open_output(session, json);
    if (role == PATCHBAY_ROLE_ROUTES) code = open_route(session, json);
    free(json);
    return code;
}

/* {"join","history":"live", "raw", "none" or "keyframe"}: whatever it is, the viewer starts at a key picture. */
static int32_t join(struct run *run, const char *json) {
    if (run->waiting_count == MAX_WAITING) return PATCHBAY_OVER_LIMIT;
    struct join viewer = {number(json, "join"), is(json, "history", "\"keyframe\"")};
    run->waiting[run->waiting_count++] = viewer;
    return PATCHBAY_OK;
}

static int32_t with_run(uint64_t session, int32_t (*act)(struct run *, const char *), const char *json) {
    int32_t code = PATCHBAY_UNKNOWN;
    pthread_mutex_lock(&lock);
    for (unsigned n = 0; session && n < MAX_SESSIONS; n++)
        if (runs[n].session == session) code = act(&runs[n], json);
    pthread_mutex_unlock(&lock);
    tell_worker();
    return code;
}

static int32_t command(uint64_t session, uint32_t kind, patchbay_slice payload) {
    if (kind == PATCHBAY_COMMAND_PING) {
        pthread_mutex_lock(&lock);
        ping_length = payload.len < sizeof ping ? (size_t)payload.len : sizeof ping;
        if (ping_length) memcpy(ping, payload.ptr, ping_length);
        pinged = 1;
        pthread_mutex_unlock(&lock);
        tell_worker();
        return PATCHBAY_OK;
    }
    if (kind != PATCHBAY_COMMAND_JOIN) return PATCHBAY_UNSUPPORTED;
    char *json = text_of(payload);
    if (!json) return PATCHBAY_OVER_LIMIT;
    int32_t code = with_run(session, join, json);
    free(json);
    return code;
}

static int32_t set_closing(struct run *run, const char *unused) {
    (void)unused;
    run->closing = 1;
    return PATCHBAY_OK;
}

static int32_t close_session(uint64_t session) {
    return with_run(session, set_closing, NULL);
}

static int32_t stop(void) {
    pthread_mutex_lock(&lock);
    stopping = 1;
    pthread_mutex_unlock(&lock);
    tell_worker();
    return PATCHBAY_OK;
}

const patchbay_plugin *patchbay_plugin_v1(void) {
    static const patchbay_plugin TABLE = {sizeof TABLE, start, open_session, command, close_session, stop};
    return &TABLE;
}
