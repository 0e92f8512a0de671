/* The packet codec of drivers/WIRE.md part 1.1: bytes in, fields out, and back.
 *
 * Knows the CRC, the shape of a line, the shapes of values. Does not know what any command means. */
#ifndef WIRE_H
#define WIRE_H

#include <stdbool.h>
#include <stdint.h>

#define WIRE_IN_MAX 96   /* bytes of a line from the host, with its LF */
#define WIRE_OUT_MAX 128 /* bytes of a line to the host, with its LF */
#define WIRE_ARGS_MAX 3

/* Constant texts stay in flash on the AVR: its 2 KB of RAM are for what changes. */
#ifdef __AVR__
#include <avr/pgmspace.h>
#define FLASH_TEXT(s) PSTR(s)
#define FLASH_CHAR(p) ((char)pgm_read_byte(p))
#define FLASH_DATA PROGMEM
#define FLASH_COPY(to, from, size) memcpy_P((to), (from), (size))
#else
#define FLASH_TEXT(s) (s)
#define FLASH_CHAR(p) (*(p))
#define FLASH_DATA
#define FLASH_COPY(to, from, size) memcpy((to), (from), (size))
#endif
typedef const char *flash_text;

struct wire_line {
    uint16_t boot;
    uint32_t number;
    const char *name; /* in the line handed in; not terminated */
    uint8_t name_length;
    const char *pairs; /* what follows the name, up to `end` */
    const char *end;
};

struct wire_arg {
    int32_t integer;  /* types 'u' and 'i' */
    uint32_t hex;     /* types '4' and '8' */
    const char *text; /* type 't'; not terminated */
    uint8_t length;
};

struct wire_out {
    char bytes[WIRE_OUT_MAX];
    uint8_t length;
};

/* CRC-16/CCITT-FALSE. */
uint16_t wire_crc(const void *bytes, uint8_t length);

/* A line without its LF -> its parts. False: not decodable, to be discarded unanswered. */
bool wire_decode(const char *line, uint8_t length, struct wire_line *out);

/* The pairs of a line against a form such as "n=u z=i tok=4": u = 0..2^31-1, i = signed as well, 4 and 8 = that many
 * upper-case hex digits, t = any text. False: missing, extra or malformed pair. */
bool wire_args(const struct wire_line *line, flash_text form, struct wire_arg *args);

/* Is the text `length` long and equal to `expected`? */
bool wire_same(const char *text, uint8_t length, flash_text expected);

/* A line for the host, piece by piece; wire_close adds bar, CRC and LF. */
void wire_open(struct wire_out *out, char sigil, uint16_t boot, uint32_t number, flash_text name);
void wire_text(struct wire_out *out, flash_text key, flash_text value);
void wire_int(struct wire_out *out, flash_text key, int32_t value);
void wire_uint(struct wire_out *out, flash_text key, uint32_t value);
void wire_hex(struct wire_out *out, flash_text key, uint32_t value, uint8_t digits);
void wire_close(struct wire_out *out);

#endif
