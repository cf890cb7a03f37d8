/*
 * patchbay_plugin.h: the C side of Patchbay's plugin ABI, in C99. Also valid C++.
 *
 * A plugin is a shared library libpatchbay_plugin_NAME.so with
 *   - a manifest: JSON in the ELF section .patchbay, which is read without loading the library: PATCHBAY_MANIFEST(...);
 *   - the function patchbay_plugin_v1, which gives its table of functions.
 * The host calls the table, the plugin calls the host's table that it was given by start. What open, command and emit carry is
 * JSON text unless the kind says "bytes"; unknown fields are to be ignored, missing ones have defaults. docs/plugin-authors.md
 * lists them; `patchbay plugins new NAME -lang c` writes a whole plugin.
 *
 * A library built with this header runs in every host of the same major version that is not older. Of what came later a host says
 * by abi_major and abi_minor whether it has it; a newer library that copes with older hosts says so by "min_host" in its manifest.
 *
 * Memory. Nobody frees what the other side has allocated. How a parameter is named says whose it is:
 *   ..._borrowed   the caller's, readable until the call returns: copy what is to be kept;
 *   ..._lent       the caller's, the callee writes into it until the call returns.
 * Tables stay where they are for ever. Structs begin with their size: set it to sizeof, and read no field that lies behind the
 * size that the other side gave.
 *
 * Threads. The host calls a plugin from one thread, never from within one of the plugin's calls to it, and never with a lock
 * held. Each call of the plugin must return within 1 s: long work belongs to a thread of the plugin, and its outcome is an
 * event. The plugin may call the host from any thread, also from within a call of the host; two push calls at once for one
 * session give PATCHBAY_BUSY. No signal handler, no exit, no C++ exception may leave a call.
 *
 * Sessions. Everything open is a session with an id of 64 bits: the host chooses it for open, the plugin, with the bit
 * PATCHBAY_PLUGIN_ID set, for PATCHBAY_EVENT_CONSUME, PATCHBAY_EVENT_PUBLISH and PATCHBAY_EVENT_CALL. After
 * PATCHBAY_EVENT_ENDED nothing may be sent for a session. Calls for ids that are not known (any more) are to be ignored.
 */
#ifndef PATCHBAY_PLUGIN_H
#define PATCHBAY_PLUGIN_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Version of the ABI, for the field "abi" of the manifest. */
#define PATCHBAY_ABI "1.0.0"

/* Put in front of patchbay_plugin_v1, so that it is exported whatever the default visibility is. */
#define PATCHBAY_EXPORT __attribute__((visibility("default")))

/* Puts a string literal with the manifest's JSON where the host looks for it. Once per library, outside of functions. */
#define PATCHBAY_MANIFEST(json) \
    __attribute__((section(".patchbay"), used)) static const char patchbay_manifest[] = json

/* ---- Codes: what every call returns ---------------------------------------------------------------------------------- */

#define PATCHBAY_OK 0            /* done, or taken */
#define PATCHBAY_BUSY (-1)       /* two writers at once, or the window is full: later. Mark the next unit discontinuous */
#define PATCHBAY_UNKNOWN (-2)    /* no session, source or track has this id (any more) */
#define PATCHBAY_INVALID (-3)    /* an argument is outside its limits, or JSON cannot be read */
#define PATCHBAY_UNSUPPORTED (-4) /* no such function, role or kind here */
#define PATCHBAY_CLOSED (-5)     /* the ring, stream or window was closed */
#define PATCHBAY_TOO_SMALL (-6)  /* the buffer is too small: the length says what is needed */
#define PATCHBAY_PANICKED (-7)   /* the other side's code failed inside the call */
#define PATCHBAY_OVER_LIMIT (-8) /* a named limit was exceeded: too many tracks, too large a unit */

/* ---- Roles: what open opens, and its request ------------------------------------------------------------------------- */

#define PATCHBAY_ROLE_SOURCE 1    /* {"url","class"}: answer with TRACKS; push units while there is DEMAND */
#define PATCHBAY_ROLE_DEMUXER 2   /* {"format","url","head"}: the same from bytes (DATA, DATA_END) */
#define PATCHBAY_ROLE_TRANSPORT 3 /* {"url","endpoints"}: answer with HEAD, then write bytes */
#define PATCHBAY_ROLE_OUTPUT 4    /* {"format","tracks","options"}: read tracks, write chunks */
#define PATCHBAY_ROLE_SERVER 5    /* {}: listen; CONSUME and PUBLISH */
#define PATCHBAY_ROLE_ROUTES 6    /* {"route","method","path","query","headers","remote","value"}: RESPONSE or SERVE */
#define PATCHBAY_ROLE_SINK 7      /* {"url","stream"}: CONSUME that stream and push it out; METRICS and ENDED say how it goes */
#define PATCHBAY_ROLE_SERVICE 8   /* {"service","method","value","caller","feeds"}: ANSWERs; TRACKS and units for the caller's source when "feeds" */

