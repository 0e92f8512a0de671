/* Lines to the host: this boot's number and the counters of events and telemetry. */
#ifndef OUTBOX_H
#define OUTBOX_H

#include "wire.h"

void outbox_start(uint16_t boot_number);
uint16_t outbox_boot(void);

/* Opens an event or a line of telemetry with its own next number; add pairs, then outbox_send. */
void outbox_event(struct wire_out *out, flash_text name);
void outbox_telemetry(struct wire_out *out);
void outbox_send(struct wire_out *out); /* closes and sends */

#endif
