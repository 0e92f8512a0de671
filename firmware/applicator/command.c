#include "command.h"

#include <string.h>

#include "board.h"
#include "outbox.h"

/* Counts are far below 2^16: what is larger is as wrong as the largest. */
static uint16_t small(const struct wire_arg *arg)
{
    return arg->integer > UINT16_MAX ? UINT16_MAX : (uint16_t)arg->integer;
}

typedef enum refusal run_function(const struct wire_arg *args, struct wire_out *reply);

static enum refusal run_ping(const struct wire_arg *args, struct wire_out *reply)
{
    (void)args;
    wire_text(reply, FLASH_TEXT("st"), board_state_text());
    return ACCEPTED;
}

static enum refusal run_stat(const struct wire_arg *args, struct wire_out *reply)
{
    struct plant_reading reading = plant_read();
    run_ping(args, reply);
    wire_int(reply, FLASH_TEXT("z"), reading.z_um);
    wire_int(reply, FLASH_TEXT("sty"), reading.stylet_um);
    wire_uint(reply, FLASH_TEXT("n"), ledger.counter);
    wire_uint(reply, FLASH_TEXT("left"), ledger.left);
    wire_uint(reply, FLASH_TEXT("seat"), reading.seated);
    wire_uint(reply, FLASH_TEXT("es"), reading.loop_open);
    wire_uint(reply, FLASH_TEXT("hm"), board_homed());
    wire_text(reply, FLASH_TEXT("la"), latch_text(board_latch()));
    wire_uint(reply, FLASH_TEXT("ln"), ledger.latch_seed);
    return ACCEPTED;
}

static enum refusal run_home(const struct wire_arg *args, struct wire_out *reply)
{
    bool z = wire_same(args[0].text, args[0].length, FLASH_TEXT("z"));
    if (!z && !wire_same(args[0].text, args[0].length, FLASH_TEXT("s")))
        return NO_FORM;
    enum refusal why = board_home(z ? AXIS_Z : AXIS_STYLET);
    wire_text(reply, FLASH_TEXT("ax"), z ? FLASH_TEXT("z") : FLASH_TEXT("s"));
    return why;
}

static enum refusal run_move(const struct wire_arg *args, struct wire_out *reply)
{
    wire_int(reply, FLASH_TEXT("z"), args[0].integer);
    return board_move(args[0].integer, args[1].integer);
}

static enum refusal run_begin(const struct wire_arg *args, struct wire_out *reply)
{
    bool again = false;
    enum refusal why = board_begin(args[0].hex, &again);
    wire_hex(reply, FLASH_TEXT("p"), args[0].hex, 8);
    wire_uint(reply, FLASH_TEXT("n"), ledger.counter);
    wire_uint(reply, FLASH_TEXT("dup"), again);
    return why;
}

static enum refusal run_cart(const struct wire_arg *args, struct wire_out *reply)
{
    enum refusal why = board_cart(small(&args[0]), small(&args[1]), small(&args[2]));
    wire_int(reply, FLASH_TEXT("k"), args[0].integer);
    wire_int(reply, FLASH_TEXT("c"), args[1].integer);
    wire_uint(reply, FLASH_TEXT("left"), ledger.left);
    return why;
}

static enum refusal run_arm(const struct wire_arg *args, struct wire_out *reply)
{
    wire_int(reply, FLASH_TEXT("n"), args[0].integer);
    wire_int(reply, FLASH_TEXT("z"), plant_read().z_um);
    wire_hex(reply, FLASH_TEXT("tok"), args[2].hex, 4);
    return board_arm(small(&args[0]), args[1].integer, (uint16_t)args[2].hex);
}

static enum refusal run_fire(const struct wire_arg *args, struct wire_out *reply)
{
    bool again = false;
    uint16_t n = small(&args[0]);
    enum refusal why = board_fire(n, (uint16_t)args[1].hex, &again);
    wire_uint(reply, FLASH_TEXT("n"), n);
    wire_uint(reply, FLASH_TEXT("dup"), again);
    if (again)
        wire_text(reply, FLASH_TEXT("out"), outcome_text(ledger_shot(n).outcome));
    return why;
}

