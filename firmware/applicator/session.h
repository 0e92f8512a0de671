/* Sessions and numbers: each command at most once (WIRE.md 1.2).
 *
 * Knows lines, boot, session id, number and the stored reply. Does not know what a command does. */
#ifndef SESSION_H
#define SESSION_H

#include <stdint.h>

void session_start(void);
void session_poll(void); /* reads what has arrived, answers complete lines */
void session_drop_line(void); /* a stop byte cut the line that was under way */
uint16_t session_discarded(void); /* lines that could not be decoded */

#endif
