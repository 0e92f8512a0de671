/* Real motors and sensors on an ATmega328P. The pin map, the drive train and what is assumed stand in firmware/README.md.
 *
 * Compiled in every build, never yet run on hardware. Two step/direction drivers, stepped at up to 20 kHz from timer 2; two
 * absolute encoders (SPI, 24 bits, 1 um a count); a seed-pass sensor on INT0; a load cell on ADC5; home, cartridge and loop
 * switches, closed to ground. */
#include "plant.h"

#include <avr/interrupt.h>
#include <avr/io.h>

#include "hal.h"

#define STEP_HZ 20000u
#define Z_STEP_UM_X100 125u       /* 2 mm lead, 200 x 8 steps: 1.25 um */
#define STYLET_STEP_UM_X100 2500u /* 40 mm a turn */
#define Z_HOME_UM_S 5000u
#define Z_ACCEL_UM_S2 100000ul
#define STYLET_UM_S 200000ul
#define STYLET_HOME_UM_S 100000ul
#define STYLET_ACCEL_UM_S2 1000000ul
#define HOME_EXTRA_UM 10000 /* beyond the travel: then there is no home switch */
#define FORCE_MN_PER_COUNT 4u
#define PULSE_APART_MS 3u /* the sensor's edge may bounce */

#define SEATED (!(PINB & _BV(PB1)))
#define LOOP_OPEN (PINB & _BV(PB0))

struct axis {
    uint8_t step_pin, direction_pin, select_pin, home_pin; /* port D, D, C, C */
    uint16_t step_um_x100;
    uint32_t accel_um_s2;
    int32_t encoder_zero_um;
};

enum goal { STILL, TO_TARGET, TO_HOME, PUSH };

static struct axis carriage = {_BV(PD3), _BV(PD4), _BV(PC0), _BV(PC1), Z_STEP_UM_X100, Z_ACCEL_UM_S2, 0};
static struct axis stylet = {_BV(PD5), _BV(PD6), _BV(PC3), _BV(PC2), STYLET_STEP_UM_X100, STYLET_ACCEL_UM_S2, 0};

static struct {
    struct axis *axis; /* that moves: one at a time */
    enum goal goal;
    enum plant_motion motion;
    int32_t from_um, to_um; /* encoder at the start, where to */
    uint32_t top_um_s, speed_um_s;
    int32_t z_um, stylet_um, stroke_um;
    uint16_t force_mn, peak_mn;
    uint8_t pulses, pulse_wait_ms;
} plant;

/* Shared with the stepping interrupt; written only with interrupts off. */
static volatile uint16_t step_rate, step_phase;
static volatile uint32_t steps_left, steps_done;
static volatile uint8_t step_pin;

ISR(TIMER2_COMPA_vect)
{
    uint16_t before = step_phase;
    PORTD &= (uint8_t)~step_pin;
    if (steps_left == 0)
        return;
    step_phase = (uint16_t)(before + step_rate);
    if (step_phase >= before)
        return;
    PORTD |= step_pin;
    steps_left--;
    steps_done++;
}

ISR(INT0_vect)
{
    if (plant.goal != PUSH || plant.pulse_wait_ms)
        return;
    plant.pulse_wait_ms = PULSE_APART_MS;
    if (plant.pulses < 255)
        plant.pulses++;
}

static int32_t read_encoder(const struct axis *axis)
{
    uint32_t bits = 0;
    PORTC &= (uint8_t)~axis->select_pin;
    for (uint8_t i = 0; i < 3; i++) {
        SPDR = 0;
        while (!(SPSR & _BV(SPIF)))
            ;
        bits = bits << 8 | SPDR;
    }
    PORTC |= axis->select_pin;
    return (int32_t)(bits & 0x800000ul ? bits | 0xFF000000ul : bits);
}

void plant_start(void)
{
    DDRD |= _BV(PD3) | _BV(PD4) | _BV(PD5) | _BV(PD6) | _BV(PD7);
    PORTD &= (uint8_t)~_BV(PD7); /* drivers on: an axis holds its place */
    PORTD |= _BV(PD2);
    PORTB |= _BV(PB0) | _BV(PB1); /* pull-ups */
    DDRB |= _BV(PB2) | _BV(PB3) | _BV(PB5);
    DDRC |= _BV(PC0) | _BV(PC3);
    PORTC |= _BV(PC0) | _BV(PC1) | _BV(PC2) | _BV(PC3);
    SPCR = _BV(SPE) | _BV(MSTR) | _BV(CPOL) | _BV(CPHA) | _BV(SPR0); /* 1 MHz, mode 3 */
    ADMUX = _BV(REFS0) | 5;
    ADCSRB = 0; /* free running */
    ADCSRA = _BV(ADEN) | _BV(ADSC) | _BV(ADATE) | _BV(ADPS2) | _BV(ADPS1) | _BV(ADPS0);
    EICRA = _BV(ISC01) | _BV(ISC00);
    EIMSK = _BV(INT0);
    TCCR2A = _BV(WGM21);
    TCCR2B = _BV(CS21);
    OCR2A = (uint8_t)(F_CPU / 8 / STEP_HZ - 1);
    TIMSK2 = _BV(OCIE2A);
    uint8_t locked = hal_lock();
    plant.motion = PLANT_DONE;
    plant.z_um = read_encoder(&carriage);
    plant.stylet_um = read_encoder(&stylet);
    hal_unlock(locked);
}

