#include "board.h"

#include <string.h>

#include "hal.h"
#include "outbox.h"

#define TOKEN_MS 2000u
#define SILENCE_MS 500u
#define TELEMETRY_BUSY_MS 200u
#define TELEMETRY_IDLE_MS 1000u
#define PLACE_UM 100
#define SHORT_STROKE_UM 500 /* a stroke this much shorter than full is a short one; assumed */
#define AT_HOME_UM 100

static struct {
    enum state state;
    enum latch latch; /* AXIS, ESTOP, STOP or WATCH: the latches that don't survive a reset */
    uint8_t homed;
    enum axis axis; /* that is homing */
    bool coming_home, late, loop_open, seated, in_session;
    uint16_t armed_n, token;
    int32_t armed_z_um;
    uint32_t armed_ms, heard_ms, telemetry_ms;
    struct shot shot;
} board;

flash_text latch_text(enum latch which)
{
    switch (which) {
    case LATCH_JAM: return FLASH_TEXT("JAM");
    case LATCH_DOUBLE: return FLASH_TEXT("DOUBLE");
    case LATCH_UNKNOWN: return FLASH_TEXT("UNKNOWN");
    case LATCH_AXIS: return FLASH_TEXT("AXIS");
    case LATCH_ESTOP: return FLASH_TEXT("ESTOP");
    case LATCH_STOP: return FLASH_TEXT("STOP");
    case LATCH_WATCH: return FLASH_TEXT("WATCH");
    default: return FLASH_TEXT("NONE");
    }
}

flash_text outcome_text(enum outcome outcome)
{
    switch (outcome) {
    case OUT_BUSY: return FLASH_TEXT("BUSY");
    case OUT_PASS: return FLASH_TEXT("PASS");
    case OUT_NOPASS: return FLASH_TEXT("NOPASS");
    case OUT_DOUBLE: return FLASH_TEXT("DOUBLE");
    case OUT_UNKNOWN: return FLASH_TEXT("UNKNOWN");
    default: return FLASH_TEXT("NONE");
    }
}

enum latch board_latch(void)
{
    return ledger.latch ? (enum latch)ledger.latch : board.latch; /* seeds outrank the rest */
}

uint8_t board_homed(void)
{
    return board.homed;
}

flash_text board_state_text(void)
{
    switch (board.state) {
    case HOMING: return FLASH_TEXT("HOMING");
    case MOVING: return FLASH_TEXT("MOVING");
    case ARMED: return FLASH_TEXT("ARMED");
    case FIRING: return FLASH_TEXT("FIRING");
    default: return board_latch() ? FLASH_TEXT("LATCHED") : FLASH_TEXT("IDLE");
    }
}

static bool busy(void)
{
    return board.state == HOMING || board.state == MOVING || board.state == FIRING;
}

/* --- seeds and stops ------------------------------------------------------------------------------ */

static void shot_done(enum outcome outcome)
{
    struct wire_out out;
    struct plant_reading reading = plant_read();
    board.shot.outcome = outcome;
    board.shot.stroke_um = reading.stroke_um;
    board.shot.peak_mn = reading.peak_mn;
    board.shot.pulses = reading.pulses;
    ledger_outcome(&board.shot);
    board.state = IDLE;
    struct shot kept = ledger_shot(ledger.counter); /* what RES will say, to the digit */
    outbox_event(&out, FLASH_TEXT("SHOT"));
    wire_uint(&out, FLASH_TEXT("n"), ledger.counter);
    wire_text(&out, FLASH_TEXT("out"), outcome_text(kept.outcome));
    wire_uint(&out, FLASH_TEXT("peak"), kept.peak_mn);
    wire_uint(&out, FLASH_TEXT("pulses"), kept.pulses);
    wire_int(&out, FLASH_TEXT("stroke"), kept.stroke_um);
    outbox_send(&out);
}

