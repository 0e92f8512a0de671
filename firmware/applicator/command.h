/* The commands of WIRE.md 1.3: from a decoded line to the board, and the board's answer into the reply. */
#ifndef COMMAND_H
#define COMMAND_H

#include "wire.h"

/* What the unit says of itself in HELLO. */
#ifndef SERIAL_NUMBER
#define SERIAL_NUMBER 1042
#endif
#ifndef DETENT_UM
#define DETENT_UM 5000
#endif
#ifndef GAUGE
#define GAUGE 18
#endif
#ifndef SIMULATED
#define SIMULATED 0
#endif
#define FIRMWARE_VERSION 100

/* Is it a well-formed HELLO of this protocol's version? Then its session id. */
bool command_hello(const struct wire_line *line, uint16_t *sid);
void command_hello_reply(struct wire_out *reply, uint16_t boot, uint16_t sid);

/* Carries out any other command. The reply is not closed yet. */
void command_run(const struct wire_line *line, struct wire_out *reply);

void command_error(struct wire_out *reply, uint16_t boot, uint32_t number, flash_text code);

#endif
