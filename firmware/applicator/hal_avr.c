/* The HAL on an ATmega328P at 16 MHz: USART0 115200 8N1, timer 1 every ms, EEPROM, watchdog. */
#include <avr/eeprom.h>
#include <avr/interrupt.h>
#include <avr/io.h>
#include <avr/wdt.h>
#include <util/atomic.h>

#include "firmware.h"
#include "hal.h"
#include "plant.h"

#define RING 128u /* each side; a power of two */
#define AFTER(index) ((uint8_t)(((index) + 1u) % RING))

static volatile uint8_t rx[RING], rx_in, rx_out, tx[RING], tx_in, tx_out;
static volatile bool stop_pending;
static volatile uint32_t now_ms;

/* A watchdog reset leaves the watchdog running at its shortest: off before anything else. */
void watchdog_off(void) __attribute__((naked, used, section(".init3")));
void watchdog_off(void)
{
    MCUSR = 0;
    wdt_disable();
}

ISR(USART_RX_vect)
{
    uint8_t byte = UDR0, next = AFTER(rx_in);
    if (byte == HAL_STOP_BYTE) {
        plant_halt();
        stop_pending = true;
        rx_out = rx_in;
    } else if (next != rx_out) { /* full: dropped, the line's CRC will tell */
        rx[rx_in] = byte;
        rx_in = next;
    }
}

ISR(USART_UDRE_vect)
{
    if (tx_out == tx_in) {
        UCSR0B &= (uint8_t)~_BV(UDRIE0);
        return;
    }
    UDR0 = tx[tx_out];
    tx_out = AFTER(tx_out);
}

ISR(TIMER1_COMPA_vect)
{
    now_ms++;
    plant_tick();
}

uint32_t hal_now_ms(void)
{
    uint32_t now;
    ATOMIC_BLOCK(ATOMIC_RESTORESTATE)
    {
        now = now_ms;
    }
    return now;
}

int16_t hal_receive(void)
{
    int16_t byte = -1;
    ATOMIC_BLOCK(ATOMIC_RESTORESTATE)
    {
        if (!stop_pending && rx_out != rx_in) {
            byte = rx[rx_out];
            rx_out = AFTER(rx_out);
        }
    }
    return byte;
}

bool hal_stop_pending(void)
{
    return stop_pending;
}

void hal_stop_accept(void)
{
    stop_pending = false;
}

uint8_t hal_lock(void)
{
    uint8_t before = SREG;
    cli();
    return before;
}

void hal_unlock(uint8_t before)
{
    SREG = before;
}

void hal_send(const char *bytes, uint8_t length)
{
    while (length--) {
        uint8_t next = AFTER(tx_in);
        while (next == tx_out) /* at most 11 ms for a full ring */
            wdt_reset();
        tx[tx_in] = (uint8_t)*bytes++;
        tx_in = next;
        UCSR0B |= _BV(UDRIE0);
    }
}

void hal_nv_read(uint16_t address, void *to, uint8_t size)
{
    eeprom_read_block(to, (const void *)address, size);
}

void hal_nv_write(uint16_t address, const void *from, uint8_t size)
{
    const uint8_t *bytes = from;
    for (; size; size--, address++, bytes++) {
        wdt_reset();
        eeprom_update_byte((uint8_t *)address, *bytes); /* 3.4 ms, and only where it differs */
    }
    eeprom_busy_wait();
}

int main(void)
{
    UCSR0A = _BV(U2X0);
    UBRR0 = 16; /* 117647 baud: 2.1 % fast, within what 8N1 bears */
    UCSR0C = _BV(UCSZ01) | _BV(UCSZ00);
    UCSR0B = _BV(RXEN0) | _BV(TXEN0) | _BV(RXCIE0);
    TCCR1B = _BV(WGM12) | _BV(CS11); /* clear on compare, clock / 8 */
    OCR1A = F_CPU / 8 / 1000 - 1;
    TIMSK1 = _BV(OCIE1A);
    wdt_enable(WDTO_500MS);
    sei();
    firmware_start();
    for (;;) {
        wdt_reset();
        firmware_step();
    }
}
