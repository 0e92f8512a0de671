/* The board: what it is doing, what it is armed for, what holds it back, and the watch over the host.
 *
 * Knows the rules of WIRE.md 1.3 to 1.6. Does not know lines, numbers or sessions: command.c asks, session.c says when the
 * host was heard. A function that asks for something returns why it is refused and has then changed nothing. */
#ifndef BOARD_H
#define BOARD_H

#include "ledger.h"
#include "plant.h"
#include "wire.h"

/* Mandatory configuration of the unit (Makefile): published cartridges differ. */
#ifndef CARTRIDGE_SEEDS
#define CARTRIDGE_SEEDS 15
#endif

enum refusal {
    ACCEPTED, NO_FORM, NO_ESTOP, NO_LATCH, NO_BUSY, NO_NEW, NO_OPEN, NO_HOME, NO_SEAT, NO_EMPTY, NO_COUNT, NO_PLACE, NO_RANGE, NO_TOKEN
};
enum state { IDLE, HOMING, MOVING, ARMED, FIRING };
enum axis { AXIS_Z = 1, AXIS_STYLET = 2 }; /* also the bits of `hm` */

void board_start(void);
bool board_tick(void);  /* again and again; true: a stop byte has been obeyed */
void board_quiet(void); /* a new session: motion stops, disarmed, no latch; a stroke past its intent is finished */
void board_heard(void); /* a valid line of the session */

enum refusal board_home(enum axis axis);
enum refusal board_move(int32_t z_um, int32_t speed_um_s);
enum refusal board_begin(uint32_t procedure, bool *again);
enum refusal board_cart(uint16_t cartridge, uint16_t seeds, uint16_t taken_out);
enum refusal board_arm(uint16_t n, int32_t z_um, uint16_t token);
enum refusal board_fire(uint16_t n, uint16_t token, bool *again);
enum refusal board_clear(enum latch which, uint16_t n, bool about_seed, enum outcome booked_as);
enum refusal board_end(uint16_t taken_out);
void board_disarm(void);

enum latch board_latch(void); /* the one in force */
uint8_t board_homed(void);
flash_text board_state_text(void);
flash_text latch_text(enum latch which);
flash_text outcome_text(enum outcome outcome);

#endif