static enum refusal run_disarm(const struct wire_arg *args, struct wire_out *reply)
{
    (void)args, (void)reply;
    board_disarm();
    return ACCEPTED;
}

static enum refusal run_res(const struct wire_arg *args, struct wire_out *reply)
{
    struct shot shot = ledger_shot(small(&args[0]));
    wire_int(reply, FLASH_TEXT("n"), args[0].integer);
    wire_text(reply, FLASH_TEXT("out"), outcome_text(shot.outcome));
    wire_int(reply, FLASH_TEXT("z"), shot.z_um);
    wire_uint(reply, FLASH_TEXT("peak"), shot.peak_mn);
    wire_uint(reply, FLASH_TEXT("pulses"), shot.pulses);
    wire_int(reply, FLASH_TEXT("stroke"), shot.stroke_um);
    return ACCEPTED;
}

static enum refusal run_clear(const struct wire_arg *args, struct wire_out *reply)
{
    enum latch which = LATCH_NONE;
    enum outcome booked_as = OUT_PASS;
    bool about_seed = true;
    while (!wire_same(args[0].text, args[0].length, latch_text(which)))
        if (which++ == LATCH_WATCH)
            return NO_FORM;
    if (wire_same(args[2].text, args[2].length, FLASH_TEXT("WA")))
        booked_as = OUT_NOPASS;
    else if (wire_same(args[2].text, args[2].length, FLASH_TEXT("LF")))
        booked_as = OUT_NONE;
    else if (wire_same(args[2].text, args[2].length, FLASH_TEXT("NO")))
        about_seed = false;
    else if (!wire_same(args[2].text, args[2].length, FLASH_TEXT("IN")))
        return NO_FORM;
    enum refusal why = board_clear(which, small(&args[1]), about_seed, booked_as);
    wire_text(reply, FLASH_TEXT("la"), latch_text(board_latch()));
    return why;
}

static enum refusal run_ledger(const struct wire_arg *args, struct wire_out *reply)
{
    (void)args;
    wire_hex(reply, FLASH_TEXT("p"), ledger.procedure, 8);
    wire_uint(reply, FLASH_TEXT("ld"), ledger.loaded);
    wire_uint(reply, FLASH_TEXT("im"), ledger.implanted);
    wire_uint(reply, FLASH_TEXT("lf"), ledger.left);
    wire_uint(reply, FLASH_TEXT("wa"), ledger.wasted);
    wire_uint(reply, FLASH_TEXT("db"), ledger.doubt);
    wire_uint(reply, FLASH_TEXT("sk"), ledger.strokes);
    wire_uint(reply, FLASH_TEXT("pu"), ledger.pulses);
    wire_uint(reply, FLASH_TEXT("k"), ledger.cartridges);
    return ledger.open ? ACCEPTED : NO_NEW;
}

static enum refusal run_end(const struct wire_arg *args, struct wire_out *reply)
{
    wire_hex(reply, FLASH_TEXT("p"), ledger.procedure, 8);
    return board_end(small(&args[0]));
}

struct command {
    char name[8];
    char form[18];
    run_function *run;
};

static const struct command COMMANDS[] FLASH_DATA = {
    {"PING", "", run_ping},
    {"STAT", "", run_stat},
    {"HOME", "ax=t", run_home},
    {"MOVE", "z=i v=u", run_move},
    {"BEGIN", "p=8", run_begin},
    {"CART", "k=u c=u w=u", run_cart},
    {"ARM", "n=u z=i tok=4", run_arm},
    {"FIRE", "n=u tok=4", run_fire},
    {"DISARM", "", run_disarm},
    {"RES", "n=u", run_res},
    {"CLEAR", "la=t n=u as=t", run_clear},
    {"LEDGER", "", run_ledger},
    {"END", "w=u", run_end},
};
#define COMMAND_COUNT (sizeof COMMANDS / sizeof COMMANDS[0])

