/* The HAL inside a test: time, wire, pins and power are arguments. Built as a shared library. */
#include <setjmp.h>
#include <string.h>

#include "firmware.h"
#include "hal.h"
#include "plant.h"
#include "plant_sim.h"
#include "session.h"

#define OUT_SIZE 65536u

static uint32_t now_ms;
static uint8_t store[HAL_NV_SIZE], received[4096], inputs;
static char sent[OUT_SIZE];
static uint32_t received_count, received_at, sent_count;
static bool stop_pending;
static int32_t writes_until_cut; /* < 0: power stays */
static jmp_buf power_lost;

uint32_t hal_now_ms(void) { return now_ms; }
int16_t hal_receive(void) { return received_at < received_count ? received[received_at++] : (int16_t)-1; }
bool hal_stop_pending(void) { return stop_pending; }
void hal_stop_accept(void) { stop_pending = false; }
uint8_t hal_lock(void) { return 0; }
void hal_unlock(uint8_t locked) { (void)locked; }
uint8_t sim_inputs(void) { return inputs; }

void hal_send(const char *bytes, uint8_t length)
{
    for (uint8_t i = 0; i < length && sent_count < OUT_SIZE; i++)
        sent[sent_count++] = bytes[i];
}

void hal_nv_read(uint16_t address, void *to, uint8_t size)
{
    memcpy(to, store + address, size);
}

void hal_nv_write(uint16_t address, const void *from, uint8_t size)
{
    const uint8_t *bytes = from;
    for (uint8_t i = 0; i < size; i++) {
        if (store[address + i] == bytes[i])
            continue;
        if (writes_until_cut == 0)
            longjmp(power_lost, 1);
        if (writes_until_cut > 0)
            writes_until_cut--;
        store[address + i] = bytes[i];
    }
}

/* --- what the test calls ------------------------------------------------------------------------------ */

void host_erase(void);
void host_inputs(uint8_t bits);
void host_cut_after(int32_t writes);
bool host_power_on(void);
bool host_run(uint32_t ms);
void host_receive(const uint8_t *bytes, uint32_t count);
uint32_t host_sent(char *to);
uint8_t *host_store(void);
uint16_t host_discarded(void);

void host_erase(void) { memset(store, 0xFF, sizeof store); }
void host_inputs(uint8_t bits) { inputs = bits; }
void host_cut_after(int32_t writes) { writes_until_cut = writes; }
uint8_t *host_store(void) { return store; }
uint16_t host_discarded(void) { return session_discarded(); }

/* True: still running. False: the power went at the write that was asked for. */
bool host_power_on(void)
{
    received_at = received_count = 0;
    stop_pending = false;
    if (setjmp(power_lost))
        return false;
    firmware_start();
    return true;
}

static void step_all(void)
{
    uint32_t before;
    do { /* lines are taken one a step */
        before = received_at;
        firmware_step();
    } while (received_at != before || stop_pending);
}

bool host_run(uint32_t ms)
{
    static uint32_t until;
    until = now_ms + ms;
    if (setjmp(power_lost))
        return false;
    step_all();
    while (now_ms != until) {
        now_ms++;
        plant_tick();
        step_all();
    }
    return true;
}

/* As the receive interrupt does it. */
void host_receive(const uint8_t *bytes, uint32_t count)
{
    for (; count; count--, bytes++) {
        if (received_at == received_count)
            received_at = received_count = 0;
        if (*bytes == HAL_STOP_BYTE) {
            plant_halt();
            stop_pending = true;
            received_at = received_count = 0;
        } else if (received_count < sizeof received) {
            received[received_count++] = *bytes;
        }
    }
}

uint32_t host_sent(char *to)
{
    uint32_t count = sent_count;
    memcpy(to, sent, count);
    sent_count = 0;
    return count;
}
