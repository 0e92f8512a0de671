/* Records in the non-volatile store that survive a power cut at any byte.
 *
 * A record has two slots: generation, payload, CRC. A save overwrites the older slot, so until its last byte is written the
 * younger slot stands: a write is all or nothing. */
#ifndef STORE_H
#define STORE_H

#include <stdbool.h>
#include <stdint.h>

#define STORE_OVERHEAD 3u /* bytes a slot needs beyond its payload */
#define STORE_PAYLOAD_MAX 48u

struct store_record {
    uint16_t address; /* of the first slot; the second follows it */
    uint8_t size;     /* of the payload */
    uint8_t generation, slot; /* of the younger slot; set by store_load */
};

enum store_state { STORE_BLANK, STORE_GOOD, STORE_SPOILT };

/* BLANK: never written. SPOILT: written once, and no slot can be trusted. `payload` is only touched when GOOD. */
enum store_state store_load(struct store_record *record, void *payload);

/* False: what was read back differs (a worn or broken cell). */
bool store_save(struct store_record *record, const void *payload);

#endif