static void stop(enum latch which, flash_text by)
{
    struct wire_out out;
    bool in_stroke = board.state == FIRING;
    plant_halt();
    board.state = IDLE;
    if (!board.latch)
        board.latch = which;
    outbox_event(&out, FLASH_TEXT("STOPPED"));
    wire_int(&out, FLASH_TEXT("z"), plant_read().z_um);
    wire_text(&out, FLASH_TEXT("by"), by);
    outbox_send(&out);
    if (in_stroke) {
        board.homed = (uint8_t)(board.homed & ~AXIS_STYLET);
        shot_done(OUT_UNKNOWN);
    }
    board.late = false;
}

static enum outcome judge(const struct plant_reading *reading)
{
    if (reading->pulses > 1)
        return OUT_DOUBLE;
    bool whole = reading->stroke_um >= PLANT_STROKE_UM - SHORT_STROKE_UM;
    bool felt = reading->peak_mn >= PLANT_FORCE_MIN_MN && reading->peak_mn <= PLANT_FORCE_MAX_MN;
    return whole && felt && reading->pulses == 1 ? OUT_PASS : OUT_NOPASS;
}

/* The stroke has ended: home again, unless a seed may be half out (then the stylet stays where it is). */
static void stroke_ended(enum plant_motion motion)
{
    struct plant_reading reading = plant_read();
    enum outcome outcome = judge(&reading);
    if (motion == PLANT_DONE && outcome != OUT_NOPASS) {
        board.coming_home = true;
        board.shot.outcome = outcome;
        plant_home_stylet();
    } else {
        board.homed = (uint8_t)(board.homed & ~AXIS_STYLET);
        shot_done(outcome);
    }
}

static void motion_ended(enum plant_motion motion)
{
    struct wire_out out;
    switch (board.state) {
    case HOMING:
    case MOVING:
        if (motion != PLANT_DONE) {
            stop(LATCH_AXIS, FLASH_TEXT("AXIS"));
        } else if (board.state == HOMING) {
            board.homed = (uint8_t)(board.homed | board.axis);
            outbox_event(&out, FLASH_TEXT("HOMED"));
            wire_text(&out, FLASH_TEXT("ax"), board.axis == AXIS_Z ? FLASH_TEXT("z") : FLASH_TEXT("s"));
            outbox_send(&out);
        } else {
            outbox_event(&out, FLASH_TEXT("MOVED"));
            wire_int(&out, FLASH_TEXT("z"), plant_read().z_um);
            outbox_send(&out);
        }
        board.state = IDLE;
        break;
    case FIRING:
        if (!board.coming_home) {
            stroke_ended(motion);
            break;
        }
        if (motion != PLANT_DONE)
            board.homed = (uint8_t)(board.homed & ~AXIS_STYLET);
        shot_done(board.shot.outcome);
        if (motion != PLANT_DONE)
            stop(LATCH_AXIS, FLASH_TEXT("AXIS"));
        break;
    default:
        break;
    }
    if (board.state == IDLE && board.late)
        stop(LATCH_WATCH, FLASH_TEXT("WATCH"));
}

/* --- what is looked at again and again ------------------------------------------------------------ */

static void watch_switches(const struct plant_reading *reading)
{
    struct wire_out out;
    if (reading->loop_open != board.loop_open) {
        board.loop_open = reading->loop_open;
        outbox_event(&out, FLASH_TEXT("ESTOP"));
        wire_uint(&out, FLASH_TEXT("es"), board.loop_open);
        outbox_send(&out);
        if (board.loop_open)
            stop(LATCH_ESTOP, FLASH_TEXT("ESTOP"));
    }
    if (!reading->seated)
        ledger_switch_opened();
    if (reading->seated != board.seated) {
        board.seated = reading->seated;
        outbox_event(&out, FLASH_TEXT("SEAT"));
        wire_uint(&out, FLASH_TEXT("seat"), board.seated);
        outbox_send(&out);
    }
}

static void watch_host(uint32_t now)
{
    struct wire_out out;
    if (board.state != IDLE && now - board.heard_ms >= SILENCE_MS) {
        if (board.state == FIRING)
            board.late = true; /* the stroke is finished first */
        else
            stop(LATCH_WATCH, FLASH_TEXT("WATCH"));
    }
    if (board.state == ARMED && now - board.armed_ms > TOKEN_MS) {
        board.state = IDLE;
        outbox_event(&out, FLASH_TEXT("DISARMED"));
        wire_uint(&out, FLASH_TEXT("n"), board.armed_n);
        outbox_send(&out);
    }
}

