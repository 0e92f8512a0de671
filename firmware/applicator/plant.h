/* Motors and sensors. plant_sim.c imitates them, plant_pins.c drives real ones.
 *
 * Lengths um, speeds um/s, forces mN. Knows how to move and when to halt by itself (force above the limit, following error, e-stop
 * loop open, stop byte pending). Does not know seeds, sessions, latches. */
#ifndef PLANT_H
#define PLANT_H

#include <stdbool.h>
#include <stdint.h>

#define PLANT_Z_MAX_UM 150000
#define PLANT_STROKE_UM 205000
#define PLANT_FOLLOWING_UM 300
#define PLANT_FORCE_MAX_MN 2500
#define PLANT_FORCE_MIN_MN 200 /* a seed that passes is felt; assumed, as the limit above */

enum plant_motion {
    PLANT_DONE,   /* the last motion reached its end, or there was none */
    PLANT_RUNS,
    PLANT_FAILED, /* following error, home not found: halted */
    PLANT_PUSHED_TOO_HARD,
    PLANT_HALTED  /* plant_halt, stop byte or e-stop */
};

struct plant_reading {
    int32_t z_um, stylet_um;  /* encoders */
    int32_t stroke_um;        /* furthest stylet reading of the last push */
    uint16_t force_mn, peak_mn;
    uint8_t pulses;           /* seed-pass sensor, since the last push began */
    bool loop_open, seated;
};

void plant_start(void);
void plant_tick(void); /* once a ms, from the timer */

/* Each starts one motion, unless a stop byte is pending: then the motion is PLANT_HALTED from the start. */
void plant_home_z(void);
void plant_move_z(int32_t z_um, uint16_t speed_um_s);
void plant_home_stylet(void);
void plant_push(void); /* forgets stroke, peak and pulses of the push before */

void plant_halt(void); /* also from an interrupt */
enum plant_motion plant_motion(void);
struct plant_reading plant_read(void);

#endif
