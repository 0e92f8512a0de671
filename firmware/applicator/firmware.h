/* The whole: start once after a reset, then step for ever. */
#ifndef FIRMWARE_H
#define FIRMWARE_H

void firmware_start(void);
void firmware_step(void);

#endif
