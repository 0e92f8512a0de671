#include "outbox.h"

#include "hal.h"

static uint16_t boot;
static uint32_t events, telemetry;

void outbox_start(uint16_t boot_number)
{
    boot = boot_number;
    events = telemetry = 0;
}

uint16_t outbox_boot(void)
{
    return boot;
}

void outbox_event(struct wire_out *out, flash_text name)
{
    wire_open(out, '!', boot, ++events, name);
}

void outbox_telemetry(struct wire_out *out)
{
    wire_open(out, '~', boot, ++telemetry, FLASH_TEXT("T"));
}

void outbox_send(struct wire_out *out)
{
    wire_close(out);
    hal_send(out->bytes, out->length);
}