/* ---- Commands: host to plugin ---------------------------------------------------------------------------------------- */

#define PATCHBAY_COMMAND_DEMAND 1    /* {"tracks":[ids],"class"}: what is wanted now; no tracks: stop sending */
#define PATCHBAY_COMMAND_KEYFRAME 2  /* nothing: a key unit is wanted now; at most once a second */
#define PATCHBAY_COMMAND_WRITABLE 4  /* {"bytes"}: so many bytes of write, calls or answers were taken */
#define PATCHBAY_COMMAND_SEEK 5      /* {"offset"}: a transport is to go on from there */
#define PATCHBAY_COMMAND_DATA 6      /* bytes for a demuxer */
#define PATCHBAY_COMMAND_DATA_END 7  /* {"class","message"}: no more bytes */
#define PATCHBAY_COMMAND_JOIN 8      /* {"join","history"}: a viewer of an output arrives */
#define PATCHBAY_COMMAND_BOUND 9     /* {"tracks":[{"source","epoch","info"}],"send"}: what a consumer may read, what the camera hears */
#define PATCHBAY_COMMAND_REFUSED 10  /* {"class","message"}: a consumer, publisher, talker or caller is refused, or over */
#define PATCHBAY_COMMAND_BODY 11     /* bytes of a request's body */
#define PATCHBAY_COMMAND_BODY_END 12 /* nothing: the body is complete */
#define PATCHBAY_COMMAND_ACCEPTED 13 /* nothing: a publisher was taken: send TRACKS and units */
#define PATCHBAY_COMMAND_DATA_AT 14  /* {"offset"}: where the next DATA starts */
#define PATCHBAY_COMMAND_PING 15     /* anything: answer with PONG and the same, from the thread that does the plugin's work */
#define PATCHBAY_COMMAND_LOG_LEVEL 16 /* a number: the highest log level wanted from now on */
#define PATCHBAY_COMMAND_DRAIN 17    /* nothing: another instance takes over; stop listening, say DRAINING, end with the last client */
#define PATCHBAY_COMMAND_TALK 18     /* {"source","send","track"}: to a source: read that track of that source, send it to the camera */
#define PATCHBAY_COMMAND_TALK_END 19 /* {"source"}: that talk is over */
#define PATCHBAY_COMMAND_CALL 20     /* {"method","value"}: a further call of a conversation with a service; see PATCHBAY_EVENT_CALL */
#define PATCHBAY_COMMAND_ANSWER 21   /* {"method","value"}: what a service tells its caller; see PATCHBAY_EVENT_CALL */
#define PATCHBAY_COMMAND_RAW 22      /* {"fd"}: the client's connection, from its first byte on; dup(fd) before you return */

/* ---- Events: plugin to host ------------------------------------------------------------------------------------------ */

