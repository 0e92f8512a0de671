/* What the firmware asks of the microcontroller. hal_avr.c answers on the ATmega328P, hal_host.c in a test. */
#ifndef HAL_H
#define HAL_H

#include <stdbool.h>
#include <stdint.h>

#define HAL_NV_SIZE 1024u /* bytes of non-volatile store */
#define HAL_STOP_BYTE 0x18

uint32_t hal_now_ms(void);

/* The next received byte, -1 when there is none. The stop byte never comes this way: on its arrival the motors are halted at once
 * (in the interrupt), what was received before it and not yet read is dropped, and the flag below is raised. */
int16_t hal_receive(void);
bool hal_stop_pending(void);
void hal_stop_accept(void); /* lowers the flag: it is about to be acted upon */

/* Between the two no interrupt comes. */
uint8_t hal_lock(void);
void hal_unlock(uint8_t locked);

void hal_send(const char *bytes, uint8_t length);

void hal_nv_read(uint16_t address, void *to, uint8_t size);
void hal_nv_write(uint16_t address, const void *from, uint8_t size); /* returns when written */

#endif
