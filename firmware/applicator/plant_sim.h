/* What a person or a test can do to the simulated motors and sensors. */
#ifndef PLANT_SIM_H
#define PLANT_SIM_H

#include <stdint.h>

enum {
    SIM_LOOP_OPEN = 1,
    SIM_UNSEATED = 2,
    SIM_JAM = 4,     /* the seed sticks: the force rises beyond the limit */
    SIM_NO_SEED = 8, /* the plunger finds none */
    SIM_TWO = 16,    /* two seeds leave the cartridge together */
    SIM_STALL = 32   /* the carriage's motor stands still, whatever it is told */
};

uint8_t sim_inputs(void); /* the bits above, as the HAL reads them */

#endif
