/*
 * A Patchbay plugin in C: cbars: is a camera that shows moving colour bars, 160x96 at 10 frames a second.
 *
 * The pictures are H.264 without compression: every macroblock is I_PCM (ITU-T H.264 7.3.5), which needs no encoder.
 *
 *   cc -std=c99 -O2 -shared -fPIC -fvisibility=hidden -I . cbars.c -o libpatchbay_plugin_cbars.so -lpthread
 */
#define _POSIX_C_SOURCE 200809L

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "patchbay_plugin.h"

PATCHBAY_MANIFEST("{\"name\":\"cbars\",\"version\":\"0.1.0\",\"abi\":\"" PATCHBAY_ABI "\",\"licence\":\"MIT OR Apache-2.0\","
                  "\"description\":\"Moving colour bars, written in C\",\"roles\":[\"source\"],"
                  "\"schemes\":[{\"name\":\"cbars\",\"role\":\"source\",\"api\":true}],"
                  /* The form of the page: cbars: and nothing behind it. */
                  "\"options\":{\"type\":\"object\",\"properties\":{},\"$defs\":{\"source\":{\"type\":\"object\",\"title\":\"Colour bars (cbars)\","
                  "\"x-url\":\"{scheme}:\",\"properties\":{},\"additionalProperties\":false}}}}");

enum { WIDTH = 160, HEIGHT = 96, FRAME_RATE = 10, CLOCK_RATE = 90000, MAX_SESSIONS = 64 };

/* A picture: its length, the slice's header, per macroblock 2 bytes and 384 samples, the last bit. */
enum { MAX_PICTURE = 64 + WIDTH / 16 * (HEIGHT / 16) * 386 };

/* ---- H.264 ----------------------------------------------------------------------------------------------------------- */

struct bits {
    uint8_t *at;
    size_t count; /* bits written */
};

static void put(struct bits *out, uint32_t value, unsigned width) {
    while (width-- > 0) {
        uint8_t bit = (value >> width) & 1;
        uint8_t *byte = &out->at[out->count / 8];
        if (out->count % 8 == 0) *byte = 0;
        *byte |= (uint8_t)(bit << (7 - out->count % 8));
        out->count++;
    }
}

/* ue(v): 9.1. */
static void put_ue(struct bits *out, uint32_t value) {
    unsigned width = 0;
    while ((value + 1) >> (width + 1)) width++;
    put(out, 0, width);
    put(out, value + 1, width + 1);
}

/* rbsp_trailing_bits: the number of bytes. */
static size_t finish(struct bits *out) {
    put(out, 1, 1);
    return (out->count + 7) / 8;
}

/* Constrained Baseline, level 3: one reference frame, order of output is order of decoding. 7.3.2.1. */
static size_t sps(uint8_t *to) {
    struct bits out = {to, 0};
    put(&out, 0x6742c01e, 32);
    put_ue(&out, 0); /* seq_parameter_set_id */
    put_ue(&out, 0); /* log2_max_frame_num_minus4 */
    put_ue(&out, 2); /* pic_order_cnt_type */
    put_ue(&out, 1); /* max_num_ref_frames */
    put(&out, 0, 1);
    put_ue(&out, WIDTH / 16 - 1);
    put_ue(&out, HEIGHT / 16 - 1);
    put(&out, 12, 4); /* frame_mbs_only, direct_8x8_inference, no cropping, no VUI */
    return finish(&out);
}

/* 7.3.2.2. */
static size_t pps(uint8_t *to) {
    struct bits out = {to, 0};
    put(&out, 0x68, 8);
    put_ue(&out, 0);
    put_ue(&out, 0);
    put(&out, 0, 2);  /* CAVLC */
    put(&out, 7, 3);  /* one slice group, one reference each: three times ue(0) */
    put(&out, 0, 3);  /* no weighted prediction */
    put(&out, 7, 3);  /* the three quantisers: se(0) */
    put(&out, 4, 3);  /* deblocking_filter_control_present */
    return finish(&out);
}

/* Y, Cb, Cr of eight bars. No sample is 0, so that no start code can appear and none needs to be escaped. */
static const uint8_t BARS[8][3] = {{180, 128, 128}, {162, 44, 142}, {131, 156, 44}, {112, 72, 58},
                                   {84, 184, 198},  {65, 100, 212}, {35, 212, 114}, {16, 128, 128}};

static uint8_t sample(unsigned x, unsigned number, unsigned plane) {
    return BARS[(x + number * 4) / (WIDTH / 8) % 8][plane];
}

