#include "session.h"

#include <string.h>

#include "board.h"
#include "command.h"
#include "hal.h"
#include "outbox.h"

static struct {
    char line[WIRE_IN_MAX]; /* that is arriving */
    uint8_t length;
    bool too_long;
    char last[WIRE_IN_MAX]; /* the last command carried out, */
    uint8_t last_length;
    struct wire_out reply; /* and what was answered */
    uint32_t number;
    bool greeted;
    uint16_t sid, discarded;
} session;

void session_start(void)
{
    memset(&session, 0, sizeof session);
}

uint16_t session_discarded(void)
{
    return session.discarded;
}

void session_drop_line(void)
{
    session.length = 0;
    session.too_long = false;
}

static void send_error(uint32_t number, flash_text code, const uint32_t *want)
{
    struct wire_out out; /* not stored */
    command_error(&out, outbox_boot(), number, code);
    if (want)
        wire_uint(&out, FLASH_TEXT("want"), *want);
    outbox_send(&out);
}

static void send_stored(void)
{
    hal_send(session.reply.bytes, session.reply.length);
}

static void hello(const struct wire_line *line)
{
    struct wire_out out;
    uint16_t sid;
    if (!command_hello(line, &sid)) {
        send_error(line->number, FLASH_TEXT("FORM"), 0);
        return;
    }
    if (!session.greeted || sid != session.sid) {
        board_quiet();
        session.greeted = true;
        session.sid = sid;
        session.number = 0;
        session.last_length = 0;
    }
    board_heard();
    command_hello_reply(&out, outbox_boot(), sid); /* the same bytes each time: nothing in it changes in a session */
    outbox_send(&out);
}

static bool is_hello(const struct wire_line *line)
{
    return line->boot == 0 && line->number == 0 && wire_same(line->name, line->name_length, FLASH_TEXT("HELLO"));
}

static void take_line(void)
{
    struct wire_line line;
    uint32_t want = session.number + 1;
    if (!wire_decode(session.line, session.length, &line)) {
        session.discarded++;
        return;
    }
    if (is_hello(&line)) {
        hello(&line);
    } else if (line.boot != outbox_boot()) {
        send_error(line.number, FLASH_TEXT("BOOT"), 0);
    } else if (!session.greeted) {
        want = 0;
        send_error(line.number, FLASH_TEXT("GAP"), &want);
    } else if (line.number == want) {
        board_heard();
        session.number = want;
        memcpy(session.last, session.line, session.length);
        session.last_length = session.length;
        command_run(&line, &session.reply);
        wire_close(&session.reply);
        send_stored();
    } else if (line.number == session.number && session.last_length) {
        if (session.length == session.last_length && memcmp(session.line, session.last, session.length) == 0) {
            board_heard();
            send_stored();
        } else {
            send_error(line.number, FLASH_TEXT("SEQ"), 0);
        }
    } else {
        send_error(line.number, FLASH_TEXT("GAP"), &want);
    }
}

void session_poll(void)
{
    int16_t byte;
    while (!hal_stop_pending() && (byte = hal_receive()) >= 0) {
        if (byte == '\n') {
            if (session.too_long)
                session.discarded++;
            else
                take_line();
            session_drop_line();
            return; /* the board has its turn between two lines */
        }
        if (session.length < WIRE_IN_MAX - 1)
            session.line[session.length++] = (char)byte;
        else
            session.too_long = true;
    }
}