#define PATCHBAY_EVENT_TRACKS 1     /* {"receive":[track],"send":[{"codec","sample_rate","channels","packet_ms"}],"final"}: see patchbay_unit */
#define PATCHBAY_EVENT_TRACK 2      /* {"epoch","track"}: a new configuration, before the first unit that names it */
#define PATCHBAY_EVENT_CLOCK 3      /* {"track","pts","unix_ns"}: wall time of a track */
#define PATCHBAY_EVENT_ENDED 4      /* {"class","message","retry_after_ms"}: the session is over */
#define PATCHBAY_EVENT_HEAD 6       /* {"mime","hint","size","seekable","live","expect"}: before a transport's first bytes */
#define PATCHBAY_EVENT_SEEK 7       /* {"offset"}: a demuxer wants its bytes from there; a transport goes on from there */
#define PATCHBAY_EVENT_CONSUMED 8   /* {"bytes"}: so many bytes of DATA, BODY, calls or answers were taken */
#define PATCHBAY_EVENT_OUTPUT 9     /* {"mime"}: of an output, before its init chunk */
#define PATCHBAY_EVENT_RESPONSE 10  /* {"status","headers"}: of a route; write and ENDED follow */
#define PATCHBAY_EVENT_SERVE 11     /* puts the client of a route on an output of the host */
#define PATCHBAY_EVENT_CONSUME 12   /* {"stream","medias"}: under a new id; BOUND or REFUSED comes */
#define PATCHBAY_EVENT_CONSUMER 13  /* {"bytes","packets","drops"}: counters of a consumer */
#define PATCHBAY_EVENT_PUBLISH 14   /* {"stream"}: under a new id; ACCEPTED or REFUSED comes */
#define PATCHBAY_EVENT_DETACH 15    /* nothing, or as ENDED: a consumer, publisher or caller has left */
#define PATCHBAY_EVENT_LISTENING 16 /* {"protocol","addr"}: a listener is bound */
#define PATCHBAY_EVENT_PONG 17      /* the payload of the ping */
#define PATCHBAY_EVENT_METRICS 18   /* {"counters":{name:value}}: for /metrics */
#define PATCHBAY_EVENT_BLOBS 19     /* {"ids"}: the body of a route goes on with these blobs, in this order */
#define PATCHBAY_EVENT_DROP_BLOBS 20 /* {"ids"}: to session 0: the host is to forget them */
#define PATCHBAY_EVENT_DRAINING 21  /* nothing: a server no longer listens; its clients go on */
#define PATCHBAY_EVENT_MESSAGE 22   /* {"type","value"}: a message to the WebSocket that asked the route */
#define PATCHBAY_EVENT_CONNECTION 23 /* {"protocol","remote_addr"}: what a consumer's connection has become */
#define PATCHBAY_EVENT_TALK 24      /* {"stream","consumer","track","exact"}: under a new id; ACCEPTED (then push) or REFUSED comes */
/* Calls of services of other plugins. A call or answer may have bytes behind its JSON: then its payload is a 0, the length of
 * the JSON (4 bytes, big-endian), the JSON, the bytes. At most 1 MiB; CONSUMED and WRITABLE keep the bytes of a conversation within 256 KiB. */
#define PATCHBAY_EVENT_CALL 25      /* {"service","method","value","session"}: under a new id; ANSWER or REFUSED comes. The same id again: further calls */
#define PATCHBAY_EVENT_ANSWER 26    /* {"method","value"}: of a service */
#define PATCHBAY_EVENT_KEYFRAME 27  /* nothing: a consumer cannot go on without a key unit */

/* Set in ids of sessions that the plugin chooses. */
#define PATCHBAY_PLUGIN_ID UINT64_C(0x8000000000000000)

/* ---- What the calls carry -------------------------------------------------------------------------------------------- */

/* Bytes, borrowed for one call. With len 0 ptr may be anything. */
typedef struct patchbay_slice {
    const uint8_t *ptr;
    uint64_t len;
} patchbay_slice;

/* Bits of patchbay_unit.flags. */
#define PATCHBAY_FLAG_KEY 1           /* decoding can start here; every audio unit and JPEG is one */
#define PATCHBAY_FLAG_DISCONTINUITY 2 /* units before it are missing, or its times do not continue theirs */
#define PATCHBAY_FLAG_INCOMPLETE 4    /* a part of it was lost */
#define PATCHBAY_FLAG_END 8           /* the last one of its track */
#define PATCHBAY_FLAG_CONFIG 16       /* set by the host */

/*
 * One access unit, audio frame, JPEG or raw frame. H.264 and H.265: NAL units behind their length in 4 bytes (big-endian), no
 * start codes, no parameter sets: those are in the track's "extradata" (avcC, hvcC in base64). AV1: OBUs as in MP4, each with
 * its size field. AAC: raw frames. docs/plugin-authors.md has all codecs. A track in TRACKS: {"id": below 64, "kind": "video" or "audio", "codec": FFmpeg's name, "clock_rate", "extradata",
 * "width", "height", "sample_rate", "channels"}.
 */
typedef struct patchbay_unit {
    uint32_t size;       /* sizeof(patchbay_unit) */
    uint32_t track;      /* id of the track */
    uint32_t flags;      /* PATCHBAY_FLAG_... */
    uint32_t epoch;      /* configuration of the track: 0 as in TRACKS, then as in the last TRACK event */
    int64_t pts;         /* presentation time, ticks of the track's clock */
    int64_t dts;         /* decoding time, at most pts; never goes back without PATCHBAY_FLAG_DISCONTINUITY */
    uint64_t arrival_ns; /* when the first byte arrived, ns of CLOCK_MONOTONIC; 0: now */
    uint32_t duration;   /* ticks, 0 unknown */
    uint32_t reserved;   /* 0 */
    patchbay_slice data; /* at most 8 MiB, raw video 32 MiB */
} patchbay_unit;