/* Picture number n as an IDR access unit of one NAL unit behind its length. */
static size_t picture(uint8_t *to, unsigned number) {
    struct bits out = {to + 4, 0};
    put(&out, 0x65, 8);
    put_ue(&out, 0);          /* first_mb_in_slice */
    put_ue(&out, 7);          /* slice_type: I, as all */
    put_ue(&out, 0);          /* pic_parameter_set_id */
    put(&out, 0, 4);          /* frame_num */
    put_ue(&out, number & 1); /* idr_pic_id: another one than before */
    put(&out, 0, 2);          /* dec_ref_pic_marking */
    put_ue(&out, 0);          /* slice_qp_delta */
    put_ue(&out, 1);          /* no deblocking */
    for (unsigned block = 0; block < WIDTH / 16 * (HEIGHT / 16); block++) {
        unsigned left = block % (WIDTH / 16) * 16;
        put_ue(&out, 25); /* I_PCM */
        while (out.count % 8 != 0) put(&out, 0, 1);
        for (unsigned n = 0; n < 256; n++) put(&out, sample(left + n % 16, number, 0), 8);
        for (unsigned n = 0; n < 64; n++) put(&out, sample(left + n % 8 * 2, number, 1), 8);
        for (unsigned n = 0; n < 64; n++) put(&out, sample(left + n % 8 * 2, number, 2), 8);
    }
    size_t length = finish(&out);
    for (unsigned n = 0; n < 4; n++) to[n] = (uint8_t)(length >> (24 - n * 8));
    return length + 4;
}

static void base64(char *to, const uint8_t *from, size_t length) {
    static const char DIGITS[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t at = 0; at < length; at += 3) {
        uint32_t three = (uint32_t)from[at] << 16;
        if (at + 1 < length) three |= (uint32_t)from[at + 1] << 8;
        if (at + 2 < length) three |= from[at + 2];
        for (unsigned n = 0; n < 4; n++) *to++ = at + n > length ? '=' : DIGITS[three >> (18 - n * 6) & 63];
    }
    *to = 0;
}

/* TRACKS with the parameter sets as avcC (ISO/IEC 14496-15 5.3.3.1). */
static void tracks(char *to, size_t capacity) {
    uint8_t avcc[64] = {1, 0x42, 0xc0, 0x1e, 0xff, 0xe1, 0};
    char text[96];
    size_t at = 8, length = sps(avcc + at);
    avcc[7] = (uint8_t)length;
    at += length;
    avcc[at++] = 1;
    avcc[at++] = 0;
    length = pps(avcc + at + 1);
    avcc[at++] = (uint8_t)length;
    base64(text, avcc, at + length);
    snprintf(to, capacity,
             "{\"receive\":[{\"id\":0,\"kind\":\"video\",\"codec\":\"h264\",\"clock_rate\":%d,\"extradata\":\"%s\","
             "\"width\":%d,\"height\":%d}],\"final\":true,\"connection\":{\"format_name\":\"cbars\"}}",
             CLOCK_RATE, text, WIDTH, HEIGHT);
}

/* ---- Sessions: one thread each --------------------------------------------------------------------------------------- */

struct session {
    uint64_t id; /* 0: free */
    int wanted;  /* somebody wants pictures */
    int closing;
};

static const patchbay_host *host;
static uint64_t ctx;
static struct session sessions[MAX_SESSIONS];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed; /* any session has changed; waits on CLOCK_MONOTONIC */

static patchbay_slice slice(const void *bytes, size_t length) {
    patchbay_slice made = {bytes, length};
    return made;
}

static void emit(uint64_t session, uint32_t kind, const char *json) {
    host->emit(ctx, session, kind, slice(json, strlen(json)));
}

/* With the lock held. */
static struct session *find(uint64_t id) {
    for (unsigned n = 0; n < MAX_SESSIONS; n++)
        if (sessions[n].id == id) return &sessions[n];
    return NULL;
}

static void later(struct timespec *time, long nanoseconds) {
    time->tv_nsec += nanoseconds;
    time->tv_sec += time->tv_nsec / 1000000000;
    time->tv_nsec %= 1000000000;
}