static void end(enum plant_motion how)
{
    uint8_t locked = hal_lock();
    steps_left = 0;
    step_rate = 0;
    plant.goal = STILL;
    plant.speed_um_s = 0;
    plant.motion = how;
    hal_unlock(locked);
}

void plant_halt(void)
{
    end(PLANT_HALTED);
}

static void begin(struct axis *axis, enum goal goal, int32_t to_um, uint32_t top_um_s)
{
    uint8_t locked = hal_lock();
    plant.axis = axis;
    plant.from_um = axis == &carriage ? plant.z_um : plant.stylet_um;
    plant.to_um = to_um;
    plant.top_um_s = top_um_s;
    plant.goal = goal;
    plant.motion = PLANT_RUNS;
    int32_t way_um = to_um - plant.from_um;
    if (way_um < 0)
        PORTD &= (uint8_t)~axis->direction_pin;
    else
        PORTD |= axis->direction_pin;
    step_pin = axis->step_pin;
    steps_done = 0;
    step_rate = 0;
    steps_left = (uint32_t)(way_um < 0 ? -way_um : way_um) * 100u / axis->step_um_x100;
    if (hal_stop_pending())
        plant_halt();
    hal_unlock(locked);
}

void plant_home_z(void)
{
    begin(&carriage, TO_HOME, plant.z_um - PLANT_Z_MAX_UM - HOME_EXTRA_UM, Z_HOME_UM_S);
}

void plant_move_z(int32_t z_um, uint16_t speed_um_s)
{
    begin(&carriage, TO_TARGET, z_um, speed_um_s);
}

void plant_home_stylet(void)
{
    begin(&stylet, TO_HOME, plant.stylet_um - PLANT_STROKE_UM - HOME_EXTRA_UM, STYLET_HOME_UM_S);
}

void plant_push(void)
{
    plant.peak_mn = 0;
    plant.pulses = plant.pulse_wait_ms = 0;
    plant.stroke_um = plant.stylet_um;
    begin(&stylet, PUSH, PLANT_STROKE_UM, STYLET_UM_S);
}

/* --- one ms ------------------------------------------------------------------------------------------- */

/* The speed of the next ms: up with the acceleration, down in time before the last step. */
static void set_speed(uint32_t left)
{
    uint32_t change_um_s = plant.axis->accel_um_s2 / 1000u;
    uint32_t left_um = left * plant.axis->step_um_x100 / 100u;
    uint32_t hundreds = plant.speed_um_s / 100u;
    uint32_t braking_um = hundreds * hundreds / (plant.axis->accel_um_s2 / 5000u);
    if (braking_um >= left_um && plant.speed_um_s > 2 * change_um_s)
        plant.speed_um_s -= change_um_s;
    else if (plant.speed_um_s + change_um_s <= plant.top_um_s)
        plant.speed_um_s += change_um_s;
    else
        plant.speed_um_s = plant.top_um_s;
    uint32_t steps_s = plant.speed_um_s * 100u / plant.axis->step_um_x100;
    step_rate = (uint16_t)((steps_s << 12) / (STEP_HZ >> 4));
}

static void tick_motion(void)
{
    uint8_t locked = hal_lock();
    uint32_t left = steps_left, done = steps_done;
    hal_unlock(locked);
    bool z = plant.axis == &carriage;
    int32_t at_um = z ? plant.z_um : plant.stylet_um;
    int32_t told_um = (int32_t)(done * plant.axis->step_um_x100 / 100u);
    int32_t behind_um = (plant.to_um < plant.from_um ? plant.from_um - told_um : plant.from_um + told_um) - at_um;
    if (plant.goal == PUSH && plant.force_mn > PLANT_FORCE_MAX_MN) {
        end(PLANT_PUSHED_TOO_HARD);
    } else if (plant.goal == TO_HOME && !(PINC & plant.axis->home_pin)) {
        plant.axis->encoder_zero_um += at_um;
        end(PLANT_DONE);
    } else if (behind_um > PLANT_FOLLOWING_UM || behind_um < -PLANT_FOLLOWING_UM) {
        end(PLANT_FAILED);
    } else if (left == 0) {
        end(plant.goal == TO_HOME ? PLANT_FAILED : PLANT_DONE);
    } else {
        set_speed(left);
    }
}

void plant_tick(void)
{
    plant.z_um = read_encoder(&carriage) - carriage.encoder_zero_um;
    plant.stylet_um = read_encoder(&stylet) - stylet.encoder_zero_um;
    plant.force_mn = (uint16_t)(ADC * FORCE_MN_PER_COUNT);
    if (plant.pulse_wait_ms)
        plant.pulse_wait_ms--;
    if (plant.goal == PUSH) {
        if (plant.force_mn > plant.peak_mn)
            plant.peak_mn = plant.force_mn;
        if (plant.stylet_um > plant.stroke_um)
            plant.stroke_um = plant.stylet_um;
    }
    if (plant.goal == STILL)
        return;
    if (LOOP_OPEN)
        plant_halt();
    else
        tick_motion();
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
    uint8_t locked = hal_lock();
    struct plant_reading reading = {
        .z_um = plant.z_um,
        .stylet_um = plant.stylet_um,
        .stroke_um = plant.stroke_um,
        .force_mn = plant.force_mn,
        .peak_mn = plant.peak_mn,
        .pulses = plant.pulses,
        .loop_open = LOOP_OPEN != 0,
        .seated = SEATED,
    };
    hal_unlock(locked);
    return reading;
}