static flash_text code_text(enum refusal why)
{
    switch (why) {
    case NO_ESTOP: return FLASH_TEXT("ESTOP");
    case NO_LATCH: return FLASH_TEXT("LATCH");
    case NO_BUSY: return FLASH_TEXT("BUSY");
    case NO_NEW: return FLASH_TEXT("NEW");
    case NO_OPEN: return FLASH_TEXT("OPEN");
    case NO_HOME: return FLASH_TEXT("HOME");
    case NO_SEAT: return FLASH_TEXT("SEAT");
    case NO_EMPTY: return FLASH_TEXT("EMPTY");
    case NO_COUNT: return FLASH_TEXT("COUNT");
    case NO_PLACE: return FLASH_TEXT("PLACE");
    case NO_RANGE: return FLASH_TEXT("RANGE");
    case NO_TOKEN: return FLASH_TEXT("TOKEN");
    default: return FLASH_TEXT("FORM");
    }
}

void command_error(struct wire_out *reply, uint16_t boot, uint32_t number, flash_text code)
{
    wire_open(reply, '<', boot, number, FLASH_TEXT("ERR"));
    wire_text(reply, FLASH_TEXT("code"), code);
}

static void refuse(struct wire_out *reply, uint32_t number, enum refusal why, run_function *run)
{
    command_error(reply, outbox_boot(), number, code_text(why));
    if (why == NO_LATCH)
        wire_text(reply, FLASH_TEXT("la"), latch_text(board_latch()));
    else if (why == NO_PLACE)
        wire_int(reply, FLASH_TEXT("z"), plant_read().z_um);
    else if (why == NO_COUNT && run == run_cart)
        wire_uint(reply, FLASH_TEXT("left"), ledger.left);
    else if (why == NO_COUNT && (run == run_arm || run == run_fire))
        wire_uint(reply, FLASH_TEXT("n"), ledger.counter);
}

void command_run(const struct wire_line *line, struct wire_out *reply)
{
    struct command command;
    struct wire_arg args[WIRE_ARGS_MAX];
    for (uint8_t i = 0; i < COMMAND_COUNT; i++) {
        if (!wire_same(line->name, line->name_length, COMMANDS[i].name))
            continue;
        FLASH_COPY(&command, &COMMANDS[i], sizeof command);
        wire_open(reply, '<', outbox_boot(), line->number, COMMANDS[i].name);
        enum refusal why = wire_args(line, COMMANDS[i].form, args) ? command.run(args, reply) : NO_FORM;
        if (why)
            refuse(reply, line->number, why, command.run);
        return;
    }
    refuse(reply, line->number, NO_FORM, 0);
}

bool command_hello(const struct wire_line *line, uint16_t *sid)
{
    struct wire_arg args[WIRE_ARGS_MAX];
    if (!wire_args(line, FLASH_TEXT("v=u sid=4"), args) || args[0].integer != 1)
        return false;
    *sid = (uint16_t)args[1].hex;
    return true;
}

void command_hello_reply(struct wire_out *reply, uint16_t boot, uint16_t sid)
{
    wire_open(reply, '<', boot, 0, FLASH_TEXT("HELLO"));
    wire_uint(reply, FLASH_TEXT("v"), 1);
    wire_hex(reply, FLASH_TEXT("sid"), sid, 4);
    wire_text(reply, FLASH_TEXT("id"), FLASH_TEXT("SG-MICK"));
    wire_uint(reply, FLASH_TEXT("sn"), SERIAL_NUMBER);
    wire_uint(reply, FLASH_TEXT("fw"), FIRMWARE_VERSION);
    wire_uint(reply, FLASH_TEXT("sim"), SIMULATED);
    wire_uint(reply, FLASH_TEXT("cap"), CARTRIDGE_SEEDS);
    wire_uint(reply, FLASH_TEXT("det"), DETENT_UM);
    wire_uint(reply, FLASH_TEXT("ga"), GAUGE);
}