static void tell(uint32_t now)
{
    struct wire_out out;
    if (!board.in_session || now - board.telemetry_ms < (board.state == IDLE ? TELEMETRY_IDLE_MS : TELEMETRY_BUSY_MS))
        return;
    struct plant_reading reading = plant_read();
    board.telemetry_ms = now;
    outbox_telemetry(&out);
    wire_text(&out, FLASH_TEXT("st"), board_state_text());
    wire_int(&out, FLASH_TEXT("z"), reading.z_um);
    wire_int(&out, FLASH_TEXT("sty"), reading.stylet_um);
    wire_uint(&out, FLASH_TEXT("f"), reading.force_mn);
    wire_uint(&out, FLASH_TEXT("left"), ledger.left);
    wire_uint(&out, FLASH_TEXT("es"), board.loop_open);
    wire_text(&out, FLASH_TEXT("la"), latch_text(board_latch()));
    outbox_send(&out);
}

void board_start(void)
{
    memset(&board, 0, sizeof board);
    plant_start();
    board.seated = plant_read().seated;
    board.heard_ms = board.telemetry_ms = hal_now_ms();
}

bool board_tick(void)
{
    enum plant_motion motion = plant_motion(); /* read first: what halted it is then seen below */
    bool stopped = hal_stop_pending();
    if (stopped) {
        hal_stop_accept();
        stop(LATCH_STOP, FLASH_TEXT("HOST"));
    }
    struct plant_reading reading = plant_read();
    watch_switches(&reading);
    if (motion == PLANT_HALTED && busy())
        stop(LATCH_ESTOP, FLASH_TEXT("ESTOP")); /* the loop opened too shortly to be read */
    else if (motion != PLANT_RUNS)
        motion_ended(motion);
    watch_host(hal_now_ms());
    tell(hal_now_ms());
    return stopped;
}

void board_heard(void)
{
    board.heard_ms = hal_now_ms();
}

void board_quiet(void)
{
    board.in_session = true;
    if (board.state == FIRING)
        return;
    plant_halt();
    board.state = IDLE;
}

/* --- what may be asked ---------------------------------------------------------------------------- */

static bool stylet_is_home(void)
{
    int32_t stylet_um = plant_read().stylet_um;
    return stylet_um >= -AT_HOME_UM && stylet_um <= AT_HOME_UM;
}

/* Whatever drives a motor is held back by these three, in this order. */
static enum refusal motors_refused(bool armed_is_busy)
{
    if (board.loop_open)
        return NO_ESTOP;
    if (board_latch())
        return NO_LATCH;
    return busy() || (armed_is_busy && board.state == ARMED) ? NO_BUSY : ACCEPTED;
}

enum refusal board_home(enum axis axis)
{
    enum refusal why = motors_refused(true);
    if (why)
        return why;
    board.state = HOMING;
    board.axis = axis;
    board.homed = (uint8_t)(board.homed & ~axis);
    axis == AXIS_Z ? plant_home_z() : plant_home_stylet();
    return ACCEPTED;
}

enum refusal board_move(int32_t z_um, int32_t speed_um_s)
{
    enum refusal why = motors_refused(true);
    if (why)
        return why;
    if (board.homed != (AXIS_Z | AXIS_STYLET))
        return NO_HOME;
    if (z_um < 0 || z_um > PLANT_Z_MAX_UM || speed_um_s < 100 || speed_um_s > 20000)
        return NO_RANGE;
    if (!stylet_is_home())
        return NO_RANGE; /* a stylet in the needle would be bent */
    board.state = MOVING;
    plant_move_z(z_um, (uint16_t)speed_um_s);
    return ACCEPTED;
}