static void *play(void *argument) {
    struct session *session = argument;
    uint64_t id = session->id; /* set before this thread was started */
    char json[512];
    tracks(json, sizeof json);
    emit(id, PATCHBAY_EVENT_TRACKS, json);

    struct timespec due;
    clock_gettime(CLOCK_MONOTONIC, &due);
    int after_a_hole = 0;
    pthread_mutex_lock(&lock);
    for (unsigned number = 0; !session->closing; number++) {
        while (!session->closing && pthread_cond_timedwait(&changed, &lock, &due) == 0) continue;
        later(&due, 1000000000 / FRAME_RATE);
        if (session->closing) break;
        if (!session->wanted) {
            after_a_hole = 1;
            continue;
        }
        /* The host is never called with a lock held that its calls to us take. */
        pthread_mutex_unlock(&lock);
        uint8_t bytes[MAX_PICTURE];
        patchbay_unit unit = {0};
        unit.size = sizeof unit;
        unit.flags = PATCHBAY_FLAG_KEY | (after_a_hole ? PATCHBAY_FLAG_DISCONTINUITY : 0);
        unit.pts = unit.dts = (int64_t)number * (CLOCK_RATE / FRAME_RATE);
        unit.duration = CLOCK_RATE / FRAME_RATE;
        unit.data = slice(bytes, picture(bytes, number));
        after_a_hole = host->push(ctx, id, &unit) != PATCHBAY_OK;
        pthread_mutex_lock(&lock);
    }
    pthread_mutex_unlock(&lock);
    emit(id, PATCHBAY_EVENT_ENDED, "{\"class\":\"eof\",\"message\":\"closed\"}");
    pthread_mutex_lock(&lock);
    session->id = 0;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
    return NULL;
}

/* ---- The table ------------------------------------------------------------------------------------------------------- */

static int32_t start(const patchbay_host *given, const patchbay_start_info *info) {
    if (given->size < sizeof *given || info->size < sizeof *info) return PATCHBAY_UNSUPPORTED;
    host = given;
    ctx = info->ctx;
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&changed, &monotonic);
    return PATCHBAY_OK;
}

static int32_t open_session(uint64_t id, uint32_t role, patchbay_slice request) {
    (void)request; /* {"url":"cbars:..."}: there is nothing to dial */
    if (role != PATCHBAY_ROLE_SOURCE) return PATCHBAY_UNSUPPORTED;
    pthread_mutex_lock(&lock);
    struct session *session = find(0);
    if (session) *session = (struct session){id, 0, 0};
    pthread_mutex_unlock(&lock);
    if (!session) return PATCHBAY_OVER_LIMIT;
    pthread_t thread;
    if (pthread_create(&thread, NULL, play, session) != 0) {
        pthread_mutex_lock(&lock);
        session->id = 0;
        pthread_mutex_unlock(&lock);
        return PATCHBAY_OVER_LIMIT;
    }
    pthread_detach(thread);
    return PATCHBAY_OK;
}

/* Whether a DEMAND names a track. A plugin with more to read than this takes a JSON library. */
static int names_a_track(patchbay_slice json) {
    static const char FIELD[] = "\"tracks\":[";
    const size_t length = sizeof FIELD - 1;
    for (uint64_t at = 0; at + length < json.len; at++)
        if (memcmp(json.ptr + at, FIELD, length) == 0) return json.ptr[at + length] != ']';
    return 0;
}

static int32_t command(uint64_t id, uint32_t kind, patchbay_slice payload) {
    if (kind == PATCHBAY_COMMAND_PING) return host->emit(ctx, id, PATCHBAY_EVENT_PONG, payload);
    if (kind != PATCHBAY_COMMAND_DEMAND) return PATCHBAY_UNSUPPORTED;
    pthread_mutex_lock(&lock);
    struct session *session = id ? find(id) : NULL;
    if (session) session->wanted = names_a_track(payload);
    pthread_mutex_unlock(&lock);
    return session ? PATCHBAY_OK : PATCHBAY_UNKNOWN;
}

static int32_t close_session(uint64_t id) {
    pthread_mutex_lock(&lock);
    struct session *session = id ? find(id) : NULL;
    if (session) session->closing = 1;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
    return session ? PATCHBAY_OK : PATCHBAY_UNKNOWN;
}

static int32_t stop(void) {
    struct timespec end;
    clock_gettime(CLOCK_MONOTONIC, &end);
    later(&end, 700000000);
    pthread_mutex_lock(&lock);
    for (unsigned n = 0; n < MAX_SESSIONS; n++) sessions[n].closing = 1;
    pthread_cond_broadcast(&changed);
    for (unsigned n = 0; n < MAX_SESSIONS; n++)
        while (sessions[n].id && pthread_cond_timedwait(&changed, &lock, &end) == 0) continue;
    pthread_mutex_unlock(&lock);
    return PATCHBAY_OK;
}

const patchbay_plugin *patchbay_plugin_v1(void) {
    static const patchbay_plugin TABLE = {sizeof TABLE, start, open_session, command, close_session, stop};
    return &TABLE;
}
