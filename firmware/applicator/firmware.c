#include "firmware.h"

#include "board.h"
#include "hal.h"
#include "outbox.h"
#include "session.h"

void firmware_start(void)
{
    struct wire_out out;
    outbox_start(ledger_start());
    session_start();
    board_start();
    outbox_event(&out, FLASH_TEXT("BOOTED"));
    wire_uint(&out, FLASH_TEXT("v"), 1);
    wire_text(&out, FLASH_TEXT("id"), FLASH_TEXT("SG-MICK"));
    outbox_send(&out);
}

void firmware_step(void)
{
    if (board_tick())
        session_drop_line();
    session_poll();
}
