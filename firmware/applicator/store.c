#include "store.h"

#include <string.h>

#include "hal.h"
#include "wire.h"

struct image {
    uint8_t bytes[STORE_PAYLOAD_MAX + STORE_OVERHEAD];
};

static uint16_t slot_address(const struct store_record *record, uint8_t slot)
{
    return (uint16_t)(record->address + slot * (record->size + STORE_OVERHEAD));
}

static enum store_state read_slot(const struct store_record *record, uint8_t slot, struct image *image)
{
    uint8_t covered = (uint8_t)(record->size + 1), erased = 0;
    uint8_t total = (uint8_t)(record->size + STORE_OVERHEAD);
    hal_nv_read(slot_address(record, slot), image->bytes, total);
    uint16_t crc = wire_crc(image->bytes, covered);
    if (image->bytes[covered] == (uint8_t)(crc >> 8) && image->bytes[covered + 1] == (uint8_t)crc)
        return STORE_GOOD;
    for (uint8_t i = 0; i < total; i++)
        erased = (uint8_t)(erased + (image->bytes[i] == 0xFF));
    return erased == total ? STORE_BLANK : STORE_SPOILT;
}

enum store_state store_load(struct store_record *record, void *payload)
{
    struct image image;
    enum store_state found[2];
    record->generation = 0;
    record->slot = 1; /* so that the first save goes to slot 0 */
    enum store_state best = STORE_SPOILT;
    for (uint8_t slot = 0; slot < 2; slot++) {
        found[slot] = read_slot(record, slot, &image);
        if (found[slot] != STORE_GOOD)
            continue;
        if (best == STORE_GOOD && (uint8_t)(image.bytes[0] - record->generation) >= 0x80)
            continue; /* the older one */
        best = STORE_GOOD;
        record->generation = image.bytes[0];
        record->slot = slot;
        memcpy(payload, image.bytes + 1, record->size);
    }
    if (best != STORE_GOOD && (found[0] == STORE_BLANK || found[1] == STORE_BLANK))
        return STORE_BLANK; /* at most the very first save was cut short */
    return best;
}

bool store_save(struct store_record *record, const void *payload)
{
    struct image image, back;
    uint8_t slot = record->slot ^ 1u, covered = (uint8_t)(record->size + 1);
    image.bytes[0] = (uint8_t)(record->generation + 1);
    memcpy(image.bytes + 1, payload, record->size);
    uint16_t crc = wire_crc(image.bytes, covered);
    image.bytes[covered] = (uint8_t)(crc >> 8);
    image.bytes[covered + 1] = (uint8_t)crc;
    hal_nv_write(slot_address(record, slot), image.bytes, (uint8_t)(record->size + STORE_OVERHEAD));
    if (read_slot(record, slot, &back) != STORE_GOOD || memcmp(&image, &back, record->size + STORE_OVERHEAD) != 0)
        return false;
    record->generation = image.bytes[0];
    record->slot = slot;
    return true;
}
