/*
 * A plugin of ABI 1.0, kept as it was: every later 1.x has to load and serve it. Nothing here or in patchbay_plugin.h beside it is
 * ever changed. It uses every function of both tables, as far as it can without a thread of its own.
 *
 *   old:          a camera that shows the same JPEG picture again, 25 times, whenever somebody begins to watch
 *   stream.old    OLD0, and the units of a stream from its oldest on, as they are, then no more
 *   api/old       counts its requests, also over restarts of its process
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "patchbay_plugin.h"

PATCHBAY_MANIFEST("{\"name\":\"old\",\"version\":\"1.0.0\",\"abi\":\"" PATCHBAY_ABI "\",\"licence\":\"MIT OR Apache-2.0\","
                  "\"description\":\"A plugin of ABI 1.0\",\"roles\":[\"source\",\"output\",\"routes\"],"
                  "\"schemes\":[{\"name\":\"old\",\"role\":\"source\",\"api\":true}],\"outputs\":[\"old\"],"
                  "\"routes\":[{\"path\":\"api/stream.old\"},{\"path\":\"api/old\"}]}");

enum { MAX_SESSIONS = 64, UNITS = 25, STEP = 3600 };

/* An 8x8 picture of one grey: ITU-T T.81, baseline, one component, made by hand. */
static const uint8_t PICTURE[] = {
    0xff, 0xd8, 0xff, 0xdb, 0, 67, 0, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8,
    8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 0xff, 0xc0, 0, 11, 8, 0, 8,
    0, 8, 1, 1, 0x11, 0, 0xff, 0xc4, 0, 20, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xc4, 0, 20, 0x10, 1, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xda, 0, 8, 1, 1, 0, 0, 63, 0, 0x3f, 0xff, 0xd9};

struct session {
    uint64_t id; /* 0: free */
    uint32_t role;
    uint64_t source; /* of an output */
    uint32_t track;
    int64_t time; /* of a source */
};

static const patchbay_host *host;
static uint64_t ctx;
static struct session sessions[MAX_SESSIONS]; /* the host calls from one thread */

static patchbay_slice slice(const void *bytes, size_t length) {
    patchbay_slice made = {bytes, length};
    return made;
}

static int32_t emit(uint64_t session, uint32_t kind, const char *json) {
    return host->emit(ctx, session, kind, slice(json, strlen(json)));
}

static struct session *find(uint64_t id) {
    for (int n = 0; n < MAX_SESSIONS; n++)
        if (sessions[n].id == id) return &sessions[n];
    return NULL;
}

/* Whether a text is in JSON; where what follows it begins. */
static const char *after(patchbay_slice json, const char *text) {
    size_t length = strlen(text);
    for (uint64_t at = 0; at + length <= json.len; at++)
        if (memcmp(json.ptr + at, text, length) == 0) return (const char *)json.ptr + at + length;
    return NULL;
}

static uint64_t number(patchbay_slice json, const char *field) {
    char digits[24] = {0};
    const char *from = after(json, field);
    const char *end = (const char *)json.ptr + json.len;
    for (size_t at = 0; from && from < end && *from >= '0' && *from <= '9' && at < 20; at++) digits[at] = *from++;
    return strtoull(digits, NULL, 10);
}

static int32_t write_bytes(uint64_t session, uint32_t flags, uint64_t join, const void *bytes, size_t length) {
    const int64_t starts[1] = {0};
    patchbay_chunk chunk = {0};
    chunk.size = sizeof chunk;
    chunk.flags = flags;
    chunk.data = slice(bytes, length);
    chunk.join = join;
    chunk.starts = starts;
    chunk.start_count = flags & PATCHBAY_CHUNK_HISTORY ? 1 : 0;
    return host->write(ctx, session, &chunk);
}

static void ended(struct session *session, const char *json) {
    uint64_t id = session->id;
    session->id = 0;
    emit(id, PATCHBAY_EVENT_ENDED, json);
}

static int32_t start(const patchbay_host *given, const patchbay_start_info *info) {
    if (given->size < sizeof *given || info->size < sizeof *info || info->abi_major != 1) return PATCHBAY_UNSUPPORTED;
    host = given;
    ctx = info->ctx;
    host->log(ctx, 4, slice("old", 3), slice("{\"message\":\"started\"}", 21));
    return PATCHBAY_OK;
}

/* Everything that a stream still holds, in one chunk. */
static void write_all(struct session *session, uint32_t flags, uint64_t join) {
    static uint8_t buffer[1 << 20], bytes[1 << 20];
    uint64_t cursor = 0, length = 0, sources[8], count = 0;
    size_t filled = 0;
    patchbay_read_out out;
    host->retain(ctx, session->source, 1000);
    host->pending(ctx, sources, 8, &count);
    if (host->track_config(ctx, session->source, session->track, 0, buffer, sizeof buffer, &length) != PATCHBAY_OK) length = 0;
    if (host->locate(ctx, session->source, PATCHBAY_TARGET_OLDEST, 0, &cursor) != PATCHBAY_OK) cursor = 0;
    do {
        memset(&out, 0, sizeof out);
        out.size = sizeof out;
        if (host->read(ctx, session->source, cursor, UINT64_C(1) << session->track, buffer, sizeof buffer, &out) != PATCHBAY_OK) break;
        cursor = out.next;
        for (uint64_t at = 0; at + sizeof(patchbay_unit_header) <= out.written;) {
            patchbay_unit_header head;
            memcpy(&head, buffer + at, sizeof head);
            at += sizeof head;
            if (filled + head.len <= sizeof bytes) {
                memcpy(bytes + filled, buffer + at, head.len);
                filled += head.len;
            }
            at += (head.len + 7) / 8 * 8;
        }
    } while (!out.end && out.units > 0);
    host->retain(ctx, session->source, 0);
    write_bytes(session->id, flags, join, bytes, filled);
}

