#include "ledger.h"

#include <string.h>

#include "hal.h"
#include "store.h"
#include "wire.h"

/* The EEPROM's map: two slots of the boot counter, two of the ledger, then one short record per seed. */
#define BOOT_AT 0u
#define LEDGER_AT 16u
#define SHOTS_AT 128u
#define SHOT_SIZE 8u
#define Z_OFFSET_UM 65536 /* encoders may read a little below zero */
#define BITS_18 0x3FFFFul

/* None of these compiles where it doesn't hold. */
typedef char ledger_before_shots[LEDGER_AT + 2 * (sizeof(struct ledger) + STORE_OVERHEAD) <= SHOTS_AT ? 1 : -1];
typedef char shots_fit_in[SHOTS_AT + SHOT_SIZE * LEDGER_SEEDS_MAX <= HAL_NV_SIZE ? 1 : -1];
typedef char ledger_fits_in[sizeof(struct ledger) <= STORE_PAYLOAD_MAX ? 1 : -1];

struct ledger ledger;
static struct store_record boot_record, ledger_record;

static bool save(void)
{
    return store_save(&ledger_record, &ledger);
}

/* --- shots: 7 bytes packed (18 bits z, 18 stroke, 13 peak, 3 outcome, 4 pulses) and a check byte ----------------- */

static uint8_t check_byte(const uint8_t *packed)
{
    uint16_t crc = wire_crc(packed, SHOT_SIZE - 1);
    return (uint8_t)(crc ^ (crc >> 8));
}

static uint16_t shot_address(uint16_t n)
{
    return (uint16_t)(SHOTS_AT + SHOT_SIZE * ((n - 1u) % LEDGER_SEEDS_MAX));
}

static uint32_t limited(int32_t value, uint32_t most)
{
    return value < 0 ? 0 : (uint32_t)value > most ? most : (uint32_t)value;
}

static void limit_shot(struct shot *shot)
{
    if (shot->peak_mn > 0x1FFF)
        shot->peak_mn = 0x1FFF;
    if (shot->pulses > 0xF)
        shot->pulses = 0xF;
    shot->stroke_um = (int32_t)limited(shot->stroke_um, BITS_18);
    shot->z_um = (int32_t)limited(shot->z_um + Z_OFFSET_UM, BITS_18) - Z_OFFSET_UM;
}

static void write_shot(uint16_t n, const struct shot *shot)
{
    uint8_t packed[SHOT_SIZE];
    uint32_t z = (uint32_t)(shot->z_um + Z_OFFSET_UM), stroke = (uint32_t)shot->stroke_um;
    uint64_t bits = z | (uint64_t)stroke << 18 | (uint64_t)shot->peak_mn << 36 | (uint64_t)shot->outcome << 49
                    | (uint64_t)shot->pulses << 52;
    for (uint8_t i = 0; i < SHOT_SIZE - 1; i++, bits >>= 8)
        packed[i] = (uint8_t)bits;
    packed[SHOT_SIZE - 1] = check_byte(packed);
    hal_nv_write(shot_address(n), packed, SHOT_SIZE);
}

struct shot ledger_shot(uint16_t n)
{
    struct shot shot = {.outcome = OUT_NONE};
    uint8_t packed[SHOT_SIZE];
    uint64_t bits = 0;
    if (n == 0 || n > ledger.counter)
        return shot;
    if (n == ledger.counter && ledger.busy) {
        shot.outcome = OUT_BUSY;
        shot.z_um = ledger.intent_z_um;
        return shot;
    }
    hal_nv_read(shot_address(n), packed, SHOT_SIZE);
    shot.outcome = OUT_UNKNOWN; /* what a spoilt record says */
    if (packed[SHOT_SIZE - 1] != check_byte(packed))
        return shot;
    for (uint8_t i = SHOT_SIZE - 1; i--;)
        bits = bits << 8 | packed[i];
    shot.z_um = (int32_t)(bits & BITS_18) - Z_OFFSET_UM;
    shot.stroke_um = (int32_t)(bits >> 18 & BITS_18);
    shot.peak_mn = (uint16_t)(bits >> 36 & 0x1FFF);
    shot.outcome = (enum outcome)(bits >> 49 & 7);
    shot.pulses = (uint8_t)(bits >> 52 & 0xF);
    return shot;
}

