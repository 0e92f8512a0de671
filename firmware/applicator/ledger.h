/* Where every seed is: the counts of WIRE.md 1.4, kept in the non-volatile store, and what happened to each seed.
 *
 * Knows seeds, cartridges and latches about seeds. Does not know motors, tokens or the wire. Every function that changes
 * something returns when it is written; `ledger` may be read freely. */
#ifndef LEDGER_H
#define LEDGER_H

#include <stdbool.h>
#include <stdint.h>

#define LEDGER_SEEDS_MAX 112u /* outcomes the EEPROM has room for: CART refuses (RANGE) what could exceed it */

enum outcome { OUT_NONE, OUT_BUSY, OUT_PASS, OUT_NOPASS, OUT_DOUBLE, OUT_UNKNOWN };

/* Latches in the order of their rank on the wire; the first three live here, the others in the board. */
enum latch { LATCH_NONE, LATCH_JAM, LATCH_DOUBLE, LATCH_UNKNOWN, LATCH_AXIS, LATCH_ESTOP, LATCH_STOP, LATCH_WATCH };

struct shot {
    enum outcome outcome;
    int32_t z_um, stroke_um;
    uint16_t peak_mn;
    uint8_t pulses;
};

struct ledger {
    uint32_t procedure;
    uint16_t counter; /* number of the last intended seed */
    uint16_t latch_seed;
    uint16_t loaded, implanted, left, wasted, doubt, strokes, pulses, cartridges;
    int32_t intent_z_um;
    uint8_t known;  /* there has been a BEGIN */
    uint8_t open;   /* and no END yet */
    uint8_t busy;   /* an intent without an outcome */
    uint8_t latch;  /* NONE, JAM, DOUBLE or UNKNOWN */
    uint8_t carted; /* a cartridge has ever been declared */
    uint8_t opened; /* its switch opened since */
};

extern struct ledger ledger;

/* Reads the store. An intent without an outcome becomes UNKNOWN and latches; so does a store that can't be trusted. Returns this boot's number. */
uint16_t ledger_start(void);

void ledger_begin(uint32_t procedure);
void ledger_cart(uint16_t cartridge, uint16_t seeds);
void ledger_switch_opened(void);
bool ledger_intent(int32_t z_um); /* false: could not be written, the plunger must not move */
void ledger_outcome(const struct shot *shot);
void ledger_clear(enum outcome booked_as); /* PASS: in the patient, NOPASS: wasted, NONE: still in the cartridge */
void ledger_end(void);

struct shot ledger_shot(uint16_t n);

#endif