static void answer(uint64_t id, patchbay_slice request) {
    if (after(request, "\"route\":\"api/stream.old\"")) {
        const char *src = after(request, "\"query\":\"src=");
        const char *end = src ? memchr(src, '"', (size_t)((const char *)request.ptr + request.len - src)) : NULL;
        char json[512];
        if (end && end - src < 200) {
            snprintf(json, sizeof json, "{\"consume\":{\"stream\":\"%.*s\",\"query\":\"video=all\"},\"format\":\"old\",\"history\":\"keyframe\"}",
                     (int)(end - src), src);
            emit(id, PATCHBAY_EVENT_SERVE, json);
        } else {
            emit(id, PATCHBAY_EVENT_RESPONSE, "{\"status\":400}");
            emit(id, PATCHBAY_EVENT_ENDED, "{\"class\":\"eof\"}");
        }
        return;
    }
    char count[24] = {0};
    uint64_t length = 0;
    if (host->state_get(ctx, slice("count", 5), (uint8_t *)count, sizeof count - 1, &length) != PATCHBAY_OK) count[0] = 0;
    snprintf(count, sizeof count, "%lu", strtoul(count, NULL, 10) + 1);
    host->state_put(ctx, slice("count", 5), slice(count, strlen(count)));
    emit(id, PATCHBAY_EVENT_RESPONSE, "{\"status\":200,\"headers\":[[\"content-type\",\"text/plain\"]]}");
    write_bytes(id, 0, 0, count, strlen(count));
    emit(id, PATCHBAY_EVENT_ENDED, "{\"class\":\"eof\"}");
}

static int32_t open_session(uint64_t id, uint32_t role, patchbay_slice request) {
    if (request.len == 0 || request.ptr[0] != '{') return PATCHBAY_INVALID;
    if (role == PATCHBAY_ROLE_ROUTES) {
        answer(id, request);
        return PATCHBAY_OK;
    }
    if (role != PATCHBAY_ROLE_SOURCE && role != PATCHBAY_ROLE_OUTPUT) return PATCHBAY_UNSUPPORTED;
    struct session *session = find(0);
    if (!session) return PATCHBAY_OVER_LIMIT;
    *session = (struct session){id, role, number(request, "\"source\":"), (uint32_t)number(request, "\"info\":{\"id\":"), 0};
    if (role == PATCHBAY_ROLE_SOURCE)
        return emit(id, PATCHBAY_EVENT_TRACKS,
                    "{\"receive\":[{\"id\":0,\"kind\":\"video\",\"codec\":\"mjpeg\",\"clock_rate\":90000,\"width\":8,\"height\":8}],\"final\":true}");
    emit(id, PATCHBAY_EVENT_OUTPUT, "{\"mime\":\"application/octet-stream\"}");
    write_bytes(id, PATCHBAY_CHUNK_INIT, 0, "OLD0", 4);
    write_all(session, PATCHBAY_CHUNK_KEY, 0);
    return PATCHBAY_OK;
}

static int32_t command(uint64_t id, uint32_t kind, patchbay_slice payload) {
    if (kind == PATCHBAY_COMMAND_PING) return host->emit(ctx, id, PATCHBAY_EVENT_PONG, payload);
    struct session *session = id ? find(id) : NULL;
    if (!session) return PATCHBAY_UNKNOWN;
    if (kind == PATCHBAY_COMMAND_DEMAND && session->role == PATCHBAY_ROLE_SOURCE && !after(payload, "\"tracks\":[]")) {
        for (int n = 0; n < UNITS; n++, session->time += STEP) {
            patchbay_unit unit = {0};
            unit.size = sizeof unit;
            unit.flags = PATCHBAY_FLAG_KEY;
            unit.pts = unit.dts = session->time;
            unit.duration = STEP;
            unit.data = slice(PICTURE, sizeof PICTURE);
            host->push(ctx, id, &unit);
        }
        return PATCHBAY_OK;
    }
    if (kind == PATCHBAY_COMMAND_JOIN && session->role == PATCHBAY_ROLE_OUTPUT) {
        write_all(session, PATCHBAY_CHUNK_HISTORY | PATCHBAY_CHUNK_FINAL, number(payload, "\"join\":"));
        return PATCHBAY_OK;
    }
    return PATCHBAY_UNSUPPORTED;
}

static int32_t close_session(uint64_t id) {
    struct session *session = id ? find(id) : NULL;
    if (!session) return PATCHBAY_UNKNOWN;
    ended(session, "{\"class\":\"eof\",\"message\":\"closed\"}");
    return PATCHBAY_OK;
}

static int32_t stop(void) {
    for (int n = 0; n < MAX_SESSIONS; n++)
        if (sessions[n].id) ended(&sessions[n], "{\"class\":\"eof\",\"message\":\"stopped\"}");
    return PATCHBAY_OK;
}

const patchbay_plugin *patchbay_plugin_v1(void) {
    static const patchbay_plugin TABLE = {sizeof TABLE, start, open_session, command, close_session, stop};
    return &TABLE;
}