enum refusal board_begin(uint32_t procedure, bool *again)
{
    if (board_latch())
        return NO_LATCH;
    *again = ledger.known && ledger.procedure == procedure;
    if (*again)
        return ACCEPTED;
    if (ledger.open)
        return NO_OPEN;
    ledger_begin(procedure);
    return ACCEPTED;
}

enum refusal board_cart(uint16_t cartridge, uint16_t seeds, uint16_t taken_out)
{
    if (board_latch())
        return NO_LATCH;
    if (board.state != IDLE)
        return NO_BUSY;
    if (!ledger.open)
        return NO_NEW;
    if (!board.seated || (ledger.carted && !ledger.opened))
        return NO_SEAT;
    if (cartridge != ledger.cartridges + 1u || taken_out != ledger.left)
        return NO_COUNT;
    if (seeds < 1 || seeds > CARTRIDGE_SEEDS || ledger.counter + seeds > LEDGER_SEEDS_MAX)
        return NO_RANGE;
    ledger_cart(cartridge, seeds);
    return ACCEPTED;
}

/* What ARM demands, and FIRE once more. */
static enum refusal seed_refused(uint16_t n, int32_t z_um)
{
    if (!ledger.open)
        return NO_NEW;
    if (board.homed != (AXIS_Z | AXIS_STYLET) || !stylet_is_home())
        return NO_HOME;
    if (!board.seated || !ledger.carted || ledger.opened)
        return NO_SEAT;
    if (ledger.left == 0 || ledger.counter >= LEDGER_SEEDS_MAX)
        return NO_EMPTY;
    if (n != ledger.counter + 1u)
        return NO_COUNT;
    int32_t reading_um = plant_read().z_um;
    return reading_um > z_um + PLACE_UM || reading_um < z_um - PLACE_UM ? NO_PLACE : ACCEPTED;
}

enum refusal board_arm(uint16_t n, int32_t z_um, uint16_t token)
{
    enum refusal why = motors_refused(false);
    if (!why && (z_um < -PLANT_Z_MAX_UM || z_um > 2 * PLANT_Z_MAX_UM))
        why = NO_PLACE;
    if (!why)
        why = seed_refused(n, z_um);
    if (why)
        return why;
    board.state = ARMED;
    board.armed_n = n;
    board.armed_z_um = z_um;
    board.token = token;
    board.armed_ms = hal_now_ms();
    return ACCEPTED;
}

enum refusal board_fire(uint16_t n, uint16_t token, bool *again)
{
    *again = n != 0 && ledger.counter >= n;
    if (*again)
        return ACCEPTED;
    enum refusal why = motors_refused(false);
    if (!why && (board.state != ARMED || board.armed_n != n || board.token != token || hal_now_ms() - board.armed_ms > TOKEN_MS))
        why = NO_TOKEN;
    if (!why)
        why = seed_refused(n, board.armed_z_um);
    if (why)
        return why;
    board.shot = (struct shot){.outcome = OUT_UNKNOWN, .z_um = plant_read().z_um};
    board.state = FIRING;
    board.coming_home = board.late = false;
    if (ledger_intent(board.shot.z_um))
        plant_push();
    else
        stop(LATCH_AXIS, FLASH_TEXT("AXIS")); /* the store has failed: nothing moves, the seed is in doubt */
    return ACCEPTED;
}

void board_disarm(void)
{
    if (board.state == ARMED)
        board.state = IDLE;
}

enum refusal board_clear(enum latch which, uint16_t n, bool about_seed, enum outcome booked_as)
{
    if (board.loop_open)
        return NO_ESTOP;
    if (which != board_latch() || n != ledger.latch_seed || about_seed != (ledger.latch != LATCH_NONE))
        return NO_COUNT;
    if (about_seed)
        ledger_clear(booked_as);
    else
        board.latch = LATCH_NONE;
    return ACCEPTED;
}

enum refusal board_end(uint16_t taken_out)
{
    if (board_latch())
        return NO_LATCH;
    if (!ledger.open)
        return NO_NEW;
    if (taken_out != ledger.left || ledger.doubt || ledger.loaded != ledger.implanted + ledger.left + ledger.wasted)
        return NO_COUNT;
    ledger_end();
    return ACCEPTED;
}