/* What stands at a patch; big-endian. The host makes each viewer's clock start at 0. */
#define PATCHBAY_PATCH_TIME_U64 0     /* 8 bytes: the viewer's start of the track is subtracted */
#define PATCHBAY_PATCH_TIME_U32 1     /* 4 bytes, likewise */
#define PATCHBAY_PATCH_SEQUENCE_U32 2 /* 4 bytes: numbered from 1 per viewer */
#define PATCHBAY_PATCH_FLV_MS 3       /* FLV's 24 + 8 bits of milliseconds */

/* A place in a chunk that the host changes per viewer. */
typedef struct patchbay_patch {
    uint32_t offset;   /* in the chunk; the field ends within its first 512 bytes */
    uint32_t track;    /* index in the output's tracks */
    uint32_t kind;     /* PATCHBAY_PATCH_... */
    uint32_t reserved; /* 0 */
} patchbay_patch;

/* Bits of patchbay_chunk.flags; a transport and a route set none. */
#define PATCHBAY_CHUNK_INIT 1    /* what a player needs first; kept by the host */
#define PATCHBAY_CHUNK_KEY 2     /* a viewer may start here */
#define PATCHBAY_CHUNK_HISTORY 4 /* made for the one viewer that join names */
#define PATCHBAY_CHUNK_FINAL 8   /* the whole answer for that viewer */
#define PATCHBAY_CHUNK_BLOB 16   /* to session 0: bytes kept under the id in join, for BLOBS, until DROP_BLOBS */
#define PATCHBAY_CHUNK_ALONE 32  /* a picture that needs no other, with KEY: a late viewer gets the newest one next */

/* Bytes on their way out of a transport, output or route. */
typedef struct patchbay_chunk {
    uint32_t size;                 /* sizeof(patchbay_chunk) */
    uint32_t flags;                /* PATCHBAY_CHUNK_... */
    patchbay_slice data;           /* at most 1 MiB of a transport or route, 64 MiB of an output */
    const patchbay_patch *patches; /* borrowed for the call */
    uint64_t patch_count;          /* at most 4 */
    uint64_t join;                 /* the JOIN that a history chunk answers, else 0 */
    const int64_t *starts;         /* borrowed; with history: per track what is subtracted from this viewer's times */
    uint64_t start_count;          /* at most 64 */
} patchbay_chunk;

/* What read found. */
typedef struct patchbay_read_out {
    uint32_t size;    /* sizeof(patchbay_read_out), set by the caller */
    uint32_t end;     /* 1: the newest unit was met; wake_fd becomes readable when there is more */
    uint64_t next;    /* cursor for the next call */
    uint64_t units;   /* units written */
    uint64_t written; /* bytes written */
    uint64_t lost;    /* units that were overwritten before they could be read */
    uint64_t needed;  /* with PATCHBAY_TOO_SMALL: bytes that the next unit needs */
} patchbay_read_out;

/* What read writes in front of each unit; the payload follows, padded with zeros to 8 bytes. */
typedef struct patchbay_unit_header {
    uint64_t sequence;   /* position in the source's ring */
    uint16_t track;
    uint16_t flags;
    uint32_t epoch;      /* for track_config */
    int64_t pts;
    int64_t dts;
    uint32_t duration;
    uint32_t len;        /* bytes of the payload, without padding */
    uint64_t arrival_ns; /* CLOCK_MONOTONIC */
    uint64_t last_key;   /* sequence of the newest key unit of its track, itself included */
    uint64_t reserved;
} patchbay_unit_header;

/* What start gets. */
typedef struct patchbay_start_info {
    uint32_t size;         /* bytes that are there */
    int32_t wake_fd;       /* readable when pending has something; the host's: never close or write it; -1: none */
    uint64_t ctx;          /* first argument of every call to the host */
    uint32_t threads;      /* worker threads that the user allows */
    uint32_t log_level;    /* highest level wanted: 1 error, 2 warning, 3 info, 4 debug, 5 trace */
    patchbay_slice config; /* the plugin's settings as YAML text, borrowed for the call */
    uint32_t abi_major;    /* the host's version of the ABI: what it knows beyond PATCHBAY_ABI */
    uint32_t abi_minor;
} patchbay_start_info;

