/* Simulated motors on a bare ATmega328P: switches and faults are pins, pulled up; a jumper to ground acts. */
#include <avr/io.h>
#include <util/delay.h>

#include "plant_sim.h"

/* The two switches stand where the real ones do (plant_pins.c); the faults on port C. */
uint8_t sim_inputs(void)
{
    PORTB |= _BV(PB0) | _BV(PB1); /* pull-ups; the pins are inputs after a reset */
    PORTC |= 0x0F;
    _delay_us(2); /* until the pull-ups have lifted them */
    uint8_t b = PINB, faults = (uint8_t)(~PINC & 0x0F), inputs = (uint8_t)(faults << 2);
    if (b & _BV(PB0))
        inputs |= SIM_LOOP_OPEN; /* closed = low: a broken wire reads open */
    if (b & _BV(PB1))
        inputs |= SIM_UNSEATED;
    return inputs;
}
