#include "wire.h"

#define TAIL 6 /* "|", four hex digits, LF */

uint16_t wire_crc(const void *bytes, uint8_t length)
{
    const uint8_t *at = bytes;
    uint16_t crc = 0xFFFF;
    while (length--) {
        crc ^= (uint16_t)(*at++ << 8);
        for (uint8_t bit = 0; bit < 8; bit++)
            crc = (uint16_t)((crc << 1) ^ ((crc & 0x8000u) ? 0x1021 : 0));
    }
    return crc;
}

/* --- in ------------------------------------------------------------------------------------------ */

static bool read_hex(const char *text, uint8_t digits, uint32_t *value)
{
    uint32_t sum = 0;
    for (; digits; digits--, text++) {
        char c = *text;
        if (c >= '0' && c <= '9')
            sum = (sum << 4) | (uint32_t)(c - '0');
        else if (c >= 'A' && c <= 'F')
            sum = (sum << 4) | (uint32_t)(c - 'A' + 10);
        else
            return false;
    }
    *value = sum;
    return true;
}

static bool read_decimal(const char *text, uint8_t length, uint32_t *value)
{
    uint32_t sum = 0;
    if (length == 0 || (length > 1 && *text == '0'))
        return false;
    for (; length; length--, text++) {
        uint32_t digit = (uint32_t)(*text - '0');
        if (*text < '0' || *text > '9' || sum > (UINT32_MAX - digit) / 10)
            return false;
        sum = sum * 10 + digit;
    }
    *value = sum;
    return true;
}

bool wire_decode(const char *line, uint8_t length, struct wire_line *out)
{
    uint32_t crc, boot;
    if (length < 13 || *line != '>') /* ">0000:0:X|CCCC" is the shortest */
        return false;
    for (uint8_t i = 0; i < length; i++)
        if (line[i] < 0x20 || line[i] > 0x7E)
            return false;
    uint8_t covered = (uint8_t)(length - 5);
    if (line[covered] != '|' || !read_hex(line + covered + 1, 4, &crc) || crc != wire_crc(line, covered))
        return false;
    const char *end = line + covered, *at = line + 6;
    if (!read_hex(line + 1, 4, &boot) || line[5] != ':')
        return false;
    while (at < end && *at != ':')
        at++;
    if (at == end || !read_decimal(line + 6, (uint8_t)(at - (line + 6)), &out->number))
        return false;
    out->boot = (uint16_t)boot;
    out->name = ++at;
    while (at < end && *at != ' ')
        at++;
    out->name_length = (uint8_t)(at - out->name);
    out->pairs = at;
    out->end = end;
    return true;
}

static bool is_value(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '.' || c == '+' || c == '-';
}

static bool read_arg(char type, const char *text, uint8_t length, struct wire_arg *arg)
{
    uint32_t magnitude;
    arg->text = text;
    arg->length = length;
    switch (type) {
    case '4':
        return length == 4 && read_hex(text, 4, &arg->hex);
    case '8':
        return length == 8 && read_hex(text, 8, &arg->hex);
    case 'u':
        if (!read_decimal(text, length, &magnitude) || magnitude > INT32_MAX)
            return false;
        arg->integer = (int32_t)magnitude;
        return true;
    case 'i': {
        bool minus = length && *text == '-';
        if (!read_decimal(text + minus, (uint8_t)(length - minus), &magnitude) || magnitude > INT32_MAX)
            return false;
        if (minus && magnitude == 0)
            return false;
        arg->integer = minus ? -(int32_t)magnitude : (int32_t)magnitude;
        return true;
    }
    default:
        return length != 0;
    }
}

bool wire_args(const struct wire_line *line, flash_text form, struct wire_arg *args)
{
    const char *at = line->pairs;
    for (; FLASH_CHAR(form); args++) {
        if (at == line->end || *at++ != ' ')
            return false;
        do { /* the key with its "=" */
            if (at == line->end || *at++ != FLASH_CHAR(form))
                return false;
        } while (FLASH_CHAR(form++) != '=');
        const char *value = at;
        while (at < line->end && is_value(*at))
            at++;
        if (!read_arg(FLASH_CHAR(form++), value, (uint8_t)(at - value), args))
            return false;
        if (FLASH_CHAR(form) == ' ')
            form++;
    }
    return at == line->end;
}

bool wire_same(const char *text, uint8_t length, flash_text expected)
{
    for (; length; length--, text++, expected++)
        if (*text != FLASH_CHAR(expected)) /* also at expected's end: no text holds a zero */
            return false;
    return FLASH_CHAR(expected) == '\0';
}

/* --- out ----------------------------------------------------------------------------------------- */

static void put(struct wire_out *out, char c)
{
    if (out->length < WIRE_OUT_MAX)
        out->bytes[out->length++] = c;
}

static void put_text(struct wire_out *out, flash_text text)
{
    for (char c; (c = FLASH_CHAR(text)) != '\0'; text++)
        put(out, c);
}

static void put_hex(struct wire_out *out, uint32_t value, uint8_t digits)
{
    while (digits--) {
        uint8_t nibble = (uint8_t)((value >> (4 * digits)) & 0xF);
        put(out, (char)(nibble < 10 ? '0' + nibble : 'A' + nibble - 10));
    }
}

static void put_decimal(struct wire_out *out, uint32_t value)
{
    char digits[10];
    uint8_t count = 0;
    do {
        digits[count++] = (char)('0' + value % 10);
        value /= 10;
    } while (value);
    while (count--)
        put(out, digits[count]);
}

static void put_key(struct wire_out *out, flash_text key)
{
    put(out, ' ');
    put_text(out, key);
    put(out, '=');
}

void wire_open(struct wire_out *out, char sigil, uint16_t boot, uint32_t number, flash_text name)
{
    out->length = 0;
    put(out, sigil);
    put_hex(out, boot, 4);
    put(out, ':');
    put_decimal(out, number);
    put(out, ':');
    put_text(out, name);
}

void wire_text(struct wire_out *out, flash_text key, flash_text value)
{
    put_key(out, key);
    put_text(out, value);
}

void wire_uint(struct wire_out *out, flash_text key, uint32_t value)
{
    put_key(out, key);
    put_decimal(out, value);
}

void wire_int(struct wire_out *out, flash_text key, int32_t value)
{
    put_key(out, key);
    if (value < 0)
        put(out, '-');
    put_decimal(out, value < 0 ? 0u - (uint32_t)value : (uint32_t)value);
}

void wire_hex(struct wire_out *out, flash_text key, uint32_t value, uint8_t digits)
{
    put_key(out, key);
    put_hex(out, value, digits);
}

void wire_close(struct wire_out *out)
{
    if (out->length > WIRE_OUT_MAX - TAIL) /* can't happen with the fields of WIRE.md: a line that is cut fails its CRC */
        out->length = WIRE_OUT_MAX - TAIL;
    uint16_t crc = wire_crc(out->bytes, out->length);
    put(out, '|');
    put_hex(out, crc, 4);
    put(out, '\n');
}