/* What locate looks for. */
#define PATCHBAY_TARGET_NEWEST_KEY 0 /* the newest key unit of track arg */
#define PATCHBAY_TARGET_KEY_BEFORE 1 /* the newest key unit of track (arg >> 32) that is at least (arg & 0xffffffff) ms old */
#define PATCHBAY_TARGET_OLDEST 2     /* the oldest unit */
#define PATCHBAY_TARGET_HEAD 3       /* one past the newest unit */

/* ---- The two tables -------------------------------------------------------------------------------------------------- */

/* What the host offers. All functions may be called from any thread; all return at once. */
typedef struct patchbay_host {
    uint64_t size; /* bytes of this table; a newer host has more at the end */

    /* An event of a session (0: of the plugin): PATCHBAY_EVENT_... and its payload. */
    int32_t (*emit)(uint64_t ctx, uint64_t session, uint32_t kind, patchbay_slice payload_borrowed);

    /* Copies one unit into the session's ring. One writer per session. */
    int32_t (*push)(uint64_t ctx, uint64_t session, const patchbay_unit *unit_borrowed);

    /* Bytes of a transport, output or route. 256 KiB may be outstanding (see WRITABLE); one whole chunk is always taken. */
    int32_t (*write)(uint64_t ctx, uint64_t session, const patchbay_chunk *chunk_borrowed);

    /* Copies whole units of the tracks in mask (bit: track id) from cursor on. */
    int32_t (*read)(uint64_t ctx, uint64_t source, uint64_t cursor, uint64_t mask, uint8_t *buffer_lent, uint64_t capacity,
                    patchbay_read_out *out_lent);

    /* Finds a cursor: PATCHBAY_TARGET_... */
    int32_t (*locate)(uint64_t ctx, uint64_t source, uint32_t what, uint64_t arg, uint64_t *cursor_lent);

    /* The JSON of a track in a configuration epoch. */
    int32_t (*track_config)(uint64_t ctx, uint64_t source, uint32_t track, uint32_t epoch, uint8_t *buffer_lent,
                            uint64_t capacity, uint64_t *length_lent);

    /* Takes the ids of sources with something new since a read met their end. */
    int32_t (*pending)(uint64_t ctx, uint64_t *sources_lent, uint64_t capacity, uint64_t *count_lent);

    /* Asks for at least ms of history in a source's ring; 0 takes that back. */
    int32_t (*retain)(uint64_t ctx, uint64_t source, uint64_t ms);

    /* A line in the log: level 1 (error) to 5 (trace), {"message","fields"}. No secrets. */
    int32_t (*log)(uint64_t ctx, uint32_t level, patchbay_slice target_borrowed, patchbay_slice event_borrowed);

    /* Reads a small value that this plugin has kept. */
    int32_t (*state_get)(uint64_t ctx, patchbay_slice key_borrowed, uint8_t *buffer_lent, uint64_t capacity,
                         uint64_t *length_lent);

    /* Keeps a small value, at most 64 KiB; an empty one removes it. */
    int32_t (*state_put)(uint64_t ctx, patchbay_slice key_borrowed, patchbay_slice value_borrowed);
} patchbay_host;

/* What a plugin offers. The host calls all of it from one thread, start first and once, stop last and once. */
typedef struct patchbay_plugin {
    uint64_t size; /* sizeof(patchbay_plugin) */

    /* The host's table stays valid for ever, info for the call. */
    int32_t (*start)(const patchbay_host *host, const patchbay_start_info *info_borrowed);

    /* Opens a session of a role. Anything but PATCHBAY_OK: there is no session. */
    int32_t (*open)(uint64_t session, uint32_t role, patchbay_slice request_borrowed);

    /* A command to a session, or to the plugin (session 0). Kinds that are not known: PATCHBAY_UNSUPPORTED. */
    int32_t (*command)(uint64_t session, uint32_t kind, patchbay_slice payload_borrowed);

    /* Ends a session: ENDED is to follow within 2 s. */
    int32_t (*close)(uint64_t session);

    /* Ends all sessions, before the process ends. */
    int32_t (*stop)(void);
} patchbay_plugin;

/* Defined by the plugin: its table, which must stay where it is for ever. */
PATCHBAY_EXPORT const patchbay_plugin *patchbay_plugin_v1(void);

#ifdef __cplusplus
}
#endif

#endif
