/* Motors and sensors imitated: constant speeds, no acceleration, ends of travel where they should be.
 *
 * All figures are assumed, chosen to look like a motorised applicator; none is measured on one. */
#include "plant.h"

#include "hal.h"
#include "plant_sim.h"

#define HOME_Z_UM_S 10000
#define STYLET_UM_MS 400
#define BACKLASH_UM 2 /* the carriage, drawn back, comes to rest this much further */
#define PULSE_AT_UM 30000
#define SECOND_PULSE_AT_UM 36000
#define EXIT_AT_UM 195000 /* the seed leaves the needle: the force is largest */
#define JAM_AT_UM 120000
#define FREE_MN 40
#define SEED_MN 820
#define JAM_RISE_MN_MS 150

enum task { STILL, Z, STYLET_HOME, PUSH };

static struct {
    enum task task;
    enum plant_motion motion;
    int32_t z_told_um, z_um, z_target_um, stylet_um, stroke_um;
    uint16_t z_speed_um_s, rest; /* rest: of the last ms, in um/1000 */
    uint16_t force_mn, peak_mn;
    uint8_t pulses;
} plant;

void plant_start(void)
{
    plant.task = STILL; /* carriage and stylet stay where the reset found them */
    plant.motion = PLANT_DONE;
    plant.force_mn = plant.peak_mn = 0;
    plant.stroke_um = plant.pulses = 0;
}

static void end(enum plant_motion how)
{
    plant.task = STILL;
    plant.motion = how;
    plant.force_mn = 0;
}

void plant_halt(void)
{
    end(PLANT_HALTED);
}

static void begin(enum task task)
{
    uint8_t locked = hal_lock();
    plant.rest = 0;
    plant.task = task;
    plant.motion = PLANT_RUNS;
    if (hal_stop_pending())
        plant_halt();
    hal_unlock(locked);
}

void plant_home_z(void)
{
    plant_move_z(0, HOME_Z_UM_S);
}

void plant_move_z(int32_t z_um, uint16_t speed_um_s)
{
    plant.z_target_um = z_um;
    plant.z_speed_um_s = speed_um_s;
    begin(Z);
}

void plant_home_stylet(void)
{
    begin(STYLET_HOME);
}

void plant_push(void)
{
    plant.peak_mn = 0;
    plant.pulses = 0;
    plant.stroke_um = plant.stylet_um;
    begin(PUSH);
}

/* --- one ms ------------------------------------------------------------------------------------------- */

static bool approach(int32_t *at, int32_t target, int32_t step)
{
    int32_t way = target - *at;
    *at += way > step ? step : way < -step ? -step : way;
    return *at == target;
}

static void tick_z(uint8_t inputs)
{
    uint32_t thousandths = (uint32_t)plant.z_speed_um_s + plant.rest;
    bool there = approach(&plant.z_told_um, plant.z_target_um, (int32_t)(thousandths / 1000));
    plant.rest = (uint16_t)(thousandths % 1000);
    if (!(inputs & SIM_STALL))
        plant.z_um = plant.z_told_um;
    int32_t behind = plant.z_told_um - plant.z_um;
    plant.force_mn = 0;
    if (behind > PLANT_FOLLOWING_UM || behind < -PLANT_FOLLOWING_UM) {
        plant.z_told_um = plant.z_um;
        end(PLANT_FAILED);
    } else if (there) {
        end(PLANT_DONE);
    }
}

static uint16_t push_force_mn(uint8_t inputs)
{
    if (inputs & SIM_NO_SEED)
        return FREE_MN;
    if ((inputs & SIM_JAM) && plant.stylet_um > JAM_AT_UM)
        return (uint16_t)(plant.force_mn + JAM_RISE_MN_MS);
    if (plant.stylet_um > EXIT_AT_UM)
        return FREE_MN;
    return (uint16_t)(FREE_MN + plant.stylet_um * (SEED_MN - FREE_MN) / EXIT_AT_UM);
}

static void tick_push(uint8_t inputs)
{
    int32_t before_um = plant.stylet_um;
    bool there = approach(&plant.stylet_um, PLANT_STROKE_UM, STYLET_UM_MS);
    bool seed = !(inputs & SIM_NO_SEED);
    plant.force_mn = push_force_mn(inputs);
    if (before_um < EXIT_AT_UM && plant.stylet_um >= EXIT_AT_UM && seed && !(inputs & SIM_JAM))
        plant.force_mn = SEED_MN;
    if (seed && before_um < PULSE_AT_UM && plant.stylet_um >= PULSE_AT_UM)
        plant.pulses++;
    if (seed && (inputs & SIM_TWO) && before_um < SECOND_PULSE_AT_UM && plant.stylet_um >= SECOND_PULSE_AT_UM)
        plant.pulses++;
    if (plant.force_mn > plant.peak_mn)
        plant.peak_mn = plant.force_mn;
    plant.stroke_um = plant.stylet_um;
    if (plant.force_mn > PLANT_FORCE_MAX_MN)
        end(PLANT_PUSHED_TOO_HARD);
    else if (there)
        end(PLANT_DONE);
}

void plant_tick(void)
{
    uint8_t inputs = sim_inputs();
    if (plant.task != STILL && (inputs & SIM_LOOP_OPEN))
        plant_halt();
    switch (plant.task) {
    case Z:
        tick_z(inputs);
        break;
    case STYLET_HOME:
        if (approach(&plant.stylet_um, 0, STYLET_UM_MS))
            end(PLANT_DONE);
        break;
    case PUSH:
        tick_push(inputs);
        break;
    default:
        break;
    }
}

enum plant_motion plant_motion(void)
{
    uint8_t locked = hal_lock();
    enum plant_motion motion = plant.motion;
    hal_unlock(locked);
    return motion;
}

struct plant_reading plant_read(void)
{
    uint8_t inputs = sim_inputs();
    uint8_t locked = hal_lock();
    struct plant_reading reading = {
        .z_um = plant.z_um > 0 ? plant.z_um + BACKLASH_UM : 0,
        .stylet_um = plant.stylet_um,
        .stroke_um = plant.stroke_um,
        .force_mn = plant.force_mn,
        .peak_mn = plant.peak_mn,
        .pulses = plant.pulses,
        .loop_open = (inputs & SIM_LOOP_OPEN) != 0,
        .seated = !(inputs & SIM_UNSEATED),
    };
    hal_unlock(locked);
    return reading;
}