/* --- counts --------------------------------------------------------------------------------------------------- */

static void latch(enum latch which)
{
    ledger.latch = (uint8_t)which;
    ledger.latch_seed = ledger.counter;
}

uint16_t ledger_start(void)
{
    uint16_t boot = 0;
    boot_record = (struct store_record){.address = BOOT_AT, .size = sizeof boot};
    ledger_record = (struct store_record){.address = LEDGER_AT, .size = sizeof ledger};
    store_load(&boot_record, &boot);
    if (++boot == 0)
        boot = 1;
    store_save(&boot_record, &boot);
    memset(&ledger, 0, sizeof ledger);
    switch (store_load(&ledger_record, &ledger)) {
    case STORE_BLANK:
        break;
    case STORE_SPOILT:
        memset(&ledger, 0, sizeof ledger);
        latch(LATCH_UNKNOWN);
        save();
        break;
    case STORE_GOOD:
        if (ledger.busy)
            ledger_outcome(&(struct shot){.outcome = OUT_UNKNOWN, .z_um = ledger.intent_z_um});
        break;
    }
    return boot;
}

void ledger_begin(uint32_t procedure)
{
    uint8_t carted = ledger.carted, opened = ledger.opened;
    memset(&ledger, 0, sizeof ledger);
    ledger.procedure = procedure;
    ledger.known = ledger.open = 1;
    ledger.carted = carted; /* the cartridge of the procedure before must come out first */
    ledger.opened = opened;
    save();
}

void ledger_cart(uint16_t cartridge, uint16_t seeds)
{
    ledger.loaded = (uint16_t)(ledger.loaded - ledger.left + seeds);
    ledger.left = seeds;
    ledger.cartridges = cartridge;
    ledger.carted = 1;
    ledger.opened = 0;
    save();
}

void ledger_switch_opened(void)
{
    if (ledger.opened)
        return;
    ledger.opened = 1;
    save();
}

bool ledger_intent(int32_t z_um)
{
    ledger.counter++;
    ledger.left--;
    ledger.doubt++;
    ledger.strokes++;
    ledger.intent_z_um = z_um;
    ledger.busy = 1;
    return save();
}

void ledger_outcome(const struct shot *shot)
{
    struct shot kept = *shot;
    limit_shot(&kept);
    write_shot(ledger.counter, &kept); /* counts only from the moment the ledger below is written */
    ledger.busy = 0;
    ledger.pulses = (uint16_t)(ledger.pulses + kept.pulses);
    switch (kept.outcome) {
    case OUT_PASS:
        ledger.doubt--;
        ledger.implanted++;
        break;
    case OUT_DOUBLE:
        if (ledger.left) { /* with none left, the second was never counted as loaded */
            ledger.left--;
            ledger.doubt++;
        }
        latch(LATCH_DOUBLE);
        break;
    case OUT_NOPASS:
        latch(LATCH_JAM);
        break;
    default:
        latch(LATCH_UNKNOWN);
        break;
    }
    save();
}

void ledger_clear(enum outcome booked_as)
{
    uint16_t *to = booked_as == OUT_PASS ? &ledger.implanted : booked_as == OUT_NOPASS ? &ledger.wasted : &ledger.left;
    *to = (uint16_t)(*to + ledger.doubt);
    ledger.doubt = 0;
    ledger.latch = LATCH_NONE;
    ledger.latch_seed = 0;
    save();
}

void ledger_end(void)
{
    ledger.open = 0;
    save();
}
